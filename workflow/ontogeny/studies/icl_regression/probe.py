"""Circuits and flows to tidy tables: what heads look like, what networks predict, and what they resemble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.icl_regression import attention, circuits, reduced_loss, references
from ontogeny.studies.icl_regression.prompts import NAMES, Prompts, covariance
from ontogeny.studies.icl_regression.settings import DataSettings

BLOCK = 50  # prompts examined at once: the attention weights of all heads stay in the cache
MAPS = 2  # seeds whose circuits are drawn
REFERENCES = ("debiased_gd", "gd", "kernel")  # the predictors that networks are held against


@dataclass(frozen=True, eq=False)
class Network:
    """One network at all its snapshots: kq (T, H, D, d), ov (T, H, tasks, D)."""

    row: str
    seed: int
    heads: int
    settings: Any
    steps: Tensor
    kq: Tensor
    ov: Tensor

    @property
    def label(self) -> dict[str, Any]:
        """The columns that say which network it is."""
        return {"row": self.row, "seed": self.seed, "heads": self.heads}

    @property
    def late(self) -> Tensor:
        """Which snapshots lie in the last tenth of training."""
        return self.steps >= 0.9 * self.steps[-1]

    @property
    def kernel(self) -> attention.Kernel:
        """How its logits become weights."""
        return attention.Kernel(self.settings.kernel == "softmax", self.settings.length)

    @property
    def kind(self) -> str:
        """'single' head, 'split' or 'same-sign', at the end."""
        if self.heads == 1:
            return "single"
        return "split" if bool(circuits.is_split(circuits.label_weight(self.ov[-1]))) else "same-sign"


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables of study.yaml."""
    settings = DataSettings(**data.json("settings.json"))
    single, multi = (
        Prompts(*(data.tensors(f"{kind}.safetensors")[name] for name in NAMES)) for kind in ("single", "multi")
    )
    flows = [run for run in runs if run.config.settings.experiment == "reduced_loss"]
    trained = [network for run in runs if run not in flows for network in networks(run)]
    several = [n for n in trained if len(n.settings.task.supports) > 1]
    anisotropic = [n for n in trained if n.settings.task.correlation > 0]
    plain = [n for n in trained if n not in several and n not in anisotropic]
    isotropic = [n for n in plain if n.row == "isotropic"]
    return {
        "heads": _joined(head_table(n) for n in isotropic),
        "networks": pd.DataFrame([network_row(n) for n in isotropic]),
        "risk": risk_table(plain, single, settings),
        "dynamics": dynamics_table(isotropic, single[: settings.snapshot_prompts], settings),
        "anisotropic": pd.DataFrame([anisotropic_row(n) for n in anisotropic]),
        "tasks_heads": _joined(task_heads(n) for n in several),
        "tasks_risk": task_risk(several, multi),
        "maps": _joined(maps(n) for n in trained if n.seed < MAPS),
        "flow": _joined(flow_table(run) for run in flows),
    }


def _joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def networks(run: RunFolder) -> Iterator[Network]:
    """The networks of a run, by seed and number of heads."""
    settings, kept = run.config.settings, run.checkpoint("circuits")
    for place, seed in enumerate(run.config.seeds):
        parts = [kept[name][:, place].split(settings.heads, dim=1) for name in ("kq", "ov")]
        for heads, kq, ov in zip(settings.heads, *parts, strict=True):
            yield Network(run.config.row, seed, heads, settings, kept["steps"], kq, ov)


def head_table(network: Network) -> pd.DataFrame:
    """omega, mu and the shares of energy of every head at every snapshot."""
    values = {
        "omega": circuits.scale(network.kq),
        "mu": circuits.label_weight(network.ov),
        "diagonal_share": circuits.diagonal_share(network.kq),
        "label_share": circuits.label_share(network.ov),
    }
    head = torch.arange(network.heads).expand(len(network.steps), -1)
    steps = network.steps[:, None].expand_as(head)
    flat = {name: value.flatten().numpy() for name, value in {"head": head, "step": steps, **values}.items()}
    return pd.DataFrame({**network.label, **flat})


