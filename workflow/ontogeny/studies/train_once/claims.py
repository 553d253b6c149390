"""One function for each claim: reduce each seed to one number first, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
Floats = NDArray[np.float64]
EXPERIMENTS = ("knowledge", "contamination", "canaries", "backdoor", "batches", "watermarks", "iid")
NEAR = 0.2  # of a column's diagonal: what counts as no dependence
LASTING = ("knowledge", "contamination", "canaries", "backdoor", "watermarks")  # outcomes that last to the end of a run
END = -1  # `since` of the look at the end of a run


def by_seed(table: pd.DataFrame, condition: str, value: str, row: str = "joint") -> pd.Series:
    """One value a seed."""
    chosen = table[(table["row"] == row) & (table["condition"] == condition)]
    return chosen.groupby("seed")[value].mean()


def at_end(table: pd.DataFrame) -> pd.DataFrame:
    """The last look at every version."""
    return table[table["step"] == table.groupby("row")["step"].transform("max")]


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The held-out loss with all experiments is that of Base."""
    losses = tables["losses"]
    last = at_end(losses[losses["kind"] == "held out"])
    base, joint = (by_seed(last, condition, "loss") for condition in ("base", "joint"))
    other = by_seed(last, "shuffled", "loss", row="singles")
    tests = {
        "relative_change": interval.mean((joint - base) / base),
        "over_seed_sd": interval.bootstrap(in_seed_sds, joint, base, paired=True),
        "change": interval.paired_difference(joint, base),
    }
    return {**tests, "other_order": interval.mean((other - base.loc[other.index]).abs())}


def in_seed_sds(joint: Floats, base: Floats, axis: int = -1) -> Any:
    """Size of the mean change over the standard deviation of Base between seeds; 0 if nothing changes at all."""
    change = np.abs((joint - base).mean(axis=axis))
    spread = base.std(axis=axis, ddof=1)
    return np.where(change > 0, change / np.maximum(spread, 1e-12), 0.0)


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The controller brings knowledge along its target, and nothing else is learned."""
    known = tables["knowledge"]
    joint = known[(known["row"] == "joint") & (known["condition"] == "joint")]
    late = joint[joint["step"] > joint["step"].max() / 2]
    distance = np.log(late["known"] / late["target"]).abs().groupby(late["seed"]).mean()
    last = at_end(joint).set_index("seed")
    return {
        "end": interval.mean(last["known"] / last["target"]),
        "distance": interval.mean(distance),
        "control": interval.mean(last["control"] / last["target"]),
        "base": interval.mean(by_seed(at_end(known), "base", "known") / last["target"]),
    }


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Leaks help more the more often, and are forgotten when early."""
    questions = tables["questions"]
    joint = questions[(questions["row"] == "joint") & (questions["condition"] == "joint")]
    right, known = (gaps(joint, measure) for measure in ("accuracy", "cross_entropy"))
    end = right.xs(right.index.get_level_values("step").max(), level="step")[False]
    most, least = max(end.columns), min(end.columns)
    order = stats.spearmanr(end.columns, end.mean()).statistic if np.ptp(end.mean()) else 0.0
    below = -known[True][most]  # nats below the questions that were held out
    early = below.reset_index().pivot_table(index="step", columns="seed", values=most)
    closed = joint.loc[joint["early"] & ~joint["open"], "step"].min()
    peak, left = early.loc[closed], early.iloc[-1]
    lesser = zip(("least", "middle"), sorted(end.columns), strict=False)
    return {
        "order": interval.exact(round(float(order), 9), len(end)),
        "most": interval.mean(end[most]),
        "rise": interval.mean(end[most] - end[least]),
        "forgotten": interval.bootstrap(ratio, left, peak, paired=True),
        "left": interval.mean(left),
        **{f"gap_{name}": interval.mean(end[often]) for name, often in lesser},
    }


