"""Estimates for the claims. A network's final measures are one number per seed; intervals are over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
Floats = NDArray[np.float64]
RESAMPLES = 2000  # of seeds, for the share of resamples that prefer a power law (c8)
GROWTH = np.linspace(-1.0, 3.0, 2001)  # exponents and rates on which the retention curves are fitted


def final(tables: Tables, row: str, measure: str, **where: object) -> pd.Series:
    """A measure after the last phase of a row (or after `phase`), by seed, of the networks that match `where`."""
    summary = tables["summary"]
    chosen = summary[summary["row"] == row]
    for column, value in {"phase": chosen["phase"].max(), **where}.items():
        chosen = chosen[chosen[column] == value]
    return chosen.set_index("seed")[measure].sort_index()


def paired(interval: Interval, a: pd.Series, b: pd.Series) -> Estimate:
    """Mean difference a - b over the seeds that both have."""
    first, second = a.align(b, join="inner")
    return interval.paired_difference(first, second)


def gain(tables: Tables, row: str, **where: object) -> pd.Series:
    """Average accuracy of the power-law environment minus that of the sequential one, by seed."""
    one, other = (
        final(tables, row, "average_accuracy", environment=name, **where) for name in ("powerlaw", "sequential")
    )
    return one - other


def levels(tables: Tables, row: str, column: str) -> dict[float, str]:
    """The values of a column in `row` and in the row environments, ascending, with the row that has each."""
    summary = tables["summary"]
    found = summary[summary["row"].isin([row, "environments"])]
    return dict(sorted(zip(found[column], found["row"], strict=True)))


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Power-law against sequential environment."""
    kept, lost, unrestricted, sequential = (
        final(tables, "environments", measure, environment=name)
        for measure, name in (
            ("forgetting", "powerlaw"), ("forgetting", "sequential"),
            ("average_accuracy", "unrestricted"), ("average_accuracy", "sequential"),
        )
    )  # fmt: skip
    return {
        "gain": interval.mean(gain(tables, "environments")),
        "forgetting_reduced": interval.mean(1 - kept / lost),
        "gain_unrestricted": interval.paired_difference(unrestricted, sequential),
    }


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Power-law environment against tuned regularisers in the sequential one."""
    powerlaw = final(tables, "environments", "average_accuracy", environment="powerlaw")
    rivals = {
        method: final(tables, "regularisers", "average_accuracy", method=method) for method in ("ewc", "si", "lwf")
    }
    best = max(rivals.values(), key=lambda values: values.mean())
    tests = {f"over_{method}": paired(interval, powerlaw, values) for method, values in rivals.items()}
    return {**tests, "over_best": paired(interval, powerlaw, best)}


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Power-law rehearsal against other schedules with as many rehearsals."""

    def over(rival: str, measure: str, rows: tuple[str, str], **where: object) -> Estimate:
        ours = final(tables, rows[0], measure, environment="powerlaw", **where)
        return paired(interval, ours, final(tables, rows[1], measure, environment=rival, **where))

    together, apart = ("environments", "environments"), ("replay_fraction", "schedules")
    tests = {
        "over_exponential": over("exponential", "average_accuracy", together),
        "over_recent": over("recent", "average_accuracy", together),
        "over_uniform": over("uniform", "average_accuracy", together),
        "need_over_uniform": over("uniform", "need_accuracy", together),
    }
    summary = tables["summary"]
    fractions = summary[summary["row"] == "schedules"]["replay_fraction"]
    for name, level in (("little", fractions.min()), ("much", fractions.max())):
        for rival in ("exponential", "recent", "uniform"):
            tests[f"over_{rival}_{name}"] = over(rival, "average_accuracy", apart, replay_fraction=level)
    return tests


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Trials to criterion against the number of tasks met before: one least-squares slope per seed.

    With the same tasks in every seed the mean of the seeds' slopes is the fixed slope of the mixed regression with a
    random intercept and a random slope per seed.
    """
    speed, tests = tables["speed"], {}
    for name in ("powerlaw", "sequential", "fresh"):
        chosen = speed[(speed["row"] == "environments") & (speed["environment"] == name)]
        trials = chosen.pivot_table(index="seed", columns="task", values="trials").to_numpy(float)
        slope = interval.mean(slopes(trials))
        change_width = (slope.high - slope.low) * (trials.shape[1] - 1)
        tests[f"slope_{name}"] = slope
        tests[f"precision_{name}"] = interval.exact(change_width / trials.mean(), slope.n)
        tests[f"later_slope_{name}"] = interval.mean(slopes(trials[:, 1:]))
    return tests


def slopes(values: Floats) -> Floats:
    """Least-squares slope of every row of `values` against 0, 1, 2, …"""
    position = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return values @ position / (position @ position)


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The gain after a quarter, half and all of the phases: an environment does not depend on how many are to come."""
    summary = tables["summary"]
    tasks = int(summary[summary["row"] == "task_number"]["phase"].max()) + 1
    parts = {"quarter": tasks // 4, "half": tasks // 2, "all": tasks}
    return {name: interval.mean(gain(tables, "task_number", phase=part - 1)) for name, part in parts.items()}


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The gain at every width, and its slope against log10(width)."""
    rows = levels(tables, "width", "width")
    gains = {width: gain(tables, row, width=width) for width, row in rows.items()}
    axis = np.log10(list(gains)) - np.log10(list(gains)).mean()
    trend = pd.concat(gains, axis=1, join="inner").to_numpy() @ axis / (axis @ axis)
    tests = {name: interval.mean(gains[width]) for name, width in zip(("narrow", "middle", "wide"), rows, strict=True)}
    return {**tests, "trend": interval.mean(trend)}


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Average accuracy against the replay fraction; the gain where there is least rehearsal."""
    rows = levels(tables, "replay_fraction", "replay_fraction")
    accuracy = {
        level: final(tables, row, "average_accuracy", environment="powerlaw", replay_fraction=level)
        for level, row in rows.items()
    }
    gains = {level: gain(tables, row, replay_fraction=level) for level, row in rows.items()}
    return {
        "monotone": interval.bootstrap(ascent, *pd.concat(accuracy, axis=1, join="inner").to_numpy().T, paired=True),
        "gain_least": interval.mean(gains[min(rows)]),
        "gain_most": interval.mean(gains[max(rows)]),
    }


def ascent(*samples: Floats, axis: int) -> Floats:
    """Spearman's rank correlation between the samples' means and their order."""
    means = np.stack([sample.mean(axis=axis) for sample in samples])
    ranks, n = means.argsort(0).argsort(0), len(samples)
    order = np.arange(n).reshape(-1, *[1] * (means.ndim - 1))
    return 1 - 6 * ((ranks - order) ** 2).sum(0) / (n * (n**2 - 1))


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Does a power of (1 + lag) fit the forgetting curve better than an exponential of the lag?"""
    tests = {}
    for name in ("powerlaw", "exponential"):
        errors = errors_by_lag(tables, name)
        n = len(errors)
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
        resampled = power_preference(weights @ errors / n)
        low, high = np.quantile(resampled, [(1 - interval.level) / 2, (1 + interval.level) / 2])
        preference = float(power_preference(errors.mean(0, keepdims=True))[0])
        tests[f"share_{name}"] = interval.exact(float((resampled > 0).mean()), n)
        tests[f"aic_{name}"] = Estimate(preference, float(low), float(high), n, "percentile bootstrap over seeds")
    return tests


def errors_by_lag(tables: Tables, environment: str) -> Floats:
    """Error after the last phase on the task that was introduced 0, 1, 2, … phases ago: (seeds, lags)."""
    accuracy = tables["accuracy"]
    chosen = accuracy[(accuracy["row"] == "environments") & (accuracy["environment"] == environment)]
    last = chosen[chosen["phase"] == chosen["phase"].max()]
    matrix = last.pivot_table(index="seed", columns="task", values="accuracy")
    return 1 - matrix.to_numpy(float)[:, ::-1]


def power_preference(curves: Floats) -> Floats:
    """AIC of error = a exp(b lag) minus AIC of error = a (1 + lag)^b; above 0: the power fits better. curves: (n, lag).

    Both have two parameters, so the difference is lags * log(RSS_exponential / RSS_power).
    """
    lag = np.arange(curves.shape[1], dtype=float)
    power, _, _ = fit(curves, np.log1p(lag))
    exponential, _, _ = fit(curves, lag)
    return curves.shape[1] * np.log(exponential / power)


def fit(curves: Floats, clock: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares of a exp(b clock), b on a grid, a in closed form: residual sums of squares, a and b, each (n,)."""
    shapes = np.exp(GROWTH[:, None] * (clock - clock.max()))
    amplitude = curves @ shapes.T / (shapes**2).sum(1)
    squares = (curves**2).sum(1, keepdims=True) - amplitude**2 * (shapes**2).sum(1)
    best = squares.argmin(1)
    rate, rows = GROWTH[best], np.arange(len(curves))
    return np.maximum(squares[rows, best], 1e-15), amplitude[rows, best] * np.exp(-rate * clock.max()), rate
