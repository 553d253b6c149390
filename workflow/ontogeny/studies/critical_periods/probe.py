"""Tidy tables from the runs: shares, courses, errors, and what the scalar equations say about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.critical_periods import theory
from ontogeny.studies.critical_periods.chain import prefixes
from ontogeny.studies.critical_periods.gating import deficits_of, pathway_start
from ontogeny.studies.critical_periods.pathways import PATHWAYS, Deficit
from ontogeny.studies.critical_periods.portrait import TRACE_EVERY, portrait_onsets
from ontogeny.studies.critical_periods.settings import Gating, OtherMatrix

Floats = NDArray[np.float64]
Frames = dict[str, list[pd.DataFrame]]
GATED_B = (False, True)
THEORY_POINTS = 31  # onsets of the critical-window curve of the equations


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables; runs of the same experiment are put below each other in the order of the sweep."""
    strengths = data.arrays("task.npz")["strengths"]
    frames: Frames = {}
    for run in runs:
        found = _PROBES[run.config.settings.experiment](run, strengths)
        for name, frame in found.items():
            frames.setdefault(name, []).append(frame)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}


def tidy(values: Floats, **axes: Iterable[object]) -> pd.DataFrame:
    """One row for each element of `values`, with a column for each axis, named and labelled by `axes`, and `value`."""
    index = pd.MultiIndex.from_product(list(axes.values()), names=list(axes))
    return index.to_frame(index=False).assign(value=values.ravel())


# --- one mode, two pathways, no network


def probe_portrait(run: RunFolder, strengths: Floats) -> dict[str, pd.DataFrame]:
    """`portrait_ends` and `portrait_traces`."""
    settings, seeds = run.config.settings, run.config.seeds
    onsets = portrait_onsets(settings)
    timings = {settings.early: "early", settings.late: "late"}
    labels = ["none", *[timings.get(onset, "other") for onset in onsets]]
    ends, traces = [], []
    for depth in settings.depths:
        stored = run.checkpoint(f"depth-{depth:02d}")
        k = stored["ends"].numpy()
        frame = tidy(k[..., 1] / k.sum(-1), number=range(len(labels)), seed=seeds).rename(columns={"value": "share_b"})
        frame["total"] = k.sum(-1).ravel() / settings.strength
        frame["timing"] = [labels[number] for number in frame["number"]]
        frame["onset"] = [[0, *onsets][number] for number in frame["number"]]
        frame["condition"] = np.where(frame["number"] == 0, "none", "gate B")
        ends.append(frame.assign(depth=depth))
        traces.append(_traces(stored["traces"].numpy(), seeds).assign(depth=depth))
    columns = ["depth", "condition", "onset", "timing", "seed", "share_b", "total"]
    return {"portrait_ends": pd.concat(ends)[columns], "portrait_traces": pd.concat(traces)[_TRACE_COLUMNS]}


_TRACE_COLUMNS = ["depth", "timing", "seed", "step", "k_a", "k_b"]


def _traces(k: Floats, seeds: Iterable[int]) -> pd.DataFrame:
    """k: (early and late, steps, seeds, 2)."""
    steps = range(0, k.shape[1] * TRACE_EVERY, TRACE_EVERY)
    frame = tidy(k[..., 0], timing=["early", "late"], step=steps, seed=seeds).rename(columns={"value": "k_a"})
    return frame.assign(k_b=k[..., 1].ravel())


# --- two-pathway networks


def probe_pathways(run: RunFolder, strengths: Floats) -> dict[str, pd.DataFrame]:
    """`pathway_ends`; from aligned starts also what the scalar equations say, and the maps after a lesion."""
    frames: Frames = {}
    aligned = run.config.settings.start == "aligned"
    for number, gating in enumerate(run.config.settings.gatings):
        stored = run.checkpoint(f"gating-{number}")
        course = stored["course"].double().numpy()  # (deficits, measurements, seeds, 2, modes)
        found = {"pathway_ends": pathway_ends(run, gating, course, strengths)}
        if aligned:
            initial = aligned_p(run, gating)
            if gating.purpose == "window":
                found["window_theory"] = window_theory(gating, initial, strengths)
            if gating.shown_onsets:
                found |= against_equations(run, gating, course, initial, strengths)
        if gating.purpose == "lesion":
            found["lesion_maps"] = lesion_maps(stored["maps"][-1].numpy())
        for name, frame in found.items():
            frames.setdefault(name, []).append(frame)
    return {name: pd.concat(parts) for name, parts in frames.items()}


