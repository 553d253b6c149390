"""Timing of the updates that a laptop run is made of."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ontogeny.bench import BenchCase, Need, product
from ontogeny.studies.power_law_interference.settings import Environments
from ontogeny.studies.power_law_interference.stream import GREY
from ontogeny.studies.power_law_interference.train import CLASSES, Learner, plan_cohorts
from ontogeny.study import plan

PIXELS, LESSON = 196, 100  # pixels of an image; updates after which the benchmark's examples come again


def cases(device: str) -> list[BenchCase]:
    """The first cohorts of two rows: every environment at width 100, and two environments at width 300."""
    return [_case("environments", 100, device), _case("width", 300, device)]


def _case(row: str, width: int, device: str) -> BenchCase:
    run = next(run for run in plan("power_law_interference", "laptop").runs.values() if run.row == row)
    settings = Environments(**{**run.settings, "widths": [width]})
    cohort = next(iter(plan_cohorts(settings, run.seeds, {})))[1][0]
    members, batch = len(cohort.members), settings.batch
    images = torch.randint(0, 256, (settings.tasks * settings.train_images, PIXELS), dtype=torch.uint8, device=device)
    rows = torch.randint(0, len(images), (LESSON, members * batch), device=device, dtype=torch.int32)
    labels = torch.randint(0, CLASSES, (LESSON, members, batch), device=device)
    learner = Learner(cohort, settings, PIXELS, device)
    streams = [torch.Generator(device)] * members  # without dropout nothing is drawn from them

    def batched(steps: int) -> None:
        for step in range(steps):
            learner.update(images, rows[step % LESSON], labels[step % LESSON], streams)

    single = _Single(settings, width, device, images, rows[:, :batch].long(), labels[:, 0])
    steps = settings.tasks * round(settings.updates * (1 + settings.replay_fractions[0]))
    needs = needs_of(settings, width, members, device)
    return BenchCase(f"{row}, width {width}", members, steps, flops(settings, width), batched, single, needs=needs)


def needs_of(settings: Environments, width: int, members: int, device: str) -> list[Need]:
    """The products of an update; moving the parameters of Adam through memory is left out."""
    f32, batch, hidden = torch.float32, settings.batch, settings.hidden_layers - 1
    shapes = [(2, PIXELS, width), (3 * hidden, width, width), (3, width, CLASSES)]
    return [product(calls, (members, batch, inner, columns), f32, device) for calls, inner, columns in shapes if calls]


def flops(settings: Environments, width: int) -> float:
    """Multiplications and additions of one update: forward, and back to weights and to hidden units, not to pixels."""
    first, others = PIXELS * width, (settings.hidden_layers - 1) * width**2 + width * CLASSES
    return 2.0 * settings.batch * (2 * first + 3 * others)


class _Single:
    """One network the plain way: torch's modules, autograd and Adam."""

    def __init__(
        self, settings: Environments, width: int, device: str, images: Tensor, rows: Tensor, labels: Tensor
    ) -> None:
        sizes = [PIXELS, *[width] * settings.hidden_layers]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.network = nn.Sequential(*hidden, nn.Linear(width, CLASSES)).to(device)
        self.adam = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.images, self.rows, self.labels = images, rows, labels

    def __call__(self, steps: int) -> None:
        for step in range(steps):
            rows, labels = self.rows[step % LESSON], self.labels[step % LESSON]
            self.adam.zero_grad()
            nn.functional.cross_entropy(self.network(self.images[rows].float() * GREY), labels).backward()
            self.adam.step()
