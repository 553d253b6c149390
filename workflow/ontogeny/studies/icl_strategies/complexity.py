"""How many bits a strategy takes: its prior knowledge and its program, both compressed.

The programs are kept as text, so that what is compressed is what the tests run.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# A dictionary larger than the data changes nothing but the time: the preset's 64 MiB would be cleared at every call
LZMA = [{"id": lzma.FILTER_LZMA1, "preset": 9, "dict_size": 2**20}]
COMPRESSORS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, filters=LZMA),
    lambda data: bz2.compress(data, 9),
    lambda data: zlib.compress(data, 9),
)

# prior: the D training tasks, rows of V probabilities
MEMORISING = """
def predict(prior, symbols):
    weights = [1.0] * len(prior)
    for symbol in symbols:
        weights = [weight * task[symbol] for weight, task in zip(weights, prior)]
    total = sum(weights)
    return [sum(w * task[v] for w, task in zip(weights, prior)) / total for v in range(len(prior[0]))]
"""

# prior: the V parameters of the Dirichlet distribution
GENERALISING = """
def predict(prior, symbols):
    return [(prior[v] + symbols.count(v)) / (sum(prior) + len(symbols)) for v in range(len(prior))]
"""


def bits(data: bytes) -> int:
    """Length of the shortest of several general compressions, in bits."""
    return 8 * min(len(compress(data)) for compress in COMPRESSORS)


def memorising_bits(tasks: NDArray[np.float64]) -> int:
    """K_M of D tasks (D, V), kept as float32."""
    return bits(tasks.astype(np.float32).tobytes()) + bits(MEMORISING.encode())


def generalising_bits(symbols: int) -> int:
    """K_G for V symbols."""
    return bits(np.ones(symbols, np.float32).tobytes()) + bits(GENERALISING.encode())
