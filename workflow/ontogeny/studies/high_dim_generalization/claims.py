"""One function for each claim: reduce each seed to one number, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ontogeny.statistics import Estimate, Interval
from ontogeny.studies.high_dim_generalization import theory

Tables = Mapping[str, pd.DataFrame]
Array = NDArray[np.float64]

CLAIM_LOADS = (0.5, 0.8, 1.0, 1.25, 2.0)  # c1
CLAIM_TIME = 100.0  # c1 [tau]
FITTED = 0.01  # c1: training errors below this [teacher variance] have no meaningful ratio
FLOOR = 1e-6  # c2: overtraining below this share of the teacher's variance counts as none
FAR = (0.5, 2.0)  # c3: loads up to the first and from the second on are far from 1


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Simulated over predicted error curves, and the control."""
    curves = tables["curves"]
    curves = curves[curves["load"].isin(CLAIM_LOADS) & (curves["time"] <= CLAIM_TIME)]
    error = _ratios(curves, "error", "theory", interval)
    train = _ratios(curves[curves["train_theory"] > FITTED], "train_error", "train_theory", interval)
    control = tables["descent"]
    deviation = (control["error"] / control["flow_error"] - 1).abs()
    return {
        "highest": _highest(error),
        "lowest": _lowest(error),
        "training_highest": _highest(train),
        "training_lowest": _lowest(train),
        "descent": interval.exact(deviation.max(), control["seed"].nunique()),
    }


def _ratios(curves: pd.DataFrame, simulated: str, predicted: str, interval: Interval) -> list[Estimate]:
    """Intervals over seeds of simulated / predicted - 1, for every load and time."""
    ratio = curves[simulated] / curves[predicted] - 1
    return [interval.mean(values) for _, values in ratio.groupby([curves["load"], curves["time"]])]


def _highest(estimates: Iterable[Estimate]) -> Estimate:
    """The estimate whose interval reaches highest: all lie below a bound if and only if it does."""
    return max(estimates, key=lambda estimate: estimate.high)


def _lowest(estimates: Iterable[Estimate]) -> Estimate:
    return min(estimates, key=lambda estimate: estimate.low)


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Where overtraining and the final error are greatest, and by how much."""
    table = _at_claimed_noise(tables)
    over, final = (table.pivot_table(index="seed", columns="load", values=name) for name in ("over", "final"))
    predicted = theory.peak(tables["curves"]["time"].max(), table["snr"].iloc[0])
    return {
        "peak_load": _peak_place(over, interval),
        "final_peak_load": _peak_place(final, interval),
        "over_half": interval.bootstrap(_ratio_of_means, over[1.0], over[0.5]),
        "over_double": interval.bootstrap(_ratio_of_means, over[1.0], over[2.0]),
        "peak_height": interval.mean(final[1.0] / predicted),
    }


def _at_claimed_noise(tables: Tables) -> pd.DataFrame:
    """The rows of `stopping` at the noise of `surface_points`' first surface, which is the setting `snr`."""
    points = tables["surface_points"]
    snr = points.loc[points["surface"] == "load_time", "snr"].iloc[0]
    return tables["stopping"][tables["stopping"]["snr"] == snr]


def _ratio_of_means(above: Array, below: Array, axis: int = -1) -> Array:
    return (above.mean(axis=axis) + FLOOR) / (below.mean(axis=axis) + FLOOR)


