"""One function for each claim: reduce each seed to one number, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from ontogeny.statistics import Estimate, Interval
from ontogeny.studies.feature_emergence.boundary import fit

Tables = Mapping[str, pd.DataFrame]
NEVER = 2.0  # a network that did not get there counts as taking this many times the epochs it had


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The boundary of generalisation against the group's size."""
    everything = tables["boundaries"]
    cyclic, others = everything[everything["cyclic"]], everything[~everything["cyclic"]]
    aic = {law: _aic(cyclic, law) for law in ("logarithm", "constant", "root")}
    scaled = others.assign(scaled=others["f50"] / others["scale"])
    return {
        "cv": interval.mean(_by_seed(cyclic, _variation)),
        "r2": interval.mean(_by_seed(cyclic, _r2)),
        "slope": interval.mean(_by_seed(cyclic, lambda seed: _fit(seed, "logarithm")[0])),
        "against_constant": interval.mean(aic["constant"] - aic["logarithm"]),
        "against_root": interval.mean(aic["root"] - aic["logarithm"]),
        "other_groups": _mean_if_any(scaled.groupby("seed")["scaled"].mean(), interval),
        "censored": interval.proportion(int(everything["censored"].sum()), len(everything), method="wilson"),
    }


def _fit(seed: pd.DataFrame, law: str) -> tuple[float, float]:
    return fit(law, seed["order"], seed["f50"])


def _aic(table: pd.DataFrame, law: str) -> np.ndarray:
    """Akaike's criterion of a law, for each seed."""
    return np.array([_fit(seed, law)[1] for _, seed in table.groupby("seed")])


def _variation(seed: pd.DataFrame) -> float:
    """Coefficient of variation of f50 over the law, over groups."""
    scaled = seed["f50"] / seed["scale"]
    return float(scaled.std(ddof=1) / scaled.mean()) if scaled.mean() > 0 else np.inf


def _r2(seed: pd.DataFrame) -> float:
    """R2 of the line through the origin; 0 where f50 does not vary at all."""
    residual = seed["f50"] - _fit(seed, "logarithm")[0] * seed["scale"]
    total = float(((seed["f50"] - seed["f50"].mean()) ** 2).sum())
    return 1 - float((residual**2).sum()) / total if total > 0 else 0.0


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The energy's maxima on full tables."""
    ends, parts = tables["landscape"], tables["parts"]
    ends = ends.assign(error=(ends["energy"] / ends["predicted"] - 1).abs(), constant=ends["energy"] / ends["order"])
    cyclic, others = ends[ends["odd_cyclic"]], ends[~ends["odd_cyclic"]]
    exact = parts["zero_modes"] == parts["predicted_zero_modes"]
    other_parts = ~parts["odd_cyclic"]
    return {
        "peaked": interval.mean((cyclic["peak"] > 0.999).groupby(cyclic["seed"]).mean()),
        "spread": interval.mean(_by_seed(cyclic, _spread)),
        "coverage": interval.mean(_by_seed(cyclic, lambda seed: _coverage(seed, parts))),
        "flat": interval.exact(parts.loc[parts["odd_cyclic"], "flattest"].max(), int(parts["odd_cyclic"].sum())),
        "constant": interval.mean(cyclic.groupby("seed")["constant"].mean()),
        "other_groups": _mean_if_any(others.groupby("seed")["error"].max(), interval),
        "other_flat": _mean_if_any(exact[other_parts].groupby(parts["group"]).mean(), interval),
        "other_coverage": _mean_if_any(_by_seed(others, lambda seed: _coverage(seed, parts)), interval),
    }


def _spread(seed: pd.DataFrame) -> float:
    """Largest relative range of E over the groups."""
    energy = seed.groupby("group")["energy"]
    return float(((energy.max() - energy.min()) / energy.mean()).max())