def pathway_ends(run: RunFolder, gating: Gating, course: Floats, strengths: Floats) -> pd.DataFrame:
    """The last measurement of every deficit, seed and mode; course: (deficits, measurements, seeds, 2, modes)."""
    deficits, seeds, modes = deficits_of(gating), run.config.seeds, np.arange(1, len(strengths) + 1)
    end = course[:, -1]
    share = end[:, :, 1] / end.sum(2)
    frame = tidy(share, number=range(len(deficits)), seed=seeds, mode=modes).rename(columns={"value": "share_b"})
    for name, field in (("condition", "name"), ("onset", "onset"), ("duration", "duration")):
        frame[name] = [getattr(deficits[number], field) for number in frame["number"]]
    frame["s"] = strengths[frame["mode"] - 1]
    frame["k_a"], frame["k_b"] = ((end[:, :, path] / strengths).ravel() for path in range(PATHWAYS))
    frame["effect"] = (share[0] - share).ravel()
    frame["lead"] = np.stack(
        [lead(deficit, gating, path, strengths) for deficit, path in zip(deficits, course, strict=True)]
    ).ravel()
    frame["lesioned"] = frame["mode"] == gating.lesioned_mode
    frame = frame.assign(start=run.config.settings.start, purpose=gating.purpose, depth=gating.depth)
    return frame[_END_COLUMNS]


_END_COLUMNS = [
    "start", "purpose", "depth", "condition", "onset", "duration", "seed", "mode", "s", "k_a", "k_b", "share_b",
    "effect", "lead", "lesioned",
]  # fmt: skip


