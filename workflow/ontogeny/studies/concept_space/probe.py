"""Histories -> trajectories, times of arrival, turns; and a check of the read-out on true images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.concept_space import trajectories
from ontogeny.studies.concept_space.images import BLUE, SMALL, conditions, coordinates, render, signal
from ontogeny.studies.concept_space.sampling import prompts
from ontogeny.studies.concept_space.settings import Concepts, Point
from ontogeny.studies.concept_space.train import look_steps

POINT = ["colour", "size", "mask", "blue"]
MEMBER = [*POINT, "seed"]
PROMPT = ["kind", "strength", "batch"]
SHARES = ["blue_share", "small_share", "both_share"]
CORNERS = {"00": (0, 0), "01": (0, 1), "10": (1, 0)}
SATURATED = 0.01  # mean squared distance of the training trajectories from their corners
PICTURES = 10  # looks that the gallery shows


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """The tables `looks`, `arrivals`, `paths`, `readout` and `gallery`."""
    factors = torch.from_numpy(data.arrays("renders.npz")["factors"])
    looks = pd.concat([run.history for run in runs], ignore_index=True)
    looks = looks.sort_values([*MEMBER, *PROMPT, "step"], ignore_index=True)
    members = list(looks.groupby(MEMBER, sort=True))
    points = {tuple(point.model_dump().values()): (point, run) for run in runs for point in run.config.settings.points}
    return {
        "looks": looks[
            [*MEMBER, *PROMPT, "step", "blue_share", "small_share", "both_share", "blue_mean", "small_mean"]
        ],
        "arrivals": pd.DataFrame([row for key, part in members for row in arrivals(key, part)]),
        "paths": pd.DataFrame([path(key, part) for key, part in members]),
        "readout": pd.DataFrame([row for key in sorted(points) for row in readout(factors, *points[key])]),
        "gallery": gallery(runs),
    }


def arrivals(key: tuple[object, ...], looks: pd.DataFrame) -> Iterator[dict[str, object]]:
    """When each way of asking one member succeeds for good.

    kinds beside those of the prompts: "blue" and "small" (concepts shown on the plain prompt), "plain best" and "over
    best" (best of the batches, best of the separations at each look), "saturated" (training prompts at their corners).
    """
    named = dict(zip(MEMBER, key, strict=True)) | {"budget": int(looks["step"].max())}
    asked = looks[~looks["kind"].isin(CORNERS)].groupby(["kind", "strength"])
    shares = {key: part.groupby("step")[SHARES].mean() for key, part in asked}
    curves = {key: part["both_share"] for key, part in shares.items()}
    curves |= {(name, 1.0): shares["plain", 1.0][f"{name}_share"] for name in ("blue", "small")}
    for kind in ("plain", "over"):
        part = looks[looks["kind"] == kind]
        if len(part):
            curves[f"{kind} best", 1.0] = part.groupby("step")["both_share"].max()
    for (name, strength), curve in curves.items():
        time = trajectories.arrival(curve.index.to_numpy(), curve.to_numpy())
        yield {**named, "kind": name, "strength": strength, "time": time}
    yield {**named, "kind": "saturated", "strength": 1.0, "time": saturation(looks)}


def saturation(looks: pd.DataFrame) -> float:
    """The first look at which the training prompts' images lie within SATURATED of their corners; nan if none."""
    training = looks[looks["kind"].isin(CORNERS)]
    corners = np.array([CORNERS[kind] for kind in training["kind"]])
    squares = ((training[["blue_share", "small_share"]] - corners) ** 2).sum(axis=1)
    near = squares.groupby(training["step"]).mean() < SATURATED
    return float(near.index[int(near.to_numpy().argmax())]) if near.any() else np.nan


def path(key: tuple[object, ...], looks: pd.DataFrame) -> dict[str, object]:
    """The course of one member's plain prompt."""
    plain = looks[looks["kind"] == "plain"].groupby("step").mean(numeric_only=True)
    steps, means = plain.index.to_numpy(), plain[["blue_mean", "small_mean"]].to_numpy()
    blue, small = plain["blue_share"], plain["small_share"]
    return {
        **dict(zip(MEMBER, key, strict=True)),
        "turn": int(steps[trajectories.turn(means)]),
        "local_turn": int(steps[trajectories.local_turn(means)]),
        "departure": float(np.nan_to_num(np.abs(trajectories.departure(trajectories.smooth(means)))).max()),
        "area": trajectories.area(means),
        "small_lead": float((small - blue).max()),
        "blue_lead": float((blue - small).max()),
        "small_corner": float(((small > 0.9) & (blue < 0.1)).mean()),
        "blue_corner": float(((blue > 0.9) & (small < 0.1)).mean()),
        "final_blue": float(blue.iloc[-1]),
        "final_small": float(small.iloc[-1]),
    }


def readout(factors: torch.Tensor, point: Point, run: RunFolder) -> Iterator[dict[str, object]]:
    """Accuracy of the read-out on true images (4, N, FACTORS) of a point, by class, and the point's pixel signals."""
    spec = run.config.settings.images
    colour_signal, size_signal = signal(point, spec)
    for index, part in enumerate(factors):
        told = conditions(torch.full((len(part),), index), part, point)
        blue, small = coordinates(render(told, part, spec), point, spec)
        yield {
            **point.model_dump(),
            "class": ("00", "01", "10", "11")[index],
            "blue_accuracy": float(((blue > 0.5) == bool(BLUE[index])).double().mean()),
            "small_accuracy": float(((small > 0.5) == bool(SMALL[index])).double().mean()),
            "colour_signal": colour_signal,
            "size_signal": size_signal,
        }


def gallery(runs: list[RunFolder]) -> pd.DataFrame:
    """A few images of the point with the weakest colour, one noise and one seed, over prompts and steps."""
    run, index = min(((run, i) for run in runs for i in range(len(run.config.settings.points))), key=_rank)
    settings: Concepts = run.config.settings
    images, steps = run.checkpoint("gallery")["images"][:, index], look_steps(settings)
    shown = np.unique(np.linspace(0, len(steps) - 1, PICTURES).round().astype(int))
    tables = [
        pd.DataFrame({"value": images[look, place].numpy()}).assign(
            step=steps[look], kind=prompt.kind, strength=prompt.strength, entry=range(images.shape[2])
        )
        for place, prompt in enumerate(prompts(settings)) if prompt.batch == 0
        for look in shown
    ]  # fmt: skip
    table = pd.concat(tables, ignore_index=True).assign(
        **settings.points[index].model_dump(), pixels=settings.images.pixels
    )
    return table[[*POINT, "pixels", "kind", "strength", "step", "entry", "value"]]


def _rank(place: tuple[RunFolder, int]) -> tuple[bool, float, float, float]:
    """Runs with interventions first, of these the point with blue, without masks, and with the weakest colour."""
    run, index = place
    point = run.config.settings.points[index]
    return (
        not (run.config.settings.over_prompts and run.config.settings.latent_scales),
        not point.blue,
        point.mask,
        point.colour,
    )
