"""One function for each claim: reduce each seed to one number, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
TOLERANCE, RANK_BOUND = 0.06, -0.98  # c2: of the slope, and of the rank correlation
CLOSE = 0.25  # c1: a delay that counts as close to the prediction
CONVERGED = 0.01  # c4: distance at which the best approximation counts as reached


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Sigmoid learning curves, and the delay of tanh networks."""
    linear, tanh = _modes(tables, "tree", "linear"), _modes(tables, "tree", "tanh")
    delay = linear.groupby("seed")["delay"].mean()
    expected = linear.groupby("seed")["competition"].mean()
    both = _modes(tables, "tree_tanh_output", "tanh_output").groupby("seed")["delay"].mean()
    return {
        "relative_delay": interval.mean(delay),
        "close_pairs": interval.mean((linear["delay"].abs() < CLOSE).groupby(linear["seed"]).mean()),
        "curve_r2": _worst_mode(linear, interval),
        "tanh_delay": interval.paired_difference(tanh.groupby("seed")["delay"].mean(), delay),
        "curve_r2_average": interval.mean(linear[linear["listed"]].groupby("seed")["r2"].mean()),
        "curve_r2_wide": _worst_mode(_modes(tables, "tree_wide", "linear"), interval),
        "competition": interval.paired_difference(delay, expected),
        "tanh_output_delay": interval.paired_difference(both, delay.loc[both.index]),
    }


def _modes(tables: Tables, row: str, network: str) -> pd.DataFrame:
    """Passage times of one network of one row of the sweep."""
    table = tables["mode_times"]
    return table[(table["row"] == row) & (table["network"] == network)]


