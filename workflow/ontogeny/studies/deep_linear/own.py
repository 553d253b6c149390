"""The theory of deep linear learning on a user's data, with the mode strengths of a user's checkpoints on top.

Sigma11 and Sigma31 follow from the data. The modes are the singular vectors of Sigma31, s their singular values; Eq. 12
(and, for more than two matrices, Eq. 13 integrated) predicts how each grows, if the inputs are white. How far they are
from that is reported, and the index of c8 beside it.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray

from ontogeny.errors import ConfigError
from ontogeny.own import Examination, tensors_of
from ontogeny.studies.deep_linear import theory
from ontogeny.studies.deep_linear.own_settings import OwnSettings
from ontogeny.studies.deep_linear.probe import alignment

Array = NDArray[np.float64]
SMALLEST = 1e-3  # modes weaker than this share of the strongest are left out


@dataclass(frozen=True)
class Modes:
    """What the data offer to learn: Sigma11 (d, d), and Sigma31 = left diag(s) right^T."""

    covariance: Array
    left: Array  # (outputs, modes)
    s: Array  # (modes,)
    right: Array  # (inputs, modes)

    def strengths(self, product: Array) -> Array:
        """Strength of every mode in a network's input-output map (outputs, inputs)."""
        return np.einsum("om,oi,im->m", self.left, product, self.right)


def modes_of(file: str) -> Modes:
    """Modes of the examples in an npz file, inputs centred. Raises ConfigError for a file without x and y."""
    try:
        with np.load(file, allow_pickle=False) as content:
            x, y = (np.asarray(content[name], float) for name in ("x", "y"))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"own: data: {file} is not an npz file with arrays x and y ({error}).") from error
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not len(x):
        raise ConfigError(f"own: data: {file}: x is {x.shape} and y is {y.shape}; needed are (examples, …) twice.")
    x, y = x - x.mean(0), y - y.mean(0)
    left, s, right = np.linalg.svd(y.T @ x / len(x), full_matrices=False)
    kept = s > SMALLEST * s[0]
    return Modes(x.T @ x / len(x), left[:, kept], s[kept], right[kept].T)


def examine(settings: OwnSettings, device: str) -> Examination:
    """Predicted and measured growth of every mode, isometry of the layers, and the consistency index of the data."""
    modes = modes_of(settings.data)
    outputs, inputs = modes.left.shape[0], modes.right.shape[0]
    chains = [_layers(settings, checkpoint.file, inputs, outputs) for checkpoint in settings.checkpoints]
    steps = np.array([checkpoint.step for checkpoint in settings.checkpoints], float)
    measured = np.stack([modes.strengths(reduce(lambda total, layer: layer @ total, chain)) for chain in chains])
    rate = settings.learning_rate * (2 / outputs if settings.loss == "mean" else 1)
    half = predicted_half_times(modes.s, measured[0], len(settings.layers), rate)
    reached = np.array([crossing(steps, strength, s / 2) for strength, s in zip(measured.T, modes.s, strict=True)])
    table = pd.DataFrame({
        "mode": np.arange(1, len(modes.s) + 1), "s": modes.s, "initial_strength": measured[0],
        "predicted_half_time": half, "half_time": reached,
    })  # fmt: skip
    white = np.linalg.eigvalsh(modes.covariance)
    aligned = alignment(modes.right.T @ modes.covariance @ modes.right)
    facts = [
        ("modes with at least a thousandth of the strongest correlation", str(len(modes.s))),
        ("largest over smallest variance of the inputs (1: white, as Eq. 12 supposes)", f"{_spread(white):.3g}"),
        ("modes that passed half of their strength", f"{int(np.isfinite(reached).sum())} of {len(reached)}"),
    ]
    tables = {"modes": table, "curves": curves_of(steps, measured), "isometry": isometry(chains[-1])}
    return Examination(values_of(table, aligned), tables, facts)


