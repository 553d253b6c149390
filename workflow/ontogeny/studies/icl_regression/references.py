"""The estimators that the trained networks are held against.

All predictors map prompts to (B, tasks); the step size of gradient descent is fitted by the caller.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ontogeny.studies.icl_regression.prompts import Prompts


def _split(prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
    """Covariates (B, d, L), labels (B, tasks, L), query (B, d, 1)."""
    dimension = prompts.query.shape[-1]
    return prompts.tokens[:, :dimension], prompts.tokens[:, dimension:-1], prompts.query.unsqueeze(-1)


def gradient_descent(prompts: Prompts) -> Tensor:
    """One step from zero with eta = 1: (1/L) sum_l y_l x_l . x_q."""
    x, y, query = _split(prompts)
    return (y @ (x.mT @ query)).squeeze(-1) / x.shape[-1]


def debiased_gradient_descent(prompts: Prompts) -> Tensor:
    """The same with x_l - mean(x) in place of x_l."""
    x, y, query = _split(prompts)
    return (y @ ((x - x.mean(-1, keepdim=True)).mT @ query)).squeeze(-1) / x.shape[-1]


def ridge(prompts: Prompts, noise: float) -> Tensor:
    """Ridge regression with lambda = sigma^2 d, the Bayes-optimal predictor for beta ~ N(0, I/d)."""
    x, y, query = _split(prompts)
    penalty = noise * x.shape[1] * torch.eye(x.shape[1], dtype=x.dtype)
    return (y @ (x.mT @ torch.linalg.solve(x @ x.mT + penalty, query))).squeeze(-1)


def smoother(prompts: Prompts, omega: list[float], mu: list[float]) -> Tensor:
    """Heads with KQ = omega I and OV = mu on the label: sum_h mu_h sum_l softmax(omega_h x_l . x_q) y_l."""
    x, y, query = _split(prompts)
    logits = (x.mT @ query).squeeze(-1)
    heads = [m * torch.softmax(w * logits, -1) for w, m in zip(omega, mu, strict=True)]
    return (y @ torch.stack(heads).sum(0).unsqueeze(-1)).squeeze(-1)


def kernel(prompts: Prompts, noise: float, length: int) -> Tensor:
    """The best single head for long prompts of the training length: omega = 1/sqrt(d), mu accordingly."""
    dimension = prompts.query.shape[-1]
    mu = dimension**0.5 / (1 + (1 + noise) * dimension / length * torch.e)
    return smoother(prompts, [dimension**-0.5], [mu])


def best_step(prediction: Tensor, target: Tensor) -> float:
    """The factor eta that brings eta * prediction closest to target in the mean square."""
    return float((prediction * target).sum() / prediction.square().sum())


def distance(prediction: Tensor, reference: Tensor) -> Tensor:
    """E (prediction - reference)^2 / E prediction^2 over prompts. prediction: (..., B), reference: (B,)."""
    return (prediction - reference).square().mean(-1) / prediction.square().mean(-1)
