"""Estimates for the claims: one number a seed first, then an interval over seeds.

Points of the sweep are told apart by their values: the colour sweep has the full size separation, the size sweep the
colour separation REFERENCE, and weak colours are those that an exaggerated prompt can exceed by far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
POINT = ["colour", "size", "mask", "blue"]
MEMBER = [*POINT, "seed"]
REFERENCE = 0.4  # separation of the concept that is not varied
WEAK = 0.2  # largest colour separation that counts as weak
INTERMEDIATE = (0.5, 0.75)  # masked shares at which the capability should be hidden
QUIET = 0.25  # share of the time of the hidden capability at which interventions must still fail
UNKNOWN = Estimate(0.0, -np.inf, np.inf, 0, "no network qualifies")


def times(tables: Tables, kind: str) -> pd.Series:
    """Times of arrival of one kind of prompt by member; the budget where it does not arrive."""
    found = tables["arrivals"].query("kind == @kind")
    return found["time"].fillna(found["budget"]).set_axis(pd.MultiIndex.from_frame(found[MEMBER]))


def chosen_times(tables: Tables, kind: str) -> pd.Series:
    """Times of a shift by member, its factor chosen as the one with the smallest median over the other seeds."""
    found = tables["arrivals"].query("kind == @kind")
    filled = found.assign(time=found["time"].fillna(found["budget"]))
    wide = filled.pivot_table(index=MEMBER, columns="strength", values="time")
    return pd.concat([wide.sum(axis=1)[:0], *(_chosen(point) for _, point in wide.groupby(level=POINT))])


def _chosen(point: pd.DataFrame) -> pd.Series:
    """One time a seed from seeds x factors."""
    factors = [(point.drop(index=member) if len(point) > 1 else point).median().idxmin() for member in point.index]
    return pd.Series([point.loc[pair] for pair in zip(point.index, factors, strict=True)], point.index)


def hidden_times(tables: Tables) -> pd.Series:
    """When the first of both interventions succeeds."""
    return pd.concat([times(tables, "over best"), chosen_times(tables, "latent")], axis=1, join="inner").min(axis=1)


def weak(values: pd.Series) -> pd.DataFrame:
    """Values by member -> seeds x weak colours, of networks that see blue and all colours named."""
    table = values.rename("value").reset_index()
    chosen = table[(table["colour"] <= WEAK) & (table["size"] == REFERENCE) & (table["mask"] == 0) & table["blue"]]
    return chosen.pivot_table(index="seed", columns="colour", values="value")


def separations(values: pd.Series, concept: str) -> pd.DataFrame:
    """Values by member -> seeds x separations of one concept, the other at REFERENCE."""
    other = {"colour": "size", "size": "colour"}[concept]
    table = values.rename("value").reset_index()
    chosen = table[(table[other] == REFERENCE) & (table["mask"] == 0) & table["blue"]]
    return chosen.pivot_table(index="seed", columns=concept, values="value")


def by_member(tables: Tables, column: str) -> pd.Series:
    """A column of the table paths by member."""
    return tables["paths"].set_index(MEMBER)[column]


def rank(x: object, y: object) -> float:
    """Rank correlation; 0 if one side does not vary."""
    if np.ptp(np.asarray(x, dtype=float)) == 0 or np.ptp(np.asarray(y, dtype=float)) == 0:
        return 0.0
    return float(stats.spearmanr(x, y).statistic)


def octaves(late: pd.DataFrame, early: pd.DataFrame) -> pd.DataFrame:
    """log2(late / early), entry by entry."""
    return (late / early).map(np.log2)


def nothing(*tests: str) -> dict[str, Estimate]:
    """Tests about which a sweep without the networks that they need says nothing."""
    return dict.fromkeys(tests, UNKNOWN)


def geometric(interval: Interval, ratios: pd.Series) -> Estimate:
    """Geometric mean over seeds, t interval of the logarithm."""
    found = interval.mean(np.log(ratios))
    with np.errstate(over="ignore"):
        value, low, high = (float(np.exp(bound)) for bound in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.n, "geometric mean, t interval of the log")


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Time to learn a concept against its separation, seed by seed."""
    tests = {}
    for concept, kind in (("colour", "blue"), ("size", "small")):
        wide = separations(times(tables, kind), concept)
        ranks = wide.apply(lambda row: rank(row.index, row), axis=1)
        slopes = wide.apply(lambda row: stats.linregress(np.log(row.index), np.log(row)).slope, axis=1)
        tests[f"{concept}_rank"] = interval.mean(ranks)
        tests[f"{concept}_ratio"] = geometric(interval, wide.iloc[:, 0] / wide.iloc[:, -1])
        tests[f"{concept}_slope"] = interval.mean(slopes)
    readout = tables["readout"]
    worst = readout[["blue_accuracy", "small_accuracy"]].min().min()
    return {**tests, "readout": interval.exact(worst, len(readout))}


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Leads of the strong concept with the weakest colour, and with the weakest size."""
    leads = {name: by_member(tables, f"{name}_lead") for name in ("small", "blue")}
    small, blue = (separations(leads[name], "colour").iloc[:, 0] for name in ("small", "blue"))
    small_weak_size, blue_weak_size = (separations(leads[name], "size").iloc[:, 0] for name in ("small", "blue"))
    flips = (small > blue) & (blue_weak_size > small_weak_size)
    corner = separations(by_member(tables, "small_corner"), "colour").iloc[:, 0]
    return {
        "lead": interval.mean(small),
        "flips": interval.proportion(int(flips.sum()), len(flips)),
        "lead_weak_size": interval.mean(blue_weak_size),
        "lead_share": interval.proportion(int((small > 0.8).sum()), len(small)),
        "corner": interval.mean(corner),
    }


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Signed area against the log ratio of the separations, and against that of the concepts' own times."""
    seen = tables["paths"].query("mask == 0 and blue").set_index(MEMBER)
    table = pd.DataFrame({
        "area": seen["area"],
        "ratio": np.log(seen.index.get_level_values("colour") / seen.index.get_level_values("size")),
        "pace": (times(tables, "small") / times(tables, "blue")).reindex(seen.index),
    })  # fmt: skip
    seeds = table.groupby(level="seed")
    # the area of independent learning grows with the ratio of the paces, so that their ranks are the same
    return {
        "rank": interval.mean(seeds.apply(lambda part: rank(part["ratio"], part["area"]))),
        "independent": interval.mean(seeds.apply(lambda part: rank(part["pace"], part["area"]))),
    }


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Distances in octaves of the turn, and of the plain prompt, from the hidden capability."""
    hidden = weak(hidden_times(tables))
    if hidden.empty:
        return nothing("distance", "closer", "closer_share", "signed", "local")
    turn, local = (octaves(weak(by_member(tables, name)), hidden) for name in ("turn", "local_turn"))
    plain = octaves(weak(times(tables, "plain")), hidden).abs().mean(axis=1)
    near = turn.abs().mean(axis=1)
    return {
        "distance": interval.bootstrap(np.median, near),
        "closer": interval.paired_difference(plain, near),
        "closer_share": interval.proportion(int((near < plain).sum()), len(near)),
        "signed": interval.mean(turn.mean(axis=1)),
        "local": interval.bootstrap(np.median, local.abs().mean(axis=1)),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Times of the plain prompt against those of the interventions, paired by seed."""
    over = weak(times(tables, "over best"))
    if over.empty:
        return nothing("over", "latent", "resolved", "consistent", "over_share", "latent_share", "under", "random")
    plain, best = (weak(times(tables, kind))[over.columns] for kind in ("plain", "plain best"))
    latent, aimless = (weak(chosen_times(tables, kind)) for kind in ("latent", "random"))
    looks = np.sort(tables["looks"].query("colour <= @WEAK and kind == 'over'")["step"].unique())
    between = best.apply(looks.searchsorted) - over.apply(looks.searchsorted)
    gain = octaves(best, over).mean(axis=1)
    return {
        "over": interval.bootstrap(np.median, 2**gain),
        "latent": interval.mean(octaves(plain, latent).mean(axis=1)),
        "resolved": interval.mean(between.mean(axis=1)),
        "consistent": variation(interval, over, best),
        "over_share": interval.mean((over < best).mean(axis=1)),
        "latent_share": interval.mean((latent < plain).mean(axis=1)),
        "under": interval.mean(octaves(plain, weak(times(tables, "under"))).mean(axis=1)),
        "random": interval.mean(octaves(plain, aimless).mean(axis=1)) if len(aimless) else UNKNOWN,
    }


