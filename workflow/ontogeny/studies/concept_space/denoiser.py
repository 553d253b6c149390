"""What training and sampling ask of a network."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ontogeny.studies.concept_space.diffusion import Batch
from ontogeny.studies.concept_space.mlp import MlpDenoiser
from ontogeny.studies.concept_space.settings import Concepts, Mlp
from ontogeny.studies.concept_space.unet import UNetDenoiser


class Denoiser(Protocol):
    """A network whose members' parameters are rows of a tensor (M, P)."""

    embedding: int

    def initial(self, stream: torch.Generator, mean: Tensor) -> Tensor:
        """Parameters (M, P) that members with these mean images (M, D) start from."""

    def embed(self, flat: Tensor, condition: Tensor) -> Tensor:
        """Conditions (M, N, 4) as the conditioning networks render them: (M, N, embedding)."""

    def guess(self, flat: Tensor, noisy: Tensor, gamma: Tensor, embedded: Tensor) -> Tensor:
        """The clean images (M, N, D) behind `noisy`, at one gamma ()."""

    def gradient(self, flat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (M) and its gradient (M, P)."""


def build(settings: Concepts) -> Denoiser:
    """The network that a row asks for."""
    pixels, cap = settings.images.pixels, settings.weight_cap
    if isinstance(settings.denoiser, Mlp):
        return MlpDenoiser(settings.denoiser, pixels, cap)
    return UNetDenoiser(settings.denoiser, pixels, cap)
