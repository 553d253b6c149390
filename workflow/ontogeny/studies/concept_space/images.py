"""Circles of two colours and two sizes: conditions, images, and the read-out of both concepts from an image.

Classes are numbered (colour, size): 0 red large "00", 1 red small "01", 2 blue large "10", 3 blue small "11".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ontogeny.studies.concept_space.settings import Images, Point

FACTORS = 9  # uniform numbers behind an image: jitter of three colours, of the size, x, y, three background channels
MIDDLE_COLOUR, MIDDLE_SIZE = 0.5, 0.45
BLUE, SMALL = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])  # concept values of the classes


def draw_factors(count: int, stream: torch.Generator) -> Tensor:
    """Numbers uniform in [-1, 1] that decide all about an image but its class: (count, FACTORS)."""
    return 2 * torch.rand(count, FACTORS, generator=stream) - 1


def class_means(point: Point) -> Tensor:
    """The conditions (R, G, B, radius) of the four classes, without jitter: (4, 4)."""
    sign = 2.0 * BLUE - 1
    low = torch.full((4,), MIDDLE_COLOUR - point.colour / 2)
    red, blue = (MIDDLE_COLOUR + way * sign * point.colour / 2 for way in (-1, 1))
    return torch.stack([red, low, blue, MIDDLE_SIZE + (0.5 - SMALL) * point.size], dim=1)


def conditions(classes: Tensor, factors: Tensor, point: Point) -> Tensor:
    """Conditions of images: class means with jitter d_c / 8 a channel and 3 d_s / 8 in radius; (N, 4)."""
    spread = torch.tensor([point.colour / 8] * 3 + [3 * point.size / 8])
    return class_means(point)[classes] + spread * factors[:, :4]


def render(condition: Tensor, factors: Tensor, spec: Images) -> Tensor:
    """Images (N, 3 * pixels^2), channel by channel, values in 0..1."""
    centre = spec.position * factors[:, 4:6]
    low, high = spec.background
    behind = (low + (high - low) * (factors[:, 6:9] + 1) / 2).unsqueeze(2)
    axis = (torch.arange(spec.pixels, dtype=condition.dtype) + 0.5) * (2 / spec.pixels) - 1
    across, down = axis - centre[:, :1], axis - centre[:, 1:]
    radius = (across.square().unsqueeze(1) + down.square().unsqueeze(2)).sqrt_().flatten(1)
    mask = torch.sigmoid((condition[:, 3:] - radius) * spec.sharpness).unsqueeze(1)
    return (behind + mask * (condition[:, :3].unsqueeze(2) - behind)).flatten(1)


def read(images: Tensor, colour: float, spec: Images) -> tuple[Tensor, Tensor]:
    """How blue (mean of B - R within) and how large (radius) the circles in `images` (..., 3 * pixels^2) are.

    The green channel is equally dark in red and in blue circles, so that its mean shows the circle's area: it is linear
    in the pixels, and their noise averages out. colour: separation d_c, which fixes how dark green is within a circle.
    """
    pixels = images.unflatten(-1, (3, spec.pixels, spec.pixels))
    edge = torch.cat([pixels[..., 0, :], pixels[..., -1, :], pixels[..., 1:-1, 0], pixels[..., 1:-1, -1]], dim=-1)
    behind, flat = edge.median(dim=-1).values, pixels.flatten(-2)  # (..., 3), (..., 3, pixels^2)
    green = behind[..., 1]
    darkness = (green - (MIDDLE_COLOUR - colour / 2)).clamp_(min=0.05)
    share = (green.unsqueeze(-1) - flat[..., 1, :]) / darkness.unsqueeze(-1)  # of the circle in each pixel
    blur = math.pi**2 / (3 * spec.sharpness**2)  # the logistic edge enlarges the area to pi (radius^2 + blur)
    radius = (share.mean(dim=-1) * (4 / math.pi) - blur).clamp_(min=0).sqrt()
    tint = flat[..., 2, :] - flat[..., 0, :] - (behind[..., 2] - behind[..., 0]).unsqueeze(-1)
    share = share.clamp_(0, 1)
    return (share * tint).sum(dim=-1) / share.sum(dim=-1).clamp_(min=1e-3), radius


def signal(point: Point, spec: Images) -> tuple[float, float]:
    """Mean absolute change of a pixel from red to blue, and from large to small, both in a large or red circle."""
    still = torch.zeros(4, FACTORS)
    means = render(class_means(point), still, spec)
    return float((means[2] - means[0]).abs().mean()), float((means[1] - means[0]).abs().mean())


def coordinates(images: Tensor, point: Point, spec: Images) -> tuple[Tensor, Tensor]:
    """Where images (..., D) lie in concept space: 0 at the mean of red or large circles, 1 at blue or small ones.

    Above 1/2 is blue, or small. Values are cut to 0..1, as the probabilities of a classifier would be.
    """
    blueness, radius = read(images, point.colour, spec)
    large = MIDDLE_SIZE + point.size / 2
    return ((blueness / point.colour + 1) / 2).clamp_(0, 1), ((large - radius) / point.size).clamp_(0, 1)