def variation(interval: Interval, first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """Coefficient of variation over seeds of `first` less that of `second` (seeds x points), mean over the points."""
    values = np.stack([first.to_numpy(), second.to_numpy()])  # (2, seeds, points)

    def difference(seeds: np.ndarray, axis: int) -> np.ndarray:
        drawn = values[:, seeds.astype(int)]  # (2, ..., seeds, points)
        spread = drawn.std(axis=-2, ddof=1) / drawn.mean(axis=-2)
        return (spread[0] - spread[1]).mean(axis=-1)

    if len(first) < 2:
        return UNKNOWN
    return interval.bootstrap(difference, np.arange(len(first)))


def up_to(curves: pd.Series, limits: pd.Series) -> pd.Series:
    """The last value of each member's curve (by member and step) up to its limit; the first one if it starts later."""
    table = curves.rename("value").reset_index().merge(limits.rename("limit").reset_index(), on=MEMBER)
    early = table[table["step"] <= np.maximum(table["limit"], table["step"].min())]
    return early.sort_values("step").groupby(MEMBER)["value"].last()


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Best success of any intervention where there should be none."""
    looks = tables["looks"].query("kind in ('over', 'latent')")
    best = looks.groupby([*MEMBER, "step"])["both_share"].max()
    quiet = up_to(best, QUIET * hidden_times(tables))
    last = best.groupby(level=MEMBER).last()
    blind = last[last.index.get_level_values("blue") == np.False_]
    early, blind = weak(quiet).mean(axis=1), blind.groupby(level="seed").mean()
    return {
        "early": interval.mean(early) if len(early) else UNKNOWN,
        "no_blue": interval.mean(blind) if len(blind) else UNKNOWN,
    }


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Times and final colour against the share of masked prompts."""
    plain, best, over = (by_mask(tables, times(tables, kind)) for kind in ("plain", "plain best", "over best"))
    final = by_mask(tables, by_member(tables, "final_blue"))
    between = [mask for mask in INTERMEDIATE if mask in over.columns]
    ratio = np.log(over[between] / best[between]).mean(axis=1)
    return {
        "rank": interval.mean(plain.apply(lambda row: rank(row.index, row), axis=1)),
        "named": interval.mean(final.iloc[:, 0]),
        "unnamed": interval.mean(final.iloc[:, -1]),
        "hidden": geometric(interval, np.exp(ratio)),
        "hidden_share": interval.mean((over[between] < best[between]).mean(axis=1)),
        "delay": geometric(interval, plain.iloc[:, -1] / plain.iloc[:, 0]),
    }


def by_mask(tables: Tables, values: pd.Series) -> pd.DataFrame:
    """Values by member -> seeds x masked shares, at the point where masks are studied."""
    masked = tables["paths"].query("mask > 0")
    colour, size = float(masked["colour"].iloc[0]), float(masked["size"].iloc[0])
    table = values.rename("value").reset_index()
    chosen = table[(table["colour"] == colour) & (table["size"] == size) & table["blue"]]
    return chosen.pivot_table(index="seed", columns="mask", values="value").dropna()
