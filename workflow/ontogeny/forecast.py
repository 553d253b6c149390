"""About how long a run still takes: from what jobs took earlier, from its own finished jobs, and from its trainings.

Nothing here needs to be exact. An earlier time of the same job counts most, then the mean of the jobs of its rule that
have finished in this run, then a guess; the sum is divided by the number of jobs that ran side by side so far.
"""

from __future__ import annotations

import json
import statistics
import time
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ontogeny.events import Board, Job

GUESS = {"train": 60.0}  # seconds, when nothing is known yet
GUESS_OTHER = 5.0
SNAKEMAKE = Path(".snakemake")


def clock(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 12 min, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Step:
    """How far a training says that it is: the share of its present phase, and the seconds left of it if known."""

    phase: str
    number: int
    share: float
    left: float | None


def training_progress(job: Job) -> Step | None:
    """What a running training has written about itself; None if it has not written yet."""
    if job.rule != "train" or not job.output:
        return None
    out = Path(job.output[0])
    path = out.parents[1] / "state" / out.name / "progress.json"
    try:
        written = path.stat().st_mtime
        said = json.loads(path.read_text())
        left = said["seconds_left"]
        if written < job.started:  # left by a run that was killed
            return None
        since = time.time() - written
        return Step(said["phase"], said["phase_number"], said["done"] / said["total"], left and max(left - since, 1.0))
    except (OSError, ValueError, KeyError):
        return None


class Forecast:
    """Expected seconds of the jobs of one run. Records of earlier runs are read when the plan is known."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, float]] = {}  # first log of a job -> its rule and earlier seconds
        self._busy = self._observed = 0.0

    def plan(self, outputs: Iterable[str]) -> None:
        """Look up what the jobs that will make `outputs` took earlier."""
        for output in outputs:
            record = record_of(output) or {}
            log = next(iter(record.get("log") or []), None)
            seconds = earlier_seconds(log, record)
            if log and seconds is not None:
                self._waiting[log] = (record["rule"], seconds)

    def observe(self, seconds: float, running: int) -> None:
        """Remember that `running` jobs ran side by side for `seconds`."""
        self._busy += seconds * running
        self._observed += seconds if running else 0.0

    def left(self, board: Board, now: float) -> float:
        """Seconds until everything is done."""
        running = [self.job_left(board, job, now) for job in board.running.values()]
        pending = board.pending()
        work = sum(running) + sum(self._pending_seconds(board, rule, count) for rule, count in pending.items())
        side_by_side = self._busy / self._observed if self._observed > 1 else len(running)
        most = len(running) + pending.total()
        return max([work / max(min(side_by_side, most), 1.0), *running])

    def job_left(self, board: Board, job: Job, now: float) -> float:
        """Seconds until a running job is done."""
        elapsed = now - job.started
        step = training_progress(job)
        told = step.left if step else None
        earlier = self._waiting.get(job.log[0]) if job.log else None
        if told is not None:
            return max(told, earlier[1] - elapsed if earlier else 0.0)  # a further phase may follow
        expected = earlier[1] if earlier else self._typical(board, job.rule)
        return max(expected - elapsed, 0.1 * expected)

    def _pending_seconds(self, board: Board, rule: str, count: int) -> float:
        begun = {log for job in board.jobs.values() for log in job.log}
        known = [seconds for log, (its, seconds) in self._waiting.items() if its == rule and log not in begun][:count]
        return sum(known) + (count - len(known)) * self._typical(board, rule)

    def _typical(self, board: Board, rule: str) -> float:
        known = [seconds for job, seconds in board.finished if job.rule == rule]
        known = known or [seconds for its, seconds in self._waiting.values() if its == rule]
        known = known or [seconds for job in board.running.values() if job.rule == rule for seconds in _told(job)]
        return statistics.mean(known) if known else GUESS.get(rule, GUESS_OTHER)


def _told(job: Job) -> list[float]:
    """The seconds that a running training takes in all, by what it says itself."""
    step = training_progress(job)
    return [] if step is None or step.left is None else [time.time() - job.started + step.left]


def planned_outputs() -> list[str]:
    """The files that a running Snakemake is going to make: it lists them in its lock."""
    found: list[str] = []
    for path in sorted((SNAKEMAKE / "locks").glob("*.output.lock")):
        try:
            found += path.read_text().splitlines()
        except OSError:  # the run has ended
            continue
    return found


def record_of(output: str) -> dict[str, Any] | None:
    """What Snakemake wrote down about the job that made `output` (rule, input, log, times); None if it never did."""
    code = urlsafe_b64encode(output.encode()).decode()
    pieces = [code[start : start + 254] for start in range(0, len(code), 254)]  # as long as a file name may be
    path = SNAKEMAKE.joinpath("metadata", *(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content


def earlier_seconds(log: str | None, record: dict[str, Any]) -> float | None:
    """What a job took earlier: its benchmark (which lies beside its log), else the times of its record."""
    seconds = read_benchmark(benchmark_of(log)) if log else None
    if seconds is None and record.get("starttime") and record.get("endtime"):
        return max(record["endtime"] - record["starttime"], 0.0)
    return seconds


def benchmark_of(log: str) -> Path:
    """The benchmark of the job with this log."""
    return Path(log.replace("/logs/", "/benchmarks/")).with_suffix(".tsv")


def read_benchmark(path: Path) -> float | None:
    """The seconds in one of Snakemake's benchmark tables, None if it cannot be read."""
    try:
        return float(path.read_text().splitlines()[1].split("\t")[0])
    except (OSError, IndexError, ValueError):
        return None


def expected_work(jobs: Sequence[Job]) -> tuple[float, int]:
    """Seconds that jobs took earlier in all, and the number of jobs about which nothing is known.

    A job that never ran is expected to take as long as its siblings: the same stage of the same study, then of any.
    """
    known: dict[tuple[str, ...], list[float]] = defaultdict(list)
    unknown: list[Job] = []
    total = 0.0
    for job in jobs:
        own = read_benchmark(benchmark_of(job.log[0])) if job.log else None
        if own is None:
            unknown.append(job)
            continue
        total += own
        known[job.rule, job.group].append(own)
        known[(job.rule,)].append(own)
    means = [_sibling_mean(job, known) for job in unknown]
    return total + sum(mean for mean in means if mean is not None), means.count(None)


def _sibling_mean(job: Job, known: dict[tuple[str, ...], list[float]]) -> float | None:
    if job.unit and job.log:
        found = [read_benchmark(path) for path in benchmark_of(job.log[0]).parent.glob("*.tsv")]
        seconds = [value for value in found if value is not None]
        if seconds:
            return statistics.mean(seconds)
    seconds = known.get((job.rule, job.group)) or known.get((job.rule,)) or []
    return statistics.mean(seconds) if seconds else None