def _worst_mode(modes: pd.DataFrame, interval: Interval) -> Estimate:
    """R2 over seeds of the listed mode whose interval reaches lowest: all hold if and only if it does."""
    listed = modes[modes["listed"]]
    return min((interval.mean(group["r2"]) for _, group in listed.groupby("mode")), key=lambda estimate: estimate.low)


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Half times fall as one over strength."""
    fits, wide = (_slopes(_modes(tables, row, "linear")) for row in ("tree", "tree_wide"))
    return {
        "seeds_as_predicted": interval.proportion(int(fits["good"].sum()), len(fits)),
        "slope_error": interval.mean(fits["error"]),
        "rank_correlation": interval.mean(fits["rho"]),
        "slope_error_competition": interval.mean(fits["error_left"]),
        "slope_error_wide": interval.mean(wide["error"]),
        "seeds_as_predicted_wide": interval.proportion(int(wide["good"].sum()), len(wide)),
    }


def _slopes(modes: pd.DataFrame) -> pd.DataFrame:
    """Per seed: slope of log half time on log s less that of the closed form, as it stands (`error`) and with the delay
    that competition makes one expect (`error_left`); the rank correlation; whether both are as the claim says."""
    rows = []
    for _, group in modes.groupby("seed"):
        x = np.log(group["s"])
        lag = np.log(group["t50"] / group["analytic"])
        error, left = _slope(x, lag), _slope(x, lag - np.log1p(group["competition"]))
        rho = float(group["t50"].corr(group["s"], method="spearman"))
        good = abs(error) <= TOLERANCE and rho < RANK_BOUND
        rows.append({"error": error, "error_left": left, "rho": rho, "good": good})
    return pd.DataFrame(rows)


def _slope(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of y on x."""
    return float(np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)[0])


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Transitions as short as the sigmoid says, and shorter from smaller weights."""
    modes = _modes(tables, "transition", "linear").dropna(subset="share")
    ratio = (modes["share"] / modes["analytic_share"]).groupby([modes["initial_strength"], modes["seed"]]).median()
    estimates = [interval.mean(ratio.loc[u0]) for u0 in ratio.index.unique(level=0)]
    share = modes.pivot_table(index="seed", columns="initial_strength", values="share", aggfunc="median")
    return {
        "transition_share_low": min(estimates, key=lambda estimate: estimate.low),
        "transition_share_high": max(estimates, key=lambda estimate: estimate.high),
        "drop": interval.mean(share.diff(axis=1).min(axis=1)),  # columns ascend in u0
    }


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Undercomplete networks end at the truncated SVD, and the drift is of first order in the rate."""
    ends = tables["fixed_points"]
    worst = ends.groupby("seed")["distance"].max()
    drift = ends.pivot_table(index="seed", columns="learning_rate", values="drift")
    return {
        "worst_distance": interval.exact(worst.max(), len(worst)),
        "drift_ratio": interval.mean(drift.iloc[:, -1] / drift.iloc[:, 0]),
        "success_share": interval.proportion((worst < CONVERGED).sum(), len(worst)),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Learning time against depth from decoupled weights."""
    table = tables["depth_times"]
    table = table[table["start"] == "decoupled"]
    times, rates = (table.pivot_table(index="seed", columns="layers", values=name) for name in ("time", "best_rate"))
    layers = times.columns.to_numpy(float)
    slopes = [_slope(np.log(layers - 1), np.log(row)) for row in rates.to_numpy()]
    growth = np.diff(times.to_numpy(), axis=1)
    per_layer = growth / np.diff(layers)
    concave = per_layer[:, layers[:-1] - 1 > -np.log(table["initial_strength"].iloc[0])]
    half = layers[np.abs(layers - layers[-1] / 2).argmin()]
    theory = (table["predicted_rate_time"] / table["theory_time"]).groupby(table["seed"])
    return {
        "rate_slope": interval.mean(slopes),
        "increasing": interval.mean(growth.min(axis=1)),
        "concave": interval.mean((concave[:, 1:] / concave[:, :-1]).max(axis=1)),
        "saturation": interval.mean(times[layers[-1]] / times[half]),
        "early_growth": interval.mean(times[6] / times[3]),
        "theory_low": interval.mean(theory.min()),
        "theory_high": interval.mean(theory.max()),
        "grid_edge": interval.exact(table["at_edge"].mean(), len(times)),
        "concave_everywhere": interval.mean((per_layer[:, 1:] / per_layer[:, :-1]).max(axis=1)),
    }


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Deepest against five layers for three starts."""
    table = tables["depth_times"]
    starts = table[table["start"] != "decoupled"]
    deep = starts[(starts["start"] == "gaussian") & (starts["layers"] == starts["layers"].max())]
    ratios = {name: _depth_ratio(starts[starts["start"] == name], interval) for name in starts["start"].unique()}
    learned = starts[~starts["censored"].astype(bool)]
    return ratios | {
        "grid_edge": interval.exact(learned["at_edge"].mean(), starts["seed"].nunique()),
        "gaussian_censored": interval.proportion(deep["censored"].sum(), len(deep)),
    }


def _depth_ratio(table: pd.DataFrame, interval: Interval) -> Estimate:
    """Ratio of the median learning times at the largest depth and with five layers."""
    times = table.pivot_table(index="seed", columns="layers", values="time")

    def ratio(deep: np.ndarray, shallow: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(deep, axis=axis) / np.median(shallow, axis=axis)

    return interval.bootstrap(ratio, times[times.columns.max()], times[5], paired=True)


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Spectra of Gaussian and orthogonal products, and of tanh Jacobians."""
    table = tables["spectra"]
    gaussian = table[table["kind"] == "gaussian"]
    many = gaussian[gaussian["factors"] == gaussian["factors"].max()]
    five = gaussian[gaussian["factors"] == 5]
    orthogonal = table[table["kind"] == "orthogonal"]
    critical, below = (_tanh(table, gain, "q50") for gain in (1.0, 0.9))
    return {
        "share_five": interval.mean(five["origin_share"]),
        "share_many": interval.mean(many["origin_share"]),
        "gaussian_spread": interval.mean(many["log_spread"]),
        "orthogonal_spread": interval.exact(orthogonal["log_spread"].max(), len(orthogonal)),
        "critical_low": interval.mean(critical.min(axis=1)),
        "critical_high": interval.mean(critical.max(axis=1)),
        "subcritical": interval.mean(below.max(axis=1)),
        "chaotic": interval.difference(many["log_spread"], _tanh(table, 1.1, "log_spread").max(axis=1)),
        "kurtosis_five": interval.mean(five["kurtosis"]),
        "kurtosis_many": interval.mean(many["kurtosis"]),
    }


def _tanh(table: pd.DataFrame, gain: float, quantity: str) -> pd.DataFrame:
    """A column of the Jacobians' table at this gain: rows are seeds, columns input powers."""
    chosen = table[(table["kind"] == "tanh") & np.isclose(table["gain"], gain)]
    return chosen.pivot_table(index="seed", columns="power", values=quantity)


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Alignment of MNIST's singular vectors, and what pretraining is worth."""
    by_basis = tables["alignment"].groupby("basis")["off_diagonality"]
    actual, random = by_basis.get_group("singular vectors").iloc[0], by_basis.get_group("random rotation")
    chance = (1 + (random <= actual).sum()) / (1 + len(random))
    total, tuning = (_log_ratios(tables["pretraining"], column) for column in ("total", "time"))
    both, tuned = total.dropna(), tuning.dropna()  # seeds that both tasks share
    return {
        "alignment": interval.exact(chance, 1),
        "faster_share": interval.proportion((total["mnist"] < 0).sum(), len(total)),
        "smaller_advantage": interval.paired_difference(both["mismatched"], both["mnist"]),
        "time_ratio": interval.mean(10 ** total["mnist"]),
        "time_ratio_mismatched": interval.mean(10 ** both["mismatched"]),
        "smaller_advantage_tuning": interval.paired_difference(tuned["mismatched"], tuned["mnist"]),
    }


def _log_ratios(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """log10 of the time from the pretrained over that from the random start, by seed and (columns) task."""
    pretrained, random = (
        table[table["start"] == start].pivot_table(index="seed", columns="task", values=column)
        for start in ("pretrained", "random")
    )
    return (pretrained / random).apply(np.log10)
