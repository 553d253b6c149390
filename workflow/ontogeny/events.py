"""What a running or planned Snakemake says, event by event (see snakemake_logger_plugin_ontogeny)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGETS = ("total", "all", "smoke")  # entries of Snakemake's statistics that are no work


@dataclass
class Job:
    """One job: which rule, for what, and why."""

    number: int
    rule: str
    wildcards: dict[str, str]
    reason: str
    output: list[str]
    log: list[str]
    started: float = 0.0

    @property
    def label(self) -> str:
        """Study, stage and run, as a person names them."""
        names = (self.wildcards.get(key) for key in ("study", "source"))
        return " · ".join(name for name in (*names, self.rule, self.wildcards.get("run")) if name)


@dataclass
class Board:
    """The state of a run, built up from its events. `planned` counts jobs by rule."""

    planned: Counter[str] = field(default_factory=Counter)
    jobs: dict[int, Job] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    finished: list[tuple[Job, float]] = field(default_factory=list)
    failed: list[Job] = field(default_factory=list)

    def take(self, event: dict[str, Any], now: float) -> None:
        """Account for one event that was seen at the time `now`, in seconds."""
        kind = event["event"]
        if kind == "run_info" and "stats" in event:
            self.planned = Counter({rule: n for rule, n in event["stats"].items() if rule not in TARGETS})
        elif kind == "job_info" and event["rule_name"] not in TARGETS:
            job = Job(
                event["jobid"], event["rule_name"], event["wildcards"] or {}, event["reason"],
                event["output"], event["log"], now,
            )  # fmt: skip
            self.jobs[job.number] = self.running[job.number] = job
        elif kind == "job_finished":
            self._finish(event["job_id"], now)
        elif kind == "job_error" and event["jobid"] in self.running:
            self.failed.append(self.running.pop(event["jobid"]))

    def _finish(self, number: int, now: float) -> None:
        job = self.running.pop(number, None)
        if job is not None:
            self.finished.append((job, now - job.started))

    @property
    def total(self) -> int:
        """How many jobs there are in all."""
        return sum(self.planned.values())

    def pending(self) -> Counter[str]:
        """Jobs that have not started, by rule."""
        begun = Counter(job.rule for job in self.jobs.values())
        return self.planned - begun


class EventFile:
    """A file of JSON lines that another process is appending to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """The events that were completed since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
