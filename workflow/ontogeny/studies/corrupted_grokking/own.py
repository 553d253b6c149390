"""The study's probes on a user's model: spectra of its neurons, pruning curves, and its phase."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from ontogeny.errors import ConfigError
from ontogeny.own import Examination, tensors_of
from ontogeny.randomness import generator
from ontogeny.studies.corrupted_grokking.claims import LOW, MOSTLY, SOME
from ontogeny.studies.corrupted_grokking.model import PERIODIC, neuron_ipr
from ontogeny.studies.corrupted_grokking.own_settings import OwnSettings
from ontogeny.studies.corrupted_grokking.probe import PRUNED_PERCENT, phases
from ontogeny.studies.corrupted_grokking.task import Accuracies, Task

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "square": torch.square,
    "relu": functional.relu,
    "gelu": functional.gelu,
}


class Network:
    """A user's network at one checkpoint: weights (3, p, N) as in `model`, and biases."""

    def __init__(self, settings: OwnSettings, file: str) -> None:
        names = [*settings.inputs, settings.readout]
        where = "own: inputs, readout"
        matrices = tensors_of(file, dict.fromkeys(names, (None, None)), where)
        self.settings, p = settings, settings.modulus
        if len(settings.inputs) == 2:
            u, v = (_operands(matrices[name], p, name, file) for name in settings.inputs)
        else:
            both = matrices[settings.inputs[0]]
            joint = both if both.shape[0] == 2 * p else both.T
            halves = joint.split(p) if joint.shape[0] == 2 * p else [_operands(both, p, settings.inputs[0], file)] * 2
            u, v = halves
        w = _operands(matrices[settings.readout], p, settings.readout, file)
        if not u.shape == v.shape == w.shape:
            raise ConfigError(
                f"{where}: {file}: the matrices have {u.shape[1]}, {v.shape[1]} and {w.shape[1]} neurons."
            )
        self.weights = torch.stack([u, v, w])
        self.hidden_bias = _bias(file, settings.hidden_bias, u.shape[1])
        self.readout_bias = _bias(file, settings.readout_bias, p)

    def predictions(self, alive: Tensor) -> Tensor:
        """Answers to all p^2 pairs with some neurons silenced. alive: (K, N) -> (K, p^2)."""
        u, v, w = self.weights
        hidden = ACTIVATIONS[self.settings.activation]((u[:, None] + v + self.hidden_bias).flatten(0, 1))
        return torch.stack([(hidden * kept @ w.T + self.readout_bias).argmax(1) for kept in alive])


def _operands(matrix: Tensor, p: int, name: str, file: str) -> Tensor:
    """The matrix as (p, N). Raises ConfigError if neither axis has p entries."""
    if p not in matrix.shape:
        raise ConfigError(
            f"own: {file}: tensor '{name}' has the shape {tuple(matrix.shape)}; no axis has modulus = {p}."
        )
    return matrix if matrix.shape[0] == p else matrix.T


def _bias(file: str, name: str | None, size: int) -> Tensor:
    return torch.zeros(size) if name is None else tensors_of(file, {name: (size,)}, "own: biases")[name]


def task_of(settings: OwnSettings) -> Task | None:
    """Who was trained on what, from the file of examples; None without one. Raises ConfigError for a bad table."""
    if settings.examples is None:
        return None
    p, table = settings.modulus, pd.read_csv(settings.examples)
    if lacking := {"m", "n", "label"} - set(table.columns):
        raise ConfigError(f"{settings.examples}: lacks the columns {sorted(lacking)}; it has {list(table.columns)}.")
    inside = table[[column for column in ("m", "n", "label", "answer") if column in table]]
    if len(bad := inside[(inside < 0).any(axis=1) | (inside >= p).any(axis=1)]):
        raise ConfigError(f"{settings.examples}: line {bad.index[0] + 2}: values lie in 0 .. {p - 1} (modulus).")
    answer = torch.arange(p)[:, None].add(torch.arange(p)).remainder(p).flatten()
    pairs = torch.from_numpy((table["m"] * p + table["n"]).to_numpy())
    label, trained = answer.clone(), torch.zeros(p * p, dtype=torch.bool)
    if "answer" in table:
        answer[pairs] = torch.from_numpy(table["answer"].to_numpy())
    label[pairs] = torch.from_numpy(table["label"].to_numpy())
    trained[pairs] = True
    return Task(pairs.sort().values, answer, label, trained, trained & (label != answer))


