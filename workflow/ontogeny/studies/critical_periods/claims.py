"""One function for each claim: reduce each seed to one number, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
Floats = NDArray[np.float64]
DEEP = 5  # c1: depth from which late deficits are expected to leave the shares at one half


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Early against late gating of one mode, by depth; a seed is a starting point."""
    ends = tables["portrait_ends"]
    early, late = (_shares(ends, timing) for timing in ("early", "late"))
    means = [interval.mean(early[depth]) for depth in early]
    drops = [interval.paired_difference(early[a], early[b]) for a, b in pairwise(early.columns)]
    gaps = [a.low - b.high for a, b in pairwise(means)]
    deep = [interval.mean(values) for depth, values in late.items() if int(str(depth)) >= DEEP]
    return {
        "early_drop": min(drops, key=lambda found: found.low),
        "early_separation": interval.exact(min(gaps), len(early)),
        "early_deepest": means[-1],
        "early_shallowest": means[0],
        "late_deep": max(deep, key=lambda found: abs(found.value - 0.5)),
        "late_shallowest": interval.mean(late[late.columns[0]]),
        "total": interval.exact((ends["total"] - 1).abs().max(), len(early)),
    }


def _shares(ends: pd.DataFrame, timing: str) -> pd.DataFrame:
    """Share of B, seeds x depths (ascending)."""
    return ends[ends["timing"] == timing].pivot_table(index="seed", columns="depth", values="share_b")


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """The deepest aligned networks against the scalar equations."""
    errors, ends = tables["ode_errors"], tables["pathway_ends"]
    window, refined = (errors[errors["purpose"] == purpose].groupby("seed") for purpose in ("window", "refined"))
    shown = errors[(errors["purpose"] == "window") & (errors["onset"] >= 0)]
    final = ends[(ends["start"] == "aligned") & (ends["purpose"] == "window") & (ends["depth"] == shown["depth"].max())]
    late = final[final["onset"] == shown["onset"].max()]
    final = final[(final["condition"] == "gate B") & (final["duration"] == late["duration"].max())]
    early = final[final["onset"] == shown["onset"].min()]
    return {
        "median_error": interval.mean(window["error"].median()),
        "largest_error": interval.mean(window["error"].max()),
        "early_share": interval.mean(early.groupby("seed")["k_b"].max()),
        "late_share": interval.mean((late["k_b"] - 0.5).abs().groupby(late["seed"]).max()),
        "largest_error_released": interval.mean(window["error_released"].max()),
        "largest_error_half_rate": interval.mean(refined["error"].max()),
    }


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Gating of B with one mode cut out of A."""
    ends = tables["pathway_ends"]
    ends = ends[(ends["purpose"] == "lesion") & (ends["condition"] == "gate B")]
    cut, whole = (ends[ends["lesioned"] == lesioned].groupby("seed") for lesioned in (True, False))
    return {
        "lesioned_b": interval.mean(cut["k_b"].max()),
        "lesioned_a": interval.mean(cut["k_a"].max()),
        "others_b": interval.mean(whole["k_b"].max()),
        "others_a": interval.mean(whole["k_a"].min()),
    }


def _transfer(tables: Tables, kind: str, depth: int, **where: int) -> pd.DataFrame:
    """Networks of one kind of deficit and depth that match `where`."""
    table = tables["transfer"]
    table = table[(table["kind"] == kind) & (table["depth"] == depth)]
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def _effects(table: pd.DataFrame, measure: str = "delta") -> pd.DataFrame:
    """A measure by seed (rows) and length of the deficit (columns, ascending)."""
    return table.pivot_table(index="seed", columns="switch", values=measure)


def _standard_rank(tables: Tables) -> int:
    """The rank of the other matrix in the comparison of depths."""
    table = tables["transfer"]
    return int(table.loc[table["row"] == "depths", "level"].iloc[0])


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Another matrix first, by depth."""
    rank = _standard_rank(tables)
    table = {depth: _transfer(tables, "matrix", depth, level=rank) for depth in (1, 2, 3)}
    delta = {depth: _effects(table[depth]) for depth in table}
    longest = {depth: delta[depth].iloc[:, -1] for depth in table}
    ranks = pd.DataFrame(longest).rank(axis=1).to_numpy()
    last = table[3][table[3]["switch"] == table[3]["switch"].max()]
    return {
        "depth_1": interval.mean(delta[1].abs().max(axis=1)),
        "depth_2": interval.mean(longest[2]),
        "depth_3": interval.mean(longest[3]),
        "deeper": interval.paired_difference(longest[3], longest[2]),
        "median_2": interval.bootstrap(np.median, longest[2]),
        "median_3": interval.bootstrap(np.median, longest[3]),
        "length_2": interval.paired_difference(longest[2], delta[2].iloc[:, 1]),
        "length_3": interval.paired_difference(longest[3], delta[3].iloc[:, 1]),
        "depth_trend": interval.mean((ranks[:, 2] - ranks[:, 0]) / 2),  # Spearman's rho of three ranks
        "left_3": interval.mean(last.set_index("seed")["deficit_left"]),
        "train_loss": interval.exact(pd.concat(table.values())["train_loss"].max(), len(longest[3])),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Another matrix first, by its rank, at depth 3."""
    table = _transfer(tables, "matrix", 3)
    delta = pd.concat({rank: _effects(group).iloc[:, -1] for rank, group in table.groupby("level")}, axis=1).dropna()
    levels = delta.columns.to_numpy(float)
    within = [np.corrcoef(pd.Series(levels).rank(), pd.Series(row).rank())[0, 1] for row in delta.to_numpy()]

    def pooled(*samples: Floats, axis: int) -> Floats:
        """Spearman's rho over seeds x ranks; samples: one array for each rank, seeds on the last axis."""
        values = np.concatenate(samples, axis=axis)
        labels = np.repeat(np.arange(len(samples)), [sample.shape[axis] for sample in samples])
        return _correlation(labels, values)

    return {
        "correlation": interval.bootstrap(pooled, *delta.to_numpy().T, paired=True),
        "correlation_within": interval.mean(within),
        "highest_minus_lowest": interval.paired_difference(delta.iloc[:, -1], delta.iloc[:, 0]),
    }


def _correlation(labels: NDArray[np.int64], values: Floats) -> Floats:
    """Spearman's rho of `labels`, (n,), equally often each, and `values`, (..., n), along the last axis."""
    ranks = pd.DataFrame(np.atleast_2d(values)).rank(axis=1).to_numpy()
    x, y = labels - labels.mean(), ranks - ranks.mean(axis=1, keepdims=True)
    rho = (y @ x) / np.sqrt((x @ x) * (y**2).sum(axis=1))
    return rho if values.ndim > 1 else rho[0]


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Fewer entries of the same matrix first."""
    shallow = tables["transfer"][tables["transfer"]["row"] == "shallow"]
    entries = int(shallow["final_observed"].iloc[0])
    table = {depth: _transfer(tables, "subset", depth, final_observed=entries) for depth in (1, 2, 3)}
    delta = {depth: _effects(table[depth]) for depth in table}
    two, three = delta[2].iloc[:, -1], delta[3].iloc[:, -1]
    ratio = {depth: _log_ratio(_effects(table[depth], "error")) for depth in (2, 3)}
    deeper = (ratio[3] - ratio[2]).dropna()
    many = int(_transfer(tables, "subset", 3)["final_observed"].max())
    most = _effects(_transfer(tables, "subset", 3, final_observed=many)).iloc[:, -1]
    return {
        "depth_1": interval.mean(delta[1].abs().max(axis=1)),
        "depth_2_share": interval.proportion(int((two > 0).sum()), len(two)),
        "depth_3": interval.mean(three),
        "depth_2": interval.mean(two),
        "depth_3_share": interval.proportion(int((three > 0).sum()), len(three)),
        "relative_deeper": interval.bootstrap(np.median, deeper),
        "more_entries": interval.paired_difference(three, most),
    }


def _log_ratio(error: pd.DataFrame) -> pd.Series:
    """log(err(longest T) / err(0)), by seed."""
    return error.iloc[:, -1].map(np.log) - error.iloc[:, 0].map(np.log)


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Gradient descent against the exact equations, before and after the switch."""
    errors = tables["equation_errors"].set_index("seed")
    before, after = (errors[errors["phase"] == phase] for phase in (1, 2))
    return {
        "before": interval.mean(before["median_error"]),
        "after": interval.mean(after["median_error"]),
        "largest": interval.mean(errors.groupby("seed")["mass_error"].max()),
    }
