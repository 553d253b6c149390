"""The main experiment's ensemble against its networks trained one by one with automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.bench import BenchCase, Need, draws, exponentials, product
from ontogeny.randomness import generator, stream_seed
from ontogeny.settings import validate
from ontogeny.studies.icl_regression import attention
from ontogeny.studies.icl_regression.prompts import Prompts, Sampler
from ontogeny.studies.icl_regression.settings import Attention, RunSettings
from ontogeny.studies.icl_regression.train import Ensemble, learning_rate
from ontogeny.study import plan

STUDY, RUN = "icl_regression", "isotropic-s0-9"


def cases(device: str) -> list[BenchCase]:
    """One run of the main experiment at laptop scale."""
    run = plan(STUDY, "laptop").runs[RUN]
    settings = validate(RunSettings, run.settings, STUDY)
    ensemble = Ensemble(settings, run.seeds, device)
    networks = [PlainNetwork(settings, heads, device) for heads in settings.heads]

    def batched(steps: int) -> None:
        for step in range(steps):
            ensemble.step(step)

    def single(steps: int) -> None:
        for step in range(steps):  # by turns, so that the mean number of heads is that of the ensemble
            networks[step % len(networks)].step(step)

    mean_flops = sum(flops(settings, heads) for heads in settings.heads) / len(settings.heads)
    needs, members = needs_of(settings, len(run.seeds), device), len(run.seeds) * len(settings.heads)
    return [BenchCase("isotropic", members, settings.steps, mean_flops, batched, single, needs=needs)]


def needs_of(settings: Attention, seeds: int, device: str) -> list[Need]:
    """What a step must do for each seed: draw the tokens, logits and values, exponentials, and two sums over tokens."""
    heads, token = sum(settings.heads), settings.task.dimension + len(settings.task.supports)
    batch, length, f32 = settings.batch, settings.length, torch.float32
    return [
        draws(seeds, batch * length * token, device),
        product(seeds, (batch, length, token, heads), f32, device),
        product(seeds, (1, batch * length, token, heads), f32, device),
        exponentials(seeds, batch * length * heads, device),
        product(2 * seeds, (batch, token + 1, length, heads), f32, device),
    ]


def flops(settings: Attention, heads: int) -> float:
    """Arithmetic of one step of one network: per head, prompt and token the logit, the value, and two moments.

    Each is a product with a token of D entries (2 D operations); the exponential, the normalisation and w v add three.
    Drawing the prompts is not arithmetic, and the circuits and their gradients are small beside this.
    """
    token = settings.task.dimension + len(settings.task.supports)
    return settings.batch * heads * settings.length * (4 * 2 * token + 3)


class PlainNetwork:
    """One network as one would write it alone: torch.optim.Adam and automatic differentiation."""

    def __init__(self, settings: Attention, heads: int, device: str) -> None:
        self.settings = settings
        self.shape = attention.Shape(settings.task.dimension, len(settings.task.supports))
        self.sampler = Sampler(settings.task, settings.length, device)
        self.stream = torch.Generator(device).manual_seed(stream_seed(0, "prompts"))
        drawn = attention.initial_head(self.shape, heads, generator(0, "init", heads)).to(device)
        self.parameters = [piece.clone().requires_grad_() for piece in self.shape.unpack(drawn)]
        self.adam = torch.optim.Adam(self.parameters, lr=settings.learning_rate)

    def loss(self, prompts: Prompts) -> Tensor:
        """Mean squared error on prompts (B)."""
        k, q, v, o = self.parameters
        tokens = prompts.tokens[:, None, : self.shape.token]  # (B, 1, D, L)
        query = torch.nn.functional.pad(prompts.query, (0, self.shape.tasks))
        asked = torch.einsum("hij,bj->bhi", q, query).unsqueeze(2)
        weights = torch.softmax(asked @ (k @ tokens) / self.shape.token**0.5, dim=-1)
        read = (v @ tokens) @ weights.mT  # (B, H, D, 1)
        return ((o @ read).sum(1).squeeze(-1) - prompts.target).square().mean()

    def step(self, step: int) -> None:
        """One step of Adam on fresh prompts."""
        self.adam.param_groups[0]["lr"] = learning_rate(self.settings, step)
        self.adam.zero_grad()
        self.loss(self.sampler.draw(self.settings.batch, [self.stream])[0]).backward()
        self.adam.step()
