"""One run at a time in a folder, and what a run that was killed leaves behind.

A Snakemake that is killed outright leaves its lock, and may leave jobs that go on computing. Our own lock is one that
the kernel lets go of, so whoever holds it knows that both are stale.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from ontogeny.errors import OntogenyError
from ontogeny.forecast import SNAKEMAKE

PATIENCE = 5.0  # seconds that a process gets to end before it is killed
LOOK_AGAIN = 1.0  # seconds between two tries to get a lock that somebody holds
DRY = {"-n", "--dry-run", "--dryrun"}


@contextmanager
def sole_run(folder: Path = SNAKEMAKE, patience: float = 0.0) -> Iterator[None]:
    """Hold this working folder; the kernel lets go of it when the process dies, however it dies.

    Raises OntogenyError if another run still holds it after `patience` seconds.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "ontogeny.lock").open("a+") as handle:
        if not _locked(handle, time.monotonic() + patience):
            handle.seek(0)
            raise OntogenyError(
                f"{Path.cwd()}: another `make reproduce` (process {handle.read().strip()}) is running here; "
                "wait for it, or end it with Ctrl-C."
            )
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def _locked(handle: IO[str], deadline: float) -> bool:
    """Try to lock a file until `deadline`; whether that succeeded."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_AGAIN)
        else:
            return True


def clear_leftovers(events: Path, folder: Path = SNAKEMAKE) -> int:
    """End what a killed run left running here, remove its lock, and return the number of processes that were ended.

    `events` is the file that our own Snakemakes write to. Raises OntogenyError if somebody else's is at work here.
    """
    working = Path.cwd()
    here = processes_in(working)
    mine = [process for process in here if is_snakemake(process) and _watched_by_us(process, events)]
    others = [process for process in here if is_snakemake(process) and process not in _with_children(mine)]
    locks = list((folder / "locks").glob("*.lock"))
    if others and locks:
        raise OntogenyError(
            f"{working}: a Snakemake (process {others[0].pid}) is running here; wait for it, or end it with Ctrl-C."
        )
    jobs = [process for process in here if f"{folder.name}/scripts/" in " ".join(_command(process))]
    kept = set(_with_children(others))
    orphans = [process for process in _with_children([*mine, *jobs]) if process not in kept]
    end(orphans)
    for lock in locks:
        lock.unlink(missing_ok=True)
    return len(orphans)


def processes_in(working: Path) -> list[psutil.Process]:
    """The processes that work in a folder, without this one, its parents, and those of cluster jobs.

    A job may run on the controller's own machine; `ontogeny.cluster` sees to it.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in own and Path(process.cwd()) == working and not _in_cluster_job(process):
                found.append(process)
    return found


def _in_cluster_job(process: psutil.Process) -> bool:
    """Whether a process belongs to a SLURM job other than the one, if any, that this process is in."""
    return process.environ().get("SLURM_JOB_ID") not in (None, os.environ.get("SLURM_JOB_ID"))


def is_snakemake(process: psutil.Process) -> bool:
    """Whether a process is a Snakemake that runs jobs; a dry run disturbs nobody."""
    words = _command(process)
    return any(Path(word).name == "snakemake" for word in words[:4]) and not DRY.intersection(words)


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error, OSError):
        return process.cmdline()
    return []


def _watched_by_us(process: psutil.Process, events: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return process.environ().get("ONTOGENY_EVENTS") == str(events)
    return False


def _with_children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    found = dict.fromkeys(processes)
    for process in processes:
        with suppress(psutil.Error, OSError):
            found.update(dict.fromkeys(process.children(recursive=True)))
    return list(found)


def end(processes: Sequence[psutil.Process]) -> None:
    """Ask processes to end, and kill those that do not within a few seconds."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=PATIENCE)[1]:
        with suppress(psutil.Error):
            process.kill()


def end_group(group: int) -> None:
    """End what is left of a process group whose leader is gone."""
    members = [process for process in psutil.process_iter() if _group_of(process) == group]
    end(members)


def _group_of(process: psutil.Process) -> int:
    with suppress(OSError):
        return os.getpgid(process.pid)
    return -1


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process and its children, as a terminal does."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
