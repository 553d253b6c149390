"""Figures of a user's attention layer: its heads, and which algorithm it resembles."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt

from ontogeny.plots import LINESTYLES, MARKERS, panel_labels

KNOWN = {
    "debiased_gd": "debiased gradient descent",
    "gd": "gradient descent",
    "kernel": "kernel smoother",
    "ridge": "ridge regression",
}


def draw(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[plt.Figure, str]]:
    """Figures and captions by name."""
    return {
        "heads": (_heads(tables["heads"]), "omega and mu of every head over the checkpoints; the last one marked."),
        "algorithms": (
            _algorithms(tables["distances"]),
            "Distance of the layer's predictions to those of known algorithms, as a share of their energy (a), and "
            "risks (b), by prompt length.",
        ),
    }


def _heads(heads: pd.DataFrame) -> plt.Figure:
    figure, ax = plt.subplots()
    for index, (head, path) in enumerate(heads.groupby("head")):
        ax.plot(path["omega"], path["mu"], LINESTYLES[index % len(LINESTYLES)], color=f"C{index}", label=f"head {head}")
        ax.plot(path["omega"].iloc[-1:], path["mu"].iloc[-1:], MARKERS[index % len(MARKERS)], color=f"C{index}")
    ax.axhline(0, color="grey", linewidth=0.6)
    ax.axvline(0, color="grey", linewidth=0.6)
    ax.set(xlabel=r"$\omega$, mean diagonal of KQ", ylabel=r"$\mu$, label entry of OV")
    ax.legend()
    return figure


def _algorithms(distances: pd.DataFrame) -> plt.Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6))
    for index, (name, label) in enumerate(KNOWN.items()):
        style = {"linestyle": LINESTYLES[index], "marker": MARKERS[index], "color": f"C{index}"}
        left.plot(distances["length"], distances[f"to_{name}"], label=label, **style)
        right.plot(distances["length"], distances[f"risk_{name}"], label=label, **style)
    right.plot(distances["length"], distances["risk"], color="black", marker="o", label="this layer")
    left.set(xscale="log", yscale="log", xlabel="examples in the prompt", ylabel="distance")
    right.set(xscale="log", yscale="log", xlabel="examples in the prompt", ylabel="mean squared error")
    right.legend()
    panel_labels((left, right))
    return figure
