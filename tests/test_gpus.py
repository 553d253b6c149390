"""GPUs of a machine, what jobs ask of them, and what they took. The devices are a stand-in for nvidia-smi."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ontogeny import gpu_job, gpus
from ontogeny.device import resolve_device
from ontogeny.errors import ConfigError, OntogenyError
from ontogeny.gpu_job import gpus_of
from ontogeny.gpu_monitor import GpuUse, gpu_table, read_use, torch_peak, watched, write_use
from ontogeny.gpus import Demand, demand, devices_here
from ontogeny.leases import taken
from ontogeny.settings import validate
from ontogeny.study import Resources
from tests.fake_gpus import GPUS, path_with_gpus

MIG = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-11)
  MIG 3g.20gb     Device  1: (UUID: MIG-12)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
"""


# ------------------------------------------------------------------------------------------------ what there is


def test_no_nvidia_smi_and_no_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    assert devices_here({"PATH": str(tmp_path)}) == ()


def test_without_nvidia_smi_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    for index, name in enumerate(GPUS):
        (tmp_path / f"0000:0{index}:00.0").mkdir()
        (tmp_path / f"0000:0{index}:00.0" / "information").write_text(f"Model: \t x\nGPU UUID: \t {name}\n")
    assert devices_here({"PATH": str(tmp_path)}) == GPUS


def test_pieces_of_a_device_count_and_the_device_does_not() -> None:
    assert gpus._listed(MIG) == ("MIG-11", "MIG-12", "GPU-2")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, GPUS),
        ("", ()),
        ("-1", ()),
        ("0", GPUS[:1]),
        ("1,0", GPUS[::-1]),
        (GPUS[1], GPUS[1:]),
        ("GPU-bbbb", GPUS[1:]),
        ("GPU-", ()),  # names two
        ("1,7,0", GPUS[1:]),  # as CUDA does: what names nothing ends the list
        ("0,0", GPUS[:1]),
    ],
)
def test_cuda_visible_devices_restricts(tmp_path: Path, visible: str | None, expected: tuple[str, ...]) -> None:
    environment = {"PATH": path_with_gpus(tmp_path)}
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    assert devices_here(environment) == expected


def test_a_broken_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert devices_here({"PATH": str(tmp_path)}) == ()


# ------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("gpu", "device", "present", "expected"),
    [
        (0, "auto", 2, Demand(0, 0)),
        (1, "auto", 2, Demand(1, 100)),
        (2, "auto", 2, Demand(2, 200)),
        (0.25, "auto", 2, Demand(0, 25)),  # `gpu` counts what is taken whole
        (1, "auto", 0, Demand(0, 0)),  # nothing there: the CPU
        (1, "cpu", 2, Demand(0, 0)),
        (0, "cuda", 2, Demand(1, 100)),
        (0.5, "cuda", 2, Demand(0, 50)),
        (1, "auto", None, Demand(1, 0)),  # a cluster
        (0.25, "auto", None, Demand(1, 0)),  # schedulers hand out whole devices
        (0, "auto", None, Demand(0, 0)),
        (0, "cuda", None, Demand(1, 0)),
        (1, "cpu", None, Demand(0, 0)),
    ],
)
def test_what_a_training_asks_for(gpu: float, device: str, present: int | None, expected: Demand) -> None:
    assert demand(Resources(gpu=gpu), "train", device, present) == expected


def test_preparing_takes_a_gpu_only_if_its_study_says_so() -> None:
    assert demand(Resources(), "prepare", "cuda", 2) == Demand()
    assert demand(Resources(gpu=1), "prepare", "cuda", 2) == Demand(1, 100)


@pytest.mark.parametrize("gpu", [1.5, -1, 65, 0.01, "many"])
def test_a_number_of_gpus_that_means_nothing_is_refused(gpu: Any) -> None:
    with pytest.raises(ConfigError, match=r"study\.yaml: resources\.train"):
        validate(Resources, {"gpu": gpu}, "study.yaml: resources.train")


def study_asking(monkeypatch: pytest.MonkeyPatch, **stages: float) -> None:
    spec = SimpleNamespace(stage_resources=lambda stage, scale: Resources(gpu=stages.get(stage, 0)))
    monkeypatch.setattr(gpus, "load_room", lambda slug: spec)


def test_more_than_there_is_names_study_stage_number_and_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    study_asking(monkeypatch, train=4)
    with pytest.raises(ConfigError) as error:
        gpus.require_enough(["alpha"], "paper", "auto", 2)
    for words in (
        "alpha",
        "stage train",
        "scale paper",
        "asks for 4 GPUs a job",
        "there are 2",
        "device=cpu",
        "--profile",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(("device", "present"), [("auto", 0), ("cpu", 0), ("auto", 4), ("auto", None), ("cuda", None)])
def test_enough_or_not_ours_to_say(monkeypatch: pytest.MonkeyPatch, device: str, present: int | None) -> None:
    study_asking(monkeypatch, train=4)
    gpus.require_enough(["alpha"], "paper", device, present)


def test_cuda_without_a_gpu_is_refused_even_where_the_study_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    study_asking(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"alpha: stage train at scale smoke asks for 1 GPU a job, and there are none"
    ):
        gpus.require_enough(["alpha"], "smoke", "cuda", 0)


def test_falling_back_to_the_cpu_is_said_if_a_study_is_made_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    study_asking(monkeypatch)
    assert gpus.falls_back(["alpha"], "paper") is None
    study_asking(monkeypatch, train=1)
    assert "alpha" in str(gpus.falls_back(["alpha"], "paper"))


def test_snakemakes_own_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_with_gpus(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpus.limit("auto", allowed) for allowed in (None, 0, 1, 8)] == [2, 0, 1, 2]
    assert gpus.limit("cpu", None) == 0


def test_cuda_that_torch_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"device: cuda: torch .* can use no GPU"):
        resolve_device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cpu") == "cpu"


