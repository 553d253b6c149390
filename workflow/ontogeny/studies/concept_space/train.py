"""Conditional diffusion models on three of four classes; the networks of a seed at all points of a row side by side."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.concept_space.denoiser import build
from ontogeny.studies.concept_space.diffusion import Batch
from ontogeny.studies.concept_space.images import conditions, coordinates, draw_factors, render
from ontogeny.studies.concept_space.sampling import embeddings, prompts, sample
from ontogeny.studies.concept_space.settings import Concepts, Point

CLASSES, RED_SMALL, BLUE_LARGE = 3, 1, 2  # how many classes are trained on, and two of them
BETAS, EPS = (0.9, 0.999), 1e-8


class TrainingSet:
    """The images and conditions of one seed at every point: (points, 3 * images_per_class, D) and (..., 4)."""

    def __init__(self, settings: Concepts, seed: int, device: str) -> None:
        factors = draw_factors(CLASSES * settings.images_per_class, generator(seed, "images"))
        pairs = [training_images(point, factors, settings) for point in settings.points]
        self.images, self.conditions = (torch.stack(column).to(device) for column in zip(*pairs, strict=True))


def training_images(point: Point, factors: Tensor, settings: Concepts) -> tuple[Tensor, Tensor]:
    """Images (N, D) and conditions (N, 4) of the three classes at one point; factors: (N, FACTORS).

    Without blue, red images of both sizes take the place of the large blue ones. With a mask, the prompts of a share of
    the red small images hold `settings.unnamed` in place of a colour.
    """
    count, place = settings.images_per_class, torch.arange(len(factors))
    classes = place // count
    if not point.blue:
        classes = torch.where(classes == BLUE_LARGE, place % 2, classes)
    told = conditions(classes, factors, point)
    images = render(told, factors, settings.images)
    told[(classes == RED_SMALL) & (place % count < point.mask * count), :3] = settings.unnamed
    return images, told


class Ensemble:
    """The networks of one seed at every point: parameters (points, P), and AdamW in one fused call."""

    def __init__(self, settings: Concepts, seed: int, device: str) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self.denoiser, self.data = build(settings), TrainingSet(settings, seed, device)
        means = self.data.images.mean(dim=1).cpu()
        self.parameters = self.denoiser.initial(generator(seed, "init"), means).to(device)
        self.average = self.parameters.clone()
        self.first, self.second = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.count = torch.zeros((), device=device)
        self.stream = generator(seed, "batches")

    def state(self) -> State:
        """All that changes from step to step."""
        names = ("parameters", "average", "first", "second", "count", "stream")
        return {name: getattr(self, name) for name in names}

    def step(self) -> Tensor:
        """One step of every network; returns the losses before it (points)."""
        settings = self.settings
        loss, grad = self.denoiser.gradient(self.parameters, self._batch())
        adamw(
            [self.parameters], [grad], [self.first], [self.second], [], [self.count], fused=True, amsgrad=False,
            beta1=BETAS[0], beta2=BETAS[1], lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=EPS,
            maximize=False,
        )  # fmt: skip
        self.average.lerp_(self.parameters, 1 - settings.averaging)
        return loss

    def _batch(self) -> Batch:
        """The networks share batch, noise and noise levels, so that they differ by their point alone."""
        images, told, size = self.data.images, self.data.conditions, self.settings.batch_size
        chosen = torch.randint(images.shape[1], (size,), generator=self.stream)
        noise = torch.randn(size, images.shape[2], generator=self.stream)
        low, high = self.settings.gamma
        gamma = low + (high - low) * torch.rand(size, generator=self.stream)
        chosen, noise, gamma = (drawn.to(self.device) for drawn in (chosen, noise, gamma))
        return Batch(images.index_select(1, chosen), told.index_select(1, chosen), noise, gamma)


def look_steps(settings: Concepts) -> list[int]:
    """Numbers of steps done at which images are generated: even in the root of the step, as in the authors' code."""
    roots = np.linspace(settings.first_look**0.5, settings.steps**0.5, settings.looks)
    return sorted(set((roots**2).round().astype(int).tolist()))


class Examiner:
    """Generates images on every prompt and places them in concept space.

    All prompts, steps and networks of a seed start from the same noise.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble, self.settings = ensemble, ensemble.settings
        self.ways, self.steps = prompts(self.settings), look_steps(self.settings)
        size = (self.settings.plain_batches, self.settings.samples, 3 * self.settings.images.pixels**2)
        noises = torch.randn(size, generator=generator(ensemble.seed, "sampling"))
        self.start = torch.cat([noises[prompt.batch] for prompt in self.ways]).to(ensemble.device)
        shown = (len(self.steps), len(self.settings.points), len(self.ways), size[2])
        self.gallery = torch.zeros(shown, dtype=torch.uint8)  # one image for each step, point and prompt

    def look(self, run: Run, step: int) -> None:
        """Generate, log, and keep one image of each prompt."""
        images = self._images()
        self._log(run, step, images)
        self.gallery[self.steps.index(step)] = (images[:, :, 0] * 255).clamp(0, 255).round().byte().cpu()

    def _images(self) -> Tensor:
        """Images (points, prompts, samples, D)."""
        ensemble, settings = self.ensemble, self.settings
        told = embeddings(ensemble.denoiser, ensemble.average, settings.points, self.ways, ensemble.seed)
        told = told.repeat_interleave(settings.samples, dim=1)
        drawn = sample(ensemble.denoiser, ensemble.average, settings, self.start, told)
        return drawn.unflatten(1, (len(self.ways), settings.samples))

    def _log(self, run: Run, step: int, images: Tensor) -> None:
        """One row of the history for each network and prompt: where its images lie in concept space."""
        points, ways = self.settings.points, self.ways
        pairs = [coordinates(part, at, self.settings.images) for part, at in zip(images, points, strict=True)]
        blue, small = (torch.cat(column) for column in zip(*pairs, strict=True))  # (points * prompts, samples)
        is_blue, is_small = blue > 0.5, small > 0.5
        shares = {"blue_share": is_blue, "small_share": is_small, "both_share": is_blue & is_small}
        run.log(
            step=step, seed=self.ensemble.seed,
            **{key: [getattr(at, key) for at in points for _ in ways] for key in Point.model_fields},
            **{key: [asdict(way)[key] for _ in points for way in ways] for key in ("kind", "strength", "batch")},
            **{name: value.float().mean(dim=1) for name, value in shares.items()},
            blue_mean=blue.mean(dim=1), small_mean=small.mean(dim=1),
        )  # fmt: skip


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Train seed after seed, all points of a seed together (so many networks fit into the cache); keep a few images
    of the first seed."""
    galleries = [train_seed(config, run, seed) for seed in config.seeds]
    run.checkpoint("gallery", {"images": galleries[0]})


def train_seed(config: RunConfig, run: Run, seed: int) -> Tensor:
    """Train one seed's networks, look at what they draw at `look_steps`, and return the gallery."""
    ensemble = Ensemble(config.settings, seed, config.device)
    examiner = Examiner(ensemble)
    members = [f"seed {seed}, {point}" for point in config.settings.points]
    state = {**ensemble.state(), "gallery": examiner.gallery}
    for step in run.steps(config.settings.steps, state, phase=f"seed-{seed}"):
        losses = ensemble.step()
        if step + 1 in examiner.steps:
            run.require_finite(step, losses, members)
            examiner.look(run, step + 1)
    return examiner.gallery
