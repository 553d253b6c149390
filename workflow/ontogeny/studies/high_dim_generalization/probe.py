"""Tidy tables from the finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.high_dim_generalization import theory
from ontogeny.studies.high_dim_generalization.features import FROZEN, bulk_edge, time_grid
from ontogeny.studies.high_dim_generalization.linear import error_parts, mix, residual
from ontogeny.studies.high_dim_generalization.settings import Features, Linear

Array = NDArray[np.float64]

FIRST_TIME = 1e-2
THINNING = 7  # curves are kept at every seventh time
MAP_POINTS = (33, 17)  # loads and noises of the theory's maps
DENSITY_BINS = 60
LOG_BINS = np.round(np.arange(-10, 4.01, 0.1), 1)  # edges, log10 of the eigenvalues of features
KEYS = ["init_scale", "width", "seed"]


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables of study.yaml."""
    kinds = {
        kind: [run for run in runs if run.config.settings.experiment == kind]
        for kind in ("linear", "spectrum", "features", "digits")
    }
    found = [*(table for run in kinds["linear"] for table in linear_tables(run, config.device))]
    found += [("spectra", spectra(run)) for run in [*kinds["linear"], *kinds["spectrum"]]]
    found += [("stopping_theory", stopping_theory(kinds["linear"][0].config.settings))]
    found += [("spectrum_density", spectrum_density(kinds["spectrum"]))]
    found += [table for run in kinds["features"] for table in feature_tables(run)]
    found += [("feature_density", feature_density(kinds["features"]))]
    found += [table for run in kinds["digits"] for table in digit_tables(run)]
    return {name: _joined(table for key, table in found if key == name) for name in dict(found)}


def _joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def _long(seeds: Iterable[int], columns: Mapping[str, ArrayLike], **constants: float | str) -> pd.DataFrame:
    """One row per seed and point, from columns of shape (S, K) or (K,); constants come first."""
    labels = np.asarray(list(seeds))[:, None]
    arrays = np.broadcast_arrays(labels, *(np.asarray(column) for column in columns.values()))
    content = dict(zip(("seed", *columns), arrays, strict=True))
    return pd.DataFrame(constants | {name: value.ravel() for name, value in content.items()})


def _per_seed(seeds: Iterable[int], columns: Mapping[str, ArrayLike], **constants: float | str) -> pd.DataFrame:
    """One row per seed, from columns of shape (S,) or (); constants come first."""
    return pd.DataFrame(constants | {"seed": list(seeds)} | dict(columns))


# --- linear students


def linear_tables(run: RunFolder, device: str) -> Iterable[tuple[str, pd.DataFrame]]:
    """Tables of one run of the row linear, by name, one load after the other."""
    settings: Linear = run.config.settings
    nearest = int(np.abs(np.asarray(settings.loads) - 1).argmin())
    for index, load in enumerate(settings.loads):
        modes = {name: value.to(device) for name, value in run.checkpoint(f"load-{index:02d}").items()}
        times = np.geomspace(FIRST_TIME, settings.last_time, settings.times)
        parts = error_parts(modes, *_points(times, 0.0, device))
        yield "curves", curves(run, load, modes, parts, times)
        yield "stopping", stopping(run, load, modes, parts, times)
        yield "initial", initial(run, load, parts, times)
        yield "descent", descent(run, load, modes)
        for surface, snrs, points in surfaces(settings, index == nearest):
            yield "surface_points", surface_points(run, load, modes, surface, snrs, points)


def _points(time: object, ridge: object, device: str) -> tuple[Tensor, Tensor]:
    """Times and ridges, broadcast against each other, as flat tensors."""
    pairs = np.broadcast_arrays(np.asarray(time, float), np.asarray(ridge, float))
    return torch.tensor(pairs[0].ravel(), device=device), torch.tensor(pairs[1].ravel(), device=device)


def curves(run: RunFolder, load: float, modes: dict[str, Tensor], parts: Tensor, times: Array) -> pd.DataFrame:
    """Generalisation and training error from a zero start, beside the theory."""
    settings: Linear = run.config.settings
    some = times[::THINNING]
    samples = round(load * settings.inputs)
    train = residual(modes, samples, torch.tensor(some, device=parts.device), settings.snr)
    columns: dict[str, ArrayLike] = {
        "time": some,
        "error": mix(parts[:, ::THINNING], settings.snr).cpu().numpy(),
        "train_error": train.cpu().numpy(),
        "theory": theory.generalisation(load, some).total(settings.snr),
        "train_theory": theory.training(load, some).total(settings.snr),
    }
    return _long(run.config.seeds, columns, load=load)