# ---------------------------------------------------------------------------------------------------- in the job


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two devices and no leases; returns a folder for results."""
    monkeypatch.setenv("PATH", path_with_gpus(tmp_path / "bin"))
    monkeypatch.setenv("ONTOGENY_RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    return tmp_path / "results"


def job_of(folder: Path, device: str = "auto", **resources: int) -> Any:
    log = folder / "smoke" / "alpha" / "logs" / "train" / "decay-s0-2.log"
    return SimpleNamespace(resources=resources, params={"device": device}, log=[str(log)])


def table_of(folder: Path) -> Path:
    return folder / "smoke" / "alpha" / "benchmarks" / "train" / "decay-s0-2.gpu.tsv"


def test_a_leased_device_is_the_only_one_that_the_job_sees(machine: Path) -> None:
    with gpus_of(job_of(machine, "cuda", gpu=1, gpu_percent=100)) as device:
        assert device == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == GPUS[0]
        assert taken(machine.parent / "runtime" / "gpus")[0] == {GPUS[0]: 100}
    assert taken(machine.parent / "runtime" / "gpus")[0] == {}


def test_a_job_gets_as_many_as_it_asks_for_and_one_share_of_one(machine: Path) -> None:
    with gpus_of(job_of(machine, gpu=2, gpu_percent=200)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(GPUS)
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"
    with gpus_of(job_of(machine, gpu=0, gpu_percent=30)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == GPUS[1]
        assert taken(machine.parent / "runtime" / "gpus")[0] == {GPUS[1]: 30}


def test_without_a_gpu_nothing_is_leased_and_the_cpu_computes(machine: Path) -> None:
    write_use(table_of(machine), GpuUse("H100", 1, 1, 1, 1, 1))  # of an earlier run on a GPU
    with gpus_of(job_of(machine, "auto", gpu=0, gpu_percent=0)) as device:
        assert device == "cpu"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert not (machine.parent / "runtime").exists()
    assert not table_of(machine).exists()


def test_what_a_scheduler_set_stays(machine: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "3"
    with gpus_of(job_of(machine, "auto", gpu=1)) as device:
        assert device == "auto"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert not (machine.parent / "runtime").exists()


def test_a_lease_after_cuda_began_is_a_mistake(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="in use before"), gpus_of(job_of(machine, gpu=1, gpu_percent=100)):
        pass


def test_a_job_that_asks_for_more_than_it_can_see_says_so(machine: Path) -> None:
    with pytest.raises(OntogenyError, match="asks for 3 GPUs, and 2"), gpus_of(job_of(machine, gpu=3, gpu_percent=300)):
        pass


# --------------------------------------------------------------------------------------------------- what it took


def torch_with(*peaks: int) -> Any:
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: len(peaks),
        max_memory_allocated=lambda index: peaks[index],
        get_device_name=lambda index: "NVIDIA H100 80GB HBM3",
    )
    return SimpleNamespace(cuda=cuda)


def test_the_table_holds_memory_and_load(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with(3 * 2**20, 5 * 2**20))
    path = table_of(machine)
    with watched(GPUS, 2, path):
        time.sleep(0.4)
    use = read_use(path)
    assert use is not None
    assert (use.name, use.gpus, use.max_gpu_mb, use.max_load) == ("NVIDIA H100 80GB HBM3", 2, 8, 60)
    assert use.s > 0.3
    assert use.mean_load is not None
    assert 40 <= use.mean_load <= 60


def test_what_cannot_be_measured_is_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "train" / "x.gpu.tsv"
    with watched(GPUS[:1], 0.5, path):
        pass
    assert path.read_text().splitlines()[1].split("\t")[3:] == ["-", "-", "-"]
    use = read_use(path)
    assert use is not None
    assert (use.name, use.gpus, use.max_gpu_mb, use.mean_load) == ("unused", 0.5, None, None)


def test_a_job_that_fails_leaves_no_table_and_no_process(machine: Path) -> None:
    with pytest.raises(ZeroDivisionError), gpus_of(job_of(machine, gpu=1, gpu_percent=100)):
        1 / 0  # noqa: B018
    assert not table_of(machine).exists()
    assert taken(machine.parent / "runtime" / "gpus")[0] == {}


def test_a_table_that_is_none_is_no_use(tmp_path: Path) -> None:
    assert read_use(tmp_path / "none") is None
    for text in ("", "name\tgpus\n", "name\tgpus\ts\tmax_gpu_mb\tmean_load\tmax_load\nH100\tx\t1\t1\t1\t1\n"):
        (tmp_path / "bad").write_text(text)
        assert read_use(tmp_path / "bad") is None


def test_the_table_lies_beside_the_benchmark() -> None:
    assert gpu_table(Path("a/decay-s0-2.tsv")) == Path("a/decay-s0-2.gpu.tsv")
    assert torch_peak(None) == ("unused", None)
    assert gpu_job.VISIBLE == "CUDA_VISIBLE_DEVICES"
