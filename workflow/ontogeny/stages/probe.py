"""Finished runs -> tidy tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ontogeny.device import resolve_device, set_deterministic
from ontogeny.errors import OntogenyError
from ontogeny.files import Folder, OutFolder
from ontogeny.rooms import part
from ontogeny.run import RunFolder
from ontogeny.stopwatch import stopwatch


@dataclass(frozen=True)
class ProbeConfig:
    """What a probe knows beside its files."""

    study: str
    scale: str
    device: str


def probe(
    config: ProbeConfig,
    threads: int,
    columns: Mapping[str, Sequence[str]],
    data: Path,
    runs: Sequence[Path],
    out: Path,
) -> None:
    """Reduce the finished runs to the declared tables, one parquet file each in the folder `out`.

    columns: table -> its columns, as study.yaml declares them.
    """
    set_deterministic(threads)
    typed = ProbeConfig(config.study, config.scale, resolve_device(config.device))
    program, folders = part(config.study, "probe"), [RunFolder(path) for path in runs]
    with stopwatch.computing():
        tables = program.probe(typed, Folder(data), folders)
    _check(config.study, tables, columns)
    folder = OutFolder(out)
    for name, table in tables.items():
        folder.save_table(f"{name}.parquet", table)
    folder.publish()


def _check(study: str, tables: Mapping[str, pd.DataFrame], columns: Mapping[str, Sequence[str]]) -> None:
    """Raise OntogenyError unless the tables and their columns are those that study.yaml declares."""
    if set(tables) != set(columns):
        raise OntogenyError(
            f"{study}: probe returns the tables {sorted(tables)}, study.yaml declares {sorted(columns)}."
        )
    for name, table in tables.items():
        if list(table.columns) != list(columns[name]):
            declared = list(columns[name])
            raise OntogenyError(
                f"{study}: table {name} has the columns {list(table.columns)}, study.yaml declares {declared}."
            )
