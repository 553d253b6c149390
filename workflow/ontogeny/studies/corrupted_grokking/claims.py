"""One function for each claim: reduce each seed to one number first, then ask for an interval over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
STRONG = 10  # weight decay from which the inversion regime is claimed
LOW, HIGH = 0.2, 0.5  # IPR below which a neuron counts as memorising, and above which as periodic
MOSTLY, SOME = 60, 35  # percent of neurons silenced: lowest IPR first, highest IPR first
GENERALISING = ("coexistence", "partial inversion", "full inversion")
NEVER = 2.0  # stands for a training share above 1: no share sufficed


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Coexistence without regularisation."""
    final = _rows(tables["outcomes"], "coexistence").set_index("seed")
    train, corrupted, test = (final[name] for name in ("train_accuracy", "corrupted_accuracy", "test_accuracy"))
    reached = (train >= 0.95) & (corrupted >= 0.75) & (test >= 0.95)
    return {
        "train": interval.mean(train),
        "corrupted": interval.mean(corrupted),
        "test": interval.mean(test),
        "share_of_seeds": interval.proportion(int(reached.sum()), len(reached), method="wilson"),
    }


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Weight decay leads to inversion."""
    final = _sweep(tables["outcomes"])
    strong = final[final["weight_decay"] >= STRONG]
    modulus = _modulus(tables)
    ceiling = 1 - strong["corruption"] * (1 - 1 / modulus)
    inverted = strong["phase"] == "full inversion"
    return {
        "rank_correlation": interval.mean(_by_seed(final, _trend)),
        "distance_to_ceiling": interval.mean(_seed_mean(strong, (strong["train_accuracy"] - ceiling).abs())),
        "inversion": interval.mean(_seed_mean(strong, strong["inversion_accuracy"])),
        "test": interval.mean(_seed_mean(strong, strong["test_accuracy"])),
        "share_of_seeds": interval.proportion(*_all_of_seed(strong, inverted), method="wilson"),
    }


def _trend(seed: pd.DataFrame) -> float:
    return _spearman(seed["weight_decay"], seed["train_accuracy"])


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """First the network generalises, later it forgets the corrupted labels."""
    curves = _rows(tables["training"], "two_stage")
    keys = ["seed", "weight_decay"]
    members = curves.groupby(keys)
    times = pd.DataFrame([{**dict(zip(keys, key, strict=True)), **_stages(member)} for key, member in members])
    ordered = (times["grokking_after_peak"] > 0) & (times["drop_after_grokking"] >= 0)
    means = {name: interval.mean(_seed_mean(times, times[name])) for name in times.columns.difference(keys)}
    return {**means, "share_of_seeds": interval.proportion(*_all_of_seed(times, ordered), method="wilson")}


def _stages(member: pd.DataFrame) -> dict[str, float]:
    """Times [steps] of one network: peak of the corrupted accuracy, grokking t1, and the drop of the memorised t2.

    A network that never groks gets the last step as t1, which speaks against the claimed order.
    """
    member = member.sort_values("step")
    step, corrupted, test = (member[name].to_numpy() for name in ("step", "corrupted_accuracy", "test_accuracy"))
    grokked = np.flatnonzero(test >= 0.9)
    first = grokked[0] if len(grokked) else len(step) - 1
    last_high = step[corrupted > corrupted.max() / 2].max(initial=0)
    return {
        "peak": float(corrupted[: first + 1].max()),
        "final": float(corrupted[-1]),
        "grokking_after_peak": float(step[first] - step[corrupted.argmax()]),
        "drop_after_grokking": float(last_high + step[1] - step[0] - step[first]),
        "test": float(test[-1]),
    }


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Two kinds of neurons, and what moves neurons from one to the other."""
    final, neurons = _sweep(tables["outcomes"]), tables["neurons"].dropna(subset=["ipr"])
    plain = _rows(neurons, "coexistence")
    strong = final[final["weight_decay"] >= STRONG]
    shares = _wide(final[final["weight_decay"] <= STRONG], "weight_decay", "periodic_share")
    dropout = _wide(_rows(tables["outcomes"], "dropout"), "dropout", "periodic_share")
    between = plain["ipr"].between(LOW, HIGH, inclusive="neither")
    strongest = neurons[(neurons["row"] == "decay") & (neurons["weight_decay"] == neurons["weight_decay"].max())]
    return {
        "periodic_without": interval.mean(_seed_mean(plain, plain["ipr"] > HIGH)),
        "between_without": interval.mean(_seed_mean(plain, between)),
        "periodic_strong": interval.mean(_seed_mean(strong, strong["periodic_share"])),
        "smallest_rise": interval.mean(shares.dropna().diff(axis=1).iloc[:, 1:].min(axis=1)),
        "dropout_rise": interval.paired_difference(dropout.iloc[:, -1], dropout.iloc[:, 0]),
        "low_mode_strongest": interval.mean(_seed_mean(strongest, strongest["ipr"] < LOW)),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Pruning by IPR takes away one function and leaves the other."""
    curves = _rows(tables["pruning"], "coexistence")
    low, high = (curves[curves["order"] == f"{end} IPR first"] for end in ("lowest", "highest"))
    low, high = low[low["pruned_percent"] == MOSTLY], high[high["pruned_percent"] == SOME]
    areas = curves.groupby(["seed", "order"])[["pruned_percent", "test_accuracy"]].apply(_area)
    area = _wide(areas.rename("area").reset_index(), "order", "area")
    return {
        "low_first_corrupted": interval.mean(low["corrupted_accuracy"]),
        "low_first_test": interval.mean(low["test_accuracy"]),
        "high_first_test": interval.mean(high["test_accuracy"]),
        "high_first_corrupted": interval.mean(high["corrupted_accuracy"]),
        "area": interval.paired_difference(area["lowest IPR first"], area["highest IPR first"]),
        "low_above_random": interval.paired_difference(area["lowest IPR first"], area["random"]),
        "random_above_high": interval.paired_difference(area["random"], area["highest IPR first"]),
        "norm_above_random": interval.paired_difference(area["smallest norm first"], area["random"]),
    }


def _area(curve: pd.DataFrame) -> float:
    """Area under the test accuracy over the pruned share, 0 to 1."""
    return float(np.trapezoid(curve["test_accuracy"], curve["pruned_percent"] / 100))


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """BatchNorm keeps the memorising neurons and scales them down."""
    neurons = _rows(tables["neurons"].dropna(subset=["ipr"]), "batchnorm")
    final = _rows(tables["outcomes"], "batchnorm")
    normed, plain = neurons[neurons["batch_norm"]], neurons[~neurons["batch_norm"]]
    scale = normed.assign(size=normed["batch_norm_scale"].abs())
    low_share = [_seed_mean(group, group["ipr"] < LOW) for group in (normed, plain)]
    train, test = (_wide(final, "batch_norm", name) for name in ("train_accuracy", "test_accuracy"))
    return {
        "correlation": interval.mean(_by_seed(scale, lambda seed: _spearman(seed["ipr"], seed["size"]))),
        "scale_ratio": interval.mean(_by_seed(scale, _scale_ratio)),
        "low_share_ratio": interval.mean(_ratio(low_share[0], low_share[1])),
        "test": interval.mean(test[True]),
        "train_with": interval.mean(train[True]),
        "train_without": interval.mean(train[False]),
        "train_difference": interval.paired_difference(train[True], train[False]),
    }


def _scale_ratio(seed: pd.DataFrame) -> float:
    """Median size of the BatchNorm scale of periodic neurons over that of memorising ones; 0 if either are missing."""
    high, low = seed.loc[seed["ipr"] > HIGH, "size"], seed.loc[seed["ipr"] < LOW, "size"]
    return float(high.median() / low.median()) if len(high) and len(low) else 0.0


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Phases over (alpha, xi, weight decay)."""
    grid = _rows(tables["outcomes"], "grid")
    grid = grid.assign(
        generalises=grid["phase"].isin(GENERALISING), inverted=(grid["phase"] == "full inversion").astype(float)
    )
    area = _wide(grid, "weight_decay", "inverted")
    area_of = [area[decay] for decay in area.columns]
    return {
        "first_rise": interval.paired_difference(area_of[1], area_of[0]),
        "last_rise": interval.paired_difference(area_of[-1], area_of[1]),
        "violations": interval.mean(_by_seed(grid, _violations)),
        "boundary": interval.mean(_by_seed(grid, _boundary_slope)),
    }


def _violations(grid: pd.DataFrame) -> float:
    """Share of cells that generalise although a cell with fewer corrupted labels, all else equal, does not."""
    lines = grid.sort_values("corruption").groupby(["weight_decay", "train_fraction"])["generalises"]
    return float((grid["generalises"] & ~lines.cummin().astype(bool).reindex(grid.index)).mean())


def _boundary_slope(grid: pd.DataFrame) -> float:
    """Rank correlation of xi and the smallest alpha that generalises, mean over weight decays."""
    alpha = grid.assign(smallest=grid["train_fraction"].where(grid["generalises"], NEVER))
    boundary = alpha.groupby(["weight_decay", "corruption"], as_index=False)["smallest"].min()
    lines = boundary.groupby("weight_decay")
    return float(np.mean([_spearman(line["corruption"], line["smallest"]) for _, line in lines]))


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Other architectures; the mean over those that the scale trains."""
    final = tables["outcomes"][tables["outcomes"]["row"].isin(["relu_mlp", "transformer"])]
    decay = final.groupby("row")["weight_decay"]
    columns = ["mean_ipr", "inversion_accuracy", "corrupted_accuracy", "test_accuracy"]
    strong = final[final["weight_decay"] == decay.transform("max")].groupby("seed")[columns].mean()
    weak = final[final["weight_decay"] == decay.transform("min")].groupby("seed")[columns].mean()
    return {
        "ipr_shift": interval.paired_difference(strong["mean_ipr"], weak["mean_ipr"]),
        "inversion_gain": interval.paired_difference(strong["inversion_accuracy"], weak["inversion_accuracy"]),
        "inversion_strong": interval.mean(strong["inversion_accuracy"]),
        "test_strong": interval.mean(strong["test_accuracy"]),
        "corrupted_weak": interval.mean(weak["corrupted_accuracy"]),
        "test_weak": interval.mean(weak["test_accuracy"]),
    }


def _rows(table: pd.DataFrame, row: str) -> pd.DataFrame:
    return table[table["row"] == row]


def _wide(table: pd.DataFrame, columns: str, value: str) -> pd.DataFrame:
    """Mean of `value` with one row a seed and one column for each level of `columns`, ascending."""
    return table.pivot_table(index="seed", columns=columns, values=value)


def _sweep(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The weight-decay sweep: the rows `coexistence` (no decay) and `decay`, seeds that both have."""
    plain, decayed = _rows(outcomes, "coexistence"), _rows(outcomes, "decay")
    both = pd.concat([plain, decayed])
    return both[both["seed"].isin(plain["seed"]) & both["seed"].isin(decayed["seed"])]


def _modulus(tables: Tables) -> int:
    """p, read off the weights of the example neurons."""
    return int(tables["examples"]["residue"].max()) + 1


def _by_seed(table: pd.DataFrame, reduce: Callable[[pd.DataFrame], float]) -> list[float]:
    return [float(reduce(group)) for _, group in table.groupby("seed")]


def _seed_mean(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Mean of `values` within each seed; 0 where a seed has none."""
    return values.astype(float).groupby(table["seed"]).mean().fillna(0.0)


def _all_of_seed(table: pd.DataFrame, holds: pd.Series) -> tuple[int, int]:
    """In how many seeds `holds` is true throughout, and the number of seeds."""
    seeds = holds.groupby(table["seed"]).all()
    return int(seeds.sum()), len(seeds)


def _ratio(first: pd.Series, second: pd.Series) -> pd.Series:
    """first / second, 0 where the second is 0."""
    return first / second.where(second > 0, np.inf)


def _spearman(x: object, y: object) -> float:
    """Rank correlation; 0 if one side does not vary."""
    if len(set(np.asarray(x))) < 2 or len(set(np.asarray(y))) < 2:
        return 0.0
    return float(stats.spearmanr(x, y).statistic)
