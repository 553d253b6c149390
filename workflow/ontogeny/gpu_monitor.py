"""What a job took of its GPUs: peak memory by torch's own count, load as nvidia-smi samples it.

Snakemake's benchmark tables have no columns for GPUs, so a table of the same form lies beside each:
`benchmarks/train/<run>.gpu.tsv` beside `benchmarks/train/<run>.tsv`.
"""

from __future__ import annotations

import csv
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType

log = logging.getLogger("ontogeny")
MB = 1024 * 1024  # as in Snakemake's tables
SUFFIX = ".gpu.tsv"


@dataclass(frozen=True)
class GpuUse:
    """One job's use of its GPUs; None where it could not be measured.

    name: the first device's. gpus: how many, or which share of one. s: seconds that the job held them.
    max_gpu_mb: peak of torch's allocations, summed over the devices. mean_load, max_load: share of the time in which
    the device computed, for this job or another that shares it, in percent; the mean over the devices.
    """

    name: str
    gpus: float
    s: float
    max_gpu_mb: float | None
    mean_load: float | None
    max_load: float | None


def gpu_table(benchmark: Path) -> Path:
    """The table of a job's GPUs beside its benchmark."""
    return benchmark.with_suffix(SUFFIX)


def read_use(path: Path) -> GpuUse | None:
    """What a job took of its GPUs, None if it took none or the table cannot be read."""
    try:
        with path.open(newline="") as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        numbers = {
            field.name: None if row[field.name] == "-" else float(row[field.name]) for field in fields(GpuUse)[1:]
        }
        return GpuUse(row["name"], **numbers)  # type: ignore[arg-type]
    except (OSError, StopIteration, KeyError, TypeError, ValueError):
        return None


def write_use(path: Path, use: GpuUse) -> None:
    """Write the table, in the form of Snakemake's."""
    cells = {key: "-" if value is None else f"{value:.2f}" for key, value in asdict(use).items() if key != "name"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\t".join(["name", *cells]) + "\n" + "\t".join([use.name, *cells.values()]) + "\n")


@contextmanager
def watched(devices: Sequence[str], gpus: float, path: Path) -> Iterator[None]:
    """Watch the devices while the body runs, and write the table when it ends well."""
    started = time.monotonic()
    with _sampled(devices) as loads:
        yield
    name, peak = torch_peak(sys.modules.get("torch"))
    if peak is None:
        log.warning("the job held a GPU and did not use it; torch may be the build for CPUs")
    mean, most = (sum(loads) / len(loads), max(loads)) if loads else (None, None)
    write_use(path, GpuUse(name, gpus, time.monotonic() - started, peak, mean, most))


def torch_peak(torch: ModuleType | None) -> tuple[str, float | None]:
    """The first device's name, and the peak of what torch allocated in MB, over all devices that this process sees."""
    if torch is None or not torch.cuda.is_initialized():
        return "unused", None
    peaks = [torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())]
    return str(torch.cuda.get_device_name(0)), sum(peaks) / MB


@contextmanager
def _sampled(devices: Sequence[str]) -> Iterator[list[float]]:
    """The load in percent, once a second and device, in a list that grows while the body runs.

    nvidia-smi is NVML's own program; it ends by itself when nobody reads what it writes, so that a job that is killed
    leaves nothing behind. It does not know the load of a piece of a device (MIG).
    """
    loads: list[float] = []
    program = shutil.which("nvidia-smi")
    if program is None:
        yield loads
        return
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=1000"]
    with subprocess.Popen(
        [program, *query, f"--id={','.join(devices)}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_collect, args=(process.stdout, loads), daemon=True)
        reader.start()
        try:
            yield loads
        finally:
            process.kill()
            reader.join()


def _collect(lines: Iterable[str], loads: list[float]) -> None:
    for line in lines:
        if line.strip().isdigit():  # not '[N/A]', nor a message
            loads.append(float(line))
