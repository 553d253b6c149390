"""GPUs through Snakemake: its limit, one device a job, shares, and a message before anything runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from ontogeny.gpu_monitor import read_use
from ontogeny.leases import taken
from tests.fake_gpus import GPUS, path_with_gpus
from tests.workflow.conftest import SMOKE, Checkout, scaffold_checkout

NOTING = """    import json, os, time
    begun = time.monotonic()
    time.sleep(1.0)  # so that jobs overlap if they may
"""
NOTED = """    device = os.environ["CUDA_VISIBLE_DEVICES"]
    with open(f"{config.run}.seen", "w") as file:
        json.dump([device, begun, time.monotonic()], file)
"""


class GpuCheckout:
    """The scaffold's study with four trainings that ask for GPUs, on a machine with two."""

    def __init__(self, path: Path, gpu: float) -> None:
        self.checkout = scaffold_checkout(path / "checkout")
        self.room = self.checkout.path / "workflow" / "ontogeny" / "studies" / "alpha"
        self.runtime = path / "runtime"
        self.path = path_with_gpus(path / "bin")
        text = (self.room / "study.yaml").read_text().replace("gpu: 0}", f"gpu: {gpu}}}")
        text = text.replace("smoke: {seeds: 3, seeds_per_run: 3}", "smoke: {seeds: 4, seeds_per_run: 1}")
        (self.room / "study.yaml").write_text(text)
        head, body = (self.room / "train.py").read_text().split("def train(", 1)
        signature, rest = body.split('"""', 2)[0], body.split('"""', 2)[1:]
        (self.room / "train.py").write_text(f'{head}def train({signature}"""{rest[0]}"""\n{NOTING}{rest[1]}{NOTED}')

    def snakemake(self, *arguments: str, visible: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**self.checkout.environment, "PATH": self.path, "ONTOGENY_RUNTIME": str(self.runtime)}
        environment |= {"CUDA_VISIBLE_DEVICES": visible} if visible is not None else {}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *SMOKE, *arguments], cwd=self.checkout.path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
        )  # fmt: skip

    def seen(self) -> dict[str, list[tuple[float, float]]]:
        """Device -> when trainings had it, sorted."""
        found = defaultdict(list)
        for path in self.checkout.path.glob("*.seen"):
            device, begun, ended = json.loads(path.read_text())
            found[device].append((begun, ended))
        return {device: sorted(times) for device, times in found.items()}


def most_at_once(times: list[tuple[float, float]]) -> int:
    return max(sum(begun <= moment < ended for begun, ended in times) for moment, _ in times)


RUNS = tuple(f"results/smoke/alpha/runs/decay-s{seed}-{seed}" for seed in range(4))
TRAIN = ("--cores", "4", *RUNS)


@pytest.mark.parametrize(("gpu", "together"), [(1, 1), pytest.param(0.5, 2, marks=pytest.mark.slow)])
def test_each_training_has_its_device_or_its_share(tmp_path: Path, gpu: float, together: int) -> None:
    machine = GpuCheckout(tmp_path, gpu)
    done = machine.snakemake(*TRAIN)
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"Provided resources: .*gpu.*2.*gpu_percent.*200", done.stdout)
    seen = machine.seen()
    assert set(seen) == set(GPUS)
    assert sum(map(len, seen.values())) == 4
    assert max(map(most_at_once, seen.values())) <= together
    assert taken(machine.runtime / "gpus")[0] == {}
    use = read_use(machine.checkout.path / "results/smoke/alpha/benchmarks/train/decay-s0-0.gpu.tsv")
    assert use is not None
    assert use.gpus == gpu
    assert use.name == "unused"  # torch sees no GPU here


@pytest.mark.slow
def test_what_the_user_hides_is_not_leased_and_the_cpu_takes_no_lease(tmp_path: Path) -> None:
    machine = GpuCheckout(tmp_path, 1)
    done = machine.snakemake("--cores", "1", RUNS[0], "--config", "scale=smoke", "device=cpu", visible="")
    assert done.returncode == 0, done.stdout[-4000:]
    assert set(machine.seen()) == {""}
    assert not machine.runtime.exists()
    assert not list(machine.checkout.path.glob("results/**/*.gpu.tsv"))
    assert machine.snakemake(*TRAIN, visible="1").returncode == 0
    assert set(machine.seen()) == {GPUS[1]}
    assert most_at_once(machine.seen()[GPUS[1]]) == 1


def test_more_gpus_than_there_are_end_the_workflow_before_it_starts(tmp_path: Path) -> None:
    machine = GpuCheckout(tmp_path, 3)
    done = machine.snakemake(*TRAIN)
    assert done.returncode != 0
    assert "alpha: stage train at scale smoke asks for 3 GPUs a job, and there are 2 to use" in done.stdout
    assert "Ways out:" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (machine.checkout.path / "results").exists()
    assert machine.snakemake("--dry-run", "--executor", "slurm", "--jobs", "4").returncode == 0
    assert machine.snakemake("--dry-run", "--config", "scale=smoke", "device=cpu").returncode == 0


def test_snakemakes_limit_is_not_silently_scaled_down_to(tmp_path: Path) -> None:
    machine = GpuCheckout(tmp_path, 2)
    done = machine.snakemake("--dry-run", "--resources", "gpu=1")
    assert done.returncode != 0
    assert "asks for 2 GPUs a job, and there is 1 to use" in done.stdout


def test_another_scale_as_target_is_checked_too(tmp_path: Path) -> None:
    machine = GpuCheckout(tmp_path, 1)
    text = (machine.room / "study.yaml").read_text()
    (machine.room / "study.yaml").write_text(text.replace("\ntables:", "\n  paper: {train: {gpu: 3}}\n\ntables:"))
    done = machine.snakemake("--dry-run", "--printshellcmds", "results/paper/alpha/probes")
    assert done.returncode != 0
    assert "asks for 3 GPUs" in done.stdout


def test_a_study_that_draws_on_a_gpu_is_refused(tmp_path: Path) -> None:
    machine = GpuCheckout(tmp_path, 1)
    text = (machine.room / "study.yaml").read_text()
    (machine.room / "study.yaml").write_text(text.replace("\ntables:", "\n  figures: {gpu: 1}\n\ntables:"))
    done = machine.snakemake("--dry-run")
    assert done.returncode != 0
    assert "resources.figures.gpu: only prepare, train, probe may use a GPU" in done.stdout


def test_auto_without_a_gpu_says_that_it_takes_the_cpu(small: Checkout) -> None:
    environment = {**small.environment, "CUDA_VISIBLE_DEVICES": ""}
    text = small.path / "workflow" / "ontogeny" / "studies" / "alpha" / "study.yaml"
    with small.edited(str(text.relative_to(small.path)), lambda words: words.replace("gpu: 0}", "gpu: 1}")):
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *SMOKE, "--dry-run"], cwd=small.path, env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert "There is no GPU to use here" in done.stdout
