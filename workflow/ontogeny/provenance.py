"""What a result was made with: code, package versions, machine. No times, so that the record is byte-stable."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow", "safetensors", "pydantic", "statsmodels")


def describe(code: dict[str, str], device: str, threads: int) -> dict[str, Any]:
    """The record that each run carries. code: module -> digest, as in `fingerprint.stage_code`."""
    return {
        "code": code,
        "device": device,
        "threads": threads,
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