def network_row(network: Network) -> dict[str, Any]:
    """What a trained network is: its kind, how alike its heads are, its plateau, and how it got there."""
    omega, mu = circuits.scale(network.kq), circuits.label_weight(network.ov)
    last, lively = mu[-1], circuits.active(mu[-1])
    size = omega.abs()[:, lively].mean(-1)  # mean |omega| of the heads that are active at the end
    gamma = float(circuits.weighted_mean(omega.abs(), mu)[network.late].mean())
    task = network.settings.task
    ideal = reduced_loss.manifold(np.array(gamma), task.dimension, task.noise, network.settings.length)
    positive = circuits.positive_part(mu)
    plain = omega[-1].abs()[lively]
    return {
        **network.label,
        "length": network.settings.length,
        "kind": network.kind,
        "active_heads": int(lively.sum()),
        "sign_agreement": float((omega[-1].sign() == last.sign())[lively].float().mean()),
        "omega_variation": float(circuits.weighted_variation(omega[-1].abs(), last)),
        "omega_variation_unweighted": float(plain.std(correction=0) / plain.mean()),
        "zero_sum": float(last.sum().abs() / last.abs().sum()),
        "diagonal_share": float(circuits.weighted_mean(circuits.diagonal_share(network.kq[-1]), last)),
        "label_share": float(circuits.weighted_mean(circuits.label_share(network.ov[-1]), last)),
        "omega_plateau": gamma,
        "overshoot": float(size.max() / size[network.late].mean()),
        "mu_plateau": float(positive[network.late].mean()),
        "mu_ideal": float(ideal),
        "mu_growth": growth(network.steps, positive),
    }


def growth(steps: Tensor, positive: Tensor) -> float:
    """Slope of log sum of positive mu against log step over the second half of training; 0 if there is none."""
    chosen = (steps >= steps[-1] / 2) & (positive > 0)
    if int(chosen.sum()) < 2:
        return 0.0
    return float(np.polyfit(np.log(steps[chosen].numpy()), np.log(positive[chosen].numpy()), 1)[0])


def outputs(trained: Sequence[Network], snapshot: int, prompts: Prompts) -> Tensor:
    """Predictions at a snapshot of networks of one row: (networks, tasks, B)."""
    kq, ov = (torch.cat([getattr(n, name)[snapshot] for n in trained]).unsqueeze(0) for name in ("kq", "ov"))
    member = attention.membership([network.heads for network in trained]).T
    parts = []
    for first in range(0, len(prompts.query), BLOCK):
        part = prompts[first : first + BLOCK]
        heads = attention.head_outputs(kq, ov, part, trained[0].kernel)[0]
        parts.append((member @ heads.flatten(1)).unflatten(1, heads.shape[1:]))
    return torch.cat(parts, dim=-1)


def reference_predictions(prompts: Prompts, settings: DataSettings, steps: dict[str, float]) -> dict[str, Tensor]:
    """Predictions (B,) of what the networks are held against. steps: fitted step size by name."""
    return {
        "debiased_gd": steps["debiased_gd"] * references.debiased_gradient_descent(prompts)[:, 0],
        "gd": steps["gd"] * references.gradient_descent(prompts)[:, 0],
        "kernel": references.kernel(prompts, settings.single.noise, settings.multi_length)[:, 0],
    }


def fitted_steps(prompts: Prompts) -> dict[str, float]:
    """The step size of each kind of gradient descent that predicts best on `prompts`."""
    target = prompts.target
    return {
        "debiased_gd": references.best_step(references.debiased_gradient_descent(prompts), target),
        "gd": references.best_step(references.gradient_descent(prompts), target),
    }


def risk_table(trained: Sequence[Network], prompts: Prompts, settings: DataSettings) -> pd.DataFrame:
    """Mean squared error of every network and reference at every prompt length, and distances between the two.

    Linear attention appears twice: as trained, and with its factor adapted to the length of the prompt.
    """
    steps = fitted_steps(prompts.shorter(settings.multi_length))
    by_row = [[n for n in trained if n.row == row] for row in dict.fromkeys(n.row for n in trained)]
    rows: list[dict[str, Any]] = []
    for length in settings.lengths:
        short = prompts.shorter(length)
        target, known = short.target[:, 0], reference_predictions(short, settings, steps)
        label = {"row": "reference", "seed": -1, "heads": 0, "kind": "reference", "length": length}
        everyone = {**known, "ridge": references.ridge(short, settings.single.noise)[:, 0]}
        rows += [{**label, "predictor": name, **measures(p, target, known)} for name, p in everyone.items()]
        for group in by_row:
            for network, prediction in zip(group, outputs(group, -1, short)[:, 0], strict=True):
                label = {**network.label, "kind": network.kind, "length": length}
                rows.append({**label, "predictor": "trained", **measures(prediction, target, known)})
                if not network.kernel.softmax:
                    adapted = measures(prediction * network.settings.length / length, target, known)
                    rows.append({**label, "predictor": "adapted", **adapted})
    return pd.DataFrame(rows)


