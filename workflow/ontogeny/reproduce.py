"""Run the workflow for a person who watches: which study and stage is running, how far it is, how long is left.

    python -m ontogeny.reproduce --cores all --config scale=smoke

Arguments go to Snakemake as they are. Snakemake's own output is kept in .snakemake/log/reproduce.log. A run that was
killed leaves nothing that has to be cleaned up by hand: the same command goes on.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ontogeny.errors import OntogenyError
from ontogeny.events import Board, EventFile
from ontogeny.forecast import Forecast, clock

FOLDER = Path(".snakemake")
LOG = FOLDER / "log" / "reproduce.log"
PLAIN_EVERY = 10.0  # seconds between two lines when the output is not a terminal


@contextmanager
def sole_run(folder: Path = FOLDER) -> Iterator[None]:
    """Hold this working folder; the kernel lets go of it when the process dies, however it dies.

    Raises OntogenyError if another run holds it.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "ontogeny.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OntogenyError(
                f"{Path.cwd()}: another `make reproduce` is running here; wait for it, or end it."
            ) from None
        yield


def workflow_processes(working: Path) -> list[psutil.Process]:
    """Processes of Snakemake and of its jobs that work in the folder `working`, but for this one and its parents."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            here = ("snakemake" in line or "ipykernel" in line) and Path(process.cwd()) == working
        except psutil.Error:
            continue
        if here and process.pid not in own:
            found.append(process)
    return found


def clear_leftovers(working: Path, folder: Path = FOLDER) -> None:
    """End jobs whose Snakemake is dead, and remove the lock that it left.

    Raises OntogenyError if a Snakemake is alive here: it was started by hand, and two must not share a folder.
    """
    processes = workflow_processes(working)
    alive = [p for p in processes if any(part.endswith("snakemake") for part in p.cmdline()[:3])]
    if alive:
        raise OntogenyError(f"{working}: a Snakemake (process {alive[0].pid}) is running here; wait for it, or end it.")
    for orphan in processes:
        orphan.terminate()
    for stubborn in psutil.wait_procs(processes, timeout=5)[1]:
        stubborn.kill()
    shutil.rmtree(folder / "locks", ignore_errors=True)


class Display:
    """A few lines that are redrawn on a terminal; elsewhere a line for each finished job, and one now and then."""

    def __init__(self, board: Board, forecast: Forecast) -> None:
        self.board, self.forecast = board, forecast
        self.live = sys.stdout.isatty()
        self._drawn = self._told = 0
        self._started = self._last = time.monotonic()

    def update(self) -> None:
        """Show the present state."""
        if self.live:
            self._redraw(self.lines())
            return
        now = time.monotonic()
        for job, seconds in self.board.finished[self._told :]:
            print(f"  done: {job.label} ({clock(seconds)})", flush=True)
        self._told = len(self.board.finished)
        if now - self._last >= PLAIN_EVERY and self.board.total:
            self._last = now
            print("\n".join(self.lines()), flush=True)

    def lines(self) -> list[str]:
        """One line for the whole, one for each running job."""
        board, now = self.board, time.monotonic()
        if not board.total:
            return ["Ontogeny: working out what there is to do …"]
        left = self.forecast.left(board, now)
        head = f"Ontogeny: {len(board.finished)} of {board.total} jobs done, {clock(now - self._started)} so far"
        rows = [f"{head}, about {clock(left)} left" if left else head]
        for job in board.running.values():
            share, remaining = self.forecast.running(job, now)
            rows.append(f"  {job.label}: {share:.0%}, about {clock(remaining)} left")
        return rows

    def _redraw(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        sys.stdout.write(up + "".join(f"\x1b[2K{line[:width]}\n" for line in lines) + "\x1b[J")
        sys.stdout.flush()
        self._drawn = len(lines)


def run(arguments: list[str]) -> int:
    """Run Snakemake with `arguments`, show its progress, and return its exit status."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    events = LOG.with_suffix(".events")
    events.unlink(missing_ok=True)
    board = Board()
    display = Display(board, Forecast(Path("results")))
    with LOG.open("w") as log:
        command = [sys.executable, "-m", "snakemake", *arguments, "--logger", "ontogeny"]
        environment = {**os.environ, "ONTOGENY_EVENTS": str(events)}
        started = time.monotonic()
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment) as process:
            status = _follow(process, EventFile(events), board, display)
    _conclude(board, status, time.monotonic() - started)
    return status


def _follow(process: subprocess.Popen[bytes], events: EventFile, board: Board, display: Display) -> int:
    """Watch until the process ends. A first Ctrl-C reaches Snakemake as well; wait for it to end its jobs."""
    while True:
        try:
            status = process.poll()
            for event in events.new():
                board.take(event, time.monotonic())
            display.update()
            if status is not None:
                return status
            time.sleep(0.5)
        except KeyboardInterrupt:
            print("\nStopping; the same command goes on from here.", flush=True)
            process.send_signal(signal.SIGINT)
            process.wait()
            return 130


def _conclude(board: Board, status: int, seconds: float) -> None:
    """Say how it ended: where the atlas is, or what went wrong and where to read more."""
    if status == 0:
        print(f"Done in {clock(seconds)}." if board.total else "Nothing to do: everything is up to date.")
        for path in sorted({job.output[0] for job, _ in board.finished if job.rule == "report"}):
            print(f"The atlas: {path}")
            print(verdict_summary(Path(path).parent))
        return
    messages = error_messages(LOG.read_text(errors="replace"))
    print("\n\n".join(messages) if messages else _tail(LOG))
    for job in board.failed:
        print(f"Failed: {job.label}; log: {', '.join(job.log)}")
    print(f"All that Snakemake said: {LOG}. When the cause is mended, the same command goes on from here.")


def error_messages(text: str) -> list[str]:
    """The messages of failed jobs in Snakemake's output, and those that ended it before any job."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.strip().splitlines() if line.strip()]
        if lines and lines[0].startswith(("Error: ", "WorkflowError", "MissingInputException", "LockException")):
            found.append("\n".join(lines))
    return list(dict.fromkeys(found))


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def verdict_summary(report: Path) -> str:
    """One line for each study: how many claims got which verdict, read from claims.csv."""
    import pandas as pd

    table = pd.read_csv(report / "claims.csv").drop_duplicates(["study", "claim"])
    counts = table.groupby(["study", "claim_verdict"]).size()
    return "\n".join(
        f"  {study}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts[study].items())
        for study in counts.index.get_level_values("study").unique()
    )


def main(arguments: list[str]) -> int:
    """The command line: Snakemake's."""
    try:
        with sole_run():
            clear_leftovers(Path.cwd())
            return run(arguments)
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
