"""The versions of one run against one of them, trained alone by transformers' Llama and torch's AdamW."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ontogeny.bench import BenchCase
from ontogeny.files import Folder, OutFolder
from ontogeny.language.learner import Adam, Pretrained
from ontogeny.language.llama import to_pretrained
from ontogeny.settings import validate
from ontogeny.sources import Sources
from ontogeny.studies.train_once.data import prepare
from ontogeny.studies.train_once.settings import DataSettings, RunSettings
from ontogeny.studies.train_once.train import Versions, learning_rate
from ontogeny.study import plan

STUDY, RUN = "train_once", "joint-s0-3"


def cases(device: str) -> list[BenchCase]:
    """One run of the joint leg at laptop scale."""
    from transformers import LlamaConfig, LlamaForCausalLM

    planned = plan(STUDY, "laptop")
    settings = validate(RunSettings, planned.runs[RUN].settings, STUDY)
    with tempfile.TemporaryDirectory() as folder:
        out = OutFolder(Path(folder) / "data")
        prepare(validate(DataSettings, planned.data, STUDY), Sources({}), out)
        out.publish()
        versions = Versions(settings, planned.runs[RUN].seeds, Folder(Path(folder) / "data"), device)
    architecture = versions.architecture
    model = LlamaForCausalLM(LlamaConfig(**architecture.config(0)))
    model.load_state_dict(to_pretrained(architecture, versions.stack.networks[0]), strict=False)
    plain = Pretrained(model.to(torch.device(device)), Adam())  # type: ignore[arg-type]

    def batched(steps: int) -> None:
        for step in range(steps):
            versions.step(step)

    def single(steps: int) -> None:
        for step in range(steps):
            plain.learn(torch.as_tensor(versions.tokens(step)[:1]), learning_rate(settings, step))

    flops = architecture.flops(settings.batch * (architecture.context - 1), architecture.context - 1)
    return [BenchCase("joint", len(versions.members), settings.steps, flops, batched, single)]
