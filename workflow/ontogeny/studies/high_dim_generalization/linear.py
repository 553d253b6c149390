"""Linear students of a noisy linear teacher, solved exactly in the eigenbasis of their input correlation.

In that basis every weight follows a scalar equation with a known solution (see `theory`), so that one
eigendecomposition per matrix of inputs gives the error at every time, ridge, noise and initial scale. Discrete
gradient descent in the original basis is run beside it as a control.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.high_dim_generalization.settings import Linear, Spectrum
from ontogeny.studies.high_dim_generalization.theory import edges

DTYPE = torch.float64
FROZEN = 1e-10  # eigenvalues below this share of the largest are zero but for rounding
MARKS = 5  # times at which the control is compared with the flow
PORTION = 8  # points of time and ridge that are evaluated at once

Draw = dict[str, Tensor]


def draw(seed: int, samples: int, inputs: int) -> Draw:
    """One data set: x (P, N) with entries of variance 1/N, and unit teacher (N,), start (N,) and label noise (P,).

    Noise and start are scaled to a signal-to-noise ratio and an INR later, so that all of these share their draws.
    """
    shapes = {"x": (samples, inputs), "teacher": (inputs,), "start": (inputs,), "noise": (samples,)}
    drawn = {
        name: torch.randn(*shape, generator=generator(seed, name, samples), dtype=DTYPE)
        for name, shape in shapes.items()
    }
    drawn["x"] *= inputs**-0.5
    return drawn


def correlation(x: Tensor) -> Tensor:
    """X^T X, (N, N)."""
    return x.T @ x


def coordinates(drawn: Draw) -> dict[str, Tensor]:
    """Eigenvalues (N,), increasing, and teacher, start and noise in the eigenbasis: each (N,); |eps|^2.

    The noise is V^T X^T eps, of variance lambda. Frozen directions get exact zeros in place of rounding errors.
    """
    values, vectors = torch.linalg.eigh(correlation(drawn["x"]))
    alive = values > FROZEN * values[-1]
    noise = vectors.T @ (drawn["x"].T @ drawn["noise"])
    return {
        "eigenvalues": torch.where(alive, values, 0.0),
        "teacher": vectors.T @ drawn["teacher"],
        "start": vectors.T @ drawn["start"],
        "noise": torch.where(alive, noise, 0.0),
        "noise_power": drawn["noise"].square().sum(),
    }


def kernels(eigenvalues: Tensor, time: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e, 1 - lambda s and s of `theory`, each (S, K, N): left of the start, missing of the teacher, taken of the noise.

    eigenvalues: (S, N). time, ridge: (K,), the points at which the flow is evaluated.
    """
    rate = eigenvalues[:, None] + ridge[:, None]
    fallen = torch.expm1(-rate * time[:, None])
    gain = torch.where(rate > 0, -fallen / rate, time[:, None])
    return fallen + 1, 1 - eigenvalues[:, None] * gain, gain


def error_parts(modes: dict[str, Tensor], time: Tensor, ridge: Tensor) -> Tensor:
    """Mean squares and products of the three sources of error, (S, K, 6); `mix` sums them to an error.

    modes: coordinates of S seeds, each (S, N). The error of a weight, w - w_bar, is the sum of start x e,
    -teacher x (1 - lambda s) and noise x s. Points are evaluated in portions that fit a cache.
    """
    start, teacher, noise = modes["start"], -modes["teacher"], modes["noise"]
    portions = []
    for some, others in zip(time.split(PORTION), ridge.split(PORTION), strict=True):
        left, missing, gain = kernels(modes["eigenvalues"], some, others)
        terms = (
            (missing * missing, teacher * teacher), (gain * gain, noise * noise), (left * left, start * start),
            (missing * gain, teacher * noise), (left * missing, start * teacher), (left * gain, start * noise),
        )  # fmt: skip
        portions.append(torch.cat([kernel @ weight[..., None] for kernel, weight in terms], dim=-1))
    return torch.cat(portions, dim=1) / teacher.shape[1]


def mix(parts: Tensor, snr: float, inr: float = 0.0) -> Tensor:
    """Estimation error (S, K) of given data at this signal-to-noise and initial-to-teacher ratio."""
    noise, start = snr**-0.5, inr**0.5
    factors = (1.0, noise**2, start**2, 2 * noise, 2 * start, 2 * start * noise)
    return parts @ torch.tensor(factors, dtype=parts.dtype, device=parts.device)


def residual(modes: dict[str, Tensor], samples: int, time: Tensor, snr: float) -> Tensor:
    """Mean squared error on the training samples after a start at zero, without a ridge: (S, K).

    Along an eigenvector it is e times sqrt(lambda) w_bar + eps; what of eps lies outside the column space stays.
    """
    values = modes["eigenvalues"]
    label_noise = torch.where(values > 0, modes["noise"] / values.sqrt(), 0.0)
    power = torch.where(values > 0, values.sqrt() * modes["teacher"] + label_noise * snr**-0.5, 0.0).square()
    outside = (modes["noise_power"] - label_noise.square().sum(dim=1)).clamp_min(0) / snr
    portions = [torch.exp(-2 * values[:, None] * some[:, None]) @ power[..., None] for some in time.split(PORTION)]
    return (torch.cat(portions, dim=1)[..., 0] + outside[:, None]) / samples


