"""What is measured on one network: its distances to the ideal predictors on a fixed set of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.studies.icl_strategies import urns


@dataclass(frozen=True, eq=False)
class Examination:
    """Sequences (n, C), and three distributions (n, C, V) over each symbol: the true one, M and G."""

    symbols: Tensor
    truth: Tensor
    memorising: Tensor
    generalising: Tensor

    @classmethod
    def of(cls, symbols: Tensor, drawn_from: Tensor, training: Tensor) -> Examination:
        """symbols: (n, C). drawn_from: (n, V), the task of each sequence. training: (D, V)."""
        counts = urns.counts_before(symbols, training.shape[1])
        truth = drawn_from.unsqueeze(1).expand(counts.shape)
        return cls(symbols, truth, urns.memorising(training, counts), urns.generalising(counts))

    @classmethod
    def of_training_tasks(cls, training: Tensor, count: int, length: int, seed: int, purpose: str) -> Examination:
        """`count` new sequences from the training tasks (D, V) of a seed."""
        stream = generator(seed, purpose, len(training))
        uniform = torch.rand(count, 1 + length, generator=stream)
        drawn_from = training[urns.picked_tasks(uniform, len(training))]
        return cls.of(urns.draw_symbols(urns.boundaries_of(training).float(), uniform), drawn_from, training)

    def losses(self) -> tuple[float, float]:
        """Mean KL(truth || M) and KL(truth || G), nats."""
        found = (urns.divergence(self.truth, ideal).mean() for ideal in (self.memorising, self.generalising))
        return float(next(found)), float(next(found))

    def between_ideals(self) -> float:
        """Symmetrised divergence of M and G, nats."""
        return float(symmetrised(self.memorising, self.generalising))

    def mixture(self, weight: Tensor) -> Tensor:
        """w M + (1 - w) G for weights (k,): (k, n, C, V)."""
        return self.generalising + weight.view(-1, 1, 1, 1) * (self.memorising - self.generalising)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says at k checkpoints, and the examination that it says it in.

    logs: log probabilities (k, n, C, V). All divergences are linear in them or in the probabilities.
    """

    logs: Tensor
    given: Examination

    @cached_property
    def probabilities(self) -> Tensor:
        """(k, n, C, V)."""
        return self.logs.exp()

    @cached_property
    def negative_entropy(self) -> Tensor:
        """Sum of p log p over everything said at a checkpoint, (k,)."""
        return torch.linalg.vecdot(self.probabilities.flatten(1), self.logs.flatten(1))

    def to(self, ideals: Tensor) -> Tensor:
        """Mean KL(network || ideal) for ideals (q, n, C, V): (k, q)."""
        cross = self.probabilities.flatten(1) @ ideals.log().flatten(1).T
        return (self.negative_entropy.unsqueeze(1) - cross) / self.given.symbols.numel()

    def coming_from(self, ideal: Tensor) -> Tensor:
        """Mean KL(ideal || network) for an ideal (n, C, V): (k,)."""
        flat = ideal.flatten()
        return (flat @ flat.log() - self.logs.flatten(1) @ flat) / self.given.symbols.numel()

    def relative_distance(self) -> tuple[Tensor, Tensor, Tensor]:
        """Symmetrised divergences to M and to G, and d_rel in [0, 1]: 1 at M, 0 at G; (k,) each."""
        ideals = (self.given.memorising, self.given.generalising)
        to_m, to_g = ((self.to(ideal.unsqueeze(0))[:, 0] + self.coming_from(ideal)) / 2 for ideal in ideals)
        r = ((to_g - to_m) / self.given.between_ideals()).clamp(-1, 1)
        return to_m, to_g, (r + 1) / 2

    def to_mixtures(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """KL(network || w M + (1 - w) G) for weights (q,), and its derivative with respect to w: (k, q) each."""
        mixed = self.given.mixture(weight)
        difference = (self.given.memorising - self.given.generalising) / mixed
        slope = -self.probabilities.flatten(1) @ difference.flatten(1).T / self.given.symbols.numel()
        return self.to(mixed), slope

    def total_variation(self, weight: Tensor) -> Tensor:
        """Mean total variation to the mixture with each checkpoint's own weight (k,): (k,)."""
        pairs = zip(self.probabilities, weight, strict=True)
        return torch.stack([(own - self.given.mixture(w)[0]).abs().sum() for own, w in pairs]) / (
            2 * self.given.symbols.numel()
        )

    def from_truth(self) -> Tensor:
        """Mean KL(truth || network), (k,)."""
        return self.coming_from(self.given.truth)

    def from_generalising(self) -> Tensor:
        """Mean KL(G || network), (k,).

        On fresh tasks this is, in expectation, what the network loses against the best predictor: G is the mean of the
        truth given the counts, so that E KL(truth || network) - E KL(truth || G) = E KL(G || network).
        """
        return self.coming_from(self.given.generalising)


def symmetrised(p: Tensor, q: Tensor) -> Tensor:
    """(KL(p || q) + KL(q || p)) / 2, mean over the sequences and places of (..., n, C, V)."""
    return ((p - q) * (p.log() - q.log())).sum(-1).mean((-2, -1)) / 2
