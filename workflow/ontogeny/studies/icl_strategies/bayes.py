"""The hierarchical Bayesian model: how much weight a rational learner gives to memorising, by step and task diversity.

Each strategy Q in {M, G} has a description length K_Q [bits] and a training loss L_Q [nats]. After N steps

    log w_Q = -ln 2 * K_Q^beta - gamma * N^(1 - alpha) * L_Q + const,

so that the log posterior odds of memorising are evidence minus complexity,

    eta = gamma * N^(1 - alpha) * (L_G - L_M) - ln 2 * (K_M^beta - K_G^beta),      w = 1 / (1 + exp(-eta)).

alpha, beta and gamma minimise the mean divergence KL(network || w M + (1 - w) G) over cells (N, D). Divergences and
their slopes are tabulated at fixed mixture weights; between these, a cubic Hermite polynomial is used, so that a fit
needs no network. Setting eta = 0 gives the step at which memorising takes over (`crossing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
NAMES = ("alpha", "beta", "gamma")
STARTS = ((0.6, 0.2, 0.85), (0.8, 0.12, 1.5), (0.4, 0.25, 0.3))  # of which the paper has the first two
BOUNDS = {"alpha": (1e-3, 0.99), "beta": (1e-3, 1.0), "gamma": (1e-4, 1e4)}
# What is held fixed. Without complexity K^0 - K^0 = 0; without loss nothing depends on N
VARIANTS: dict[str, dict[str, float]] = {
    "full": {},
    "no complexity": {"beta": 0.0},
    "no loss": {"gamma": 0.0, "alpha": 0.0},
    "linear evidence": {"alpha": 0.0},
    "unit gamma": {"gamma": 1.0},
}


@dataclass(frozen=True, eq=False)
class Cells:
    """n cells: step, bits and losses (n,), and divergences to mixtures with their slopes at the knots, (n, knots)."""

    step: Floats
    bits_m: Floats
    bits_g: Floats
    loss_m: Floats
    loss_g: Floats
    values: Floats
    slopes: Floats

    def chosen(self, which: NDArray[np.bool_]) -> Cells:
        """Some of the cells. which: (n,)."""
        return Cells(**{name: value[which] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Theory:
    """The three parameters of the model."""

    alpha: float
    beta: float
    gamma: float

    def evidence(self, cells: Cells) -> Floats:
        """Log Bayes factor of memorising, (n,)."""
        return self.gamma * cells.step ** (1 - self.alpha) * (cells.loss_g - cells.loss_m)

    def prior(self, cells: Cells) -> Floats:
        """Log prior odds of memorising, (n,)."""
        return -np.log(2) * (cells.bits_m**self.beta - cells.bits_g**self.beta)

    def weight(self, cells: Cells) -> Floats:
        """Posterior probability of memorising, (n,)."""
        return logistic(self.evidence(cells) + self.prior(cells))

    def odds_slopes(self, cells: Cells) -> dict[str, Floats]:
        """Derivatives of the log posterior odds with respect to the logarithm of each parameter, (n,) each."""
        evidence = self.evidence(cells)
        powers = cells.bits_m**self.beta * np.log(cells.bits_m) - cells.bits_g**self.beta * np.log(cells.bits_g)
        return {
            "alpha": -self.alpha * np.log(cells.step) * evidence,
            "beta": -np.log(2) * self.beta * powers,
            "gamma": evidence,
        }

    def crossing(self, cells: Cells) -> Floats:
        """N*, the step at which both strategies weigh the same, (n,); infinite where memorising never pays."""
        with np.errstate(all="ignore"):
            needed = -self.prior(cells) / (self.gamma * (cells.loss_g - cells.loss_m))
            return np.where(needed > 0, needed ** (1 / (1 - self.alpha)), np.inf)


def logistic(odds: Floats) -> Floats:
    """1 / (1 + exp(-odds)), without overflow."""
    return 0.5 * (1 + np.tanh(odds / 2))


def knots(mixtures: int) -> Floats:
    """Mixture weights at which divergences are tabulated, (mixtures + 1,): from 0 to 1, denser at the ends."""
    return (1 - np.cos(np.pi * np.arange(mixtures + 1) / mixtures)) / 2


def interpolate(values: Floats, slopes: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Divergence from the mixture with the given weight of M, and its slope, (n,) each. weight: (n,)."""
    at = knots(values.shape[1] - 1)
    left = np.clip(np.searchsorted(at, weight, side="right") - 1, 0, len(at) - 2)
    rows, step = np.arange(len(weight)), np.diff(at)[left]
    t = (weight - at[left]) / step
    y0, y1 = values[rows, left], values[rows, left + 1]
    m0, m1 = step * slopes[rows, left], step * slopes[rows, left + 1]
    quadratic, cubic = 3 * (y1 - y0) - 2 * m0 - m1, m0 + m1 - 2 * (y1 - y0)
    value = y0 + t * (m0 + t * (quadratic + t * cubic))
    return value, (m0 + t * (2 * quadratic + 3 * t * cubic)) / step


def best_weight(values: Floats, slopes: Floats) -> Floats:
    """The mixture weight with the least divergence, (n,), by bisection: divergence is convex in the weight."""
    low, high = np.zeros(len(values)), np.ones(len(values))
    for _ in range(40):
        middle = (low + high) / 2
        rising = interpolate(values, slopes, middle)[1] > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return (low + high) / 2


def loss(theory: Theory, cells: Cells) -> float:
    """Mean divergence from the mixture that the theory predicts."""
    return float(interpolate(cells.values, cells.slopes, theory.weight(cells))[0].mean())


def loss_slopes(theory: Theory, cells: Cells) -> tuple[float, dict[str, float]]:
    """The loss, and its derivatives with respect to the logarithm of each parameter."""
    weight = theory.weight(cells)
    value, slope = interpolate(cells.values, cells.slopes, weight)
    pull = slope * weight * (1 - weight)
    return float(value.mean()), {name: float((pull * d).mean()) for name, d in theory.odds_slopes(cells).items()}


def fit(cells: Cells, fixed: Mapping[str, float]) -> Theory:
    """The parameters with the least loss, those in `fixed` held where they are; the best of several starts."""
    free = [name for name in NAMES if name not in fixed]

    def theory_at(logs: Floats) -> Theory:
        return Theory(**fixed, **dict(zip(free, np.exp(logs).tolist(), strict=True)))

    def objective(logs: Floats) -> tuple[float, Floats]:
        value, slopes = loss_slopes(theory_at(logs), cells)
        return value, np.array([slopes[name] for name in free])

    bounds = [np.log(BOUNDS[name]) for name in free]
    starts = [np.log([dict(zip(NAMES, start, strict=True))[name] for name in free]) for start in STARTS]
    options = {"ftol": 1e-12, "gtol": 1e-9, "maxiter": 500}
    found = [minimize(objective, s, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for s in starts]
    return theory_at(min(found, key=lambda result: float(result.fun)).x)
