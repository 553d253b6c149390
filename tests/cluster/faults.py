"""The ways in which a run on a cluster is disturbed, and the trials that go through them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import psutil

from tests.cluster.slurm import Cluster, output, run
from tests.cluster.trial import LIMITS, PROFILE, QUICK, TARGET, Trial

AT_ONCE = 8  # trials side by side
SAVED_LATE = 12  # steps that one kill may cost: those since the last save, half a second before
KILLS = 50
SPARE = Lock()  # the spare nodes are there for one trial at a time


@dataclass
class Outcome:
    """What became of a trial: exit statuses of its commands, and seconds from the first to the end."""

    trial: Trial
    commands: list[int]
    seconds: float = 0.0
    note: str = ""


def once(trial: Trial, fault: Callable[[], object], *options: str) -> Outcome:
    """Start the command, do harm when a training is under way, wait for the end."""
    trial.start(*options)
    trial.training()
    fault()
    return Outcome(trial, [trial.finish()])


def again(outcome: Outcome, *options: str) -> Outcome:
    """The same command once more."""
    outcome.trial.start(*options)
    outcome.commands.append(outcome.trial.finish())
    return outcome


def cancelled(trial: Trial, cluster: Cluster) -> Outcome:
    """a training's job is cancelled (scancel)"""
    return once(trial, lambda: run("scancel", trial.training().number))


def killed(trial: Trial, cluster: Cluster) -> Outcome:
    """a training is killed outright (SIGKILL)"""
    return once(trial, lambda: trial.processes(".snakemake/scripts")[0].kill())


def too_much_memory(trial: Trial, cluster: Cluster) -> Outcome:
    """a training needs more memory than its job has"""
    outcome = once(trial, lambda: None)
    outcome.note = "tried again with half as much memory again"
    return outcome


def out_of_time(trial: Trial, cluster: Cluster) -> Outcome:
    """a training's time is over, without a warning"""
    trial.edit("study.yaml", "runtime: 5", "runtime: 1")
    return once(trial, lambda: None, "--set-resources", "train:slurm_extra='--signal=CONT@10'")  # a harmless signal


def warned(trial: Trial, cluster: Cluster) -> Outcome:
    """SLURM warns a training that its time ends (SIGTERM)"""
    return once(trial, lambda: run("scancel", "--signal=TERM", trial.training().number))


def requeued(trial: Trial, cluster: Cluster) -> Outcome:
    """an administrator requeues a training's job"""
    return once(trial, lambda: run("scontrol", "requeue", trial.training().number))


def preempted(trial: Trial, cluster: Cluster) -> Outcome:
    """jobs of a higher priority preempt the trainings"""

    def preempt() -> None:
        nodes = str(cluster.layout.spare_nodes)
        run("srun", "--partition=urgent", f"--nodes={nodes}", "--exclusive", "--mem=15000", "sleep", "5", check=True)

    with SPARE:
        return once(trial, preempt)


def node_lost(trial: Trial, cluster: Cluster) -> Outcome:
    """the node of a training loses its power"""
    with SPARE:
        trial.start()
        node = output("squeue", "-h", "-j", trial.training().number, "-o", "%N")
        cluster.crash(node)
        status = trial.finish()
        cluster.revive(node)
        trial.wait(cluster.idle, f"{node} to come back")
        return Outcome(trial, [status])


def held(trial: Trial, cluster: Cluster) -> Outcome:
    """a job is held in the queue, so that it never starts"""
    trial.start()
    trial.training()
    job = trial.jobs("train")[0]
    run("scontrol", "requeuehold", job.number)
    trial.wait(lambda: "will not pass by itself" in trial.said(), "the advice")
    run("scontrol", "release", job.number)
    return Outcome(trial, [trial.finish()], note="the command says so, and what to do")


def controller_terminated(trial: Trial, cluster: Cluster) -> Outcome:
    """the controller is asked to end (SIGTERM)"""
    outcome = once(trial, lambda: trial.kill(signal.SIGTERM, whole_group=False))
    assert not trial.jobs(), "jobs were left in the queue"
    return again(outcome)


