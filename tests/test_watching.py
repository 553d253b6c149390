"""What a person is told: progress, time left, errors, and why a job would run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ontogeny.events import Board, EventFile
from ontogeny.forecast import Forecast, clock, read_benchmarks
from ontogeny.progress import Progress
from ontogeny.reproduce import error_messages, sole_run, verdict_summary
from ontogeny.why import code_difference, difference, explain, report


def started(number: int, rule: str, **wildcards: str) -> dict[str, Any]:
    return {
        "event": "job_info",
        "jobid": number,
        "rule_name": rule,
        "wildcards": wildcards,
        "reason": "",
        "output": [],
        "log": [],
    }


def board_of(*events: dict[str, Any]) -> Board:
    board = Board()
    for moment, event in enumerate(events):
        board.take(event, float(moment))
    return board


STATS = {"event": "run_info", "stats": {"train": 3, "probe": 1, "all": 1, "total": 5}}


def test_the_board_counts_work_and_not_targets() -> None:
    board = board_of(
        STATS,
        started(1, "train", study="s", run="r-s0-1", scale="smoke"),
        started(2, "train", study="s", run="r-s2-3", scale="smoke"),
        {"event": "job_finished", "job_id": 1},
        {"event": "job_error", "jobid": 2},
    )
    assert board.total == 4
    assert [(job.label, seconds) for job, seconds in board.finished] == [("s · train · r-s0-1", 2.0)]
    assert [job.label for job in board.failed] == ["s · train · r-s2-3"]
    assert board.pending() == {"train": 1, "probe": 1}
    assert not board.running


def test_an_event_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    events = EventFile(path)
    assert list(events.new()) == []
    path.write_text('{"event": "a"}\n{"eve')
    assert [event["event"] for event in events.new()] == ["a"]
    with path.open("a") as stream:
        stream.write('nt": "b"}\n')
    assert [event["event"] for event in events.new()] == ["b"]


def test_time_left_is_the_work_left_over_the_jobs_side_by_side(tmp_path: Path) -> None:
    board = board_of(
        STATS, started(1, "train", study="s", run="r", scale="smoke"), {"event": "job_finished", "job_id": 1}
    )
    board.finished = [(board.finished[0][0], 40.0)]
    for number in (2, 3):
        board.take(started(number, "train", study="s", run=f"r{number}", scale="smoke"), 100.0)
    left = Forecast(tmp_path).left(board, now=110.0)  # two at 30 s each, then one probe at the guess of 5 s
    assert left == pytest.approx((30 + 30 + 5) / 2)


def test_a_training_says_itself_how_long_it_takes(tmp_path: Path) -> None:
    state = tmp_path / "smoke" / "s" / "state" / "r"
    state.mkdir(parents=True)
    (state / "progress.json").write_text(json.dumps({"seconds_left": 60}))
    board = board_of(STATS, started(1, "train", study="s", run="r", scale="smoke"))
    share, left = Forecast(tmp_path).running(board.running[1], now=board.running[1].started + 20)
    assert (share, left) == (pytest.approx(0.25), 60)


def test_earlier_benchmarks_are_found_by_rule(tmp_path: Path) -> None:
    for name, seconds in (("train/r-s0-1", 30), ("train/r-s2-3", 50), ("probe", 3)):
        path = tmp_path / "laptop" / "s" / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:{seconds}\n")
    (tmp_path / "laptop" / "s" / "benchmarks" / "claims.tsv").write_text("")
    assert read_benchmarks(tmp_path) == {"train": [30.0, 50.0], "probe": [3.0]}


@pytest.mark.parametrize(("seconds", "words"), [(4.6, "5 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_progress_is_written_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    silent = Progress("s", "train", "r", path, every=1e9)
    silent.update(1, 10, "phase")
    assert not path.exists()
    Progress("s", "train", "r", path, every=0.0).update(5, 10, "phase")
    content = json.loads(path.read_text())
    assert (content["done"], content["total"], content["phase"]) == (5, 10, "phase")


def test_messages_of_failed_jobs_are_found_once() -> None:
    paragraphs = [
        "noise",
        "Error: x: is damaged.\nThe log is l",
        "Error: x: is damaged.\nThe log is l",
        "WorkflowError:\nbad key",
    ]
    said = "\n\n".join(paragraphs) + "\n"
    assert error_messages(said) == ["Error: x: is damaged.\nThe log is l", "WorkflowError:\nbad key"]


def test_only_one_run_holds_a_folder(tmp_path: Path) -> None:
    from ontogeny.errors import OntogenyError

    with (
        sole_run(tmp_path / ".snakemake"),
        pytest.raises(OntogenyError, match="another"),
        sole_run(tmp_path / ".snakemake"),
    ):
        pass
    with sole_run(tmp_path / ".snakemake"):
        pass


def test_verdicts_are_summed_up_by_claim(tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_text(
        "study,claim,test,claim_verdict\ns,c1,a,holds\ns,c1,b,holds\ns,c2,a,fails\nt,c1,a,holds\n"
    )
    assert verdict_summary(tmp_path) == "  s: 1 fails, 1 holds\n  t: 1 holds"


PARAMS = "Params have changed since last execution:"
CODE = ("ontogeny=1 ontogeny.a=2 ontogeny.b=3", "ontogeny=1 ontogeny.a=9 ontogeny.c=4")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            f"Params have changed since last execution: x: before: {CODE[0]!r} now: {CODE[1]!r} ",
            "code changed in ontogeny.a",
        ),
        (
            "Params have changed since last execution: x: before: {'lr': 0.1, 'k': 1} now: {'lr': 0.2, 'k': 1} ",
            "lr: 0.1 -> 0.2",
        ),
        (f"{PARAMS} x: before: [0, 1, 2] now: [0, 1, 2, 3] ", "seeds: 0–2 -> 0–3"),
        ("Missing output files: results/x", "has not been made yet (results/x)"),
        ("Input files updated by another job: results/y", "follows a job above (results/y)"),
        ("Code has changed since last execution", "its script changed"),
        ("Something new", "Something new"),
    ],
)
def test_reasons_are_put_into_words(reason: str, words: str) -> None:
    event = {**started(1, "train", study="s"), "reason": reason}
    assert words in explain(board_of(event).jobs[1])


def test_nested_settings_are_named_by_their_path() -> None:
    assert difference({"c1": {"at": 1, "b": 2}}, {"c1": {"at": 3, "b": 2}}) == ["c1.at: 1 -> 3"]


def test_notebooks_and_modules_that_came_or_went_are_named() -> None:
    said = code_difference({"notebooks/s.ipynb": "1", "ontogeny.a": "1"}, {"notebooks/s.ipynb": "2", "ontogeny.b": "1"})
    assert said == [
        "the notebook changed (notebooks/s.ipynb)",
        "imports now ontogeny.b",
        "no longer imports ontogeny.a",
    ]


def test_nothing_to_do_is_said() -> None:
    assert "Nothing to do" in report(Board())
