"""One layer of attention heads for many networks at once, with gradients written out.

The query token is (x_q; 0) and only its prediction is read, so that a head acts through two small circuits:
KQ = K^T Q / sqrt(D), of which the first d columns matter, and OV = O V. With u = KQ x_q and Z = (z_1 ... z_L),

    a_l = u . z_l,   p = softmax(a),   prediction = sum over heads of OV zbar,   zbar = Z p.

Since d p_l / d a_k = p_l (delta_lk - p_k), the gradient of (OV zbar)_n with respect to u is Z (p * v) - (OV zbar)_n
zbar with v = OV_n Z.

A last token entry of 1 makes the sums over tokens also give the sum of p. Axes: S groups (seeds) x N heads (of all
networks of the seed) x B prompts x D token entries x L tokens. Heads come last in what is as large as the attention
weights: a product with the tokens of a prompt is then a product with all heads at once, in the order that the matrix
library does fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

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


def moments(kq: Tensor, ov: Tensor, prompts: Prompts, kernel: Kernel, together: int) -> tuple[Tensor, Tensor]:
    """Sums over the tokens of w (z; 1), (S, B, D + 1, N), and of w v (z; 1), (tasks, S, B, D + 1, N).

    w = exp(a) for softmax attention. The largest logit is not subtracted first: logits stay below 30, and float32
    overflows at 88 (then the loss is not finite, and training stops with a message). Linear attention has w = a in the
    first sum, and 1 in the second, which is then the gradient of the first. `together` seeds are taken at a time.
    """
    s, n, tasks, token = ov.shape
    batch, length = prompts.query.shape[1], prompts.tokens.shape[-1]
    asked = (prompts.query @ kq.permute(0, 3, 2, 1).flatten(2)).view(s, batch, token, n)  # u of every head
    readers = ov.permute(2, 0, 3, 1).contiguous()  # (tasks, S, D, N)
    first, second = asked.new_empty(s, batch, token + 1, n), asked.new_empty(tasks, s, batch, token + 1, n)
    for i in range(0, s, together):
        tokens = prompts.tokens[i : i + together]
        rows, flat = tokens[:, :, :token].mT, tokens.flatten(0, 1)  # (seeds, B, L, D) and (seeds B, D + 1, L)
        weights = torch.bmm(rows.flatten(0, 1), asked[i : i + together].flatten(0, 1))  # logits (seeds B, L, N)
        if kernel.softmax:
            weights.exp_()
        torch.bmm(flat, weights, out=first[i : i + together].flatten(0, 1))
        for task in range(tasks):
            values = torch.bmm(rows.flatten(1, 2), readers[task, i : i + together]).view(-1, length, n)
            if kernel.softmax:
                values.mul_(weights)
            torch.bmm(flat, values, out=second[task, i : i + together].flatten(0, 1))
    return first, second


def loss_gradient(
    kq: Tensor, ov: Tensor, prompts: Prompts, member: Tensor, kernel: Kernel, together: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared error (S, networks) and its gradients with respect to KQ (S, N, D, d) and OV (S, N, tasks, D).

    kq: (S, N, D, d). ov: (S, N, tasks, D). prompts: with axes (S, B). member: (N, networks). together: seeds whose
    attention weights are held at a time.
    """
    token, tasks, batch = ov.shape[3], ov.shape[2], prompts.query.shape[1]
    first, second = moments(kq, ov, prompts, kernel, together)
    sums, slopes = first[:, :, :token], second[..., :token, :]
    if kernel.softmax:
        total = first[:, :, token]  # (S, B, N)
        output = second[..., token, :] / total  # (tasks, S, B, N)
    else:
        total = first.new_tensor(kernel.length)
        output = (sums * ov.permute(2, 0, 3, 1).unsqueeze(2)).sum(3) / total
    residual = linear(output, member.T) - prompts.target.movedim(-1, 0).unsqueeze(-1)  # (tasks, S, B, networks)
    pull = linear(residual, member).mul_(2 / (batch * tasks)).div_(total)
    d_ov = torch.stack([(sums * part.unsqueeze(2)).sum(1) for part in pull], 1)  # (S, tasks, D, N)
    by_asked = slopes[0].mul_(pull[0].unsqueeze(2))
    for slope, part in zip(slopes[1:], pull[1:], strict=True):
        by_asked.addcmul_(slope, part.unsqueeze(2))
    if kernel.softmax:
        by_asked.addcmul_(sums, pull.mul_(output).sum(0).unsqueeze(2), value=-1)
    d_kq = (prompts.query.mT @ by_asked.flatten(2)).unflatten(-1, (token, -1))  # (S, d, D, N)
    return residual.square().mean((0, 2)), d_kq.permute(0, 3, 2, 1), d_ov.permute(0, 3, 1, 2)


def head_outputs(kq: Tensor, ov: Tensor, prompts: Prompts, kernel: Kernel) -> Tensor:
    """What each head adds to the prediction: (S, N, tasks, B). Arguments as in `loss_gradient`."""
    token = ov.shape[3]
    weights = (prompts.query @ kq.flatten(1, 2).mT).unflatten(-1, kq.shape[1:3]) @ prompts.tokens[..., :token, :]
    if kernel.softmax:
        weights.exp_()
    sums = (weights @ prompts.tokens.mT).transpose(1, 2)
    return ov @ sums[..., :token].mT / (sums[..., None, :, token] if kernel.softmax else kernel.length)
