"""Timing of the ensembles that dominate a laptop run: the phase boundary, and learning rates close to it."""

from __future__ import annotations

import torch

from ontogeny.bench import BenchCase
from ontogeny.studies.feature_emergence.data import GroupData
from ontogeny.studies.feature_emergence.grokking import Training
from ontogeny.studies.feature_emergence.groups import decompose, multiplication_table
from ontogeny.studies.feature_emergence.members import Member, crews
from ontogeny.studies.feature_emergence.network import flops, initial_weights, training_pairs
from ontogeny.studies.feature_emergence.settings import Grokking
from ontogeny.study import plan


def cases(device: str) -> list[BenchCase]:
    """One large group of the boundary, and the row of learning rates, at laptop scale; no network stops early."""
    chosen = {"boundary": {"groups": ["C31"], "fractions": [0.3], "stop_at": None}, "rates": {}}
    return [_case(row, changes, device) for row, changes in chosen.items()]


def _case(row: str, changes: dict, device: str) -> BenchCase:
    run = next(run for run in plan("feature_emergence", "laptop").runs.values() if run.row == row)
    settings = Grokking(**{**run.settings, **changes})
    table = multiplication_table(settings.groups[0])
    group = GroupData(table, decompose(table))
    ensemble = [Training(crew, group, settings, device) for crew in crews(settings, run.seeds, device)]

    def together(steps: int) -> None:
        for training in ensemble:
            training.advance(steps)

    member = ensemble[0].crew.members[0]
    needed = flops(len(table), member.width, member.pairs)
    count = sum(len(training.crew.members) for training in ensemble)
    return BenchCase(row, count, settings.epochs, needed, together, _Single(member, torch.from_numpy(table), device))


class _Single:
    """One network the plain way: one-hot inputs, autograd, torch's Adam."""

    def __init__(self, member: Member, table: torch.Tensor, device: str) -> None:
        order = len(table)
        pairs = training_pairs(order, member.fraction, member.seed)
        one_hot = torch.nn.functional.one_hot
        self.inputs = (
            torch.cat([one_hot(pairs // order, order), one_hot(pairs % order, order)], dim=1).float().to(device)
        )
        self.targets = (one_hot(table.flatten()[pairs], order) - 1 / order).float().to(device)
        start = initial_weights([member.seed], order, member.width, [member.zero_readout], device)[0]
        self.layer = start[:2].flatten(0, 1).clone().requires_grad_()
        self.readout = start[2].T.clone().requires_grad_()
        self.optimiser = torch.optim.Adam(
            [self.layer, self.readout], lr=member.learning_rate, weight_decay=member.weight_decay
        )

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.optimiser.zero_grad()
            outputs = (self.inputs @ self.layer).square() @ self.readout
            error = outputs - outputs.mean(dim=1, keepdim=True) - self.targets
            error.square().sum(dim=1).mean().backward()
            self.optimiser.step()
