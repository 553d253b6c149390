"""One function for each claim: reduce each seed to one number first, then ask for an interval over seeds.

Cells of one seed (its steps and numbers of tasks) are not independent of each other; seeds are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, least_squares

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
Floats = NDArray[np.float64]
TRANSIENT = (8, 16, 32, 64)  # numbers of tasks at which networks generalise first and memorise later
DIVERSE = 256  # so many tasks that networks go on generalising
AT_LEAST = 3  # numbers of tasks that must show an effect, or be crossed
TAKEN_OVER = 0.5  # relative distance at which memorising has taken over
OCTAVES = (-10.0, 30.0)  # range of log2 D in which the boundary is sought


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Networks lie on the segment between the ideal predictors."""
    cells = tables["cells"]
    main = cells[(cells["row"] == "main") & cells["included"]]
    nearest = main[["tv_m", "tv_g"]].min(axis=1)
    by_seed = main.assign(nearest=nearest).groupby("seed").mean(numeric_only=True)
    best_single = by_seed[["tv_m", "tv_g"]].min(axis=1)
    return {
        "distance": interval.mean(by_seed["tv_mixture"]),
        "over_best_single": interval.mean(by_seed["tv_mixture"] / best_single),
        "over_nearest": interval.mean(by_seed["tv_mixture"] / by_seed["nearest"]),
        "distance_fresh": interval.mean(by_seed["tv_mixture_fresh"]),
    }


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The theory predicts the map of relative distances, held-out cells included, and better than its ablations."""
    full, *ablated = (_fit(tables, name, "fitted") for name in ("full", "no complexity", "no loss", "linear evidence"))
    names = ("over_no_complexity", "over_no_loss", "over_linear")
    gains = {
        name: interval.paired_difference(full["r"], other["r"]) for name, other in zip(names, ablated, strict=True)
    }
    measures = {"all_cells": "r", "held_out": "r_held", "fresh_tasks": "r_fresh"}
    return {**{test: interval.mean(full[column]) for test, column in measures.items()}, **gains}


def _fit(tables: Tables, variant: str, scope: str, row: str = "main") -> pd.DataFrame:
    """The fits of a variant of the theory, by seed."""
    fits = tables["fits"]
    chosen = (fits["row"] == row) & (fits["variant"] == variant) & (fits["scope"] == scope)
    return fits[chosen].set_index("seed").sort_index()


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Transience: the divergence on fresh tasks falls, and rises again where tasks are few."""
    rise, excess = _rebounds(tables, "kl_truth_fresh"), _rebounds(tables, "kl_g_fresh")
    few = [tasks for tasks in TRANSIENT if tasks in rise]
    many = max(rise.columns)
    tests = {
        "rebound": interval.mean(_third_largest(rise[few])),
        "diverse": interval.mean(rise[DIVERSE if DIVERSE in rise else many]),
        "excess": interval.mean(_third_largest(excess[few])),
    }
    for tasks in TRANSIENT:
        own = tasks if tasks in rise else many
        tests[f"rebound_{tasks}"] = interval.mean(rise[own])
        tests[f"excess_{tasks}"] = interval.mean(excess[own])
    return tests


def _rebounds(tables: Tables, measure: str) -> pd.DataFrame:
    """(end - minimum) / minimum of a measure during training: seeds x numbers of tasks."""
    cells = tables["cells"]
    ordered = cells[cells["row"] == "main"].sort_values("step")
    last, least = (
        ordered.pivot_table(index="seed", columns="tasks", values=measure, aggfunc=how) for how in ("last", "min")
    )
    return last / least - 1


