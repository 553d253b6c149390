"""Gradient descent on chains of matrices W_D ... W_1, many chains at once.

A linear network sees its task through the error of its product only. With the prefixes P_j = W_j ... W_1 and the signal
G_D = rate x (-dL/dProduct), the step of gradient descent is W_j <- W_j + G_j P_(j-1)^T with G_(j-1) = W_j^T G_j. For
square matrices these are 3 (D - 1) products a step, none of which can be spared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def prefixes(weights: Sequence[Tensor]) -> list[Tensor]:
    """[P_1, ..., P_D]; weights: W_1 ... W_D, each (M, outputs, inputs). P_1 is W_1 itself, P_D is the product."""
    products = [weights[0]]
    for matrix in weights[1:]:
        products.append(torch.bmm(matrix, products[-1]))
    return products


def descend(weights: Sequence[Tensor], products: Sequence[Tensor], signal: Tensor) -> None:
    """One step of gradient descent, in place. signal: G_D, (M, outputs of W_D, inputs of W_1)."""
    for index in range(len(weights) - 1, 0, -1):
        passed = torch.bmm(weights[index].mT, signal)
        weights[index].baddbmm_(signal, products[index - 1].mT)
        signal = passed
    weights[0].add_(signal)