def train_linear(config: RunConfig, run: Run) -> None:
    """Keep the coordinates of every data set, one checkpoint a load; then run the control."""
    settings: Linear = config.settings
    for index in run.steps(len(settings.loads), {}, phase="spectra"):
        samples = round(settings.loads[index] * settings.inputs)
        found = [coordinates(_on(config.device, draw(seed, samples, settings.inputs))) for seed in config.seeds]
        run.checkpoint(f"load-{index:02d}", {name: torch.stack([one[name] for one in found]) for name in found[0]})
    seeds = [seed for seed in config.seeds if seed < settings.descent.seeds]
    if seeds:
        descend(config, run, seeds)


def train_spectrum(config: RunConfig, run: Run) -> None:
    """Log, and keep, the eigenvalues of large input correlations, from the smaller of X^T X and X X^T."""
    settings: Spectrum = config.settings
    for index in run.steps(len(settings.loads), {}, phase="spectra"):
        samples = round(settings.loads[index] * settings.inputs)
        values = []
        for seed in config.seeds:
            x = draw(seed, samples, settings.inputs)["x"].to(config.device)
            values.append(torch.linalg.eigvalsh(x @ x.T if samples < settings.inputs else x.T @ x))
        run.checkpoint(f"load-{index:02d}", {"eigenvalues": torch.stack(values)})


class Problems:
    """What gradient descent needs of all (load, seed): a leading axis M = loads x seeds."""

    def __init__(self, settings: Linear, seeds: Sequence[int], device: str) -> None:
        """Labels have the settings' signal-to-noise ratio; initial weights are as large as the teacher's."""
        drawn = [
            draw(seed, round(load * settings.inputs), settings.inputs) for load in settings.loads for seed in seeds
        ]
        labels = [one["x"] @ one["teacher"] + settings.snr**-0.5 * one["noise"] for one in drawn]
        self.members = [(load, seed) for load in settings.loads for seed in seeds]
        self.correlation = torch.stack([correlation(one["x"]) for one in drawn]).to(device)  # (M, N, N)
        self.target = torch.stack([one["x"].T @ y for one, y in zip(drawn, labels, strict=True)]).to(device)
        self.teacher = torch.stack([one["teacher"] for one in drawn]).to(device)
        self.start = torch.stack([one["start"] for one in drawn]).to(device)
        steps = [settings.descent.rate / edges(load)[1] for load, _ in self.members]
        self.step = torch.tensor(steps, dtype=DTYPE, device=device)[:, None]  # dt/tau of one step, (M, 1)

    def advance(self, weights: Tensor) -> None:
        """One step of gradient descent, in place; weights (M, N)."""
        force = torch.baddbmm(self.target[..., None], self.correlation, weights[..., None], alpha=-1.0)
        weights.add_(force[..., 0] * self.step)

    def frozen_share(self, weights: Tensor) -> Tensor:
        """Length of the movement within the null space of X over that of the whole movement, (M,)."""
        values, vectors = torch.linalg.eigh(self.correlation)
        moved = weights - self.start
        along = torch.einsum("mnk,mn->mk", vectors, moved)
        frozen = values <= FROZEN * values[:, -1:]
        return torch.where(frozen, along, 0.0).norm(dim=1) / moved.norm(dim=1)


def marks(steps: int) -> list[int]:
    """Numbers of steps after which the control is measured: the last is `steps`."""
    return [round(steps ** (k / MARKS)) for k in range(1, MARKS + 1)]


def descend(config: RunConfig, run: Run, seeds: Sequence[int]) -> None:
    """Gradient descent in the original basis; log its error and how far it moved within the frozen subspace."""
    settings: Linear = config.settings
    problems = Problems(settings, seeds, config.device)
    loads, labels = zip(*problems.members, strict=True)
    state: State = {"weights": problems.start.clone()}
    measured = marks(settings.descent.steps)
    for step in run.steps(settings.descent.steps, state, phase="descent"):
        weights = state["weights"]
        assert isinstance(weights, Tensor)
        problems.advance(weights)
        if step + 1 in measured:
            run.require_finite(step, weights, problems.members)
            error = (weights - problems.teacher).square().mean(dim=1)
            time = (step + 1) * problems.step[:, 0]
            moved = problems.frozen_share(weights)
            run.log(load=loads, seed=labels, step=step + 1, time=time, error=error, frozen_share=moved)


def _on(device: str, drawn: Draw) -> Draw:
    return {name: value.to(device) for name, value in drawn.items()}
