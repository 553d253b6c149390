"""What a running or planned Snakemake says, event by event (see snakemake_logger_plugin_ontogeny)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGETS = ("total", "all", "smoke")  # entries of Snakemake's statistics that are no work
LOCAL = ("acquire", *TARGETS)  # rules that never go to a cluster (`localrules`)
GROUPS = {"acquire": "sources", "report": "atlas"}  # rules that belong to no study


@dataclass
class Job:
    """One job: which rule, for what, and why. `started` is a time of day in seconds."""

    number: int
    rule: str
    wildcards: dict[str, str]
    reason: str
    output: list[str]
    log: list[str]
    started: float = 0.0
    input: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        """The study of the job, or what stands in its place."""
        return self.wildcards.get("study", GROUPS.get(self.rule, self.rule))

    @property
    def unit(self) -> str:
        """The run or source of the job; empty for stages that have one job a study."""
        return self.wildcards.get("run", self.wildcards.get("source", ""))

    @property
    def label(self) -> str:
        """Study, stage and run, as a person names them."""
        return " · ".join(filter(None, (self.group, self.rule, self.unit)))


@dataclass
class Board:
    """The state of a run, built up from its events. `planned` counts jobs by rule; `finished` has their seconds."""

    planned: Counter[str] = field(default_factory=Counter)
    jobs: dict[int, Job] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    finished: list[tuple[Job, float]] = field(default_factory=list)
    failures: dict[int, Job] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    remote: bool = False  # whether jobs go to a cluster

    def take(self, event: dict[str, Any], now: float) -> None:
        """Account for one event; `now` is its time, unless it names its own."""
        kind, now = event["event"], event.get("time", now)
        if kind == "run_info" and "stats" in event:
            self.planned = Counter({rule: n for rule, n in event["stats"].items() if rule not in TARGETS})
        elif kind == "resources_info" and "nodes" in event:
            self.remote = True
        elif kind == "job_info" and event["rule_name"] not in TARGETS:
            self._start(event, now)
        elif kind == "job_finished":
            self._finish(event["job_id"], now)
        elif kind == "job_error":
            self._fail(event["jobid"])
        elif kind == "error" and event.get("message"):
            self.errors.append(event["message"])

    def _start(self, event: dict[str, Any], now: float) -> None:
        files = {key: list(event.get(key) or []) for key in ("input", "output", "log")}
        job = Job(
            event["jobid"], event["rule_name"], event["wildcards"] or {}, event["reason"], started=now, **files
        )  # fmt: skip
        self.jobs[job.number] = self.running[job.number] = job
        self.failures.pop(job.number, None)  # a second attempt

    def _finish(self, number: int, now: float) -> None:
        job = self.running.pop(number, None)
        if job is not None:
            self.finished.append((job, max(now - job.started, 0.0)))

    def _fail(self, number: int) -> None:
        job = self.running.pop(number, None)
        if job is not None:
            self.failures[number] = job

    @property
    def waits_for_queue(self) -> bool:
        """Whether a job is under way that lies on a cluster."""
        return any(job.rule not in LOCAL for job in self.running.values())

    @property
    def failed(self) -> list[Job]:
        """The jobs that failed and were not tried again."""
        return list(self.failures.values())

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