def examine(settings: OwnSettings, device: str) -> Examination:
    """IPR of every neuron at every checkpoint; with the training pairs also accuracies, phase and pruning curves."""
    networks = [Network(settings, checkpoint.file) for checkpoint in settings.checkpoints]
    steps = [checkpoint.step for checkpoint in settings.checkpoints]
    ipr = [neuron_ipr(network.weights[None])[0] for network in networks]
    neurons = pd.concat(
        [
            pd.DataFrame({"step": s, "neuron": np.arange(len(v)), "ipr": v.numpy()})
            for s, v in zip(steps, ipr, strict=True)
        ],
        ignore_index=True,
    )
    last = ipr[-1][~ipr[-1].isnan()]
    between = (last > LOW) & (last < PERIODIC)
    shares = {"periodic": float((last > PERIODIC).float().mean()), "between": float(between.float().mean())}
    facts = [
        ("mean inverse participation ratio at the last checkpoint", f"{float(last.mean()):.3f}"),
        ("share of periodic neurons (ratio above one half)", f"{shares['periodic']:.3f}"),
        ("share of neurons between the two kinds", f"{shares['between']:.3f}"),
    ]
    tables = {"neurons": neurons}
    task = task_of(settings)
    if task is None:
        facts.append(("accuracies, phase and pruning", "not measured: `examples` names no training pairs"))
        return Examination({}, tables, facts)
    training = training_table(networks, steps, task)
    curves = pruning_table(networks[-1], ipr[-1], task)
    final, corruption = training.iloc[[-1]], float(task.corrupted.sum() / task.trained.sum())
    phase = phases(final.assign(corruption=corruption))[0]
    facts.append(("phase by the paper's rules", f"{phase} (corruption {corruption:.2f})"))
    return Examination(
        values_of(final.iloc[0], curves, phase), {**tables, "training": training, "pruning": curves}, facts
    )


def training_table(networks: list[Network], steps: list[int], task: Task) -> pd.DataFrame:
    """Accuracies at every checkpoint."""
    score = Accuracies.of([task], "cpu").score
    rows = [score(network.predictions(torch.ones(1, network.weights.shape[-1]))) for network in networks]
    return pd.DataFrame(
        [{"step": s, **{k: float(v) for k, v in row.items()}} for s, row in zip(steps, rows, strict=True)]
    )


def pruning_table(network: Network, ipr: Tensor, task: Task) -> pd.DataFrame:
    """Accuracies with ever more neurons silenced, lowest and highest ratio first, and in random order."""
    safe, count = ipr.nan_to_num(0.0), len(ipr)
    orders = {
        "lowest IPR first": safe.argsort(stable=True),
        "highest IPR first": safe.argsort(descending=True, stable=True),
        "random": torch.randperm(count, generator=generator(0, "pruning")),
    }
    percents = torch.tensor(PRUNED_PERCENT)
    tables = []
    for name, order in orders.items():
        alive = order.argsort() >= (percents[:, None] * count / 100).round()
        score = Accuracies.of([task] * len(percents), "cpu").score(network.predictions(alive))
        columns = {key: value.numpy() for key, value in score.items()}
        tables.append(pd.DataFrame({"order": name, "pruned_percent": percents.numpy(), **columns}))
    return pd.concat(tables, ignore_index=True)


def values_of(final: pd.Series, curves: pd.DataFrame, phase: str) -> dict[str, dict[str, float]]:
    """The study's tests that one network can be asked about: those of the phase that it is in."""

    def pruned(order: str, percent: int, column: str) -> float:
        chosen = curves[(curves["order"] == order) & (curves["pruned_percent"] == percent)]
        return float(chosen[column].iloc[0])

    if phase != "coexistence":
        return {}
    return {
        "c1": {
            "train": final["train_accuracy"],
            "corrupted": final["corrupted_accuracy"],
            "test": final["test_accuracy"],
        },
        "c5": {
            "low_first_corrupted": pruned("lowest IPR first", MOSTLY, "corrupted_accuracy"),
            "low_first_test": pruned("lowest IPR first", MOSTLY, "test_accuracy"),
            "high_first_test": pruned("highest IPR first", SOME, "test_accuracy"),
            "high_first_corrupted": pruned("highest IPR first", SOME, "corrupted_accuracy"),
        },
    }
