"""Pretraining: every seed passes once over the same background, in an order and from weights of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.errors import ConfigError
from ontogeny.files import Folder
from ontogeny.language.learner import Adam, Stack
from ontogeny.language.llama import Architecture, initial
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.fact_world.settings import RunSettings


def architecture_of(settings: RunSettings, data: Folder) -> Architecture:
    """The model of a row, for the prepared language."""
    rows = data.arrays("background.npz")["train"]
    sizes = (settings.width, settings.layers, settings.heads, settings.hidden)
    return Architecture(len(data.json("vocabulary.json")), *sizes, context=rows.shape[1])


def order(seed: int, rows: int) -> Tensor:
    """The order in which a seed sees the rows."""
    return torch.randperm(rows, generator=generator(seed, "order"))


def learning_rate(settings: RunSettings, step: int) -> float:
    """Grows over the warm-up, then constant. step: steps done before this one."""
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warm_up))


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Train all seeds at once; keep weights and the optimiser's moments at the checkpoints."""
    settings: RunSettings = config.settings
    background = torch.from_numpy(data.arrays("background.npz")["train"].astype("int64"))
    needed = settings.batch * settings.checkpoints[-1]
    if len(background) < needed:
        raise ConfigError(
            f"fact_world: run {config.run} needs {needed} rows to see each once, and "
            f"data.rows is {len(background)}. Prepare more rows, or end at an earlier checkpoint."
        )
    architecture = architecture_of(settings, data)
    networks = torch.stack([initial(architecture, generator(seed, "initial")) for seed in config.seeds])
    stack = Stack(architecture, networks, Adam(), config.device)
    orders = torch.stack([order(seed, len(background)) for seed in config.seeds])
    state: State = {**stack.state()}
    for step in run.steps(settings.checkpoints[-1], state):
        rows = orders[:, step * settings.batch : (step + 1) * settings.batch]
        loss = stack.learn(background[rows], learning_rate(settings, step))
        if step % 10 == 0:
            run.require_finite(step, loss, config.seeds)
            run.log(step=step, seed=list(config.seeds), loss=loss)
        if step + 1 in settings.checkpoints:
            run.checkpoint(f"step-{step + 1:06d}", stack.state())
