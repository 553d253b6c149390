"""Checkpoints to tidy tables: where each network lies between the ideal predictors, and what the theory says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ontogeny.device import resolve_device
from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.icl_strategies import bayes, complexity, transformer, urns
from ontogeny.studies.icl_strategies.examination import Answers, Examination
from ontogeny.studies.icl_strategies.settings import DataSettings, Urns
from ontogeny.studies.icl_strategies.train import architecture_of

FITTED = 0.8  # share of checkpoints, and of numbers of tasks, on which the theory may be fitted
SETTLED = 0.2  # share of its range within which the divergence from the mixtures must have fallen once
LEAST = 1e-3  # nats: below this divergence of M and G a relative distance means nothing
BLOCK = 16  # sequences examined at once: their activations stay in the cache of a core
SETTING = ["row", "hidden", "seed"]  # what one fit of the theory is for
ESTIMATED = ("full", "linear evidence")  # variants whose parameters and losses are reported from all cells
IDEAL = ["loss_m", "loss_g", "bits_m", "bits_g"]  # what the theory knows of the two strategies


@dataclass(frozen=True, eq=False)
class Network:
    """The networks of one seed and D at all k checkpoints: parameters (k, P)."""

    row: str
    seed: int
    tasks: int
    settings: Urns
    steps: NDArray[np.int64]
    parameters: Tensor

    @property
    def label(self) -> dict[str, Any]:
        """The columns that say which network it is."""
        return {"row": self.row, "hidden": self.settings.hidden, "seed": self.seed, "tasks": self.tasks}

    def answers(self, given: Examination, device: str) -> Answers:
        """What the network says at all checkpoints; a few checkpoints and sequences at a time."""
        architecture = architecture_of(self.settings)
        tokens = urns.inputs_of(given.symbols, start=self.settings.symbols).to(device)
        together = transformer.together(architecture, BLOCK * tokens.shape[1], device)
        logits = [
            torch.cat([
                transformer.forward(architecture, part, block.expand(len(part), -1, -1))[0].cpu()
                for part in self.parameters.to(device).split(together)
            ])
            for block in tokens.split(BLOCK)
        ]  # fmt: skip
        return Answers(torch.cat(logits, dim=2).double().log_softmax(1).movedim(1, -1).contiguous(), given)


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables of study.yaml."""
    settings, fresh = DataSettings(**data.json("settings.json")), data.arrays("fresh.npz")
    ideals, cells, curves = [], [], []
    for run in runs:
        for network in networks(run):
            training = urns.training_tasks(network.tasks, settings.symbols, network.seed)
            unseen = Examination.of(torch.tensor(fresh["symbols"]), torch.tensor(fresh["tasks"]), training)
            ideals.append({**network.label, **ideal_row(training, unseen, settings, network.seed)})
            measured, curve = measures(network, training, unseen, settings, resolve_device(config.device))
            cells.append(measured)
            curves.append(curve)
    values, slopes = (np.concatenate([curve[i] for curve in curves]) for i in (0, 1))
    known = pd.DataFrame(ideals)[[*SETTING, "tasks", *IDEAL]]
    measured = with_roles(pd.concat(cells, ignore_index=True).merge(known, on=[*SETTING, "tasks"]))
    fits, predicted = fit_tables(measured, values, slopes)
    return {"ideals": pd.DataFrame(ideals), "cells": predicted, "fits": fits}


def networks(run: RunFolder) -> list[Network]:
    """The networks of a run, by seed and D."""
    settings: Urns = run.config.settings
    kept = torch.stack([run.checkpoint(name)["networks"] for name in run.checkpoints], dim=1)
    steps = np.array([int(name.removeprefix("step-")) for name in run.checkpoints])
    members = [(seed, tasks) for seed in run.config.seeds for tasks in settings.tasks]
    return [
        Network(run.config.row, seed, tasks, settings, steps, parameters)
        for (seed, tasks), parameters in zip(members, kept, strict=True)
    ]


def ideal_row(training: Tensor, unseen: Examination, settings: DataSettings, seed: int) -> dict[str, float]:
    """Losses and description lengths of the ideal predictors for D training tasks."""
    count, length = settings.loss_sequences, settings.length
    loss_m, loss_g = Examination.of_training_tasks(training, count, length, seed, "losses").losses()
    fresh_m, fresh_g = unseen.losses()
    bits_m = complexity.memorising_bits(training.numpy())
    return {
        "loss_m": loss_m, "loss_g": loss_g, "bits_m": bits_m, "bits_g": complexity.generalising_bits(settings.symbols),
        "fresh_m": fresh_m, "fresh_g": fresh_g,
    }  # fmt: skip


