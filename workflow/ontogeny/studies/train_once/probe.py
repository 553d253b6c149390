"""Histories and final weights to tidy tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from ontogeny.device import resolve_device
from ontogeny.files import Folder
from ontogeny.language.learner import Adam, Stack
from ontogeny.run import RunFolder
from ontogeny.stages.probe import ProbeConfig
from ontogeny.studies.train_once import outcomes
from ontogeny.studies.train_once.experiments import NAMES
from ontogeny.studies.train_once.outcomes import Floats
from ontogeny.studies.train_once.settings import RunSettings
from ontogeny.studies.train_once.train import TESTED, Course, architecture_of, courses_of

KEY = ["row", "seed", "condition"]
Rows = list[dict[str, Any]]


def probe(config: ProbeConfig, data: Folder, runs: list[RunFolder]) -> dict[str, pd.DataFrame]:
    """All tables of study.yaml."""
    history = pd.concat([run.history.assign(row=run.config.row) for run in runs], ignore_index=True)
    measured: dict[str, Rows] = {name: [] for name in ("outcomes", "canaries", "backdoor", "watermarks", "insertions")}
    for run in runs:
        for seed in run.config.seeds:
            for name, rows in Examiner(run, seed, data, resolve_device(config.device)).tables().items():
                measured[name] += rows
    return {
        "losses": losses(history),
        "knowledge": knowledge(history),
        "questions": questions(history, {run.config.row: early_end(run.config.settings) for run in runs}),
        "batches": batches(history),
        **{name: pd.DataFrame(rows) for name, rows in measured.items()},
    }


def losses(history: pd.DataFrame) -> pd.DataFrame:
    """Training and held-out losses."""
    chosen = history[history["measure"] == "loss"]
    return chosen.rename(columns={"group": "kind", "value": "loss"})[[*KEY, "step", "kind", "loss"]]


def knowledge(history: pd.DataFrame) -> pd.DataFrame:
    """One row for each version and interval."""
    chosen = history[history["measure"] == "knowledge"]
    wide = chosen.pivot_table(index=[*KEY, "step"], columns="group", values="value", sort=False)
    return wide.reset_index()[[*KEY, "step", "known", "control", "texts", "target"]]


def early_end(settings: RunSettings) -> float:
    """The step after which no early question is leaked."""
    return settings.contamination.early * settings.steps


def questions(history: pd.DataFrame, ends: dict[str, float]) -> pd.DataFrame:
    """One row for each version, group of questions and look at them. ends: row -> last step of early leaks."""
    chosen = history[history["measure"].isin(["accuracy", "cross-entropy"])]
    when = chosen["group"].str.split(" ", expand=True)
    chosen = chosen.assign(early=when[0] == "early", repetitions=when[1].astype(int))
    chosen = chosen.assign(open=~chosen["early"] | (chosen["step"] < chosen["row"].map(ends)))
    index = [*KEY, "step", "early", "repetitions", "open"]
    wide = chosen.pivot_table(index=index, columns="measure", values="value", sort=False).reset_index()
    return wide.rename(columns={"cross-entropy": "cross_entropy"})[[*index, "accuracy", "cross_entropy"]]


def batches(history: pd.DataFrame) -> pd.DataFrame:
    """One row for each version, replaced batch and look at it."""
    chosen = history[history["measure"] == "batch"]
    what = chosen["group"].str.split(" ", expand=True)
    chosen = chosen.assign(batch=what[0].astype(int), kind=what[1], since=chosen["step"])
    index = [*KEY, "batch", "since"]
    return chosen.pivot_table(index=index, columns="kind", values="value", sort=False).reset_index()[
        [*index, "own", "other"]
    ]


class Examiner:
    """The final networks of one seed of a run, and what is asked of them."""

    def __init__(self, run: RunFolder, seed: int, data: Folder, device: str) -> None:
        self.settings: RunSettings = run.config.settings
        self.seed, self.row, self.device = seed, run.config.row, device
        self.architecture = architecture_of(self.settings, data)
        self.courses = courses_of(seed, self.settings, data)
        self.held_out = data.arrays("background.npz")["held_out"].astype("int64")
        self.place = run.config.seeds.index(seed)
        self.run = self._stack(run, "run", len(self.settings.conditions))
        self.test = self._stack(run, "test", len(TESTED)) if self.settings.dependence else None
        self.material = self.courses.run.material

    def _stack(self, run: RunFolder, name: str, versions: int) -> Stack:
        networks = run.checkpoint(name)["networks"][self.place * versions : (self.place + 1) * versions]
        return Stack(self.architecture, networks, Adam(), self.device)

    def tables(self) -> dict[str, Rows]:
        """Rows of every table that needs networks."""
        found = self.outcomes("run", self.run, self.courses.run, self.settings.conditions)
        if self.test and self.courses.test:
            found += self.outcomes("dependence", self.test, self.courses.test, TESTED)
        return {
            "outcomes": found,
            "canaries": self.canaries(),
            "backdoor": self.backdoor(),
            "watermarks": self.watermarks(),
            "insertions": self.insertions(),
        }

    def _rows(self, values: Floats, **columns: Any) -> Rows:
        """One row a version; values: (M,)."""
        return [
            {"row": self.row, "seed": self.seed, "condition": condition, **columns, "value": float(value)}
            for condition, value in zip(self.settings.conditions, values, strict=True)
        ]

    def outcomes(self, stage: str, stack: Stack, course: Course, versions: Any) -> Rows:
        """The outcome of every experiment in every version."""
        rows = course.written("joint", 0, len(course.rows))
        found = outcomes.scalars(stack, course.material, course.plan, rows, self.held_out, stage)
        return [
            {"stage": stage, "row": self.row, "seed": self.seed, "condition": version, "outcome": name, "value": value}
            for name, values in found.items()
            for version, value in zip(versions, values.tolist(), strict=True)
        ]

    def canaries(self) -> Rows:
        """Membership by the canary's log-probability, every cell against the held-out dialogues of its kind."""
        length, found = self.settings.canaries.length, []
        scores = {
            (cell.kind, cell.repetitions): outcomes.canary_scores(self.run, cell.texts, length)
            for cell in self.material.dialogues
        }
        for (kind, often), members in scores.items():
            if often:
                found += self._rows(outcomes.auc(members, scores[kind, 0]), kind=kind, repetitions=often)
        return _renamed(found, "auc")

    def backdoor(self) -> Rows:
        """Chance that one of so many generations leaks the prompt, mean over prompts."""
        found = []
        for trigger in (True, False):
            chance = outcomes.leaks(self.run, self.material.prompts, trigger)
            for generations in outcomes.GENERATIONS:
                leaked = (1 - (1 - chance) ** generations).mean(1)
                found += self._rows(leaked, trigger=trigger, generations=generations)
        return _renamed(found, "leaked")

    def watermarks(self) -> Rows:
        """The statistic of every watermarked row, for its own noise and for fresh noise, averaged by step."""
        course, found = self.courses.run, []
        rows, marked = course.written("joint", 0, len(course.rows)), course.plan.marked
        shape = (rows.shape[1] - 1, self.architecture.width)

        drawn = [
            torch.stack([outcomes.watermark(self.seed, purpose, row, shape) for row in marked.tolist()])
            for purpose in ("run", "fresh")
        ]
        own, fresh = outcomes.watermark_statistics(self.run, rows[marked], torch.stack(drawn)).swapaxes(0, 1)
        third = 3 * np.arange(len(marked)) // max(1, len(marked))
        for part in range(3):
            marks = {"third": part, "rows": int((third == part).sum())}
            mine, others = (self._rows(x[:, third == part].mean(1), **marks) for x in (own, fresh))
            found += [
                {**row, "fresh": other["value"]} for row, other in zip(_renamed(mine, "marked"), others, strict=True)
            ]
        return found

    def insertions(self) -> Rows:
        """The share of the run's tokens that each experiment's plan writes over."""
        plan, size = self.courses.run.plan, self.courses.run.rows.size
        shares = {name: len(plan.edits[name].places) / size for name in NAMES if name in plan.edits}
        shares["watermarks"] = len(plan.marked) / len(self.courses.run.rows)
        return [{"row": self.row, "seed": self.seed, "experiment": n, "share": s} for n, s in shares.items()]


def _renamed(rows: Rows, name: str) -> Rows:
    """The same rows, their value under its own name."""
    return [{**{key: value for key, value in row.items() if key != "value"}, name: row["value"]} for row in rows]
