"""Balls and urns: sequences drawn from one of D categorical distributions, and the two ideal ways to predict them.

A task is a distribution theta over V symbols, theta ~ Dirichlet(1, ..., 1). A sequence is a task, picked at random from
the D training tasks, and C independent draws from it. What is known before draw t are the counts n_v of the symbols so
far. Bayes' rule gives the memorising predictor from the D training tasks as the prior, and the generalising one from
the Dirichlet:

    M_t(v) = sum_j p(j | n) theta_jv,   log p(j | n) = sum_u n_u log theta_ju + const
    G_t(v) = (n_v + 1) / (t + V)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.randomness import generator


def draw_tasks(count: int, symbols: int, stream: torch.Generator) -> Tensor:
    """`count` tasks from Dirichlet(1, ..., 1): (count, V), float64. More tasks leave the first ones as they are."""
    parts = torch.empty(count, symbols, dtype=torch.float64).exponential_(generator=stream)
    return parts / parts.sum(-1, keepdim=True)


def training_tasks(count: int, symbols: int, seed: int) -> Tensor:
    """The training tasks of a seed: (D, V). Those of a smaller D are the first ones of a larger D."""
    return draw_tasks(count, symbols, generator(seed, "tasks"))


def draw_symbols(boundaries: Tensor, uniform: Tensor) -> Tensor:
    """Sequences by inversion. boundaries: (..., D, V - 1), cumulated tasks. uniform: (..., B, 1 + C) in [0, 1).

    The first number picks the task, each other one a symbol: (..., B, C) of int64.
    """
    task = picked_tasks(uniform, boundaries.shape[-2])
    chosen = boundaries.gather(-2, task.unsqueeze(-1).expand(*task.shape, boundaries.shape[-1]))
    return torch.searchsorted(chosen, uniform[..., 1:].contiguous(), right=True)


def picked_tasks(uniform: Tensor, count: int) -> Tensor:
    """Which of `count` tasks the first of the numbers (..., 1 + C) picks: (...) of int64."""
    return (uniform[..., 0] * count).long().clamp_(max=count - 1)  # a float32 product may round up to `count`


def boundaries_of(tasks: Tensor) -> Tensor:
    """Cumulated tasks without the last entry, which is one: (..., V - 1)."""
    return tasks.cumsum(-1)[..., :-1].contiguous()


def inputs_of(symbols: Tensor, start: int) -> Tensor:
    """What a network sees when it predicts each symbol: a start token, then all symbols but the last."""
    return torch.cat([torch.full_like(symbols[..., :1], start), symbols[..., :-1]], dim=-1)


def counts_before(symbols: Tensor, vocabulary: int) -> Tensor:
    """How often each symbol came before each place: (..., C, V), float64, for symbols (..., C)."""
    seen = torch.nn.functional.one_hot(symbols, vocabulary).double()
    return seen.cumsum(-2) - seen


def memorising(tasks: Tensor, counts: Tensor) -> Tensor:
    """M: probabilities (..., V) of the next symbol. tasks: (D, V). counts: (..., V)."""
    return (counts @ tasks.log().T).softmax(-1) @ tasks


def generalising(counts: Tensor) -> Tensor:
    """G: probabilities (..., V) of the next symbol. counts: (..., V)."""
    return (counts + 1) / (counts.sum(-1, keepdim=True) + counts.shape[-1])


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis. Both strictly positive."""
    return (p * (p.log() - q.log())).sum(-1)
