"""What a person who watches is told, and what happens when a run is killed, interrupted or started twice."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ontogeny import progress as progress_module
from ontogeny.display import Display
from ontogeny.engine import command
from ontogeny.errors import OntogenyError
from ontogeny.events import Board, EventFile
from ontogeny.forecast import Forecast, clock, expected_work, planned_outputs, record_of, training_progress
from ontogeny.leftovers import processes_in, sole_run
from ontogeny.outcome import conclusion, failure, log_message, notebook_message, scale_of
from ontogeny.progress import Progress

STATS = {"event": "run_info", "stats": {"train": 3, "probe": 1, "all": 1, "total": 5}}


def started(number: int, rule: str, run: str = "", study: str = "s") -> dict[str, Any]:
    """The event of a job that starts."""
    wildcards = {"study": study, "scale": "smoke", **({"run": run} if run else {})}
    path = f"train/{run}" if run else rule
    log = f"results/smoke/{study}/logs/{path}.log"
    output = f"results/smoke/{study}/runs/{run}" if run else f"results/smoke/{study}/{rule}"
    names = {"event": "job_info", "jobid": number, "rule_name": rule, "wildcards": wildcards, "reason": ""}
    return {**names, "output": [output], "log": [log], "input": []}


def finished(number: int) -> dict[str, Any]:
    return {"event": "job_finished", "job_id": number}


def board_of(*events: dict[str, Any]) -> Board:
    """The board after events that are a second apart."""
    board = Board()
    for moment, event in enumerate(events):
        board.take(event, float(moment))
    return board


def write(path: Path, content: Any) -> Path:
    """Write text, or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Events


def test_the_board_counts_work_and_not_targets() -> None:
    failed = {"event": "job_error", "jobid": 2}
    board = board_of(STATS, started(1, "train", "r-s0-1"), started(2, "train", "r-s2-3"), finished(1), failed)
    assert board.total == 4
    assert [(job.label, seconds) for job, seconds in board.finished] == [("s · train · r-s0-1", 2.0)]
    assert [job.label for job in board.failed] == ["s · train · r-s2-3"]
    assert board.pending() == {"train": 1, "probe": 1}
    assert not board.running


def test_a_job_that_is_tried_again_has_not_failed() -> None:
    board = board_of(STATS, started(1, "train", "r"), {"event": "job_error", "jobid": 1}, started(1, "train", "r"))
    assert board.failed == []
    assert list(board.running) == [1]


def test_an_event_knows_its_own_time() -> None:
    board = board_of(STATS, {**started(1, "probe"), "time": 50.0}, {**finished(1), "time": 57.0})
    assert board.finished[0][1] == 7.0


def test_jobs_of_no_study_have_a_name() -> None:
    event = {**started(1, "acquire"), "wildcards": {"source": "mnist"}}
    assert board_of(event).jobs[1].label == "sources · acquire · mnist"


def test_an_event_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    events = EventFile(path)
    assert list(events.new()) == []
    path.write_text('{"event": "a"}\n{"eve')
    assert [event["event"] for event in events.new()] == ["a"]
    with path.open("a") as stream:
        stream.write('nt": "b"}\n')
    assert [event["event"] for event in events.new()] == ["b"]


def test_several_configs_are_joined_and_targets_are_kept_apart() -> None:
    said = command(["--cores", "2", "--config", "scale=smoke", "out.html", "--config", "seeds=3", "--forceall"])
    assert " ".join(said[3:]) == "out.html --cores 2 --forceall --config scale=smoke seeds=3 --logger ontogeny"
    assert command(["-n", "--", "a", "b"], events=False)[3:] == ["a", "b", "-n"]


