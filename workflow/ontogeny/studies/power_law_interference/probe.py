"""Accuracy matrices -> what each network kept, forgot and learned faster."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.power_law_interference import environment as env

NETWORK = ["row", "environment", "method", "strength", "replay_fraction", "width", "seed"]


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """The declared tables."""
    history = pd.concat([run.history.assign(row=run.config.row) for run in runs], ignore_index=True)
    reported = history[~history["tuning"]]
    accuracy = reported[[*NETWORK, "phase", "task", "accuracy"]]
    return {
        "accuracy": accuracy,
        "summary": summarise(accuracy[accuracy["environment"] != "fresh"]),
        "speed": _speed(reported, runs),
        "tuning": _tuning(history),
        "schedule": _schedule(runs),
    }


def summarise(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Average accuracy, forgetting and backward transfer after every phase, one row per network and phase."""
    rows = []
    for key, group in accuracy.groupby(NETWORK, sort=True):
        matrix = group.pivot_table(index="phase", columns="task", values="accuracy").to_numpy(float)
        rows += [dict(zip(NETWORK, key, strict=True)) | {"phase": t} | measures(matrix, t) for t in range(len(matrix))]
    return pd.DataFrame(rows)


def measures(matrix: np.ndarray, phase: int) -> dict[str, float]:
    """Of a[i, j], the accuracy on task j after phase i: what holds after `phase` (counted from 0).

    AA = mean_{j<=t} a[t,j]; FM = mean_{j<t} (max_{i<t} a[i,j] - a[t,j]); BWT = mean_{j<t} (a[t,j] - a[j,j]). The
    need-weighted accuracy weighs the old tasks as the power-law environment rehearses them. Missing: no old task.
    """
    now, old = matrix[phase, : phase + 1], np.arange(phase)
    measured = {"average_accuracy": now.mean()} | dict.fromkeys(
        ("forgetting", "backward_transfer", "need_accuracy"), np.nan
    )
    if phase:
        best = np.nanmax(matrix[:phase, :phase], axis=0)
        measured["forgetting"] = (best - now[:-1]).mean()
        measured["backward_transfer"] = (now[:-1] - matrix[old, old]).mean()
        measured["need_accuracy"] = now[:-1] @ env.rehearsal_weights("powerlaw", phase)
    return measured


def _speed(reported: pd.DataFrame, runs: list[RunFolder]) -> pd.DataFrame:
    """Trials to criterion; a network that never got there has all of its row's updates (and learned = False)."""
    met = reported[reported["trials"].notna()].reset_index(drop=True)
    settings = {run.config.row: run.config.settings for run in runs}
    longest = {row: one.updates * (1 + max(one.replay_fractions)) for row, one in settings.items()}
    learned = np.isfinite(met["trials"])
    trials = met["trials"].where(learned, met["row"].map(longest))
    return met[NETWORK].assign(task=met["task"], trials=trials, learned=learned)


def _tuning(history: pd.DataFrame) -> pd.DataFrame:
    """Final average accuracy of every strength on the tuning seeds, and which strength was taken."""
    tuned, reported = history[history["tuning"]], history[~history["tuning"]]
    final = tuned[tuned["phase"] == tuned["phase"].max()]
    table = final.groupby(["method", "strength", "seed"], as_index=False)["accuracy"].mean()
    used = set(zip(reported["method"], reported["strength"], strict=True))
    chosen = [pair in used for pair in zip(table["method"], table["strength"], strict=True)]
    return table.rename(columns={"accuracy": "average_accuracy"}).assign(chosen=chosen)


def _schedule(runs: list[RunFolder]) -> pd.DataFrame:
    """The environments of the row `environments`, as shares of every task in every phase."""
    settings = next(run.config.settings for run in runs if run.config.row == "environments")
    fraction = settings.replay_fractions[0]
    return pd.DataFrame([
        {"environment": name, "replay_fraction": fraction, "phase": phase, "task": task, "share": float(share)}
        for name in settings.environments for phase in range(settings.tasks)
        for task, share in enumerate(env.shares(name, phase, fraction))
    ])  # fmt: skip
