"""Training of two-pathway networks with gating deficits: one trunk, from which every deficit branches off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.critical_periods.chain import prefixes
from ontogeny.studies.critical_periods.pathways import (
    PATHWAYS,
    UNDISTURBED,
    Deficit,
    Networks,
    aligned_start,
    random_start,
)
from ontogeny.studies.critical_periods.settings import FEATURES, ITEMS, Gating, Pathways


def deficits_of(gating: Gating) -> list[Deficit]:
    """All deficits of a gating experiment; the undisturbed network first."""
    found = [UNDISTURBED, *[Deficit("gate B", onset, gating.duration) for onset in gating.onsets]]
    found += [Deficit("gate B", 0, duration) for duration in gating.durations if duration != gating.duration]
    if gating.controls:
        found.append(Deficit("gate A", 0, gating.duration, (True, False)))
        found.append(Deficit("gate both", 0, gating.duration, (True, True)))
    return found


def train_pathways(config: RunConfig, data: Folder, run: Run) -> None:
    """One checkpoint a gating: `course` (deficits, measurements, seeds, 2, modes), diagonals of K; `maps` (deficits, 2,
    outputs, inputs), the first seed's K at the end."""
    settings: Pathways = config.settings
    targets = torch.from_numpy(data.arrays("task.npz")["targets"]).float().to(config.device)
    for number, gating in enumerate(settings.gatings):
        starts = [pathway_start(seed, settings, gating.depth) for seed in config.seeds]
        weights = [torch.cat(layer).to(config.device) for layer in zip(*starts, strict=True)]
        visible = visible_modes(gating, targets)
        kept = gate(run, f"gating-{number}", Networks(weights, targets, visible, gating.rate), gating)
        run.checkpoint(f"gating-{number}", kept)


def pathway_start(seed: int, settings: Pathways, depth: int) -> list[Tensor]:
    """W_1 ... W_D of one seed's two pathways, each (2, outputs, inputs)."""
    shape = (FEATURES, ITEMS)
    if settings.start == "aligned":
        return aligned_start(seed, depth, settings.width, shape, settings.initial, settings.noise)
    return random_start(seed, depth, settings.width, shape, settings.initial)


def visible_modes(gating: Gating, targets: Tensor) -> Tensor:
    """(2, outputs, inputs): 0 in the row and the column of the mode that is lesioned from A, else 1."""
    visible = torch.ones(PATHWAYS, *targets.shape, device=targets.device)
    if gating.lesioned_mode is not None:
        visible[0, gating.lesioned_mode - 1] = 0
        visible[0, :, gating.lesioned_mode - 1] = 0
    return visible


def schedule(deficits: Sequence[Deficit], epochs: int, every: int) -> list[tuple[int, int]]:
    """(deficit, epoch) of every block of `every` epochs, in the order of training.

    The trunk, deficit 0, stops at each onset until all deficits that begin there have branched off and run to the end.
    """
    blocks = []
    for epoch in range(0, epochs, every):
        for number, deficit in enumerate(deficits):
            if number > 0 and deficit.onset == epoch:
                blocks += [(number, later) for later in range(epoch, epochs, every)]
        blocks.append((0, epoch))
    return blocks


def gate(run: Run, phase: str, trunk: Networks, gating: Gating) -> dict[str, Tensor]:
    """Train the trunk and all its branches; see `train_pathways` for what is returned."""
    deficits, every = deficits_of(gating), gating.measure_every
    branch = Networks([matrix.clone() for matrix in trunk.weights], trunk.targets, trunk.visible, trunk.rate)
    initial = trunk.strengths()
    course = initial.new_zeros(len(deficits), gating.epochs // every + 1, *initial.shape)
    course[0, 0] = initial
    maps = initial.new_zeros(len(deficits), PATHWAYS, *trunk.targets.shape)
    state: State = {f"trunk{index}": matrix for index, matrix in enumerate(trunk.weights)}
    state |= {f"branch{index}": matrix for index, matrix in enumerate(branch.weights)}
    state |= {"course": course, "maps": maps}
    blocks = schedule(deficits, gating.epochs, every)
    for step in run.steps(len(blocks), state, phase=phase):
        number, epoch = blocks[step]
        deficit, networks, mark = deficits[number], branch if number else trunk, epoch // every
        if number and epoch == deficit.onset:
            course[number, : mark + 1] = course[0, : mark + 1]
            for copy, matrix in zip(branch.weights, trunk.weights, strict=True):
                copy.copy_(matrix)
        networks.advance(every, deficit.gates(epoch))
        products = networks.maps(prefixes(networks.weights))
        course[number, mark + 1] = products.diagonal(dim1=-2, dim2=-1)
        if epoch + every == gating.epochs:
            run.require_finite(epoch, course[number, -1], list(run.config.seeds))
            maps[number] = products[0]
    return {"course": course, "maps": maps}
