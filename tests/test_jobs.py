"""The frame of a job: which errors a further attempt may try again, and a training that is asked to end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ontogeny.errors import DivergedTraining, Interrupted
from ontogeny.jobs import TERMINATED, job
from ontogeny.outcome import log_message
from ontogeny.run import Run, RunConfig, State
from ontogeny.stages.train import on_sigterm, sole_owner


def attempt(folder: Path, number: int, error: BaseException | None = None) -> bool:
    """One attempt at a job that raises `error`; whether it came to do anything."""
    snakemake: Any = SimpleNamespace(log=[str(folder / "job.log")], resources={"attempt": number})
    begun = False
    with job(snakemake):
        begun = True
        if error is not None:
            raise error
    return begun


def test_an_error_of_its_own_is_not_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        attempt(tmp_path, 1, DivergedTraining("the loss is not finite"))
    for number in (2, 3):
        with pytest.raises(SystemExit) as end:
            attempt(tmp_path, number)
        assert end.value.code == 1
        assert "the loss is not finite" in log_message((tmp_path / "job.log").read_text(), since=0.0)
        (tmp_path / "job.log").unlink()  # as Snakemake does
    assert "another one would meet again" in capsys.readouterr().out
    assert attempt(tmp_path, 1), "a new command begins anew"


def test_a_bug_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        attempt(tmp_path, 1, ZeroDivisionError("in the code"))
    with pytest.raises(SystemExit):
        attempt(tmp_path, 2)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_lack_of_memory_is_tried_again(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        attempt(tmp_path, 1, error)
    assert attempt(tmp_path, 2)


def test_an_interruption_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        attempt(tmp_path, 1, Interrupted("asked to end"))
    assert end.value.code == TERMINATED
    assert attempt(tmp_path, 2)


def test_a_kill_after_a_mended_error_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        attempt(tmp_path, 1, DivergedTraining("the loss is not finite"))
    assert attempt(tmp_path, 1)
    assert attempt(tmp_path, 2)


def count(run: Run, end_at: int | None) -> torch.Tensor:
    """A training of ten steps in which SIGTERM arrives during a step."""
    state: State = {"sum": torch.zeros(1)}
    with on_sigterm(run.ask_to_end):
        for step in run.steps(10, state):
            if step == end_at:
                os.kill(os.getpid(), signal.SIGTERM)
            state["sum"] += step  # type: ignore[operator]
    assert isinstance(state["sum"], torch.Tensor)
    return state["sum"]


def test_a_training_that_is_asked_to_end_saves_the_step_it_is_in(tmp_path: Path) -> None:
    config = RunConfig("s", "smoke", "r-s0-0", "r", None, (0,), "cpu")
    with pytest.raises(Interrupted, match="step 5 of 10"):
        count(Run(config, tmp_path / "state", "me", save_seconds=1000), end_at=4)
    assert count(Run(config, tmp_path / "state", "me", save_seconds=1000), end_at=None) == sum(range(10))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_training_that_is_asked_to_end_in_its_last_step_loses_nothing(tmp_path: Path) -> None:
    config = RunConfig("s", "smoke", "r-s0-0", "r", None, (0,), "cpu")
    with pytest.raises(Interrupted):
        count(Run(config, tmp_path / "state", "me"), end_at=9)
    assert count(Run(config, tmp_path / "state", "me"), end_at=None) == sum(range(10))


def test_one_process_at_a_time_holds_a_run(tmp_path: Path) -> None:
    state = tmp_path / "state" / "r-s0-0"
    child = os.fork()
    if child == 0:
        with sole_owner(state):
            (tmp_path / "held").touch()
            signal.pause()
    while not (tmp_path / "held").exists():
        pass
    threading.Timer(0.3, os.kill, (child, signal.SIGKILL)).start()
    with sole_owner(state) as waited:
        assert waited
    os.waitpid(child, 0)
    with sole_owner(state) as waited:
        assert not waited
    assert not state.parent.exists()
