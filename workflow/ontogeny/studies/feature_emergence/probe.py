"""Histories, final weights and ascents -> tidy tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import log

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.feature_emergence.boundary import crossing, half_fraction
from ontogeny.studies.feature_emergence.data import GroupData, load_group
from ontogeny.studies.feature_emergence.energy import FLAT
from ontogeny.studies.feature_emergence.grokking import alive, spectrum
from ontogeny.studies.feature_emergence.group_names import is_odd_cyclic, order
from ontogeny.studies.feature_emergence.groups import KINDS
from ontogeny.studies.feature_emergence.members import Member, crews
from ontogeny.studies.feature_emergence.network import training_pairs

MEMBER = ["group", "width", "fraction", "optimiser", "learning_rate", "weight_decay", "zero_readout", "seed"]
SCORES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
WATCHED = ["gradient_norm", "alignment", "off_nodes", "off_pairs", "move_v", "move_w", "peak_share", "features"]


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables of the study."""
    networks = [run for run in runs if run.config.settings.experiment == "grokking"]
    theory = [run for run in runs if run.config.settings.experiment == "theory"]
    training = pd.concat([run.history.assign(row=run.config.row) for run in networks], ignore_index=True)
    outcomes = _outcomes(training)
    groups = {name: load_group(data, name) for run in theory for name in run.config.settings.landscape.groups}
    return {
        "training": training[["row", *MEMBER, "epoch", *SCORES]],
        "stages": _stages(training),
        "outcomes": outcomes,
        "boundaries": _boundaries(outcomes),
        "nodes": _nodes(data, networks, outcomes),
        "landscape": pd.concat([_landscape(run, groups) for run in theory], ignore_index=True),
        "parts": _parts(theory[0], groups),
        "lazy": pd.concat([_lazy(run, "ridge", "decay", "decays") for run in theory], ignore_index=True),
        "early": pd.concat([_lazy(run, "flow", "time", "times") for run in theory], ignore_index=True),
        "missing": pd.concat([_missing(run) for run in theory], ignore_index=True),
        "repulsion": pd.concat([_repulsion(run) for run in theory], ignore_index=True),
    }


def _stages(training: pd.DataFrame) -> pd.DataFrame:
    chosen = training[training["row"] == "stages"]
    columns = ["weight_decay", "seed", "epoch", "train_accuracy", "test_accuracy", "train_loss", "test_loss", *WATCHED]
    return chosen[columns].sort_values(["weight_decay", "seed", "epoch"], ignore_index=True)


def _outcomes(training: pd.DataFrame) -> pd.DataFrame:
    """The last logged state of every network, and when its test accuracy crossed 0.9."""
    rows = []
    for _, curve in training.groupby(["row", *MEMBER], sort=False):
        last = curve.iloc[-1]
        found = crossing(curve["epoch"].to_numpy(), curve["test_accuracy"].to_numpy(), 0.9)
        rows.append({**last[["row", *MEMBER, "epoch", *SCORES]], "order": order(last["group"]), "epoch_90": found})
    return pd.DataFrame(rows)


