"""Random ReLU features with trained output weights, learning from a noisy ReLU teacher.

The generalisation error needs no test set. For inputs x ~ N(0, I) the second moments of rectified projections are the
arc-cosine kernel (Cho & Saul 2009),
    < relu(u.x) relu(w.x) > = |u||w| (sin a + (pi - a) cos a)/(2 pi),  a the angle between u and w,
and < relu(u.x) > = |u|/sqrt(2 pi), so that the error is a quadratic form of the output weights. These follow a linear
gradient flow, which is solved in the eigenbasis of the smaller of the two Gram matrices of the training features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig
from ontogeny.studies.high_dim_generalization.settings import Features

DTYPE = torch.float64  # at the peak the features are ill-conditioned
FIRST_TIME = 1e-3
BULK_VARIANCE = 1 / 2 - 1 / (2 * math.pi) - 1 / 4 - 1 / (4 * math.pi)
FROZEN = 1e-13  # eigenvalues below this share of the largest are rounding errors


@dataclass(frozen=True)
class Task:
    """A teacher of unit variance and zero mean, and noisy samples of it.

    x (P, d), y (P,). The teacher is f*(x) = output . relu(hidden x) - offset; hidden (K, d), output (K,).
    """

    x: Tensor
    y: Tensor
    hidden: Tensor
    output: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Flow:
    """Everything of a student's training over K times, each (K,), and its spectrum, (min(width, P),).

    error: estimation error. residual: mean squared error on the training samples. norm: |c|, the distance of the
    output weights from their start at zero. feature_norm: root mean square of |phi(x)| over the training samples, ().
    """

    error: Tensor
    residual: Tensor
    norm: Tensor
    feature_norm: Tensor
    eigenvalues: Tensor


def kernel(left: Tensor, right: Tensor) -> Tensor:
    """< relu(u.x) relu(w.x) > for all rows u of `left` (A, d) and w of `right` (B, d): (A, B)."""
    first, second = left.norm(dim=1)[:, None], right.norm(dim=1)
    cosine = ((left @ right.T) / first / second).clamp_(-1, 1)
    sine = (1 - cosine * cosine).sqrt_()
    angle = cosine.acos().neg_().add_(math.pi)
    return angle.mul_(cosine).add_(sine).mul_(first).mul_(second / (2 * math.pi))


def mean_feature(weights: Tensor) -> Tensor:
    """< relu(w.x) > for the rows w of `weights`."""
    return weights.norm(dim=1) / math.sqrt(2 * math.pi)


def bulk_edge(width: int, samples: int) -> float:
    """Lower edge of the scaled Marchenko-Pastur law of the small eigenvalues of Phi^T Phi/P (derived, no fit).

    Of the mean square 1/2 of a rectified standard normal variable, degrees 0, 1 and 2 of its Hermite expansion hold
    1/(2 pi), 1/4 and 1/(4 pi). They are few directions with large eigenvalues. What is left of every feature,
    BULK_VARIANCE, acts as independent noise, so that its Gram matrix is Wishart.
    """
    return BULK_VARIANCE * ((width / samples) ** 0.5 - 1) ** 2


def make_task(seed: int, settings: Features, device: str) -> Task:
    """Draw a teacher, standardise its output, and draw its training set."""
    hidden = _normal(seed, "teacher", settings.teacher, settings.inputs) * settings.inputs**-0.5
    output = _normal(seed, "teacher output", settings.teacher)
    mean = output @ mean_feature(hidden)
    output = output / (output @ kernel(hidden, hidden) @ output - mean**2).sqrt()
    offset = output @ mean_feature(hidden)
    x = _normal(seed, "inputs", settings.samples, settings.inputs)
    noise = _normal(seed, "noise", settings.samples) * settings.snr**-0.5
    y = (x @ hidden.T).relu() @ output - offset + noise
    return Task(*(tensor.to(device) for tensor in (x, y, hidden, output, offset)))


def student_weights(seed: int, width: int, settings: Features, device: str) -> Tensor:
    """Frozen first layer of a student, (width, d)."""
    return (_normal(seed, "student", width, settings.inputs) * settings.inputs**-0.5).to(device)


def basis(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient flow of output weights c(t) = B h(t) with h = q (1 - exp(-lambda t))/lambda.

    features (P, H), labels (P,). Returns lambda (r,), q (r,) and B (H, r). Of the two Gram matrices over P the smaller
    is decomposed: with V from H <= P, B = V and q = V^T Phi^T y/P; with U from H > P, B = Phi^T U/P and q = U^T y.
    """
    samples, width = features.shape
    if width <= samples:
        values, vectors = torch.linalg.eigh(features.T @ features / samples)
        return values, vectors.T @ (features.T @ labels) / samples, vectors
    values, vectors = torch.linalg.eigh(features @ features.T / samples)
    return values, vectors.T @ labels, features.T @ vectors / samples


def flow(task: Task, weights: Tensor, times: Tensor) -> Flow:
    """Train a student with these first-layer weights from a zero output; exact at every time."""
    features = (task.x @ weights.T).relu()
    values, drive, directions = basis(features, task.y)
    rate = torch.where(values > FROZEN * values[-1], values, 0.0)[:, None]
    gain = torch.where(rate > 0, -torch.expm1(-rate * times) / rate, times)
    height = drive[:, None] * gain  # (r, K)
    along = directions.T @ kernel(weights, weights) @ directions
    target = kernel(weights, task.hidden) @ task.output - mean_feature(weights) * task.offset
    error = (height * (along @ height)).sum(0) - 2 * (directions.T @ target) @ height + 1
    reached = features @ (directions @ height)
    return Flow(
        error=error,
        residual=(reached - task.y[:, None]).square().mean(dim=0),
        norm=(directions @ height).norm(dim=0),
        feature_norm=features.square().sum(dim=1).mean().sqrt(),
        eigenvalues=values,
    )


def time_grid(settings: Features, device: str) -> Tensor:
    """Logarithmic grid of times, (K,)."""
    first, last = math.log10(FIRST_TIME), math.log10(settings.last_time)
    return torch.logspace(first, last, settings.times, dtype=DTYPE, device=device)


def train_features(config: RunConfig, run: Run) -> None:
    """Train every width with every seed, one seed a step; keep the curves, a checkpoint a seed."""
    settings: Features = config.settings
    times = time_grid(settings, config.device)
    for step in run.steps(len(config.seeds), {}, phase="students"):
        seed = config.seeds[step]
        task = make_task(seed, settings, config.device)
        kept: dict[str, Tensor] = {}
        for width in settings.widths:
            done = flow(task, student_weights(seed, width, settings, config.device), times)
            kept |= {f"{width}.{name}": getattr(done, name) for name in Flow.__dataclass_fields__}
        run.checkpoint(f"seed-{seed:03d}", kept)


def _normal(seed: int, purpose: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, purpose, *shape), dtype=DTYPE)
