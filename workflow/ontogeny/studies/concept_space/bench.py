"""The networks with weak colours as one ensemble, against one of them trained alone with automatic differentiation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, pad

from ontogeny.bench import BenchCase
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.studies.concept_space.denoiser import build
from ontogeny.studies.concept_space.diffusion import image_share, loss_weight, noise_share
from ontogeny.studies.concept_space.mlp import MlpDenoiser, time_features
from ontogeny.studies.concept_space.settings import Concepts, RunSettings
from ontogeny.studies.concept_space.train import BETAS, EPS, Ensemble, TrainingSet
from ontogeny.study import plan

STUDY, ROW = "concept_space", "weak"


def cases(device: str) -> list[BenchCase]:
    """Training steps of the run with weak colours at laptop scale; images are not generated here."""
    run = next(run for run in plan(STUDY, "laptop").runs.values() if run.row == ROW)
    settings: Concepts = validate(RunSettings, run.settings, STUDY)
    seeds, alone = (
        [Ensemble(settings, seed, device) for seed in run.seeds],
        PlainNetwork(settings, run.seeds[0], device),
    )

    def batched(steps: int) -> None:
        for ensemble in seeds:  # one after another, as the training does
            for _ in range(steps):
                ensemble.step()

    def single(steps: int) -> None:
        for _ in range(steps):
            alone.step()

    members = len(run.seeds) * len(settings.points)
    return [BenchCase(ROW, members, settings.steps, flops(settings), batched, single)]


def flops(settings: Concepts) -> float:
    """Arithmetic of one step: each matrix takes 2 operations an entry and image forwards, for its gradient, and
    backwards (not the first ones, whose inputs are data)."""
    matrices = {name: math.prod(shape) for name, shape in network(settings).shapes.items() if name[0] in "wac"}
    passes = sum((2 if name in ("w0", "a1", "a2") else 3) * entries for name, entries in matrices.items())
    return 2 * settings.batch_size * passes


def network(settings: Concepts) -> MlpDenoiser:
    """The residual network of a row."""
    denoiser = build(settings)
    assert isinstance(denoiser, MlpDenoiser)
    return denoiser


class PlainNetwork:
    """One network, at a row's first point, as one would write it alone."""

    def __init__(self, settings: Concepts, seed: int, device: str) -> None:
        self.settings, self.device = settings, device
        self.data = TrainingSet(settings.model_copy(update={"points": settings.points[:1]}), seed, device)
        net = network(settings)
        start = net.initial(generator(seed, "init"), self.data.images.mean(dim=1).cpu()).to(device)
        self.weights = {name: value[0].clone().requires_grad_() for name, value in net.views(start).items()}
        self.optimiser = torch.optim.AdamW(
            self.weights.values(), lr=settings.learning_rate, betas=BETAS, eps=EPS, weight_decay=settings.weight_decay
        )
        self.stream = generator(seed, "batches")

    def guess(self, noisy: Tensor, gamma: Tensor, condition: Tensor) -> Tensor:
        """Clean images (B, D) behind `noisy` (B, D)."""
        weights, one = self.weights, pad(condition, (0, 1), value=1.0)
        hidden = gelu(torch.cat([noisy, time_features(gamma)], dim=1) @ weights["w0"])
        for k in (1, 2):
            told = gelu(one @ weights[f"a{k}"]) @ weights[f"c{k}"] + weights[f"d{k}"]
            hidden = hidden + gelu(hidden @ weights[f"w{k}"] + told)
        return hidden @ weights["w3"] + weights["b3"]

    def step(self) -> None:
        """One step of AdamW."""
        settings, size = self.settings, self.settings.batch_size
        chosen = torch.randint(self.data.images.shape[1], (size,), generator=self.stream)
        noise = torch.randn(size, self.data.images.shape[2], generator=self.stream)
        low, high = settings.gamma
        gamma = low + (high - low) * torch.rand(size, generator=self.stream)
        chosen, noise, gamma = (drawn.to(self.device) for drawn in (chosen, noise, gamma))
        clean = self.data.images[0, chosen]
        noisy = image_share(gamma)[:, None] * clean + noise_share(gamma)[:, None] * noise
        error = self.guess(noisy, gamma, self.data.conditions[0, chosen]) - clean
        self.optimiser.zero_grad()
        (loss_weight(gamma, settings.weight_cap)[:, None] * error.square()).mean().backward()
        self.optimiser.step()
