"""How far a job is, for a person who watches: a line on the terminal, and a small file for other programs."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ontogeny.files import write_json

log = logging.getLogger("ontogeny.progress")


class Progress:
    """Reports the steps of one job every few seconds."""

    def __init__(self, study: str, stage: str, run: str, path: Path, every: float = 5.0) -> None:
        self._label = f"{study} · {stage} · {run}"
        self._names = {"study": study, "stage": stage, "run": run}
        self._path = path
        self._every = every
        self._phase = ""
        self._started = self._reported = time.monotonic()
        self._first = 0

    def update(self, done: int, total: int, phase: str) -> None:
        """Say that `done` of `total` steps of `phase` are finished."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._started, self._first = phase, now, done - 1
        if now - self._reported < self._every:
            return
        self._reported = now
        left = (now - self._started) / max(done - self._first, 1) * (total - done)
        log.info(
            "%s: %s step %d of %d (%d %%), about %d s left",
            self._label,
            phase,
            done,
            total,
            100 * done // total,
            round(left),
        )
        write_json(
            self._path,
            {**self._names, "phase": phase, "done": done, "total": total, "seconds_left": round(left)},
        )
