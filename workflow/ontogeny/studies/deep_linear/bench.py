"""Ensembles against networks one by one: the two kinds of training that take most of the study's time."""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.bench import BenchCase, product
from ontogeny.studies.deep_linear import starts
from ontogeny.studies.deep_linear.deep import DTYPE, descend, suffix_products
from ontogeny.studies.deep_linear.settings import Tree
from ontogeny.studies.deep_linear.tree import descend as descend_tree
from ontogeny.studies.deep_linear.tree import draw_problem, stack_problems

TREE = Tree(
    experiment="tree", networks=["linear"], items=32, features=1000, flip_probability=0.1, hidden=32,
    initial_strengths=[1e-6], learning_rates=[5e-4], iterations=2500, measure_every=5, listed_modes=[1],
)  # fmt: skip
TREE_SEEDS, RATES, LAYERS, WIDTH, OUTPUTS = 50, 13, 33, 64, 10


def cases(device: str) -> list[BenchCase]:
    """The linear tree network, and a deep network at a grid of rates."""
    return [tree_case(device), deep_case(device)]


def tree_case(device: str) -> BenchCase:
    """50 seeds with reduced outputs against one network with all its features."""
    rate = TREE.learning_rates[0]
    problem = stack_problems([(1e-6, rate, seed) for seed in range(TREE_SEEDS)], TREE, True, device)
    first, second = problem.first.clone(), problem.second.clone()
    rates = torch.full((TREE_SEEDS, 1, 1), rate, dtype=first.dtype, device=device)
    targets, w1, w2 = (tensor.to(device) for tensor in draw_problem(0, TREE, 1e-6, False)[:3])

    def batched(steps: int) -> None:
        for _ in range(steps):
            descend_tree(problem.targets, first, second, rates, "linear")

    def single(steps: int) -> None:
        for _ in range(steps):
            error = targets - w2 @ w1
            back = w2.T @ error
            w2.add_(error @ w1.T, alpha=rate)
            w1.add_(back, alpha=rate)

    outputs = TREE.items + TREE.hidden
    flops = 6.0 * outputs * TREE.hidden * TREE.items
    shape = (TREE_SEEDS, outputs, TREE.hidden, TREE.items)  # the outputs are cut to items + hidden without loss
    needs = [product(3, shape, first.dtype, device)]
    return BenchCase("tree", TREE_SEEDS, TREE.iterations, flops, batched, single, first.dtype, needs)


def deep_case(device: str) -> BenchCase:
    """A deep network at 13 rates against one, both by the thin form of the gradient; targets are zero."""
    widths = [WIDTH] * (LAYERS - 1) + [OUTPUTS]
    alone = [matrix.to(device, DTYPE) for matrix in starts.orthogonal(widths, 0)]
    together = [matrix.repeat(RATES, 1, 1) for matrix in alone]
    rates = torch.linspace(1e-6, 1e-4, RATES, dtype=DTYPE, device=device)[:, None, None]

    def batched(steps: int) -> None:
        for _ in range(steps):
            suffixes = suffix_products(together)
            descend(together, suffixes, -suffixes[0] * rates)

    def single(steps: int) -> None:
        for _ in range(steps):
            _plain_step(alone, 1e-4)

    flops = 6.0 * OUTPUTS * WIDTH**2 * (LAYERS - 2)
    needs = [
        product(2 * (LAYERS - 2), (RATES, OUTPUTS, WIDTH, WIDTH), DTYPE, device),
        product(LAYERS - 2, (RATES, WIDTH, OUTPUTS, WIDTH), DTYPE, device),
    ]
    return BenchCase("deep", RATES, 1000, flops, batched, single, DTYPE, needs)


def _plain_step(weights: list[Tensor], rate: float) -> None:
    """One step of one deep network, written as for a single network."""
    above = [weights[-1]]
    for matrix in reversed(weights[:-1]):
        above.append(above[-1] @ matrix)
    error = -rate * above.pop()
    for matrix in weights[:-1]:
        carried = error @ matrix.T
        matrix.add_(above.pop().T @ error)
        error = carried
    weights[-1].add_(error)
