"""Copied into the study of a trial: notes each step that is taken, and does what the environment asks for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from ontogeny.errors import OntogenyError

FIRST = "decay-s0-1"  # the run that does something wrong
WHEN = 10  # the step in which it does


def step_of(run: str, step: int) -> None:
    """Note the step, take some time over it, and perhaps use too much memory or fail."""
    with Path(f"steps-{run}").open("a") as file:
        print(os.getpid(), step, os.environ.get("CUDA_VISIBLE_DEVICES", "none"), file=file)
    time.sleep(float(os.environ.get("TRIAL_PAUSE", "0")))
    misdeed = os.environ.get("TRIAL_MISDEED")
    if misdeed == "memory" and (run, step) == (FIRST, WHEN):
        held = np.ones(180_000_000)  # 1.4 GB
        time.sleep(7)
        del held
    if misdeed == "error" and (run, step) == (FIRST, WHEN):
        raise OntogenyError("the trial fails by an error of its own")
