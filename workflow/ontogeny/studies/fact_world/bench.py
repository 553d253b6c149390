"""The stack of small Llamas against transformers' own model in a plain PyTorch loop."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from ontogeny.bench import BenchCase
from ontogeny.language.facts import Shape, World
from ontogeny.language.learner import Adam, Stack
from ontogeny.language.llama import Architecture, initial, to_pretrained
from ontogeny.randomness import generator
from ontogeny.settings import validate
from ontogeny.studies.fact_world.settings import DataSettings, RunSettings
from ontogeny.study import plan

BASE = "fact_world"


def cases(device: str) -> list[BenchCase]:
    """The first run at laptop scale."""
    planned = plan(BASE, "laptop")
    run = next(iter(planned.runs.values()))
    settings: RunSettings = validate(RunSettings, run.settings, BASE)
    data: DataSettings = validate(DataSettings, planned.data, BASE)
    words = len(World(Shape(**data.world.model_dump())).vocabulary)
    sizes = (settings.width, settings.layers, settings.heads, settings.hidden)
    architecture = Architecture(words, *sizes, data.length)
    networks = torch.stack([initial(architecture, generator(seed, "initial")) for seed in run.seeds])
    stack, plain = Stack(architecture, networks, Adam(), device), PlainLoop(architecture, networks[0], device)
    shape = (len(run.seeds), settings.batch, data.length)
    tokens = torch.randint(words, shape, generator=generator(0, "tokens")).to(device)

    def batched(steps: int) -> None:
        for _ in range(steps):
            stack.learn(tokens, settings.learning_rate)

    def single(steps: int) -> None:
        for _ in range(steps):
            plain.step(tokens[0], settings.learning_rate)

    per_step = settings.batch * (data.length - 1)
    flops = architecture.flops(per_step, data.length - 1)
    steps = settings.checkpoints[-1]
    return [BenchCase("pretraining", len(run.seeds), steps, flops, batched, single, tokens=per_step)]


class PlainLoop:
    """One model as one would train it alone: transformers' Llama, torch.optim.AdamW, a clipped gradient."""

    def __init__(self, architecture: Architecture, network: Tensor, device: str) -> None:
        self.model = LlamaForCausalLM(LlamaConfig(**architecture.config(0)))
        self.model.to(torch.device(device))  # type: ignore[arg-type]
        self.model.load_state_dict(to_pretrained(architecture, network), strict=False)
        adam = Adam()
        self.adam = torch.optim.AdamW(self.model.parameters(), betas=adam.betas, weight_decay=adam.weight_decay)

    def step(self, tokens: Tensor, lr: float) -> None:
        """One step on tokens (B, T)."""
        self.adam.zero_grad()
        self.model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.param_groups[0]["lr"] = lr
        self.adam.step()
