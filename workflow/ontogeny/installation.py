"""What the jobs of a workflow find: this library, and the tools of the installation that runs Snakemake."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def offer(library: Path) -> None:
    """Let jobs, their notebooks' kernels and their conda environments import from `library` and find our tools.

    Snakemake looks for papermill in PATH, where a virtual environment that was not activated does not stand. Notebooks
    take the kernel `python3` of the environment that they run in, whoever owns it, before one in the user's home.
    """
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(library), before]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
