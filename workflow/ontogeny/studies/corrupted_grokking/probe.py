"""Histories and final weights -> phases, spectra of single neurons, and pruning curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.corrupted_grokking.full_batch import piece_elements
from ontogeny.studies.corrupted_grokking.members import Member, members, tasks_of
from ontogeny.studies.corrupted_grokking.model import neuron_ipr, predictions
from ontogeny.studies.corrupted_grokking.task import Accuracies, Task

KEYS = ["row", "seed", "train_fraction", "corruption", "weight_decay", "dropout", "batch_norm"]
ACCURACIES = ["train_accuracy", "corrupted_accuracy", "uncorrupted_accuracy", "test_accuracy", "inversion_accuracy"]
SPECTRA = ["mean_ipr", "periodic_share", "dead_share"]
HIGH = 0.9  # accuracy from which the paper calls a network trained, or generalising
PRUNED_PERCENT = range(0, 101, 5)
GENERALISING = ("coexistence", "partial inversion", "full inversion")


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """The tables `training`, `outcomes`, `neurons`, `pruning` and `examples`."""
    history = pd.concat([_history(run) for run in runs], ignore_index=True)
    outcomes = history[history["step"] == history.groupby("row")["step"].transform("max")].copy()
    outcomes["phase"] = phases(outcomes)
    maps = [run.config.row for run in runs if len(run.config.settings.train_fraction) > 1]
    kept = [entry for run in runs for entry in _kept(run)]
    pruned = [entry for entry in kept if not _regularised(entry[1])]
    return {
        "training": _sorted(history[~history["row"].isin(maps)], ["step"]),
        "outcomes": _sorted(outcomes, []),
        "neurons": pd.concat([_neurons(*entry) for entry in kept], ignore_index=True),
        "pruning": pd.concat([_pruning(config, data, *entry) for entry in pruned], ignore_index=True),
        "examples": _examples(*pruned[0]),
    }


def phases(outcomes: pd.DataFrame) -> np.ndarray:
    """The phase of each network by the paper's rules (appendix C), from train and test accuracy and xi."""
    train, test = outcomes["train_accuracy"].to_numpy(), outcomes["test_accuracy"].to_numpy()
    partial = train >= 1.05 - outcomes["corruption"].to_numpy()
    rules = [(test >= HIGH) & (train >= HIGH), (test >= HIGH) & partial, test >= HIGH, train >= HIGH]
    return np.select(rules, [*GENERALISING, "memorisation"], "forgetting or confusion")


def _history(run: RunFolder) -> pd.DataFrame:
    """The history of a run; networks whose neurons have no IPR get nan there."""
    table = run.history.assign(row=run.config.row)
    return table.reindex(columns=[*KEYS, "step", *ACCURACIES, *SPECTRA, "weight_norm"])


def _sorted(table: pd.DataFrame, more: list[str]) -> pd.DataFrame:
    return table.sort_values([*KEYS, *more], ignore_index=True)


def _regularised(member: Member) -> bool:
    return member.weight_decay > 0 or member.dropout > 0 or member.batch_norm


Kept = tuple[RunFolder, Member, Tensor, Tensor]


def _kept(run: RunFolder) -> Iterator[Kept]:
    """Members whose final weights (3, p, N) were kept, with the scales (N,) of their BatchNorm, nan without it."""
    everyone = members(run.config)
    for name in run.checkpoints:
        tensors = run.checkpoint(name)
        chosen = [member for member in everyone if name == "final" or member.batch_norm == (name == "batchnorm")]
        for index, member in enumerate(chosen):
            weights = tensors["weights"][index]
            missing = torch.full(weights.shape[-1:], torch.nan)
            yield run, member, weights, tensors["scale"][index, 0] if "scale" in tensors else missing


def _neurons(run: RunFolder, member: Member, weights: Tensor, scale: Tensor) -> pd.DataFrame:
    """IPR, norm and BatchNorm scale of every neuron of one member."""
    table = pd.DataFrame({
        "neuron": np.arange(weights.shape[-1]),
        "ipr": neuron_ipr(weights[None])[0].numpy(),
        "norm": weights.square().sum(dim=(0, 1)).sqrt().numpy(),
        "batch_norm_scale": scale.numpy(),
    })  # fmt: skip
    return table.assign(row=run.config.row, **asdict(member))[[*KEYS, *table.columns]]


def _pruning(
    config: ProbeConfig, data: Folder, run: RunFolder, member: Member, weights: Tensor, scale: Tensor
) -> pd.DataFrame:
    """Accuracies of one member after silencing ever more neurons, in four orders, without retraining."""
    task = tasks_of([member], data, run.config.settings.modulus)[0]
    tables = [
        pruning_curve(weights.to(config.device), order, task).assign(order=name)
        for name, order in _orders(weights, member.seed).items()
    ]
    table = pd.concat(tables, ignore_index=True).assign(row=run.config.row, **asdict(member))
    return table[[*KEYS, "order", "pruned_percent", *ACCURACIES]]


def _orders(weights: Tensor, seed: int) -> dict[str, Tensor]:
    """Names and orders (N,) in which neurons are silenced."""
    ipr, norm = neuron_ipr(weights[None])[0].nan_to_num(0.0), weights.square().sum(dim=(0, 1))
    return {
        "lowest IPR first": ipr.argsort(stable=True),
        "highest IPR first": ipr.argsort(descending=True, stable=True),
        "random": torch.randperm(len(ipr), generator=generator(seed, "pruning")),
        "smallest norm first": norm.argsort(stable=True),
    }


def pruning_curve(weights: Tensor, order: Tensor, task: Task) -> pd.DataFrame:
    """Accuracies against the share of neurons that is silenced: column k of U, V and W set to zero for the first of
    `order`. weights: (3, p, N)."""
    percents = torch.tensor(PRUNED_PERCENT)
    rank = order.argsort()
    alive = rank >= (percents[:, None] * len(order) / 100).round()  # (percents, N)
    device = str(weights.device)
    thinned = weights * alive[:, None, None].to(device)
    score = Accuracies.of([task] * len(percents), device).score(predictions(thinned, piece_elements(device)))
    columns = {name: value.cpu().numpy() for name, value in score.items()}
    return pd.DataFrame({"pruned_percent": percents.numpy(), **columns})


def _examples(run: RunFolder, member: Member, weights: Tensor, scale: Tensor) -> pd.DataFrame:
    """The weights of the most and of the least periodic neuron of one member."""
    ipr = neuron_ipr(weights[None])[0].nan_to_num(0.0)
    chosen = {"periodic": int(ipr.argmax()), "memorising": int(ipr.argmin())}
    tables = [
        pd.DataFrame({"residue": np.arange(weights.shape[1]), "weight": weights[index, :, neuron].numpy()})
        .assign(kind=kind, ipr=float(ipr[neuron]), matrix=matrix)
        for kind, neuron in chosen.items()
        for index, matrix in enumerate("UVW")
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)[["kind", "ipr", "matrix", "residue", "weight"]]
