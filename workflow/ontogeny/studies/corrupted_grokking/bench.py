"""Timing of the two full-batch ensembles that dominate a laptop run."""

from __future__ import annotations

import torch

from ontogeny.bench import BenchCase, product
from ontogeny.studies.corrupted_grokking.full_batch import Ensemble, flops
from ontogeny.studies.corrupted_grokking.members import Member
from ontogeny.studies.corrupted_grokking.model import initial_weights
from ontogeny.studies.corrupted_grokking.settings import FullBatch
from ontogeny.studies.corrupted_grokking.task import Task, corrupted_task
from ontogeny.study import plan


def cases(device: str) -> list[BenchCase]:
    """The weight-decay sweep and one seed of the phase diagram, at laptop scale."""
    return [_case("decay", 6, device), _case("grid", 1, device)]


def _case(row: str, seeds: int, device: str) -> BenchCase:
    runs = plan("corrupted_grokking", "laptop").runs.values()
    settings = FullBatch(**next(run.settings for run in runs if run.row == row))
    ensemble = [
        Member(seed, alpha, xi, decay, 0.0, False)
        for alpha in settings.train_fraction for xi in settings.corruption for decay in settings.weight_decay
        for seed in range(seeds)
    ]  # fmt: skip
    residues = torch.arange(settings.modulus)
    answer = (residues[:, None] + residues) % settings.modulus
    tasks = [corrupted_task(answer, member.train_fraction, member.corruption, member.seed) for member in ensemble]
    together = Ensemble(ensemble, tasks, settings, device)
    middle = len(ensemble) // 2  # a member with a training set of middling size
    mean_flops = sum(flops(settings.modulus, settings.width, len(task.train)) for task in tasks) / len(tasks)
    single = _Single(tasks[middle], settings, ensemble[middle], device)
    examples = round(sum(len(task.train) for task in tasks) / len(tasks))
    shape = (len(ensemble), examples, settings.width, settings.modulus)
    needs = [product(3, shape, torch.float32, device)]  # outputs, and back to the readout and to the hidden units
    return BenchCase(row, len(ensemble), settings.steps, mean_flops, together.advance, single, needs=needs)


class _Single:
    """One network the plain way: one-hot inputs, autograd, torch's AdamW."""

    def __init__(self, task: Task, settings: FullBatch, member: Member, device: str) -> None:
        p = settings.modulus
        one_hot = torch.nn.functional.one_hot
        left, right = one_hot(task.train // p, p), one_hot(task.train % p, p)
        self.inputs = torch.cat([left, right], dim=1).float().to(device)
        self.targets = one_hot(task.label[task.train], p).float().to(device)
        weights = initial_weights([member.seed], p, settings.width, device)[0]
        self.first = weights[:2].flatten(0, 1).clone().requires_grad_()
        self.readout = weights[2].clone().requires_grad_()
        self.optimiser = torch.optim.AdamW(
            [self.first, self.readout], lr=settings.learning_rate, betas=settings.betas, eps=settings.eps,
            weight_decay=member.weight_decay,
        )  # fmt: skip

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.optimiser.zero_grad()
            outputs = (self.inputs @ self.first).square() @ self.readout.T
            torch.nn.functional.mse_loss(outputs, self.targets).backward()
            self.optimiser.step()
