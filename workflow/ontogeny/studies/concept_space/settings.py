"""What study.yaml may say: types, meanings and domains. Imports no torch: it is read before any job starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ontogeny.settings import Settings

Colour = Annotated[
    float, Field(gt=0, le=0.8, description="d_c; beyond 0.8 the jitter leaves the range 0..1 of a pixel")
]
Size = Annotated[float, Field(gt=0, le=0.4, description="d_s; beyond 0.4 the smallest circles vanish")]
Separation = Annotated[float, Field(gt=0, le=1, description="of channels that range from 0 to 1")]
Factor = Annotated[float, Field(gt=0)]


class Images(Settings):
    """How circles are drawn."""

    pixels: int = Field(ge=8, description="edge of the square image; coordinates run from -1 to 1")
    sharpness: float = Field(gt=0, description="slope of the logistic edge [1 / unit of length]")
    position: float = Field(ge=0, le=0.5, description="largest shift of the centre, either way [unit of length]")
    background: tuple[float, float] = Field(description="range of every channel of the background")

    @model_validator(mode="after")
    def _light_background(self) -> Images:
        low, high = self.background
        if not 0.6 <= low <= high <= 1:
            raise ValueError("background: needs 0.6 <= low <= high <= 1, lighter than any circle's green channel")
        return self


class Mlp(Settings):
    """Residual network on flat images."""

    kind: Literal["mlp"]
    width: int = Field(ge=4, description="hidden units")
    conditioning: int = Field(ge=2, description="hidden units of each of the two conditioning networks")


class UNet(Settings):
    """The paper's network."""

    kind: Literal["unet"]
    channels: list[Annotated[int, Field(ge=8, multiple_of=8)]] = Field(min_length=2, description="channels by level")
    blocks: int = Field(ge=1, description="residual blocks a level")


class Point(Settings):
    """One point of a sweep: how strong the two concepts' signals are, and what training withholds."""

    colour: Colour
    size: Size
    mask: float = Field(ge=0, le=1, description="share of the red small images whose prompt lacks the colour")
    blue: bool = Field(description="whether any blue image is trained on")


class Concepts(Settings):
    """One row of the sweep. Members of its ensemble: its points x the seeds of the run."""

    points: list[Point] = Field(min_length=1)
    images: Images
    denoiser: Annotated[Mlp | UNet, Field(discriminator="kind")]
    images_per_class: int = Field(ge=2)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    averaging: float = Field(ge=0, lt=1, description="decay of the running mean of weights that generates; 0 for none")
    gamma: tuple[float, float] = Field(description="range of gamma = -log(signal to noise ratio)")
    weight_cap: float = Field(gt=0, description="largest weight of the squared error of the image, else exp(-gamma)")
    unnamed: float = Field(ge=0, le=1, description="red, green and blue in a prompt that does not name the colour")
    steps: int = Field(ge=10, description="optimiser steps")
    first_look: int = Field(ge=1, description="steps before the first look at generated images")
    looks: int = Field(ge=5, description="how often images are generated, evenly spaced in the root of the step")
    sampler_steps: int = Field(ge=1, description="denoising steps of the sampler")
    samples: int = Field(ge=2, description="images for each prompt")
    plain_batches: int = Field(ge=1, description="batches for the plain prompt, to match the best of the others")
    over_prompts: list[Separation] = Field(description="colour separations of the exaggerated prompts; may be empty")
    latent_scales: list[Factor] = Field(description="factors of the latent shift; may be empty")
    random_scales: list[Factor] = Field(description="factors of a random shift as long; may be empty")

    @model_validator(mode="after")
    def _consistent(self) -> Concepts:
        if self.gamma[0] >= self.gamma[1]:
            raise ValueError("gamma: the range is empty")
        if self.first_look >= self.steps:
            raise ValueError("first_look: the first look comes after the last step")
        levels = len(self.denoiser.channels) if self.denoiser.kind == "unet" else 1
        if self.images.pixels % 2 ** (levels - 1):
            raise ValueError(f"images.pixels: {levels} levels need a multiple of {2 ** (levels - 1)}")
        if len({(p.colour, p.size, p.mask, p.blue) for p in self.points}) < len(self.points):
            raise ValueError("points: a point is listed twice")
        return self


class DataSettings(Settings):
    """Arguments of `prepare`."""

    renders: int = Field(ge=10, description="true images for each class and point, on which the read-out is checked")


RunSettings = Concepts
