"""Two deep linear pathways that add up to one output, with gating deficits and lesions.

Everything is written in the singular bases of the task Y = U S V^T: outputs are U^T y, inputs V^T x, so that the
product of a pathway is its matrix K and the target is S. For gradient descent on a linear network this turn changes
nothing but the names of the coordinates.

A deficit that begins at epoch t shares everything before t with the undisturbed network. So one trunk is trained
without deficit, and at each onset the deficits that begin there branch off and run to the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.studies.critical_periods.chain import descend, prefixes

PATHWAYS = 2


@dataclass(frozen=True)
class Deficit:
    """The pathways in `gated` (A, B) do not learn in the epochs [onset, onset + duration)."""

    name: str
    onset: int
    duration: int
    gated: tuple[bool, bool] = (False, True)

    def gates(self, epoch: int) -> tuple[float, float]:
        """1 for a pathway that learns at `epoch`, 0 for one that is gated."""
        inside = self.onset <= epoch < self.onset + self.duration
        return (1.0 - (inside and self.gated[0]), 1.0 - (inside and self.gated[1]))


UNDISTURBED = Deficit("none", 0, 0)


def aligned_start(
    seed: int, depth: int, width: int, shape: tuple[int, int], initial: float, noise: float
) -> list[Tensor]:
    """W_1 ... W_D of both pathways, each (2, outputs, inputs), in the singular basis of the task (released code).

    W_1 = R d, W_j = R d R^T, W_D = d R^T with an orthogonal R and d = value^(1/D); the values are
    initial x (1 + noise x normal), sorted. Both pathways get the same d and R, so that they stay equal without
    a deficit.
    """
    outputs, inputs = shape
    stream = generator(seed, "aligned start")
    values = initial * (1 + noise * torch.randn(width, generator=stream, dtype=torch.float64))
    diagonal = values.sort(descending=True).values ** (1 / depth)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=stream, dtype=torch.float64)).Q
    spread = rotation * diagonal
    modes = min(outputs, inputs)
    last = torch.zeros(outputs, width, dtype=torch.float64)
    last[:modes] = spread.T[:modes]
    chain = [spread[:, :inputs], *[spread @ rotation.T] * (depth - 2), last]
    return [torch.stack([matrix.float()] * PATHWAYS) for matrix in chain]


def random_start(seed: int, depth: int, width: int, shape: tuple[int, int], initial: float) -> list[Tensor]:
    """Independent Gaussian weights, (2, outputs, inputs) each; entries of a pathway's product have RMS `initial`."""
    outputs, inputs = shape
    stream = generator(seed, "random start", depth)
    scale = initial ** (1 / depth) * width ** (-(depth - 1) / (2 * depth))
    sizes = [(width, inputs), *[(width, width)] * (depth - 2), (outputs, width)]
    return [scale * torch.randn(PATHWAYS, *size, generator=stream) for size in sizes]


class Networks:
    """The same condition for a batch of seeds. weights: W_1 ... W_D, each (seeds x 2, outputs, inputs)."""

    def __init__(self, weights: Sequence[Tensor], targets: Tensor, visible: Tensor, rate: float) -> None:
        """targets: S, (outputs, inputs). visible: (2, outputs, inputs), 0 where a pathway's mode is lesioned."""
        self.weights, self.targets, self.visible, self.rate = list(weights), targets, visible, rate

    def maps(self, products: Sequence[Tensor]) -> Tensor:
        """K of every pathway, (seeds, 2, outputs, inputs)."""
        return products[-1].unflatten(0, (-1, PATHWAYS))

    def strengths(self) -> Tensor:
        """Diagonals of K now, (seeds, 2, modes)."""
        return self.maps(prefixes(self.weights)).diagonal(dim1=-2, dim2=-1)

    def advance(self, epochs: int, gates: tuple[float, float]) -> None:
        """So many steps of gradient descent on 0.5 x the summed squared error; gates: 0 for a gated pathway."""
        learns = self.rate * self.visible * torch.tensor(gates, device=self.targets.device).view(PATHWAYS, 1, 1)
        for _ in range(epochs):
            products = prefixes(self.weights)
            error = self.targets - (self.maps(products) * self.visible).sum(1)
            descend(self.weights, products, (error[:, None] * learns).flatten(0, 1))
