"""Base, the run with all experiments and runs with one, from the same start and on the same batches; then the
dependence test, which goes on from a checkpoint of Base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ontogeny.errors import ConfigError
from ontogeny.files import Folder
from ontogeny.language.learner import Adam, Stack
from ontogeny.language.llama import Architecture, initial
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.train_once import outcomes
from ontogeny.studies.train_once.controller import Controller
from ontogeny.studies.train_once.data import open_language
from ontogeny.studies.train_once.experiments import NAMES, TWIN, Material, Plan, dependence_plan, joint_plan
from ontogeny.studies.train_once.insertion import Edits, Ints
from ontogeny.studies.train_once.settings import RunSettings

OFFSETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 96)  # steps since a whole batch was replaced, at which it is examined
COMPARED = 16  # held-out rows that its loss is compared with
TESTED = ("none", *NAMES, TWIN, "joint")  # versions of the dependence test
SEVERAL: dict[str, tuple[str, ...]] = {"none": (), "base": (), "shuffled": (), "joint": NAMES}


def experiments_of(condition: str) -> tuple[str, ...]:
    """The experiments that a version of the run has."""
    return SEVERAL.get(condition, (condition,))


@dataclass(frozen=True, eq=False)
class Course:
    """The rows of one seed: what it is trained on, in order, and the plan of what is written over them."""

    material: Material
    plan: Plan
    rows: Ints  # (steps * batch, T), Base's

    def written(self, condition: str, first: int, last: int) -> Ints:
        """Rows first to last - 1 of a version of the run, without what a controller inserts."""
        rows = self.rows[first:last].copy()
        for name in experiments_of(condition):
            if name in self.plan.edits:
                self.plan.edits[name].apply(rows, first)
        return rows


@dataclass(frozen=True, eq=False)
class Courses:
    """The courses of a seed: of the whole run, in another order, and of the dependence test."""

    run: Course
    shuffled: Ints
    test: Course | None


def courses_of(seed: int, settings: RunSettings, data: Folder) -> Courses:
    """Rows in the seed's own order, plans, texts and questions. Raises ConfigError if there are too few rows."""
    background = data.arrays("background.npz")["train"].astype("int64")
    order = torch.randperm(len(background), generator=generator(seed, "order")).numpy()
    test = settings.dependence
    sizes = [settings.steps, test.steps if test else 0]
    lengths = [size * settings.batch for size in sizes]
    spare = [spare_rows(settings, size) for size in sizes]
    if (needed := sum(lengths) + sum(spare)) > len(background):
        raise ConfigError(
            f"train_once: a seed needs {needed} rows to see each at most once, and data.rows is {len(background)}."
        )
    parts = np.split(background[order], np.cumsum([lengths[0], spare[0], lengths[1], spare[1]]))
    material = Material(seed, settings, *open_language(data))
    run = Course(material, joint_plan(material, parts[1]), parts[0])
    again = torch.randperm(len(parts[0]), generator=generator(seed, "other order")).numpy()
    tested = Course(material, dependence_plan(material, parts[3]), parts[2]) if test else None
    return Courses(run, parts[0][again], tested)


def spare_rows(settings: RunSettings, steps: int) -> int:
    """Rows that stand in for others: whole batches and i.i.d. ones."""
    return settings.batch * (len(settings.batches) + round(settings.iid * steps)) if steps else 0


