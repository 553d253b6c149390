"""Three-layer networks that learn a tree of items: gradient descent on the paper's Fig. 3 problem.

Inputs are one-hot, so that the input of item i selects column i of the first weights W1 (hidden x items), the hidden
activity of all items is H = W1 or tanh W1, and the gradient of ||Y - W2 H||^2 / 2 is that of Eq. 1 (sums over items,
no factor 2).

**Exact reduction of the output.** With a linear output the loss is unchanged when targets Y and weights W2 (features x
hidden) are multiplied from the left by the same orthogonal matrix, and so is gradient descent: it merely turns along.
Turn such that the first `items` rows span the columns of Y, and the next `hidden` rows what is left of the columns of
the initial W2. All other rows of Y and W2 are then zero, receive zero gradient, and stay zero. They are left out:
1000 rows become 32 + 32, with the same trajectory but for rounding. A tanh output does not commute with the turn and is
trained with all its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.deep_linear.settings import Tree

DTYPE = torch.float64  # strengths start at 1e-6, beside errors of order 100
PASSAGES = (0.1, 0.5, 0.9)  # shares of the final strength whose first passage is timed

Member = tuple[float, float, int]  # initial strength, learning rate, seed


def hierarchical_features(seed: int, items: int, features: int, flip_probability: float) -> Tensor:
    """Features +-1 of the leaves of a binary tree, (features, items).

    The root's value is +-1 with equal odds; every branch below flips it with `flip_probability`.
    """
    stream = generator(seed, "tree")
    level = torch.where(torch.rand(1, features, generator=stream) < 0.5, -1.0, 1.0)
    while len(level) < items:
        level = level.repeat_interleave(2, dim=0)
        level = torch.where(torch.rand(level.shape, generator=stream) < flip_probability, -level, level)
    return level.T.to(DTYPE)


@dataclass(frozen=True)
class Problem:
    """An ensemble of M networks before training; the modes are the singular vectors of Y, one per item."""

    targets: Tensor  # (M, outputs, items), Y or its reduction
    first: Tensor  # (M, hidden, items), initial W1
    second: Tensor  # (M, outputs, hidden), initial W2
    left: Tensor  # (M, outputs, modes), left singular vectors of Y
    right: Tensor  # (M, modes, items), right singular vectors, transposed
    strengths: Tensor  # (M, modes), singular values s


def draw_problem(seed: int, settings: Tree, initial_strength: float, reduced: bool) -> list[Tensor]:
    """One member's targets, W1, W2, left and right singular vectors and strengths, as in Problem.

    Weights are normal with variance 2 u0 / N2: of the two vectors of a mode only their mean grows, and its expected
    squared length is then u0.
    """
    targets = hierarchical_features(seed, settings.items, settings.features, settings.flip_probability)
    left, s, right = torch.linalg.svd(targets, full_matrices=False)
    stream, scale = generator(seed, "init"), (2 * initial_strength / settings.hidden) ** 0.5
    first = scale * torch.randn(settings.hidden, settings.items, generator=stream, dtype=DTYPE)
    second = scale * torch.randn(settings.features, settings.hidden, generator=stream, dtype=DTYPE)
    if reduced:
        targets, second = turn_outputs(targets, second, left)
        left = torch.eye(len(targets), settings.items, dtype=DTYPE)
    return [targets, first, second, left, right, s]


def turn_outputs(targets: Tensor, second: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and second weights in the reduced output basis: `items` + at most `hidden` rows (see the module)."""
    inside = left.T @ second
    outside = torch.linalg.qr(second - left @ inside).R
    silent = torch.zeros(len(outside), targets.shape[1], dtype=DTYPE)
    return torch.cat([left.T @ targets, silent]), torch.cat([inside, outside])


def stack_problems(members: list[Member], settings: Tree, reduced: bool, device: str) -> Problem:
    """The ensemble of these members."""
    drawn = [draw_problem(seed, settings, strength, reduced) for strength, _, seed in members]
    return Problem(*(torch.stack(parts).to(device) for parts in zip(*drawn, strict=True)))


def descend(targets: Tensor, first: Tensor, second: Tensor, rates: Tensor, network: str) -> None:
    """One step of gradient descent on all members, in place. rates: (M, 1, 1)."""
    hidden = first if network == "linear" else torch.tanh(first)
    if network == "tanh_output":
        output = torch.bmm(second, hidden).tanh_()
        error = (targets - output).mul_(1 - output * output)
    else:
        error = torch.baddbmm(targets, second, hidden, alpha=-1)
    error.mul_(rates)
    back = torch.bmm(second.mT, error)
    if network != "linear":
        back.mul_(1 - hidden * hidden)
    second.baddbmm_(error, hidden.mT)
    first.add_(back)


def response(first: Tensor, second: Tensor, network: str) -> Tensor:
    """Outputs to all items, (M, outputs, items)."""
    output = torch.bmm(second, first if network == "linear" else torch.tanh(first))
    return output.tanh_() if network == "tanh_output" else output


def mode_strengths(output: Tensor, problem: Problem) -> Tensor:
    """Diagonal of U^T Sigma31(network) V, (M, modes): how much of each mode the network's outputs contain."""
    return (torch.bmm(problem.left.mT, output) * problem.right).sum(dim=-1)


