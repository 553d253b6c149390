"""The permuted images of a seed, and the order in which a learner meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    drawn = [_draw_images(arrays, seed, train, exam, tuning) for seed in seeds]
    images, labels, exam_images, exam_labels = zip(*drawn, strict=True)
    return World(
        seeds=tuple(seeds),
        images=_permute(images, seeds, tasks).flatten(0, 2).to(device),
        labels=torch.from_numpy(np.stack(labels)).long().to(device),
        exam_images=_permute(exam_images, seeds, tasks).to(device),
        exam_labels=torch.from_numpy(np.stack(exam_labels)).long().to(device),
    )


def _draw_images(
    arrays: Mapping[str, np.ndarray], seed: int, train: int, exam: int, tuning: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, examination images and labels of a seed, the pixels in their own order."""
    order = torch.randperm(len(arrays["train_labels"]), generator=generator(seed, "training images")).numpy()
    source, rows = "train", order[train : train + exam]
    if not tuning:
        source = "test"
        rows = torch.randperm(len(arrays["test_labels"]), generator=generator(seed, "test images")).numpy()[:exam]
    chosen = order[:train]
    return (
        arrays["train_images"][chosen],
        arrays["train_labels"][chosen],
        arrays[f"{source}_images"][rows],
        arrays[f"{source}_labels"][rows],
    )


def _permute(images: Sequence[np.ndarray], seeds: Sequence[int], tasks: int) -> Tensor:
    """Permute the pixels of each seed's images (n, pixels) once for each task: (S, T, n, pixels)."""
    permuted = np.empty((len(seeds), tasks, *images[0].shape), np.uint8)
    for s, seed in enumerate(seeds):
        for task in range(tasks):
            shuffle = torch.randperm(images[s].shape[1], generator=generator(seed, "pixels", task)).numpy()
            np.take(images[s], shuffle, axis=1, out=permuted[s, task], mode="clip")  # this mode needs no second copy
    return torch.from_numpy(permuted)


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
    new to it. An image comes back only when all have been shown; members of one seed see the same images of a task.
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
    wanted = [(task, int(count[task])) for task in np.flatnonzero(count).tolist()]
    numbers = [_image_order(seed, phase, task, images, -(-number // images))[:number] for task, number in wanted]
    tasks = torch.repeat_interleave(torch.from_numpy(count))
    shuffle = torch.randperm(len(tasks), generator=generator(seed, "order", phase))
    return torch.cat(numbers)[shuffle], tasks[shuffle]


@lru_cache(maxsize=32)  # the members of a seed share it
def _image_order(seed: int, phase: int, task: int, images: int, rounds: int) -> Tensor:
    stream = generator(seed, "examples", phase, task)
    return torch.cat([torch.randperm(images, generator=stream) for _ in range(rounds)])
