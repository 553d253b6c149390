"""Random linear-regression prompts: tokens (x_l; y_l) and a query (x_q; 0) whose label is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

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

    def __getitem__(self, chosen: int | slice) -> Prompts:
        """Some of the first leading axis."""
        return Prompts(self.tokens[chosen], self.query[chosen], self.target[chosen])


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


def correlate(rows: Iterable[Tensor], correlation: float) -> None:
    """Give independent rows, each of variance one, the covariance rho^|i-j|, in place: an autoregressive process.

    x_i = rho x_{i-1} + sqrt(1 - rho^2) g_i is the product with the Cholesky factor, without the zeros.
    """
    if correlation:
        for previous, row in pairwise(rows):
            row.mul_((1 - correlation**2) ** 0.5).add_(previous, alpha=correlation)


class Sampler:
    """Draws prompts of one task distribution.

    Numbers are drawn where they will lie, in one plane (B, L) for each entry of the tokens: the draw is the costly part
    of a step of training, and nothing is copied after it.
    """

    def __init__(self, task: Task, length: int, device: str) -> None:
        self.sizes = (task.dimension, len(task.supports), length)
        self.scale = support_scale(task).unsqueeze(-1).to(device)
        self.deviation = task.noise**0.5
        self.correlation = task.correlation

    def draw(self, batch: int, streams: Sequence[torch.Generator]) -> Prompts:
        """A batch of fresh prompts from each stream, axes (streams, B). Streams live on the sampler's device."""
        dimension, tasks, length = self.sizes
        counts, device = [tasks * dimension, dimension, tasks], streams[0].device
        planes = torch.empty(len(streams), dimension + tasks + 1, batch, length, device=device)
        few = torch.empty(len(streams), sum(counts), batch, device=device)
        planes[:, -1] = 1
        for numbers, stream in zip(few, streams, strict=True):
            numbers.normal_(generator=stream)
        beta, query, target = few.split(counts, dim=1)
        beta = beta.unflatten(1, (tasks, dimension)).mul_(self.scale)
        correlate(query.unbind(1), self.correlation)
        for plane, slopes, stream in zip(planes[:, :-1], beta, streams, strict=True):
            self._fill(plane.normal_(generator=stream), slopes)
        target.mul_(self.deviation).add_((beta * query.unsqueeze(1)).sum(2))
        return Prompts(planes.transpose(1, 2), query.mT, target.mT)

    def _fill(self, planes: Tensor, beta: Tensor) -> None:
        """Turn standard normal numbers (D, B, L) of one stream into covariates and labels. beta: (tasks, d, B)."""
        dimension, tasks, _ = self.sizes
        covariates = planes[:dimension]
        correlate(covariates, self.correlation)
        for task in range(tasks):
            signal = (beta[task].unsqueeze(-1) * covariates).sum(0)  # faster than many small products
            torch.add(signal, planes[dimension + task], alpha=self.deviation, out=planes[dimension + task])
