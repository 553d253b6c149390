"""A model of the user's under a study's probes: ``own`` in config.yaml.

A study that offers this has, in its folder, `own_settings.OwnSettings` (what has to be said of the model, without
torch), `own.examine(settings, device)` and `own_figures.draw(tables)`. What is measured of the user's model carries the
names of the study's own tests, and is held against the same criteria; one model has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ontogeny.device import resolve_device, set_deterministic
from ontogeny.errors import ConfigError
from ontogeny.files import OutFolder, read_tensors, sha256
from ontogeny.own_settings import OwnModel
from ontogeny.provenance import describe
from ontogeny.rooms import part
from ontogeny.settings import validate


@dataclass(frozen=True)
class Examination:
    """What a study's probes found in a user's model.

    measured: claim -> test -> the model's value, for those tests of the study that one model can be asked about.
    facts: what no claim speaks of, as (what, value). tables: tidy, for the figures and for the user.
    """

    measured: dict[str, dict[str, float]]
    tables: dict[str, pd.DataFrame]
    facts: list[tuple[str, str]] = field(default_factory=list)


def examine(name: str, study: str, model: Mapping[str, Any], device: str, code: str, out: Path) -> None:
    """Examine the user's model `name` by the probes of `study`; write findings and tables to the folder `out`.

    Raises ConfigError for a file or tensor that is not what the settings say.
    """
    set_deterministic(threads=1)
    settings: OwnModel = validate(part(study, "own_settings").OwnSettings, dict(model), f"own.{name}.model")
    resolved = resolve_device(device)
    found: Examination = part(study, "own").examine(settings, resolved)
    folder = OutFolder(out)
    for table, content in found.tables.items():
        folder.save_table(f"{table}.parquet", content)
    folder.save_json(
        "findings.json",
        {
            "name": name,
            "study": study,
            "model": settings.model_dump(mode="json"),
            "files": {file: sha256(Path(file)) for file in settings.files()},
            "measured": {claim: _finite(tests) for claim, tests in found.measured.items()},
            "facts": found.facts,
        },
    )
    modules = dict(entry.split("=") for entry in code.split())
    folder.save_json("provenance.json", describe(modules, resolved, threads=1))
    folder.publish()


def _finite(tests: Mapping[str, float]) -> dict[str, float]:
    """Without tests that the model gives no case for (an accuracy over no examples)."""
    return {test: float(value) for test, value in tests.items() if math.isfinite(value)}


def tensors_of(file: str, shapes: Mapping[str, tuple[int | None, ...]], where: str) -> dict[str, torch.Tensor]:
    """The named tensors of a safetensors file, in float32.

    shapes: name -> expected shape, None for a size that is free. where: the part of the configuration that names them.
    Raises ConfigError for a missing tensor or another shape, and names what the file has.
    """
    content = read_tensors(Path(file))
    for name, shape in shapes.items():
        if name not in content:
            have = ", ".join(f"{key} {tuple(value.shape)}" for key, value in sorted(content.items()))
            raise ConfigError(f"{where}: {file} has no tensor '{name}'. It has: {have or 'none'}.")
        present = tuple(content[name].shape)
        fits = len(present) == len(shape) and all(e in (None, p) for e, p in zip(shape, present, strict=True))
        if not fits:
            wanted = " x ".join("any" if size is None else str(size) for size in shape)
            raise ConfigError(f"{where}: tensor '{name}' of {file} has the shape {present}; {wanted} is needed.")
    return {name: content[name].float() for name in shapes}