def _coverage(seed: pd.DataFrame, parts: pd.DataFrame) -> float:
    """Smallest share, over the groups, of a group's parts that some ascent ended in."""
    reached = seed.groupby("group")["part"].nunique()
    return float((reached / parts.groupby("group")["part"].nunique()).dropna().min())


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The gradient that reaches a lazy hidden layer."""
    lazy, early = tables["lazy"], tables["early"]
    cosine = lazy[lazy["decay"] == lazy["decay"].max()].pivot_table(index="seed", columns="width", values="cosine")
    first, second, last = cosine.columns[0], cosine.columns[1], cosine.columns[-1]
    widest = early[early["width"] == last].sort_values("time")
    start = early[early["time"] == early["time"].min()]
    return {
        "slope": interval.mean(
            _by_seed(lazy[lazy["width"] == last], lambda seed: _log_slope(seed["decay"], seed["norm"]))
        ),
        "cosine": interval.mean(cosine[last]),
        "first_rise": interval.paired_difference(cosine[second], cosine[first]),
        "last_rise": interval.paired_difference(cosine[last], cosine[second]),
        "early_cosine": interval.mean(start.groupby("seed")["cosine"].min()),
        "early_growth": interval.mean(_by_seed(widest, _early_growth)),
    }


def _early_growth(seed: pd.DataFrame) -> float:
    """Log-log slope of the aligned part of G_F over the first two times."""
    start = seed.head(2)
    return _log_slope(start["time"], start["norm"] * start["cosine"])


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """With and without weight decay."""
    stages = tables["stages"]
    decayed, plain = stages[stages["weight_decay"] > 0], stages[stages["weight_decay"] == 0]
    test = [table.groupby("seed")["test_accuracy"].last() for table in (decayed, plain)]
    needed = (test[0] > 0.95) & (test[1] < 0.5 * test[0])
    return {
        "test_with": interval.mean(test[0]),
        "ratio_without": interval.mean(test[1] / test[0].clip(lower=1e-9)),
        "order": interval.mean(_by_seed(decayed, lambda seed: _peak(seed, "move_w") - _peak(seed, "move_v"))),
        "off_nodes": interval.mean(_by_seed(decayed, lambda seed: float(_until_half(seed)["off_nodes"].max()))),
        "off_pairs": interval.mean(_by_seed(decayed, lambda seed: float(_until_half(seed)["off_pairs"].max()))),
        "share_of_seeds": interval.proportion(int(needed.sum()), len(needed), method="wilson"),
        "half_way": interval.mean(
            _by_seed(decayed, lambda seed: _half_way(seed, "move_w") - _half_way(seed, "move_v"))
        ),
        "late_balance": interval.mean(_by_seed(decayed, _late_balance)),
    }


def _peak(seed: pd.DataFrame, column: str) -> float:
    """Epoch at the end of the interval with the largest movement."""
    return float(seed["epoch"].to_numpy()[seed[column].to_numpy().argmax()])


def _until_half(seed: pd.DataFrame) -> pd.DataFrame:
    """The rows up to the first with a test accuracy of one half, that one included."""
    before = (seed["test_accuracy"] >= 0.5).cumsum().shift(fill_value=0) == 0
    return seed[before]


def _angle(seed: pd.DataFrame, column: str) -> pd.Series:
    """Angles [rad] that the weights turn by between logged epochs."""
    return np.arccos(1 - seed[column].clip(lower=0))


def _half_way(seed: pd.DataFrame, column: str) -> float:
    """Epoch by which the weights have made half of the way that they make in all."""
    way = _angle(seed, column).cumsum()
    return float(seed.loc[way >= way.iloc[-1] / 2, "epoch"].iloc[0])


def _late_balance(seed: pd.DataFrame) -> float:
    """Angle of W over that of V in the interval in which test accuracy reaches one half, over the same in the first."""
    balance = _angle(seed, "move_w").iloc[1:] / _angle(seed, "move_v").iloc[1:].clip(lower=1e-9)
    return float(balance[_until_half(seed).index[-1]] / balance.iloc[0])


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """V at zero in the beginning."""
    runs = tables["outcomes"][tables["outcomes"]["row"] == "zero_start"]
    times = np.log(runs["epoch_90"].clip(upper=NEVER * runs["epoch"].max()))
    keys = ["fraction", "zero_readout"]
    wide = runs.assign(time=times).pivot_table(index="seed", columns=keys, values="time")
    levels = runs["fraction"].unique()
    scarce, rich = (wide[level][False] - wide[level][True] for level in (levels.min(), levels.max()))
    return {
        "ratio": _exponential(interval.mean((scarce + rich) / 2)),
        "ratio_scarce": _exponential(interval.mean(scarce)),
        "ratio_rich": _exponential(interval.mean(rich)),
        "scarce_over_rich": _exponential(interval.paired_difference(scarce, rich)),
    }


def _exponential(estimate: Estimate) -> Estimate:
    """From logarithms to ratios."""
    with np.errstate(over="ignore"):
        value, low, high = (float(np.exp(bound)) for bound in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.n, f"{estimate.method} of logarithms")


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Learning rates close to the boundary."""
    runs = tables["nodes"][tables["nodes"]["row"] == "rates"]
    runs = runs.assign(generalises=runs["test_accuracy"] > 0.5)
    rates = np.sort(runs["learning_rate"].unique())
    largest = runs[runs["learning_rate"] == rates[-1]]
    return {
        "share": _share_difference(runs, rates[0], rates[-1], interval),
        "energy": _energy_difference(runs, interval),
        "share_tenfold": _share_difference(runs, rates[0], rates[1], interval),
        "energy_same_rate": _rank_correlation(largest["test_accuracy"], largest["energy"], interval),
    }


