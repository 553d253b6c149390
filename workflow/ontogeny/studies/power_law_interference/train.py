"""Learn a stream of permuted-MNIST tasks in several environments, and sit an examination after every task.

Members (environment x seed, or regulariser x strength x seed) that make equally many updates are one tensor program.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from ontogeny.files import Folder
from ontogeny.randomness import generator, stream_seed
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.power_law_interference import environment as env
from ontogeny.studies.power_law_interference.network import Perceptrons, initial_parameters
from ontogeny.studies.power_law_interference.regularisers import Unprotected, make_regulariser
from ontogeny.studies.power_law_interference.settings import Environments, Protocol, Regularisers
from ontogeny.studies.power_law_interference.stream import GREY, Lesson, World, draw_lesson, make_world

CLASSES = 10
TUNING_SEED = 1_000_000  # the strengths are tuned on seeds from here on, which no run reports
EXAM_BLOCK = 250  # images examined at once: their activations stay in the cache


@dataclass(frozen=True)
class Member:
    """One network of a batched program."""

    seed: int
    environment: str  # one of settings.Environment, or "fresh": a new network that meets `only_task` and no other
    method: str = "none"
    strength: float = 0.0
    only_task: int = -1

    def counts(self, phase: int, tasks: int, replay_fraction: float, total: int) -> np.ndarray:
        """Examples of each task in a phase: (tasks,), sums to `total`."""
        if self.environment == "fresh":
            return total * np.eye(tasks, dtype=np.int64)[self.only_task]
        share = env.shares(self.environment, phase, replay_fraction)  # type: ignore[arg-type]
        return np.pad(env.counts(share, total), (0, tasks - phase - 1))

    def newest(self, phase: int) -> int:
        """The task that the phase introduces to this member."""
        return self.only_task if self.environment == "fresh" else phase


@dataclass(frozen=True)
class Cohort:
    """Members that are trained as one program: equal width, equally many updates a phase."""

    members: tuple[Member, ...]
    width: int
    replay_fraction: float
    phases: int
    tuning: bool = False

    @property
    def name(self) -> str:
        """Names the cohort within its run."""
        first, last = self.members[0], self.members[-1]
        kind = f"{first.environment}-{first.method}" + ("-tuning" if self.tuning else "")
        return f"{kind}-w{self.width}-r{self.replay_fraction:g}-s{first.seed}-{last.seed}"


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Log each network's accuracy on every task met so far after each phase, and how fast it learned the new one."""
    arrays, settings = data.arrays("images.npz"), config.settings
    chosen: dict[str, float] = {}
    if isinstance(settings, Regularisers):
        chosen = choose_strengths(settings, arrays, config.device, run)
    for seeds, cohorts in plan_cohorts(settings, config.seeds, chosen):
        world = world_of(settings, arrays, seeds, config.device)
        for cohort in cohorts:
            learn_stream(cohort, world, settings, config.device, run)