class Versions:
    """All versions of a run for all its seeds, as one stack. Members: seeds x conditions."""

    def __init__(self, settings: RunSettings, seeds: Sequence[int], data: Folder, device: str) -> None:
        self.settings, self.seeds = settings, seeds
        self.members = [(seed, condition) for seed in seeds for condition in settings.conditions]
        self.courses = {seed: courses_of(seed, settings, data) for seed in seeds}
        self.held_out = data.arrays("background.npz")["held_out"].astype("int64")
        self.architecture = architecture_of(settings, data)
        drawn = {seed: initial(self.architecture, generator(seed, "initial")) for seed in seeds}
        networks = torch.stack([drawn[seed] for seed, _ in self.members])
        self.stack = Stack(self.architecture, networks, Adam(), device)
        doses = settings.knowledge
        self.controller = Controller(doses.target, doses.most)
        self.texts = torch.full((len(self.members),), doses.start)
        self.block: Tensor | None = None
        base = [place for place, member in enumerate(self.members) if member[1] == "base"]
        self.base = torch.tensor(base, dtype=torch.int64)
        self.middle = {name: torch.zeros_like(value[self.base]) if value.dim() else value.clone()
                       for name, value in self.stack.state().items()}  # fmt: skip

    def state(self) -> State:
        """All that changes from step to step, and Base as it was where the dependence test starts."""
        kept = {f"middle.{name}": value for name, value in self.middle.items()}
        return {**self.stack.state(), **kept, "texts": self.texts}

    def keep_base(self) -> None:
        """Remember Base's weights and moments."""
        for name, value in self.stack.state().items():
            self.middle[name].copy_(value[self.base] if value.dim() else value)

    # what is trained on

    def tokens(self, step: int) -> Tensor:
        """The batches (M, B, T) of one step. The texts of an interval are written when its first step is asked for."""
        interval, batch = self.settings.knowledge.interval, self.settings.batch
        begin = step - step % interval
        if self.block is None or step == begin:
            last = min(begin + interval, self.settings.steps)
            parts = [self._rows(place, begin * batch, last * batch) for place in range(len(self.members))]
            self.block = torch.from_numpy(np.stack(parts))
        return self.block[:, (step - begin) * batch : (step - begin + 1) * batch]

    def _rows(self, place: int, first: int, last: int) -> Ints:
        seed, condition = self.members[place]
        courses = self.courses[seed]
        if condition == "shuffled":
            return courses.shuffled[first:last]
        rows = courses.run.written(condition, first, last)
        if "knowledge" in experiments_of(condition):
            self.taught(seed, first, last, int(self.texts[place])).apply(rows, 0)
        return rows

    def taught(self, seed: int, first: int, last: int, count: int) -> Edits:
        """The first `count` of an interval's texts, at places that are free in the plan."""
        course = self.courses[seed].run
        stream = course.material.stream("taught", first)
        texts = course.material.taught(self.settings.knowledge.most, stream)[:count]
        return course.plan.map.part(first, last).scatter(texts, stream)

    def noise(self, step: int) -> Tensor | None:
        """Watermarks of one step."""
        plans = [
            self.courses[seed].run.plan if "watermarks" in experiments_of(condition) else None
            for seed, condition in self.members
        ]
        return watermarks(self.stack, self.settings, [seed for seed, _ in self.members], plans, "run", step)

    def step(self, step: int) -> Tensor:
        """One step of training; returns the losses before it, (M,)."""
        if step % self.settings.knowledge.interval == 0 and step and self.settings.knowledge.controlled:
            self.control(step)
        loss = self.stack.learn(self.tokens(step), learning_rate(self.settings, step), noise=self.noise(step))
        if self.settings.dependence and step + 1 == self.settings.dependence.start:
            self.keep_base()
        return loss

    def control(self, step: int) -> None:
        """The controller's decision for every version that it has a hand in."""
        target = self.controller.target(step, self.settings.steps)
        for seed, places, learner in self.by_seed():
            value = outcomes.probability(learner, self.courses[seed].run.material.answers)
            for place, own in zip(places, value.tolist(), strict=True):
                if "knowledge" in experiments_of(self.members[place][1]):
                    self.texts[place] = self.controller.decide(int(self.texts[place]), own, target)

    # what is measured on the way

    def by_seed(self) -> Iterator[tuple[int, list[int], Stack]]:
        """Each seed, the places of its versions, and a stack of them."""
        for seed in self.seeds:
            places = [place for place, member in enumerate(self.members) if member[0] == seed]
            yield seed, places, Stack(self.architecture, self.stack.networks[places], Adam(), self.stack.device)

    def knowledge(self, run: Run, step: int) -> None:
        """Log answers' probabilities and, for the interval that ends here, the texts that were inserted."""
        target = self.controller.target(step, self.settings.steps)
        for seed, places, learner in self.by_seed():
            material = self.courses[seed].run.material
            measured = {
                "known": outcomes.probability(learner, material.answers),
                "control": outcomes.probability(learner, material.control_answers),
                "texts": self.texts[places].double().numpy(),
                "target": np.full(len(places), target),
            }
            self.log(run, step, seed, places, "knowledge", measured)

    def examine(self, run: Run, step: int) -> None:
        """Log held-out losses, and accuracy and cross-entropy of every group of questions."""
        for seed, places, learner in self.by_seed():
            self.log(run, step, seed, places, "loss", {"held out": outcomes.row_losses(learner, self.held_out).mean(1)})
            for leak in self.courses[seed].run.material.leaks:
                right, loss = outcomes.examination(learner, leak.questions)
                when = f"{'early' if leak.early else 'spread'} {leak.repetitions}"
                self.log(run, step, seed, places, "accuracy", {when: right.mean(1)})
                self.log(run, step, seed, places, "cross-entropy", {when: loss.mean(1)})

    def watch_batches(self, run: Run, step: int) -> None:
        """Log the loss of a replaced batch some steps after it, and of rows that nobody sees. step: steps done."""
        last = step == self.settings.steps
        for number, share in enumerate(self.settings.batches):
            own = int(share * self.settings.steps)
            if step - own not in OFFSETS and not (last and step > own):
                continue
            for seed, places, learner in self.by_seed():
                course = self.courses[seed].run
                first = own * self.settings.batch
                rows = course.written("batches", first, first + self.settings.batch)
                measured = {
                    f"{number} own": outcomes.row_losses(learner, rows).mean(1),
                    f"{number} other": outcomes.row_losses(learner, self.held_out[:COMPARED]).mean(1),
                }
                self.log(run, step - own if not last else -1, seed, places, "batch", measured)

    def log(
        self, run: Run, step: int, seed: int, places: list[int], measure: str, values: dict[str, np.ndarray]
    ) -> None:
        """Log values (M,) by group, for the versions of one seed."""
        conditions = [self.members[place][1] for place in places]
        for group, value in values.items():
            run.log(step=step, seed=seed, condition=conditions, measure=measure, group=group, value=value.tolist())


