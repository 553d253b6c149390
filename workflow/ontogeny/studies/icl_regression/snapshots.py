"""The steps at which trainings and flows are looked at."""

from __future__ import annotations

import numpy as np

END = 20  # snapshots over the last tenth, which give the plateau


def snapshot_steps(steps: int, snapshots: int) -> list[int]:
    """Numbers of steps done, ascending: 0, log-spaced, and evenly spaced over the last tenth."""
    spaced = np.geomspace(1, steps, snapshots).round().astype(int)
    last = np.linspace(0.9 * steps, steps, END).round().astype(int)
    return sorted({0, *spaced.tolist(), *last.tolist()})
