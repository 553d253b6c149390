"""Copies of the checkout whose workflow runs on a real SLURM cluster."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from ontogeny.cluster import QueuedJob, queued_jobs
from ontogeny.files import sha256
from tests.workflow.conftest import Checkout, scaffold_checkout

TARGET = "results/smoke/alpha/claims.json"
PROFILE = "workflow/profiles/slurm"
STUDY = "workflow/ontogeny/studies/alpha"
STEPS = 100  # of each of the trial's trainings
DEADLINE = 900.0  # seconds that a test waits for something that must happen
LIMITS = {"max_threads": 4, "max_mem_mb": 8000, "max_runtime": "1d"}
# Impatient versions of what the profile says for a cluster that people share
QUICK = ("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10")


class Trial(Checkout):
    """A checkout whose one study, `alpha`, trains slowly enough to be disturbed, and writes down each step it takes."""

    def __init__(self, path: Path, seeds: int = 4, partition: str = "cpu", **settings: str) -> None:
        """settings: environment variables of the controller and its jobs."""
        self.path = path
        scaffold_checkout(path)
        self.settings = {"TRIAL_PAUSE": "0.12", **settings}
        shutil.copy(Path(__file__).with_name("misdeeds.py"), path / STUDY)
        self.edit("study.yaml", "smoke: {seeds: 3, seeds_per_run: 3}", f"smoke: {{seeds: {seeds}, seeds_per_run: 2}}")
        self.edit("train.py", "        optimiser.step(", "        step_of(config.run, step)\n        optimiser.step(")
        self.edit("train.py", "State\n", "State\nfrom ontogeny.studies.alpha.misdeeds import step_of\n")
        self.partitions({partition: LIMITS, "gpu": {**LIMITS, "max_gpu": 2}})
        self.process: subprocess.Popen[bytes] | None = None
        self.log = path / "terminal.log"

    def edit(self, name: str, old: str, new: str) -> None:
        """Change the first `old` in a file of the study into `new`."""
        file = self.path / STUDY / name
        text = file.read_text()
        assert old in text, f"{name} does not contain {old!r}"
        file.write_text(text.replace(old, new, 1))

    def partitions(self, table: dict[str, dict[str, object]]) -> None:
        """Write the site's table of partitions."""
        (self.path / "partitions.yaml").write_text(yaml.safe_dump({"partitions": table}))

    @property
    def environment(self) -> dict[str, str]:
        """Of a controller and its jobs: the site's partitions, trainings that save often, and what the trial sets."""
        ours = {"SNAKEMAKE_SLURM_PARTITIONS": str(self.path / "partitions.yaml"), "ONTOGENY_SAVE_SECONDS": "0.5"}
        return {**super().environment, **ours, **self.settings}

    def command(self, *options: str, target: str = TARGET) -> list[str]:
        """The command that a user repeats."""
        words = ["-m", "ontogeny.reproduce", target, "--profile", PROFILE, *QUICK, *options]
        return [sys.executable, *words, "--config", "scale=smoke"]

    def start(self, *options: str, target: str = TARGET) -> None:
        """Run the command in a process group of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(*options, target=target), cwd=self.path, env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def finish(self) -> int:
        """Wait for the end of the command; its exit status."""
        assert self.process is not None
        return self.process.wait(timeout=DEADLINE)

    def said(self) -> str:
        """What the user has seen so far."""
        return self.log.read_text() if self.log.exists() else ""

    def jobs(self, purpose: str = "") -> list[QueuedJob]:
        """Our jobs in the queue whose purpose contains a word."""
        return [job for job in queued_jobs(self.path) or () if purpose in job.purpose]

    def training(self) -> QueuedJob:
        """Wait until trainings are under way and one has saved its state; that job."""
        self.wait(lambda: len(self.steps()) > 0 and bool(self.states()), "a training to save its state")
        run_name = self.states()[0].parent.name
        self.wait(lambda: bool(self.jobs(run_name)), f"the job of {run_name}")
        return self.jobs(run_name)[0]

    def states(self) -> list[Path]:
        """The saved states of running trainings."""
        return sorted(self.path.glob("results/smoke/alpha/state/*/phase-*.safetensors"))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that must happen before the command ends."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"waited {DEADLINE} s for {what}\n{self.said()[-3000:]}"
            time.sleep(0.1)

    def steps(self) -> Counter[tuple[str, int]]:
        """How often each step of each run was taken."""
        lines = [
            (file.name.removeprefix("steps-"), line.split())
            for file in self.path.glob("steps-*")
            for line in file.read_text().splitlines()
        ]
        return Counter((name, int(words[1])) for name, words in lines if len(words) == 3)

    def repeated(self) -> int:
        """How many steps were taken more than once, counting each time."""
        return sum(count - 1 for count in self.steps().values())

    def processes(self, word: str) -> list[psutil.Process]:
        """The processes of this trial's jobs whose command line contains a word, on whatever node."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.path) and word in " ".join(process.cmdline()):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def kill(self, number: signal.Signals = signal.SIGKILL, whole_group: bool = True) -> None:
        """Signal the controller, with its Snakemake or without."""
        assert self.process is not None
        if whole_group:
            children = psutil.Process(self.process.pid).children(recursive=True)
            for process in children:
                process.send_signal(number)
        self.process.send_signal(number)
        self.process.wait(timeout=DEADLINE)

    def tables(self) -> dict[str, str]:
        """Every file that must be the same bits as a local run's -> its digest."""
        roots = [self.path / "results/smoke/alpha" / name for name in ("data", "runs", "probes")]
        files = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
        stable = [path for path in files if path.name != ".snakemake_timestamp"] + [self.path / TARGET]
        return {str(path.relative_to(self.path)): sha256(path) for path in stable}
