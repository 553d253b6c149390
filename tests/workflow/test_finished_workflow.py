"""Every study at smoke scale through Snakemake: whole, up to date, and partly run again after a change.

One file, because all of its tests use the same finished workflow.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pandas as pd
import pytest

from ontogeny.files import Folder
from ontogeny.rooms import all_studies
from ontogeny.study import load_study, plan
from tests.workflow.conftest import SMOKE, Checkout

STUDY = all_studies()[0]
OTHER = all_studies()[-1]
AFTER = ("probe", "claims", "figures", "export")  # the stages after training, in order


# -------------------------------------------------------------------------------------------- everything is there


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


# --------------------------------------------------- change one thing, and exactly what depends on it would run again


def runs(study: str) -> list[str]:
    return list(plan(study, "smoke").runs)


def downstream(study: str, first: str = "probe") -> set[str]:
    """The jobs from stage `first` on, and the atlas."""
    return {f"{stage} {study}" for stage in AFTER[AFTER.index(first) :]} | {"report"}


def training(study: str, names: list[str]) -> set[str]:
    return {f"train {study} {name}" for name in names}


def whole(study: str) -> set[str]:
    return {f"prepare {study}"} | training(study, runs(study)) | downstream(study)


def room(study: str, file: str) -> str:
    return f"workflow/ontogeny/studies/{study}/{file}"


def first_number(study: str) -> tuple[str, str, Any]:
    """A row of the study at smoke scale, a setting of it that is a plain number, and another valid value."""
    for run in plan(study, "smoke").runs.values():
        for key, value in run.settings.items():
            if isinstance(value, float) and 0 < value < 1:
                return run.row, key, value * 0.9
    raise AssertionError(f"{study} has no number to change")


def set_value(content: dict[str, Any], row: str, key: str, value: Any) -> None:
    rows = content["scales"]["smoke"].setdefault("sweep", {})
    rows[row] = {**rows.get(row, {}), key: value}  # a copy: rows may share their settings by an alias


def test_one_seed_more_trains_one_block(smoke: Checkout) -> None:
    first = next(iter(plan(STUDY, "smoke").runs.values()))
    seeds = 1 + sum(len(run.seeds) for run in plan(STUDY, "smoke").runs.values() if run.row == first.row)
    change = {STUDY: {"sweep": {first.row: {"seeds": seeds}}}}
    new = [run for run in plan(STUDY, "smoke", change[STUDY]).runs if run not in runs(STUDY)]
    assert len(new) == 1
    with smoke.edited_yaml("config.yaml", lambda content: content.update(overrides=change)):
        assert smoke.planned(*SMOKE) == training(STUDY, new) | downstream(STUDY)


def test_a_sweep_value_trains_its_row(smoke: Checkout) -> None:
    row, key, value = first_number(STUDY)
    with smoke.edited_yaml(room(STUDY, "study.yaml"), lambda content: set_value(content, row, key, value)):
        expected = [name for name, run in plan(STUDY, "smoke").runs.items() if run.row == row]
        assert smoke.planned(*SMOKE) == training(STUDY, expected) | downstream(STUDY)


def test_an_override_trains_its_row_of_its_study(smoke: Checkout) -> None:
    row, key, value = first_number(OTHER)
    change = {OTHER: {"sweep": {row: {key: value}}}}
    with smoke.edited_yaml("config.yaml", lambda content: content.update(overrides=change)):
        expected = [name for name, run in plan(OTHER, "smoke").runs.items() if run.row == row]
        assert smoke.planned(*SMOKE) == training(OTHER, expected) | downstream(OTHER)


def test_train_code_trains_every_run_of_its_study(smoke: Checkout) -> None:
    with smoke.edited(room(STUDY, "train.py"), lambda text: text + "\nEDITED = 1\n"):
        assert smoke.planned(*SMOKE) == training(STUDY, runs(STUDY)) | downstream(STUDY)


def test_probe_code_probes(smoke: Checkout) -> None:
    with smoke.edited(room(STUDY, "probe.py"), lambda text: text + "\nEDITED = 1\n"):
        assert smoke.planned(*SMOKE) == downstream(STUDY)


def test_claims_code_decides(smoke: Checkout) -> None:
    with smoke.edited(room(STUDY, "claims.py"), lambda text: text + "\nEDITED = 1\n"):
        assert smoke.planned(*SMOKE) == downstream(STUDY, "claims")


def test_a_criterion_decides(smoke: Checkout) -> None:
    def change(content: dict[str, Any]) -> None:
        next(iter(content["claims"].values()))["statement"] = "Another statement."

    with smoke.edited_yaml(room(STUDY, "study.yaml"), change):
        assert smoke.planned(*SMOKE) == downstream(STUDY, "claims")


def test_a_notebook_draws(smoke: Checkout) -> None:
    def add_cell(text: str) -> str:
        content = json.loads(text)
        content["cells"].append({"cell_type": "markdown", "id": "more", "metadata": {}, "source": ["More."]})
        return json.dumps(content, indent=1)

    with smoke.edited(f"notebooks/{STUDY}.ipynb", add_cell):
        assert smoke.planned(*SMOKE) == downstream(STUDY, "figures")


def mnist_studies() -> list[str]:
    return [study for study in all_studies() if "mnist" in load_study(study).sources]


def test_a_shared_module_reruns_the_studies_that_use_it(smoke: Checkout) -> None:
    assert len(mnist_studies()) >= 2
    with smoke.edited("workflow/ontogeny/mnist.py", lambda text: text + "\nEDITED = 1\n"):
        assert smoke.planned(*SMOKE) == set.union(*map(whole, mnist_studies()))


def test_a_source_checksum_acquires_and_reruns_its_studies(smoke: Checkout) -> None:
    digest = next(iter(json.loads((smoke.path / "results/sources/mnist.json").read_text())["files"].values()))
    with smoke.edited("workflow/ontogeny/sources.yaml", lambda text: text.replace(digest, digest[::-1])):
        assert smoke.planned(*SMOKE) == {"acquire mnist"} | set.union(*map(whole, mnist_studies()))


def test_the_template_builds_the_atlas(smoke: Checkout) -> None:
    with smoke.edited("workflow/report/index.html.j2", lambda text: text + "\n<!-- edited -->\n"):
        assert smoke.planned(*SMOKE) == {"report"}


def test_the_style_of_figures_draws_all(smoke: Checkout) -> None:
    with smoke.edited("workflow/ontogeny/plots.py", lambda text: text + "\nEDITED = 1\n"):
        expected = set().union(*(downstream(study, "figures") for study in all_studies()))
        assert smoke.planned(*SMOKE) == expected


@pytest.mark.parametrize(
    "file",
    ["workflow/ontogeny/run.py", "workflow/ontogeny/files.py", room(STUDY, "train.py"), room(STUDY, "claims.py")],
)
def test_comments_and_docstrings_rerun_nothing(smoke: Checkout, file: str) -> None:
    first_quote = '"""'

    def annotate(text: str) -> str:
        assert text.startswith(first_quote)
        return text.replace(first_quote, first_quote + "Said differently. ", 1) + "\n# a remark\n"

    with smoke.edited(file, annotate):
        assert smoke.planned(*SMOKE) == set()


def test_new_file_times_rerun_nothing(smoke: Checkout) -> None:
    for path in (smoke.path / "workflow" / "ontogeny").rglob("*.py"):
        os.utime(path)
    assert smoke.planned(*SMOKE) == set()


def test_why_says_what_changed(smoke: Checkout) -> None:
    row, key, value = first_number(STUDY)
    assert "Nothing to do" in smoke.module("ontogeny.why", *SMOKE).stdout
    with smoke.edited_yaml(room(STUDY, "study.yaml"), lambda content: set_value(content, row, key, value)):
        said = smoke.module("ontogeny.why", *SMOKE).stdout
        assert f"{key}: " in said
        assert f"-> {value!r}" in said
    with smoke.edited(room(STUDY, "train.py"), lambda text: text + "\nEDITED = 1\n"):
        said = smoke.module("ontogeny.why", *SMOKE).stdout
        assert f"code changed in ontogeny.studies.{STUDY}.train" in said
    with smoke.edited(f"notebooks/{STUDY}.ipynb", lambda text: text.replace("\n", "\n ", 1).replace("# ", "# A ", 1)):
        assert f"the notebook changed (notebooks/{STUDY}.ipynb)" in smoke.module("ontogeny.why", *SMOKE).stdout
