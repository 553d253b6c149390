"""Figures of a user's model: spectra of its neurons, training, pruning."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt

from ontogeny.plots import LINESTYLES, MARKERS, panel_labels

ACCURACIES = {
    "train_accuracy": "training pairs",
    "corrupted_accuracy": "corrupted pairs",
    "test_accuracy": "test pairs",
}


def draw(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[plt.Figure, str]]:
    """Figures and captions by name."""
    figures = {"neurons": (_neurons(tables["neurons"]), "Inverse participation ratio of the neurons, last checkpoint.")}
    if "pruning" in tables:
        figures["pruning"] = (
            _pruning(tables["pruning"]),
            "Accuracy after silencing neurons: lowest ratio first (a), highest first (b), in random order (c).",
        )
    if "training" in tables and len(tables["training"]) > 1:
        figures["training"] = (_training(tables["training"]), "Accuracies and mean ratio over the checkpoints.")
    return figures


def _neurons(neurons: pd.DataFrame) -> plt.Figure:
    figure, ax = plt.subplots()
    ax.hist(neurons.loc[neurons["step"] == neurons["step"].max(), "ipr"].dropna(), bins=40, range=(0, 1))
    ax.axvline(0.5, color="grey", linestyle=":", label="periodic above")
    ax.set(xlabel="inverse participation ratio", ylabel="neurons")
    ax.legend()
    return figure


def _pruning(curves: pd.DataFrame) -> plt.Figure:
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 3.2), sharey=True)
    for ax, (order, curve) in zip(axes, curves.groupby("order", sort=False), strict=True):
        for index, (column, label) in enumerate(ACCURACIES.items()):
            ax.plot(curve["pruned_percent"], curve[column], LINESTYLES[index], marker=MARKERS[index], label=label)
        ax.set(title=order, xlabel="silenced neurons [%]")
    axes[0].set(ylabel="accuracy")
    panel_labels(axes)
    axes[0].legend()
    return figure


def _training(training: pd.DataFrame) -> plt.Figure:
    figure, ax = plt.subplots()
    for index, (column, label) in enumerate(ACCURACIES.items()):
        ax.plot(training["step"], training[column], LINESTYLES[index], marker=MARKERS[index], label=label)
    ax.set(xlabel="step", ylabel="accuracy")
    ax.legend()
    return figure
