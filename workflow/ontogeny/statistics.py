"""Estimates with confidence intervals, simultaneous over the claims of a study.

The unit of replication is the seed: reduce each seed to one number first, then ask for an interval over seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # which loads scipy.stats when it is first asked for: notebooks read estimates and make none
from numpy.typing import ArrayLike

from ontogeny.errors import OntogenyError

FAMILYWISE_ERROR = 0.05  # chance that any interval of a study misses, all claims together
RESAMPLES = 4999


@dataclass(frozen=True)
class Estimate:
    """A number, its confidence interval, how many independent replicates it rests on, and how it was made."""

    value: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True)
class Interval:
    """Makes two-sided intervals at one simultaneous level.

    Bonferroni over the claims of a study: each claim's intervals have level 1 - 0.05 / claims. A claim is a
    conjunction of tests, so that calling it `holds` needs no further correction over its tests (intersection-union).
    """

    level: float

    @classmethod
    def simultaneous(cls, claims: int) -> Interval:
        """The level for a study with `claims` claims."""
        return cls(1 - FAMILYWISE_ERROR / claims)

    def mean(self, values: ArrayLike) -> Estimate:
        """Mean over seeds, Student's t interval. One seed gives an unbounded interval."""
        sample = _sample(values)
        return self._t(float(sample.mean()), _standard_error(sample), len(sample) - 1, len(sample), "mean, t interval")

    def paired_difference(self, a: ArrayLike, b: ArrayLike) -> Estimate:
        """Mean over seeds of a - b, Student's t interval; a[i] and b[i] share a seed."""
        first, second = _sample(a), _sample(b)
        if len(first) != len(second):
            raise OntogenyError(f"a paired difference needs pairs, found {len(first)} and {len(second)} values")
        paired = self.mean(first - second)
        return Estimate(paired.value, paired.low, paired.high, paired.n, "paired difference, t interval")

    def difference(self, a: ArrayLike, b: ArrayLike) -> Estimate:
        """Difference of the means of two independent samples of seeds, Welch's interval."""
        first, second = _sample(a), _sample(b)
        n = min(len(first), len(second))
        value = float(first.mean() - second.mean())
        if n < 2:
            return Estimate(value, -np.inf, np.inf, n, "difference of means, Welch")
        if first.std() == 0 and second.std() == 0:
            return Estimate(value, value, value, n, "difference of means, Welch")
        bounds = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(self.level)
        return Estimate(value, float(bounds.low), float(bounds.high), n, "difference of means, Welch")

    def bootstrap(
        self, statistic: Callable[..., Any], *samples: ArrayLike, paired: bool = False, seed: int = 0
    ) -> Estimate:
        """Percentile bootstrap over seeds of `statistic(*samples, axis=-1)`.

        The samples are one value a seed each; `paired` resamples the same seeds from all of them.
        """
        arrays = [_sample(sample) for sample in samples]
        n, value = min(map(len, arrays)), float(statistic(*arrays, axis=-1))
        if n < 2:
            return Estimate(value, -np.inf, np.inf, n, "percentile bootstrap over seeds")
        result = scipy.stats.bootstrap(
            arrays,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=self.level,
            vectorized=True,
            paired=paired,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        low, high = result.confidence_interval
        return Estimate(value, float(low), float(high), n, "percentile bootstrap over seeds")

    def proportion(self, successes: int, n: int, method: str = "exact") -> Estimate:
        """Share of successes among n independent trials: Clopper-Pearson ("exact") or Wilson ("wilson") interval."""
        if n < 1:
            raise OntogenyError("a proportion needs at least one trial")
        bounds = scipy.stats.binomtest(int(successes), int(n)).proportion_ci(self.level, method=method)
        name = {"exact": "share, Clopper-Pearson", "wilson": "share, Wilson"}[method]
        return Estimate(successes / n, float(bounds.low), float(bounds.high), int(n), name)

    def spearman(self, x: ArrayLike, y: ArrayLike) -> Estimate:
        """Spearman's rank correlation of independent pairs, Fisher z with the Bonett-Wright standard error."""
        first, second = _sample(x), _sample(y)
        n = len(first)
        rho = float(scipy.stats.spearmanr(first, second).statistic)
        if n < 4:
            return Estimate(rho, -1.0, 1.0, n, "Spearman, Fisher z")
        half = scipy.stats.norm.ppf(0.5 + self.level / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
        z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
        return Estimate(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), n, "Spearman, Fisher z")

    def slope(self, x: ArrayLike, y: ArrayLike) -> Estimate:
        """Slope of the least-squares line through independent points, t interval."""
        first, second = _sample(x), _sample(y)
        fit = scipy.stats.linregress(first, second)
        return self._t(float(fit.slope), float(fit.stderr), len(first) - 2, len(first), "OLS slope, t interval")

    def exact(self, value: float, n: int) -> Estimate:
        """A deterministic quantity: the interval has no width."""
        return Estimate(float(value), float(value), float(value), n, "deterministic")

    def _t(self, value: float, error: float, freedom: int, n: int, method: str) -> Estimate:
        if freedom < 1:
            return Estimate(value, -np.inf, np.inf, n, method)
        half = float(scipy.stats.t.ppf(0.5 + self.level / 2, freedom)) * error
        return Estimate(value, value - half, value + half, n, method)


def _sample(values: ArrayLike) -> np.ndarray:
    """A one-dimensional float array without missing values. Raises OntogenyError if it is empty or not finite."""
    sample = np.asarray(values, dtype=float).ravel()
    if sample.size == 0 or not np.isfinite(sample).all():
        raise OntogenyError(f"an interval needs finite values, found {sample.tolist()[:5]}")
    return sample


def _standard_error(sample: np.ndarray) -> float:
    return float(sample.std(ddof=1) / np.sqrt(len(sample))) if len(sample) > 1 else np.inf
