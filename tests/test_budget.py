"""Forecasts: measured where something was measured, bounds elsewhere, and compared with what came."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from ontogeny import budget
from ontogeny.budget import ALIKE, BOUND, MEASURED, Need, Task, at_least, bound, main, measured, needs, tasks, together
from ontogeny.config import load_config
from ontogeny.gpu_monitor import GpuUse, gpu_table, write_use
from ontogeny.rooms import all_studies
from ontogeny.scaffold import ROOT
from ontogeny.settings import validate
from ontogeny.study import Resources, load_study, plan

STUDY = all_studies()[0]


def task(folder: Path, stage: str, unit: str = "", gpus: float = 0.0, row: str = "", **limits: float) -> Task:
    benchmark = folder / "benchmarks" / (f"train/{unit}.tsv" if unit else f"{stage}.tsv")
    typed = validate(Resources, {"runtime": 60, "mem_mb": 2000, "disk_mb": 100, **limits}, "here")
    return Task("s", stage, unit, benchmark, (folder / f"out-{stage}{unit}",), typed, gpus, ("s", stage, row or unit))


def record(job: Task, seconds: float, memory: str = "500.5", megabytes: int = 0) -> None:
    job.benchmark.parent.mkdir(parents=True, exist_ok=True)
    job.benchmark.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:10\t{memory}\n")
    if megabytes:
        job.outputs[0].mkdir(parents=True, exist_ok=True)
        (job.outputs[0] / "x").write_bytes(bytes(megabytes * 2**20))


def test_a_job_that_never_ran_counts_with_its_limits(tmp_path: Path) -> None:
    job = task(tmp_path, "train", "a-s0-1", gpus=0.5)
    assert measured(job) is None
    assert bound(job) == Need(3600, 2000, 100, 1800, BOUND)


def test_a_job_that_ran_counts_as_measured(tmp_path: Path) -> None:
    job = task(tmp_path, "train", "a-s0-1", gpus=1)
    record(job, 90, megabytes=3)
    assert measured(job) == Need(90, 500.5, 3, 0, MEASURED)  # on the CPU, whatever it may ask for
    write_use(gpu_table(job.benchmark), GpuUse("H100", 0.5, 80, 1, 1, 1))
    assert measured(job) == Need(90, 500.5, 3, 40, MEASURED)


@pytest.mark.parametrize("text", ["", "s\tmax_rss\n", "s\tmax_rss\nNA\t1\n", "max_rss\n1\n"])
def test_a_benchmark_that_says_nothing_measures_nothing(tmp_path: Path, text: str) -> None:
    job = task(tmp_path, "probe")
    job.benchmark.parent.mkdir(parents=True)
    job.benchmark.write_text(text)
    assert measured(job) is None


def test_memory_of_a_job_too_quick_to_be_sampled_is_zero(tmp_path: Path) -> None:
    job = task(tmp_path, "probe")
    record(job, 0.1, memory="NA")
    assert measured(job) == Need(0.1, 0, 0, 0, MEASURED)


def test_other_seeds_of_a_row_count_like_their_longest_brother(tmp_path: Path) -> None:
    jobs = [task(tmp_path, "train", f"a-s{seed}-{seed}", row="a") for seed in range(3)]
    jobs.append(task(tmp_path, "train", "b-s0-0", row="b"))
    record(jobs[0], 10)
    record(jobs[1], 20)
    known = needs(jobs)
    assert [known[job.name].basis for job in jobs] == [MEASURED, MEASURED, ALIKE, BOUND]
    assert known[jobs[2].name].seconds == 20


def test_sums_chains_and_the_shortest_time(tmp_path: Path) -> None:
    jobs = [task(tmp_path, "prepare"), task(tmp_path, "probe")]
    jobs += [task(tmp_path, "train", f"a-s{seed}-{seed}", gpus=1, row=f"{seed}", threads=2) for seed in range(4)]
    known = {job.name: Need(10, 100, 1, 10 * job.gpus, MEASURED) for job in jobs}
    found = together(jobs, known)
    assert (found.jobs, found.bounds, found.seconds, found.chain) == (6, 0, 60, 30)
    assert (found.memory, found.disk, found.gpu_seconds) == (100, 6, 40)
    assert at_least(jobs, known, cores=16, gpus=0) == 30  # prepare, train, probe
    assert at_least(jobs, known, cores=2, gpus=0) == 50  # (10 + 10 + 4 x 10 x 2 threads) / 2
    assert at_least(jobs, known, cores=16, gpus=1) == 40  # one training after the other


def test_every_job_of_a_scale_is_there() -> None:
    config = load_config({"scale": "paper"}, "here")
    jobs = tasks(config, "here")
    trainings = {job.name for job in jobs if job.stage == "train"}
    assert trainings == {f"{study} train {run}" for study in all_studies() for run in plan(study, "paper").runs}
    assert len({job.name for job in jobs}) == len(jobs)
    for stage in ("prepare", "probe", "claims", "figures", "export"):
        assert {job.group for job in jobs if job.stage == stage} == set(all_studies())
    limits = {job.limits for job in jobs if job.group == STUDY and job.stage == "train"}
    assert limits == {load_study(STUDY).stage_resources("train", "paper")}


def test_the_cpu_takes_no_gpu_hours() -> None:
    hours = {
        device: sum(
            bound(job).gpu_seconds for job in tasks(load_config({"scale": "paper", "device": device}, "x"), "x")
        )
        for device in ("auto", "cpu")
    }
    assert hours["auto"] > 0
    assert hours["cpu"] == 0


def test_the_limits_of_jobs_without_a_study_are_those_of_their_rules() -> None:
    for stage, limits in budget.FIXED.items():
        text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
        rule = re.search(rf"^rule {stage}:\n((?:[ \t].*\n|\n)+)", text + "\n", re.MULTILINE)
        assert rule is not None
        assert f"mem_mb={limits.mem_mb}," in rule[1]
        assert f"runtime={limits.runtime}," in rule[1]


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"scale: smoke\nstudies: [{STUDY}]\n")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_before_anything_ran_everything_is_a_bound(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys)
    jobs = tasks(load_config({"scale": "smoke", "studies": STUDY}, "x"), "x")
    assert f"{len(jobs)} jobs, from the beginning" in text
    assert "0 jobs measured in results/smoke" in text
    assert f"{len(jobs)} by the limits in study.yaml" in text
    assert "→" not in text
    assert (here / "results" / "smoke" / "forecast.json").exists()


def test_after_a_run_forecast_and_fact_stand_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys)
    jobs = tasks(load_config({"scale": "smoke", "studies": STUDY}, "x"), "x")
    later = time.time() + 5
    for job in jobs:
        seconds = 100000 if job.stage == "probe" else 30
        record(job, seconds)
        os.utime(job.benchmark, (later, later))
    for _ in range(2):  # the comparison can be asked for again
        text = said(capsys)
        assert f"{len(jobs)} jobs measured in results/smoke" in text
        assert f"for the {len(jobs)} of {len(jobs)} jobs that ran since they were forecast" in text
        most = load_study(STUDY).stage_resources("probe", "smoke").runtime
        assert f"Above its limit: {STUDY} probe: 27 h 47 min of time (resources.probe.runtime: {most}" in text
        assert re.search(r"^together +\d+ +≤ .* → ", text, re.MULTILINE)


def test_what_ran_before_the_forecast_is_known_and_not_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for job in tasks(load_config({"scale": "smoke", "studies": STUDY}, "x"), "x"):
        record(job, 30)
        os.utime(job.benchmark, (1, 1))
    text = said(capsys)
    assert "0 by the limits" in text
    assert "→" not in text
    assert "≤ " not in text.split("Known from")[0]


def test_a_forecast_of_one_study_leaves_those_of_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = all_studies()[1]
    said(capsys, f"studies={STUDY} {other}")
    before = budget.read_kept(here / "results/smoke/forecast.json")
    said(capsys, f"studies={STUDY}")
    after = budget.read_kept(here / "results/smoke/forecast.json")
    assert before.keys() == after.keys()
    assert before[f"{other} probe"] == after[f"{other} probe"]


def test_a_kept_forecast_that_cannot_be_read_is_made_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "results" / "smoke").mkdir(parents=True)
    for text in ("{", "[]", '{"jobs": {"x": {}}}', '{"jobs": 3}'):
        (here / "results" / "smoke" / "forecast.json").write_text(text)
        assert "from the beginning" in said(capsys)


def test_gpu_limits_on_a_machine_without_one_are_called_what_they_are(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "devices_here", lambda: ())
    assert "there is no GPU here" in said(capsys, "scale=paper")
    assert "device: cpu" in said(capsys, "scale=paper", "device=cpu")
    monkeypatch.setattr(budget, "devices_here", lambda: ("GPU-a",))
    text = said(capsys, "scale=paper")
    assert "far longer" not in text
    assert "1 GPU)" in text


def test_a_bad_configuration_is_one_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale=papr"]) == 1
    assert "did you mean 'paper'" in capsys.readouterr().err