def architecture_of(settings: RunSettings, data: Folder) -> Architecture:
    """The model of a row, for the prepared language."""
    _, vocabulary = open_language(data)
    length = data.arrays("background.npz")["held_out"].shape[1]
    return Architecture(len(vocabulary), settings.width, settings.layers, settings.heads, settings.hidden, length)


def learning_rate(settings: RunSettings, step: int) -> float:
    """Grows over the warm-up, is constant, and falls linearly to zero at the end. step: steps done before this one."""
    rise = (step + 1) / max(1, settings.warm_up)
    fall = (settings.steps - step) / max(1, settings.decay)
    return settings.learning_rate * min(1.0, rise, fall)


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Train all versions; keep their final weights, and those of the dependence test."""
    settings: RunSettings = config.settings
    versions = Versions(settings, config.seeds, data, config.device)
    for step in run.steps(settings.steps, versions.state(), phase="run"):
        if step == 0:
            versions.examine(run, 0)
            versions.watch_batches(run, 0)
        loss = versions.step(step)
        done = step + 1
        if step % 10 == 0:
            run.require_finite(step, loss, versions.members)
            for seed, places, _ in versions.by_seed():
                versions.log(run, step, seed, places, "loss", {"training": loss[places].double().numpy()})
        if done % settings.knowledge.interval == 0:
            versions.knowledge(run, done)
        if done % settings.examine == 0:
            versions.examine(run, done)
        versions.watch_batches(run, done)
    run.checkpoint("run", {"networks": versions.stack.networks})
    if settings.dependence:
        run.checkpoint("test", {"networks": dependence_test(versions, run)})


def watermarks(
    stack: Stack, settings: RunSettings, seeds: Sequence[int], plans: Sequence[Plan | None], purpose: str, step: int
) -> Tensor | None:
    """Noise (M, B, T - 1, d) on the input embeddings of one step, None if no row has a watermark.

    seeds, plans: one a member; None for a member without watermarks.
    """
    first, found = step * settings.batch, None
    shape = (stack.architecture.context - 1, stack.architecture.width)
    for place, (seed, plan) in enumerate(zip(seeds, plans, strict=True)):
        marked = plan.marked if plan else np.empty(0, dtype=np.int64)
        for row in marked[(marked >= first) & (marked < first + settings.batch)].tolist():
            if found is None:
                found = torch.zeros(len(seeds), settings.batch, *shape)
            scale = settings.noise * stack.weights["embed"][place].square().mean().sqrt().cpu()
            found[place, row - first] = scale * outcomes.watermark(seed, purpose, row, shape)
    return None if found is None else found.to(stack.device)


def dependence_test(versions: Versions, run: Run) -> Tensor:
    """Networks (seeds x TESTED, P) after a brief training on each experiment, on all, and on none."""
    settings, seeds, test = versions.settings, versions.seeds, versions.settings.dependence
    assert test is not None
    each = torch.arange(len(seeds)).repeat_interleave(len(TESTED))
    stack = Stack(versions.architecture, versions.middle["networks"][each], Adam(), versions.stack.device)
    for name, value in stack.state().items():
        kept = versions.middle[name]
        value.copy_(kept[each] if kept.dim() else kept)
    members = [(seed, condition) for seed in seeds for condition in TESTED]
    courses = [versions.courses[seed].test for seed, _ in members]
    plans = [
        c.plan if c and "watermarks" in experiments_of(m[1]) else None for c, m in zip(courses, members, strict=True)
    ]
    rows = np.stack([c.written(m[1], 0, len(c.rows)) for c, m in zip(courses, members, strict=True) if c])
    tokens = torch.from_numpy(rows).unflatten(1, (test.steps, settings.batch))
    for step in run.steps(test.steps, {**stack.state()}, phase="dependence"):
        noise = watermarks(stack, settings, [seed for seed, _ in members], plans, "dependence", step)
        loss = stack.learn(tokens[:, step], settings.learning_rate, noise=noise)
        run.require_finite(step, loss, members)
    return stack.networks