def stopping(run: RunFolder, load: float, modes: dict[str, Tensor], parts: Tensor, times: Array) -> pd.DataFrame:
    """Stopped, final and ridge errors of every noise."""
    settings: Linear = run.config.settings
    predicted, tables = theory.generalisation(load, times), []
    for snr in settings.snrs:
        error = mix(parts, snr).cpu().numpy()
        best, at = error.argmin(axis=1), int(predicted.total(snr).argmin())
        ended = error_parts(modes, *_points(settings.last_time, 1 / snr, str(parts.device)))
        early, stopped, final = error.min(axis=1), error[:, at], error[:, -1]
        ridge = mix(ended, snr)[:, 0].cpu().numpy()
        columns = {
            "stopped": stopped, "early": early, "early_time": times[best], "final": final, "ridge": ridge,
            "over": final - early, "stopped_excess": excess(stopped, ridge, snr),
            "early_excess": excess(early, ridge, snr),
        }  # fmt: skip
        tables.append(_per_seed(run.config.seeds, columns, load=load, snr=snr))
    return pd.concat(tables)


def excess(early: Array, ridge: Array, snr: Array | float) -> Array:
    """Relative excess of the error on noisy labels, whose noise both errors share."""
    return (early - ridge) / (ridge + 1 / snr)


def initial(run: RunFolder, load: float, parts: Tensor, times: Array) -> pd.DataFrame:
    """Least and final error for every initial scale."""
    settings: Linear = run.config.settings
    tables = []
    for inr in settings.inrs:
        error = mix(parts, settings.snr, inr).cpu().numpy()
        columns = {"early": error.min(axis=1), "early_time": times[error.argmin(axis=1)], "final": error[:, -1]}
        tables.append(_per_seed(run.config.seeds, columns, load=load, inr=inr))
    return pd.concat(tables)


