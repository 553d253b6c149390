"""Trajectories in concept space: when they arrive, where they turn, how much area they enclose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]
SIGMA = 1.5  # looks over which trajectories are smoothed
THRESHOLD, LASTING = 0.8, 3  # a time is the first of so many consecutive looks at this success or more


def smooth(values: Array) -> Array:
    """`values` (looks, ...) smoothed over looks; the first and the last are taken to go on for ever."""
    return gaussian_filter1d(np.asarray(values, dtype=float), SIGMA, axis=0, mode="nearest")


def arrival(steps: Array, success: Array) -> float:
    """The first of LASTING consecutive looks with a smoothed success of THRESHOLD or more; nan if there is none."""
    good = smooth(success) >= THRESHOLD
    lasting = np.convolve(good, np.ones(LASTING), mode="valid") >= LASTING - 0.5
    return float(steps[int(lasting.argmax())]) if lasting.any() else np.nan


def departure(path: Array) -> Array:
    """Distance of every point of `path` (looks, 2) from the straight line between its ends, which it starts and ends at
    zero; positive on the side of the blue corner. nan if the ends coincide.

    It is |path so far| |path to come| sin(angle between them) / |whole path|, with all of these straight.
    """
    whole, far = path[-1] - path[0], path - path[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (far[:, 0] * whole[1] - far[:, 1] * whole[0]) / np.hypot(*whole)


def turn(path: Array) -> int:
    """The look at which the smoothed path lies farthest from the straight way: away before, back afterwards."""
    return int(np.nan_to_num(np.abs(departure(smooth(path)))).argmax())


def local_turn(path: Array, reach: int = 2) -> int:
    """The look with the largest change of direction between the `reach` looks before and after it, weighted by the
    lengths of both (their cross product)."""
    smoothed = smooth(path)
    before, after = smoothed[reach:-reach] - smoothed[: -2 * reach], smoothed[2 * reach :] - smoothed[reach:-reach]
    return int(np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).argmax()) + reach


def area(path: Array) -> float:
    """Signed area between the smoothed path (looks, 2; blue, small) and the straight line between its ends, positive if
    the path runs on the side of the blue corner (shoelace formula)."""
    blue, small = smooth(path).T
    return float(0.5 * np.sum(blue * np.roll(small, -1) - np.roll(blue, -1) * small))


def independent_area(ratio: Array, start: float) -> Array:
    """The area if both concepts are learned independently, each along a logistic curve from `start`, colour `ratio`
    times as fast as size.

    Logistic growth is that of a mode of a deep linear network (Saxe et al. 2014): y = 1 / (1 + exp(-(L + r t))) with
    L = logit(start). The path is a straight line in logits, logit(small) = L + (logit(blue) - L) / ratio; the area
    between it and the line between its ends is integrated here along the time.
    """
    logit = np.log(start / (1 - start))
    time = np.linspace(0, 1, 4001)
    result = []
    for value in np.atleast_1d(ratio):
        span = -4 * logit * max(value, 1 / value)  # until the slower of the two is learned
        blue = 1 / (1 + np.exp(-(logit + span * time * min(1.0, value))))
        small = 1 / (1 + np.exp(-(logit + span * time * min(1.0, 1 / value))))
        result.append(0.5 * np.sum(blue * np.roll(small, -1) - np.roll(blue, -1) * small))
    return np.asarray(result)
