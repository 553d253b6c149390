"""Spectra of products of random matrices, and of the Jacobians of deep tanh networks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.deep_linear.settings import Jacobian, Products
from ontogeny.studies.deep_linear.starts import random_orthogonal

DTYPE = torch.float64  # a product of a hundred factors spans all the digits there are
HALF_BIN = 0.05  # half the width of the square at the origin of the complex plane, as in Fig. 6B, C
QUANTILES = (0.1, 0.5, 0.9)


def summary(singular: Tensor) -> dict[str, Tensor]:
    """q10, q50, q90 and excess kurtosis of singular values (M, N), each (M,)."""
    values = singular.to(DTYPE)
    marks = torch.quantile(values, torch.tensor(QUANTILES, dtype=DTYPE, device=values.device), dim=1)
    centred = values - values.mean(dim=1, keepdim=True)
    kurtosis = centred.pow(4).mean(dim=1) / centred.square().mean(dim=1).square() - 3
    return {"q10": marks[0], "q50": marks[1], "q90": marks[2], "kurtosis": kurtosis}


def origin_share(eigenvalues: Tensor) -> Tensor:
    """Share of complex eigenvalues (M, N) within the square bin at the origin, (M,)."""
    inside = (eigenvalues.real.abs() < HALF_BIN) & (eigenvalues.imag.abs() < HALF_BIN)
    return inside.to(DTYPE).mean(dim=1)


def gaussian_factors(seeds: tuple[int, ...], layer: int, width: int) -> Tensor:
    """One factor per seed, entries normal with variance 1/width: (M, width, width)."""
    streams = (generator(seed, "factor", layer) for seed in seeds)
    draws = [torch.randn(width, width, generator=stream, dtype=DTYPE) for stream in streams]
    return torch.stack(draws).mul_(width**-0.5)


def orthogonal_factors(seeds: tuple[int, ...], layer: int, width: int) -> Tensor:
    """One Haar orthogonal factor per seed: (M, width, width)."""
    return torch.stack([random_orthogonal(width, width, generator(seed, "rotation", layer)) for seed in seeds])


def train_products(config: RunConfig, run: Run) -> None:
    """Multiply Gaussian factors, one product per seed; log and keep its spectrum at the wanted numbers of factors."""
    settings: Products = config.settings
    identity = torch.eye(settings.width, dtype=DTYPE, device=config.device)
    state = {"product": identity.repeat(len(config.seeds), 1, 1)}
    for step in run.steps(max(settings.factors), cast(State, state), phase="gaussian"):
        factors = gaussian_factors(config.seeds, step, settings.width).to(config.device)
        state["product"] = torch.bmm(factors, state["product"])
        if step + 1 in settings.factors:
            singular = torch.linalg.svdvals(state["product"])
            values = torch.linalg.eigvals(state["product"])
            share = origin_share(values)
            run.log(kind="gaussian", factors=step + 1, seed=config.seeds, origin_share=share, **summary(singular))
            parts = {"singular": singular, "real": values.real, "imaginary": values.imag}
            run.checkpoint(f"gaussian-{step + 1:03d}", parts)


def propagate(factors: Tensor, gains: Tensor, activity: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """One layer x -> g W tanh x of every (gain, power), and the Jacobian of all layers so far.

    factors: W, (M, N, N). gains: (K, 1). activity: x, (M, K, N). jacobian: (M, K, N, N).
    """
    rate = torch.tanh(activity)
    slope = gains * (1 - rate * rate)
    scaled = (jacobian * slope[..., None]).flatten(0, 1)
    turned = torch.bmm(factors.repeat_interleave(len(gains), dim=0), scaled)
    return gains * torch.bmm(rate, factors.mT), turned.unflatten(0, jacobian.shape[:2])


def train_jacobian(config: RunConfig, run: Run) -> None:
    """Carry an input and the Jacobian through orthogonal tanh layers, for every gain, input power and seed."""
    settings: Jacobian = config.settings
    pairs = [(gain, power) for gain in settings.gains for power in settings.powers]
    gains, powers = (torch.tensor(column, device=config.device)[:, None] for column in zip(*pairs, strict=True))
    draws = [torch.randn(settings.width, generator=generator(seed, "input")) for seed in config.seeds]
    identity = torch.eye(settings.width, device=config.device)
    state = {
        "activity": torch.stack(draws)[:, None].to(config.device) * powers.sqrt(),
        "jacobian": identity.repeat(len(draws), len(pairs), 1, 1),
        "rotation": identity.to(DTYPE).repeat(len(draws), 1, 1),
    }
    for step in run.steps(settings.layers - 1, cast(State, state), phase="jacobian"):
        factors = orthogonal_factors(config.seeds, step, settings.width).to(config.device)
        state["rotation"] = torch.bmm(factors, state["rotation"])
        state["activity"], state["jacobian"] = propagate(factors.float(), gains, state["activity"], state["jacobian"])
        if step + 2 == settings.layers:
            _log_jacobian(run, config.seeds, pairs, settings.layers - 1, state)


def _log_jacobian(
    run: Run, seeds: tuple[int, ...], pairs: list[tuple[float, float]], factors: int, state: dict[str, Tensor]
) -> None:
    """Spectra of the Jacobians, and of the product of the orthogonal factors alone."""
    rotation = torch.linalg.svdvals(state["rotation"])
    run.log(kind="orthogonal", factors=factors, seed=seeds, **summary(rotation))
    spectra = {"orthogonal": rotation}
    for index, (gain, power) in enumerate(pairs):
        singular = torch.linalg.svdvals(state["jacobian"][:, index])
        run.log(kind="tanh", factors=factors, gain=gain, power=power, seed=seeds, **summary(singular))
        spectra[f"tanh-{index:03d}"] = singular
    run.checkpoint("jacobian", spectra)
