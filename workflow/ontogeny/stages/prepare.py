"""Shared sources -> the study's data folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ontogeny.files import OutFolder
from ontogeny.rooms import part
from ontogeny.settings import validate
from ontogeny.sources import Sources
from ontogeny.stopwatch import stopwatch


def prepare(study: str, settings: Mapping[str, Any], receipts: Sequence[Path], out: Path) -> None:
    """Write the data folder `out` of a study.

    settings: the study's data settings. receipts: what `acquire` wrote for each source that the study names.
    """
    folder = OutFolder(out)
    typed = validate(part(study, "settings").DataSettings, dict(settings), f"{study}: data")
    program, sources = part(study, "data"), Sources.open(list(receipts))
    with stopwatch.computing():
        program.prepare(typed, sources, folder)
    folder.publish()