def measures(prediction: Tensor, target: Tensor, known: dict[str, Tensor]) -> dict[str, float]:
    """Risk of a prediction (B,), and its distances to the references."""
    distances = {f"to_{name}": float(references.distance(prediction, known[name])) for name in REFERENCES}
    return {"risk": float((prediction - target).square().mean()), **distances}


def dynamics_table(trained: Sequence[Network], prompts: Prompts, settings: DataSettings) -> pd.DataFrame:
    """Risk and distances of every network at every snapshot, at the training length."""
    short = prompts.shorter(settings.multi_length)
    known = reference_predictions(short, settings, fitted_steps(short))
    return pd.DataFrame([
        {**network.label, "kind": network.kind, "step": int(step), **measures(prediction, short.target[:, 0], known)}
        for snapshot, step in enumerate(trained[0].steps)
        for network, prediction in zip(trained, outputs(trained, snapshot, short)[:, 0], strict=True)
    ])  # fmt: skip


def anisotropic_row(network: Network) -> dict[str, Any]:
    """How much the key-query block looks like the inverse covariance, and how much like the identity."""
    inverse = torch.linalg.inv(covariance(network.settings.task)).float()
    kq, mu = network.kq[-1], circuits.label_weight(network.ov[-1])
    return {
        **network.label,
        "length": network.settings.length,
        "kind": network.kind,
        "cos_inverse": float(circuits.weighted_mean(circuits.cosine(kq, inverse), mu)),
        "cos_identity": float(circuits.weighted_mean(circuits.cosine(kq, torch.eye(len(inverse))), mu)),
        "label_share": float(circuits.weighted_mean(circuits.label_share(network.ov[-1]), mu)),
    }


def task_heads(network: Network) -> pd.DataFrame:
    """Final label weights of every head on the two tasks, and its mean omega on the three groups of covariates."""
    first, second = (set(support) for support in network.settings.task.supports)
    groups = {"first_only": first - second, "shared": first & second, "second_only": second - first}
    diagonal = network.kq[-1].diagonal(dim1=-2, dim2=-1)
    labels = network.ov[-1][..., -2:].diagonal(dim1=-2, dim2=-1)
    means = {f"omega_{name}": diagonal[:, [i - 1 for i in sorted(group)]].mean(-1) for name, group in groups.items()}
    values = {"mu_1": labels[:, 0], "mu_2": labels[:, 1], **means}
    return pd.DataFrame(
        {**network.label, "head": range(network.heads), **{name: value.numpy() for name, value in values.items()}}
    )


def task_risk(trained: Sequence[Network], prompts: Prompts) -> pd.DataFrame:
    """Mean squared error per output of the networks with several tasks."""
    return pd.DataFrame([
        {**network.label, "risk": float((prediction - prompts.target.T).square().mean())}
        for network, prediction in zip(trained, outputs(trained, -1, prompts), strict=True)
    ])  # fmt: skip


def maps(network: Network) -> pd.DataFrame:
    """Entries of the final circuits of every head."""
    parts = []
    for name, circuit in (("KQ", network.kq[-1]), ("OV", network.ov[-1])):
        head, row, column = (index.ravel() for index in np.indices(circuit.shape))
        parts.append(pd.DataFrame({
            **network.label, "circuit": name, "head": head, "entry_row": row + 1, "entry_column": column + 1,
            "value": circuit.flatten().numpy(),
        }))  # fmt: skip
    return _joined(parts)


def flow_table(run: RunFolder) -> pd.DataFrame:
    """Loss, mean |omega| and sum of positive mu along every flow on the reduced loss, and the kind it ends as."""
    settings, kept = run.config.settings, run.checkpoint("flow")
    parts = []
    for place, heads in enumerate(settings.heads):
        omega, mu = (kept[name][:, :, place, :heads] for name in ("omega", "mu"))
        value = reduced_loss.loss(omega, mu, settings.dimension, settings.noise, settings.length)
        split = circuits.is_split(mu[-1]).expand(len(omega), -1)
        step, seed = torch.meshgrid(kept["steps"], torch.tensor(run.config.seeds), indexing="ij")
        columns = {
            "seed": seed, "time": step * settings.step_size, "loss": value,
            "omega": circuits.weighted_mean(omega.abs(), mu), "mu": circuits.positive_part(mu),
        }  # fmt: skip
        frame = pd.DataFrame({name: column.flatten().numpy() for name, column in columns.items()})
        parts.append(frame.assign(heads=heads, kind=np.where(split.flatten().numpy(), "split", "same-sign")))
    return _joined(parts)[["seed", "heads", "kind", "time", "loss", "omega", "mu"]]
