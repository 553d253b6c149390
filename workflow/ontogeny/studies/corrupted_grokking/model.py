"""The quadratic two-layer network f(m, n) = W (U e_m + V e_n)^2, without biases.

Its three weight matrices have one shape: U[m, k], V[n, k] and W[q, k] (readout, one row an answer) are all p x N. So an
ensemble is one tensor `weights` (M, 3, p, N), and weights[:, :, :, k] is what belongs to neuron k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ontogeny.ensemble import per_member
from ontogeny.randomness import generator

DEAD = 1e-6  # neurons whose norm is below this share of the largest one have no meaningful spectrum
PERIODIC = 0.5  # inverse participation ratio above which a neuron counts as periodic


def initial_weights(seeds: Sequence[int], modulus: int, width: int, device: str) -> Tensor:
    """Weights (M, 3, p, N), normal with standard deviation 0.5 / (2 N)^(1/3), i.e. variance (16 N)^(-2/3)."""
    streams = [generator(seed, "init") for seed in seeds]
    return per_member(streams, (3, modulus, width), device=device) * (0.5 / (2 * width) ** (1 / 3))


def hidden(weights: Tensor, first: slice) -> Tensor:
    """Hidden activations of all pairs whose first operand lies in `first`: (M, rows * p, N)."""
    total = weights[:, 0, first, None] + weights[:, 1, None]
    return total.square_().flatten(1, 2)


def predictions(weights: Tensor, elements: int, constant: Tensor | None = None) -> Tensor:
    """The answer to each of the p^2 pairs, (M, p^2), holding about `elements` activations at a time.

    constant: (M, 1, p), added to the outputs.
    """
    members, _, modulus, width = weights.shape
    if constant is None:
        constant = weights.new_zeros(members, 1, modulus)
    rows = max(1, min(modulus, elements // (modulus * width)))
    block = max(1, elements // (rows * modulus * width))
    return torch.cat([
        torch.cat([
            torch.baddbmm(added, hidden(part, slice(row, row + rows)), part[:, 2].mT).argmax(dim=2)
            for row in range(0, modulus, rows)
        ], dim=1)
        for part, added in zip(weights.split(block), constant.split(block), strict=True)
    ])  # fmt: skip


def participation_ratio(vectors: Tensor, dim: int) -> Tensor:
    """Inverse participation ratio sum a^4 / (sum a^2)^2 of the amplitudes a = |rfft| (constant term included).

    1 for a pure cosine, about 2 over the number of amplitudes for noise, one over it for a one-hot vector.
    """
    power = torch.fft.rfft(vectors, dim=dim).abs().square()
    return power.square().sum(dim=dim) / power.sum(dim=dim).square()


def neuron_ipr(weights: Tensor) -> Tensor:
    """IPR_k, the mean of the ratios of column k of U, V and W: (M, N); nan for dead neurons."""
    norms = weights.square().sum(dim=(1, 2)).sqrt()
    dead = norms <= DEAD * norms.amax(dim=1, keepdim=True)
    return participation_ratio(weights, dim=2).mean(dim=1).masked_fill_(dead, torch.nan)


def measures(weights: Tensor) -> dict[str, Tensor]:
    """What the history tells about the weights, (M,) each: mean IPR, share of periodic neurons, norms."""
    ipr = neuron_ipr(weights)
    alive = (~ipr.isnan()).double()
    periodic = (ipr > PERIODIC).sum(dim=1, dtype=torch.float64) / alive.sum(dim=1)
    return {
        "mean_ipr": ipr.nanmean(dim=1),
        "periodic_share": periodic,
        "dead_share": 1 - alive.mean(dim=1),
        "weight_norm": weights.square().sum(dim=(1, 2, 3)).sqrt(),
    }
