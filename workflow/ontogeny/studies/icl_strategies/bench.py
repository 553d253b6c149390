"""The main experiment's ensemble against one of its networks, trained alone with automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ontogeny.bench import BenchCase
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.studies.icl_strategies import transformer, urns
from ontogeny.studies.icl_strategies.settings import RunSettings, Urns
from ontogeny.studies.icl_strategies.train import Ensemble, architecture_of, learning_rate
from ontogeny.study import plan

STUDY, RUN = "icl_strategies", "main-s0-2"


def cases(device: str) -> list[BenchCase]:
    """One run of the main experiment at laptop scale."""
    run = plan(STUDY, "laptop").runs[RUN]
    settings = validate(RunSettings, run.settings, STUDY)
    ensemble, plain = Ensemble(settings, run.seeds, device), PlainTransformer(settings, settings.tasks[0], device)

    def batched(steps: int) -> None:
        for step in range(steps):
            ensemble.step(step)

    def single(steps: int) -> None:
        for step in range(steps):
            plain.step(step)

    flops = architecture_of(settings).flops(settings.batch * settings.length, settings.length)
    return [BenchCase("urns", len(ensemble.members), settings.steps, flops, batched, single)]


class PlainTransformer:
    """One network as one would write it alone: torch.nn.functional, torch.optim.Adam, automatic differentiation."""

    def __init__(self, settings: Urns, tasks: int, device: str, seed: int = 0) -> None:
        self.settings, self.architecture, self.device = settings, architecture_of(settings), device
        drawn = transformer.initial(self.architecture, generator(seed, "init"), settings.deviation).to(device)
        self.weights = {name: w.clone().requires_grad_() for name, w in self.architecture.unpack(drawn).items()}
        self.adam = torch.optim.Adam(self.weights.values(), lr=settings.learning_rate)
        self.stream = generator(seed, "sequences", tasks)
        self.boundaries = urns.boundaries_of(urns.training_tasks(tasks, settings.symbols, seed)).float()

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, O) for tokens (B, T)."""
        width = self.settings.width
        x = self.weights["embed"][tokens]
        for layer in range(self.settings.layers):
            qkv, out, up, down = (self.weights[f"{layer}.{name}"] for name in transformer.MAPS)
            x = x + self.attend(functional.layer_norm(x, (width,)) @ qkv) @ out
            unit = functional.relu if self.settings.units == "relu" else functional.gelu
            x = x + unit(functional.layer_norm(x, (width,)) @ up) @ down
        return functional.layer_norm(x, (width,)) @ self.weights["unembed"]

    def attend(self, qkv: Tensor) -> Tensor:
        """Rotary causal attention: (B, T, d) from (B, T, 3 d)."""
        heads = qkv.unflatten(-1, (3, self.settings.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = (self.rotated(part) for part in heads[:2])
        return functional.scaled_dot_product_attention(q, k, heads[2], is_causal=True).transpose(1, 2).flatten(2)

    def rotated(self, heads: Tensor) -> Tensor:
        """Pairs of the first entries turned by position, heads (B, H, T, d / H)."""
        first, rest = heads.split([self.settings.rotary, heads.shape[-1] - self.settings.rotary], dim=-1)
        rate = transformer.ROTARY_BASE ** (-torch.arange(0, self.settings.rotary, 2) / self.settings.rotary)
        angle = torch.arange(heads.shape[2]).unsqueeze(1) * rate
        cos, sin = angle.cos().to(heads), angle.sin().to(heads)
        even, odd = first[..., ::2], first[..., 1::2]
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
        return torch.cat([turned, rest], dim=-1)

    def step(self, step: int) -> None:
        """One step of Adam on fresh sequences."""
        uniform = torch.rand(self.settings.batch, 1 + self.settings.length, generator=self.stream)
        symbols = urns.draw_symbols(self.boundaries, uniform).to(self.device)
        logits = self.logits(urns.inputs_of(symbols, start=self.settings.symbols))
        self.adam.zero_grad()
        functional.cross_entropy(logits.flatten(0, 1), symbols.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.settings.clip)
        self.adam.param_groups[0]["lr"] = learning_rate(self.settings, step)
        self.adam.step()
