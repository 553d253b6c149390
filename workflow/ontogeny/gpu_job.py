"""The GPUs of one job, from Snakemake's resources: a lease, what a scheduler gave, or none.

To be entered before anything touches CUDA, which reads CUDA_VISIBLE_DEVICES once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ontogeny.forecast import benchmark_of
from ontogeny.gpu_monitor import gpu_table, watched
from ontogeny.gpus import devices_here
from ontogeny.leases import WHOLE, lease, runtime_folder

log = logging.getLogger("ontogeny")
VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def gpus_of(snakemake: Any) -> Iterator[str]:
    """Hold the job's GPUs while the body runs, and yield its device: cpu, or what config.yaml says (auto, cuda).

    Resources `gpu` and `gpu_percent` are those of `gpus.demand`. A positive `gpu_percent` means that this machine's
    devices are ours to lease; with `gpu` alone, a scheduler has set CUDA_VISIBLE_DEVICES, and it stays as it is.
    """
    devices, percent = (int(snakemake.resources.get(key, 0)) for key in ("gpu", "gpu_percent"))
    table = gpu_table(benchmark_of(snakemake.log[0]))
    table.unlink(missing_ok=True)
    if not devices and not percent:
        yield "cpu"
        return
    _require_untouched()
    with ExitStack() as stack:
        if percent:
            mine = stack.enter_context(lease(devices_here(), max(percent, WHOLE * devices), runtime_folder()))
            os.environ[VISIBLE] = ",".join(mine)
        else:
            mine = tuple(os.environ.get(VISIBLE, "").split(","))
        log.info(f"GPU {', '.join(mine)}{f' ({percent} % of it)' if 0 < percent < WHOLE else ''}")
        stack.enter_context(watched(mine, devices or percent / WHOLE, table))
        yield snakemake.params.get("device", "auto")


def _require_untouched() -> None:
    """Raise RuntimeError if torch has chosen its device already: too late for a lease."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("CUDA is in use before the job has its GPU; enter gpus_of first")
