"""Gradient descent on deep linear networks, many learning rates at once, until the fastest has learned.

A network of n matrices W_n ... W_1 sees the data only through the error E = (optimum - W_n ... W_1) Sigma11, which has
as many rows as there are outputs. Eq. 13 is evaluated in that thin form: with the suffixes S_l = W_n ... W_(l+1) and
the carried error T_l = E (W_l ... W_1)^T, the step of layer l is S_l^T T_(l-1), and

    S_(l-1) = S_l W_l,    T_l = T_(l-1) W_l^T,

so that no product of two square matrices is ever formed: 6 x outputs x width^2 operations a layer and iteration,
against 6 x width^3 for products of weight matrices, whatever the number of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ontogeny.run import Run, State
from ontogeny.studies.deep_linear.tasks import Task

DTYPE = torch.float32
CHECK_EVERY = 5  # iterations between looks at which members are done
DIVERGED = 100.0  # excess error, in units of that at the start or of a silent net, at which a member is given up
RISE = 1e-3  # relative rise of the error in one iteration that counts as rounding, not as oscillation
FLOOR = 1e-9  # excess error that is rounding, in units of that of a silent net

Watch = Callable[[int, Tensor, Tensor], None]


def suffix_products(weights: Sequence[Tensor]) -> list[Tensor]:
    """[S_0, ..., S_(n-1)] with S_l = W_n ... W_(l+1), each (M, outputs, inputs of layer l+1)."""
    suffixes = [weights[-1]]
    for matrix in reversed(weights[:-1]):
        suffixes.append(torch.bmm(suffixes[-1], matrix))
    return suffixes[::-1]


def descend(weights: Sequence[Tensor], suffixes: Sequence[Tensor], error: Tensor) -> None:
    """One step of gradient descent (Eq. 13), in place. error: E times each member's rate, (M, outputs, inputs)."""
    for index, matrix in enumerate(weights[:-1]):
        carried = torch.bmm(error, matrix.mT)
        matrix.baddbmm_(suffixes[index + 1].mT, error)
        error = carried
    weights[-1].add_(error)


@dataclass(frozen=True)
class Criterion:
    """When a network has learned: its excess error is below `threshold` and goes on falling for `hold` iterations."""

    threshold: float
    hold: int
    iterations: int


