"""Closed forms of the paper, and results derived from them. NumPy only; times are in iterations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, expit

Array = NDArray[np.float64]


def sigmoid_strength(time: ArrayLike, s: ArrayLike, u0: ArrayLike, rate: ArrayLike) -> Array:
    """Strength u(t) of a mode with input-output correlation s (Eq. 12), from u(0) = u0, at learning rate 1/tau."""
    s, u0 = np.asarray(s, float), np.asarray(u0, float)
    return s * expit(2 * s * np.asarray(time) * np.asarray(rate) - np.log(s / u0 - 1))


def passage_time(share: float, s: ArrayLike, u0: ArrayLike, rate: ArrayLike) -> Array:
    """Time at which a mode reaches `share` of its final strength s (Eq. 11 with u_f = share s)."""
    s = np.asarray(s, float)
    return (np.log(s / np.asarray(u0) - 1) + np.log(share / (1 - share))) / (2 * s * np.asarray(rate))


def transition_share(s: ArrayLike, u0: ArrayLike) -> Array:
    """Share of the time to 90 % that a mode spends between 10 % and 90 % of its strength (from Eq. 12)."""
    return 2 * np.log(9) / (np.log(9) + np.log(np.asarray(s) / np.asarray(u0) - 1))


def competition_delay(rank: ArrayLike, hidden: int, s: ArrayLike, u0: ArrayLike) -> Array:
    """Relative delay of the half time that a random start should cause to the mode of this rank (1 = strongest).

    Eq. 12 treats modes as independent. From random weights, though, hidden directions that stronger modes have taken
    are lost to a weaker one. Of its initial vector of `hidden` Gaussian components, which has squared length u0 on
    average, hidden - rank + 1 remain; with E ln chi2(k) = digamma(k/2) + ln 2 the logarithm of u0 falls by
    ln(hidden/2) - digamma((hidden - rank + 1)/2) on average, and the half time, ln(s/u0 - 1) tau/2s, is longer by as
    much.
    """
    left = hidden - np.asarray(rank) + 1
    loss = np.log(hidden / 2) - digamma(left / 2)
    return loss / np.log(np.asarray(s) / np.asarray(u0) - 1)


def deep_learning_time(s: ArrayLike, u0: float, matrices: int, rate: float, threshold: float) -> float:
    """Iterations until decoupled modes s, all from u0, bring the excess error below `threshold` (Eq. 15).

    The excess error is sum (s - u)^2 / sum s^2, and tau du/dt = n u^(2 - 2/n) (s - u) with n = `matrices`.
    """
    modes = np.atleast_1d(np.asarray(s, float))
    curves = [_deep_mode(mode, u0, matrices) for mode in modes]
    low, high = 0.0, max(time[-1] for time, _ in curves)
    for _ in range(60):  # bisection: the excess error falls monotonically
        middle = (low + high) / 2
        reached = np.array([np.interp(middle, time, strength) for time, strength in curves])
        above = ((modes - reached) ** 2).sum() > threshold * (modes**2).sum()
        low, high = (middle, high) if above else (low, middle)
    return high / rate


def _deep_mode(s: float, u0: float, matrices: int, points: int = 4001) -> tuple[Array, Array]:
    """(t rate, u) along the trajectory of one mode of a deep network, from u0 to within 1e-6 of s.

    With x = ln u/(s - u) the integral of du/(n u^(2-2/n) (s-u)) becomes that of u^(2/n - 1)/(n s) dx, which is smooth.
    """
    x = np.linspace(np.log(u0 / (s - u0)), np.log(1e6), points)
    u = s * expit(x)
    slowness = u ** (2 / matrices - 1) / (matrices * s)
    steps = np.diff(x) * (slowness[1:] + slowness[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(steps)]), u


def predicted_rate(s: ArrayLike, matrices: int) -> Array:
    """Inverse of the largest eigenvalue of the Hessian at the solution, 1 / (n s^(2 - 2/n)), s the strongest mode."""
    return 1 / (matrices * np.asarray(s, float) ** (2 - 2 / matrices))


def product_bin_share(factors: ArrayLike, half_width: float) -> Array:
    """Share of the eigenvalues of a product of Gaussian matrices within a square bin at the origin, for large width.

    The eigenvalues z of a product of n factors have P(|z| < r) = r^(2/n); the square is taken as the disc of its area.
    """
    return (2 * half_width / np.sqrt(np.pi)) ** (2 / np.asarray(factors, float))


def off_diagonality(matrices: Array) -> Array:
    """Frobenius norm of the off-diagonal part over that of the whole, for matrices (..., k, k)."""
    total = (matrices**2).sum(axis=(-2, -1))
    diagonal = (np.diagonal(matrices, axis1=-2, axis2=-1) ** 2).sum(axis=-1)
    return np.sqrt((total - diagonal) / total)