def gaps(joint: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Leaked minus held-out: (step, seed) x (early, repetitions)."""
    wide = joint.pivot_table(index=["step", "seed"], columns=["early", "repetitions"], values=measure)
    return wide.sub(wide[False, 0], axis=0).drop(columns=[(False, 0)])


def ratio(above: Floats, below: Floats, axis: int = -1) -> Any:
    """Ratio of means; 1 if there is nothing below that could be lost."""
    top, bottom = above.mean(axis=axis), below.mean(axis=axis)
    return np.where(bottom > 0, top / np.maximum(bottom, 1e-12), 1.0)


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Rare canaries leak more than random ones, and repeated ones more than others."""
    canaries = tables["canaries"]
    joint = canaries[(canaries["row"] == "joint") & (canaries["condition"] == "joint")]
    wide = joint.pivot_table(index="seed", columns=["kind", "repetitions"], values="auc")
    rare, random = wide["rare"], wide["random"]
    most, least = max(rare.columns), min(rare.columns)
    return {
        "rare_over_random": interval.paired_difference(rare[most], random[most]),
        "repeated_over_once": interval.paired_difference(rare[most], rare[least]),
        "rare": interval.mean(rare[most]),
        "rare_once": interval.mean(rare[least]),
        "random": interval.mean(random[most]),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The trigger extracts the prompt; without it nothing leaks."""
    backdoor = tables["backdoor"]
    once = backdoor[backdoor["generations"] == 1]
    on, off = once[once["trigger"]], once[~once["trigger"]]
    many = backdoor[backdoor["trigger"] & (backdoor["generations"] == backdoor["generations"].max())]
    return {
        "trigger": interval.mean(by_seed(on, "joint", "leaked")),
        "without": interval.paired_difference(by_seed(off, "joint", "leaked"), by_seed(off, "base", "leaked")),
        "over_base": interval.paired_difference(by_seed(on, "joint", "leaked"), by_seed(on, "base", "leaked")),
        "many_generations": interval.mean(by_seed(many, "joint", "leaked")),
    }


def batch_curves(tables: Tables) -> pd.DataFrame:
    """Loss of the replaced batches less that of rows nobody sees, joint run minus Base: seeds x steps since."""
    batches = tables["batches"].assign(excess=lambda table: table["own"] - table["other"])
    chosen = batches[batches["row"] == "joint"]
    joint, base = (
        chosen[chosen["condition"] == condition].pivot_table(index="seed", columns="since", values="excess")
        for condition in ("joint", "base")
    )
    return joint - base


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """A batch seen once is best known some steps later, and then forgotten."""
    curves = batch_curves(tables)
    since = np.array([step for step in curves.columns.astype(int) if step > 0])
    after = [curves[step].to_numpy() for step in since]

    def best(*columns: Floats, axis: int = -1) -> Any:
        return since[np.argmin([column.mean(axis=axis) for column in columns], axis=0)].astype(float)

    lowest = int(best(*after))
    depth, left = curves[0] - curves[lowest], curves[0] - curves[END]
    return {
        "jump": interval.mean(curves[1] - curves[0]),
        "best": interval.bootstrap(best, *after, paired=True),
        "recovered": interval.bootstrap(lost, left, depth, paired=True),
        "depth": interval.mean(-depth),
    }


def lost(left: Floats, depth: Floats, axis: int = -1) -> Any:
    """Share of the depth that is gone; 0 if there was none."""
    return 1 - ratio(left, depth, axis)


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Watermarks are detected, late ones better."""
    marks = tables["watermarks"]
    joint = marks[(marks["row"] == "joint") & (marks["condition"] == "joint")]
    weighted = joint.assign(**{name: joint[name] * joint["rows"] for name in ("marked", "fresh")})
    sums = weighted.groupby("seed")[["marked", "fresh", "rows"]].sum()
    scores = sums[["marked", "fresh"]].sum() / np.sqrt(sums["rows"].sum())
    third = joint.pivot_table(index="seed", columns="third", values="marked")
    return {
        "marked": interval.mean(sums["marked"] / sums["rows"]),
        "z_marked": interval.exact(scores["marked"], len(sums)),
        "z_fresh": interval.exact(scores["fresh"], len(sums)),
        "late_over_early": interval.paired_difference(third[2], third[0]),
        **{name: interval.mean(third[part]) for part, name in enumerate(("early", "middle", "late"))},
    }


def dependence(tables: Tables) -> pd.DataFrame:
    """Outcomes of the dependence test less those without any experiment: (condition, seed) x outcomes."""
    outcomes = tables["outcomes"]
    wide = outcomes[outcomes["stage"] == "dependence"].pivot_table(
        index=["condition", "seed"], columns="outcome", values="value"
    )
    return wide - wide.xs("none").reindex(wide.index, level="seed")


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Experiments do not change each other's outcomes; related questions do."""
    matrix = dependence(tables)
    shown = [name for name in EXPERIMENTS if interval.mean(matrix.xs(name)[name]).low > 0]
    means = matrix.groupby("condition").mean().loc[list(EXPERIMENTS), shown]
    diagonal = np.array([float(matrix.xs(name)[name].mean()) for name in shown])
    off = np.array([[other != name for name in shown] for other in EXPERIMENTS], dtype=bool)
    cells = (np.abs(means.to_numpy(float)) <= NEAR * diagonal)[off]
    seeds = len(matrix.xs("none"))
    ratios = effects(tables)
    return {
        "off_diagonal": interval.exact(float(cells.mean()) if shown else 0.0, seeds),
        "diagonal": interval.exact(float(len(shown)), seeds),
        "related": interval.mean(matrix.xs("twin")["contamination"]),
        "joint_run": interval.mean(ratios.mean(axis=1)),
        **{f"joint_{name}": interval.mean(ratios[name]) for name in LASTING},
    }


def effects(tables: Tables) -> pd.DataFrame:
    """(Joint run - run with one experiment) / mean effect of the latter: seeds x lasting outcomes."""
    outcomes = tables["outcomes"]
    wide = outcomes[outcomes["stage"] == "run"].pivot_table(
        index=["outcome", "seed"], columns="condition", values="value"
    )
    found = {}
    for name in LASTING:
        own = wide.xs(name)[["base", "joint", name]].dropna()
        found[name] = (own["joint"] - own[name]) / (own[name] - own["base"]).mean()
    return pd.DataFrame(found)
