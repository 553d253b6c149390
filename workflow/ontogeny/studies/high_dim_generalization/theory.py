"""Generalisation error of a linear student in the high-dimensional limit, at every load, noise, time and ridge. NumPy.

Setting (the paper's; its symbols were not legible to us, these are ours). P samples x ~ N(0, I/N) of N inputs, labels
y = w_bar.x + eps with w_bar ~ N(0, sigma_w^2 I) and noise eps of variance sigma_eps^2. Load alpha = P/N,
SNR = sigma_w^2/sigma_eps^2, INR = sigma_0^2/sigma_w^2 with sigma_0^2 the variance of the initial weights. Errors are in
units of sigma_w^2, times in units of tau; the *estimation error* E = |w - w_bar|^2/N is the error on noiseless labels,
and the error on noisy ones is E + 1/SNR.

Derivation (ours). Gradient flow on half the squared error plus g |w|^2/2 is
    tau dw/dt = X^T y - (X^T X + g) w.
Along an eigenvector of X^T X with eigenvalue lambda the noise enters as sqrt(lambda) eps_i with eps_i of variance
sigma_eps^2, since X^T X is also the covariance of X^T eps. The solution of the scalar equation is
    w_i(t) = e_i w_i(0) + s_i (lambda w_bar_i + sqrt(lambda) eps_i),
    e = exp(-(lambda + g) t),  s = (1 - e)/(lambda + g),  and s = t where lambda + g = 0.
Initial weights, teacher and noise are independent, so that only squares survive the average:
    E(t) = < INR e^2 + (1 - lambda s)^2 + lambda s^2 / SNR >.                                                    (1)
Without a ridge 1 - lambda s = e, and (1) becomes the sum of a bias (1 + INR) e^2, which decays, and of a variance
(1 - e)^2/(lambda SNR), which grows, fastest where lambda is small. For N -> infinity the average < . > is the integral
over the law of Marchenko and Pastur (1967),
    rho = (1 - alpha)_+ delta(lambda) + sqrt((lambda_+ - lambda)(lambda - lambda_-))/(2 pi lambda),
    lambda_+- = (sqrt(alpha) +- 1)^2.
The delta function is the frozen subspace: there e = 1 for ever if g = 0, and (1) keeps the term (1 + INR)(1 - alpha).
The training error follows in the same way from the residual y - X w, whose part outside the column space of X,
(1 - 1/alpha)_+ / SNR, no weight can reduce.

Limits that follow from (1). They are used by the tests and drawn in the notebook:
  minimum norm (t -> infinity, INR = g = 0):  (1 - alpha) + alpha/(1 - alpha)/SNR below alpha = 1, 1/(alpha - 1)/SNR
      above, since the integral of rho_bulk/lambda is alpha/(1 - alpha), or 1/(alpha - 1);
  at alpha = 1, where rho -> 1/(pi sqrt(lambda)) at the origin: E -> 4 (1 - 1/sqrt(2)) sqrt(t/pi)/SNR, without bound;
  optimal ridge: (1) at t -> infinity is least at g = 1/SNR, where it is g m(g) with m(g) = < 1/(lambda + g) >, the
      Stieltjes transform, the positive root of g m^2 + (alpha - 1 + g) m - 1 = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NODES = 4096  # of the quadrature over the bulk
TRACY_WIDOM_MEAN = -1.2065  # of the law for real matrices; Tracy & Widom (1996)


@dataclass(frozen=True)
class Parts:
    """The coefficients of 1, INR and 1/SNR in an error; arrays of one shape."""

    teacher: Array
    initial: Array
    noise: Array

    def total(self, snr: ArrayLike, inr: ArrayLike = 0.0) -> Array:
        """The error at this signal-to-noise ratio and ratio of initial to teacher weights."""
        return self.teacher + np.asarray(inr) * self.initial + self.noise / np.asarray(snr, float)


def edges(load: float) -> tuple[float, float]:
    """lambda_- and lambda_+ of the bulk of X^T X, in units of the variance 1/N of an input."""
    _require(load > 0, f"a load is positive (found {load})")
    return (load**0.5 - 1) ** 2, (load**0.5 + 1) ** 2


def density(eigenvalue: ArrayLike, load: float) -> Array:
    """Marchenko-Pastur density of the bulk, whose integral is min(load, 1)."""
    low, high = edges(load)
    x = np.asarray(eigenvalue, float)
    inside = np.clip((high - x) * (x - low), 0, None)
    return np.sqrt(inside) / (2 * np.pi * np.where(x > 0, x, np.inf))


def bulk(load: float, nodes: int = NODES) -> tuple[Array, Array]:
    """Eigenvalues and weights, both (nodes,), of a quadrature over the bulk of rho.

    With lambda = middle + half cos(theta) the square roots at the edges become sin(theta)^2, and the midpoint rule in
    theta converges exponentially.
    """
    low, high = edges(load)
    theta = (np.arange(nodes) + 0.5) * np.pi / nodes
    half = (high - low) / 2
    eigenvalues = low + half * 2 * np.cos(theta / 2) ** 2  # middle + half cos(theta), exact near the lower edge
    return eigenvalues, (half * np.sin(theta)) ** 2 / (2 * np.pi * eigenvalues) * np.pi / nodes


def learned(eigenvalue: ArrayLike, time: ArrayLike, ridge: ArrayLike) -> tuple[Array, Array]:
    """e = exp(-(lambda + g) t) and s = (1 - e)/(lambda + g), which is t where lambda + g = 0 and 1/(..) at infinity."""
    rate = np.asarray(eigenvalue, float) + np.asarray(ridge, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        exponent = np.where(rate > 0, rate * np.asarray(time, float), 0.0)
        gain = np.where(rate > 0, -np.expm1(-exponent) / rate, time)
    return np.exp(-exponent), gain


def generalisation(load: float, time: ArrayLike, ridge: ArrayLike = 0.0, nodes: int = NODES) -> Parts:
    """Estimation error (1), with the shape of `time` and `ridge` broadcast; a time may be infinite."""
    time, ridge = _grid(time, ridge)
    eigenvalues, weights = bulk(load, nodes)
    left, gain = learned(eigenvalues, time[..., None], ridge[..., None])
    frozen, kept = max(1 - load, 0.0), learned(0.0, time, ridge)[0]
    return Parts(
        teacher=((1 - eigenvalues * gain) ** 2) @ weights + frozen,
        initial=(left**2) @ weights + frozen * kept**2,
        noise=(eigenvalues * gain**2) @ weights,
    )


def training(load: float, time: ArrayLike, ridge: ArrayLike = 0.0, nodes: int = NODES) -> Parts:
    """Mean squared residual on the training samples, with the shape of `time` and `ridge` broadcast."""
    time, ridge = _grid(time, ridge)
    eigenvalues, weights = bulk(load, nodes)
    left, gain = learned(eigenvalues, time[..., None], ridge[..., None])
    missing = (1 - eigenvalues * gain) ** 2
    outside = max(1 - 1 / load, 0.0)
    return Parts(
        teacher=missing @ (weights * eigenvalues) / load,
        initial=(left**2) @ (weights * eigenvalues) / load,
        noise=missing @ weights / load + outside,
    )


def minimum_norm(load: float, snr: float) -> float:
    """Estimation error after endless training from zero weights; infinite at load 1."""
    _require(load > 0 and snr > 0, f"load and signal-to-noise ratio are positive (found {load}, {snr})")
    if load == 1:
        return np.inf
    return 1 - load + load / (1 - load) / snr if load < 1 else 1 / (load - 1) / snr


def peak(time: ArrayLike, snr: ArrayLike) -> Array:
    """Estimation error at load 1 after a long time t, from the singularity of rho at the origin."""
    return 4 * (1 - 0.5**0.5) * np.sqrt(np.asarray(time) / np.pi) / np.asarray(snr)


def optimal_ridge_error(load: ArrayLike, snr: ArrayLike) -> Array:
    """Estimation error with the optimal ridge 1/SNR: g m(g) in closed form."""
    alpha, g = np.asarray(load, float), 1 / np.asarray(snr, float)
    _require(bool((alpha > 0).all() and (g > 0).all()), "load and signal-to-noise ratio are positive")
    linear = alpha - 1 + g
    return (np.sqrt(linear**2 + 4 * g) - linear) / 2


def gap_at_size(load: float, inputs: int) -> float:
    """Mean smallest non-zero eigenvalue at N = `inputs`, to the next order beyond the edge of the bulk.

    It lies inside the edge by -1.2065 widths of the Tracy-Widom law; for entries of variance 1/N the width is
    |sqrt(alpha) - 1| |1/sqrt(alpha) - 1|^(1/3) N^(-2/3) (Feldheim & Sodin 2010). It holds for load != 1.
    """
    root = load**0.5
    width = abs(root - 1) * abs(1 / root - 1) ** (1 / 3) * inputs ** (-2 / 3)
    return (root - 1) ** 2 - TRACY_WIDOM_MEAN * width


def _grid(time: ArrayLike, ridge: ArrayLike) -> tuple[Array, Array]:
    """Both broadcast against each other. Raises ValueError for values outside the domain."""
    shaped = np.broadcast_arrays(np.asarray(time, float), np.asarray(ridge, float))
    _require(bool((shaped[0] >= 0).all() and (shaped[1] >= 0).all()), "times and ridges are not negative")
    return shaped[0], shaped[1]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