def measures(
    network: Network, training: Tensor, unseen: Examination, settings: DataSettings, device: str
) -> tuple[pd.DataFrame, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """One row a checkpoint, and the divergences from all mixtures with their slopes, (k, knots) each."""
    seen = Examination.of_training_tasks(training, settings.familiar, settings.length, network.seed, "examination")
    weight = torch.tensor(bayes.knots(settings.mixtures))
    columns: dict[str, Any] = {**network.label, "step": network.steps, "d_mg": seen.between_ideals()}
    curve = (np.empty(0), np.empty(0))
    for suffix, given in (("_fresh", unseen), ("", seen)):
        answers = network.answers(given, device)
        values, slopes = (part.numpy() for part in answers.to_mixtures(weight))
        curve = (values, slopes)
        best = bayes.best_weight(*curve)
        closest, _ = bayes.interpolate(*curve, best)
        to_m, to_g, relative = answers.relative_distance()
        one = torch.ones(len(network.steps), dtype=torch.float64)
        found = {
            "d_m": to_m, "d_g": to_g, "d_rel": relative, "mixture": best, "kl_mixture": closest,
            "tv_mixture": answers.total_variation(torch.tensor(best)), "tv_m": answers.total_variation(one),
            "tv_g": answers.total_variation(0 * one), "kl_truth": answers.from_truth(),
            "kl_g": answers.from_generalising(),
        }  # fmt: skip
        columns |= {name + suffix: np.asarray(value) for name, value in found.items()}
    return pd.DataFrame(columns), curve


def with_roles(cells: pd.DataFrame) -> pd.DataFrame:
    """Add which cells may be fitted, and which count at all: those after the transient of their setting.

    The transient of a setting ends at the latest, over D, of the first steps at which the divergence from the mixtures
    is within SETTLED of its range above its minimum. Held-out cells have no say in it.
    """
    parts = []
    for _, part in cells.groupby(SETTING, sort=False):
        steps, tasks = np.unique(part["step"]), np.unique(part["tasks"])
        last_step, last_tasks = (v[max(1, int(FITTED * len(v))) - 1] for v in (steps, tasks))
        fitted = (part["step"] <= last_step) & (part["tasks"] <= last_tasks)
        start = max(settled_at(own) for _, own in part[fitted].groupby("tasks"))
        included = (part["step"] >= start) & (part["d_mg"] >= LEAST)
        parts.append(part.assign(fitted=fitted, included=included))
    return pd.concat(parts, ignore_index=True)


def settled_at(curve: pd.DataFrame) -> int:
    """First step at which the divergence from the mixtures of one D is near its minimum."""
    ordered = curve.sort_values("step")
    value = ordered["kl_mixture"].to_numpy()
    return int(ordered["step"].to_numpy()[np.argmax(value <= value.min() + SETTLED * np.ptp(value))])


def fit_tables(
    cells: pd.DataFrame, values: NDArray[np.float64], slopes: NDArray[np.float64]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fits of the theory and its ablations for every setting, and the cells with what the theory predicts for them.

    'fitted': on the cells that may be fitted, to predict the others; 'all': on all that count, for the parameters.
    """
    rows, parts = [], []
    for key, part in cells.groupby(SETTING, sort=False):
        at = part.index.to_numpy()
        columns = {name: part[name].to_numpy(float) for name in ("step", *IDEAL)}
        everything = bayes.Cells(**columns, values=values[at], slopes=slopes[at])
        included, fitted = part["included"].to_numpy(bool), part["fitted"].to_numpy(bool)
        scopes = {"fitted": included & fitted, "all": included}
        for scope, variant in [*(("fitted", name) for name in bayes.VARIANTS), *(("all", name) for name in ESTIMATED)]:
            theory = bayes.fit(everything.chosen(scopes[scope]), bayes.VARIANTS[variant])
            label = {**dict(zip(SETTING, key, strict=True)), "scope": scope, "variant": variant}
            rows.append({**label, **vars(theory), **agreement(theory, everything, part, included, fitted)})
            if (scope, variant) == ("fitted", "full"):
                parts.append(part.assign(**predictions(theory, everything)))
    return pd.DataFrame(rows), pd.concat(parts, ignore_index=True).drop(columns=IDEAL)


def predictions(theory: bayes.Theory, cells: bayes.Cells) -> Mapping[str, NDArray[np.float64]]:
    """Log prior odds, log Bayes factor, posterior weight and crossing of every cell."""
    return {
        "log_prior": theory.prior(cells), "log_evidence": theory.evidence(cells),
        "predicted": theory.weight(cells), "predicted_crossing": theory.crossing(cells),
    }  # fmt: skip


def agreement(
    theory: bayes.Theory,
    cells: bayes.Cells,
    measured: pd.DataFrame,
    included: NDArray[np.bool_],
    fitted: NDArray[np.bool_],
) -> dict[str, float]:
    """Losses of a fit, and its correlations with the relative distance: all cells, held-out ones, fresh tasks."""
    weight = theory.weight(cells)
    held = included & ~fitted
    relative, fresh = measured["d_rel"].to_numpy(), measured["d_rel_fresh"].to_numpy()
    return {
        "loss": bayes.loss(theory, cells.chosen(included)),
        "r": correlation(weight[included], relative[included]),
        "r_held": correlation(weight[held], relative[held]),
        "r_fresh": correlation(weight[included], fresh[included]),
    }


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's r; 0 if one of the two does not vary, for then it predicts nothing."""
    if len(a) < 2 or np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
