"""Ensembles against networks trained one by one, and both against the machine's matrix-product rate.

    python -m ontogeny.bench                     every study and base that has a bench.py
    python -m ontogeny.bench deep_linear         one study

Each study's ``bench.py`` offers `cases(device)`. Everything is measured side by side in one run and on one thread, as
the laptop scale trains; the machine's rate is measured again beside each case, because machines drift.

Two measures of what is left are shown. *Room* is how much faster than one by one the machine multiplies large square
matrices. No program of small products reaches that, and none draws random numbers in no time. So each case also names
its *needs*: the calls that its mathematics cannot do without (products of its shapes, random numbers, exponentials),
each measured alone, over and over on the same operands. Their sum is the least time of a step with these libraries.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ontogeny.device import set_deterministic
from ontogeny.errors import ConfigError, OntogenyError, did_you_mean
from ontogeny.rooms import STUDIES, all_bases, all_studies, part

REPEATS = 5
SECONDS = 0.6  # how long one timing should last
MATMUL = 1024  # edge of the matrices that measure the machine


@dataclass(frozen=True)
class Need:
    """Library calls without which a step of the whole ensemble cannot be: `calls` of them, each made by `call`."""

    name: str
    calls: float
    call: Callable[[], object]


def product(calls: float, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str) -> Need:
    """`calls` batched products of (batch, rows, inner) with (batch, inner, columns)."""
    batch, rows, inner, columns = shape
    left = torch.ones(batch, rows, inner, dtype=dtype, device=device)
    right = torch.ones(batch, inner, columns, dtype=dtype, device=device)
    out = torch.empty(batch, rows, columns, dtype=dtype, device=device)
    return Need(f"{batch} x {rows}x{inner}x{columns}", calls, lambda: torch.bmm(left, right, out=out))


def draws(calls: float, numbers: int, device: str) -> Need:
    """`calls` draws of standard normal numbers."""
    out, stream = torch.empty(numbers, device=device), torch.Generator(device)
    return Need(f"{numbers} normal numbers", calls, lambda: out.normal_(generator=stream))


def exponentials(calls: float, numbers: int, device: str) -> Need:
    """`calls` exponentials of many numbers."""
    values = torch.zeros(numbers, device=device)
    out = torch.empty_like(values)
    return Need(f"{numbers} exponentials", calls, lambda: torch.exp(values, out=out))


@dataclass(frozen=True)
class BenchCase:
    """One ensemble of a study.

    members: networks in the ensemble. steps: training steps of a network at laptop scale.
    flops_per_member_step: floating-point operations that the mathematics of one step of one network needs.
    batched(n): advance the whole ensemble by n steps. single(n): advance one network, alone, by n steps.
    dtype: what the products are computed in; the machine's rate is measured in the same.
    needs: the calls of one step of the whole ensemble that the mathematics cannot do without.
    tokens: tokens that one language model learns from in a step; 0 for other networks.
    """

    name: str
    members: int
    steps: int
    flops_per_member_step: float
    batched: Callable[[int], None]
    single: Callable[[int], None]
    dtype: torch.dtype = torch.float32
    needs: Sequence[Need] = ()
    tokens: int = 0


@dataclass(frozen=True)
class Result:
    """Medians over the repeats. Rates in GFLOP/s of arithmetic that the mathematics needs."""

    case: BenchCase
    batched_seconds: float  # per step of the whole ensemble
    single_seconds: float  # per step of one network
    machine: float  # GFLOP/s of a large matrix product
    needed: tuple[float, ...] = ()  # seconds of the calls of each need in a step of the whole ensemble

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


def seconds_per_step(advance: Callable[[int], None], seconds: float = SECONDS) -> float:
    """Time `advance` over as many steps as fill `seconds`."""
    advance(1)
    steps, elapsed = 1, 0.0
    while elapsed < seconds:
        started = time.perf_counter()
        advance(steps)
        elapsed = time.perf_counter() - started
        if elapsed < seconds:
            steps = max(steps + 1, round(steps * min(8.0, 1.2 * seconds / max(elapsed, 1e-9))))
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


def needed_seconds(need: Need, device: str) -> float:
    """Seconds that the calls of a need take in one step of the ensemble."""

    def repeat(times: int) -> None:
        for _ in range(times):
            need.call()
        if device == "cuda":
            torch.cuda.synchronize()

    return need.calls * seconds_per_step(repeat, SECONDS / 4)


def measure(case: BenchCase, device: str) -> Result:
    """Time the ensemble, one network alone, the machine and the needs in turns; return the medians."""
    rounds = [
        (
            seconds_per_step(case.batched),
            seconds_per_step(case.single),
            machine_rate(case.dtype, device),
            *(needed_seconds(need, device) for need in case.needs),
        )
        for _ in range(REPEATS)
    ]
    batched, single, machine, *needed = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Result(case, batched, single, machine, tuple(needed))


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
        if case.tokens:
            rate = case.tokens / result.single_seconds
            print(f"  tokens per second   {ratio * rate:12,.0f} batched   {rate:12,.0f} one by one")
        print(f"  GFLOP/s             {result.batched_rate:12.1f} batched   {result.single_rate:12.2f} one by one"
              f"   machine {result.machine:.0f}")  # fmt: skip
        print(f"  room                {room:12.1f} times; reached {ratio / room:.0%} of it")
        if case.needs:
            parts = zip(case.needs, result.needed, strict=True)
            shares = ", ".join(f"{need.name} {part / result.batched_seconds:.0%}" for need, part in parts)
            least, took = sum(result.needed), result.batched_seconds
            print(f"  least time          {1e3 * least:12.3f} ms of {1e3 * took:.3f} ms a step, {least / took:.0%}")
            print(f"                      {shares}")
        print(f"  most of the time    {largest_remainder(case)}", flush=True)


def main(arguments: list[str]) -> int:
    """The command line: slugs of studies and bases; none for all that have a bench.py."""
    try:
        rooms = (*all_bases(), *all_studies())
        for name in arguments:
            if name not in rooms:
                raise ConfigError(f"there is no study '{name}'; {did_you_mean(name, rooms)}")
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 1
    set_deterministic(threads=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = arguments or [name for name in rooms if (STUDIES / name / "bench.py").exists()]
    print(f"device {device}, one thread, torch {torch.__version__}; medians of {REPEATS}")
    for study in chosen:
        report(study, device)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
