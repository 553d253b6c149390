"""Random linear-regression prompts: tokens (x_l; y_l) and a query (x_q; 0) whose label is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.studies.icl_regression.settings import Task

NAMES = ("tokens", "query", "target")


@dataclass(frozen=True)
class Prompts:
    """B prompts; leading axes are free.

    tokens: (..., B, D + 1, L), D = d + tasks: covariates, below them labels, and a last row of ones.
    query: (..., B, d). target: (..., B, tasks).
    """

    tokens: Tensor
    query: Tensor
    target: Tensor

    def shorter(self, length: int) -> Prompts:
        """The same prompts without the tokens from `length` on."""
        return Prompts(self.tokens[..., :length], self.query, self.target)

    def part(self, first: int, last: int) -> Prompts:
        """Prompts first..last-1 of a set without leading axes."""
        return Prompts(self.tokens[first:last], self.query[first:last], self.target[first:last])


def covariance(task: Task) -> Tensor:
    """Sigma_ij = rho^|i-j|: (d, d), float64."""
    place = torch.arange(task.dimension, dtype=torch.float64)
    return task.correlation ** (place[:, None] - place).abs()


def support_scale(task: Task) -> Tensor:
    """Standard deviation of each entry of beta_n: 1/sqrt(|support|) on the support, 0 elsewhere: (tasks, d)."""
    scale = torch.zeros(len(task.supports), task.dimension)
    for row, support in zip(scale, task.supports, strict=True):
        row[[i - 1 for i in support]] = len(support) ** -0.5
    return scale


class Sampler:
    """Draws prompts of one task distribution. All numbers of a draw come from one call, which is the costly part."""

    def __init__(self, task: Task, length: int, device: str) -> None:
        self.sizes = (task.dimension, len(task.supports), length)
        self.scale = support_scale(task).to(device)
        self.deviation = task.noise**0.5
        self.root = torch.linalg.cholesky(covariance(task)).float().to(device) if task.correlation else None

    def numbers(self, batch: int) -> int:
        """Normal numbers that a batch needs."""
        dimension, tasks, length = self.sizes
        return batch * ((dimension + tasks) * length + tasks * dimension + dimension + tasks)

    def draw(self, batch: int, stream: torch.Generator) -> Prompts:
        """A batch of fresh prompts from `stream`, which lives on the sampler's device."""
        normal = torch.randn(self.numbers(batch), generator=stream, device=stream.device)
        return self.build(batch, normal)

    def build(self, batch: int, normal: Tensor) -> Prompts:
        """Turn standard normal numbers into prompts; overwrites them."""
        dimension, tasks, length = self.sizes
        shapes = [(dimension + tasks, length), (tasks, dimension), (dimension,), (tasks,)]
        pieces = normal.split([batch * torch.Size(shape).numel() for shape in shapes])
        drawn, beta, query, target = (piece.view(batch, *shape) for piece, shape in zip(pieces, shapes, strict=True))
        tokens = normal.new_ones(batch, dimension + tasks + 1, length)
        covariates, labels = drawn[:, :dimension], drawn[:, dimension:]
        if self.root is not None:
            covariates.copy_(self.root @ covariates)
            query = query @ self.root.T
        beta.mul_(self.scale)
        tokens[:, :dimension] = covariates
        signal = (beta.unsqueeze(-1) * covariates.unsqueeze(1)).sum(2)  # faster than many small products
        torch.add(signal, labels, alpha=self.deviation, out=tokens[:, dimension:-1])
        target.mul_(self.deviation).add_((beta * query.unsqueeze(1)).sum(-1))
        return Prompts(tokens, query, target)


def stack(parts: Sequence[Prompts]) -> Prompts:
    """Sets of prompts side by side along a new leading axis. One set is not copied."""
    if len(parts) == 1:
        only = parts[0]
        return Prompts(only.tokens.unsqueeze(0), only.query.unsqueeze(0), only.target.unsqueeze(0))
    return Prompts(*(torch.stack([getattr(part, name) for part in parts]) for name in NAMES))
