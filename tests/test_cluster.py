"""What we do about the jobs in a SLURM queue, with a `squeue` of our own; tests/cluster has a real one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ontogeny.cluster import QueuedJob, Watch, queued_jobs, require_none_left, settle
from ontogeny.errors import OntogenyError

Rows = list[tuple[str, str, str]]  # number, state, reason
Queue = Callable[[Rows], None]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """A queue with jobs of this folder, of another folder, and of another program; scancel removes the first kind."""
    table, tools = tmp_path / "queue", tmp_path / "bin"
    tools.mkdir()
    scripts = {
        "squeue": f"cat {table}",
        "scancel": f'for job in "$@"; do echo "$job" >> {tmp_path}/cancelled; sed -i "/^$job|/d" {table}; done',
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def fill(rows: Rows) -> None:
        mine = [f"{number}|{state}|{reason}|ontogeny_1|{tmp_path}|rule_train" for number, state, reason in rows]
        table.write_text("\n".join([*mine, f"98|RUNNING|None|ontogeny_2|{tmp_path}/elsewhere|x",
                                    f"99|RUNNING|None|other|{tmp_path}|x", ""]))  # fmt: skip

    fill([])
    return fill


def cancelled(folder: Path) -> list[str]:
    record = folder / "cancelled"
    return record.read_text().split() if record.exists() else []


def test_only_our_jobs_of_this_folder_count(queue: Queue, tmp_path: Path) -> None:
    queue([("7", "RUNNING", "None")])
    assert queued_jobs(tmp_path) == [QueuedJob("7", "RUNNING", "None", "rule_train")]


def test_a_slurm_that_does_not_answer_is_not_an_empty_queue(queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "queue").unlink()
    assert queued_jobs(tmp_path) is None


def test_without_slurm_there_is_nothing_to_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queued_jobs(tmp_path) is None
    settle(tmp_path, pytest.fail, pytest.fail)


def test_running_jobs_of_a_dead_controller_are_waited_for_and_waiting_ones_cancelled(
    queue: Queue, tmp_path: Path
) -> None:
    queue([("7", "RUNNING", "None"), ("8", "PENDING", "Resources")])
    said: list[str] = []
    waits = 0

    def sleep(seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            queue([])

    settle(tmp_path, said.append, sleep)
    assert cancelled(tmp_path) == ["8"]
    assert waits == 3
    assert len(said) == 1
    assert "scancel 7" in said[0]


def test_a_job_that_will_never_start_is_named_once(queue: Queue, tmp_path: Path) -> None:
    queue([("7", "PENDING", "PartitionTimeLimit"), ("8", "PENDING", "Resources")])
    watch = Watch(tmp_path, patience=100, every=10)
    advice = watch.look(True, 0.0)
    assert len(advice) == 1
    assert "job 7 (rule_train) waits for PartitionTimeLimit" in advice[0]
    assert watch.look(True, 20.0) == []
    assert cancelled(tmp_path) == []


def test_a_job_that_slurm_failed_to_launch_is_cancelled(queue: Queue, tmp_path: Path) -> None:
    queue([("7", "PENDING", "(launch failed requeued held)")])
    advice = Watch(tmp_path, patience=100).look(True, 0.0)
    assert "it is cancelled and tried again" in advice[0]
    assert cancelled(tmp_path) == ["7"]


def test_waiting_for_jobs_that_are_gone_has_an_end(queue: Queue, tmp_path: Path) -> None:
    watch = Watch(tmp_path, patience=100, every=10)
    watch.look(True, 0.0)
    assert not watch.lost(99.0)
    assert watch.lost(100.0)


@pytest.mark.parametrize("sign_of_life", ["a job in the queue", "nothing under way", "no answer"])
def test_the_end_is_put_off_by_every_sign_of_life(queue: Queue, tmp_path: Path, sign_of_life: str) -> None:
    watch = Watch(tmp_path, patience=100, every=10)
    watch.look(True, 0.0)
    if sign_of_life == "a job in the queue":
        queue([("7", "RUNNING", "None")])
    if sign_of_life == "no answer":
        (tmp_path / "queue").unlink()
    watch.look(sign_of_life != "nothing under way", 50.0)
    assert not watch.lost(1000.0)
    queue([])
    watch.look(True, 1000.0)
    assert not watch.lost(1099.0)
    assert watch.lost(1100.0)


def test_jobs_that_an_earlier_run_left_are_refused(queue: Queue, tmp_path: Path) -> None:
    require_none_left(tmp_path)
    queue([("7", "RUNNING", "None"), ("8", "PENDING", "Priority")])
    with pytest.raises(OntogenyError, match=r"squeue --jobs=7,8\).*scancel 7 8"):
        require_none_left(tmp_path)
    assert not cancelled(tmp_path)
