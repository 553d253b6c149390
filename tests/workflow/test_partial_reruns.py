"""Change one thing, and exactly what depends on it would run again."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from ontogeny.rooms import all_studies
from ontogeny.study import load_study, plan
from tests.workflow.conftest import SMOKE, Checkout

STUDY = all_studies()[0]
OTHER = all_studies()[-1]
AFTER = ("probe", "claims", "figures", "export")  # the stages after training, in order


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
    content["scales"]["smoke"].setdefault("sweep", {}).setdefault(row, {})[key] = value


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
    assert len(mnist_studies()) == 2
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
