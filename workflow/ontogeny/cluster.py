"""The jobs that we have in a SLURM queue: those that a dead controller left, and those that will never start.

Snakemake's SLURM plugin submits and follows jobs. What it does not do is done here, for `ontogeny.reproduce`: before a
start, find the jobs that an earlier Snakemake left in this folder (submitted again, they would be computed twice); and
while one runs, notice the jobs that SLURM will never start and a Snakemake that waits for jobs that are gone.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ontogeny.errors import OntogenyError

PREFIX = "ontogeny_"  # how our jobs' names begin: slurm-jobname-prefix in workflow/profiles/slurm
ANSWER = 30.0  # seconds that SLURM gets to answer
LOOK_AGAIN = 10.0  # seconds between two looks at jobs that are waited for
BROKEN = ("launch failed requeued held",)  # a hiccup of SLURM's: only cancelling and submitting again helps
# Reasons of SLURM's (squeue --format=%r) for which a job waits until somebody changes something
NEVER = (
    *BROKEN, "job requeued in held state", "JobHeldAdmin", "JobHeldUser", "PartitionTimeLimit", "PartitionNodeLimit",
    "BadConstraints", "InvalidAccount", "InvalidQOS", "DependencyNeverSatisfied", "QOSMaxWallDurationPerJobLimit",
    "AssocMaxWallDurationPerJobLimit", "PartitionDown", "PartitionInactive",
)  # fmt: skip


@dataclass(frozen=True)
class QueuedJob:
    """A job that has not ended: SLURM's number, state and reason for waiting, and what it is for."""

    number: str
    state: str
    reason: str
    purpose: str


def queued_jobs(folder: Path) -> list[QueuedJob] | None:
    """Our jobs in the queue that were submitted from `folder`; None if there is no SLURM, or it does not answer."""
    if shutil.which("squeue") is None:
        return None
    fields = "%i|%T|%r|%j|%Z|%k"
    command = ["squeue", "--noheader", f"--user={getpass.getuser()}", f"--format={fields}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split("|", 5) for line in done.stdout.splitlines() if line.count("|") >= 5]
    ours = [row for row in rows if row[3].startswith(PREFIX) and Path(row[4]) == folder]
    return [QueuedJob(number, state, reason, purpose) for number, state, reason, _, _, purpose in ours]


def cancel(jobs: Sequence[QueuedJob]) -> None:
    """Take jobs out of the queue; a training among them saves its state and goes on when it is submitted again."""
    if jobs:
        numbers = [job.number for job in jobs]
        subprocess.run(["scancel", *numbers], check=False, capture_output=True, timeout=ANSWER)


def settle(folder: Path, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for the jobs that a dead controller left running here, and cancel those that have not begun.

    What they finish need not be done again. The wait is bounded by their own time limits.
    """
    told: set[str] = set()
    while jobs := queued_jobs(folder):
        cancel([job for job in jobs if job.state == "PENDING"])
        running = {job.number for job in jobs if job.state != "PENDING"}
        if running - told:
            say(
                f"An earlier run left {len(running)} jobs running on the cluster; waiting for them, so that nothing is "
                f"computed twice. To stop them instead: scancel {' '.join(sorted(running))}"
            )
            told |= running
        if running:
            sleep(LOOK_AGAIN)


def require_none_left(folder: Path) -> None:
    """Raise OntogenyError if the queue has jobs that an earlier Snakemake left running here.

    A new Snakemake would submit them again, and remove what they write meanwhile.
    """
    if jobs := queued_jobs(folder):
        numbers = " ".join(job.number for job in jobs)
        raise OntogenyError(
            f"{folder}: an earlier run left jobs on the cluster, which would be computed twice. Wait for them (squeue "
            f"--jobs={numbers.replace(' ', ',')}) or stop them (scancel {numbers}), and run again; `make reproduce` "
            "waits by itself."
        )


class Watch:
    """Looks at the queue now and then while Snakemake runs."""

    def __init__(self, folder: Path, patience: float, every: float = 60.0) -> None:
        """patience: seconds that Snakemake may wait for jobs of which the queue has none; every: between two looks."""
        self._folder, self._patience, self._every = folder, patience, every
        self._told: set[str] = set()
        self._due = 0.0
        self._gone_since: float | None = None

    def look(self, waiting: bool, now: float) -> list[str]:
        """What there is to tell, if a look is due. waiting: whether Snakemake has jobs that it thinks are running."""
        if now < self._due:
            return []
        jobs = queued_jobs(self._folder)
        self._due = now + self._every
        if jobs is None or jobs or not waiting:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = now
        stuck = [job for job in jobs or () if _stuck(job) and job.number not in self._told]
        cancel([job for job in stuck if job.reason.strip("()") in BROKEN])
        self._told |= {job.number for job in stuck}
        return [_advice(job) for job in stuck]

    def lost(self, now: float) -> bool:
        """Whether Snakemake has waited too long for jobs that the queue does not have."""
        return self._gone_since is not None and now - self._gone_since >= self._patience


def _stuck(job: QueuedJob) -> bool:
    return job.state == "PENDING" and job.reason.strip("()") in NEVER


def _advice(job: QueuedJob) -> str:
    if job.reason.strip("()") in BROKEN:
        return f"SLURM holds job {job.number} ({job.purpose}) after a failed launch; it is cancelled and tried again."
    return (
        f"SLURM job {job.number} ({job.purpose}) waits for {job.reason}, which will not pass by itself. Change what it "
        f"asks for (study.yaml: resources; partitions.yaml) or ask the site; scancel {job.number} ends the wait."
    )