class Stopwatch:
    """First passages and the fit of the analytic curve, updated at every measurement of the mode strengths."""

    def __init__(self, problem: Problem, u0: Tensor, rates: Tensor) -> None:
        """u0, rates: (M,)."""
        shape, device = problem.strengths.shape, problem.strengths.device
        self._strengths, self._rates = problem.strengths, rates[:, None]
        self._offset = torch.log(problem.strengths / u0[:, None] - 1)
        shares = torch.tensor(PASSAGES, dtype=DTYPE, device=device)
        self._levels = shares[:, None, None] * problem.strengths
        self.passages = torch.full((len(PASSAGES), *shape), torch.inf, dtype=DTYPE, device=device)
        self.last = torch.zeros(shape, dtype=DTYPE, device=device)
        self.sums = torch.zeros(4, *shape, dtype=DTYPE, device=device)  # of 1, u, u^2 and the squared misfit

    def state(self) -> State:
        """What a resumed training needs."""
        return {"passages": self.passages, "last": self.last, "sums": self.sums}

    def analytic(self, step: int) -> Tensor:
        """Eq. 12 for every member and mode, (M, modes)."""
        growth = 2 * step * self._strengths * self._rates
        return self._strengths * torch.sigmoid(growth - self._offset)

    def measure(self, step: int, u: Tensor, every: int) -> None:
        """Take in the strengths u (M, modes) after `step` iterations, the last measurement being `every` before."""
        fresh = torch.isinf(self.passages) & (u >= self._levels)
        between = (step - every * (u - self._levels) / (u - self.last)).clamp_(min=0)
        self.passages.copy_(torch.where(fresh, between, self.passages))
        self.last.copy_(u)
        self.sums += torch.stack([torch.ones_like(u), u, u * u, (u - self.analytic(step)) ** 2])

    def determination(self) -> Tensor:
        """R2 of the analytic curve over all measurements, (M, modes)."""
        count, total, squares, misfit = self.sums
        return 1 - misfit / (squares - total**2 / count)


def train_tree(config: RunConfig, run: Run) -> None:
    """Train every network of the row; log one row per member and one per member and mode."""
    for network in config.settings.networks:
        _train_network(config, run, network)


def _train_network(config: RunConfig, run: Run, network: str) -> None:
    settings: Tree = config.settings
    members = list(product(settings.initial_strengths, settings.learning_rates, config.seeds))
    u0, rates = (torch.tensor([m[i] for m in members], dtype=DTYPE, device=config.device) for i in (0, 1))
    problem = stack_problems(members, settings, network != "tanh_output", config.device)
    first, second = problem.first.clone(), problem.second.clone()
    watch, every = Stopwatch(problem, u0, rates), settings.measure_every
    state: State = {"first": first, "second": second, **watch.state()}
    for step in run.steps(settings.iterations + 1, state, phase=network):
        if step % every == 0:
            u = mode_strengths(response(first, second, network), problem)
            run.require_finite(step, u, members)
            watch.measure(step, u, every)
            _log_curves(run, network, step, u[0], watch.analytic(step)[0], settings.listed_modes)
        if step < settings.iterations:
            descend(problem.targets, first, second, rates[:, None, None], network)
        else:
            _log_ends(run, network, members, problem, first, second)
            _log_modes(run, network, members, problem, watch)


def invariant_drift(problem: Problem, first: Tensor, second: Tensor) -> Tensor:
    """Change of W1 W1^T - W2^T W2 over ||W1||^2 + ||W2||^2, (M,). Gradient flow conserves it in linear networks."""

    def invariant(w1: Tensor, w2: Tensor) -> Tensor:
        return w1 @ w1.mT - w2.mT @ w2

    change = invariant(first, second) - invariant(problem.first, problem.second)
    scale = first.square().sum(dim=(1, 2)) + second.square().sum(dim=(1, 2))
    return torch.linalg.matrix_norm(change) / scale


def distance_to_best(output: Tensor, problem: Problem, rank: int) -> Tensor:
    """Relative Frobenius distance of the outputs to the best approximation of Y of this rank, (M,)."""
    kept = problem.left[:, :, :rank] * problem.strengths[:, None, :rank]
    best = torch.bmm(kept, problem.right[:, :rank])
    return torch.linalg.matrix_norm(output - best) / torch.linalg.matrix_norm(best)


def _labels(network: str, members: list[Member]) -> dict[str, object]:
    u0, rates, seeds = (list(column) for column in zip(*members, strict=True))
    return {"network": network, "initial_strength": u0, "learning_rate": rates, "seed": seeds}


def _log_curves(run: Run, network: str, step: int, u: Tensor, analytic: Tensor, ranks: list[int]) -> None:
    """The listed modes of the first member; u and analytic: (modes,)."""
    shown = [rank for rank in ranks if rank <= len(u)]
    index = torch.tensor(shown, device=u.device) - 1
    run.log(kind="curve", network=network, step=step, mode=shown, strength=u[index], analytic=analytic[index])


def _log_ends(run: Run, network: str, members: list[Member], problem: Problem, first: Tensor, second: Tensor) -> None:
    """One row per member: where training has led."""
    distance = distance_to_best(response(first, second, network), problem, first.shape[1])
    drift = invariant_drift(problem, first, second)
    run.log(kind="member", **_labels(network, members), distance=distance, drift=drift)


def _log_modes(run: Run, network: str, members: list[Member], problem: Problem, watch: Stopwatch) -> None:
    """One row per member and mode: its strength, its passage times and the fit of the analytic curve."""
    r2 = watch.determination()
    for index in range(problem.strengths.shape[1]):
        times = dict(zip(("t10", "t50", "t90"), watch.passages[:, :, index], strict=True))
        s = problem.strengths[:, index]
        run.log(kind="mode", **_labels(network, members), mode=index + 1, s=s, **times, r2=r2[:, index])
