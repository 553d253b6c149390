"""Experiments on fixed weights: the energy's landscape, the lazy stage, and the energy that missing features leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.feature_emergence.data import GroupData, load_group
from ontogeny.studies.feature_emergence.energy import ascend, centred_targets, curvatures, part_shares, random_units
from ontogeny.studies.feature_emergence.ridge import activations, lazy_lesson, nodes_of, repulsion, ridge_residual
from ontogeny.studies.feature_emergence.settings import Landscape, Lazy, Missing, Theory

REPELLING = 14  # nodes whose inverse Gram matrix is looked at


def train_theory(config: RunConfig, data: Folder, run: Run) -> None:
    """Do one piece after the other, and keep its results as a checkpoint of the piece's name."""
    pieces = _pieces(config.settings, data, config.seeds)
    names = list(pieces)
    state: State = {"done": torch.zeros(())}
    for index in run.steps(len(names), state, phase="theory"):
        run.checkpoint(names[index], pieces[names[index]]())
        state["done"] = torch.tensor(float(index + 1))


def _pieces(settings: Theory, data: Folder, seeds: Sequence[int]) -> dict[str, Callable[[], dict[str, Tensor]]]:
    pieces: dict[str, Callable[[], dict[str, Tensor]]] = {}
    for group in settings.landscape.groups:
        pieces[f"landscape-{_safe(group)}"] = partial(landscape, load_group(data, group), settings.landscape, seeds)
    pieces["lazy"] = partial(lazy, load_group(data, settings.lazy.group), settings.lazy, seeds)
    for group in settings.missing.groups:
        pieces[f"missing-{_safe(group)}"] = partial(missing, load_group(data, group), settings.missing, seeds)
    return pieces


def _safe(group: str) -> str:
    return group.replace(":", "_")


def landscape(group: GroupData, settings: Landscape, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Where ascents of E end on the full table, and the curvatures at a maximum in each part.

    energy, part, peak: (seeds, starts): height, dominant part, and its share of the power. curvatures: (P, 2 M - 1).
    """
    table, order = torch.from_numpy(group.table), len(group.table)
    count, iterations = settings.starts, settings.iterations
    starts = torch.cat([random_units(count, 2 * order, generator(seed, "ascents")) for seed in seeds])
    ends, energy = ascend(centred_targets(table), starts, iterations)
    peak, part = part_shares(ends.view(-1, 2, order), group.parts).max(dim=1)
    shape = (len(seeds), count)
    return {
        "energy": energy.view(shape),
        "part": part.view(shape),
        "peak": peak.view(shape),
        "curvatures": _curvatures_by_part(group, iterations),
    }


def _curvatures_by_part(group: GroupData, iterations: int) -> Tensor:
    """Curvatures at the end of an ascent that starts within each part, (P, 2 M - 1)."""
    found = []
    for part in range(len(group.parts.dimension)):
        start = nodes_of(group.parts, [part], generator(0, "starts within parts", part))[:1].flatten(1)
        end, _ = ascend(centred_targets(torch.from_numpy(group.table)), start, 10 * iterations)
        found.append(torch.from_numpy(curvatures(end[0].numpy(), group.table)))
    return torch.stack(found)


def lazy(group: GroupData, settings: Lazy, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Norm of G_F and its cosine with Y~ Y~^T F~: ridge (seeds, widths, decays, 2), flow (seeds, widths, times, 2)."""
    table = torch.from_numpy(group.table)
    lessons = [[lazy_lesson(table, settings.fraction, width, seed) for width in settings.widths] for seed in seeds]
    return {
        "ridge": _stack([[[lesson.ridge(decay) for decay in settings.decays] for lesson in row] for row in lessons]),
        "flow": _stack([[[lesson.flow(time) for time in settings.times] for lesson in row] for row in lessons]),
    }


def missing(group: GroupData, settings: Missing, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Ascents of the energy of what nodes in some parts S leave unexplained, for every size of S.

    on_missing: (seeds, sizes), share of ascents that end in a part outside S. repulsion: (seeds, 2), see `repulsion`.
    """
    sizes = range(1, len(group.parts.dimension))
    shares = [[_share_on_missing(group, settings, seed, size) for size in sizes] for seed in seeds]
    return {"on_missing": _stack(shares), "repulsion": _stack([_repulsion(group, settings, seed) for seed in seeds])}


def _share_on_missing(group: GroupData, settings: Missing, seed: int, size: int) -> float:
    order, stream = len(group.table), generator(seed, "missing features", size)
    chosen = _some_parts(group, seed, size)
    features = activations(nodes_of(group.parts, chosen, stream), torch.arange(order**2))
    residual = ridge_residual(features, centred_targets(torch.from_numpy(group.table)), settings.decay)
    ends, _ = ascend(residual, random_units(settings.starts, 2 * order, stream), settings.iterations)
    part = part_shares(ends.view(-1, 2, order), group.parts).argmax(dim=1)
    return float((~torch.isin(part, torch.tensor(chosen))).double().mean())


def _some_parts(group: GroupData, seed: int, size: int) -> list[int]:
    """The first `size` parts of the seed's own order."""
    count = len(group.parts.dimension)
    return torch.randperm(count, generator=generator(seed, "order of features"))[:size].tolist()


def _repulsion(group: GroupData, settings: Missing, seed: int) -> tuple[float, float]:
    stream = generator(seed, "repelling nodes")
    nodes = nodes_of(group.parts, _some_parts(group, seed, 2), stream)
    few = nodes[torch.randperm(len(nodes), generator=stream)[:REPELLING]]
    return repulsion(activations(few, torch.arange(len(group.table) ** 2)), settings.decay)


def _stack(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
