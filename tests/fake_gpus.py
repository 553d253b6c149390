"""A stand-in for nvidia-smi, so that the code around it is the code that runs with real devices."""

from __future__ import annotations

import os
from pathlib import Path

GPUS = ("GPU-aaaa0000-1111-2222-3333-444455556666", "GPU-bbbb0000-1111-2222-3333-444455556666")

SCRIPT = """#!/bin/sh
if [ "$1" = -L ]; then
{lines}
else
    while true; do echo 40; echo 60; echo '[N/A]'; sleep 0.05; done
fi
"""


def path_with_gpus(folder: Path, names: tuple[str, ...] = GPUS) -> str:
    """A PATH on which nvidia-smi lists these devices and reports loads of 40 and 60 percent in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'    echo "GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {name})"' for index, name in enumerate(names)]
    program = folder / "nvidia-smi"
    program.write_text(SCRIPT.format(lines="\n".join(lines or ["    :"])))
    program.chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])
