"""What happens to a run on a cluster when something breaks: it goes on, by itself or with one repeated command.

Every trial ends in tables that are the same bits as those of a local run, and no training takes a step again that had
been saved. The table of faults and outcomes is printed at the end; docs/slurm.md shows one.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import psutil
import pytest

from tests.cluster.conftest import LIMITS, PROFILE, QUICK, STEPS, TARGET, Trial
from tests.cluster.slurm import Cluster, output, run

pytestmark = pytest.mark.cluster

AT_ONCE = 5  # trials side by side
SAVED_LATE = 12  # steps that one kill may cost: those since the last save, half a second before
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
        run("srun", "--partition=urgent", f"--nodes={nodes}", "--exclusive", "--mem=7000", "sleep", "5", check=True)

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
    trial.snakemake("--unlock", "--config", "scale=smoke")
    with trial.log.open("ab") as log:
        second = subprocess.run(command, cwd=trial.path, env=trial.environment, stdout=log, stderr=log, check=False)
    outcome = Outcome(trial, [-9, second.returncode])
    outcome.note = "submitted twice, trained once: the second job waits for the first one's lock"
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


Fault = Callable[[Trial, Cluster], Outcome]
Faults = dict[Fault, dict[str, str]]
# Each fault, and what its trial is made with. Those of the second table disturb every job on the cluster.
ALONE: Faults = {
    cancelled: {}, killed: {}, too_much_memory: {"TRIAL_MISDEED": "memory"}, out_of_time: {"TRIAL_PAUSE": "0.8"},
    warned: {}, requeued: {}, preempted: {"partition": "spare"}, node_lost: {"partition": "spare"}, held: {},
    controller_terminated: {}, controller_killed: {}, bare_controller_killed: {}, refused: {},
    own_error: {"TRIAL_MISDEED": "error"}, accounting_down: {"TRIAL_PAUSE": "0.3"},
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


def perform(fault: Fault, trial: Trial, cluster: Cluster) -> Outcome:
    """One trial from beginning to end, and its time."""
    began = time.monotonic()
    outcome = fault(trial, cluster)
    outcome.seconds = time.monotonic() - began
    return outcome


@pytest.fixture(scope="module")
def outcomes(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Outcome]]]:
    """The trials of the chosen tests: those that disturb only themselves side by side, the others after them."""
    chosen = {item.callspec.params["fault"] for item in request.session.items if hasattr(item, "callspec")}
    futures: dict[str, Future[Outcome]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(1) as last:
        for fault, settings in choose(ALONE, chosen):
            trial = Trial(tmp_path_factory.mktemp(fault.__name__), **settings)
            futures[fault.__name__] = pool.submit(perform, fault, trial, cluster)
        before = list(futures.values())
        for fault, settings in choose(EVERYWHERE, chosen):
            trial = Trial(tmp_path_factory.mktemp(fault.__name__), **settings)
            futures[fault.__name__] = last.submit(after, before, perform, fault, trial, cluster)
        yield futures


def choose(table: Faults, chosen: set[Fault]) -> list[tuple[Fault, dict[str, str]]]:
    """The rows of a table of faults whose tests were asked for."""
    return [(fault, settings) for fault, settings in table.items() if fault in chosen]


def after(others: list[Future[Outcome]], function: Callable[..., Outcome], *arguments: object) -> Outcome:
    """Call a function when others have ended, however they ended."""
    for other in others:
        other.exception()
    return function(*arguments)


@pytest.mark.parametrize("fault", [*ALONE, *EVERYWHERE], ids=lambda fault: fault.__name__)
def test_fault(
    fault: Fault,
    outcomes: dict[str, Future[Outcome]],
    local: Callable[[int], dict[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    outcome = outcomes[fault.__name__].result()
    trial = outcome.trial
    assert outcome.commands[-1] == 0, trial.said()[-4000:]
    assert len(outcome.commands) == 1 + (fault in HEALED_BY_A_SECOND_COMMAND), outcome.commands
    assert trial.tables() == local(4)
    steps = trial.steps()
    assert len(steps) == 2 * STEPS
    allowed = 2 * SAVED_LATE if fault in SUDDEN else 0
    assert trial.repeated() <= allowed, f"{trial.repeated()} steps were taken again"
    assert not trial.jobs()
    healed = "one repeated command" if len(outcome.commands) > 1 else "by itself"
    record_property("fault", (fault.__doc__, healed, f"{outcome.seconds:.0f} s", trial.repeated(), outcome.note))


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


def test_fifty_random_kills(
    cluster: Cluster,
    tmp_path: Path,
    local: Callable[[int], dict[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    """Trainings, Snakemakes inside jobs, whole jobs and controllers are killed at random moments."""
    source = random.Random(3)
    trial = Trial(tmp_path, seeds=16, TRIAL_PAUSE="0.5")
    hit = {"training": 0, "Snakemake in a job": 0, "job": 0, "controller": 0}
    began = time.monotonic()
    with controller(trial, "--retries", "60") as keep:
        trial.training()
        while sum(hit.values()) < 50 and not (trial.path / TARGET).exists():
            time.sleep(source.uniform(0.5, 4))
            kind = source.choices(list(hit), weights=[5, 3, 3, 1])[0]
            hit[kind] += strike(trial, kind, source)
            keep()
    assert sum(hit.values()) >= 50, f"the trial was over after {hit}"
    assert trial.tables() == local(16)
    assert len(trial.steps()) == 8 * STEPS
    assert trial.repeated() <= SAVED_LATE * 50
    record_property("fault", (f"50 random kills: {hit}", "by itself, or one repeated command after each kill of the "
                    "controller", f"{time.monotonic() - began:.0f} s", trial.repeated(), ""))  # fmt: skip


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