def _share_difference(runs: pd.DataFrame, small: float, large: float, interval: Interval) -> Estimate:
    """Difference of two shares; from exact intervals for either at half of the error."""
    half = Interval((1 + interval.level) / 2)
    hits = [runs.loc[runs["learning_rate"] == rate, "generalises"] for rate in (small, large)]
    first, second = (half.proportion(int(values.sum()), len(values)) for values in hits)
    value, low, high = first.value - second.value, first.low - second.high, first.high - second.low
    return Estimate(value, low, high, min(first.n, second.n), "difference of shares, Clopper-Pearson for either")


def _energy_difference(runs: pd.DataFrame, interval: Interval) -> Estimate:
    """Energy of runs that do not generalise minus that of runs that do, within seeds that have both; unbounded if fewer
    than two have."""
    mean = (
        runs.pivot_table(index="seed", columns="generalises", values="energy").reindex(columns=[False, True]).dropna()
    )
    if len(mean) < 2:
        return Estimate(0.0, -np.inf, np.inf, len(mean), "no seeds with both kinds of runs")
    return interval.paired_difference(mean[False], mean[True])


def _rank_correlation(x: pd.Series, y: pd.Series, interval: Interval) -> Estimate:
    """Spearman's correlation; unknown where one side does not vary."""
    if x.nunique() < 2 or y.nunique() < 2:
        return Estimate(0.0, -1.0, 1.0, len(x), "Spearman, one side does not vary")
    return interval.spearman(x, y)


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Muon against Adam."""
    runs = tables["nodes"][tables["nodes"]["row"] == "widths"]
    best = best_rates(runs)
    loss, features = (
        best.pivot_table(index="seed", columns=["optimiser", "width"], values=name)
        for name in ("test_loss", "features")
    )
    widths = np.sort(runs["width"].unique())
    gain = loss["adam"] - loss["muon"]
    return {
        "narrowest": interval.mean(-gain[widths[0]]),
        "second": interval.mean(-gain[widths[1]]),
        "gap_shrinks": interval.paired_difference(gain[widths[0]], gain[widths[-1]]),
        "features": interval.mean(sum(features["muon"][k] - features["adam"][k] for k in widths) / len(widths)),
    }


def best_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs at the learning rate of lowest mean test loss, for each optimiser and width."""
    mean = runs.groupby(["optimiser", "width", "learning_rate"])["test_loss"].mean()
    chosen = mean.groupby(["optimiser", "width"]).idxmin()
    keys = pd.MultiIndex.from_frame(runs[["optimiser", "width", "learning_rate"]])
    return runs[keys.isin(chosen.tolist())]


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Missing features, and repulsion."""
    missing, signs = tables["missing"], tables["repulsion"]
    cyclic = missing["odd_cyclic"]
    return {
        "on_missing": interval.mean(missing[cyclic].groupby("seed")["on_missing"].min()),
        "signs": interval.mean(signs.groupby("seed")["projected"].min()),
        "plain_signs": interval.mean(signs.groupby("seed")["plain"].mean()),
        "other_groups": _mean_if_any(missing[~cyclic].groupby("seed")["on_missing"].min(), interval),
    }


def _mean_if_any(values: ArrayLike, interval: Interval) -> Estimate:
    """The mean of what is reported beside a claim; unknown where the sweep has no such groups."""
    if np.size(values) == 0:
        return Estimate(0.0, -np.inf, np.inf, 0, "no such groups")
    return interval.mean(values)


def _by_seed(table: pd.DataFrame, reduce: Callable[[pd.DataFrame], float]) -> list[float]:
    return [float(reduce(group)) for _, group in table.groupby("seed")]


def _log_slope(x: pd.Series, y: pd.Series) -> float:
    return float(stats.linregress(np.log(x), np.log(y)).slope)
