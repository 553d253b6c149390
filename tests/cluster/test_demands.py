"""What our jobs ask SLURM for, and the controller as a job of its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cluster.slurm import Cluster, output, run
from tests.cluster.trial import LIMITS, QUICK, Trial

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("trials")]  # these go on while we look at demands
ATLAS = "results/smoke/report/index.html"


def test_a_chain_of_short_stages_is_one_job(cluster: Cluster, tmp_path: Path) -> None:
    trial = Trial(tmp_path, TRIAL_PAUSE="0")
    trial.start(target=ATLAS)
    assert trial.finish() == 0, trial.said()
    log = (trial.path / "results/logs/reproduce.log").read_text()
    assert len(re.findall("has been submitted with SLURM jobid", log)) == 1 + 2 + 1 + 1  # prepare, train, chain, report
    trial.start(target=ATLAS)
    assert trial.finish() == 0
    assert "Nothing to do" in trial.said()


def test_gpu_jobs_go_where_gpus_are_and_get_one_each(cluster: Cluster, tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.edit("study.yaml", "runtime: 5, gpu: 0}", "runtime: 5, gpu: 1}")
    trial.start()
    trial.training()
    for job in trial.jobs("train"):
        asked = output("scontrol", "show", "job", job.number)
        assert "Partition=gpu" in asked
        assert "gres:gpu:1" in asked
    assert trial.finish() == 0, trial.said()
    lines = [line.split() for file in trial.path.glob("steps-*") for line in file.read_text().splitlines()]
    assert {words[2] for words in lines} == {"0", "1"}


def test_more_gpus_than_there_are_is_said_at_once(cluster: Cluster, tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.edit("study.yaml", "runtime: 5, gpu: 0}", "runtime: 5, gpu: 9}")
    trial.partitions({"gpu": {**LIMITS, "max_gpu": 9}})
    trial.start()
    assert trial.finish() == 1
    assert "Requested node configuration is not available" in (trial.path / "results/logs/reproduce.log").read_text()


def test_memory_and_time_are_those_of_the_study_and_grow(cluster: Cluster, tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.start()
    first = trial.training()
    fields = ("squeue", "-h", "-o", "%m %l", "-j")
    assert output(*fields, first.number) == "1400M 5:00"  # what study.yaml says, and Snakemake's own 400 MB
    run("scancel", first.number)
    trial.wait(lambda: bool({job.number for job in trial.jobs(first.purpose)} - {first.number}), "a second attempt")
    second = next(job for job in trial.jobs(first.purpose) if job.number != first.number)
    assert output(*fields, second.number) == "2100M 8:00"
    assert trial.finish() == 0, trial.said()


def test_the_controller_can_be_a_job_itself(cluster: Cluster, tmp_path: Path) -> None:
    """It is queued again when its time is over, and goes on."""
    trial = Trial(tmp_path)
    venv = Path(__file__).parents[2] / ".venv"
    (trial.path / ".venv").symlink_to(venv)
    script = "workflow/profiles/slurm/controller.sh"
    arguments = f"ARGS={' '.join(['results/smoke/alpha/claims.json', *QUICK])}"
    done = subprocess.run(
        ["sbatch", "--parsable", "--partition=cpu", script, "SCALE=smoke", arguments],
        cwd=trial.path, env=trial.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    number = done.stdout.strip()
    trial.training()
    run("scancel", "--batch", "--signal=USR1", number)
    trial.wait(
        lambda: output("squeue", "-h", "-j", number, "-o", "%T") == "PENDING", "the controller to be queued again"
    )
    states = ("COMPLETED", "FAILED")
    trial.wait(lambda: output("squeue", "-h", "-t", "all", "-j", number, "-o", "%T") in states, "the controller's end")
    said = (trial.path / f"controller-{number}.log").read_text()
    assert output("squeue", "-h", "-t", "all", "-j", number, "-o", "%T") == "COMPLETED", said
    assert "alpha: 1 holds" in said
    assert trial.repeated() <= 12
