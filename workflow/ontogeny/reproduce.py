"""Run the workflow for a person who watches: which study and stage is running, how far it is, how long is left.

    python -m ontogeny.reproduce --cores all --config scale=smoke

Arguments go to Snakemake as they are. All that Snakemake and its jobs say is kept in results/logs/reproduce.log. A run
that was killed leaves nothing that has to be cleaned up by hand: the same command goes on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from ontogeny.cluster import Watch, settle
from ontogeny.display import Display
from ontogeny.engine import command, environment
from ontogeny.errors import OntogenyError
from ontogeny.events import Board, EventFile
from ontogeny.forecast import SNAKEMAKE, Forecast, planned_outputs
from ontogeny.leftovers import clear_leftovers, end_group, signal_group, sole_run
from ontogeny.outcome import conclusion, failure, interruption

RESULTS = Path("results")
LOG = RESULTS / "logs" / "reproduce.log"
EVENTS = SNAKEMAKE / "reproduce.events"
REFRESH = 0.5  # seconds
LOST = 75  # the exit status when Snakemake waits for jobs that no longer exist (sysexits.h: a passing failure)
RESTARTS = 3  # how often such a run is begun again
PATIENCE = 900.0  # seconds until a Snakemake that waits for jobs of which the queue has none counts as lost
REQUEUED = 120  # seconds that the first life of a requeued controller job gets to end
# What only asks Snakemake something, or wants the screen for itself
ASKING = {"-h", "--help", "-v", "--version", "-n", "--dry-run", "--dryrun", "--lint", "--report", "--unlock"} | {
    *("-l", "--list", "--list-rules", "-S", "--summary", "-D", "--detailed-summary", "--dag", "--rulegraph"),
    *("--filegraph", "--d3dag", "--edit-notebook", "--draft-notebook", "--delete-all-output", "--archive"),
}


class Snakemake:
    """Snakemake as a subprocess with its jobs, in a process group of their own that Ctrl-C reaches through here."""

    def __init__(self) -> None:
        EVENTS.unlink(missing_ok=True)
        LOG.parent.mkdir(parents=True, exist_ok=True)
        self._log = LOG.open("ab")
        self._log_start = self._log.tell()
        self.interrupted = 0
        self.lost = False
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str]) -> None:
        """Start; after the signals are caught here, so that Snakemake has them as a shell would give them."""
        self.process = subprocess.Popen(
            command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment(EVENTS.absolute(), watched=True),
            start_new_session=True,
        )

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Pass on the first Ctrl-C (or SIGTERM, SIGHUP) to Snakemake and its jobs; a second one kills them."""
        self.interrupted += 1
        if self.process is not None:
            signal_group(self.process.pid, signal.SIGINT if self.interrupted == 1 else signal.SIGKILL)

    def abandon(self) -> None:
        """Kill a Snakemake that waits for nothing; it ends in no other way."""
        assert self.process is not None
        self.lost = True
        signal_group(self.process.pid, signal.SIGKILL)

    def ended(self, seconds: float) -> bool:
        """Wait at most `seconds`; whether Snakemake has ended."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    @property
    def status(self) -> int:
        """The exit status, as a shell counts it."""
        code = self.process.returncode if self.process else 1
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process is not None and self.process.returncode != 0:
            end_group(self.process.pid)
        self._log.close()

    def said(self) -> str:
        """What this run has added to the log."""
        with LOG.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode(errors="replace")


@contextmanager
def passing_on(snakemake: Snakemake) -> Iterator[None]:
    """Signals that ask this process to end reach Snakemake instead."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, snakemake.interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(arguments: Sequence[str]) -> int:
    """Run Snakemake with `arguments`, show its progress, and return its exit status."""
    started = time.time()
    board, snakemake = Board(), Snakemake()
    try:
        with passing_on(snakemake):
            snakemake.start(arguments)
            follow(snakemake, board)
    finally:
        snakemake.close()
    if snakemake.lost:
        print("Snakemake waited for jobs of which the queue has none; it was ended.")
        return LOST
    if snakemake.status == 0:
        lines = conclusion(board, RESULTS, arguments, time.time() - started)
    elif snakemake.interrupted:
        lines = interruption(board)
    else:
        lines = failure(board, snakemake.status, snakemake.said(), LOG)
    print("\n".join(lines))
    return snakemake.status


def run_until_settled(arguments: Sequence[str]) -> int:
    """`run`, begun again if Snakemake lost sight of its jobs; before each start, jobs left on a cluster end."""
    status = LOST
    for _ in range(1 + RESTARTS):
        settle(Path.cwd(), lambda line: print(line, flush=True))
        clear_leftovers(EVENTS.absolute())
        status = run(arguments)
        if status != LOST:
            break
    return status


def follow(snakemake: Snakemake, board: Board) -> None:
    """Watch until Snakemake ends."""
    forecast = Forecast()
    display, events = Display(board, forecast), EventFile(EVENTS)
    watch = Watch(Path.cwd(), float(os.environ.get("ONTOGENY_PATIENCE", PATIENCE)))
    ended = announced = False
    while not ended:
        ended = snakemake.ended(REFRESH)
        known = board.total
        for event in events.new():
            board.take(event, time.time())
        if board.total and not known:
            forecast.plan(planned_outputs())
        forecast.observe(REFRESH, len(board.running))
        if snakemake.interrupted and not announced:
            announced = True
            display.ending()
        if board.remote:
            for line in watch.look(board.waits_for_queue, time.time()):
                display.say(line)
            if watch.lost(time.time()) and not snakemake.lost:
                snakemake.abandon()
        display.update()
    display.close()


def main(arguments: list[str]) -> int:
    """The command line: Snakemake's."""
    if any(word.split("=")[0] in ASKING for word in arguments):
        return subprocess.call(command(arguments, events=False))
    try:
        with sole_run(patience=float(REQUEUED if os.environ.get("SLURM_RESTART_COUNT") else 0)):
            ended = clear_leftovers(EVENTS.absolute())
            if ended:
                print(f"Ended {ended} processes that a killed run had left.", flush=True)
            return run_until_settled(arguments)
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or Path.cwd()}: {error.strerror}. Free the disk, or mend the folder.", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
