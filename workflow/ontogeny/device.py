"""Where and how torch computes: results must not depend on the machine's cores."""

from __future__ import annotations

import os

import torch
from torch.utils import deterministic


def resolve_device(device: str) -> str:
    """'cpu' or 'cuda'; 'auto' takes the GPU when there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def set_deterministic(threads: int) -> None:
    """Fix the number of torch's threads and choose deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # like use_deterministic_algorithms, but imports no compiler
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # every new tensor would be filled with NaN first
    torch.set_flush_denormal(True)  # decayed weights end as denormals, which cost a hundred times the time