def _third_largest(values: pd.DataFrame) -> Floats:
    """What at least three columns reach, for each row; the least if there are fewer."""
    ordered = np.sort(values.to_numpy(float), axis=1)
    return ordered[:, max(0, ordered.shape[1] - AT_LEAST)]


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """At the end of training few tasks are memorised, and many generalised."""
    cells = tables["cells"]
    main = cells[cells["row"] == "main"]
    last = main[main["step"] == main["step"].max()].pivot_table(index="seed", columns="tasks", values="d_rel")
    octave = np.log2(last.columns.to_numpy(float))
    ranks = last.rank(axis=1).to_numpy(float)
    order = np.arange(len(octave), dtype=float)
    boundary = interval.mean([boundary_of(octave, row) for row in last.to_numpy(float)])
    inside = min(boundary.value - octave[0], octave[-1] - boundary.value)
    margin = Estimate(
        inside, inside - (boundary.high - boundary.value), inside + (boundary.high - boundary.value), boundary.n,
        boundary.method,
    )  # fmt: skip
    return {
        "rank_correlation": interval.mean([_pearson(row, order) for row in ranks]),
        "inside": margin,
        "precision": interval.exact(min(boundary.high - boundary.low, np.ptp(OCTAVES)), boundary.n),
        "boundary": boundary,
        "fewest": interval.mean(last.iloc[:, 0]),
        "most": interval.mean(last.iloc[:, -1]),
    }


def _pearson(a: Floats, b: Floats) -> float:
    """Correlation; 0 if one of the two does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0


def boundary_of(octave: Floats, relative: Floats) -> float:
    """log2 D at which a logistic curve through relative distances against log2 D passes one half."""

    def residual(parameters: Floats) -> Floats:
        middle, log_width = parameters
        return 0.5 * (1 + np.tanh((middle - octave) / (2 * np.exp(log_width)))) - relative

    fit = least_squares(residual, [octave.mean(), 0.0], bounds=([OCTAVES[0], -3.0], [OCTAVES[1], 3.0]))
    return float(fit.x[0])


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The time to memorise grows faster than the number of tasks."""
    cells = tables["cells"]
    main = cells[cells["row"] == "main"]
    found = {key: crossing(curve) for key, curve in main.groupby(["seed", "tasks"])}
    times = pd.Series(found).rename_axis(["seed", "tasks"]).to_frame("step")
    times = times.reset_index().pivot_table(index="seed", columns="tasks", values="step", dropna=False)
    predicted = main.pivot_table(index="seed", columns="tasks", values="predicted_crossing", aggfunc="first")
    return {
        "exponent": _exponent(interval, times),
        "exponent_predicted": _exponent(interval, predicted.where(times.notna())),
        "crossed": interval.exact(float(times.notna().sum(axis=1).min()), len(times)),
    }


def crossing(curve: pd.DataFrame) -> float:
    """Step at which the relative distance first reaches one half, NaN if it starts above or never gets there.

    The relative distance is made monotone first (isotonic regression); between checkpoints the logarithm of the step is
    interpolated.
    """
    ordered = curve.sort_values("step")
    smooth, log_step = isotonic_regression(ordered["d_rel"]).x, np.log(ordered["step"].to_numpy(float))
    after = int(np.argmax(smooth >= TAKEN_OVER))
    if after == 0:
        return np.nan
    share = (TAKEN_OVER - smooth[after - 1]) / (smooth[after] - smooth[after - 1])
    return float(np.exp(log_step[after - 1] + share * (log_step[after] - log_step[after - 1])))


def _exponent(interval: Interval, times: pd.DataFrame) -> Estimate:
    """Slope of log time against log D, one a seed, over the seeds in which at least three D were crossed."""
    slopes = []
    for _, row in times.replace(np.inf, np.nan).iterrows():
        known = row.dropna()
        if len(known) >= AT_LEAST:
            slopes.append(np.polyfit(np.log(known.index.to_numpy(float)), np.log(known.to_numpy(float)), 1)[0])
    if not slopes:
        return Estimate(0.0, -np.inf, np.inf, 0, "no seed in which three numbers of tasks were crossed")
    return interval.mean(slopes)


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Evidence accumulates sublinearly in the training steps."""
    full, linear = (_fit(tables, variant, "all") for variant in ("full", "linear evidence"))
    return {
        "exponent": interval.mean(1 - full["alpha"]),
        "linear_is_worse": interval.paired_difference(linear["loss"], full["loss"]),
        "beta": interval.mean(full["beta"]),
        "gamma": interval.mean(full["gamma"]),
    }


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Larger hidden layers pay less for complexity."""
    narrow, wide = (_fit(tables, "full", "all", row)["beta"] for row in ("narrow", "wide"))
    narrow, wide = narrow.align(wide, join="inner")
    return {
        "difference": interval.paired_difference(narrow, wide),
        "narrow": interval.mean(narrow),
        "wide": interval.mean(wide),
    }