def _spread(variances: NDArray[np.floating]) -> float:
    return float(variances[-1] / variances[0]) if variances[0] > 0 else np.inf


def _layers(settings: OwnSettings, file: str, inputs: int, outputs: int) -> list[Array]:
    """W_1 ... W_n of a checkpoint. Raises ConfigError unless they fit each other and the data."""
    shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(settings.layers, (None, None))
    found = tensors_of(file, shapes, "own: layers")
    layers = [found[name].double().numpy() for name in settings.layers]
    sizes = [inputs, *(layer.shape[0] for layer in layers)]
    for name, layer, size in zip(settings.layers, layers, sizes[:-1], strict=True):
        if layer.shape[1] != size:
            raise ConfigError(f"own: layers: {file}: '{name}' takes {layer.shape[1]} inputs, but is given {size}.")
    if sizes[-1] != outputs:
        raise ConfigError(f"own: layers: {file}: the last layer has {sizes[-1]} outputs, the data have {outputs}.")
    return layers


def predicted_half_times(s: Array, u0: Array, matrices: int, rate: float) -> Array:
    """Steps to half of the strength from u0, (modes,); infinite for modes that start with the wrong sign."""
    return np.array([
        _half_time(strength, start, matrices, rate) if 0 < start < strength else (0.0 if start >= strength else np.inf)
        for strength, start in zip(s, u0, strict=True)
    ])  # fmt: skip


def _half_time(s: float, u0: float, matrices: int, rate: float) -> float:
    if u0 >= s / 2:
        return 0.0
    if matrices == 2:
        return float(theory.passage_time(0.5, s, u0, rate))
    return theory.deep_learning_time(s, u0, matrices, rate, threshold=0.25)  # (s - u)^2 / s^2 at u = s / 2


def crossing(steps: Array, strength: Array, level: float) -> float:
    """Step at which a curve first passes a level, interpolated; infinite if it never does."""
    above = np.flatnonzero(strength >= level)
    if not len(above):
        return np.inf
    place = above[0]
    if place == 0:
        return float(steps[0])
    share = (level - strength[place - 1]) / (strength[place] - strength[place - 1])
    return float(steps[place - 1] + share * (steps[place] - steps[place - 1]))


def curves_of(steps: Array, measured: Array) -> pd.DataFrame:
    """Strength of every mode at every checkpoint."""
    count = measured.shape[1]
    return pd.DataFrame({
        "step": np.repeat(steps, count), "mode": np.tile(np.arange(1, count + 1), len(steps)),
        "strength": measured.ravel(),
    })  # fmt: skip


def isometry(layers: list[Array]) -> pd.DataFrame:
    """Quantiles of the singular values of the product of the first 1, 2, ... layers, over their mean square root."""
    rows, product = [], np.eye(layers[0].shape[1])
    for depth, layer in enumerate(layers, start=1):
        product = layer @ product
        values = np.linalg.svd(product, compute_uv=False)
        low, middle, high = np.quantile(values / np.sqrt((values**2).mean()), (0.1, 0.5, 0.9))
        rows.append({"layers": depth, "q10": low, "q50": middle, "q90": high})
    return pd.DataFrame(rows)


def values_of(table: pd.DataFrame, aligned: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The study's tests that one network and its data can be asked about."""
    basis = aligned.groupby("basis")["off_diagonality"]
    actual, random = basis.get_group("singular vectors").iloc[0], basis.get_group("random rotation")
    values = {"c8": {"alignment": float((1 + (random <= actual).sum()) / (1 + len(random)))}}
    timed = table[np.isfinite(table["half_time"]) & np.isfinite(table["predicted_half_time"])]
    timed = timed[timed["predicted_half_time"] > 0]
    if len(timed):
        values["c1"] = {"relative_delay": float((timed["half_time"] / timed["predicted_half_time"] - 1).mean())}
    if len(timed) > 2:
        values["c2"] = {"rank_correlation": float(scipy.stats.spearmanr(timed["s"], timed["half_time"]).statistic)}
    return values
