"""About how long a run still takes, from its own finished jobs and from the benchmarks of earlier runs."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from ontogeny.events import Board, Job

GUESS = {"train": 60.0}  # seconds, when nothing is known yet
GUESS_OTHER = 5.0


def clock(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Forecast:
    """Expected seconds of jobs. Earlier benchmarks are read once, at the start."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._earlier = read_benchmarks(results)

    def expected(self, board: Board, rule: str) -> float:
        """Seconds that a job of `rule` takes, as far as is known."""
        done = [seconds for job, seconds in board.finished if job.rule == rule]
        known = done or self._earlier.get(rule)
        return statistics.mean(known) if known else GUESS.get(rule, GUESS_OTHER)

    def running(self, job: Job, now: float, expected: float | None = None) -> tuple[float, float]:
        """(share that is done, seconds left) of a running job: from its progress file, else from what is expected."""
        elapsed = now - job.started
        progress = self._progress(job)
        if progress and progress["seconds_left"] is not None:
            left = float(progress["seconds_left"])
        else:
            left = max((expected or self._mean(job.rule)) - elapsed, 1.0)
        return elapsed / (elapsed + left) if elapsed + left > 0 else 0.0, left

    def left(self, board: Board, now: float) -> float:
        """Seconds until everything is done, if the jobs go on side by side as they do now."""
        running = [self.running(job, now, self.expected(board, job.rule))[1] for job in board.running.values()]
        pending = sum(count * self.expected(board, rule) for rule, count in board.pending().items())
        if not running and not pending:
            return 0.0
        return max([(sum(running) + pending) / max(len(running), 1), *running])

    def _mean(self, rule: str) -> float:
        known = self._earlier.get(rule)
        return statistics.mean(known) if known else GUESS.get(rule, GUESS_OTHER)

    def _progress(self, job: Job) -> dict[str, Any] | None:
        """What a running training says of itself, if it has said anything."""
        wildcards = job.wildcards
        if job.rule != "train":
            return None
        folder = self._results / wildcards["scale"] / wildcards["study"] / "state" / wildcards["run"]
        try:
            content: dict[str, Any] = json.loads((folder / "progress.json").read_text())
        except (OSError, ValueError):
            return None
        return content


def read_benchmarks(results: Path) -> dict[str, list[float]]:
    """Rule -> seconds of its jobs in earlier runs, from Snakemake's benchmark tables below `results`."""
    found: dict[str, list[float]] = defaultdict(list)
    for path in sorted(results.glob("*/*/benchmarks/**/*.tsv")):
        rule = path.parent.name if path.parent.name != "benchmarks" else path.stem
        rows = path.read_text().splitlines()
        try:
            seconds = float(rows[1].split("\t")[0])
        except (IndexError, ValueError):  # the job was killed before its row was written
            continue
        found[rule].append(seconds)
    return dict(found)
