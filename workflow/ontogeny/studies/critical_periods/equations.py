"""Gradient descent on a deep factorisation beside the exact evolution of its product, through a switch of tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.critical_periods.chain import descend, prefixes
from ontogeny.studies.critical_periods.completion import low_rank_matrix, observations
from ontogeny.studies.critical_periods.factorisation import runge_kutta_step
from ontogeny.studies.critical_periods.settings import Equations

DTYPE = torch.float64


def train_equations(config: RunConfig, data: Folder, run: Run) -> None:
    """Checkpoint `values`: `descent` and `equations`, leading singular values, each (measurements, seeds, followed).

    Measurements at epochs 0, measure_every, ..., 2 x epochs; the task switches in the middle.
    """
    settings: Equations = config.settings
    targets = [task_matrices(config, number) for number in range(2)]
    masks = torch.stack([observations(seed, settings.size, [settings.observed])[0] for seed in config.seeds])
    gain = masks.to(config.device, DTYPE) * (settings.rate / settings.observed)
    weights = [balanced_start(config) for _ in range(settings.depth)]
    exact = prefixes(weights)[-1].clone()
    marks = 2 * settings.epochs // settings.measure_every
    values = exact.new_zeros(2, marks + 1, len(config.seeds), settings.followed)
    state: State = {"exact": exact, "values": values, **{f"w{index}": matrix for index, matrix in enumerate(weights)}}
    for mark in run.steps(marks + 1, state):
        values[0, mark] = _leading(prefixes(weights)[-1], settings.followed)
        values[1, mark] = _leading(exact, settings.followed)
        if mark < marks:
            target = targets[mark >= marks // 2]
            advance(weights, target, gain, settings.measure_every)
            exact.copy_(evolve(exact, target, gain, settings))
    run.require_finite(2 * settings.epochs, values.transpose(0, 2), list(config.seeds))
    run.checkpoint("values", {"descent": values[0].contiguous(), "equations": values[1].contiguous()})


def task_matrices(config: RunConfig, number: int) -> Tensor:
    """Targets of task 0 or 1, (seeds, n, n)."""
    size, rank = config.settings.size, config.settings.ranks[number]
    matrices = [low_rank_matrix(seed, f"equations {number}", size, rank) for seed in config.seeds]
    return torch.stack(matrices).to(config.device, DTYPE)


def balanced_start(config: RunConfig) -> Tensor:
    """One of the D equal diagonal matrices, (seeds, n, n). A tiny jitter keeps the singular values apart."""
    settings: Equations = config.settings
    scale = settings.init_scale ** (1 / settings.depth)
    draws = [torch.randn(settings.size, generator=generator(seed, "jitter"), dtype=DTYPE) for seed in config.seeds]
    return torch.diag_embed(scale + settings.jitter * torch.stack(draws)).to(config.device)


def advance(weights: list[Tensor], target: Tensor, gain: Tensor, epochs: int) -> None:
    """Gradient descent on the matrices, in place."""
    for _ in range(epochs):
        products = prefixes(weights)
        descend(weights, products, (target - products[-1]).mul_(gain))


def evolve(product: Tensor, target: Tensor, gain: Tensor, settings: Equations) -> Tensor:
    """The exact evolution over measure_every epochs; time is counted in epochs, so that the gradient holds the rate."""

    def gradient(at: Tensor) -> Tensor:
        return (at - target) * gain

    for _ in range(settings.measure_every // settings.stride):
        product = runge_kutta_step(product, gradient, settings.depth, float(settings.stride))
    return product


def _leading(product: Tensor, count: int) -> Tensor:
    return torch.linalg.svdvals(product)[:, :count]
