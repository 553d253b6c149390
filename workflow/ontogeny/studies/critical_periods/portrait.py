"""One mode shared by two pathways, without a network: the scalar equations from many starting points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.critical_periods import theory
from ontogeny.studies.critical_periods.settings import Portrait

TRACE_EVERY = 10  # steps between the kept points of a trace


def portrait_onsets(settings: Portrait) -> list[int]:
    """First steps of all deficits: the critical-window curve, the early and the late one."""
    return sorted({*settings.onsets, settings.early, settings.late})


def train_portrait(config: RunConfig, data: Folder, run: Run) -> None:
    """For each depth a checkpoint: `ends` (1 + onsets, seeds, 2), K at the end, without deficit first; `traces`
    (2, steps, seeds, 2), K in the course of the early and the late deficit."""
    settings: Portrait = config.settings
    start = np.stack([portrait_start(seed, settings.start_sd) for seed in config.seeds])  # (seeds, 2)
    onsets = portrait_onsets(settings)
    state: State = {}
    for _ in run.steps(1, state):
        for depth in settings.depths:
            strengths = portrait_course(settings, start, depth, onsets)
            shown = [1 + onsets.index(settings.early), 1 + onsets.index(settings.late)]
            state[f"{depth}.ends"] = torch.from_numpy(strengths[-1].copy())
            state[f"{depth}.traces"] = torch.from_numpy(strengths[::TRACE_EVERY, shown].swapaxes(0, 1).copy())
    for depth in settings.depths:
        kept = {name: cast(Tensor, state[f"{depth}.{name}"]) for name in ("ends", "traces")}
        run.checkpoint(f"depth-{depth:02d}", kept)


def portrait_start(seed: int, start_sd: float) -> np.ndarray:
    """p of both pathways at the start, (2,); the same for every depth, as released."""
    return start_sd * torch.randn(2, generator=generator(seed, "portrait start"), dtype=torch.float64).numpy()


def portrait_course(settings: Portrait, start: np.ndarray, depth: int, onsets: Sequence[int]) -> np.ndarray:
    """K of both pathways, (steps, 1 + onsets, seeds, 2); the first course is without deficit. start: (seeds, 2).

    As in the released code, `steps` counts the start, and the step that leads to the t-th state is number t.
    """
    when = np.array([0, *onsets])[:, None]
    duration = np.array([0, *[settings.duration] * len(onsets)])[:, None]
    gates = theory.open_gates(settings.steps - 1, when, duration, (False, True), first=1)
    p = np.broadcast_to(start, (len(when), *start.shape))
    course = theory.euler(p, settings.strength, depth, settings.offset, gates, settings.step)
    return theory.strength(course, depth, settings.offset)
