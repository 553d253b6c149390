"""The study's probes on a user's attention layer: circuits of its heads, and which algorithm it resembles."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ontogeny.errors import ConfigError
from ontogeny.own import Examination, tensors_of
from ontogeny.randomness import generator
from ontogeny.studies.icl_regression import circuits, references
from ontogeny.studies.icl_regression.own_settings import OwnSettings
from ontogeny.studies.icl_regression.prompts import Prompts, Sampler, covariance
from ontogeny.studies.icl_regression.settings import Task

Circuits = tuple[Tensor, Tensor]  # kq (H, D, d) and ov (H, 1, D), both with the logits' scale taken in


def circuits_of(settings: OwnSettings, file: str) -> Circuits:
    """KQ[:, :d] and OV of every head of a checkpoint. Raises ConfigError for tensors that do not fit each other."""
    d, kq, ov = settings.covariates, [], []
    for place, head in enumerate(settings.heads):
        where = f"own: heads.{place}"
        shapes = {head.query: (None, d + 1), head.key: (None, d + 1), head.value: (None, d + 1), head.output: (1, None)}
        found = tensors_of(file, shapes, where)
        query, key, value, output = (found[name] for name in (head.query, head.key, head.value, head.output))
        if len(query) != len(key) or len(value) != output.shape[1]:
            raise ConfigError(
                f"{where}: {file}: query and key have {len(query)} and {len(key)} rows, value {len(value)} rows and "
                f"output {output.shape[1]} columns; both pairs must agree."
            )
        kq.append(settings.scale * (key.T @ query)[:, :d])
        ov.append(output @ value)
    return torch.stack(kq), torch.stack(ov)


def predictions(settings: OwnSettings, found: Circuits, prompts: Prompts) -> Tensor:
    """Predictions (B,) of the layer for prompts (B, ...)."""
    kq, ov = found
    tokens = prompts.tokens[:, :-1]  # (B, D, L), without the row of ones
    asked = torch.einsum("hij,bj->bhi", kq, prompts.query)
    logits = asked @ tokens
    weights = logits.softmax(-1) if settings.kernel == "softmax" else logits / settings.length
    return torch.einsum("hi,bhi->b", ov[:, 0], weights @ tokens.mT)


def examine(settings: OwnSettings, device: str) -> Examination:
    """omega, mu and shares of energy of heads at each checkpoint; distances to known algorithms by prompt length."""
    steps = [checkpoint.step for checkpoint in settings.checkpoints]
    found = [circuits_of(settings, checkpoint.file) for checkpoint in settings.checkpoints]
    heads = pd.concat([head_table(step, *pair) for step, pair in zip(steps, found, strict=True)], ignore_index=True)
    distances = distance_table(settings, found[-1])
    kq, ov = found[-1]
    mu = circuits.label_weight(ov)
    kind = "single" if len(mu) == 1 else "split" if bool(circuits.is_split(mu)) else "same-sign"
    precision = torch.linalg.inv(covariance(_task(settings))).float()
    facts = [
        ("kind of network", kind),
        ("active heads", str(int(circuits.active(mu).sum()))),
        ("cosine of the key-query circuits with the identity", _mean(circuits.cosine(kq, torch.eye(kq.shape[2])), mu)),
        ("cosine with the inverse covariance", _mean(circuits.cosine(kq, precision), mu)),
    ]
    return Examination(values_of(settings, kq, ov, distances), {"heads": heads, "distances": distances}, facts)


def _task(settings: OwnSettings) -> Task:
    support = list(range(1, settings.covariates + 1))
    return Task(
        dimension=settings.covariates, correlation=settings.correlation, supports=[support], noise=settings.noise
    )


def _mean(values: Tensor, mu: Tensor) -> str:
    return f"{float(circuits.weighted_mean(values, mu)):.4f}"


def head_table(step: int, kq: Tensor, ov: Tensor) -> pd.DataFrame:
    """omega, mu and the shares of energy of every head."""
    return pd.DataFrame({
        "step": step, "head": range(1, len(kq) + 1), "omega": circuits.scale(kq).numpy(),
        "mu": circuits.label_weight(ov).numpy(), "diagonal_share": circuits.diagonal_share(kq).numpy(),
        "label_share": circuits.label_share(ov).numpy(),
    })  # fmt: skip


def distance_table(settings: OwnSettings, found: Circuits) -> pd.DataFrame:
    """Risk of the layer, and its distance to each reference predictor, at every prompt length."""
    rows: list[dict[str, Any]] = []
    for length in settings.lengths:
        sampler = Sampler(_task(settings), length, "cpu")
        drawn = sampler.draw(settings.prompts, [generator(0, "prompts", length)])
        prompts, target = drawn[0], drawn.target[0, :, 0]
        own = predictions(settings, found, prompts)
        known = {
            "gd": references.gradient_descent(prompts)[:, 0],
            "debiased_gd": references.debiased_gradient_descent(prompts)[:, 0],
            "kernel": references.kernel(prompts, settings.noise, settings.length)[:, 0],
            "ridge": references.ridge(prompts, settings.noise)[:, 0],
        }
        row = {"length": length, "risk": float((own - target).square().mean())}
        for name, prediction in known.items():
            step = references.best_step(prediction, target) if name in ("gd", "debiased_gd") else 1.0
            row[f"risk_{name}"] = float((step * prediction - target).square().mean())
            row[f"to_{name}"] = float(references.distance(own, step * prediction))
        rows.append(row)
    return pd.DataFrame(rows)


def values_of(settings: OwnSettings, kq: Tensor, ov: Tensor, distances: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The study's tests that one network can be asked about."""
    mu, count = circuits.label_weight(ov), len(kq)
    if settings.correlation or settings.kernel == "linear":
        precision = torch.linalg.inv(covariance(_task(settings))).float()
        cosine = float(circuits.weighted_mean(circuits.cosine(kq, precision), mu))
        return {"c7": {"cos_inverse": cosine}} if settings.correlation else {}
    if count > 4:
        return {}
    values = {
        "c1": {
            f"diagonal_{count}": float(circuits.weighted_mean(circuits.diagonal_share(kq), mu)),
            f"label_{count}": float(circuits.weighted_mean(circuits.label_share(ov), mu)),
        }
    }
    if count > 1 and bool(circuits.is_split(mu)):
        omega, lively = circuits.scale(kq), circuits.active(mu)
        values["c2"] = {
            f"signs_{count}": float((omega.sign() == mu.sign())[lively].float().mean()),
            f"variation_{count}": float(circuits.weighted_variation(omega.abs(), mu)),
            f"zero_sum_{count}": float(mu.sum().abs() / mu.abs().sum()),
        }
        at_training = distances[distances["length"] == settings.length]
        if len(at_training):
            values["c4"] = {"distance": float(at_training["to_debiased_gd"].iloc[0])}
    return values
