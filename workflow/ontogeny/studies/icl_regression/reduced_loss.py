"""The paper's reduced loss in (omega, mu): gradient flow on it, and its manifold of solutions.

    L(omega, mu) = 1 + s2 - 2 mu.omega + mu^T (omega omega^T + c exp(d omega omega^T)) mu,     c = (1 + s2) / L,

exp entrywise, is the risk of heads with KQ = omega I and OV = mu e_{d+1} for long prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.run import Run, State
from ontogeny.studies.icl_regression.settings import ReducedLoss
from ontogeny.studies.icl_regression.snapshots import snapshot_steps


def loss(omega: Tensor, mu: Tensor, dimension: int, noise: float, length: int) -> Tensor:
    """L of points (..., H): (...)."""
    overlap = (dimension * omega.unsqueeze(-1) * omega.unsqueeze(-2)).exp()
    signal = (mu * omega).sum(-1)
    quadratic = (mu.unsqueeze(-2) @ overlap @ mu.unsqueeze(-1)).squeeze(-1).squeeze(-1)
    return 1 + noise - 2 * signal + signal**2 + (1 + noise) / length * quadratic


def gradient(omega: Tensor, mu: Tensor, dimension: int, noise: float, length: int) -> tuple[Tensor, Tensor]:
    """Gradients of L with respect to omega and mu, (..., H) each."""
    overlap = (dimension * omega.unsqueeze(-1) * omega.unsqueeze(-2)).exp()
    factor = 2 * (1 + noise) / length
    miss = 2 * ((mu * omega).sum(-1, keepdim=True) - 1)
    by_mu = miss * omega + factor * (overlap @ mu.unsqueeze(-1)).squeeze(-1)
    spread = (overlap @ (mu * omega).unsqueeze(-1)).squeeze(-1)
    return mu * (miss + factor * dimension * spread), by_mu


def manifold(gamma: np.ndarray, dimension: int, noise: float, length: int) -> np.ndarray:
    """mu_gamma: the sum of the positive mu that is best when every |omega| is gamma and both signs occur."""
    return gamma / 2 / (gamma**2 + (1 + noise) * np.sinh(dimension * gamma**2) / length)


def flow(settings: ReducedLoss, seeds: Sequence[int], run: Run) -> None:
    """Follow d(omega, mu)/dt = -grad L / 2 by Euler's method; keep the points: (T, S, numbers of heads, H_max).

    Flows with fewer than H_max heads are filled up with zeros, which a mask keeps at zero.
    """
    widest = max(settings.heads)
    mask = torch.arange(widest) < torch.tensor(settings.heads).unsqueeze(1)
    starts = [_start(settings, seed) for seed in seeds]
    omega, mu = (torch.stack([start[i] for start in starts]) * mask for i in range(2))
    kept = snapshot_steps(settings.steps, settings.snapshots)
    path = torch.zeros(len(kept), 2, *omega.shape, dtype=torch.float64)
    path[0, 0], path[0, 1] = omega, mu
    constants = (settings.dimension, settings.noise, settings.length)
    state: State = {"omega": omega, "mu": mu, "path": path}
    for step in run.steps(settings.steps, state):
        by_omega, by_mu = gradient(omega, mu, *constants)
        omega.sub_(by_omega.mul_(settings.step_size / 2))
        mu.sub_(by_mu.mul_(settings.step_size / 2).mul_(mask))
        if step + 1 in kept:
            path[kept.index(step + 1), 0], path[kept.index(step + 1), 1] = omega, mu
            run.require_finite(step, mu.flatten(1), list(seeds))
    run.checkpoint("flow", {"steps": torch.tensor(kept), "omega": path[:, 0], "mu": path[:, 1]})


def _start(settings: ReducedLoss, seed: int) -> tuple[Tensor, Tensor]:
    """Initial omega and mu of a seed, (numbers of heads, H_max): small and normal."""
    stream = generator(seed, "start")
    shape = (len(settings.heads), max(settings.heads))
    omega, mu = settings.start * torch.randn(2, *shape, generator=stream, dtype=torch.float64)
    return omega, mu
