"""How far a job is, for a person who watches: a small file that `make reproduce` shows, and a line in the log."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from ontogeny.files import write_json

log = logging.getLogger("ontogeny.progress")

LOG_EVERY = 6  # reports: the file is for the eye, the log is for keeping


class Progress:
    """Reports the steps of one job every few seconds. A step costs a look at the clock, no more."""

    def __init__(self, study: str, stage: str, run: str, path: Path, every: float = 5.0) -> None:
        """`path` is the file that is rewritten every `every` seconds."""
        self._label = f"{study} · {stage} · {run}"
        self._names = {"study": study, "stage": stage, "run": run}
        self._path = path
        self._every = every
        self._phase = ""
        self._number = 0
        self._reports = 0
        self._due = time.monotonic() + every
        self._started = 0.0
        self._first = 0

    def update(self, done: int, total: int, phase: str) -> None:
        """Say that `done` of `total` steps of `phase` are finished.

        Each phase has its own speed, measured from the end of its first step (which may go on from a saved state).
        """
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._number = phase, self._number + 1
            self._started, self._first = now, done
        if now >= self._due:
            self._due = now + self._every
            self._report(done, total, now)

    def _report(self, done: int, total: int, now: float) -> None:
        left = self._seconds_left(done, total, now)
        write_json(self._path, self._content(done, total, left))
        if self._reports % LOG_EVERY == 0:
            time_left = "" if left is None else f", about {round(left)} s left"
            percent = 100 * done // total
            log.info("%s: %s step %d of %d (%d %%)%s", self._label, self._phase, done, total, percent, time_left)
        self._reports += 1

    def _seconds_left(self, done: int, total: int, now: float) -> float | None:
        """Seconds to the end of the phase; None while its speed is not known."""
        if done == self._first:
            return 0.0 if done == total else None
        return (now - self._started) / (done - self._first) * (total - done)

    def _content(self, done: int, total: int, left: float | None) -> dict[str, Any]:
        seconds = None if left is None else round(left)
        phase = {"phase": self._phase, "phase_number": self._number}
        return {**self._names, **phase, "done": done, "total": total, "seconds_left": seconds}
