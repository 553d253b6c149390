"""Learning one text in the toy model: the lowest layer remembered for each batch, against computed every time."""

from __future__ import annotations

import torch

from ontogeny.bench import BenchCase
from ontogeny.language.finetune import FrozenTrunk, let_layers_learn
from ontogeny.language.learner import Pretrained
from ontogeny.language.llama import Architecture, initial, to_pretrained
from ontogeny.randomness import generator
from ontogeny.studies.outlandish.laboratory import ADAM
from ontogeny.studies.outlandish.toy import SHAPE

VOCABULARY, ROWS, LENGTH, LEARNING = 500, 2, 20, 1


def cases(device: str) -> list[BenchCase]:
    """One text that is learned again and again."""
    architecture = Architecture(VOCABULARY, **SHAPE)
    remembering, plain = learner(architecture, device, True), learner(architecture, device, False)
    tokens = torch.randint(VOCABULARY, (1, ROWS, LENGTH), generator=generator(0, "bench"))

    def batched(steps: int) -> None:
        for _ in range(steps):
            remembering.learn(tokens, 1e-4)

    def single(steps: int) -> None:
        for _ in range(steps):
            plain.learn(tokens, 1e-4)

    learning = Architecture(VOCABULARY, **{**SHAPE, "layers": LEARNING})
    flops = learning.flops(ROWS * LENGTH, LENGTH) - 2.0 * ROWS * LENGTH * VOCABULARY * SHAPE["width"]
    return [BenchCase("one text", 1, 5, flops, batched, single)]


def learner(architecture: Architecture, device: str, remember: bool) -> Pretrained:
    """The toy model through transformers; its upper layer learns."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**architecture.config(0)))
    model.load_state_dict(to_pretrained(architecture, initial(architecture, generator(0, "bench"))), strict=False)
    model.to(torch.device(device))  # type: ignore[arg-type]
    let_layers_learn(model, LEARNING)
    if remember:
        FrozenTrunk(model, LEARNING)
    return Pretrained(model, ADAM)
