"""Modular addition with corrupted training labels: who is trained on what.

Pairs are numbered m * p + n. A seed fixes the split, the corrupted examples and their labels; members of one seed that
differ in alpha or xi have nested training sets and nested corruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.randomness import generator


@dataclass(frozen=True)
class Task:
    """The data of one member.

    train: (T,) training pairs, ascending. answer, label: (p^2,) true and trained-on answer of each pair.
    trained, corrupted: (p^2,) bool; a corrupted label is a redrawn one (it equals the truth with probability 1/p).
    """

    train: Tensor
    answer: Tensor
    label: Tensor
    trained: Tensor
    corrupted: Tensor


def corrupted_task(answer: Tensor, train_fraction: float, corruption: float, seed: int) -> Task:
    """Split the p^2 pairs of `answer` (p, p) and redraw a share `corruption` of the training labels."""
    truth = answer.reshape(-1)
    order = torch.randperm(len(truth), generator=generator(seed, "split"))
    redrawn = torch.randint(0, len(answer), truth.shape, generator=generator(seed, "labels"))
    count = round(train_fraction * len(truth))
    trained, corrupted = torch.zeros(2, len(truth), dtype=torch.bool)
    trained[order[:count]] = True
    corrupted[order[: round(corruption * count)]] = True
    return Task(trained.nonzero()[:, 0], truth, torch.where(corrupted, redrawn, truth), trained, corrupted)


@dataclass(frozen=True)
class Accuracies:
    """Scores the predictions of an ensemble. All tensors (M, p^2), on the ensemble's device."""

    answer: Tensor
    label: Tensor
    trained: Tensor
    corrupted: Tensor

    @classmethod
    def of(cls, tasks: Sequence[Task], device: str) -> Accuracies:
        """Stack the tasks of the members."""
        names = ("answer", "label", "trained", "corrupted")
        return cls(*(torch.stack([getattr(task, name) for task in tasks]).to(device) for name in names))

    def score(self, predicted: Tensor) -> dict[str, Tensor]:
        """Shares of right answers, (M,) each; nan where there is no example. `predicted`: (M, p^2).

        train, corrupted and uncorrupted accuracy count the labels that were trained on; test and inversion accuracy
        count the truth (inversion: on the corrupted training examples).
        """
        learnt, right = predicted == self.label, predicted == self.answer
        return {
            "train_accuracy": _share(learnt, self.trained),
            "corrupted_accuracy": _share(learnt, self.corrupted),
            "uncorrupted_accuracy": _share(learnt, self.trained & ~self.corrupted),
            "test_accuracy": _share(right, ~self.trained),
            "inversion_accuracy": _share(right, self.corrupted),
        }


def _share(hits: Tensor, among: Tensor) -> Tensor:
    return (hits & among).sum(dim=1, dtype=torch.float64) / among.sum(dim=1)