def _peak_place(table: pd.DataFrame, interval: Interval) -> Estimate:
    """Bootstrap over seeds (rows) of the column at which the mean is greatest."""
    values, places = table.to_numpy(), table.columns.to_numpy(float)

    def place(rows: Array, axis: int = -1) -> Array:
        picked = np.moveaxis(rows.astype(int), axis, -1)
        counts = np.stack([(picked == row).sum(axis=-1) for row in range(len(values))], axis=-1)
        return places[(counts @ values).argmax(axis=-1)]

    return interval.bootstrap(place, np.arange(len(values)))


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The frozen subspace, and the gap."""
    spectra, control = tables["spectra"], tables["descent"]
    frozen_control = control.loc[control["load"] < 1, "frozen_share"]
    expected = np.rint(spectra["inputs"] * (1 - spectra["load"]).clip(lower=0))
    excess = (spectra["frozen"] - expected).abs()
    large, small = (spectra[spectra["row"] == row] for row in ("spectrum", "linear"))
    far = small[(small["load"] <= FAR[0]) | (small["load"] >= FAR[1])]
    gaps = _gaps(large, "lower_edge", interval)
    return {
        "displacement": interval.exact(frozen_control.max(), control["seed"].nunique()),
        "frozen": interval.exact(excess.max(), spectra["seed"].nunique()),
        "gap_highest": _highest(gaps),
        "gap_lowest": _lowest(gaps),
        "gap_corrected": max(_gaps(large, "gap_at_size", interval), key=lambda estimate: abs(estimate.value)),
        "gap_small": _highest(_gaps(far, "lower_edge", interval)),
    }


def _gaps(spectra: pd.DataFrame, predicted: str, interval: Interval) -> list[Estimate]:
    """Intervals over seeds of the smallest non-zero eigenvalue over a prediction, minus one, for every load."""
    ratio = spectra["smallest"] / spectra[predicted] - 1
    return [interval.mean(values) for _, values in ratio.groupby(spectra["load"])]


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Early stopping against the optimal ridge over loads and noises."""
    grid, simulated = tables["stopping_theory"], tables["stopping"]
    cells = [simulated["load"], simulated["snr"]]
    return {
        "theory_excess": interval.exact(grid["excess"].max(), 1),
        "simulated_excess": _highest(interval.mean(cell) for _, cell in simulated["stopped_excess"].groupby(cells)),
        "oracle_excess": _highest(interval.mean(cell) for _, cell in simulated["early_excess"].groupby(cells)),
        "theory_excess_bare": interval.exact(grid["excess_bare"].max(), 1),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Slopes of the final error against the variance of initial weights."""
    table = tables["initial"]
    slope = {load: _slopes(table[table["load"] == load]) for load in (0.25, 0.5, 2.0)}
    times = table[table["load"] == 2].pivot_table(index="seed", columns="inr", values="early_time")
    return {
        "slope_quarter": interval.mean(slope[0.25] / (1 - 0.25)),
        "slope_half": interval.mean(slope[0.5] / (1 - 0.5)),
        "slope_double": interval.mean(slope[2.0]),
        "delay": _exponential(interval.mean(np.log(times[times.columns.max()] / times[0.0]))),
    }


def _slopes(table: pd.DataFrame) -> Array:
    """Least-squares slope of the final error on INR, for each seed."""
    wide = table.pivot_table(index="seed", columns="inr", values="final")
    return np.polyfit(wide.columns.to_numpy(float), wide.to_numpy().T, 1)[0]


def _exponential(estimate: Estimate) -> Estimate:
    """A mean of logarithms as a geometric mean."""
    low, middle, high = (float(np.exp(value)) for value in (estimate.low, estimate.value, estimate.high))
    return Estimate(middle, low, high, estimate.n, f"geometric {estimate.method}")


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Early-stopped error and overtraining of random-feature students against width."""
    table = tables["widths"]
    samples = table["samples"].iloc[0]
    early, over = (_by_width(table, name) for name in ("early", "over"))
    peak, third, double = (_closest(early.columns, wanted) for wanted in (samples, samples / 3, 2 * samples))
    widest, from_third = early.columns.max(), early.to_numpy()[:, early.columns.to_numpy(int) >= third]
    steps = [interval.mean(change) for change in np.diff(from_third, axis=1).T]
    edge = table[table["width"] == double]
    return {
        "peak_width": _peak_place(over.rename(columns=lambda width: width / samples), interval),
        "rises": interval.exact(sum(step.low > 0 for step in steps), len(early)),
        "early_change": interval.paired_difference(early[widest], early[third]),
        "over_widest": interval.bootstrap(_ratio_of_means, over[widest], over[peak], paired=True),
        "over_widest_typical": _exponential(interval.mean(np.log(over[widest] / over[peak]))),
        "bulk_edge": interval.mean(edge["smallest"] / edge["bulk_edge"]),
    }


def _by_width(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows are seeds, columns widths."""
    return table.pivot_table(index="seed", columns="width", values=column)


def _closest(values: ArrayLike, wanted: float) -> int:
    array = np.asarray(values)
    return int(array[np.abs(np.log(array / wanted)).argmin()])


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Both layers trained on digits: overtraining against width, and initial weights."""
    ends = tables["digit_ends"]
    small, large = (ends[ends["init_scale"] == scale] for scale in np.sort(ends["init_scale"].unique())[[0, -1]])
    over, early, final = (_by_width(small, name) for name in ("over", "early", "final"))
    final_large = _by_width(large, "final")
    peak, widest = peaks_of_others(over), over.columns.max()
    return {
        "wide_below_peak": interval.paired_difference(over[widest], _at(over, peak)),
        "narrow_below_peak": interval.paired_difference(over[over.columns.min()], _at(over, peak)),
        "init_scale": interval.paired_difference(final_large[widest], final[widest]),
        "early_wide": interval.paired_difference(early[widest], _at(early, peak)),
        "init_scale_peak": interval.paired_difference(_at(final_large, peak), _at(final, peak)),
    }


def peaks_of_others(table: pd.DataFrame) -> pd.Series:
    """For each seed (row) the column at which the mean over all *other* seeds is greatest.

    A peak that is chosen and judged on the same seeds looks higher than it is. One seed alone has only itself.
    """
    others = table.sum() - table if len(table) > 1 else table
    return others.idxmax(axis=1)


def _at(table: pd.DataFrame, columns: pd.Series) -> Array:
    """The value of each row at its own column."""
    return table.to_numpy()[np.arange(len(table)), table.columns.get_indexer(pd.Index(columns))]


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Rank correlations over widths of the generalisation gap with two bounds."""
    ends = tables["digit_ends"]
    digits = ends[ends["init_scale"] == ends["init_scale"].min()]
    growth, counted = (_rank_correlations(digits, name) for name in ("complexity", "width"))
    alone, width = (_rank_correlations(tables["widths"], name) for name in ("complexity", "width"))
    return {
        "growth": interval.mean(growth),
        "advantage": interval.paired_difference(growth, counted),
        "growth_start": interval.mean(_rank_correlations(digits, "complexity_start")),
        "growth_features": interval.mean(alone),
        "advantage_features": interval.paired_difference(alone, width),
    }


def _rank_correlations(table: pd.DataFrame, bound: str) -> Array:
    """Spearman's rho of bound and gap over the widths beyond the peak of overtraining, for each seed.

    sqrt(width) has the ranks of width. A bound that does not vary over the widths has no correlation, 0.
    """
    peaks = peaks_of_others(_by_width(table, "over"))
    beyond = table[table["width"] > table["seed"].map(peaks)]
    found = {seed: group[bound].corr(group["gap"], method="spearman") for seed, group in beyond.groupby("seed")}
    return np.nan_to_num([found.get(seed, np.nan) for seed in peaks.index])
