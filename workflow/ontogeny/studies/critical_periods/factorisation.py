"""How gradient flow moves the singular values and vectors of a product of D balanced matrices (Arora et al. 2019).

For a square W = U diag(s) V^T of full rank and the gradient G = dL/dW, with the prime for the time derivative:

    s_r' = -D s_r^(2 - 2/D) u_r^T G v_r                                              (their Theorem 3)
    U'   = -U (F o [U^T G V diag(s) + diag(s) V^T G^T U])                            (their Lemma 2)
    V'   = -V (F o [diag(s) U^T G V + V^T G^T U diag(s)]),   F_ij = 1 / (s_j^(2/D) - s_i^(2/D)),  F_ii = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Gradient = Callable[[Tensor], Tensor]


def velocity(product: Tensor, gradient: Tensor, depth: int) -> Tensor:
    """dW/dt = U' S V^T + U S' V^T + U S V'^T, (M, n, n); product W and gradient G: (M, n, n)."""
    left, s, right_t = torch.linalg.svd(product)
    rows, columns = s[:, :, None], s[:, None, :]
    inner = left.mT @ gradient @ right_t.mT
    inverse = inverse_gaps(s ** (2 / depth))
    turn_left = -inverse * (inner * columns + rows * inner.mT)
    turn_right = -inverse * (rows * inner + inner.mT * columns)
    growth = -depth * s ** (2 - 2 / depth) * inner.diagonal(dim1=1, dim2=2)
    return left @ (turn_left * columns + torch.diag_embed(growth) + rows * turn_right.mT) @ right_t


def inverse_gaps(values: Tensor) -> Tensor:
    """F, (M, n, n): 1 / (values_j - values_i) off the diagonal, 0 on it; values: (M, n)."""
    gaps = values[:, None, :] - values[:, :, None]
    diagonal = torch.eye(values.shape[1], dtype=torch.bool, device=values.device)
    return torch.where(diagonal, 0.0, 1 / torch.where(diagonal, 1.0, gaps))


def runge_kutta_step(product: Tensor, gradient: Gradient, depth: int, step: float) -> Tensor:
    """The product a time `step` later (fourth order); gradient(W) -> dL/dW."""

    def moves(at: Tensor) -> Tensor:
        return velocity(at, gradient(at), depth)

    k1 = moves(product)
    k2 = moves(product + step / 2 * k1)
    k3 = moves(product + step / 2 * k2)
    k4 = moves(product + step * k3)
    return product + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
