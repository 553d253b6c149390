"""Named random streams. Nothing in the project draws from a global stream."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def stream_seed(*key: int | str) -> int:
    """A 63-bit seed that is determined by `key`, e.g. (seed, "init")."""
    text = "/".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *more: int | str) -> torch.Generator:
    """A CPU generator for one purpose of one seed: the same key always gives the same stream."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, *more))


def numpy_generator(seed: int, purpose: str, *more: int | str) -> np.random.Generator:
    """Like `generator`, for NumPy."""
    return np.random.default_rng(stream_seed(seed, purpose, *more))
