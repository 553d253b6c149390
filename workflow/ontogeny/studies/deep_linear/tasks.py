"""What a deep linear network learns from MNIST: a target map and the inputs' covariance, one pair per seed.

The replicate of a seed is a random half of the blocks of images: its own Sigma11 and Sigma31.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.studies.deep_linear.data import CLASSES

DTYPE = torch.float64  # moments are sums over tens of thousands of images


@dataclass(frozen=True)
class Task:
    """Learn y = optimum x. The excess error of a map W is tr (optimum - W) Sigma11 (optimum - W)^T."""

    optimum: Tensor  # (outputs, inputs), Sigma31 Sigma11^-1
    covariance: Tensor | None  # (inputs, inputs), Sigma11; None: the identity

    @property
    def strengths(self) -> Tensor:
        """Singular values of the optimum that are not zero, (modes,)."""
        values = torch.linalg.svdvals(self.optimum)
        return values[values > 1e-6 * values[0]]


def moments(blocks: dict[str, np.ndarray], seed: int, components: int) -> tuple[Tensor, Tensor]:
    """Centred Sigma11 (d, d) and Sigma31 (10, d) of a random half of the blocks, in the first d components."""
    total = len(blocks["y"])
    chosen = torch.randperm(total, generator=generator(seed, "images"))[: total // 2].numpy()
    x, xx, y, yx = (torch.from_numpy(blocks[name][chosen].sum(axis=0)) for name in ("x", "xx", "y", "yx"))
    images = int(blocks["count"]) * len(chosen)
    covariance, cross = xx - torch.outer(x, x) / images, yx - torch.outer(y, x) / images
    return covariance[:components, :components], cross[:, :components]


def whitened_task(blocks: dict[str, np.ndarray], seed: int, components: int) -> Task:
    """MNIST with whitened inputs; the unit of the targets makes the strongest mode 1."""
    covariance, cross = moments(blocks, seed, components)
    variances, directions = torch.linalg.eigh(covariance)
    optimum = cross @ (directions * variances.rsqrt()) @ directions.T
    return Task(optimum / torch.linalg.matrix_norm(optimum, ord=2), None)


def correlated_task(blocks: dict[str, np.ndarray], seed: int, components: int, mismatched: bool) -> Task:
    """MNIST with its own covariance; the largest variance is 1, and so is the learnable variance of the targets.

    mismatched: the right singular vectors of Sigma31 are replaced by random orthonormal ones.
    """
    covariance, cross = moments(blocks, seed, components)
    covariance = covariance / torch.linalg.eigvalsh(covariance)[-1]
    if mismatched:
        left, s, _ = torch.linalg.svd(cross, full_matrices=False)
        draws = torch.randn(components, CLASSES, generator=generator(seed, "mismatch"), dtype=DTYPE)
        cross = left @ (s[:, None] * torch.linalg.qr(draws).Q.T)
    optimum = torch.linalg.solve(covariance, cross.T).T
    learnable = torch.trace(optimum @ covariance @ optimum.T)
    return Task(optimum / learnable.sqrt(), covariance)
