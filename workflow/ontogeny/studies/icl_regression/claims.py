"""Estimates for the claims. A network's measures are one number per seed and number of heads; intervals are over seeds.

Claims about networks with two heads or more are judged on split runs (both signs of mu active); the share of runs that
split is reported beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ontogeny.statistics import Estimate, Interval

Tables = Mapping[str, pd.DataFrame]
UNKNOWN = Estimate(0.0, -np.inf, np.inf, 0, "no run qualifies")
SEVERAL = (2, 3, 4)  # numbers of heads with which a network can take a difference of two smoothers
READS = 0.5  # a network reads labels if at least this share of the energy of its OV circuits is on the label entry
SUPERPOSED = 0.25  # a head serves two tasks if both |mu| are at least this share of the larger, with opposite signs
GOOD = 0.03  # a three-head network has learned both tasks if its risk is within 3% of that of its seed's four heads


def split_networks(tables: Tables, heads: Sequence[int] = SEVERAL) -> pd.DataFrame:
    """Rows of the table networks that are split, with these numbers of heads."""
    found = tables["networks"]
    return found[(found["kind"] == "split") & found["heads"].isin(heads)]


def by_seed(found: pd.DataFrame, measure: str) -> pd.Series:
    """One number per seed: the mean of a measure over the networks of the seed."""
    return found.groupby("seed")[measure].mean().sort_index()


def risks(tables: Tables, length: int, row: str = "isotropic", predictor: str = "trained") -> pd.DataFrame:
    """Rows of the table risk at a prompt length for the networks of a row, same-sign ones left out."""
    found = tables["risk"]
    chosen = (found["row"] == row) & (found["predictor"] == predictor) & (found["length"] == length)
    return found[chosen & (found["kind"] != "same-sign")]


def training_length(tables: Tables) -> int:
    """L of the prompts that the isotropic networks were trained on."""
    return int(tables["networks"]["length"].iloc[0])


def mean(interval: Interval, values: pd.Series) -> Estimate:
    """Mean over seeds; says nothing if no run qualifies."""
    return interval.mean(values) if len(values) else UNKNOWN


def bootstrap_mean(interval: Interval, values: pd.Series) -> Estimate:
    """Mean over seeds of a skewed measure; says nothing if no run qualifies."""
    return interval.bootstrap(np.mean, values) if len(values) else UNKNOWN


def smallest(interval: Interval, values: pd.Series) -> Estimate:
    """The smallest of one value a run; says nothing if no run qualifies."""
    return interval.exact(float(values.min()), len(values)) if len(values) else UNKNOWN


def share(interval: Interval, hits: pd.Series, method: str = "exact") -> Estimate:
    """Share of runs for which `hits` is true; says nothing if there are none."""
    return interval.proportion(int(hits.sum()), len(hits), method) if len(hits) else UNKNOWN


def paired(interval: Interval, a: pd.Series, b: pd.Series) -> Estimate:
    """Mean difference a - b over the seeds that both have; says nothing if there are none."""
    return mean(interval, (a - b).dropna())


def c1(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Medians over all runs of the shares of energy on the diagonal of KQ and on the label entry of OV."""
    tests = {}
    for heads in (1, *SEVERAL):
        found = tables["networks"].query("heads == @heads")
        tests[f"diagonal_{heads}"] = interval.bootstrap(np.median, found["diagonal_share"])
        tests[f"label_{heads}"] = interval.bootstrap(np.median, found["label_share"])
    return tests


