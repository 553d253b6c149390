"""Bad configuration is refused before any job starts, with the file, the key and the nearest valid one."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ontogeny import rooms, study
from ontogeny.config import load_config
from ontogeny.errors import ConfigError
from ontogeny.scaffold import TEMPLATES
from ontogeny.settings import read_yaml
from ontogeny.sources import load_registry
from tests.workflow.conftest import Checkout


@pytest.fixture
def alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The scaffold's study `alpha` as the only one; its settings module comes from the scaffold too."""
    folder = tmp_path / "alpha"
    folder.mkdir()
    text = (TEMPLATES / "study.yaml").read_text().replace("@slug@", "alpha")
    (folder / "study.yaml").write_text(text)
    found = importlib.util.spec_from_file_location("alpha_settings", TEMPLATES / "settings.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "alpha_settings", module)
    found.loader.exec_module(module)
    monkeypatch.setattr(rooms, "STUDIES", tmp_path)
    monkeypatch.setattr(study, "part", lambda slug, name: module)
    clear()
    yield folder / "study.yaml"
    clear()


def clear() -> None:
    rooms.all_studies.cache_clear()
    rooms.all_bases.cache_clear()
    study.load_room.cache_clear()


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"scal": "smoke"}, r"mine\.yaml: scal: unknown key; did you mean 'scale'"),
    ({"scale": "lapto"}, r"mine\.yaml: scale: .*did you mean 'laptop'"),
    ({"device": "gpu"}, r"mine\.yaml: device: .*cuda"),
    ({"studies": "alpa"}, r"mine\.yaml: studies: there is no study 'alpa'; did you mean 'alpha'"),
    ({"studies": ["alpha", "beta"]}, r"mine\.yaml: studies: there is no study 'beta'"),
    ({"studies": []}, r"mine\.yaml: studies: is empty"),
    ({"studies": 3}, r"mine\.yaml: studies"),
    ({"seeds": 0}, r"mine\.yaml: seeds: .*greater than or equal to 1"),
    ({"seeds": -2}, r"mine\.yaml: seeds"),
    ({"seeds": 2.5}, r"mine\.yaml: seeds: .*integer"),
    ({"seeds": "many"}, r"mine\.yaml: seeds: .*integer"),
    ({"overrides": {"alpa": {}}}, r"mine\.yaml: overrides: there is no study 'alpa'; did you mean 'alpha'"),
    ({"overrides": {"alpha": {"sweeep": {}}}}, r"mine\.yaml: overrides\.alpha\.sweeep: .*did you mean 'sweep'"),
    ({"overrides": {"alpha": {"seeds": 0}}}, r"mine\.yaml: overrides\.alpha\.seeds"),
    ({"overrides": {"alpha": {"sweep": {"decai": {}}}}}, r"mine\.yaml: overrides\.alpha\.sweep\.decai: .*'decay'"),
    ({"overrides": {"alpha": {"sweep": {"decay": {"step": 9}}}}}, r"overrides\.alpha\.sweep\.decay\.step: .*'steps'"),
    ({"overrides": {"alpha": {"sweep": {"decay": {"steps": 3}}}}}, r"sweep\.decay\.steps: .*equal to 10 \(found 3\)"),
    ({"overrides": {"alpha": {"sweep": {"decay": {"steps": "x"}}}}}, r"sweep\.decay\.steps: .*integer"),
    ({"overrides": {"alpha": {"sweep": {"decay": {"learning_rates": []}}}}}, r"learning_rates: .*at least 1 item"),
    ({"overrides": {"alpha": {"sweep": {"decay": {"seeds": 0}}}}}, r"sweep\.decay: seeds .*at least 1 \(found 0\)"),
    ({"overrides": {"alpha": {"sweep": {"decay": None}}}}, r"mine\.yaml: overrides\.alpha\.sweep: no row is left"),
    ({"overrides": {"alpha": {"data": {"curvature": -1}}}}, r"overrides\.alpha\.data\.curvature: .*greater than 0"),
    ({"overrides": {"alpha": {"data": {"curve": 1}}}}, r"overrides\.alpha\.data\.curve: .*did you mean 'curvature'"),
]


