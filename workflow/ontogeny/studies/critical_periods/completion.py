"""Deep matrix completion: a product of D matrices learns a low-rank matrix from some of its entries.

L = 0.5 x mean over the observed entries of (W - target)^2; full-batch gradient descent (the released code's "SGD").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.studies.critical_periods.chain import descend, prefixes

MEMBERS_AT_ONCE = 16  # whose matrices of size 40 fit into a core's cache


def low_rank_matrix(seed: int, purpose: str, size: int, rank: int) -> Tensor:
    """A B^T of Gaussian A and B (size, rank), rescaled to entries of RMS 1 (released code)."""
    left, right = torch.randn(2, size, rank, generator=generator(seed, purpose, rank), dtype=torch.float64)
    product = left @ right.T
    return (product * size / torch.linalg.matrix_norm(product)).float()


def observations(seed: int, size: int, counts: Sequence[int]) -> list[Tensor]:
    """For each count, a mask (size, size) of so many random entries; smaller sets lie within larger ones."""
    order = torch.randperm(size * size, generator=generator(seed, "observations"))
    masks = [torch.zeros(size * size) for _ in counts]
    for mask, count in zip(masks, counts, strict=True):
        mask[order[:count]] = 1.0
    return [mask.view(size, size) for mask in masks]


def gaussian_start(seed: int, depth: int, size: int, init_scale: float) -> list[Tensor]:
    """D matrices (size, size) with entries of standard deviation init_scale^(1/D) size^(-1/2) (released code)."""
    stream = generator(seed, "completion start", depth)
    scale = init_scale ** (1 / depth) * size**-0.5
    return [scale * torch.randn(size, size, generator=stream) for _ in range(depth)]


class Tasks:
    """What a batch of members learns now. targets: (M, n, n); gain: learning rate / entries on the observed entries."""

    def __init__(self, targets: Tensor, masks: Tensor, rate: float) -> None:
        self.targets, self.masks = targets, masks
        self.gain = masks * (rate / masks.sum(dim=(1, 2), keepdim=True))

    def loss(self, product: Tensor) -> Tensor:
        """0.5 x mean squared error over the observed entries, (M,)."""
        squares = (self.targets - product).square() * self.masks
        return 0.5 * squares.sum(dim=(1, 2)) / self.masks.sum(dim=(1, 2))

    def advance(self, weights: Sequence[Tensor], epochs: int) -> None:
        """So many epochs of gradient descent, in place; weights: W_1 ... W_D, each (M, n, n).

        Members go a cache's worth at a time through all epochs; a GPU takes all of them at once.
        """
        count = len(self.targets) if self.targets.is_cuda else MEMBERS_AT_ONCE
        for first in range(0, len(self.targets), count):
            some = slice(first, first + count)
            targets, gain, chain = self.targets[some], self.gain[some], [matrix[some] for matrix in weights]
            for _ in range(epochs):
                products = prefixes(chain)
                descend(chain, products, (targets - products[-1]).mul_(gain))
