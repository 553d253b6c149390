"""The energy E(w) = |R^T sigma(X w)|^2 / 2 of a hidden node, its maxima by ascent, and their closed form.

A node w = (a, b) has z = a[h1] + b[h2] on the pair (h1, h2) and sigma(z) = z^2; R (M^2, M) is the part of the targets
that is still to be learned: Y, centred, at the beginning, and the residual of the other nodes later.

**Closed form for full tables** (|w| = 1; Theorem 2 of the paper gives the first two lines, in its normalisation E* / 4;
the third line, the single formula and the count of flat directions are derived here).
Summed over the pairs with product g, z^2 gives a constant plus 2 (a * b)(g), with the convolution of the group. So
E = 2 |a * b|^2, without the constant function. In an irreducible representation rho of dimension d the convolution is a
matrix product, and

    |a|^2 = (1 / M) sum_rho d |A_rho|^2,   E = (2 / M) sum_rho d |A_rho B_rho|^2.

The parts compete only through |a|^2 + |b|^2 = 1 while E has degree four, so a maximum lives in one part; there
|A B| <= |A| |B|, with equality for A = u v*, B = v w*, and |A| = |B|. With a real (and then its conjugate for complex
type; and with singular values that come in equal pairs for quaternionic type) this gives

    real type E* = M / (2 d),   complex type E* = M / (4 d),   quaternionic type E* = M / (4 d):   E* = M / (2 d_R)

with the dimension d_R of the real representation. For a cyclic group of odd order all maxima have E* = M / 4.
The unit vectors u, v, w of d_R real coordinates each are free, up to a common unit factor of v (a number of the field
of dimension beta = 1, 2, 4): maxima are manifolds of dimension 3 (d_R - 1) - (beta - 1). For d = 1 and complex type
these are two phases.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ontogeny.studies.feature_emergence.groups import Parts

TOLERANCE = 1e-13  # an ascent has ended when no coordinate moves by more
FLAT = 1e-6  # curvatures below this share of the largest count as zero


def centred_targets(table: Tensor) -> Tensor:
    """One-hot products of all pairs, centred over pairs: (M^2, M), float64."""
    order = len(table)
    return torch.nn.functional.one_hot(table.flatten(), order).double() - 1 / order


def ascend(residual: Tensor, starts: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Normalised gradient ascent, w <- w s + grad E over its norm. Returns w (s, 2 M) and E (s,).

    residual: R (M^2, M). starts: unit vectors (s, 2 M). The shift s = M / 8 keeps the ascent from overshooting.
    """
    shift = residual.shape[1] / 8
    w = starts
    for _ in range(iterations):
        gradient, _ = gradient_and_energy(residual, w)
        moved = torch.nn.functional.normalize(gradient + shift * w, dim=1)
        done = bool((moved - w).abs().max() < TOLERANCE)
        w = moved
        if done:
            break
    return w, gradient_and_energy(residual, w)[1]


def gradient_and_energy(residual: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """dE/dw (s, 2 M) and E (s,) at w (s, 2 M), for all pairs."""
    count, order = len(w), residual.shape[1]
    z = w[:, :order, None] + w[:, None, order:]
    sums = z.square().view(count, -1) @ residual
    back = (sums @ residual.T).view_as(z).mul_(z).mul_(2)
    return torch.cat([back.sum(dim=2), back.sum(dim=1)], dim=1), sums.square().sum(dim=1) / 2


def random_units(count: int, size: int, stream: torch.Generator) -> Tensor:
    """Directions (count, size), uniform on the sphere, float64."""
    return torch.nn.functional.normalize(torch.randn(count, size, generator=stream, dtype=torch.float64), dim=1)


def part_shares(w: Tensor, parts: Parts) -> Tensor:
    """Share of |a|^2 + |b|^2 without the constant functions that lies in each part, (..., P). w: (..., 2, M)."""
    basis, members = torch.from_numpy(parts.basis).to(w), torch.from_numpy(parts.members).to(w)
    power = (w @ basis).square().sum(dim=-2) @ members
    return power / power.sum(dim=-1, keepdim=True).clamp_min(1e-30)


def curvatures(w: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Eigenvalues (2 M - 1,), ascending, of the Hessian of E on the unit sphere at the critical point w (2 M,).

    With q_g = sum of z^2 over the pairs with product g and J = dq / dw, centred over g, the Hessian in the plane is
    J^T J + sum_g q_g d2q_g; on the sphere w . grad E = 4 E is taken off.
    """
    order = len(table)
    z = w[:order, None] + w[None, order:]
    jacobian, sums = np.zeros((order, 2 * order)), np.zeros(order)
    first, second = np.indices((order, order))
    jacobian[table, first] = 2 * z
    jacobian[table, order + second] = 2 * z
    np.add.at(sums, table, z**2)
    jacobian, sums = jacobian - jacobian.mean(axis=0), sums - sums.mean()
    hessian = jacobian.T @ jacobian
    hessian[:order, order:] += 2 * sums[table]
    hessian[order:, :order] += 2 * sums[table].T
    tangent = np.linalg.svd(w[None])[2][1:]
    on_sphere = tangent @ hessian @ tangent.T - 2 * (sums**2).sum() * np.eye(2 * order - 1)
    return np.linalg.eigvalsh(on_sphere)