def plan_cohorts(
    settings: Protocol, seeds: Sequence[int], chosen: Mapping[str, float]
) -> Iterator[tuple[tuple[int, ...], list[Cohort]]]:
    """Cut the members of a row into cohorts, whole seeds at a time: (seeds, their cohorts).

    chosen: strength of each method (regularisers only).
    """
    arms = [("sequential", method, strength) for method, strength in chosen.items()]
    if isinstance(settings, Environments):
        arms = [(name, "none", 0.0) for name in settings.environments]
    groups = [list(group) for _, group in itertools.groupby(arms, key=lambda arm: arm[1])]  # one method a program
    block = max(1, settings.members_at_once // max(map(len, groups)))
    for first in range(0, len(seeds), block):
        part = tuple(seeds[first : first + block])
        cohorts = [
            Cohort(tuple(Member(seed, *arm) for seed in part for arm in group), width, fraction, settings.tasks)
            for width in settings.widths for fraction in settings.replay_fractions for group in groups
        ]  # fmt: skip
        if isinstance(settings, Environments) and settings.fresh:
            cohorts += [_fresh(settings, seed) for seed in part]
        yield part, cohorts


def _fresh(settings: Environments, seed: int) -> Cohort:
    """A new network for each task: what learning speed would be without any past."""
    members = tuple(Member(seed, "fresh", only_task=task) for task in range(settings.tasks))
    return Cohort(members, settings.widths[0], settings.replay_fractions[0], phases=1)


def choose_strengths(
    settings: Regularisers, arrays: Mapping[str, np.ndarray], device: str, run: Run
) -> dict[str, float]:
    """For each method the strength with the best final average accuracy over the tuning seeds.

    It is judged on training images that were not trained on, under pixel permutations that are not reported.
    """
    seeds = tuple(TUNING_SEED + i for i in range(settings.tuning_seeds))
    world = world_of(settings, arrays, seeds, device, tuning=True)
    chosen: dict[str, float] = {}
    for method, grid in settings.strengths.items():
        members = tuple(Member(seed, "sequential", method, strength) for seed in seeds for strength in grid)
        cohort = Cohort(members, settings.widths[0], settings.replay_fractions[0], settings.tasks, tuning=True)
        final = learn_stream(cohort, world, settings, device, run)
        chosen[method] = grid[int(final.mean(1).view(len(seeds), len(grid)).mean(0).argmax())]
    return chosen


def world_of(
    settings: Protocol, arrays: Mapping[str, np.ndarray], seeds: tuple[int, ...], device: str, tuning: bool = False
) -> World:
    """The tasks of `seeds`, as the row's settings want them."""
    return make_world(arrays, seeds, settings.tasks, settings.train_images, settings.test_images, device, tuning)


class Learner:
    """The networks of a cohort, their optimiser and their regulariser."""

    def __init__(self, cohort: Cohort, settings: Protocol, pixels: int, device: str) -> None:
        sizes = [pixels, *[cohort.width] * settings.hidden_layers, CLASSES]
        drawn = [initial_parameters(sizes, settings.batch_norm, generator(m.seed, "init")) for m in cohort.members]
        self.cohort, self.settings = cohort, settings
        self.network = Perceptrons(drawn, settings.dropout, device)
        self.moments = {name: torch.zeros_like(self.network.flat) for name in ("first", "second")}
        self.count = torch.zeros((), device=device)
        self.regulariser = Unprotected()
        if isinstance(settings, Regularisers):
            strengths = torch.tensor([member.strength for member in cohort.members])
            self.regulariser = make_regulariser(cohort.members[0].method, settings, self.network, strengths)
        shape = (len(cohort.members), settings.batch)
        self._grey = torch.empty(shape[0] * shape[1], pixels, dtype=torch.uint8, device=device)
        self._images = torch.empty(*shape, pixels, device=device)
        self._minus = torch.full((shape[0], 1, shape[1]), -1.0, device=device)

    def state(self) -> State:
        """All that changes from phase to phase."""
        moments = {f"adam.{name}": value for name, value in {**self.moments, "count": self.count}.items()}
        return {"parameters": self.network.flat, **self.network.running, **moments, **self.regulariser.state()}

    def learn(self, phase: int, world: World, lesson: Lesson) -> Tensor:
        """Live through one phase. Returns whether each example was classified rightly when it came, like lesson.new."""
        streams = [self._dropout_stream(member, phase) for member in self.cohort.members]
        right = torch.empty_like(lesson.new)
        self.regulariser.begin_task(phase)
        for update in range(len(lesson.rows)):
            right[update] = self.update(world.images, lesson.rows[update], lesson.labels[update], streams)
        return right

    def update(self, images: Tensor, rows: Tensor, labels: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
        """One step of Adam on a batch per member; returns which examples were classified rightly before it, (M, B)."""
        torch.index_select(images, 0, rows, out=self._grey)
        inputs = self._images.copy_(self._grey.view_as(self._images)).mul_(GREY)
        outputs = self.network.forward(inputs, streams)
        right = answers_right(outputs, labels)
        error = torch.softmax(outputs, 1).scatter_add_(1, labels.unsqueeze(1), self._minus).div_(labels.shape[1])
        self.network.backward(self.regulariser.output_error(inputs, outputs, error))
        self.regulariser.before_update()
        self._step()
        self.regulariser.after_update()
        return right

    def finish(self, world: World, lesson: Lesson) -> None:
        """Let the regulariser take stock of the task that has just been learned."""
        if isinstance(self.settings, Regularisers):
            enough = -(-self.settings.fisher_images // self.settings.batch)
            rows = lesson.rows[:enough].unflatten(1, (len(self.cohort.members), -1)).transpose(0, 1).flatten(1)
            images = world.images[rows[:, : self.settings.fisher_images]]
            self.regulariser.end_task(images.float().mul_(GREY))

    def examine(self, world: World, tasks: Sequence[int]) -> Tensor:
        """Share of right answers of each member on the examination of its task: (M,). tasks: one per member."""
        seat = torch.tensor([world.seeds.index(member.seed) for member in self.cohort.members])
        right = torch.zeros(len(seat), device=self.network.device)
        for start in range(0, world.exam_labels.shape[1], EXAM_BLOCK):
            block = slice(start, start + EXAM_BLOCK)
            outputs = self.network.forward(world.exam_images[seat, torch.tensor(tasks), block].float().mul_(GREY))
            right += answers_right(outputs, world.exam_labels[seat, block]).sum(1)
        return right / world.exam_labels.shape[1]

    def _step(self) -> None:
        """Adam (Kingma & Ba 2015) in one pass over the flat parameters: all members have the same learning rate."""
        adam(
            [self.network.flat], [self.network.flat_grad], [self.moments["first"]], [self.moments["second"]], [],
            [self.count], fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.settings.learning_rate,
            weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip

    def _dropout_stream(self, member: Member, phase: int) -> torch.Generator:
        """On the network's own device: large networks need too many numbers to bring them from elsewhere."""
        key = stream_seed(member.seed, "dropout", member.environment, member.method, member.newest(phase))
        return torch.Generator(self.network.device).manual_seed(key)


def answers_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Whether the label has the largest output: (M, B). outputs: (M, classes, B). Far faster than argmax."""
    return outputs.gather(1, labels.unsqueeze(1)).squeeze(1) >= outputs.amax(1)


def learn_stream(cohort: Cohort, world: World, settings: Protocol, device: str, run: Run) -> Tensor:
    """Take a cohort through all its phases; log as `train` says. Returns the last examinations, (M, tasks)."""
    learner = Learner(cohort, settings, world.images.shape[1], device)
    accuracy = torch.zeros(len(cohort.members), settings.tasks)
    total = round(settings.updates * (1 + cohort.replay_fraction)) * settings.batch
    for phase in run.steps(cohort.phases, {**learner.state(), "accuracy": accuracy}, phase=cohort.name):
        counts = [m.counts(phase, settings.tasks, cohort.replay_fraction, total) for m in cohort.members]
        newest = [member.newest(phase) for member in cohort.members]
        lesson = draw_lesson(world, [m.seed for m in cohort.members], counts, phase, newest, settings.batch)
        right = learner.learn(phase, world, lesson)
        run.require_finite(phase, learner.network.params["bias0"], cohort.members)
        learner.finish(world, lesson)
        speed = trials_to_criterion(right.cpu(), lesson.new.cpu(), settings)
        for tasks in [newest] if cohort.phases == 1 else [[task] * len(newest) for task in range(phase + 1)]:
            accuracy[range(len(tasks)), tasks] = learner.examine(world, tasks).cpu()
            introduced = torch.tensor(tasks) == torch.tensor(newest)
            run.log(
                **_labels(cohort), phase=phase, task=tasks, accuracy=accuracy[range(len(tasks)), tasks],
                trials=torch.where(introduced, speed, torch.nan),
            )  # fmt: skip
    return accuracy


def trials_to_criterion(right: Tensor, new: Tensor, settings: Protocol) -> Tensor:
    """Examples of the new task, in batches, until they are classified at the criterion: (M,).

    right, new: (updates, M, B) bool. Each example is classified when it is met for the first time and before it is
    learned from; the running mean over the last `criterion_window` new examples is held against the criterion. Infinite
    if the phase ends before.
    """
    trials, window = torch.full((new.shape[1],), torch.inf), settings.criterion_window
    for member in range(new.shape[1]):
        total = torch.nn.functional.pad(right[:, member][new[:, member]].float().cumsum(0), (1, 0))
        good = torch.nonzero(total[window:] - total[:-window] >= settings.criterion * window)
        if len(good):
            trials[member] = (int(good[0]) + window) / settings.batch
    return trials


def _labels(cohort: Cohort) -> dict[str, object]:
    """The columns that say which network a row of the history is about."""
    members = cohort.members
    return {
        "environment": [member.environment for member in members],
        "method": [member.method for member in members],
        "strength": [member.strength for member in members],
        "seed": [member.seed for member in members],
        "width": cohort.width,
        "replay_fraction": cohort.replay_fraction,
        "tuning": cohort.tuning,
    }