class Members:
    """The networks still in training: seeds x rates of one depth, a subset of all members that shrinks.

    Everything that changes lies in `state`: the numbers of the members still in training, their weights w0, w1, ...,
    the excess error one iteration ago (`last`), for how many iterations it has been falling below the threshold
    (`calm`) and `since` when, the error at which they count as diverged (`limit`), and the learning `times` of all
    members, infinite for those that have not learned.
    """

    def __init__(self, tasks: Sequence[Task], weights: Sequence[Sequence[Tensor]], rates: Tensor, device: str) -> None:
        """tasks, weights: per seed. rates: (seeds, rates per seed). Members count through rates first."""
        self._per_seed, total = rates.shape[1], rates.numel()
        self._rates = rates.reshape(-1, 1, 1).to(device, DTYPE)
        self._optimum = torch.stack([task.optimum for task in tasks]).to(device, DTYPE)
        known = [task.covariance for task in tasks if task.covariance is not None]
        self._covariance = torch.stack(known).to(device, DTYPE) if known else None
        self._silent = (self._optimum * _through(self._optimum, self._covariance)).sum(dim=(1, 2))
        self.matrices = len(weights[0])
        self.state: dict[str, Tensor] = {"members": torch.arange(total, device=device)}
        for index in range(self.matrices):
            stacked = torch.stack([layers[index] for layers in weights]).to(device, DTYPE)
            self.state[f"w{index}"] = stacked.repeat_interleave(self._per_seed, dim=0)
        for name in ("last", "limit"):
            self.state[name] = torch.full((total,), torch.inf, dtype=DTYPE, device=device)
        self.state["calm"] = torch.zeros(total, dtype=torch.int64, device=device)
        for name in ("since", "times"):
            self.state[name] = torch.full((total,), torch.inf, dtype=torch.float64, device=device)
        self._gather()

    @property
    def weights(self) -> list[Tensor]:
        """The weights of the members still in training."""
        return [self.state[f"w{index}"] for index in range(self.matrices)]

    @property
    def times(self) -> Tensor:
        """Learning times, (seeds, rates)."""
        return self.state["times"].reshape(-1, self._per_seed)

    @property
    def finished(self) -> bool:
        """Whether no member is left."""
        return not len(self.state["members"])

    def _gather(self) -> None:
        """Look up tasks and rates of the members still in training."""
        members = self.state["members"]
        self._seeds = members // self._per_seed
        self._live_rates, self._live_optimum = self._rates[members], self._optimum[self._seeds]
        self._live_covariance = None if self._covariance is None else self._covariance[self._seeds]
        self._live_silent = self._silent[self._seeds]

    def errors(self, suffixes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """E, (M, outputs, inputs), and the excess error in units of that of a silent network, (M,)."""
        if len(self._seeds) != len(self.state["members"]):  # the state was restored
            self._gather()
        deviation = self._live_optimum - suffixes[0]
        error = _through(deviation, self._live_covariance)
        return error, (deviation * error).sum(dim=(1, 2)) / self._live_silent

    def step(self, suffixes: Sequence[Tensor], error: Tensor) -> None:
        """One step of gradient descent for all members still in training."""
        descend(self.weights, suffixes, error * self._live_rates)

    def judge(self, step: int, excess: Tensor, criterion: Criterion) -> None:
        """Note which members have learned, given their excess errors after `step` iterations."""
        state, threshold = self.state, criterion.threshold
        if step == 0:
            state["limit"] = DIVERGED * excess.clamp(min=1.0)
        falling = (excess < threshold) & (excess <= state["last"] * (1 + RISE) + FLOOR)
        between = step - ((threshold - excess) / (state["last"] - excess)).double()
        begins = torch.where(state["last"] >= threshold, between, float(step))
        state["since"] = torch.where(falling & (state["calm"] == 0), begins, state["since"])
        state["calm"] = torch.where(falling, state["calm"] + 1, 0)
        state["last"] = excess
        members, learned = state["members"], state["calm"] == criterion.hold
        state["times"][members] = torch.where(learned, state["since"], state["times"][members])

    def release(self, last_rate: int | None) -> None:
        """Leave out members whose time can no longer matter.

        Those are diverged ones, and all of a seed once one has learned: whoever was to learn earlier has done so, as
        all are held equally long. Only the member with the rate number `last_rate` is trained until it has learned.
        """
        times, members = self.state["times"], self.state["members"]
        won = torch.isfinite(self.times).any(dim=1)[self._seeds]
        if last_rate is not None:
            won &= (members % self._per_seed != last_rate) | torch.isfinite(times[members])
        keep = ~won & (self.state["last"] < self.state["limit"])
        if keep.sum() <= 0.8 * len(keep):  # copying is not worth while for few
            for name in self.state.keys() - {"times"}:
                self.state[name] = self.state[name][keep]
            self._gather()


def _through(deviation: Tensor, covariance: Tensor | None) -> Tensor:
    """deviation Sigma11, (M, outputs, inputs)."""
    return deviation if covariance is None else torch.bmm(deviation, covariance)


def race(
    run: Run,
    phase: str,
    members: Members,
    criterion: Criterion,
    last_rate: int | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Train all members until each seed has its fastest rate; return the learning times (seeds, rates) [iterations].

    last_rate: number of the rate that is trained until it has learned even when another has won.
    watch(step, excess, members): called at every step, for learning curves.
    """
    for step in run.steps(criterion.iterations + 1, cast(State, members.state), phase=phase):
        suffixes = suffix_products(members.weights)
        error, excess = members.errors(suffixes)
        members.judge(step, excess, criterion)
        if watch is not None:
            watch(step, excess, members.state["members"])
        members.step(suffixes, error)
        if step % CHECK_EVERY == 0:
            members.release(last_rate)
            if members.finished:
                run.stop()
    return members.times
