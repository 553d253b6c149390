"""The whole programme at the papers' own scale stays a graph that Snakemake plans in seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ontogeny.budget import tasks
from ontogeny.config import load_config
from ontogeny.rooms import all_studies
from tests.workflow.conftest import Checkout, name_of

MOST_JOBS = 5000


def test_every_seed_and_sweep_point_of_every_paper_is_a_graph_of_moderate_size(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    checkout = Checkout(tmp_path)
    before = os.times()
    planned = checkout.planned("--config", "scale=paper")
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    record_property("jobs", len(planned))
    record_property("cpu seconds of the dry run", seconds)
    print(f"{len(planned)} jobs of {len(all_studies())} studies, planned in {seconds:.1f} s of CPU")
    assert len(planned) < MOST_JOBS
    expected = {job_name(job.group, job.stage, job.unit) for job in tasks(load_config({"scale": "paper"}, "x"), "x")}
    assert planned == expected


def job_name(group: str, stage: str, unit: str) -> str:
    """A job of the forecast as the checkout names it."""
    wildcards = {"source": unit} if stage == "acquire" else {"study": group, "run": unit}
    return stage if stage == "report" else name_of(stage, wildcards)
