"""What the circuits of trained heads look like: numbers per head, and the type of a network."""

from __future__ import annotations

from torch import Tensor

ACTIVE = 0.05  # a head is active if its |mu| is at least this share of the largest in its network


def scale(kq: Tensor) -> Tensor:
    """omega: mean of the diagonal of the covariate block. kq: (..., D, d) -> (...)."""
    return kq.diagonal(dim1=-2, dim2=-1).mean(-1)


def label_weight(ov: Tensor) -> Tensor:
    """mu: last entry of OV. ov: (..., 1, D) -> (...)."""
    return ov[..., 0, -1]


def diagonal_share(kq: Tensor) -> Tensor:
    """S_kq: squared diagonal of the covariate block over all squares. (..., D, d) -> (...)."""
    return kq.diagonal(dim1=-2, dim2=-1).square().sum(-1) / kq.square().sum((-1, -2))


def label_share(ov: Tensor) -> Tensor:
    """S_ov: squared label entry over all squares. (..., 1, D) -> (...)."""
    return ov[..., 0, -1].square() / ov.square().sum((-1, -2))


def cosine(kq: Tensor, pattern: Tensor) -> Tensor:
    """|cosine| between the covariate block, (..., D, d), and a pattern (d, d); heads of either sign count alike."""
    block = kq[..., : pattern.shape[0], :]
    inner = (block * pattern).sum((-1, -2)).abs()
    return inner / block.square().sum((-1, -2)).sqrt() / pattern.square().sum().sqrt()


def active(mu: Tensor) -> Tensor:
    """Which heads of a network are active: bool, like mu (..., H)."""
    size = mu.abs()
    return size >= ACTIVE * size.amax(-1, keepdim=True)


def weighted_mean(values: Tensor, mu: Tensor) -> Tensor:
    """Mean over the active heads with weight |mu|: (..., H) -> (...)."""
    weight = mu.abs() * active(mu)
    return (values * weight).sum(-1) / weight.sum(-1)


def weighted_variation(values: Tensor, mu: Tensor) -> Tensor:
    """Standard deviation over mean, over the active heads with weight |mu|: (..., H) -> (...)."""
    mean = weighted_mean(values, mu)
    return weighted_mean((values - mean.unsqueeze(-1)).square(), mu).sqrt() / mean


def is_split(mu: Tensor) -> Tensor:
    """Whether the active heads of a network have both signs of mu: (..., H) -> bool (...)."""
    lively = active(mu)
    return ((mu > 0) & lively).any(-1) & ((mu < 0) & lively).any(-1)


def positive_part(mu: Tensor) -> Tensor:
    """Sum of the positive mu: (..., H) -> (...)."""
    return mu.clamp(min=0).sum(-1)
