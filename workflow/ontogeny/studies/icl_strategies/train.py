"""Train the networks of every D and every seed as one program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ontogeny.ensemble import AdamW
from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.icl_strategies import transformer, urns
from ontogeny.studies.icl_strategies.settings import Urns


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Keep the averaged parameters of all networks, (M, P), at checkpoints evenly spaced in the root of the step."""
    ensemble, settings = Ensemble(config.settings, config.seeds, config.device), config.settings
    kept = checkpoint_steps(settings)
    for step in run.steps(settings.steps, ensemble.state()):
        loss = ensemble.step(step)
        if step + 1 in kept:
            run.require_finite(step, loss, ensemble.members)
            seeds, tasks = zip(*ensemble.members, strict=True)
            run.log(step=step + 1, seed=seeds, tasks=tasks, loss=loss)
            run.checkpoint(f"step-{step + 1:07d}", {"networks": ensemble.averaged})


def checkpoint_steps(settings: Urns) -> set[int]:
    """Numbers of steps done: evenly spaced in their square root, from `first` to `steps`."""
    roots = np.linspace(settings.first**0.5, settings.steps**0.5, settings.checkpoints)
    return set((roots**2).round().astype(int).tolist())


def architecture_of(settings: Urns) -> transformer.Architecture:
    """The networks of a row: they read V symbols and a start token, and predict symbols."""
    return transformer.Architecture(
        vocabulary=settings.symbols + 1, outputs=settings.symbols, width=settings.width, layers=settings.layers,
        heads=settings.heads, hidden=settings.hidden, rotary=settings.rotary, units=settings.units,
    )  # fmt: skip


class Ensemble:
    """The networks of one row, one for every seed and D. All networks of a seed start from the same weights."""

    def __init__(self, settings: Urns, seeds: Sequence[int], device: str) -> None:
        self.settings, self.device = settings, device
        self.members = [(seed, tasks) for seed in seeds for tasks in settings.tasks]
        self.architecture = architecture_of(settings)
        drawn = {s: transformer.initial(self.architecture, generator(s, "init"), settings.deviation) for s in seeds}
        networks = torch.stack([drawn[seed] for seed, _ in self.members]).to(device)
        self.adam = AdamW({"networks": networks}, torch.empty(len(self.members), device=device))
        self.averaged = networks.clone()
        self.streams = [generator(seed, "sequences", tasks) for seed, tasks in self.members]
        self.boundaries = [self._boundaries(seed, tasks) for seed, tasks in self.members]
        self.together = transformer.together(self.architecture, settings.batch * settings.length, device)

    def _boundaries(self, seed: int, tasks: int) -> Tensor:
        return urns.boundaries_of(urns.training_tasks(tasks, self.settings.symbols, seed)).float()

    @property
    def networks(self) -> Tensor:
        """Parameters (M, P)."""
        return self.adam.params["networks"]

    def state(self) -> State:
        """All that changes from step to step."""
        names = (f"sequences.{seed}.{tasks}" for seed, tasks in self.members)
        streams = dict(zip(names, self.streams, strict=True))
        return {**self.adam.state(), "averaged": self.averaged, **streams}

    def draw(self, member: int) -> Tensor:
        """Fresh sequences (B, C) for one of the networks."""
        settings, stream = self.settings, self.streams[member]
        if settings.mixture == "fixed":
            uniform = torch.rand(settings.batch, 1 + settings.length, generator=stream)
            return urns.draw_symbols(self.boundaries[member], uniform)
        own = urns.boundaries_of(urns.draw_tasks(settings.batch, settings.symbols, stream)).float().unsqueeze(1)
        uniform = torch.rand(settings.batch, 1, 1 + settings.length, generator=stream)
        return urns.draw_symbols(own, uniform)[:, 0]

    def gradient(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Loss (members,) of some of the networks on fresh sequences, and its clipped gradient (members, P)."""
        symbols = torch.stack([self.draw(member) for member in range(first, last)]).to(self.device)
        networks = self.networks[first:last]
        tokens = urns.inputs_of(symbols, start=self.settings.symbols)
        logits, tape = transformer.forward(self.architecture, networks, tokens)
        loss, d_logits = transformer.cross_entropy(logits, symbols)
        gradient = transformer.backward(self.architecture, networks, tape, d_logits)
        norm = gradient.norm(dim=1, keepdim=True)
        return loss, gradient.mul_((self.settings.clip / norm).clamp_(max=1))

    def step(self, step: int) -> Tensor:
        """One step of Adam on fresh sequences; returns the loss before it, (M,)."""
        count = len(self.members)
        blocks = [(first, min(first + self.together, count)) for first in range(0, count, self.together)]
        losses, gradients = zip(*(self.gradient(*block) for block in blocks), strict=True)
        self.adam.lr.fill_(learning_rate(self.settings, step))
        self.adam.step({"networks": torch.cat(gradients)})
        self.averaged.lerp_(self.networks, 1 / max(1.0, self.settings.memory * (step + 1)))
        return torch.cat(losses)


def learning_rate(settings: Urns, step: int) -> float:
    """Growing linearly over the warm-up, then constant. step: steps done before this one."""
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warm_up))
