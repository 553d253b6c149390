"""Diffusion in the variance-preserving form of Kingma et al. 2021: z = alpha x + sigma eps with

    alpha^2 = sigmoid(-gamma),    sigma^2 = sigmoid(gamma),    gamma = -log(signal to noise ratio).

A guess x' of the image implies the noise eps' = (z - alpha x') / sigma, with error (alpha / sigma) (x - x').
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch for M members, each with images (M, B, D) and conditions (M, B, 4); noise (B, D), gamma (B) shared."""

    clean: Tensor
    condition: Tensor
    noise: Tensor
    gamma: Tensor


def image_share(gamma: Tensor) -> Tensor:
    """alpha."""
    return torch.sigmoid(-gamma).sqrt()


def noise_share(gamma: Tensor) -> Tensor:
    """sigma."""
    return torch.sigmoid(gamma).sqrt()


def loss_weight(gamma: Tensor, cap: float) -> Tensor:
    """Weight of |x - x'|^2 in the loss: exp(-gamma) gives |eps - eps'|^2, and min(exp(-gamma), cap) the same with the
    lowest noise levels held back (Hang et al. 2023), where a small network can never be good."""
    return torch.exp(-gamma).clamp(max=cap)
