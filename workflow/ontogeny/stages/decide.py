"""Tidy tables -> a verdict for each claim."""

from __future__ import annotations

from pathlib import Path

from ontogeny import claims
from ontogeny.files import Folder, write_json
from ontogeny.study import load_study


def decide(study: str, scale: str, tables: Path, out: Path) -> None:
    """Hold the tables in the folder `tables` against the criteria of study.yaml; write claims.json to `out`."""
    spec = load_study(study)
    folder = Folder(tables)
    frames = {name: folder.table(f"{name}.parquet") for name in spec.tables}
    write_json(out, claims.to_json(spec, scale, claims.decide(spec, scale, frames)))
