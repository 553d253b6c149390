"""Who is in the ensemble of a run, and what is logged about everyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.corrupted_grokking.task import Accuracies, Task, corrupted_task


@dataclass(frozen=True)
class Member:
    """One network: a point of the sweep and a seed. The fields are columns of the history."""

    seed: int
    train_fraction: float
    corruption: float
    weight_decay: float
    dropout: float
    batch_norm: bool


def members(config: RunConfig) -> list[Member]:
    """All members of a run; those with equally large training sets stand together."""
    settings = config.settings
    dropouts, norms = getattr(settings, "dropout", [0.0]), getattr(settings, "batch_norm", [False])
    lists = (settings.train_fraction, norms, settings.corruption, settings.weight_decay, dropouts, config.seeds)
    return [Member(seed, alpha, xi, decay, rate, norm) for alpha, norm, xi, decay, rate, seed in product(*lists)]


def tasks_of(ensemble: Sequence[Member], data: Folder, modulus: int) -> list[Task]:
    """The training data of every member."""
    answer = torch.from_numpy(data.arrays(f"addition-p{modulus}.npz")["answer"])
    return [corrupted_task(answer, member.train_fraction, member.corruption, member.seed) for member in ensemble]


def weight_decays(ensemble: Sequence[Member], device: str) -> Tensor:
    """The members' weight decays, (M,)."""
    return torch.tensor([member.weight_decay for member in ensemble], device=device)


class Recorder:
    """Writes the history: one row per member at every logged step."""

    def __init__(self, run: Run, ensemble: Sequence[Member], tasks: Sequence[Task]) -> None:
        self.run = run
        self.ensemble = ensemble
        self.accuracies = Accuracies.of(tasks, run.config.device)
        fields = [asdict(member) for member in ensemble]
        self.columns = {name: [member[name] for member in fields] for name in fields[0]}

    def stretches(self, state: State, phase: str = "train") -> Iterator[range]:
        """The steps from one logged state to the next, as ranges: the unit in which a training is saved and resumed."""
        settings = self.run.config.settings
        bounds = [*range(0, settings.steps, settings.log_every), settings.steps]
        for index in self.run.steps(len(bounds) - 1, state, phase):
            yield range(bounds[index], bounds[index + 1])

    def log(self, step: int, predicted: Tensor, measures: dict[str, Any]) -> None:
        """Log accuracies and further `measures`, (M,) each. Raises DivergedTraining if a measure is not finite."""
        for values in measures.values():
            self.run.require_finite(step, values, self.ensemble)
        self.run.log(step=step, **self.columns, **self.accuracies.score(predicted), **measures)
