"""What the hidden layer is told by a readout V that is the ridge solution, or on its way to it.

F~ (n, K) are the activations and Y~ (n, M) the targets, both centred over the n pairs. With the eigenvectors U and
eigenvalues lambda of F~ F~^T the gradient sent back to the hidden layer, G_F = (Y~ - F~ V) V^T, is

    ridge solution (Eq. 3 to 5 of the paper)   G_F = eta (F~ F~^T + eta)^-1 Y~ Y~^T (F~ F~^T + eta)^-1 F~
    gradient flow from V = 0, at time t        G_F = exp(-F~ F~^T t) Y~ Y~^T (1 - exp(-F~ F~^T t)) (F~ F~^T)^-1 F~

(the second is derived here: V(t) = F~^T (1 - exp(-F~ F~^T t)) (F~ F~^T)^-1 Y~). As t -> 0 it tends to t Y~ Y~^T F~, and
with wide layers, whose F~ F~^T tends to a multiple of one, so does the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.studies.feature_emergence.energy import random_units
from ontogeny.studies.feature_emergence.groups import Parts
from ontogeny.studies.feature_emergence.network import training_pairs

ZERO = 1e-9  # projected inner products below this share of the largest have no sign


def centred(values: Tensor) -> Tensor:
    """`values` (n, ...) minus their mean over n."""
    return values - values.mean(dim=0)


def activations(w: Tensor, pairs: Tensor) -> Tensor:
    """(a[h1] + b[h2])^2 of nodes w (K, 2, M) on `pairs` (n,), centred: F~ (n, K)."""
    order = w.shape[2]
    return centred((w[:, 0, pairs // order] + w[:, 1, pairs % order]).square().T)


class Lesson:
    """The gradient that reaches a hidden layer of random nodes; see the module."""

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        """features: F~ (n, K). targets: Y~ (n, M)."""
        values, vectors = torch.linalg.eigh(features @ features.T)
        self.spectrum = values.clamp_min(0)
        self.targets, self.features = vectors.T @ targets, vectors.T @ features  # in the basis of eigenvectors
        self.wanted = self.targets @ (self.targets.T @ self.features)  # Y~ Y~^T F~

    def ridge(self, decay: float) -> tuple[float, float]:
        """Norm of G_F at the ridge solution, and its cosine with Y~ Y~^T F~."""
        inverse = 1 / (self.spectrum + decay)
        return self._measure(decay * inverse, inverse)

    def flow(self, time: float) -> tuple[float, float]:
        """The same after `time` of gradient flow from V = 0 [1 / largest eigenvalue]."""
        moment = time / self.spectrum.max()
        grown = torch.where(self.spectrum > 0, -torch.expm1(-self.spectrum * moment) / self.spectrum, moment)
        return self._measure(torch.exp(-self.spectrum * moment), grown)

    def _measure(self, left: Tensor, right: Tensor) -> tuple[float, float]:
        gradient = (left[:, None] * self.targets) @ (self.targets.T @ (right[:, None] * self.features))
        cosine = (gradient * self.wanted).sum() / gradient.norm() / self.wanted.norm()
        return float(gradient.norm()), float(cosine)


def lazy_lesson(table: Tensor, fraction: float, width: int, seed: int) -> Lesson:
    """`width` random unit nodes on a random share of the pairs. Wider layers contain the narrower ones."""
    order = len(table)
    pairs = training_pairs(order, fraction, seed)
    nodes = random_units(width, 2 * order, generator(seed, "random nodes")).view(width, 2, order)
    targets = torch.nn.functional.one_hot(table.flatten()[pairs], order).double()
    return Lesson(activations(nodes, pairs), centred(targets))


def nodes_of(parts: Parts, chosen: list[int], stream: torch.Generator) -> Tensor:
    """Random unit nodes (K, 2, M) that lie in one part each: 4 n^2 for a chosen part of n dimensions, so that their
    squares span all that nodes of these parts can compute."""
    nodes = []
    for part in chosen:
        basis = torch.from_numpy(parts.basis[:, parts.part == part])
        size = basis.shape[1]
        drawn = random_units(4 * size**2, 2 * size, stream).view(-1, 2, size)
        nodes.append(drawn @ basis.T)
    return torch.cat(nodes)


def ridge_residual(features: Tensor, targets: Tensor, decay: float) -> Tensor:
    """Y~ - F~ V at the ridge solution V, (n, M)."""
    gram = features.T @ features
    gram.diagonal().add_(decay)
    return targets - features @ torch.linalg.solve(gram, features.T @ targets)


def repulsion(features: Tensor, decay: float) -> tuple[float, float]:
    """How often the sign of b_jl, an off-diagonal element of B = (F~^T F~ + eta)^-1, is opposite to that of f_j^T P f_l
    (Theorem 6; P removes what the other nodes explain by ridge regression), and to that of the plain f_j^T f_l.

    features: few nodes, (n, K).
    """
    count = features.shape[1]
    gram = features.T @ features
    inverse = torch.linalg.inv(gram + decay * torch.eye(count, dtype=gram.dtype))
    projected = torch.zeros_like(gram)
    for j in range(count):
        for other in range(j):
            rest = torch.tensor([k for k in range(count) if k not in (j, other)])
            among = gram[rest][:, rest] + decay * torch.eye(len(rest), dtype=gram.dtype)
            explained = gram[j, rest] @ torch.linalg.solve(among, gram[rest, other])
            projected[j, other] = gram[j, other] - explained
    j, other = torch.tril_indices(count, count, -1)
    return _opposite(inverse[j, other], projected[j, other]), _opposite(inverse[j, other], gram[j, other])


def _opposite(first: Tensor, second: Tensor) -> float:
    """Share of elements with opposite signs, of those whose `second` is not numerically zero."""
    clear = second.abs() > ZERO * second.abs().max()
    return float((first.sign() == -second.sign())[clear].double().mean())