def c2(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Signs, equal sizes and zero sum of the heads of split runs."""
    tests = {}
    for heads in SEVERAL:
        found = split_networks(tables, [heads])
        everyone = tables["networks"].query("heads == @heads")
        tests[f"signs_{heads}"] = mean(interval, found["sign_agreement"])
        tests[f"variation_{heads}"] = bootstrap_mean(interval, found["omega_variation"])
        tests[f"unweighted_{heads}"] = bootstrap_mean(interval, found["omega_variation_unweighted"])
        tests[f"zero_sum_{heads}"] = bootstrap_mean(interval, found["zero_sum"])
        tests[f"split_{heads}"] = share(interval, everyone["kind"] == "split", "wilson")
    return tests


def c3(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Risk by number of heads, on the same prompts and paired by seed."""
    length = training_length(tables)
    risk = {heads: by_seed(risks(tables, length).query("heads == @heads"), "risk") for heads in (1, *SEVERAL)}
    everyone = tables["risk"].query(
        "row == 'isotropic' and predictor == 'trained' and length == @length and heads == 4"
    )
    return {
        "one_minus_four": paired(interval, risk[1], risk[4]),
        "three_minus_four": paired(interval, risk[3], risk[4]),
        "two_minus_four": paired(interval, risk[2], risk[4]),
        "one_minus_four_all": paired(interval, risk[1], by_seed(everyone, "risk")),
        **{f"risk_{heads}": mean(interval, values) for heads, values in risk.items()},
    }


def c4(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Distance of split networks to debiased and to plain gradient descent, on the same prompts."""
    shortest = int(tables["risk"]["length"].min())
    long, short = (risks(tables, length).query("heads > 1") for length in (training_length(tables), shortest))
    margin = by_seed(short, "to_gd") - by_seed(short, "to_debiased_gd")
    return {
        "distance": mean(interval, by_seed(long, "to_debiased_gd")),
        "every_run": smallest(interval, short["to_gd"] - short["to_debiased_gd"]),
        "sign_test": share(interval, margin > 0),
        "short_debiased": mean(interval, by_seed(short, "to_debiased_gd")),
        "short_plain": mean(interval, by_seed(short, "to_gd")),
    }


def c5(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Risk at the greatest length over risk at the training length, seed by seed."""
    longest = int(tables["risk"]["length"].max())

    def ratio(which: str, row: str = "isotropic", predictor: str = "trained") -> Estimate:
        long, trained = (
            by_seed(risks(tables, length, row, predictor).query(which), "risk")
            for length in (longest, training_length(tables))
        )
        return mean(interval, long / trained)

    return {
        "softmax": ratio("heads > 1"),
        "linear": ratio("heads == 1", "linear"),
        "linear_adaptive": ratio("heads == 1", "linear", "adapted"),
        "one_head": ratio("heads == 1"),
    }


def c6(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Overshoot of |omega|, growth of the positive mu, and the relation between the two at the end."""
    found = split_networks(tables)
    found = found.assign(residual=(found["mu_plateau"] / found["mu_ideal"] - 1).abs())
    overshoot = by_seed(found, "overshoot")
    tests = {
        "overshoot": mean(interval, overshoot),
        "overshoot_share": share(interval, overshoot >= 1.3),
        "residual": mean(interval, by_seed(found, "residual")),
        "growth": mean(interval, by_seed(found, "mu_growth")),
        "flow_shrinks": flow_shrinkage(tables, interval),
    }
    for heads in SEVERAL:
        tests[f"omega_{heads}"] = mean(interval, found.query("heads == @heads")["omega_plateau"])
        tests[f"mu_{heads}"] = mean(interval, found.query("heads == @heads")["mu_plateau"])
    return tests


def flow_shrinkage(tables: Tables, interval: Interval) -> Estimate:
    """Largest |omega| on a split flow of the reduced loss over the one at its end; mean over starts."""
    found = tables["flow"].query("kind == 'split'").sort_values(["heads", "seed", "time"])
    paths = found.groupby(["heads", "seed"])["omega"]
    return mean(interval, (paths.max() / paths.last()).groupby("seed").mean())


def c7(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Cosine of the key-query block with the inverse covariance and with the identity, in split runs."""
    found = tables["anisotropic"]
    main = found[found["row"] == "anisotropic"]
    split, short, long = (
        found[(found["row"] == row) & (found["kind"] == "split")]
        for row in ("anisotropic", "anisotropic_short", "anisotropic_long")
    )
    return {
        "cos_inverse": mean(interval, split["cos_inverse"]),
        "every_run": smallest(interval, split["cos_inverse"] - split["cos_identity"]),
        "cos_identity": mean(interval, split["cos_identity"]),
        "label_share": mean(interval, split["label_share"]),
        "cos_inverse_readers": mean(interval, main[main["label_share"] >= READS]["cos_inverse"]),
        "readers": share(interval, main["label_share"] >= READS, "wilson"),
        "cos_inverse_all": mean(interval, main["cos_inverse"]),
        "split": share(interval, main["kind"] == "split", "wilson"),
        "cos_short": mean(interval, short["cos_inverse"]),
        "cos_long": mean(interval, long["cos_inverse"]),
    }


def c8(tables: Tables, interval: Interval) -> dict[str, Estimate]:
    """Order of the risks with two tasks, and heads of three-head networks that serve both tasks with opposite signs."""
    risk = tables["tasks_risk"].pivot_table(index="seed", columns="heads", values="risk")
    good = risk[3] <= (1 + GOOD) * risk[4]
    superposed = superposing(tables["tasks_heads"]).loc[3][good]
    return {
        "one_minus_two": paired(interval, risk[1], risk[2]),
        "two_minus_three": paired(interval, risk[2], risk[3]),
        "three_over_four": mean(interval, risk[3] / risk[4] - 1),
        "superposed": share(interval, superposed),
        "good": share(interval, good),
        "pairs": share(interval, paired_tasks(tables["tasks_heads"])),
    }


def superposing(heads: pd.DataFrame) -> pd.Series:
    """Whether a network has a head that serves both tasks with opposite signs; by (heads, seed)."""
    sizes = heads[["mu_1", "mu_2"]].abs()
    both = (sizes.min(axis=1) >= SUPERPOSED * sizes.max(axis=1)) & (heads["mu_1"] * heads["mu_2"] < 0)
    return both.groupby([heads["heads"], heads["seed"]]).any()


def paired_tasks(heads: pd.DataFrame) -> pd.Series:
    """Whether each task has a positive and a negative head that put 80% of their OV energy on it; H = 4, by seed."""
    four = heads[heads["heads"] == 4]
    energy = four[["mu_1", "mu_2"]] ** 2
    good = pd.Series(True, index=sorted(four["seed"].unique()))
    for task in ("mu_1", "mu_2"):
        dedicated = energy[task] >= 0.8 * energy.sum(axis=1)
        strong = four[task].abs() >= SUPERPOSED * four.groupby("seed")[task].transform(lambda mu: mu.abs().max())
        for sign in (1, -1):
            has = (dedicated & strong & (np.sign(four[task]) == sign)).groupby(four["seed"]).any()
            good &= has
    return good
