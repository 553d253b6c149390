"""Ensembles of the laptop scale against one network alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.bench import BenchCase
from ontogeny.studies.critical_periods import completion
from ontogeny.studies.critical_periods.completion import Tasks
from ontogeny.studies.critical_periods.pathways import PATHWAYS, Networks, aligned_start
from ontogeny.studies.critical_periods.settings import FEATURES, ITEMS

SIZE, RANK, OBSERVED, RATE, DEPTH, EPOCHS = 40, 3, 480, 1.2, 3, 20_000
SEEDS, WIDTH, PATH_DEPTH, PATH_RATE = 10, 100, 4, 0.01
MEMBERS = 4 * completion.MEMBERS_AT_ONCE


def cases(device: str) -> list[BenchCase]:
    """Matrix completion at depth 3, and two pathways of depth 4."""
    return [completion_case(device), pathways_case(device)]


def completion_case(device: str) -> BenchCase:
    """Products of square matrices: 3 (D - 1) of them a step."""
    seeds = range(MEMBERS)
    targets = torch.stack([completion.low_rank_matrix(seed, "bench", SIZE, RANK) for seed in seeds]).to(device)
    masks = torch.stack([completion.observations(seed, SIZE, [OBSERVED])[0] for seed in seeds]).to(device)
    starts = [completion.gaussian_start(seed, DEPTH, SIZE, 1e-3) for seed in seeds]
    weights = [torch.stack(layer).to(device) for layer in zip(*starts, strict=True)]
    alone = [matrix.to(device) for matrix in starts[0]]
    tasks, gain = Tasks(targets, masks, RATE), masks[0] * (RATE / OBSERVED)

    def single(steps: int) -> None:
        for _ in range(steps):
            _plain_step(alone, targets[0], gain)

    flops = 3.0 * (DEPTH - 1) * 2 * SIZE**3
    return BenchCase("completion", MEMBERS, EPOCHS, flops, lambda n: tasks.advance(weights, n), single, targets.dtype)


def pathways_case(device: str) -> BenchCase:
    """Products of matrices with eight columns. One network: two pathways."""
    shape = (FEATURES, ITEMS)
    starts = [aligned_start(seed, PATH_DEPTH, WIDTH, shape, 0.01, 0.1) for seed in range(SEEDS)]
    weights = [torch.cat(layer).to(device) for layer in zip(*starts, strict=True)]
    targets = torch.eye(*shape, device=device)
    networks = Networks(weights, targets, torch.ones(PATHWAYS, *shape, device=device), PATH_RATE)
    paths = [[matrix[path].to(device).clone() for matrix in starts[0]] for path in range(PATHWAYS)]

    def single(steps: int) -> None:
        for _ in range(steps):
            maps = [_product(path) for path in paths]
            for path in paths:
                _plain_step(path, targets - (maps[0] + maps[1] - _product(path)), torch.tensor(PATH_RATE))

    middle = 3.0 * (PATH_DEPTH - 2) * 2 * WIDTH**2 * ITEMS
    flops = PATHWAYS * (middle + 3 * 2.0 * FEATURES * WIDTH * ITEMS)
    return BenchCase("pathways", SEEDS, 1000, flops, lambda n: networks.advance(n, (1.0, 1.0)), single, targets.dtype)


def _product(weights: list[Tensor]) -> Tensor:
    product = weights[0]
    for matrix in weights[1:]:
        product = matrix @ product
    return product


def _plain_step(weights: list[Tensor], target: Tensor, gain: Tensor) -> None:
    """One step of one chain, written as for a single network."""
    products = [weights[0]]
    for matrix in weights[1:]:
        products.append(matrix @ products[-1])
    signal = (target - products[-1]) * gain
    for index in range(len(weights) - 1, 0, -1):
        passed = weights[index].T @ signal
        weights[index].add_(signal @ products[index - 1].T)
        signal = passed
    weights[0].add_(signal)
