"""Shared sources and bases -> the study's data folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ontogeny.files import OutFolder
from ontogeny.rooms import part
from ontogeny.settings import validate
from ontogeny.sources import BasePaths, Sources
from ontogeny.stopwatch import stopwatch


def prepare(
    study: str,
    settings: Mapping[str, Any],
    receipts: Sequence[Path],
    out: Path,
    base_data: Sequence[Path] = (),
    base_runs: Sequence[Path] = (),
) -> None:
    """Write the data folder `out` of a study or base.

    settings: its data settings. receipts: what `acquire` wrote for each source that it needs.
    base_data, base_runs: folders <base>/data and <base>/runs/<run> of the bases that it builds on.
    """
    folder = OutFolder(out)
    typed = validate(part(study, "settings").DataSettings, dict(settings), f"{study}: data")
    program, sources = part(study, "data"), Sources.open(list(receipts))
    sources.bases = {
        data.parent.name: BasePaths(data, tuple(run for run in base_runs if run.parent.parent == data.parent))
        for data in base_data
    }
    with stopwatch.computing():
        program.prepare(typed, sources, folder)
    folder.publish()
