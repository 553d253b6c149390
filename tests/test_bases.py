"""Bases: planned like studies, named by the settings of those that build on them, opened with clear messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from ontogeny.bases import open_base
from ontogeny.config import load_config
from ontogeny.errors import ConfigError, OntogenyError
from ontogeny.local import _prepare, _train_all
from ontogeny.rooms import all_bases, all_studies
from ontogeny.sources import BasePaths, Sources
from ontogeny.study import load_study, plan


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A study's sources with fact_world at smoke scale among its bases."""
    planned, out = plan("fact_world", "smoke"), tmp_path_factory.mktemp("fact_world")
    _prepare(planned, out, [])
    _train_all(planned, out)
    opened = Sources()
    opened.bases = {"fact_world": BasePaths(out / "data", tuple(out / "runs" / name for name in planned.runs))}
    return opened


def test_bases_are_no_studies() -> None:
    assert "fact_world" in all_bases() and not set(all_bases()) & set(all_studies())
    with pytest.raises(ConfigError, match="no study 'fact_world'"):
        load_study("fact_world")
    with pytest.raises(ConfigError, match=r"studies: there is no study 'fact_world'"):
        load_config({"studies": ["fact_world"]}, "config.yaml")


def test_a_configuration_may_override_a_base() -> None:
    config = load_config({"scale": "smoke", "overrides": {"fact_world": {"data": {"rows": 500}}}}, "config.yaml")
    assert config.plan("fact_world", "smoke", "config.yaml").data["rows"] == 500


def test_a_base_gives_data_and_checkpoints(sources: Sources) -> None:
    base = open_base(sources, "fact_world")
    run, place = base.checkpoint("main", seed=1)
    networks = run.checkpoint(run.checkpoints[-1])["networks"]
    assert networks.shape[0] == len(run.config.seeds) > place == 1
    assert base.data.arrays("background.npz")["train"].ndim == 2


def test_what_a_base_lacks_is_named(sources: Sources) -> None:
    base = open_base(sources, "fact_world")
    with pytest.raises(OntogenyError, match=r"no run trained seed 99 of row 'main'.*as many seeds"):
        base.checkpoint("main", seed=99)
    with pytest.raises(OntogenyError, match=r"does not build on 'fact_word'.*'fact_world'"):
        open_base(sources, "fact_word")
    with pytest.raises(OntogenyError, match="does not build on 'fact_world'"):
        open_base(Sources.open(list[Path]()), "fact_world")


def test_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    planned = plan("fact_world", "smoke", {"data": {"rows": 10}})
    _prepare(planned, tmp_path, [])
    with pytest.raises(ConfigError, match=r"data\.rows is 10"):
        _train_all(planned, tmp_path)
