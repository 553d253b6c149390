"""Where and how torch computes: results must not depend on the machine's cores."""

from __future__ import annotations

import os

import torch
from torch.utils import deterministic

from ontogeny.errors import ConfigError


def resolve_device(device: str) -> str:
    """'cpu' or 'cuda'; 'auto' takes the GPU when there is one. Raises ConfigError if 'cuda' is not to be had."""
    usable = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not usable:
        raise ConfigError(
            f"device: cuda: torch {torch.__version__} can use no GPU here. It may be the build for CPUs, or the "
            "driver may be too old for it; install the CUDA build, or take the CPU with `--config device=cpu`."
        )
    return "cuda" if usable else "cpu"


def set_deterministic(threads: int) -> None:
    """Fix the number of torch's threads and choose deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # like use_deterministic_algorithms, but imports no compiler
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # every new tensor would be filled with NaN first
    torch.set_flush_denormal(True)  # decayed weights end as denormals, which cost a hundred times the time
