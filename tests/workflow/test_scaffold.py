"""The scaffold makes a study that works as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from ontogeny.errors import ConfigError
from ontogeny.scaffold import destinations, main, make_study
from tests.workflow.conftest import SMOKE, Checkout, scaffold_checkout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The scaffold's study, run at smoke scale through Snakemake."""
    checkout = scaffold_checkout(tmp_path_factory.mktemp("scaffold"))
    done = checkout.module("ontogeny.reproduce", "--cores", "2", *SMOKE)
    assert done.returncode == 0, done.stdout
    return checkout


def test_a_new_study_runs_through_to_the_atlas(finished: Checkout) -> None:
    assert "alpha" in (finished.path / "results/smoke/report/index.html").read_text()
    assert finished.planned(*SMOKE) == set()


def test_the_new_studys_own_test_passes(finished: Checkout) -> None:
    done = finished.module("pytest", "tests/studies/test_alpha.py", "-n", "0")
    assert done.returncode == 0, done.stdout


def test_a_second_run_has_nothing_to_do_and_says_so(finished: Checkout) -> None:
    done = finished.module("ontogeny.reproduce", "--cores", "2", *SMOKE)
    assert done.returncode == 0
    assert "Nothing to do" in done.stdout


def test_the_author_is_told_what_to_fill_in(tmp_path: Path) -> None:
    files = make_study("beta", tmp_path)
    assert {path.name for path in files} >= {"study.yaml", "train.py", "beta.ipynb", "test_beta.py"}
    assert (
        "FILL IN"
        in destinations("beta", tmp_path)[next(t for t in destinations("beta") if t.name == "study.yaml")].read_text()
    )
    assert not any("@slug@" in path.read_text() for path in files)


@pytest.mark.parametrize("name", ["Beta", "2fast", "with-dash", "", "a b"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="lower-case"):
        make_study(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_taken_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study("beta", tmp_path)
    with pytest.raises(ConfigError, match="exists already"):
        make_study("beta", tmp_path)
    assert main([]) == 2
    assert "NAME=" in capsys.readouterr().err