# Time left


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.6, "5 s"), (200, "3 min 20 s"), (599.6, "10 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_time_left_is_the_work_left_over_the_jobs_side_by_side(here: Path) -> None:
    board = board_of(STATS, started(1, "train", "r1"), finished(1))
    board.finished = [(board.finished[0][0], 40.0)]
    for number in (2, 3):
        board.take(started(number, "train", f"r{number}"), 100.0)
    forecast = Forecast()
    assert forecast.left(board, 110.0) == pytest.approx((30 + 30 + 5) / 2)  # two at 30 s, a probe at the guess of 5 s
    forecast.observe(30.0, 1)
    forecast.observe(10.0, 2)
    assert forecast.left(board, 110.0) == pytest.approx((30 + 30 + 5) / 1.25)


def test_time_left_goes_by_what_the_same_jobs_took_earlier(here: Path) -> None:
    for run, seconds in (("r1", 100.0), ("r2", 10.0)):
        output, log = f"results/smoke/s/runs/{run}", f"results/smoke/s/logs/train/{run}.log"
        name = urlsafe_b64encode(output.encode()).decode()
        write(here / ".snakemake/metadata" / name, {"rule": "train", "log": [log], "starttime": 0, "endtime": 7})
        write(here / f"results/smoke/s/benchmarks/train/{run}.tsv", f"s\th:m:s\n{seconds}\t0:00:10\n")
    write(here / ".snakemake/locks/0.output.lock", "results/smoke/s/runs/r1\nresults/smoke/s/runs/r2\n")
    forecast = Forecast()
    forecast.plan(planned_outputs())
    stats = {"event": "run_info", "stats": {"train": 2, "total": 2}}
    board = board_of(stats, {**started(1, "train", "r1"), "time": 0.0})
    assert forecast.left(board, 30.0) == pytest.approx(70 + 10)


def test_long_names_have_records_too(here: Path) -> None:
    output = "results/" + 300 * "x"
    name = urlsafe_b64encode(output.encode()).decode()
    write(here / ".snakemake/metadata" / f"@{name[:254]}" / name[254:], {"rule": "train"})
    assert record_of(output) == {"rule": "train"}
    assert record_of("results/y") is None


def test_a_training_says_itself_how_far_it_is(here: Path) -> None:
    said = {"phase": "train", "phase_number": 2, "done": 20, "total": 80, "seconds_left": 60}
    path = write(here / "results/smoke/s/state/r/progress.json", said)
    job = board_of(STATS, {**started(1, "train", "r"), "time": time.time() - 20}).running[1]
    step = training_progress(job)
    assert step is not None
    assert (step.share, step.number) == (0.25, 2)
    assert step.left == pytest.approx(60, abs=3)
    os.utime(path, (job.started - 10, job.started - 10))
    assert training_progress(job) is None  # a run that was killed wrote it


def test_the_work_of_jobs_that_never_ran_is_that_of_their_siblings(here: Path) -> None:
    for name, seconds in (("train/r1", 20), ("train/r2", 40), ("probe", 3)):
        write(here / f"results/smoke/s/benchmarks/{name}.tsv", f"s\th:m:s\n{seconds}\t0:00:10\n")
    write(here / "results/smoke/s/benchmarks/claims.tsv", "")
    events = [started(1, "train", "r1"), started(2, "train", "r3"), started(3, "probe"), started(4, "claims")]
    assert expected_work(list(board_of(*events).jobs.values())) == (20 + 30 + 3, 1)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_each_phase_of_a_training_has_its_own_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, path = Clock(), tmp_path / "progress.json"
    monkeypatch.setattr(progress_module, "time", ticks)
    progress = Progress("s", "train", "r", path, every=5.0)
    ticks.now = 60.0  # a slow first step
    progress.update(1, 100, "warm up")
    assert json.loads(path.read_text())["seconds_left"] is None
    for step in range(2, 12):
        ticks.now += 1.0
        progress.update(step, 100, "warm up")
    content = json.loads(path.read_text())
    assert (content["done"], content["seconds_left"], content["phase_number"]) == (11, 89, 1)
    for step in range(501, 520):  # the next phase goes on from a saved state, ten times as fast
        ticks.now += 0.1
        progress.update(step, 1000, "train")
    ticks.now += 5.0
    progress.update(520, 1000, "train")
    content = json.loads(path.read_text())
    assert (content["phase"], content["phase_number"]) == ("train", 2)
    assert content["seconds_left"] == round((18 * 0.1 + 5.0) / 19 * 480)


def test_progress_costs_nothing_between_reports(tmp_path: Path) -> None:
    progress = Progress("s", "train", "r", tmp_path / "progress.json", every=1e9)
    begun = time.perf_counter()
    for step in range(100_000):
        progress.update(step + 1, 100_000, "train")
    assert time.perf_counter() - begun < 1.0  # below 10 microseconds a step on a busy machine
    assert not list(tmp_path.iterdir())


# Display


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    encoding = "ascii"

    def __init__(self, live: bool) -> None:
        super().__init__()
        self._live = live

    def isatty(self) -> bool:
        return self._live


def test_a_terminal_shows_a_few_lines_that_fit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")
    board = board_of({"event": "run_info", "stats": {"train": 9, "total": 9}})
    for number in range(5):
        board.take(started(number, "train", f"a-run-with-a-long-name-{number}"), time.time())
    screen = Screen(live=True)
    display = Display(board, Forecast(), screen)
    display.update()
    shown = screen.getvalue().split("\x1b[J")[-1].splitlines()
    assert len(shown) <= 5
    assert all(len(line) < 40 for line in shown)
    assert "and 3 more" in shown[-1]
    display.update()
    assert "\x1b[4F\x1b[J" in screen.getvalue()  # drawn over the four lines before
    display.close()
    assert screen.getvalue().endswith("\x1b[4F\x1b[J")


def test_elsewhere_each_finished_job_is_a_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, screen = board_of(STATS, started(1, "train", "r"), finished(1), started(2, "probe")), Screen(live=False)
    display = Display(board, Forecast(), screen)
    for _ in range(5):
        display.update()
    assert screen.getvalue() == "done: s ? train ? r (1 s)\n"  # the stream knows no more than ASCII
    monkeypatch.setattr("ontogeny.display.PLAIN_EVERY", 0.0)
    display.update()
    assert "1 of 4 jobs done" in screen.getvalue()
    assert "s ? probe: " in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


# How it ends

LOG = """2026-03-01 10:00:00,123 INFO found the state
2026-03-01 10:00:05,123 ERROR the job ends here
Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in <module>
    raise DivergedTraining(
ontogeny.errors.DivergedTraining: s: run r diverged.
Lower the learning rate.
"""


def test_the_message_of_a_failed_job_is_the_last_exception_of_this_run() -> None:
    ended = time.mktime((2026, 3, 1, 10, 0, 5, 0, 0, -1))
    assert log_message(LOG, ended - 5) == "s: run r diverged.\nLower the learning rate."
    assert log_message(LOG, ended + 60) == ""
    assert log_message("killed", 0.0) == ""


def test_the_message_of_a_notebook_is_that_of_its_cell() -> None:
    outputs = [{"output_type": "stream"}, {"output_type": "error", "ename": "KeyError", "evalue": "'x'"}]
    assert notebook_message({"cells": [{"cell_type": "markdown"}, {"outputs": outputs}]}) == "KeyError: 'x'"
    assert notebook_message({"cells": []}) == ""


def test_a_refusal_is_told_without_the_places_in_the_rules() -> None:
    error = 'WorkflowError in file "/x/common.smk", line 33:\nconfig.yaml: scale: is wrong.\n  File "/x", line 3, in f'
    board = board_of({"event": "error", "message": error})
    assert failure(board, 1, "", Path("log"))[0] == "config.yaml: scale: is wrong."
    assert failure(Board(), 2, "usage\nunrecognized arguments", Path("log"))[0].endswith("unrecognized arguments")
    assert "killed" in failure(Board(), 137, "", Path("log"))[0]


def test_success_ends_with_verdicts_and_the_atlas(here: Path) -> None:
    claims = {"claims": [{"verdict": "holds"}, {"verdict": "fails"}, {"verdict": "holds"}]}
    write(here / "results/smoke/s/claims.json", claims)
    write(here / "results/smoke/old/claims.json", claims)
    write(here / "results/smoke/report/index.html", "")
    write(here / "results/smoke/report/claims.csv", "study,claim\ns,c1\n")
    lines = conclusion(Board(), Path("results"), ["--config", "scale=smoke"], 3.0)
    assert lines[0].startswith("Nothing to do")
    assert lines[1:] == ["  s: 1 fails, 2 holds", f"The atlas: {Path('results/smoke/report/index.html')}"]
    lines = conclusion(board_of(STATS, started(1, "train", "r"), finished(1)), Path("results"), [], 3.0)
    assert lines[-1] == "Done: 1 jobs in 3 s."


def test_the_scale_is_found(here: Path) -> None:
    assert scale_of(Board(), []) == "laptop"
    write(here / "config.yaml", "scale: paper\n")
    assert scale_of(Board(), []) == "paper"
    assert scale_of(Board(), ["--config", "scale=smoke"]) == "smoke"


def test_only_one_run_holds_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".snakemake"
    with sole_run(folder), pytest.raises(OntogenyError, match=f"process {os.getpid()}"), sole_run(folder):
        pass
    with sole_run(folder):
        pass


def test_a_requeued_controller_waits_for_its_first_life_to_end(tmp_path: Path) -> None:
    folder, held = tmp_path / ".snakemake", threading.Event()

    def first_life() -> None:
        with sole_run(folder):
            held.set()
            time.sleep(0.5)

    ending = threading.Thread(target=first_life)
    ending.start()
    held.wait()
    with sole_run(folder, patience=30.0):
        assert (folder / "ontogeny.lock").read_text().split() == [str(os.getpid())]
    ending.join()


def test_the_jobs_of_a_cluster_are_no_leftovers(tmp_path: Path) -> None:
    plain = {key: value for key, value in os.environ.items() if key != "SLURM_JOB_ID"}
    sleepers = [
        subprocess.Popen(["sleep", "60"], cwd=tmp_path, env=environment)
        for environment in (plain, {**plain, "SLURM_JOB_ID": "1"})
    ]
    try:
        assert [process.pid for process in processes_in(tmp_path)] == [sleepers[0].pid]
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


# The command, in a small workflow of its own

SNAKEFILE = """
rule all:
    input: "results/smoke/s/runs/r"
rule train:
    output: "results/{scale}/{study}/runs/{run}"
    log: "results/{scale}/{study}/logs/train/{run}.log"
    benchmark: "results/{scale}/{study}/benchmarks/train/{run}.tsv"
    script: "job.py"
"""
JOB = """
import os, time
from pathlib import Path
from ontogeny.errors import DivergedTraining
from ontogeny.jobs import job

with job(snakemake):
    Path("pid").write_text(str(os.getpid()))
    while not Path("go").exists():
        time.sleep(0.05)
    if Path("go").read_text() == "fail":
        raise DivergedTraining("s: run r diverged.")
    Path(snakemake.output[0]).write_text("done")
"""


class Workflow:
    """A workflow with one job, which waits for the file `go`, and the processes that were started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write(folder / "Snakefile", SNAKEFILE)
        write(folder / "job.py", JOB)
        self.runs: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        """Start `reproduce`."""
        (self.folder / "pid").unlink(missing_ok=True)
        words = [sys.executable, "-m", "ontogeny.reproduce", "--cores", "1", "--rerun-incomplete"]
        library = {"PYTHONPATH": str(Path(progress_module.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.Popen(
            words,
            cwd=self.folder,
            env={**os.environ, **library},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.runs.append(run)
        return run

    def job(self) -> psutil.Process:
        """The process of the job, once it runs."""
        text = wait_for(lambda: (self.folder / "pid").exists() and (self.folder / "pid").read_text())
        return psutil.Process(int(text))

    def end(self) -> None:
        """Leave nothing behind: only processes that were started here."""
        for run in self.runs:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)
            run.communicate(timeout=30)


def snakemake_of(run: subprocess.Popen[str]) -> psutil.Process:
    """The Snakemake that a run has started."""
    (child,) = psutil.Process(run.pid).children()
    return child


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "this never became true"
        time.sleep(0.05)
    return value


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    """A workflow, ended at last."""
    made = Workflow(tmp_path)
    yield made
    made.end()


def test_a_killed_run_goes_on_and_nothing_runs_twice(workflow: Workflow) -> None:
    first = workflow.start()
    orphan = workflow.job()
    second = workflow.start()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "another `make reproduce`" in said
    snakemake = snakemake_of(first)
    first.kill()
    snakemake.kill()
    first.communicate(timeout=60)
    assert list((workflow.folder / ".snakemake/locks").iterdir())
    assert orphan.is_running()
    third = workflow.start()
    assert workflow.job() != orphan
    assert not orphan.is_running()
    (workflow.folder / "go").touch()
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 0, said
    assert "a killed run had left" in said
    assert "Done: 1 jobs" in said


def test_ctrl_c_ends_everything_and_says_how_to_go_on(workflow: Workflow) -> None:
    run = workflow.start()
    job = workflow.job()
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1  # Snakemake's own
    assert "goes on from here" in said
    assert "failed" not in said
    assert not job.is_running()


def test_jobs_end_when_nobody_watches_any_more(workflow: Workflow) -> None:
    run = workflow.start()
    job, snakemake = workflow.job(), snakemake_of(run)
    run.kill()
    run.communicate(timeout=60)
    wait_for(lambda: not job.is_running() and not snakemake.is_running())


def test_a_failed_job_is_told_with_its_message_and_log(workflow: Workflow) -> None:
    write(workflow.folder / "go", "fail")
    run = workflow.start()
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "s · train · r failed: s: run r diverged.\n  its log: results/smoke/s/logs/train/r.log" in said
    assert "Error: s: run r diverged." in (workflow.folder / "results/logs/reproduce.log").read_text()
