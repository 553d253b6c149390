"""Figures of a user's network: growth of its modes against the theory, and isometry of its layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from ontogeny.plots import panel_labels

SHOWN = 8  # strongest modes that are drawn


def draw(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[plt.Figure, str]]:
    """Figures and captions by name."""
    return {
        "modes": (
            _modes(tables["curves"], tables["modes"]),
            "Strength of each mode over its correlation s (a; vertical lines: predicted half times, horizontal: one "
            "half), and measured against predicted half times (b).",
        ),
        "isometry": (
            _isometry(tables["isometry"]),
            "10 %, 50 % and 90 % quantiles of the singular values of the product of the first layers, over their root "
            "mean square, last checkpoint.",
        ),
    }


def _modes(curves: pd.DataFrame, modes: pd.DataFrame) -> plt.Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, min(SHOWN, len(modes))))
    for colour, (_, mode) in zip(colours, modes.iterrows(), strict=False):
        curve = curves[curves["mode"] == mode["mode"]]
        left.plot(curve["step"], curve["strength"] / mode["s"], color=colour, label=f"mode {int(mode['mode'])}")
        if np.isfinite(mode["predicted_half_time"]):
            left.axvline(mode["predicted_half_time"], color=colour, linestyle=":", linewidth=0.8)
    left.axhline(0.5, color="grey", linewidth=0.8)
    left.set(xlabel="step", ylabel="strength / s", xlim=(0, curves["step"].max()))
    left.legend(ncols=2)
    timed = modes[np.isfinite(modes["half_time"]) & np.isfinite(modes["predicted_half_time"])]
    right.plot(timed["predicted_half_time"], timed["half_time"], "o")
    longest = max(timed[["predicted_half_time", "half_time"]].max(), default=1.0)
    right.plot([0, longest], [0, longest], color="grey", linestyle="--", label="equal")
    right.set(xlabel="predicted half time [steps]", ylabel="measured half time [steps]")
    right.legend()
    panel_labels((left, right))
    return figure


def _isometry(table: pd.DataFrame) -> plt.Figure:
    figure, ax = plt.subplots()
    ax.fill_between(table["layers"], table["q10"], table["q90"], alpha=0.2, linewidth=0)
    ax.plot(table["layers"], table["q50"], "o-")
    ax.set(xlabel="layers", ylabel="singular value / root mean square", xticks=table["layers"])
    return figure
