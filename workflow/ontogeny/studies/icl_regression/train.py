"""Train networks of every number of heads and every seed as one program, or follow the reduced loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ontogeny.ensemble import AdamW
from ontogeny.files import Folder
from ontogeny.randomness import generator, stream_seed
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.icl_regression import attention, reduced_loss
from ontogeny.studies.icl_regression.prompts import Sampler
from ontogeny.studies.icl_regression.settings import Attention, ReducedLoss
from ontogeny.studies.icl_regression.snapshots import snapshot_steps


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Keep the circuits of all networks, or the points of all flows, at log-spaced steps."""
    if isinstance(config.settings, ReducedLoss):
        reduced_loss.flow(config.settings, config.seeds, run)
    else:
        train_attention(config.settings, config.seeds, config.device, run)


class Ensemble:
    """The networks of one row: S seeds x networks, with the N heads of all networks of a seed side by side.

    A seed's networks see the same prompts. Seeds have their own prompts and are taken one by one on a CPU, whose cache
    holds the attention weights of no more, and all together on a GPU.
    """

    def __init__(self, settings: Attention, seeds: Sequence[int], device: str) -> None:
        self.settings, self.seeds = settings, tuple(seeds)
        self.shape = attention.Shape(settings.task.dimension, len(settings.task.supports))
        self.kernel = attention.Kernel(settings.kernel == "softmax", settings.length)
        self.member = attention.membership(settings.heads).to(device)
        self.sampler = Sampler(settings.task, settings.length, device)
        drawn = [self._initial(seed) for seed in self.seeds]
        self.adam = AdamW({"heads": torch.stack(drawn).to(device)}, torch.empty(len(drawn), device=device))
        self.streams = [torch.Generator(device).manual_seed(stream_seed(seed, "prompts")) for seed in self.seeds]
        self.together = 1 if device == "cpu" else len(self.seeds)

    def _initial(self, seed: int) -> Tensor:
        """Parameters of a seed's heads: (N, P). Each network has its own stream."""
        return torch.cat([
            attention.initial_head(self.shape, heads, generator(seed, "init", heads)) for heads in self.settings.heads
        ])  # fmt: skip

    @property
    def parameters(self) -> Tensor:
        """(S, N, P)."""
        return self.adam.params["heads"]

    def state(self) -> State:
        """All that changes from step to step."""
        streams = {f"prompts.{seed}": stream for seed, stream in zip(self.seeds, self.streams, strict=True)}
        return {**self.adam.state(), **streams}

    def circuits(self) -> tuple[Tensor, Tensor]:
        """KQ[:, :d] (S, N, D, d) and OV (S, N, tasks, D)."""
        return attention.circuits(self.shape, self.parameters)

    def step(self, step: int) -> Tensor:
        """One step of Adam on fresh prompts; returns the loss before it, (S, networks)."""
        kq, ov = self.circuits()
        prompts = self.sampler.draw(self.settings.batch, self.streams)
        loss, d_kq, d_ov = attention.loss_gradient(kq, ov, prompts, self.member, self.kernel, self.together)
        gradient = attention.parameter_gradient(self.shape, self.parameters, d_kq, d_ov)
        self.adam.lr.fill_(learning_rate(self.settings, step))
        self.adam.step({"heads": gradient})
        return loss


def learning_rate(settings: Attention, step: int) -> float:
    """Constant, then falling linearly to `final_rate` times the first rate at the last step."""
    past = max(0, step - settings.decay_from) / max(1, settings.steps - 1 - settings.decay_from)
    return settings.learning_rate * (1 - (1 - settings.final_rate) * past)


def train_attention(settings: Attention, seeds: Sequence[int], device: str, run: Run) -> None:
    """Train, and keep the circuits of every snapshot: kq (T, S, N, D, d), ov (T, S, N, tasks, D)."""
    ensemble = Ensemble(settings, seeds, device)
    kept = snapshot_steps(settings.steps, settings.snapshots)
    kq, ov = ensemble.circuits()
    past = {"kq": kq.new_zeros(len(kept), *kq.shape), "ov": ov.new_zeros(len(kept), *ov.shape)}
    state: State = {**ensemble.state(), **past}
    networks = [(seed, heads) for seed in seeds for heads in settings.heads]

    def keep(done: int) -> None:
        if done in kept:
            past["kq"][kept.index(done)], past["ov"][kept.index(done)] = ensemble.circuits()

    keep(0)
    for step in run.steps(settings.steps, state):
        loss = ensemble.step(step)
        keep(step + 1)
        if step + 1 in kept:
            run.require_finite(step, loss.flatten(), networks)
            columns = {"seed": [seed for seed, _ in networks], "heads": [heads for _, heads in networks]}
            run.log(step=step + 1, **columns, loss=loss.flatten())
    run.checkpoint("circuits", {"steps": torch.tensor(kept), **past})
    run.checkpoint("parameters", {"heads": ensemble.parameters})
