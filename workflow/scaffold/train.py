"""Gradient descent on L(w) = curvature w^2 / 2, for all learning rates and seeds as one batch."""

from __future__ import annotations

import torch

from ontogeny.ensemble import SGD, per_member
from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Train one member for each (learning rate, seed); log the weight at the start and at the end."""
    settings = config.settings
    curvature = float(data.arrays("loss.npz")["curvature"])
    members = [(rate, seed) for rate in settings.learning_rates for seed in config.seeds]
    rates, seeds = [rate for rate, _ in members], [seed for _, seed in members]
    weights = per_member([generator(seed, "init") for seed in seeds], (1,), device=config.device)  # (M, 1)
    optimiser = SGD({"w": weights}, torch.tensor(rates, device=config.device))
    state: State = dict(optimiser.state())
    run.log(step=0, seed=seeds, learning_rate=rates, weight=weights[:, 0])
    for step in run.steps(settings.steps, state):
        optimiser.step({"w": curvature * weights})
        if step + 1 == settings.steps:
            run.require_finite(step, weights, members)
            run.log(step=step + 1, seed=seeds, learning_rate=rates, weight=weights[:, 0])