def controller_killed(trial: Trial, cluster: Cluster) -> Outcome:
    """the controller is killed outright (SIGKILL)"""
    outcome = once(trial, trial.kill)
    assert trial.jobs("train"), "the jobs went away with the controller"
    again(outcome)
    assert "An earlier run left" in trial.said()
    outcome.note = "the second command waits for the jobs that the first left"
    return outcome


def bare_controller_killed(trial: Trial, cluster: Cluster) -> Outcome:
    """a bare Snakemake is killed and begun again at once"""
    command = [sys.executable, "-m", "snakemake", TARGET, "--profile", PROFILE, *QUICK, "--config", "scale=smoke"]
    first = subprocess.Popen(command, cwd=trial.path, env=trial.environment, stdout=subprocess.DEVNULL, stderr=-3)
    trial.training()
    first.kill()
    first.wait()
    codes = [-9]
    for _ in range(2):
        trial.snakemake("--unlock", "--config", "scale=smoke")
        with trial.log.open("ab") as log:
            again = subprocess.run(command, cwd=trial.path, env=trial.environment, stdout=log, stderr=log, check=False)
        codes.append(again.returncode)
        trial.wait(lambda: not trial.jobs(), "the jobs of the first Snakemake to end")
    if codes[1]:  # on a machine so slow that the jobs end before Snakemake has read its rules, nothing is refused
        assert "an earlier run left jobs on the cluster" in trial.said()
    outcome = Outcome(trial, [codes[0], codes[2]])
    outcome.note = "refused while jobs of the first run, then goes on"
    return outcome


def refused(trial: Trial, cluster: Cluster) -> Outcome:
    """SLURM refuses every submission (a partition that does not exist)"""
    trial.partitions({"nowhere": LIMITS})
    trial.start()
    outcome = Outcome(trial, [trial.finish()])
    assert "invalid partition" in (trial.path / "results/logs/reproduce.log").read_text()
    trial.partitions({"cpu": LIMITS})
    return again(outcome)


def own_error(trial: Trial, cluster: Cluster) -> Outcome:
    """a training fails by an error of its own"""
    trial.start()
    outcome = Outcome(trial, [trial.finish()])
    assert "the trial fails by an error of its own" in trial.said()
    assert trial.steps()["decay-s0-1", 10] == 1, "what must fail again was tried again"
    del trial.settings["TRIAL_MISDEED"]
    outcome.note = "reported; not tried again by itself"
    return again(outcome)


def accounting_down(trial: Trial, cluster: Cluster) -> Outcome:
    """the accounting database is away"""

    def outage() -> None:
        cluster.stop_accounting()
        time.sleep(30)
        cluster.start_accounting()

    return once(trial, outage)


def scheduler_restarted(trial: Trial, cluster: Cluster) -> Outcome:
    """SLURM's controller is restarted"""

    def restart() -> None:
        cluster.stop_controller()
        cluster.start_controller()

    return once(trial, restart)


def scheduler_away(trial: Trial, cluster: Cluster) -> Outcome:
    """SLURM's controller is killed, and away for 25 s"""

    def outage() -> None:
        time.sleep(6)  # state that is younger is lost with it: another fault, the next one
        cluster.stop_controller(kill=True)
        time.sleep(25)
        cluster.start_controller()

    return once(trial, outage)


def forgotten(trial: Trial, cluster: Cluster) -> Outcome:
    """SLURM forgets all jobs (its state is lost)"""
    trial.settings["ONTOGENY_PATIENCE"] = "20"

    def forget() -> None:
        cluster.stop_controller(kill=True)
        cluster.forget()
        cluster.start_controller()

    outcome = once(trial, forget)
    assert "Snakemake waited for jobs of which the queue has none" in trial.said()
    outcome.note = "noticed after ONTOGENY_PATIENCE seconds, and begun again"
    return outcome


def fifty_kills(trial: Trial, cluster: Cluster) -> Outcome:
    """trainings, Snakemakes inside jobs, whole jobs and controllers are killed at fifty random moments"""
    source = random.Random(3)
    hit = {"training": 0, "Snakemake in a job": 0, "job": 0, "controller": 0}
    with controller(trial, "--retries", "60") as keep:
        trial.training()
        while sum(hit.values()) < KILLS and not (trial.path / TARGET).exists():
            time.sleep(source.uniform(0.5, 4))
            kind = source.choices(list(hit), weights=[5, 3, 3, 1])[0]
            hit[kind] += strike(trial, kind, source)
            keep()
    assert sum(hit.values()) >= KILLS, f"the trial was over after {hit}"
    return Outcome(trial, [0], note=", ".join(f"{kind}: {count}" for kind, count in hit.items()))


