"""Ensembles against networks trained one by one, and both against the machine's matrix-product rate.

    python -m ontogeny.bench                     every study that has a bench.py
    python -m ontogeny.bench deep_linear         one study

Each study's ``bench.py`` offers `cases(device)`. Everything is measured side by side in one run and on one thread, as
the laptop scale trains; the machine's rate is measured again beside each case, because machines drift.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ontogeny.device import set_deterministic
from ontogeny.errors import ConfigError, OntogenyError, did_you_mean
from ontogeny.rooms import STUDIES, all_studies, part

REPEATS = 5
SECONDS = 0.6  # how long one timing should last
MATMUL = 1024  # edge of the matrices that measure the machine


@dataclass(frozen=True)
class BenchCase:
    """One ensemble of a study.

    members: networks in the ensemble. steps: training steps of a network at laptop scale.
    flops_per_member_step: floating-point operations that the mathematics of one step of one network needs.
    batched(n): advance the whole ensemble by n steps. single(n): advance one network, alone, by n steps.
    dtype: what the products are computed in; the machine's rate is measured in the same.
    """

    name: str
    members: int
    steps: int
    flops_per_member_step: float
    batched: Callable[[int], None]
    single: Callable[[int], None]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Result:
    """Medians over the repeats. Rates in GFLOP/s of arithmetic that the mathematics needs."""

    case: BenchCase
    batched_seconds: float  # per step of the whole ensemble
    single_seconds: float  # per step of one network
    machine: float  # GFLOP/s of a large matrix product

    @property
    def batched_rate(self) -> float:
        """GFLOP/s of the ensemble."""
        return self.case.flops_per_member_step * self.case.members / self.batched_seconds / 1e9

    @property
    def single_rate(self) -> float:
        """GFLOP/s of one network alone."""
        return self.case.flops_per_member_step / self.single_seconds / 1e9

    def per_hour(self, seconds: float, networks: int) -> float:
        """Networks trained in an hour, when one step of `networks` of them takes `seconds`."""
        return 3600 * networks / (seconds * self.case.steps)


def seconds_per_step(advance: Callable[[int], None]) -> float:
    """Time `advance` over as many steps as fill SECONDS."""
    advance(1)
    steps, elapsed = 1, 0.0
    while elapsed < SECONDS:
        started = time.perf_counter()
        advance(steps)
        elapsed = time.perf_counter() - started
        if elapsed < SECONDS:
            steps = max(steps + 1, round(steps * min(8.0, 1.2 * SECONDS / max(elapsed, 1e-9))))
    return elapsed / steps


def machine_rate(dtype: torch.dtype, device: str) -> float:
    """GFLOP/s of a product of two large square matrices."""
    left = torch.ones(MATMUL, MATMUL, dtype=dtype, device=device)
    out = torch.empty_like(left)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.matmul(left, left, out=out)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * MATMUL**3 / seconds_per_step(multiply) / 1e9


def measure(case: BenchCase, device: str) -> Result:
    """Time the ensemble, one network alone and the machine in turns; return the medians."""
    rounds = [
        (seconds_per_step(case.batched), seconds_per_step(case.single), machine_rate(case.dtype, device))
        for _ in range(REPEATS)
    ]
    batched, single, machine = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Result(case, batched, single, machine)


def largest_remainder(case: BenchCase) -> str:
    """The operations that take most of the ensemble's time, with their shares."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        case.batched(5)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return ", ".join(f"{event.key} {event.self_cpu_time_total / total:.0%}" for event in events[:3])


def report(study: str, device: str) -> None:
    """Measure and print every case of a study."""
    for case in part(study, "bench").cases(device):
        result = measure(case, device)
        ratio = result.case.members * result.single_seconds / result.batched_seconds
        room = result.machine / result.single_rate
        print(f"\n{study}: {case.name} ({case.members} networks, {case.steps} steps, {str(case.dtype)[6:]})")
        print(f"  networks per hour   {result.per_hour(result.batched_seconds, case.members):12,.0f} batched"
              f"   {result.per_hour(result.single_seconds, 1):12,.0f} one by one   ratio {ratio:.1f}")  # fmt: skip
        print(f"  GFLOP/s             {result.batched_rate:12.1f} batched   {result.single_rate:12.2f} one by one"
              f"   machine {result.machine:.0f}")  # fmt: skip
        print(f"  room                {room:12.1f} times; reached {ratio / room:.0%} of it")
        print(f"  most of the time    {largest_remainder(case)}", flush=True)


def main(arguments: list[str]) -> int:
    """The command line: slugs of studies; none for all that have a bench.py."""
    try:
        for name in arguments:
            if name not in all_studies():
                raise ConfigError(f"there is no study '{name}'; {did_you_mean(name, all_studies())}")
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 1
    set_deterministic(threads=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = arguments or [name for name in all_studies() if (STUDIES / name / "bench.py").exists()]
    print(f"device {device}, one thread, torch {torch.__version__}; medians of {REPEATS}")
    for study in chosen:
        report(study, device)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
