"""One layer of attention heads for many networks at once, with gradients written out.

The query token is (x_q; 0) and only its prediction is read, so that a head acts through two small circuits:
KQ = K^T Q / sqrt(D), of which the first d columns matter, and OV = O V. With u = KQ x_q and Z = (z_1 ... z_L),

    a_l = u . z_l,   p = softmax(a),   prediction = sum over heads of OV zbar,   zbar = Z p.

Since d p_l / d a_k = p_l (delta_lk - p_k), the gradient of (OV zbar)_n with respect to u is Z (p * v) - (OV zbar)_n
zbar with v = OV_n Z. The logits a and the values v are one product with Z, and so are Z p and Z (p * v).

A last token entry of 1 makes the second product also sum p. Axes: S groups (seeds) x N heads (of all networks of the
seed) x B prompts x D token entries x L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.studies.icl_regression.prompts import Prompts


@dataclass(frozen=True)
class Shape:
    """Sizes of the heads: D token entries, of which the first d are covariates and the rest labels."""

    covariates: int
    tasks: int

    @property
    def token(self) -> int:
        """D, entries of a token."""
        return self.covariates + self.tasks

    @property
    def matrix(self) -> int:
        """Numbers in each of K, Q, V."""
        return self.token**2

    @property
    def parameters(self) -> int:
        """Numbers of a head: K, Q, V (D x D) and O (tasks x D)."""
        return 3 * self.matrix + self.tasks * self.token

    def unpack(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views K, Q, V (..., D, D) and O (..., tasks, D) of parameters (..., P)."""
        pieces = flat.split([self.matrix] * 3 + [self.tasks * self.token], dim=-1)
        rows = (self.token, self.token, self.token, self.tasks)
        k, q, v, o = (piece.unflatten(-1, (count, self.token)) for piece, count in zip(pieces, rows, strict=True))
        return k, q, v, o


@dataclass(frozen=True)
class Kernel:
    """How logits become attention weights: softmax, or the logit over a fixed length (linear attention)."""

    softmax: bool
    length: int = 1  # what linear attention divides by, whatever the length of the prompt


def initial_head(shape: Shape, heads: int, stream: torch.Generator) -> Tensor:
    """Parameters (heads, P) of one network: uniform in +-1/sqrt(inputs), inputs = D, and D * heads for O."""
    flat = torch.rand(heads, shape.parameters, generator=stream) * 2 - 1
    flat[:, : 3 * shape.matrix] /= shape.token**0.5
    flat[:, 3 * shape.matrix :] /= (shape.token * heads) ** 0.5
    return flat


def circuits(shape: Shape, flat: Tensor) -> tuple[Tensor, Tensor]:
    """KQ[:, :d] (..., D, d) and OV (..., tasks, D) of parameters (..., P)."""
    k, q, v, o = shape.unpack(flat)
    return k.mT @ q[..., : shape.covariates] / shape.token**0.5, o @ v


def parameter_gradient(shape: Shape, flat: Tensor, d_kq: Tensor, d_ov: Tensor) -> Tensor:
    """Chain rule from the circuits to the parameters: (..., P)."""
    k, q, v, o = shape.unpack(flat)
    gradient = torch.zeros_like(flat)  # the last columns of Q meet the zero of the query token
    d_k, d_q, d_v, d_o = shape.unpack(gradient)
    scaled = d_kq / shape.token**0.5
    d_k.copy_(q[..., : shape.covariates] @ scaled.mT)
    d_q[..., : shape.covariates] = k @ scaled
    d_v.copy_(o.mT @ d_ov)
    d_o.copy_(d_ov @ v.mT)
    return gradient


def membership(heads: Sequence[int]) -> Tensor:
    """(N, networks): 1 where a head belongs to a network. heads: number of heads of each network."""
    return torch.block_diag(*[torch.ones(count, 1) for count in heads])


