"""Prepared data -> the history and checkpoints of one run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ontogeny.device import resolve_device, set_deterministic
from ontogeny.files import Folder
from ontogeny.jobs import clock
from ontogeny.provenance import describe
from ontogeny.rooms import part
from ontogeny.run import Run, RunConfig


def train(config: Mapping[str, Any], threads: int, data: Path, out: Path, state: Path, code: str) -> None:
    """Train one run and publish it at `out`.

    config: the plain form of a RunConfig. state: folder for resumable state; a training goes on from it if it was left
    by the same configuration, data and `code` (the fingerprint of the modules). The state is saved every
    ONTOGENY_SAVE_SECONDS, 10 unless the environment says otherwise.
    """
    set_deterministic(threads)
    content = {**config, "device": resolve_device(config["device"])}
    typed, inputs = RunConfig.from_json(content), Folder(data)
    save_seconds = float(os.environ.get("ONTOGENY_SAVE_SECONDS", "10"))
    run = Run(typed, state, f"{code} {content} {sorted(inputs.manifest.items())}", save_seconds)
    program = part(typed.study, "train")
    with clock.computing():
        program.train(typed, inputs, run)
    modules = dict(entry.split("=") for entry in code.split())
    run.publish(out, {"provenance.json": describe(modules, content["device"], threads)})
