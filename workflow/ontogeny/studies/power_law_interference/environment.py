"""Learning environments: how often each task is met in each phase.

Phase t introduces task t. An environment says which share of the phase's examples each of the tasks 0..t provides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ontogeny.studies.power_law_interference.settings import Environment

Floats = NDArray[np.float64]

# The released matrix, n(lag) = N0 * (20 / (20 + 2 lag))^5.6: a clock that starts at 20 and advances 2 a phase
EXPONENT, CLOCK_START, CLOCK_STEP = 5.6, 20.0, 2.0
# The budgeted power law gives the j-th oldest task the weight (0.10 + 0.01 j)^(5 - 1)
POSITION_START, POSITION_STEP, POSITION_POWER = 0.10, 0.01, 4.0


def need(lag: NDArray[np.int64]) -> Floats:
    """How often a task that was introduced `lag` phases ago is met, relative to lag 0: (20 / (20 + 2 lag))^5.6."""
    return np.asarray((CLOCK_START / (CLOCK_START + CLOCK_STEP * lag)) ** EXPONENT, np.float64)


def rehearsal_weights(environment: Environment, old: int) -> Floats:
    """How the rehearsals of a phase split over its `old` old tasks, oldest first: (old,), sums to 1."""
    position = np.arange(old)
    lag = old - position
    weights = {
        "uniform": np.ones(old),
        "powerlaw": (POSITION_START + POSITION_STEP * position) ** POSITION_POWER,
        "exponential": np.exp(-lag.astype(float)),
        "recent": (lag == 1).astype(float),
    }[environment]
    return weights / weights.sum()


def shares(environment: Environment, phase: int, replay_fraction: float) -> Floats:
    """Share of each task 0..phase in the examples of a phase: (phase + 1,), sums to 1.

    In the four budgeted environments there are `replay_fraction` old examples for each new one.
    """
    newest = np.eye(phase + 1)[phase]
    if phase == 0 or environment == "sequential":
        return newest
    if environment == "joint":
        return np.full(phase + 1, 1 / (phase + 1))
    if environment == "unrestricted":
        met = need(phase - np.arange(phase + 1))
        return met / met.sum()
    old = np.append(rehearsal_weights(environment, phase), 0.0)
    return (newest + replay_fraction * old) / (1 + replay_fraction)


def counts(share: Floats, total: int) -> NDArray[np.int64]:
    """Whole numbers that sum to `total` in the proportions `share` (method of the largest remainder)."""
    exact = share * total
    whole = np.floor(exact + 1e-9).astype(np.int64)
    left = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return whole
