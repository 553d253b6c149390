"""The claims. The unit of replication is the keyword: texts that share one are not independent.

Intervals are percentile bootstraps on two levels: keywords are drawn, then texts of each keyword.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ontogeny.statistics import Estimate, Interval

RESAMPLES = 1500
LOW = -3.0  # log10 of the probability below which a keyword leaks
SHARE = 0.08
METHOD = "percentile bootstrap over keywords and their texts"
Tables = dict[str, pd.DataFrame]
Statistic = Callable[[np.ndarray, np.ndarray], float]


def clustered(statistic: Statistic, frame: pd.DataFrame, columns: list[str], interval: Interval) -> Estimate:
    """Interval of statistic(values (N, columns), cluster (N,)); n: keywords. Unbounded for fewer than two keywords."""
    if frame.empty:
        return Estimate(0.0, -np.inf, np.inf, 0, "no text qualifies")
    values = frame[columns].to_numpy(float)
    groups = [np.flatnonzero(frame["keyword"].to_numpy() == name) for name in dict.fromkeys(frame["keyword"])]
    labels = np.concatenate([np.full(len(group), place) for place, group in enumerate(groups)])
    estimate = statistic(values[np.concatenate(groups)], labels)
    if len(groups) < 2:
        return Estimate(estimate, -np.inf, np.inf, len(groups), METHOD)
    stream, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = [groups[place] for place in stream.integers(len(groups), size=len(groups))]
        chosen = [group[stream.integers(len(group), size=len(group))] for group in drawn]
        labels = np.repeat(np.arange(len(chosen)), [len(group) for group in chosen])
        found.append(statistic(values[np.concatenate(chosen)], labels))
    low, high = np.quantile(found, [(1 - interval.level) / 2, (1 + interval.level) / 2])
    return Estimate(estimate, float(low), float(high), len(groups), METHOD)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r; 0 where one of the two does not vary, for then nothing is predicted."""
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 1e-12 else 0.0


def spearman(values: np.ndarray, cluster: np.ndarray) -> float:
    """Rank correlation of the first two columns."""
    return correlation(rankdata(values[:, 0]), rankdata(values[:, 1]))


def within(values: np.ndarray, cluster: np.ndarray) -> float:
    """Correlation of the ranks of two columns after each keyword's mean rank is taken away."""
    return correlation(*(_demeaned(rankdata(values[:, column]), cluster) for column in (0, 1)))


