"""The few lines that a person watches while Snakemake works."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO

from ontogeny.events import Board, Job
from ontogeny.forecast import Forecast, clock, training_progress

PLAIN_EVERY = 10.0  # seconds between two lines when the output is not a terminal
NAMED = 3  # running jobs that such a line names


class Display:
    """Redraws a few lines on a terminal; elsewhere says each finished job, and now and then how far the whole is."""

    def __init__(self, board: Board, forecast: Forecast, stream: TextIO | None = None) -> None:
        self.board, self.forecast = board, forecast
        self._stream = stream or sys.stdout
        self.live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._quiet = False
        self._drawn = 0
        self._told_finished = self._told_failed = 0
        self._started = self._last = time.time()

    def ending(self) -> None:
        """Say that the run was asked to end; what happens from here on is not shown."""
        self.say("Ending the jobs; Ctrl-C once more kills them.")
        self._quiet = True

    def update(self) -> None:
        """Show the present state."""
        if self._quiet:
            return
        now = time.time()
        self._tell_failures()
        if self.live:
            self._redraw(self.lines(now))
            return
        for job, seconds in self.board.finished[self._told_finished :]:
            self._write(f"done: {job.label} ({clock(seconds)})\n")
        self._told_finished = len(self.board.finished)
        if now - self._last >= PLAIN_EVERY and self.board.total:
            self._last = now
            self._write(self.plain_line(now) + "\n")

    def say(self, text: str) -> None:
        """Say something once."""
        if self.live:
            self._redraw([])
        self._write(f"{text}\n")

    def close(self) -> None:
        """Take the live lines away; the last plain lines are said."""
        self.update()
        if self.live and not self._quiet:
            self._redraw([])

    def headline(self, now: float) -> str:
        """The whole: jobs, time so far, time left."""
        board = self.board
        if not board.total:
            return f"working out what there is to do ({clock(now - self._started)})"
        failed = f" ({len(board.failed)} failed)" if board.failed else ""
        head = f"{len(board.finished)} of {board.total} jobs done{failed}, {clock(now - self._started)} so far"
        busy = board.running or board.pending().total()
        return f"{head}, about {clock(max(self.forecast.left(board, now), 1))} left" if busy else head

    def lines(self, now: float) -> list[str]:
        """One line for the whole, one for each running job, as many as the terminal can hold."""
        room = max(shutil.get_terminal_size().lines - 3, 1)
        jobs = list(self.board.running.values())
        shown = jobs if len(jobs) <= room else jobs[: room - 1]
        more = [f"  and {len(jobs) - len(shown)} more"] if len(shown) < len(jobs) else []
        return [f"Ontogeny: {self.headline(now)}", *(f"  {self.job_line(job, now)}" for job in shown), *more]

    def job_line(self, job: Job, now: float) -> str:
        """Study, stage and run; how far; how long still."""
        step, elapsed = training_progress(job), clock(now - job.started)
        if step is None:
            return f"{job.label}: {elapsed}"
        name = step.phase if step.number == 1 else f"{step.phase} (phase {step.number})"
        left = "" if step.left is None else f", about {clock(step.left)} left"
        return f"{job.label}: {name} {step.share:.0%}{left}"

    def plain_line(self, now: float) -> str:
        """The whole and the running jobs on one line."""
        jobs = [self.job_line(job, now) for job in self.board.running.values()]
        more = [f"{len(jobs) - NAMED} more"] if len(jobs) > NAMED else []
        return "; ".join([self.headline(now), *jobs[:NAMED], *more])

    def _tell_failures(self) -> None:
        for job in self.board.failed[self._told_failed :]:
            self.say(f"failed: {job.label}, see {', '.join(job.log)}")
        self._told_failed = len(self.board.failed)

    def _redraw(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._write(f"{up}\x1b[J" + "".join(f"{line[:width]}\n" for line in lines))
        self._drawn = len(lines)

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