@contextmanager
def controller(trial: Trial, *options: str) -> Iterator[Callable[[], None]]:
    """Keeps a command running; the function that is yielded begins it again if it has ended."""

    def keep() -> None:
        if trial.process is None or trial.process.poll() is not None:
            trial.start(*options)

    keep()
    yield keep
    assert trial.process is not None
    if trial.finish() != 0:
        trial.start(*options)
        assert trial.finish() == 0, trial.said()[-4000:]


def strike(trial: Trial, kind: str, source: random.Random) -> bool:
    """Kill one thing of a kind; whether there was one."""
    if kind == "controller":
        if trial.process is None or trial.process.poll() is not None:
            return False
        trial.kill(whole_group=source.random() < 0.5)
        return True
    if kind == "job":
        running = [job for job in trial.jobs() if job.state == "RUNNING"]
        return (
            bool(running) and run("scancel", "--signal=KILL", "--full", source.choice(running).number).returncode == 0
        )
    word = ".snakemake/scripts" if kind == "training" else "--mode remote"
    victims = trial.processes(word)
    if not victims:
        return False
    try:
        source.choice(victims).kill()
    except psutil.NoSuchProcess:
        return False
    return True


Fault = Callable[[Trial, Cluster], Outcome]
Faults = dict[Fault, dict[str, str]]
# Each fault, and what its trial is made with. Those of the second table disturb every job on the cluster.
ALONE: Faults = {
    cancelled: {}, killed: {}, too_much_memory: {"TRIAL_MISDEED": "memory"}, out_of_time: {"TRIAL_PAUSE": "0.8"},
    warned: {}, requeued: {}, preempted: {"partition": "spare"}, node_lost: {"partition": "spare"}, held: {},
    controller_terminated: {}, controller_killed: {}, bare_controller_killed: {"TRIAL_PAUSE": "0.6"}, refused: {},
    own_error: {"TRIAL_MISDEED": "error"}, accounting_down: {"TRIAL_PAUSE": "0.3"}, fifty_kills: {"TRIAL_PAUSE": "0.5"},
}  # fmt: skip
EVERYWHERE: Faults = {scheduler_restarted: {}, scheduler_away: {"TRIAL_PAUSE": "0.3"}, forgotten: {}}
HEALED_BY_A_SECOND_COMMAND = {controller_terminated, controller_killed, bare_controller_killed, refused, own_error}
SUDDEN = {
    own_error,
    killed,
    too_much_memory,
    out_of_time,
    node_lost,
    requeued,
    preempted,
    forgotten,
    scheduler_away,
    held,
    cancelled,
}
SEEDS: dict[Fault, int] = {fifty_kills: 16}  # of the trial; else 4


class Trials:
    """The trials of the chosen faults. Those that disturb only themselves run side by side from the beginning on."""

    def __init__(self, cluster: Cluster, chosen: set[Fault], folder: Callable[[str], Path]) -> None:
        """folder: makes a folder of a name for a trial."""
        self._cluster, self._folder = cluster, folder
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._running = {fault: self._pool.submit(self._perform, fault) for fault in ALONE if fault in chosen}

    def outcome(self, fault: Fault) -> Outcome:
        """What became of a fault; one that disturbs every job on the cluster has to wait until the others are over."""
        if fault in self._running:
            return self._running[fault].result()
        wait(self._running.values())
        return self._perform(fault)

    def _perform(self, fault: Fault) -> Outcome:
        """One trial from beginning to end, and its time."""
        settings = dict({**ALONE, **EVERYWHERE}[fault])
        trial = Trial(self._folder(fault.__name__), SEEDS.get(fault, 4), **settings)
        began = time.monotonic()
        outcome = fault(trial, self._cluster)
        outcome.seconds = time.monotonic() - began
        return outcome

    def close(self) -> None:
        """Wait for what is still running."""
        self._pool.shutdown()
