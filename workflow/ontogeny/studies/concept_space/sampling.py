"""Deterministic sampling, and the ways to ask for a class: plain, exaggerated, or with a shift of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.studies.concept_space.denoiser import Denoiser
from ontogeny.studies.concept_space.diffusion import image_share, noise_share
from ontogeny.studies.concept_space.images import class_means
from ontogeny.studies.concept_space.settings import Concepts, Point

CLASSES = {"00": 0, "01": 1, "10": 2}  # training classes by their name
RED_LARGE, BLUE_LARGE, BLUE_SMALL = 0, 2, 3
PLAYED_DOWN = 0.5  # share of the colour separation that the placebo of the exaggerated prompts asks for


@dataclass(frozen=True)
class Prompt:
    """One way to ask. The fields are columns of the history.

    kind: "00", "01", "10" (training classes), "plain" (blue small), "over", "under" (exaggerated and played-down
    colour), "latent" or "random" (shift along the colour direction, or as far along a random one).
    strength: colour separation asked for (as a share of the true one for "under"), or factor of the shift, else 1.
    batch: which of the noises the images start from.
    """

    kind: str
    strength: float
    batch: int


def prompts(settings: Concepts) -> list[Prompt]:
    """All ways to ask, of every member."""
    plain = [Prompt("plain", 1.0, batch) for batch in range(settings.plain_batches)]
    over = [Prompt("over", separation, 0) for separation in settings.over_prompts]
    under = [Prompt("under", PLAYED_DOWN, 0)] if over else []
    shifts = {"latent": settings.latent_scales, "random": settings.random_scales}
    shifted = [Prompt(kind, scale, 0) for kind, scales in shifts.items() for scale in scales]
    return [*(Prompt(kind, 1.0, 0) for kind in CLASSES), *plain, *over, *under, *shifted]


def asked(prompt: Prompt, point: Point) -> Tensor:
    """The condition (4) that a prompt hands in at a point of the sweep."""
    means = class_means(point)
    if prompt.kind in ("over", "under"):
        separation = prompt.strength if prompt.kind == "over" else prompt.strength * point.colour
        loud = class_means(point.model_copy(update={"colour": separation}))[BLUE_SMALL]
        return torch.cat([loud[:3], means[BLUE_SMALL, 3:]])
    return means[CLASSES.get(prompt.kind, BLUE_SMALL)]


def embeddings(denoiser: Denoiser, flat: Tensor, points: Sequence[Point], ways: Sequence[Prompt], seed: int) -> Tensor:
    """What the network is told for each prompt: (M, prompts, embedding); flat: (M, P), one member a point.

    The colour direction is the embedding of blue large less that of red large, both of them training prompts.
    """
    table = torch.stack([torch.stack([asked(prompt, point) for prompt in ways]) for point in points])
    means = torch.stack([class_means(point) for point in points])
    told = denoiser.embed(flat, torch.cat([table, means], dim=1).to(flat.device))
    told, classes = told[:, : len(ways)], told[:, len(ways) :]
    colour = classes[:, BLUE_LARGE] - classes[:, RED_LARGE]
    aimless = torch.randn(denoiser.embedding, generator=generator(seed, "placebo")).to(flat.device)
    aimless = aimless * (colour.norm(dim=1, keepdim=True) / aimless.norm())
    for index, prompt in enumerate(ways):
        if prompt.kind in ("latent", "random"):
            told[:, index] += prompt.strength * (colour if prompt.kind == "latent" else aimless)
    return told


def sample(denoiser: Denoiser, flat: Tensor, settings: Concepts, start: Tensor, told: Tensor) -> Tensor:
    """Images (M, N, D) from noise `start` (N, D) and embeddings `told` (M, N, E), in deterministic (DDIM) steps.

    From level t to s: z_s = alpha_s x' + sigma_s (z_t - alpha_t x') / sigma_t; the last guess x' is the image.
    """
    low, high = settings.gamma
    gammas = torch.linspace(high, low, settings.sampler_steps + 1).to(flat.device)
    alpha, sigma = image_share(gammas), noise_share(gammas)
    noisy = start.expand(len(flat), -1, -1)
    for level in range(settings.sampler_steps):
        guess = denoiser.guess(flat, noisy, gammas[level], told)
        ratio = sigma[level + 1] / sigma[level]
        noisy = torch.add(noisy * ratio, guess * (alpha[level + 1] - ratio * alpha[level]))
    return denoiser.guess(flat, noisy, gammas[-1], told)
