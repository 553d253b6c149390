"""The permuted images of a seed, and the order in which a learner meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ontogeny.randomness import generator

GREY = 1 / 255  # grey values 0..255 become inputs 0..1


@dataclass(frozen=True)
class World:
    """The tasks of several seeds. A task is one permutation of the pixels, the same for all images of a seed."""

    seeds: tuple[int, ...]
    images: Tensor  # (S * T * N, pixels) uint8: training image i of task t of the s-th seed in row (s T + t) N + i
    labels: Tensor  # (S, N) int64, the same for every task
    exam_images: Tensor  # (S, T, n, pixels) uint8
    exam_labels: Tensor  # (S, n) int64

    @property
    def shape(self) -> tuple[int, int, int]:
        """Seeds S, tasks T, training images N."""
        return len(self.seeds), self.exam_images.shape[1], self.labels.shape[1]


def make_world(
    arrays: Mapping[str, np.ndarray], seeds: Sequence[int], tasks: int, train: int, exam: int, device: str, tuning: bool
) -> World:
    """Permute the images that each seed draws from MNIST.

    arrays: those of images.npz. train, exam: numbers of images. tuning: examine on training images that the seed does
    not train on, so that no test image has a say in the choice of a strength.
    """
    pieces = [_seed_world(arrays, seed, tasks, train, exam, tuning) for seed in seeds]
    images, labels, exam_images, exam_labels = (torch.stack(piece).to(device) for piece in zip(*pieces, strict=True))
    return World(tuple(seeds), images.flatten(0, 2), labels, exam_images, exam_labels)


def _seed_world(
    arrays: Mapping[str, np.ndarray], seed: int, tasks: int, train: int, exam: int, tuning: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    order = torch.randperm(len(arrays["train_labels"]), generator=generator(seed, "training images")).numpy()
    chosen, source, rows = order[:train], "train", order[train : train + exam]
    if not tuning:
        source = "test"
        rows = torch.randperm(len(arrays["test_labels"]), generator=generator(seed, "test images")).numpy()[:exam]
    images, exam_images = arrays["train_images"][chosen], arrays[f"{source}_images"][rows]
    pixels = images.shape[1]
    shuffles = [torch.randperm(pixels, generator=generator(seed, "pixels", task)).numpy() for task in range(tasks)]
    return (
        torch.from_numpy(np.stack([np.take(images, shuffle, axis=1) for shuffle in shuffles])),
        torch.from_numpy(arrays["train_labels"][chosen].astype(np.int64)),
        torch.from_numpy(np.stack([np.take(exam_images, shuffle, axis=1) for shuffle in shuffles])),
        torch.from_numpy(arrays[f"{source}_labels"][rows].astype(np.int64)),
    )


@dataclass(frozen=True)
class Lesson:
    """What the members of a batched program meet in one phase, update by update."""

    rows: Tensor  # (updates, M * B) int32, into World.images
    labels: Tensor  # (updates, M, B) int64
    new: Tensor  # (updates, M, B) bool: the example belongs to the task that the phase introduces


def draw_lesson(
    world: World, seeds: Sequence[int], counts: Sequence[np.ndarray], phase: int, newest: Sequence[int], batch: int
) -> Lesson:
    """Order each member's examples of a phase at random.

    seeds, counts, newest: for each member its seed, the number of examples of each task (tasks,), and the task that is
    new to it. An image comes back only when all have been shown; members with the same seed see the same images of a task.
    """
    device = world.images.device
    _, tasks, images = world.shape
    drawn = [_examples(seed, count, phase, images) for seed, count in zip(seeds, counts, strict=True)]
    numbers, task = (torch.stack(part) for part in zip(*drawn, strict=True))  # (M, updates * B)
    seat = torch.tensor([world.seeds.index(seed) for seed in seeds])[:, None]
    labels = world.labels[seat.to(device), numbers.to(device)]
    rows = ((seat * tasks + task) * images + numbers).int()
    new = task == torch.tensor(newest)[:, None]
    by_update = [part.to(device).unflatten(1, (-1, batch)).transpose(0, 1).contiguous() for part in (rows, labels, new)]
    return Lesson(by_update[0].flatten(1), by_update[1], by_update[2])


def _examples(seed: int, count: np.ndarray, phase: int, images: int) -> tuple[Tensor, Tensor]:
    """Image numbers and task numbers of one member's examples of a phase, each (sum of count,)."""
    numbers = []
    for task in np.flatnonzero(count).tolist():
        stream, wanted = generator(seed, "examples", phase, task), int(count[task])
        rounds = [torch.randperm(images, generator=stream) for _ in range(-(-wanted // images))]
        numbers.append(torch.cat(rounds)[:wanted])
    task = torch.repeat_interleave(torch.from_numpy(count))
    shuffle = torch.randperm(len(task), generator=generator(seed, "order", phase))
    return torch.cat(numbers)[shuffle], task[shuffle]