def rows(kq: Tensor, ov: Tensor, query: Tensor) -> Tensor:
    """u = KQ x_q of every head, and below them the rows of every OV: (S, B, N * (1 + tasks), D)."""
    s, n, tasks, token = ov.shape
    read_out = torch.cat([torch.zeros(s, 1, n * token, device=ov.device, dtype=ov.dtype), ov.reshape(s, 1, -1)], 2)
    by_query = torch.nn.functional.pad(kq.flatten(1, 2).mT, (0, n * tasks * token))
    return torch.baddbmm(read_out, query, by_query).unflatten(-1, (n * (1 + tasks), token))


def moments(kq: Tensor, ov: Tensor, prompts: Prompts, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Sums over the tokens of w (z; 1), (S, N, B, D + 1), and of w v (z; 1), (S, N, tasks, B, D + 1).

    w = exp(a) for softmax attention. The largest logit is not subtracted first: logits stay below 30, and float32
    overflows at 88 (then the loss is not finite, and training stops with a message). Linear attention has w = a in the
    first sum, and 1 in the second, which is then the gradient of the first.
    """
    s, n, tasks, token = ov.shape
    batch = prompts.query.shape[1]
    tokens = prompts.tokens.flatten(0, 1)
    products = rows(kq, ov, prompts.query).flatten(0, 1) @ tokens[:, :token]  # logits a, and below them values v
    weights, values = products[:, :n], products[:, n:].unflatten(1, (n, tasks))
    if kernel.softmax:
        weights.exp_()
        values.mul_(weights.unsqueeze(2))
    sums = (products @ tokens.mT).unflatten(0, (s, batch))
    return sums[:, :, :n].transpose(1, 2), sums[:, :, n:].unflatten(2, (n, tasks)).permute(0, 2, 3, 1, 4)


def loss_gradient(
    kq: Tensor, ov: Tensor, prompts: Prompts, member: Tensor, kernel: Kernel
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared error (S, networks) and its gradients with respect to KQ (S, N, D, d) and OV (S, N, tasks, D).

    kq: (S, N, D, d). ov: (S, N, tasks, D). prompts: with axes (S, B). member: (N, networks).
    """
    token, tasks, batch = ov.shape[3], ov.shape[2], prompts.query.shape[1]
    first, second = moments(kq, ov, prompts, kernel)
    total = first[..., None, :, token] if kernel.softmax else torch.full_like(first[..., None, :, 0], kernel.length)
    output = (second[..., token] if kernel.softmax else ov @ first[..., :token].mT) / total  # (S, N, tasks, B)
    residual = (member.T @ output.flatten(2)).unflatten(-1, (tasks, batch)) - prompts.target.mT.unsqueeze(1)
    pull = (member @ residual.flatten(2)).unflatten(-1, (tasks, batch)).div_(total).mul_(2 / (batch * tasks))
    d_ov = pull @ first[..., :token]
    query = prompts.query.mT.unsqueeze(1)  # (S, 1, d, B)
    parts = [(pull[:, :, i : i + 1] * query) @ second[:, :, i, :, :token] for i in range(tasks)]
    d_kq = sum(parts[1:], start=parts[0])
    if kernel.softmax:
        d_kq -= ((pull * output).sum(2, keepdim=True) * query) @ first[..., :token]
    return residual.square().mean((2, 3)), d_kq.mT, d_ov


def head_outputs(kq: Tensor, ov: Tensor, prompts: Prompts, kernel: Kernel) -> Tensor:
    """What each head adds to the prediction: (S, N, tasks, B). Arguments as in `loss_gradient`."""
    token = ov.shape[3]
    weights = (prompts.query @ kq.flatten(1, 2).mT).unflatten(-1, kq.shape[1:3]) @ prompts.tokens[..., :token, :]
    if kernel.softmax:
        weights.exp_()
    sums = (weights @ prompts.tokens.mT).transpose(1, 2)
    return ov @ sums[..., :token].mT / (sums[..., None, :, token] if kernel.softmax else kernel.length)
