"""Figures of a user's language model: what leaks, and what dilutes it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt

from ontogeny.plots import MARKERS, panel_labels

MASKS = {"ignore": "drop the largest", "keep": "keep the largest", "random": "drop at random", "clip": "clip"}


def draw(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[plt.Figure, str]]:
    """Figures and captions by name."""
    return {
        "relation": (
            _relation(tables["learned"]),
            "Priming of every text against the probability of its keyword before learning; colours are keywords. The "
            "line marks a thousandth.",
        ),
        "dilution": (
            _dilution(tables["learned"]),
            "Median priming (a) and memorisation (b) under masks on the update, by share of its entries.",
        ),
    }


def _relation(learned: pd.DataFrame) -> plt.Figure:
    figure, ax = plt.subplots()
    alone = learned[learned["condition"] == "alone"]
    last = alone[alone["presentations"] == alone["presentations"].max()]
    for index, (keyword, own) in enumerate(last.groupby("keyword")):
        ax.plot(own["log10_start"], own["log10_priming"], MARKERS[index % len(MARKERS)], label=keyword)
    ax.axvline(-3, color="grey", linestyle=":")
    ax.axhline(0, color="grey", linewidth=0.6)
    ax.set(xlabel="log10 P(keyword) before learning", ylabel="log10 priming")
    ax.legend(ncols=2)
    return figure


def _dilution(learned: pd.DataFrame) -> plt.Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4))
    for index, (condition, label) in enumerate(MASKS.items()):
        own = learned[learned["condition"] == condition].groupby("share")[["log10_priming", "p_after"]].median()
        for ax, column in zip(axes, own.columns, strict=True):
            ax.plot(100 * own.index, own[column], marker=MARKERS[index], label=label)
    axes[0].set(xlabel="share of entries [%]", ylabel="log10 priming")
    axes[1].set(xlabel="share of entries [%]", ylabel="P(keyword) in its text")
    axes[0].legend()
    panel_labels(axes)
    return figure