def _ordered(table: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    return table[[*first, *(name for name in table.columns if name not in first)]]


def surfaces(settings: Linear, at_peak: bool) -> Iterable[tuple[str, list[float], tuple[Array, Array]]]:
    """Which points of the surfaces lie at a load: (surface, noises, (times, ridges))."""
    times = np.geomspace(0.1, settings.last_time, 11)
    ridges = np.geomspace(1e-3, 10, 9)
    end = np.asarray([settings.last_time])
    yield "load_time", [settings.snr], (times, np.zeros(1))
    yield "load_ridge", [settings.snr], (end, ridges)
    if at_peak:
        yield "snr_time", settings.snrs, (times, np.zeros(1))
        yield "ridge_time", [settings.snr], (times[:, None], ridges)


def surface_points(
    run: RunFolder, load: float, modes: dict[str, Tensor], surface: str, snrs: list[float],
    points: tuple[Array, Array],
) -> pd.DataFrame:  # fmt: skip
    """Simulated errors at the points of one surface."""
    time, ridge = _points(*points, str(modes["teacher"].device))
    parts = error_parts(modes, time, ridge)
    tables = [
        _long(
            run.config.seeds,
            {"time": time.cpu().numpy(), "ridge": ridge.cpu().numpy(), "error": mix(parts, snr).cpu().numpy()},
            surface=surface, load=load, snr=snr,
        )
        for snr in snrs
    ]  # fmt: skip
    return _ordered(pd.concat(tables), ["surface", "load", "snr", "time", "ridge"])


def descent(run: RunFolder, load: float, modes: dict[str, Tensor]) -> pd.DataFrame:
    """The control's errors beside those of the exact flow at the same times."""
    columns = ["load", "seed", "step", "time", "error", "flow_error", "frozen_share"]
    rows = run.history.reindex(columns=columns)
    rows = rows[rows["load"] == load]
    times = np.sort(rows["time"].unique())
    if not len(times):  # a run whose seeds take no part in the control
        return rows
    parts = error_parts(modes, *_points(times, 0.0, str(modes["teacher"].device)))
    flow = mix(parts, run.config.settings.snr, 1.0).cpu().numpy()
    seeds = [run.config.seeds.index(seed) for seed in rows["seed"]]
    return rows.assign(flow_error=flow[seeds, np.searchsorted(times, rows["time"])])


def stopping_theory(settings: Linear) -> pd.DataFrame:
    """Early stopping against the optimal ridge by the theory, on a grid that spans the simulated loads and noises."""
    loads, snrs = (
        np.unique(np.concatenate([np.geomspace(min(values), max(values), points), values]).round(12))
        for values, points in zip((settings.loads, settings.snrs), MAP_POINTS, strict=True)
    )
    times = np.geomspace(FIRST_TIME, settings.last_time, settings.times)
    tables = []
    for load in loads:
        error = theory.generalisation(load, times, nodes=2048).total(snrs[:, None])
        early, ridge = error.min(axis=1), theory.optimal_ridge_error(load, snrs)
        content = {
            "load": load, "snr": snrs, "early": early, "early_time": times[error.argmin(axis=1)], "final": error[:, -1],
            "ridge": ridge, "over": error[:, -1] - early, "excess": excess(early, ridge, snrs),
            "excess_bare": early / ridge - 1,
        }  # fmt: skip
        tables.append(pd.DataFrame(content))
    return pd.concat(tables)


# --- spectra


def spectra(run: RunFolder) -> pd.DataFrame:
    """Zeros, edges and mean of the spectrum of every load and seed."""
    inputs, tables = run.config.settings.inputs, []
    for index, load in enumerate(run.config.settings.loads):
        values = run.checkpoint(f"load-{index:02d}")["eigenvalues"]
        alive = values > FROZEN * values.amax(dim=1, keepdim=True)
        low, high = theory.edges(load)
        columns = {
            "frozen": inputs - alive.sum(dim=1),
            "smallest": torch.where(alive, values, torch.inf).amin(dim=1),
            "largest": values.amax(dim=1),
            "mean": values.sum(dim=1) / inputs,
        }
        table = _per_seed(run.config.seeds, columns, row=run.config.row, inputs=inputs, load=load)
        gap = theory.gap_at_size(load, inputs) if load != 1 else np.nan
        tables.append(table.assign(lower_edge=low, upper_edge=high, gap_at_size=gap))
    return pd.concat(tables)


def spectrum_density(runs: list[RunFolder]) -> pd.DataFrame:
    """Histograms of the bulk between its edges, all seeds of all runs pooled."""
    tables = []
    for index, load in enumerate(runs[0].config.settings.loads):
        values = torch.cat([run.checkpoint(f"load-{index:02d}")["eigenvalues"] for run in runs]).numpy()
        low, high = theory.edges(load)
        inputs = runs[0].config.settings.inputs
        count, ends = np.histogram(values, np.linspace(0.9 * low, 1.03 * high, DENSITY_BINS + 1))
        density = count / (len(values) * inputs * np.diff(ends))
        tables.append(pd.DataFrame({"load": load, "low": ends[:-1], "high": ends[1:], "density": density}))
    return pd.concat(tables)


# --- random features


def feature_tables(run: RunFolder) -> Iterable[tuple[str, pd.DataFrame]]:
    """Tables of the random-feature students of one run, by name."""
    settings, seeds = run.config.settings, run.config.seeds
    times = time_grid(settings, "cpu").numpy()
    kept = [run.checkpoint(f"seed-{seed:03d}") for seed in seeds]
    for width in settings.widths:
        names = ("error", "residual", "norm", "feature_norm", "eigenvalues")
        each = {name: torch.stack([one[f"{width}.{name}"] for one in kept]).numpy() for name in names}
        constants = {"width": width, "samples": settings.samples}
        yield "widths", _per_seed(seeds, width_columns(width, settings, times, each), **constants)
        yield "width_curves", _long(seeds, {"time": times[::2], "error": each["error"][:, ::2]}, width=width)


def width_columns(width: int, settings: Features, times: Array, each: dict[str, Array]) -> dict[str, ArrayLike]:
    """Each seed's row of the table `widths`, from curves (S, K) and eigenvalues (S, r)."""
    error, values = each["error"], each["eigenvalues"]
    early, final = error.min(axis=1), error[:, -1]
    return {
        "early": early,
        "early_time": times[error.argmin(axis=1)],
        "final": final,
        "over": final - early,
        "gap": final + 1 / settings.snr - each["residual"][:, -1],
        "complexity": each["norm"][:, -1] * each["feature_norm"] / settings.samples**0.5,
        "smallest": np.where(values > FROZEN * values[:, -1:], values, np.inf).min(axis=1),
        "bulk_edge": bulk_edge(width, settings.samples),
    }


def feature_density(runs: list[RunFolder]) -> pd.DataFrame:
    """Histograms of log10 of the eigenvalues at widths closest to P/2, P and 2 P."""
    settings, tables = runs[0].config.settings, []
    for wanted in (settings.samples / 2, settings.samples, 2 * settings.samples):
        width = min(settings.widths, key=lambda one: abs(np.log(one / wanted)))
        names = [(run, f"seed-{seed:03d}") for run in runs for seed in run.config.seeds]
        values = [run.checkpoint(name)[f"{width}.eigenvalues"] for run, name in names]
        logs = np.log10(torch.stack(values).clamp_min(10 ** LOG_BINS[0]).numpy())
        density = np.histogram(logs, LOG_BINS)[0] / logs.size / np.diff(LOG_BINS)
        tables.append(pd.DataFrame({"width": width, "log_value": LOG_BINS[:-1], "density": density}))
    return pd.concat(tables)


# --- digits


def digit_tables(run: RunFolder) -> Iterable[tuple[str, pd.DataFrame]]:
    """Tables of the networks on digits of one run, by name."""
    history = run.history.astype({"seed": int, "width": int, "step": int})
    curves = history[history["kind"] == "curve"].sort_values([*KEYS, "step"])
    end = history[history["kind"] == "end"].set_index(KEYS)
    best = curves.loc[curves.groupby(KEYS)["test_error"].idxmin()].set_index(KEYS)
    last = curves[curves["step"] == curves["step"].max()].set_index(KEYS)
    table = pd.DataFrame(
        {
            "early": best["test_error"],
            "early_step": best["step"],
            "final": last["test_error"],
            "over": last["test_error"] - best["test_error"],
            "train_error": last["train_error"],
            "gap": last["noisy_error"] - last["train_error"],
            "complexity": end["complexity"],
            "complexity_start": end["complexity_start"],
            "early_misread": best["misread"],
            "final_misread": last["misread"],
        }
    )
    yield "digit_ends", table.sort_index().reset_index()
    yield "digit_curves", curves[[*KEYS, "step", "test_error", "train_error"]]
