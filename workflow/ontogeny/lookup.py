"""Rows of U[m] + V[n] for many examples, and the transposed operation, as sums of table rows.

`embedding_bag` does either in one pass over the memory, and adds in a fixed order on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Lookup:
    """The same number B of examples, each a pair of operands (m, n) out of p, for each of r members.

    Tables of a member: one array (tables * p, N) that begins with the p rows of U and the p rows of V.
    rows, first_row: table rows that each example adds up. uses, first_use: examples that each row of U and V is in.
    Both are pairs of indices and offsets, as embedding_bag takes them.
    """

    members: int
    rows: Tensor
    first_row: Tensor
    uses: Tensor
    first_use: Tensor

    @classmethod
    def of(cls, pairs: Tensor, modulus: int, tables: int, device: str) -> Lookup:
        """pairs: (r, B), the number m * p + n of each example. tables: how many p x N tables a member has."""
        members, size = pairs.shape
        operands = torch.stack([pairs // modulus, modulus + pairs % modulus], dim=2)
        base = torch.arange(members)[:, None, None]
        operand, use = (operands + base * 2 * modulus).flatten().sort(stable=True)
        counts = torch.bincount(operand, minlength=members * 2 * modulus)
        first_use = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        rows, first_row = (operands + base * tables * modulus).flatten(), torch.arange(0, 2 * members * size + 1, 2)
        return cls(members, *(part.to(device) for part in (rows, first_row, use // 2, first_use)))

    def gather(self, tables: Tensor) -> Tensor:
        """U[m] + V[n] of every example, (r, B, N), from contiguous tables (r, ..., N)."""
        width = tables.shape[-1]
        return _sums(tables.view(-1, width), self.rows, self.first_row).view(self.members, -1, width)

    def scatter(self, examples: Tensor) -> Tensor:
        """Sums of the examples (r, B, N) over what shares an operand: (r, 2, p, N), for U and for V."""
        width = examples.shape[-1]
        return _sums(examples.view(-1, width), self.uses, self.first_use).view(self.members, 2, -1, width)


def _sums(table: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    return embedding_bag(indices, table, offsets, mode="sum", include_last_offset=True)


def target_positions(labels: Tensor, outputs: int) -> Tensor:
    """Where the labels (r, B) stand in the flattened outputs (r, B, p)."""
    return torch.arange(labels.numel(), device=labels.device) * outputs + labels.flatten()
