"""The boundary of generalisation: where a curve crosses a level, and three laws for where it lies. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

LAWS = {
    "logarithm": lambda order: np.log(order) / order,  # Theorem 4
    "constant": lambda order: np.ones_like(order, dtype=float),
    "root": lambda order: np.asarray(order, dtype=float) ** -0.5,
}


def crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """The x at which y first reaches `level`, interpolated linearly; x[0] if it starts there, inf if it never does."""
    reached = np.flatnonzero(y >= level)
    if not len(reached):
        return float("inf")
    index = int(reached[0])
    if index == 0:
        return float(x[0])
    rise = (level - y[index - 1]) / (y[index] - y[index - 1])
    return float(x[index - 1] + rise * (x[index] - x[index - 1]))


def half_fraction(fractions: np.ndarray, accuracy: np.ndarray) -> float:
    """The fraction at which accuracy crosses one half; 1 if it does not, 0 if it is above at the smallest fraction."""
    ranked = np.argsort(fractions)
    x, y = fractions[ranked], accuracy[ranked]
    if y[0] >= 0.5:
        return 0.0
    found = crossing(x, y, 0.5)
    return found if np.isfinite(found) else 1.0


def fit(law: str, orders: ArrayLike, fractions: ArrayLike) -> tuple[float, float]:
    """Least squares of fractions = c law(orders): the coefficient c, and Akaike's n log(RSS / n) + 2."""
    basis, values = LAWS[law](np.asarray(orders)), np.asarray(fractions, dtype=float)
    coefficient = float(basis @ values / (basis @ basis))
    residual = float(np.mean((values - coefficient * basis) ** 2))
    return coefficient, len(values) * float(np.log(max(residual, 1e-30))) + 2