@pytest.mark.parametrize(("content", "message"), CONFIGS)
def test_a_bad_config_is_refused(alpha: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(content, "mine.yaml")


def test_a_good_config_is_taken(alpha: Path) -> None:
    config = load_config({"scale": "smoke", "studies": "alpha", "seeds": 2}, "mine.yaml")
    assert [run.seeds for run in config.plan("alpha", "smoke", "mine.yaml").runs.values()] == [(0, 1)]


def test_overrides_belong_to_the_configured_scale(alpha: Path) -> None:
    config = load_config({"scale": "laptop", "overrides": {"alpha": {"seeds": 2}}}, "mine.yaml")
    assert sum(len(run.seeds) for run in config.plan("alpha", "laptop", "mine.yaml").runs.values()) == 2
    assert sum(len(run.seeds) for run in config.plan("alpha", "smoke", "mine.yaml").runs.values()) == 3


def test_seeds_are_cut_in_fixed_blocks(alpha: Path) -> None:
    def names(seeds: int) -> list[str]:
        change = {"sweep": {"decay": {"seeds": seeds, "seeds_per_run": 4}}}
        return list(study.plan("alpha", "smoke", change).runs)

    assert names(8) == ["decay-s0-3", "decay-s4-7"]
    assert names(9) == ["decay-s0-3", "decay-s4-7", "decay-s8-8"]


def remove(key: str) -> Any:
    return lambda content: content.pop(key)


def put(path: str, value: Any) -> Any:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


STUDIES: list[tuple[Any, str]] = [
    (remove("question"), r"study\.yaml: question: is missing"),
    (put("titel", "x"), r"study\.yaml: titel: unknown key; did you mean 'title'"),
    (put("slug", "beta"), r"study\.yaml: slug: is 'beta', but the folder is 'alpha'"),
    (put("claims.c1.tests.relative_error.above", 0), r"relative_error: .*exactly one of"),
    (put("claims.c1.tests.relative_error", {"statement": "s"}), r"relative_error: .*exactly one of"),
    (put("claims.c1.tests", {}), r"claims\.c1\.tests"),
    (put("resources.trian", {}), r"resources\.trian: unknown stage; did you mean 'train'"),
    (put("tables", {}), r"study\.yaml: tables"),
    (put("paper.yaer", 2000), r"study\.yaml: paper\.yaer: unknown key; did you mean 'year'"),
]


@pytest.mark.parametrize(("change", "message"), STUDIES)
def test_a_bad_study_is_refused(alpha: Path, change: Any, message: str) -> None:
    content = copy.deepcopy(yaml.safe_load(alpha.read_text()))
    change(content)
    alpha.write_text(yaml.safe_dump(content))
    clear()
    with pytest.raises(ConfigError, match=message):
        study.load_study("alpha")


def test_a_scale_that_drops_an_unknown_row_is_refused(alpha: Path) -> None:
    content = yaml.safe_load(alpha.read_text())
    content["scales"]["smoke"]["sweep"] = {"decai": None}
    alpha.write_text(yaml.safe_dump(content))
    clear()
    with pytest.raises(ConfigError, match=r"sweep\.decai: no such row; did you mean 'decay'"):
        study.plan("alpha", "smoke")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not valid YAML"), ("- 1", "mapping"), (None, "cannot be read")]
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_the_list_of_sources_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("mnist: {kind: dataset}\n")
    with pytest.raises(ConfigError, match=r"sources\.yaml"):
        load_registry(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "scale=lapto"), "did you mean 'laptop'"),
        (("--config", "studies=alpa"), "did you mean 'alpha'"),
        (("--config", "overrides={alpha: {sweep: {decay: {steps: 1}}}}"), "greater than or equal to 10"),
        (("results/smoke/alpha/runs/decay-s7-9",), "has no run 'decay-s7-9'"),
    ],
)
def test_snakemake_stops_with_the_message_and_writes_nothing(
    small: Checkout, arguments: tuple[str, ...], message: str
) -> None:
    before = set(small.path.rglob("results/**/*"))
    done = small.snakemake("--cores", "1", *arguments)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback (most recent call last)" not in done.stdout
    assert set(small.path.rglob("results/**/*")) == before
