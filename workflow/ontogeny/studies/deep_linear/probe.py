"""Tidy tables from the finished runs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ontogeny.files import Folder
from ontogeny.randomness import numpy_generator
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.deep_linear import theory

ROTATIONS = 999  # random rotations that the alignment of the singular vectors is held against
LOG_BINS = np.arange(-18.0, 2.01, 0.1)  # edges, log10 of singular values
PLANE_BINS = np.linspace(-1.55, 1.55, 32)  # edges; width 0.1, one bin centred at the origin
DEPTH_KEYS = ["start", "layers", "seed"]


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables of study.yaml."""
    kinds: dict[str, list[RunFolder]] = {
        kind: [run for run in runs if run.config.settings.experiment == kind]
        for kind in ("tree", "depth", "products", "jacobian", "pretraining")
    }
    moments = data.arrays("mnist.npz")
    scan = rate_scan(kinds["depth"])
    return {
        "mode_times": mode_times(kinds["tree"]),
        "mode_curves": mode_curves(kinds["tree"]),
        "fixed_points": fixed_points(kinds["tree"]),
        "rate_scan": scan,
        "depth_times": depth_times(scan, kinds["depth"]),
        "spectra": spectra([*kinds["products"], *kinds["jacobian"]]),
        "spectrum_histograms": spectrum_histograms(kinds["products"], kinds["jacobian"]),
        "eigenvalue_density": eigenvalue_density(kinds["products"]),
        "pretraining": pretraining(kinds["pretraining"]),
        "pretraining_curves": pretraining_curves(kinds["pretraining"]),
        "alignment": alignment(moments["aligned"]),
        "covariance_blocks": covariance_blocks(moments),
    }


