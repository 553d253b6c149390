"""The two-pathway model: scalar equations of one mode, and what they conserve. NumPy only.

Each mode of strength s is shared by two chains of D matrices. Along the hyperbola q^2 - p^2 = c that gradient flow
conserves, a chain contributes K(p) = p (p^2 + c)^((D-1)/2) and moves by (paper and released code)

    dp/dt = f(p) (s - K_A - K_B),    f(p) = (p^2 + c)^((D-1)/2);

a gated pathway has dp/dt = 0.

Derived here. Divide by f: outside the gate the difference of the integrals of dp/f is conserved, inside it grows by the
error that only one pathway may use. For small weights (c = 0), with q = p / s^(1/D),

    (q_B^(2-D) - q_A^(2-D)) / (D - 2) = lead,    lead = s^((D-2)/D) x integral over the gate of (s - K_A - K_B) dt,

and log(q_A / q_B) for D = 2, plus what the difference was at the start. When the mode is learned, q_A^D + q_B^D = 1.
The final shares of all modes, onsets and durations therefore lie on one curve for each depth: `share_of_lead`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
BISECTIONS = 80  # halvings of the bracket of the learned share


def strength(p: ArrayLike, depth: int, offset: float) -> Floats:
    """K(p): what a chain of `depth` matrices contributes to the mode. offset: the conserved c."""
    p = np.asarray(p, float)
    return p * (p**2 + offset) ** ((depth - 1) / 2)


def speed(p: Floats, s: ArrayLike, depth: int, offset: float, open_gates: Floats) -> Floats:
    """dp/dt, shape (..., 2) for pathways A and B; open_gates: 1 where a pathway learns, 0 where it is gated."""
    error = np.asarray(s)[..., None] - strength(p, depth, offset).sum(-1, keepdims=True)
    return open_gates * (p**2 + offset) ** ((depth - 1) / 2) * error


def euler(p: Floats, s: ArrayLike, depth: int, offset: float, open_gates: Floats, step: float) -> Floats:
    """Trajectory (steps + 1, ..., 2) by Euler's method, as released. open_gates: (steps, ..., 2)."""
    path = [p]
    for gates in open_gates:
        path.append(path[-1] + step * speed(path[-1], s, depth, offset, gates))
    return np.stack(path)


def runge_kutta(p: Floats, s: ArrayLike, depth: int, offset: float, open_gates: Floats, step: float) -> Floats:
    """Trajectory (steps + 1, ..., 2) of the continuous-time equations (fourth order); gates change between steps."""
    path = [p]
    for gates in open_gates:
        now = path[-1]
        k1 = speed(now, s, depth, offset, gates)
        k2 = speed(now + step / 2 * k1, s, depth, offset, gates)
        k3 = speed(now + step / 2 * k2, s, depth, offset, gates)
        k4 = speed(now + step * k3, s, depth, offset, gates)
        path.append(now + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return np.stack(path)


def open_gates(steps: int, onset: ArrayLike, duration: ArrayLike, gated: tuple[bool, bool], first: int = 0) -> Floats:
    """(steps, ..., 2): 0 in the steps first, first + 1, ... that lie in [onset, onset + duration), else 1."""
    number = first + np.arange(steps).reshape(-1, *[1] * np.ndim(onset))
    begin, end = np.asarray(onset), np.add(onset, duration)
    inside = (number >= begin) & (number < end)
    return 1.0 - inside[..., None] * np.asarray(gated, float)


def lead_of_share(share_b: ArrayLike, depth: int) -> Floats:
    """The lead of pathway A with which a learned mode (c = 0) leaves `share_b` of it to pathway B."""
    q_b = np.asarray(share_b, float) ** (1 / depth)
    q_a = (1 - np.asarray(share_b, float)) ** (1 / depth)
    if depth == 2:
        return np.log(q_a / q_b)
    return (q_b ** (2 - depth) - q_a ** (2 - depth)) / (depth - 2)


def share_of_lead(lead: ArrayLike, depth: int) -> Floats:
    """Inverse of `lead_of_share`, for leads of at least zero: the share of pathway B, by bisection."""
    wanted = np.asarray(lead, float)
    low, high = np.zeros(wanted.shape), np.full(wanted.shape, 0.5)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        behind = lead_of_share(middle, depth) > wanted
        low, high = np.where(behind, middle, low), np.where(behind, high, middle)
    return (low + high) / 2
