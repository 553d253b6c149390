"""Sums of table rows over many pairs of group elements, and the transposed operation, for stacked networks.

`embedding_bag` does either in one pass over the memory, and adds in a fixed order on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Lookup:
    """The same number n of pairs (h1, h2) for each of r networks.

    Tables of a network: one array (tables * M, K) that begins with the M rows of A and the M rows of B.
    rows, first_row: table rows that each pair adds up. uses, first_use: pairs that each row of A and B is in.
    Both are indices and offsets, as embedding_bag takes them.
    """

    networks: int
    rows: Tensor
    first_row: Tensor
    uses: Tensor
    first_use: Tensor

    @classmethod
    def of(cls, pairs: Tensor, order: int, tables: int, device: str) -> Lookup:
        """pairs: (r, n), the number h1 * M + h2 of each pair. tables: how many M x K tables a network has."""
        networks, size = pairs.shape
        operands = torch.stack([pairs // order, order + pairs % order], dim=2)
        base = torch.arange(networks)[:, None, None]
        operand, use = (operands + base * 2 * order).flatten().sort(stable=True)
        counts = torch.bincount(operand, minlength=networks * 2 * order)
        first_use = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        rows, first_row = (operands + base * tables * order).flatten(), torch.arange(0, 2 * networks * size + 1, 2)
        return cls(networks, *(part.to(device) for part in (rows, first_row, use // 2, first_use)))

    def gather(self, tables: Tensor) -> Tensor:
        """A[h1] + B[h2] of every pair, (r, n, K), from contiguous tables (r, ..., K)."""
        width = tables.shape[-1]
        return _sums(tables.view(-1, width), self.rows, self.first_row).view(self.networks, -1, width)

    def scatter(self, pairs: Tensor) -> Tensor:
        """Sums of (r, n, K) over the pairs that share an operand: (r, 2, M, K), for A and for B."""
        width = pairs.shape[-1]
        return _sums(pairs.view(-1, width), self.uses, self.first_use).view(self.networks, 2, -1, width)


def _sums(table: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    return embedding_bag(indices, table, offsets, mode="sum", include_last_offset=True)