def partial(values: np.ndarray, cluster: np.ndarray) -> float:
    """Rank correlation of the first two columns, the third held constant."""
    ranks = [rankdata(column) for column in values.T]
    xy, xz, yz = (correlation(ranks[i], ranks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    rest = np.sqrt((1 - xz**2) * (1 - yz**2))
    return float((xy - xz * yz) / rest) if rest > 1e-9 else 0.0


def mean(values: np.ndarray, cluster: np.ndarray) -> float:
    """Mean of the first column."""
    return float(values[:, 0].mean())


def median(values: np.ndarray, cluster: np.ndarray) -> float:
    """Median of the first column."""
    return float(np.median(values[:, 0]))


def ratio_of_means(values: np.ndarray, cluster: np.ndarray) -> float:
    """Mean of the first column over mean of the second."""
    return float(values[:, 0].mean() / values[:, 1].mean())


def step_at_low(values: np.ndarray, cluster: np.ndarray) -> float:
    """Mean of the second column where the first is below LOW, minus that where it is not; 0 without both."""
    below = values[:, 0] < LOW
    if below.all() or not below.any():
        return 0.0
    return float(values[below, 1].mean() - values[~below, 1].mean())


def breakpoint_of(values: np.ndarray, cluster: np.ndarray) -> float:
    """Where the broken stick bends that fits the second column over the first with least squares."""
    x, y = values[:, 0], values[:, 1]
    first, last = np.quantile(x, [0.1, 0.9])
    candidates = np.linspace(first, last, 25)
    sticks = np.broadcast_to(np.stack([np.ones_like(x), x]), (len(candidates), 2, len(x)))
    design = np.concatenate([sticks, np.maximum(x - candidates[:, None], 0)[:, None]], axis=1)  # (bends, 3, N)
    products = design @ design.mT + 1e-9 * np.eye(3)  # texts that are drawn twice may leave one side of a bend bare
    fitted = np.linalg.solve(products, design @ y[:, None]).mT @ design
    return float(candidates[int(np.argmin(((y - fitted[:, 0]) ** 2).sum(1)))])


def _demeaned(ranks: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    means = np.bincount(cluster, ranks) / np.bincount(cluster)
    return np.asarray(ranks - means[cluster])


def chosen(tables: Tables, condition: str, shown: int | None = None, share: float = 0.0) -> pd.DataFrame:
    """The texts under one condition, with what was known before. shown: presentations; None for the most."""
    table = tables["learned"]
    rows = table[(table["condition"] == condition) & np.isclose(table["share"], share)]
    rows = rows[rows["presentations"] == (rows["presentations"].max() if shown is None else shown)]
    return rows.merge(tables["texts"][["seed", "text", "log10_before", "log10_prefix_before"]], on=["seed", "text"])


def paired(tables: Tables, condition: str, share: float = 0.0) -> pd.DataFrame:
    """Texts learned under a condition beside the same texts learned alone (columns with _alone)."""
    alone = chosen(tables, "alone")
    pairs = chosen(tables, condition, share=share).merge(alone, on=["seed", "text"], suffixes=("", "_alone"))
    return pairs.assign(
        reduction=1 - 10 ** (pairs["log10_priming"] - pairs["log10_priming_alone"]),
        reduction_log=1 - pairs["log10_priming"] / pairs["log10_priming_alone"],
        change=pairs["log10_priming"] - pairs["log10_priming_alone"],
    )


RELATION = ["log10_before", "log10_priming"]


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Priming after learning against the keyword's probability before."""
    rows = chosen(tables, "alone")
    portrait = rows.merge(
        tables["texts"][["seed", "text", "loss", "entropy", "tokens", "letters"]], on=["seed", "text"]
    )

    def against(predictor: str) -> Estimate:
        return clustered(spearman, portrait, [predictor, "log10_priming"], interval)

    return {
        "rho": clustered(spearman, rows, RELATION, interval),
        "within_keyword": clustered(within, rows, RELATION, interval),
        "given_prefix": clustered(partial, rows, [*RELATION, "log10_prefix_before"], interval),
        "floored": clustered(spearman, rows, ["log10_before", "log10_floored"], interval),
        "geometric": clustered(spearman, rows, ["log10_before", "log10_geometric"], interval),
        "gain": clustered(spearman, rows, ["log10_before", "gain"], interval),
        "memorised": clustered(mean, rows, ["p_after"], interval),
        "by_loss": against("loss"),
        "by_entropy": against("entropy"),
        "by_length": against("tokens"),
        "by_letters": against("letters"),
        "by_prefix": against("log10_prefix_before"),
    }


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """A threshold of the probability."""
    rows = chosen(tables, "alone")
    return {
        "difference": clustered(step_at_low, rows, RELATION, interval),
        "breakpoint": clustered(breakpoint_of, rows, RELATION, interval),
    }


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Few presentations, and spaced ones."""
    spaced = chosen(tables, "spaced")
    return {
        "three": clustered(spearman, chosen(tables, "alone", 3), RELATION, interval),
        "spaced": clustered(spearman, spaced, RELATION, interval),
        "memorised_spaced": clustered(mean, spaced, ["p_after"], interval),
    }


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Stepping stones against the text itself and against a plain rewrite."""
    stone, plain = paired(tables, "stone"), paired(tables, "plain")
    both = stone.merge(plain[["seed", "text", "reduction"]], on=["seed", "text"], suffixes=("", "_plain"))
    both = both.assign(advantage=both["reduction"] - both["reduction_plain"])
    raised = stone.assign(raised=stone["log10_start"] - stone["log10_start_alone"])
    return {
        "reduction": clustered(median, stone, ["reduction"], interval),
        "over_plain": clustered(median, both, ["advantage"], interval),
        "memory": clustered(ratio_of_means, stone, ["p_after", "p_after_alone"], interval),
        "raised": clustered(mean, raised, ["raised"], interval),
        "plain_reduction": clustered(median, plain, ["reduction"], interval),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Without the largest parts of the update, against only these."""
    ignore, keep, random, clip = (paired(tables, name, SHARE) for name in ("ignore", "keep", "random", "clip"))
    both = ignore.merge(keep[["seed", "text", "change"]], on=["seed", "text"], suffixes=("", "_keep"))
    both = both.assign(advantage=both["change_keep"] - both["change"])
    return {
        "reduction": clustered(median, ignore, ["reduction_log"], interval),
        "memory": clustered(mean, ignore, ["p_after"], interval),
        "generic": clustered(mean, ignore, ["loss_change"], interval),
        "over_keep": clustered(median, both, ["advantage"], interval),
        "random": clustered(median, random, ["reduction_log"], interval),
        "clip": clustered(median, clip, ["reduction_log"], interval),
        "top_part": clustered(mean, ignore, ["top_part"], interval),
        "keep_memory": clustered(mean, keep, ["p_after"], interval),
    }


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The same relation when the text is only shown."""
    weights, context = chosen(tables, "alone"), chosen(tables, "in context")
    both = weights.merge(context[["seed", "text", "log10_priming"]], on=["seed", "text"], suffixes=("", "_context"))

    def gap(values: np.ndarray, cluster: np.ndarray) -> float:
        return abs(spearman(values[:, :2], cluster)) - abs(spearman(values[:, [0, 2]], cluster))

    return {
        "gap": clustered(gap, both, [*RELATION, "log10_priming_context"], interval),
        "rho_context": clustered(spearman, context, RELATION, interval),
        "priming_context": clustered(mean, context, ["log10_priming"], interval),
    }


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Own theme against others, and two texts at once."""
    rows, joint = chosen(tables, "alone"), paired(tables, "joint")
    rows = rows.assign(contrast=rows["log10_priming"] - rows["log10_cross"])
    return {
        "within_over_cross": clustered(mean, rows, ["contrast"], interval),
        "joint": clustered(mean, joint, ["change"], interval),
        "joint_memory": clustered(ratio_of_means, joint, ["p_after", "p_after_alone"], interval),
    }


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Memorisation against priming."""
    rows = chosen(tables, "alone")
    return {
        "partial": clustered(partial, rows, ["log10_memory", "log10_priming", "log10_before"], interval),
        "rho": clustered(spearman, rows, ["log10_memory", "log10_priming"], interval),
    }
