"""Side-by-side timing of ensembles: networks trained as one program against one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BenchCase:
    """One ensemble of a study.

    members: networks in the ensemble. steps: training steps of a network at laptop scale.
    flops_per_member_step: floating-point operations that the mathematics of one step of one network needs.
    batched(n): advance the whole ensemble by n steps. single(n): advance one network, alone, by n steps.
    """

    name: str
    members: int
    steps: int
    flops_per_member_step: float
    batched: Callable[[int], None]
    single: Callable[[int], None]
