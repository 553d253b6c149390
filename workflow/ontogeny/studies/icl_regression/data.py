"""The fixed prompts on which every predictor is examined."""

from __future__ import annotations

import torch

from ontogeny.files import OutFolder
from ontogeny.randomness import generator
from ontogeny.sources import Sources
from ontogeny.studies.icl_regression.prompts import NAMES, Prompts, Sampler
from ontogeny.studies.icl_regression.settings import DataSettings, Task

BLOCK = 500  # prompts drawn from one stream, so that asking for more leaves the first ones as they are


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write prompts of the greatest length for the single task, and of the training length for several tasks."""
    for kind, length in (("single", max(settings.lengths)), ("multi", settings.multi_length)):
        prompts = draw(getattr(settings, kind), length, settings.prompts, kind)
        out.save_tensors(f"{kind}.safetensors", vars(prompts))
    out.save_json("settings.json", settings.model_dump(mode="json"))


def draw(task: Task, length: int, count: int, kind: str) -> Prompts:
    """`count` prompts without leading axes."""
    sampler = Sampler(task, length, "cpu")
    parts = [sampler.draw(BLOCK, [generator(0, "examination", kind, i)])[0] for i in range(-(-count // BLOCK))]
    tokens, query, target = (torch.cat([getattr(p, name) for p in parts])[:count] for name in NAMES)
    return Prompts(tokens, query, target)