def _boundaries(outcomes: pd.DataFrame) -> pd.DataFrame:
    """f50 of each group and seed of the row `boundary`."""
    rows = []
    for (name, seed), line in outcomes[outcomes["row"] == "boundary"].groupby(["group", "seed"], sort=False):
        group = str(name)
        half = half_fraction(line["fraction"].to_numpy(), line["test_accuracy"].to_numpy())
        size = order(group)
        rows.append({
            "group": group, "cyclic": is_odd_cyclic(group), "order": size, "seed": seed, "scale": log(size) / size,
            "f50": half, "censored": half in (0.0, 1.0),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _nodes(data: Folder, networks: list[RunFolder], outcomes: pd.DataFrame) -> pd.DataFrame:
    """Summaries of the hidden nodes of kept networks, beside how well they do."""
    rows = []
    for run in networks:
        for member, weights in _kept(run):
            rows.append(
                {"row": run.config.row, **asdict(member), **_summary(member, weights, load_group(data, member.group))}
            )
    table = pd.DataFrame(rows).merge(outcomes[["row", *MEMBER, "test_accuracy", "test_loss"]], on=["row", *MEMBER])
    keys = ["row", "width", "optimiser", "learning_rate", "seed"]
    return table[[*keys, "test_accuracy", "test_loss", "energy", "peak_share", "features", "living"]]


def _kept(run: RunFolder) -> Iterator[tuple[Member, Tensor]]:
    """Members whose final weights (3, M, K) were kept."""
    config = run.config
    everyone = crews(config.settings, config.seeds, config.device)
    for crew, name in zip(everyone, run.checkpoints, strict=False):
        yield from zip(crew.members, run.checkpoint(name)["weights"], strict=True)


def _summary(member: Member, weights: Tensor, group: GroupData) -> dict[str, float]:
    """Energy on the training pairs, spectrum and number of living nodes of one network."""
    counted = {name: float(value[0]) for name, value in spectrum(weights[None], group).items()}
    living = alive(weights[None])[0]
    energies = node_energies(weights[:2], training_pairs(len(group.table), member.fraction, member.seed), group)
    largest = float(group.parts.maxima.max()) * member.fraction**2
    return {"energy": float(energies[living].mean()) / largest, "living": float(living.double().mean()), **counted}


def node_energies(layer: Tensor, pairs: Tensor, group: GroupData) -> Tensor:
    """E(w / |w|) of each node on the pairs trained on, (K,). layer: A and B, (2, M, K). pairs: (n,)."""
    order_ = len(group.table)
    answers = torch.from_numpy(group.table).flatten()[pairs]
    squares = (layer[0, pairs // order_] + layer[1, pairs % order_]).double().square()
    sums = torch.zeros(order_, layer.shape[2], dtype=torch.float64).index_add_(0, answers, squares)
    counts = torch.bincount(answers, minlength=order_).double()
    sums = sums - counts[:, None] * squares.mean(dim=0)  # targets are centred over the pairs
    norm = layer.double().square().sum(dim=(0, 1))
    return sums.square().sum(dim=0) / (2 * norm.square().clamp_min(1e-30))


def _landscape(run: RunFolder, groups: dict[str, GroupData]) -> pd.DataFrame:
    return pd.concat([_ends(run, name, group) for name, group in groups.items()], ignore_index=True)


def _ends(run: RunFolder, name: str, group: GroupData) -> pd.DataFrame:
    """The ends of a group's ascents."""
    found = {key: value.numpy() for key, value in run.checkpoint(f"landscape-{name.replace(':', '_')}").items()}
    seeds = np.repeat(run.config.seeds, found["energy"].shape[1])
    part = found["part"].ravel()
    return pd.DataFrame({
        "group": name, "odd_cyclic": is_odd_cyclic(name), "order": order(name), "seed": seeds, "part": part,
        "peak": found["peak"].ravel(), "energy": found["energy"].ravel(), "predicted": group.parts.maxima[part],
    })  # fmt: skip


def _parts(run: RunFolder, groups: dict[str, GroupData]) -> pd.DataFrame:
    """Theory and curvature of each part of each group. The starts within parts do not depend on the seed."""
    tables = []
    for name, group in groups.items():
        curvature = run.checkpoint(f"landscape-{name.replace(':', '_')}")["curvatures"].numpy()
        size = np.abs(curvature)
        share = size / size.max(axis=1, keepdims=True)
        parts = group.parts
        tables.append(pd.DataFrame({
            "group": name, "odd_cyclic": is_odd_cyclic(name), "order": order(name), "part": np.arange(len(parts.kind)),
            "dimension": parts.dimension, "real_dimension": parts.real_dimension,
            "kind": [KINDS[kind] for kind in parts.kind], "predicted": parts.maxima,
            "zero_modes": (share < FLAT).sum(axis=1), "predicted_zero_modes": parts.zero_modes,
            "flattest": share.min(axis=1), "highest": curvature.max(axis=1) / size.max(axis=1),
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _lazy(run: RunFolder, kind: str, column: str, points: str) -> pd.DataFrame:
    """Norm and cosine of G_F against weight decay or time."""
    settings = run.config.settings.lazy
    levels = {"seed": run.config.seeds, "width": settings.widths, column: getattr(settings, points)}
    table = pd.MultiIndex.from_product(list(levels.values()), names=list(levels)).to_frame(index=False)
    values = run.checkpoint("lazy")[kind].reshape(-1, 2).numpy()
    return table.assign(norm=values[:, 0], cosine=values[:, 1])


def _missing(run: RunFolder) -> pd.DataFrame:
    tables = []
    for name in run.config.settings.missing.groups:
        shares = run.checkpoint(f"missing-{name.replace(':', '_')}")["on_missing"].numpy()
        seeds, sizes = shares.shape
        tables.append(pd.DataFrame({
            "group": name, "odd_cyclic": is_odd_cyclic(name), "seed": np.repeat(run.config.seeds, sizes),
            "represented": np.tile(np.arange(1, sizes + 1), seeds), "parts": sizes + 1, "on_missing": shares.ravel(),
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _repulsion(run: RunFolder) -> pd.DataFrame:
    tables = []
    for name in run.config.settings.missing.groups:
        signs = run.checkpoint(f"missing-{name.replace(':', '_')}")["repulsion"].numpy()
        tables.append(pd.DataFrame({
            "group": name, "odd_cyclic": is_odd_cyclic(name), "seed": run.config.seeds, "projected": signs[:, 0],
            "plain": signs[:, 1],
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)
