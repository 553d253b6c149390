"""Decay rates from the histories."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """The table `rates`: measured against predicted decay per step, one row per learning rate and seed."""
    curvature = float(data.arrays("loss.npz")["curvature"])
    history = pd.concat([run.history for run in runs])
    wide = history.pivot_table(index=["seed", "learning_rate"], columns="step", values="weight")
    last = wide.columns.max()
    measured = -np.log((wide[last] / wide[0]).abs() + 1e-38) / last
    rates = wide.index.get_level_values("learning_rate")
    predicted = -np.log1p(-rates * curvature)
    error = np.where(predicted > 0, measured / np.where(predicted > 0, predicted, 1) - 1, -1.0)
    table = wide.index.to_frame(index=False).assign(relative_error=error)
    return {"rates": table.sort_values(["learning_rate", "seed"], ignore_index=True)}
