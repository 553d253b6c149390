"""Where the studies live: a folder each, found by its ``study.yaml``; and the bases they build on (``base.yaml``)."""

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


@cache
def all_bases() -> tuple[str, ...]:
    """The slugs of every base in the tree, sorted: what several studies build on, prepared and trained once."""
    return tuple(sorted(path.parent.name for path in STUDIES.glob("*/base.yaml")))


def study_file(slug: str) -> Path:
    """The study.yaml of a study, or the base.yaml of a base."""
    return STUDIES / slug / ("base.yaml" if slug in all_bases() else "study.yaml")


@cache
def with_own_models() -> tuple[str, ...]:
    """The slugs of the studies whose probes can be pointed at a model of the user's, sorted."""
    return tuple(slug for slug in all_studies() if (STUDIES / slug / "own_settings.py").exists())


def part(slug: str, name: str) -> Any:
    """Import and return a module of a study or base: settings, data, train, probe, claims or bench."""
    return importlib.import_module(f"ontogeny.studies.{slug}.{name}")