def lead(deficit: Deficit, gating: Gating, course: Floats, strengths: Floats) -> Floats:
    """The lead of pathway A, (seeds, modes), by the trapezoidal rule; course: (measurements, seeds, 2, modes)."""
    first, last = (time // gating.measure_every for time in (deficit.onset, deficit.onset + deficit.duration))
    error = strengths - course[first : last + 1].sum(2)
    integral = np.trapezoid(error, dx=gating.rate * gating.measure_every, axis=0)
    return strengths ** ((gating.depth - 2) / gating.depth) * integral


def aligned_p(run: RunFolder, gating: Gating) -> Floats:
    """Initial p of every mode, (seeds, modes, 2): K = p^D at the start."""
    starts = [pathway_start(seed, run.config.settings, gating.depth) for seed in run.config.seeds]
    products = [prefixes([matrix.double() for matrix in start])[-1] for start in starts]
    k = torch.stack(products).diagonal(dim1=-2, dim2=-1).numpy()  # (seeds, 2, modes)
    return k.swapaxes(1, 2) ** (1 / gating.depth)


def window_theory(gating: Gating, initial: Floats, strengths: Floats) -> pd.DataFrame:
    """Effect of each onset by the equations in continuous time, from the mean initial p; initial: (seeds, modes, 2)."""
    onsets, modes = (
        np.linspace(0, max(gating.onsets), THEORY_POINTS).round().astype(int),
        np.arange(1, len(strengths) + 1),
    )
    when = np.array([0, *onsets])[:, None]
    duration = np.array([0, *[gating.duration] * len(onsets)])[:, None]
    gates = theory.open_gates(gating.epochs, when, duration, GATED_B)
    p = np.broadcast_to(initial.mean(0), (len(when), *initial.shape[1:]))
    k = theory.strength(theory.runge_kutta(p, strengths, gating.depth, 0.0, gates, gating.rate), gating.depth, 0.0)
    share = k[-1, ..., 1] / k[-1].sum(-1)
    frame = tidy(share[0] - share[1:], onset=onsets, mode=modes).rename(columns={"value": "effect"})
    half = (k[:, 0].sum(-1) < strengths / 2).sum(0)
    chosen = frame["mode"] - 1
    return frame.assign(depth=gating.depth, s=strengths[chosen], half_time=half[chosen])[_THEORY_COLUMNS]


_THEORY_COLUMNS = ["depth", "onset", "mode", "s", "effect", "half_time"]


def against_equations(
    run: RunFolder, gating: Gating, course: Floats, initial: Floats, strengths: Floats
) -> dict[str, pd.DataFrame]:
    """`ode_errors` of all seeds and `pathway_curves` of the first, without deficit and with the shown ones."""
    seeds, modes = run.config.seeds, np.arange(1, len(strengths) + 1)
    shown = [-1, *gating.shown_onsets]
    deficits = [0, *[1 + gating.onsets.index(onset) for onset in gating.shown_onsets]]
    measured = course[deficits].transpose(0, 1, 2, 4, 3)  # (shown, measurements, seeds, modes, 2)
    solved = {
        name: solve(solver, gating, shown, initial, strengths)
        for name, solver in (("error", theory.runge_kutta), ("error_released", theory.euler))
    }
    frame = None
    for name, solution in solved.items():
        error = np.abs(measured - solution).max(1) / strengths[:, None]
        table = tidy(error, onset=shown, seed=seeds, mode=modes, pathway=["A", "B"]).rename(columns={"value": name})
        frame = table if frame is None else frame.assign(**{name: table[name]})
    assert frame is not None
    errors = frame.assign(purpose=gating.purpose, depth=gating.depth, rate=gating.rate)[_ERROR_COLUMNS]
    return {"ode_errors": errors, "pathway_curves": _curves(gating, shown, measured, solved["error"])}


_ERROR_COLUMNS = ["purpose", "depth", "rate", "onset", "seed", "mode", "pathway", "error", "error_released"]


def solve(
    solver: Callable[..., Floats], gating: Gating, shown: list[int], initial: Floats, strengths: Floats
) -> Floats:
    """K by the equations at the measurements, (shown, measurements, seeds, modes, 2); onset -1: no deficit.

    A mode that is lesioned from A has p_A = 0 in the equations: A does not contribute, and does not learn.
    """
    onsets = np.array(shown)[:, None, None]
    durations = np.where(onsets < 0, 0, gating.duration)
    gates = theory.open_gates(gating.epochs, onsets, durations, GATED_B)
    p = np.broadcast_to(initial, (len(shown), *initial.shape)).copy()
    if gating.lesioned_mode is not None:
        p[:, :, gating.lesioned_mode - 1, 0] = 0.0
    k = theory.strength(solver(p, strengths, gating.depth, 0.0, gates, gating.rate), gating.depth, 0.0)
    k = k[:: gating.measure_every].swapaxes(0, 1).copy()
    if gating.lesioned_mode is not None:  # the lesioned pathway keeps what it started from
        k[:, :, :, gating.lesioned_mode - 1, 0] = initial[:, gating.lesioned_mode - 1, 0] ** gating.depth
    return k


def _curves(gating: Gating, shown: list[int], measured: Floats, solution: Floats) -> pd.DataFrame:
    """Courses of the first seed; both arrays: (shown, measurements, seeds, modes, 2)."""
    epochs = range(0, gating.epochs + 1, gating.measure_every)
    axes = {"onset": shown, "epoch": epochs, "mode": range(1, measured.shape[3] + 1)}
    frame = tidy(measured[:, :, 0, :, 0], **axes).rename(columns={"value": "k_a"})
    frame["k_b"] = measured[:, :, 0, :, 1].ravel()
    frame["ode_a"], frame["ode_b"] = (solution[:, :, 0, :, path].ravel() for path in range(PATHWAYS))
    return frame.assign(purpose=gating.purpose, depth=gating.depth)[_CURVE_COLUMNS]


_CURVE_COLUMNS = ["purpose", "depth", "onset", "mode", "epoch", "k_a", "k_b", "ode_a", "ode_b"]


def lesion_maps(maps: Floats) -> pd.DataFrame:
    """All elements of K; maps: (2, outputs, inputs)."""
    return tidy(maps, pathway=["A", "B"], row=range(1, maps.shape[1] + 1), column=range(1, maps.shape[2] + 1))


# --- matrix completion


def probe_transfer(run: RunFolder, strengths: Floats) -> dict[str, pd.DataFrame]:
    """`transfer` and `transfer_spectra`."""
    settings, history = run.config.settings, run.history
    ends = history[(history["phase"] == "final") & (history["epoch"] == settings.final_epochs)].copy()
    kinds = _deficit_columns(run)
    for name in kinds.columns:
        ends[name] = kinds[name].to_numpy()[ends["deficit"]]
    baseline = ends[ends["switch"] == 0].set_index(["depth", "deficit", "seed"])["error"]
    keys = pd.MultiIndex.from_frame(ends[["depth", "deficit", "seed"]])
    ends["delta"] = ends["error"].to_numpy() - baseline.loc[keys].to_numpy()
    ends.loc[ends["kind"] == "subset", "deficit_left"] = np.nan  # both tasks have the same matrix
    ends = ends.assign(row=run.config.row)[_TRANSFER_COLUMNS]
    return {"transfer": ends, "transfer_spectra": _transfer_spectra(run, kinds)}


_TRANSFER_COLUMNS = [
    "row", "kind", "level", "final_observed", "depth", "switch", "seed", "error", "delta", "train_loss",
    "deficit_left", "final_found",
]  # fmt: skip


def _deficit_columns(run: RunFolder) -> pd.DataFrame:
    """kind, level and final_observed of the row's deficits, by their number."""
    rows = []
    for deficit in run.config.settings.deficits:
        other = isinstance(deficit, OtherMatrix)
        level = deficit.rank if other else deficit.observed
        final = run.config.settings.observed if other else deficit.final_observed
        rows.append({"kind": deficit.kind, "level": level, "final_observed": final})
    return pd.DataFrame(rows)


def _transfer_spectra(run: RunFolder, kinds: pd.DataFrame) -> pd.DataFrame:
    """Singular values of the first seed through the switch, for the shortest and the longest deficit."""
    settings, frames = run.config.settings, []
    every, count = settings.measure_every, len(settings.deficits)
    for depth in settings.learning_rates:
        before = run.checkpoint(f"spectra-deficit-{depth}")["spectra"].double().numpy()  # (times, deficits, values)
        after = run.checkpoint(f"spectra-final-{depth}")["spectra"].double().numpy()
        for position, switch in ((0, 0), (len(settings.switches) - 1, settings.switches[-1])):
            course = np.concatenate([before[: switch // every], after[:, position * count :][:, :count]])
            times = range(0, switch + settings.final_epochs + 1, every)
            frame = tidy(course, epoch=times, deficit=range(count), index=range(1, course.shape[2] + 1))
            frames.append(frame.join(kinds, on="deficit").assign(row=run.config.row, depth=depth, switch=switch))
    columns = ["row", "kind", "level", "final_observed", "depth", "switch", "epoch", "index", "value"]
    return pd.concat(frames)[columns]


def probe_interruption(run: RunFolder, strengths: Floats) -> dict[str, pd.DataFrame]:
    """`interruption`: errors against those of the networks that were left alone."""
    history = run.history
    alone = history[history["phase"] == "alone"].set_index(["depth", "seed"])["error"]
    ends = history[history["phase"] == "interrupted"].rename(columns={"switch": "onset"}).copy()
    ends["delta"] = ends["error"].to_numpy() - alone.loc[pd.MultiIndex.from_frame(ends[["depth", "seed"]])].to_numpy()
    ends["duration"] = run.config.settings.duration
    return {"interruption": ends[["depth", "onset", "duration", "seed", "error", "delta"]]}


def probe_equations(run: RunFolder, strengths: Floats) -> dict[str, pd.DataFrame]:
    """`equation_errors` and `equation_curves`."""
    settings, stored = run.config.settings, run.checkpoint("values")
    descent, exact = (stored[name].numpy() for name in ("descent", "equations"))  # (measurements, seeds, values)
    difference = np.abs(descent - exact)
    relative, mass = difference / descent, difference / descent[..., :1]
    middle, rows = len(descent) // 2, []
    for phase, part in ((1, slice(1, middle + 1)), (2, slice(middle + 1, None))):
        for position, seed in enumerate(run.config.seeds):
            errors = {
                "median_error": np.median(relative[part, position]),
                "largest_error": relative[part, position].max(),
            }
            rows.append({"seed": seed, "phase": phase, **errors, "mass_error": mass[part, position].max()})
    epochs = range(0, 2 * settings.epochs + 1, settings.measure_every)
    curves = tidy(descent[:, 0], epoch=epochs, index=range(1, settings.followed + 1))
    curves = curves.rename(columns={"value": "descent"}).assign(equations=exact[:, 0].ravel())
    return {"equation_errors": pd.DataFrame(rows), "equation_curves": curves}


_PROBES: dict[str, Callable[[RunFolder, Floats], dict[str, pd.DataFrame]]] = {
    "portrait": probe_portrait,
    "pathways": probe_pathways,
    "transfer": probe_transfer,
    "interruption": probe_interruption,
    "equations": probe_equations,
}
