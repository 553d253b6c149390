"""Every study, end to end at smoke scale, through Snakemake."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from ontogeny.files import Folder
from ontogeny.rooms import all_studies
from ontogeny.study import load_study, plan
from tests.workflow.conftest import SMOKE, Checkout


def test_nothing_is_left_to_do(smoke: Checkout) -> None:
    assert smoke.planned(*SMOKE) == set()


@pytest.mark.parametrize("study", all_studies())
def test_every_output_of_a_study_is_there_and_whole(smoke: Checkout, study: str) -> None:
    folder, spec = smoke.path / "results" / "smoke" / study, load_study(study)
    for run in plan(study, "smoke").runs:
        published = Folder(folder / "runs" / run)
        assert all(published.file(name) for name in published.manifest)
    tables = Folder(folder / "probes")
    for name, table in spec.tables.items():
        frame = tables.table(f"{name}.parquet")
        assert list(frame.columns) == list(table.columns)
        assert len(frame) > 0
    for name in spec.figures:
        assert all((folder / "figures" / f"{name}.{kind}").stat().st_size > 1000 for kind in ("pdf", "svg", "png"))
    assert not (folder / "state").exists()


@pytest.mark.parametrize("study", all_studies())
def test_every_claim_has_a_verdict(smoke: Checkout, study: str) -> None:
    content = json.loads((smoke.path / "results" / "smoke" / study / "claims.json").read_text())
    assert [claim["claim"] for claim in content["claims"]] == list(load_study(study).claims)
    assert {claim["verdict"] for claim in content["claims"]} <= {"holds", "fails", "inconclusive", "out of scope"}


@pytest.mark.parametrize("study", all_studies())
def test_executed_notebooks_show_no_error_and_load_nothing(smoke: Checkout, study: str) -> None:
    folder = smoke.path / "results" / "smoke" / study
    cells = json.loads((folder / "notebook.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert 'src="http' not in (folder / "notebook.html").read_text()
    assert str(smoke.path) not in (folder / "notebook.ipynb").read_text()


def test_the_atlas_holds_every_test_of_every_claim(smoke: Checkout) -> None:
    table = pd.read_csv(smoke.path / "results" / "smoke" / "report" / "claims.csv")
    expected = {(s, c, t) for s in all_studies() for c, claim in load_study(s).claims.items() for t in claim.tests}
    assert set(zip(table.study, table.claim, table.test, strict=True)) == expected


def test_snakemake_makes_its_own_report(smoke: Checkout) -> None:
    done = smoke.snakemake("--report", "report.zip", *SMOKE)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (smoke.path / "report.zip").stat().st_size > 100_000
