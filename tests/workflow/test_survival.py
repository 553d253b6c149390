"""Kill it at any moment: the same command goes on, and the results are bit for bit those of an undisturbed run."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from ontogeny.events import EventFile
from ontogeny.files import sha256
from ontogeny.rooms import all_studies
from ontogeny.run import Run, RunConfig, State
from tests.workflow.conftest import SMOKE, Checkout, scaffold_checkout

DEADLINE = 240.0  # seconds that a test waits for something that must happen
STAGES = ("acquire", "prepare", "train", "probe", "claims", "figures", "export", "report")
UNSTABLE = ("logs", "benchmarks", ".snakemake_timestamp", "studies")  # `studies` quotes measured times


def contents(checkout: Checkout) -> dict[str, str]:
    """Every result that must be bit-stable -> its digest."""
    root = checkout.path / "results"
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    stable = [path for path in files if not set(UNSTABLE) & set(path.relative_to(root).parts)]
    return {str(path.relative_to(root)): sha256(path) for path in stable}


def patient_study(path: Path) -> Checkout:
    """A checkout whose one study has a source, two runs and steps that take a while."""
    checkout = scaffold_checkout(path)
    room = checkout.path / "workflow" / "ontogeny" / "studies" / "alpha"
    text = (room / "study.yaml").read_text().replace("sources: []", "sources: [mnist]")
    (room / "study.yaml").write_text(
        text.replace("smoke: {seeds: 3, seeds_per_run: 3}", "smoke: {seeds: 4, seeds_per_run: 2}")
    )
    pause = "        time.sleep(0.03)  # so that a kill finds it under way\n        optimiser.step("
    slow = (room / "train.py").read_text().replace("        optimiser.step(", pause)
    (room / "train.py").write_text(slow.replace("import torch\n", "import time\n\nimport torch\n", 1))
    return checkout


class Reproduce:
    """`python -m ontogeny.reproduce` at smoke scale in a process group of its own."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        events = checkout.path / ".snakemake" / "reproduce.events"
        events.unlink(missing_ok=True)
        self.events = EventFile(events)
        self.rules: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ontogeny.reproduce", "--cores", "2", *SMOKE],
            cwd=checkout.path, env={**checkout.environment, "ONTOGENY_SAVE_SECONDS": "0.2"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def started(self) -> list[str]:
        """The rules of the jobs that have started so far."""
        self.rules += [event["rule_name"] for event in self.events.new() if event["event"] == "job_info"]
        return self.rules

    def wait_for(self, rule: str) -> bool:
        """Wait until a job of `rule` runs; False if the workflow ends without one."""
        deadline = time.monotonic() + DEADLINE
        while rule not in self.started():
            assert time.monotonic() < deadline, f"no {rule} in {DEADLINE} s"
            if self.process.poll() is not None:
                return rule in self.started()
            time.sleep(0.02)
        return self.process.poll() is None

    def wait_for_state(self) -> None:
        """Wait until a training has saved its state."""
        deadline = time.monotonic() + DEADLINE
        while not list(self.checkout.path.glob("results/smoke/*/state/*/phase-*.safetensors")):
            assert time.monotonic() < deadline, f"no state in {DEADLINE} s"
            if self.process.poll() is not None:
                return
            time.sleep(0.02)

    def kill(self, controller_only: bool) -> None:
        """SIGKILL everything, or only the controllers, so that the running jobs are orphaned."""
        leader = psutil.Process(self.process.pid)
        for process in [leader, *leader.children(recursive=not controller_only)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def finish(self) -> int:
        """Wait for the end."""
        return self.process.wait(timeout=DEADLINE)


def disturb(checkout: Checkout, kills: int, seed: int) -> dict[str, int]:
    """Run to the end with `kills` kills or more at random moments, every stage among them; return kills by stage."""
    random_source = random.Random(seed)
    hit = dict.fromkeys(STAGES, 0)
    targets = [STAGES[index % len(STAGES)] for index in range(kills)]
    for rule in sorted(targets, key=STAGES.index):
        run = Reproduce(checkout)
        if run.wait_for(rule):
            if rule == "train":
                run.wait_for_state()
            time.sleep(random_source.uniform(0.0, 2.0 if rule == "figures" else 0.5))
        if run.process.poll() is None:
            run.kill(controller_only=random_source.random() < 0.4)
            hit[rule] += 1
    assert Reproduce(checkout).finish() == 0, (checkout.path / "results/logs/reproduce.log").read_text()[-4000:]
    return hit


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of a patient study that nobody disturbed."""
    checkout = patient_study(tmp_path_factory.mktemp("undisturbed"))
    assert Reproduce(checkout).finish() == 0, (checkout.path / "results/logs/reproduce.log").read_text()[-4000:]
    return contents(checkout)


def differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return sorted(name for name in {**first, **second} if first.get(name) != second.get(name))


def test_killed_at_every_stage_the_results_are_the_same_bits(undisturbed: dict[str, str], tmp_path: Path) -> None:
    checkout = patient_study(tmp_path)
    hit = disturb(checkout, kills=len(STAGES), seed=1)
    assert sum(hit.values()) >= len(STAGES) - 1, hit
    assert differing(undisturbed, contents(checkout)) == []
    logs = "".join(path.read_text() for path in checkout.path.glob("results/smoke/alpha/logs/train/*.log"))
    assert "found the state of an interrupted training" in logs


@pytest.mark.slow
def test_killed_two_dozen_times_the_results_are_the_same_bits(undisturbed: dict[str, str], tmp_path: Path) -> None:
    checkout = patient_study(tmp_path)
    hit = disturb(checkout, kills=3 * len(STAGES), seed=2)
    assert sum(hit.values()) >= 20, hit
    assert all(hit.values()), hit
    assert differing(undisturbed, contents(checkout)) == []


@pytest.mark.slow
@pytest.mark.parametrize("study", all_studies())
def test_real_studies_survive_kills(smoke: Checkout, study: str, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    with checkout.edited("config.yaml", lambda text: text.replace("studies: all", f"studies: [{study}]")):
        hit = disturb(checkout, kills=6, seed=len(study))
        assert sum(hit.values()) >= 4, hit
    expected = {name: digest for name, digest in contents(smoke).items() if name.startswith(f"smoke/{study}/")}
    found = {name: digest for name, digest in contents(checkout).items() if name.startswith(f"smoke/{study}/")}
    assert differing(expected, found) == []


def test_two_undisturbed_runs_give_the_same_bytes(undisturbed: dict[str, str], tmp_path: Path) -> None:
    checkout = patient_study(tmp_path)
    assert Reproduce(checkout).finish() == 0
    assert differing(undisturbed, contents(checkout)) == []


def test_a_second_reproduce_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    checkout = patient_study(tmp_path)
    first = Reproduce(checkout)
    assert first.wait_for("prepare")
    second = checkout.module("ontogeny.reproduce", "--cores", "1", *SMOKE)
    first.kill(controller_only=False)
    assert second.returncode == 2
    assert "another `make reproduce`" in second.stdout


def test_a_diverged_training_names_study_run_step_and_member(tmp_path: Path) -> None:
    checkout = scaffold_checkout(tmp_path)
    done = checkout.module(
        "ontogeny.reproduce", "--cores", "1", *SMOKE, "overrides={alpha: {sweep: {decay: {learning_rates: [1.0e+20]}}}}"
    )
    assert done.returncode != 0
    assert "alpha: run decay-s0-2 diverged at step 99, member (1e+20, 0)" in done.stdout
    assert "Lower the learning rate" in done.stdout
    assert not (checkout.path / "results/smoke/alpha/figures").exists()
    assert not (checkout.path / "results/smoke/alpha/runs/decay-s0-2").exists()


# ------------------------------------------------------------------------------------------------- Run, by itself


class Killed(Exception):
    """Stands for a SIGKILL: nothing after it runs."""


def training(run: Run, kill_at: int | None) -> None:
    """Two phases with a random walk, rows in and between them, and checkpoints; may be killed before any step."""
    count = 0
    state: State = {"w": torch.zeros(2), "walk": torch.Generator().manual_seed(1)}
    for phase, steps in (("first", 4), ("second", 5)):
        for step in run.steps(steps, state, phase):
            if count == kill_at:
                raise Killed
            count += 1
            weights, stream = state["w"], state["walk"]
            assert isinstance(weights, torch.Tensor)
            assert isinstance(stream, torch.Generator)
            weights.add_(torch.randn(2, generator=stream))
            run.log(phase=phase, step=step, member=[0, 1], weight=weights)
            if step == 2:
                run.checkpoint(f"{phase}-{step}", {"w": weights})
            if phase == "second" and step == 3:
                run.stop()
        run.log(phase=f"after {phase}", step=-1, member=[0, 1], weight=state["w"])


def run_of(folder: Path, every: float) -> Run:
    return Run(RunConfig("s", "smoke", "r-s0-0", "r", None, (0,), "cpu"), folder / "state", "me", save_seconds=every)


def digest_of(folder: Path) -> Iterator[str]:
    for path in sorted((folder / "out").iterdir()):
        yield f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["saved at every step", "saved at the end of a phase"])
@pytest.mark.parametrize("kill_at", range(8))
def test_a_run_killed_before_any_step_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, every: float
) -> None:
    monkeypatch.setattr(RunConfig, "to_json", lambda self: {"run": self.run})
    kills: dict[str, list[int]] = {"whole": [], "cut": [kill_at, 0]}
    for name, moments in kills.items():
        for moment in moments:
            with pytest.raises(Killed):
                training(run_of(tmp_path / name, every), moment)
        run = run_of(tmp_path / name, every)
        training(run, None)
        run.publish(tmp_path / name / "out", {})
    assert list(digest_of(tmp_path / "whole")) == list(digest_of(tmp_path / "cut"))
    assert not (tmp_path / "cut" / "state").exists()


def test_the_state_of_another_configuration_is_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        training(run_of(tmp_path, 0.0), 6)
    config = RunConfig("s", "smoke", "r-s0-0", "r", None, (0,), "cpu")
    other = Run(config, tmp_path / "state", "somebody else", save_seconds=0.0)
    state: State = {"w": torch.zeros(2), "walk": torch.Generator().manual_seed(1)}
    assert next(iter(other.steps(4, state, "first"))) == 0
