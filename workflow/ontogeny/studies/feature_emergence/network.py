"""Two-layer quadratic networks on a group's multiplication, stacked, with the gradient by hand.

A network has W = [A; B] (2 M x K) and V (K x M), no biases; here V is kept transposed, Q = V^T, in one tensor
(r, 3, M, K). For a pair (h1, h2) with the product g

    z = A[h1] + B[h2],   f = z^2,   y_hat = P1 Q f      (P1: minus the mean over classes)
    L = mean over the n training pairs of |y_hat - P1 onehot(g)|^2, which is 1 - 1/M for an output of zero
    D = (2 / n) (y_hat - onehot(g)),   dL/dQ = P1 sum D f^T,   dL/dz = 2 z (P1 Q)^T D,   dL/dA[h] = sum over h1 = h

D lacks a constant over the classes, which neither product sees: P1 Q is orthogonal to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ontogeny.ensemble import per_member
from ontogeny.lookup import Lookup
from ontogeny.randomness import generator


def initial_weights(seeds: Sequence[int], order: int, width: int, zero_readout: Sequence[bool], device: str) -> Tensor:
    """(r, 3, M, K): uniform within 1 / sqrt(fan-in), 2 M for W and K for V; V is zero where `zero_readout` says so.

    A seed has the same W, and the same V before it is zeroed, whatever else differs.
    """
    streams = [generator(seed, "initial weights") for seed in seeds]
    drawn = per_member(streams, (3, order, width), draw=torch.rand) * 2 - 1
    bounds = torch.tensor([(2 * order) ** -0.5] * 2 + [width**-0.5])
    keep = torch.tensor([[1.0, 1.0, 0.0 if zero else 1.0] for zero in zero_readout])
    return (drawn * (bounds * keep)[:, :, None, None]).to(device)


def training_pairs(order: int, fraction: float, seed: int) -> Tensor:
    """The numbers h1 * M + h2 of the pairs that a seed trains on, (n,), ascending; nested over fractions."""
    shuffled = torch.randperm(order**2, generator=generator(seed, "split"))
    return shuffled[: round(fraction * order**2)].sort().values


def labels(table: Tensor, shuffled: bool, seed: int) -> Tensor:
    """The label of each pair (M^2,): the product, or all products shuffled among the pairs."""
    products = table.flatten()
    return products[torch.randperm(len(products), generator=generator(seed, "labels"))] if shuffled else products


class Gradient:
    """Loss and gradient of r networks with n training pairs each. The arrays are made once, not at every step."""

    def __init__(self, weights: Tensor, pairs: Tensor, answers: Tensor) -> None:
        """weights: (r, 3, M, K), may change in place between calls. pairs: (r, n). answers: (r, M^2), the labels g."""
        networks, _, order, width = weights.shape
        device, size = str(weights.device), pairs.shape[1]
        self.weights, self.size = weights, size
        self.lookup = Lookup.of(pairs, order, 3, device)
        self.positions = (torch.arange(pairs.numel()) * order + answers.gather(1, pairs).flatten()).to(device)
        self.minus_one = weights.new_full((pairs.numel(),), -1.0)
        self.features = weights.new_empty(networks, size, width)
        self.error = weights.new_empty(networks, size, order)
        self.readout = weights.new_empty(networks, order, width)
        self.result = torch.empty_like(weights)

    def __call__(self) -> Tensor:
        """The gradient (r, 3, M, K) at the present weights; it is overwritten by the next call."""
        z = self._errors()
        answers = self.result[:, 2]
        torch.baddbmm(answers, self.error.mT, self.features, beta=0, alpha=2 / self.size, out=answers)
        answers.sub_(answers.mean(dim=1, keepdim=True))
        back = torch.baddbmm(self.features, self.error, self.readout, beta=0, alpha=4 / self.size, out=self.features)
        self.result[:, :2] = self.lookup.scatter(back.mul_(z))
        return self.result

    def _errors(self) -> Tensor:
        """Fill `features` with z^2 and `error` with y_hat - onehot; return z (r, n, K)."""
        readout = self.weights[:, 2]
        torch.sub(readout, readout.mean(dim=1, keepdim=True), out=self.readout)
        z = self.lookup.gather(self.weights)
        torch.mul(z, z, out=self.features)
        torch.bmm(self.features, self.readout.mT, out=self.error)
        self.error.view(-1).index_add_(0, self.positions, self.minus_one)
        return z


def outputs(weights: Tensor) -> Tensor:
    """The class-centred outputs of r networks for all pairs, (r, M^2, M)."""
    networks, _, order, width = weights.shape
    z = weights[:, 0, :, None, :] + weights[:, 1, None, :, :]
    readout = weights[:, 2] - weights[:, 2].mean(dim=1, keepdim=True)
    return z.square_().view(networks, order**2, width) @ readout.mT


def scores(weights: Tensor, trained: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """Loss and accuracy on training and test pairs, (r,) each. trained: (r, M^2) bool. answers: (r, M^2)."""
    order = weights.shape[2]
    everything = outputs(weights)
    right = everything.argmax(dim=2) == answers
    own = everything.gather(2, answers[:, :, None])[:, :, 0]
    loss = everything.square().sum(dim=2) - 2 * own + (1 - 1 / order)
    kinds = {"train": trained, "test": ~trained}
    return {
        f"{kind}_{name}": (values * chosen).sum(dim=1, dtype=torch.float64) / chosen.sum(dim=1)
        for kind, chosen in kinds.items()
        for name, values in (("loss", loss), ("accuracy", right))
    }


def flops(order: int, width: int, pairs: int) -> float:
    """Floating-point operations that a step of one network needs: three products n x K x M; per activation the sum, the
    square, the backward factor and two sums; per weight 14 for Adam."""
    return 6.0 * pairs * width * order + 5.0 * pairs * width + 14.0 * 3 * order * width
