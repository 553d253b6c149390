"""With the factor that a study is about taken away, its headline claims must not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ontogeny.claims import HOLDS, ClaimResult
from ontogeny.local import run_study
from ontogeny.rooms import all_studies
from ontogeny.study import World, load_study


def overrides(*worlds: World) -> dict[str, Any]:
    """The worlds laid over each other, as differences to the smoke scale."""
    merged: dict[str, Any] = {"data": {}, "sweep": {}}
    for world in worlds:
        if world.seeds is not None:
            merged["seeds"] = world.seeds
        merged["data"] |= world.data
        for row, change in world.sweep.items():
            merged["sweep"][row] = None if change is None else {**(merged["sweep"].get(row) or {}), **change}
    return merged


def headline(claims: dict[str, ClaimResult], study: str) -> ClaimResult:
    """The study's first headline claim."""
    return claims[next(name for name, claim in load_study(study).claims.items() if claim.headline)]


@pytest.mark.parametrize("study", all_studies())
def test_the_headline_holds_in_the_control_world_and_not_without_its_cause(study: str, tmp_path: Path) -> None:
    worlds = load_study(study).worlds
    control = run_study(study, "smoke", tmp_path / "control", overrides(worlds["control"]))
    assert headline(control, study).verdict == HOLDS, headline(control, study)
    ablated = run_study(study, "smoke", tmp_path / "ablated", overrides(worlds["control"], worlds["ablated"]))
    assert headline(ablated, study).verdict != HOLDS, headline(ablated, study)