def _joined(frames: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The frames below each other, with these columns only; an empty table if there are none."""
    found = [frame.reindex(columns=columns) for frame in frames if len(frame)]
    if not found:
        return pd.DataFrame({column: pd.Series(dtype=float) for column in columns})
    return pd.concat(found, ignore_index=True)


def _rows(run: RunFolder, kind: str) -> pd.DataFrame:
    """The rows of one kind of a run's history."""
    history = run.history
    return history[history["kind"] == kind]


def mode_times(runs: list[RunFolder]) -> pd.DataFrame:
    """Passage times of the modes against Eq. 12, for networks with a hidden unit for every mode."""
    columns = [
        "row", "network", "hidden", "initial_strength", "seed", "mode", "s", "t10", "t50", "t90", "analytic", "delay",
        "competition", "share", "analytic_share", "r2", "listed",
    ]  # fmt: skip
    complete = [run for run in runs if run.config.settings.hidden >= run.config.settings.items]
    return _joined((_timed_modes(run) for run in complete), columns)


def _timed_modes(run: RunFolder) -> pd.DataFrame:
    modes, settings = _rows(run, "mode"), run.config.settings
    modes = modes.astype({"mode": int, "seed": int})
    s, u0, rate, rank = (modes[name].to_numpy() for name in ("s", "initial_strength", "learning_rate", "mode"))
    half = modes["t50"].clip(upper=settings.iterations)
    analytic = theory.passage_time(0.5, s, u0, rate)
    complete = np.isfinite(modes["t90"])
    return modes.assign(
        row=run.config.row,
        hidden=settings.hidden,
        t50=half,
        analytic=analytic,
        delay=half / analytic - 1,
        competition=theory.competition_delay(rank, settings.hidden, s, u0),
        share=1 - (modes["t10"] / modes["t90"]).where(complete),
        analytic_share=theory.transition_share(s, u0),
        listed=modes["mode"].isin(settings.listed_modes),
    )


def mode_curves(runs: list[RunFolder]) -> pd.DataFrame:
    """Curves of the listed modes of the first member of each row's first run."""
    columns = ["row", "network", "initial_strength", "mode", "iteration", "strength", "analytic"]
    frames = []
    for run in (run for run in runs if run.config.seeds[0] == 0):
        curves = _rows(run, "curve").rename(columns={"step": "iteration"}).astype({"mode": int, "iteration": int})
        u0 = run.config.settings.initial_strengths[0]
        frames.append(curves.assign(row=run.config.row, initial_strength=u0))
    return _joined(frames, columns)


def fixed_points(runs: list[RunFolder]) -> pd.DataFrame:
    """Where undercomplete networks end."""
    small = [run for run in runs if run.config.settings.hidden < run.config.settings.items]
    table = _joined((_rows(run, "member") for run in small), ["seed", "learning_rate", "distance", "drift"])
    return table.astype({"seed": int})


def rate_scan(runs: list[RunFolder]) -> pd.DataFrame:
    """Learning times for all depths, seeds and rates."""
    columns = [*DEPTH_KEYS, "rate_number", "rate", "multiple", "time"]
    table = _joined((_rows(run, "time").assign(start=run.config.settings.start) for run in runs), columns)
    table = table.astype({"layers": int, "seed": int, "rate_number": int})
    return table.sort_values([*DEPTH_KEYS, "rate_number"], ignore_index=True)


def fastest(scan: pd.DataFrame, keys: list[str], most: pd.Series) -> pd.DataFrame:
    """One row per group of `keys`: its fastest network.

    most: iterations that were allowed, by row of `scan`; they stand for the time of groups in which none learned.
    """
    scan = scan.assign(most=most)
    groups = scan.groupby(keys)
    last = groups["rate_number"].transform("max")  # the predicted rate, which is no end of the grid
    grid = scan.loc[scan["rate_number"] < last].groupby(keys)["multiple"].agg(lowest="min", highest="max")
    best = scan.loc[groups["time"].idxmin()].join(grid, on=keys)
    learned = np.isfinite(best["time"])
    edge = (best["multiple"] <= best["lowest"]) | (best["multiple"] >= best["highest"])
    return best.assign(
        time=best["time"].where(learned, best["most"]),
        censored=~learned,
        best_rate=best["rate"].where(learned),
        best_multiple=best["multiple"].where(learned),
        at_edge=learned & edge,
    )


def depth_times(scan: pd.DataFrame, runs: list[RunFolder]) -> pd.DataFrame:
    """The best rate of every depth and seed, and the closed form for decoupled starts."""
    columns = [
        *DEPTH_KEYS, "time", "censored", "best_rate", "best_multiple", "at_edge", "predicted_rate_time", "theory_time",
        "initial_strength",
    ]  # fmt: skip
    if scan.empty:
        return _joined([], columns)
    most = {run.config.settings.start: run.config.settings.iterations for run in runs}
    best = fastest(scan, DEPTH_KEYS, scan["start"].map(most))
    closed = _joined(
        (_closed_forms(run, scan) for run in runs if run.config.settings.start == "decoupled"),
        [*DEPTH_KEYS, "predicted_rate_time", "theory_time", "initial_strength"],
    )
    return best.merge(closed, how="left", on=DEPTH_KEYS)[columns]


def _closed_forms(run: RunFolder, scan: pd.DataFrame) -> pd.DataFrame:
    """Time at the predicted rate, measured and by the integral of Eq. 15, for every depth and seed of a run."""
    settings, tasks = run.config.settings, run.checkpoint("tasks")
    measured = scan.loc[scan.groupby(DEPTH_KEYS)["rate_number"].idxmax()].set_index(DEPTH_KEYS)["time"]
    rows = []
    for seed in run.config.seeds:
        s = tasks[f"s-{seed}"].numpy()
        for layers in settings.layers:
            rate = float(theory.predicted_rate(s[0], layers - 1))
            time = theory.deep_learning_time(s, settings.initial_strength, layers - 1, rate, settings.threshold)
            rows.append((settings.start, layers, seed, measured[settings.start, layers, seed], time))
    table = pd.DataFrame(rows, columns=[*DEPTH_KEYS, "predicted_rate_time", "theory_time"])
    return table.assign(initial_strength=settings.initial_strength)


def spectra(runs: list[RunFolder]) -> pd.DataFrame:
    """Quantiles of singular values, one row per kind and seed."""
    columns = [
        "kind", "factors", "gain", "power", "seed", "q10", "q50", "q90", "log_spread", "kurtosis", "origin_share"
    ]  # fmt: skip
    table = _joined((run.history for run in runs), columns)
    tiny = np.finfo(float).tiny
    spread = np.log10(table["q90"].clip(lower=tiny) / table["q10"].clip(lower=tiny))
    return table.assign(log_spread=spread).astype({"factors": int, "seed": int})


def spectrum_histograms(products: list[RunFolder], jacobians: list[RunFolder]) -> pd.DataFrame:
    """Histograms of log10 singular values, all seeds pooled."""
    pools: dict[tuple[str, int, float, float], list[np.ndarray]] = {}
    for run in products:
        for factors in run.config.settings.factors:
            values = run.checkpoint(f"gaussian-{factors:03d}")["singular"].numpy()
            pools.setdefault(("gaussian", factors, np.nan, np.nan), []).append(values)
    for run in jacobians:
        settings, stored = run.config.settings, run.checkpoint("jacobian")
        pairs = [(gain, power) for gain in settings.gains for power in settings.powers]
        for index, pair in enumerate(pairs):
            pools.setdefault(("tanh", settings.layers - 1, *pair), []).append(stored[f"tanh-{index:03d}"].numpy())
    columns = ["kind", "factors", "gain", "power", "log_value", "share"]
    return _joined(
        (_histogram(dict(zip(columns, key, strict=False)), values) for key, values in pools.items()), columns
    )


def _histogram(labels: dict[str, str | float], values: list[np.ndarray]) -> pd.DataFrame:
    pooled = np.concatenate([value.ravel() for value in values]).astype(float)
    logs = np.log10(np.clip(pooled, 10.0 ** LOG_BINS[0], 10.0 ** (LOG_BINS[-1] - 1e-9)))
    counts, _ = np.histogram(logs, LOG_BINS)
    return pd.DataFrame({"log_value": LOG_BINS[:-1], "share": counts / len(pooled)}).assign(**labels)


def eigenvalue_density(runs: list[RunFolder]) -> pd.DataFrame:
    """Eigenvalues of the Gaussian products in bins of the complex plane, all seeds pooled."""
    centres = (PLANE_BINS[1:] + PLANE_BINS[:-1]) / 2
    real, imaginary = (axis.ravel() for axis in np.meshgrid(centres, centres, indexing="ij"))
    frames = []
    for factors in runs[0].config.settings.factors if runs else []:
        stored = [run.checkpoint(f"gaussian-{factors:03d}") for run in runs]
        x, y = (np.concatenate([each[part].numpy().ravel() for each in stored]) for part in ("real", "imaginary"))
        counts, _, _ = np.histogram2d(x, y, [PLANE_BINS, PLANE_BINS])
        shares = counts.ravel() / len(x)
        frames.append(pd.DataFrame({"factors": factors, "real": real, "imaginary": imaginary, "share": shares}))
    return _joined(frames, ["factors", "real", "imaginary", "share"])


def pretraining(runs: list[RunFolder]) -> pd.DataFrame:
    """The best rate of every task, start and seed."""
    columns = ["task", "start", "seed", "pretraining", "time", "total", "censored", "best_multiple", "at_edge"]
    scan = _joined(
        (_rows(run, "time").assign(most=run.config.settings.iterations) for run in runs),
        ["task", "start", "seed", "rate_number", "rate", "multiple", "time", "pretraining", "most"],
    )
    if scan.empty:
        return _joined([], columns)
    best = fastest(scan, ["task", "start", "seed"], scan["most"]).astype({"seed": int, "pretraining": int})
    return best.assign(total=best["time"] + best["pretraining"])[columns].reset_index(drop=True)


def pretraining_curves(runs: list[RunFolder]) -> pd.DataFrame:
    """Learning curves of the first seed at its best rate, after the iterations of pretraining."""
    frames = []
    for run in (run for run in runs if run.config.seeds[0] == 0):
        curves, times = _rows(run, "curve"), _rows(run, "time")
        for start, scan in times[times["seed"] == 0].groupby("start", sort=True):
            best = scan.iloc[scan["time"].argmin()]
            curve = curves[(curves["start"] == start) & (curves["rate_number"] == best["rate_number"])]
            shifted = (curve["step"] + best["pretraining"]).astype(int)
            frames.append(curve.assign(task=run.config.settings.task, iteration=shifted))
    return _joined(frames, ["task", "start", "iteration", "excess"])


def alignment(aligned: np.ndarray) -> pd.DataFrame:
    """Off-diagonality of V^T Sigma11 V, (k, k), and of the same matrix in random bases of the same subspace."""
    draws = numpy_generator(0, "rotations").standard_normal((ROTATIONS, *aligned.shape))
    rotations, triangles = np.linalg.qr(draws)
    rotations = rotations * np.sign(np.diagonal(triangles, axis1=1, axis2=2))[:, None, :]
    turned = np.swapaxes(rotations, 1, 2) @ aligned @ rotations
    values = np.concatenate([theory.off_diagonality(aligned[None]), theory.off_diagonality(turned)])
    bases = ["singular vectors", *["random rotation"] * ROTATIONS]
    return pd.DataFrame({"basis": bases, "off_diagonality": values})


def covariance_blocks(moments: dict[str, np.ndarray]) -> pd.DataFrame:
    """The two blocks of Fig. 5, each in units of its largest entry."""
    frames = []
    for block in ("pixels", "aligned"):
        values = moments[block] / np.abs(moments[block]).max()
        i, j = (index.ravel() for index in np.indices(values.shape))
        frames.append(pd.DataFrame({"block": block, "i": i, "j": j, "value": values.ravel()}))
    return pd.concat(frames, ignore_index=True)
