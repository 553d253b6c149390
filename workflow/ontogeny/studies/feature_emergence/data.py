"""Multiplication tables of groups, and their real irreducible parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ontogeny.errors import ConfigError
from ontogeny.files import Folder, OutFolder
from ontogeny.sources import Sources
from ontogeny.studies.feature_emergence.groups import Parts, check_group, decompose, multiplication_table
from ontogeny.studies.feature_emergence.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write one npz for each group: table (M, M) and the fields of `Parts`."""
    for group in settings.groups:
        table = multiplication_table(group)
        check_group(table)
        parts = decompose(table)
        out.save_arrays(_file(group), table=table, **vars(parts))


def _file(group: str) -> str:
    return f"group-{group.replace(':', '_')}.npz"


@dataclass(frozen=True)
class GroupData:
    """A group's multiplication table (M, M) and its parts."""

    table: np.ndarray
    parts: Parts


def load_group(data: Folder, group: str) -> GroupData:
    """What `prepare` wrote for a group. Raises ConfigError if it was not asked to."""
    if _file(group) not in data.manifest:
        raise ConfigError(f"feature_emergence: the sweep uses the group {group}, which data.groups does not list.")
    arrays = data.arrays(_file(group))
    return GroupData(arrays.pop("table"), Parts(**arrays))
