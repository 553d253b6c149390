"""Where the studies live: one folder each, found by its ``study.yaml``."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parent / "studies"


@cache
def all_studies() -> tuple[str, ...]:
    """The slugs of every study in the tree, sorted."""
    return tuple(sorted(path.parent.name for path in STUDIES.glob("*/study.yaml")))


def study_file(slug: str) -> Path:
    """The study.yaml of `slug`."""
    return STUDIES / slug / "study.yaml"


def part(slug: str, name: str) -> Any:
    """Import and return a module of a study: settings, data, train, probe, claims or bench."""
    return importlib.import_module(f"ontogeny.studies.{slug}.{name}")
