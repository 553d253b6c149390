"""Ensembles against networks one by one: the digits, which take most of the study's time, and the spectra."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.bench import BenchCase
from ontogeny.studies.high_dim_generalization.digits import Group, Images, Member, descend, make_group, start

SEEDS, SAMPLES, INPUTS, STEPS = 5, 300, 49, 3000
RATE, MOMENTUM = 1e-4, 0.95
SCALES = (0.5, 2.0)
NARROW = (1, 2, 4, 6, 9, 12, 16, 24, 36)
WIDE = 300


def cases(device: str) -> list[BenchCase]:
    """The group of narrow networks, and one wide network of every seed."""
    narrow = [(width, scale) for width in NARROW for scale in SCALES]
    mean = round(sum(width for width, _ in narrow) / len(narrow))
    return [_case("narrow digits", narrow, mean, device), _case("wide digits", [(WIDE, SCALES[0])], WIDE, device)]


def _images(device: str) -> Images:
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(SEEDS, SAMPLES, INPUTS, generator=stream).to(device)
    y = torch.randn(SEEDS, SAMPLES, 1, generator=stream).sign().to(device)
    return Images(x, y, x[0], y[0])


def _case(name: str, members: list[Member], width: int, device: str) -> BenchCase:
    """The members of every seed as one program, against one network of `width` hidden units."""
    images, group = _images(device), make_group(members, device)
    state = start(group, range(SEEDS), INPUTS, device)
    rates = torch.full((SEEDS, 1, len(group.owner)), RATE, device=device), RATE * group.owner.expand(SEEDS, -1, -1)
    one = start(make_group([(width, SCALES[0])], device), [0], INPUTS, device)
    x, y = images.x[0], images.y[0, :, 0]
    first, second, pushes = one["first"][0].clone(), one["second"][0, :, 0].clone(), [torch.zeros(()), torch.zeros(())]

    def batched(steps: int) -> None:
        for _ in range(steps):
            descend(images, state, rates, MOMENTUM)

    def single(steps: int) -> None:
        for _ in range(steps):
            _plain_step(x, y, first, second, pushes)

    flops = 4.0 * SAMPLES * _mean_width(group) * (INPUTS + 1)
    return BenchCase(name, SEEDS * len(members), STEPS, flops, batched, single)


def _mean_width(group: Group) -> float:
    return sum(width for width, _ in group.members) / len(group.members)


def _plain_step(x: Tensor, y: Tensor, first: Tensor, second: Tensor, pushes: list[Tensor]) -> None:
    """One heavy-ball step of one network, written as for a single network."""
    hidden = torch.relu(x @ first)
    residual = (hidden @ second - y) / len(y)
    back = torch.outer(residual, second) * (hidden > 0)
    slopes = (x.T @ back, hidden.T @ residual)
    for place, (weights, slope) in enumerate(zip((first, second), slopes, strict=True)):
        pushes[place] = MOMENTUM * pushes[place] - RATE * slope
        weights += pushes[place]
