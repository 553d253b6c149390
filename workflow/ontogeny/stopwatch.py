"""How much of a job's processor time is the study's own; apart, so that the frame of jobs may change freely."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Processor seconds that a job spent within the functions of its study."""

    seconds = 0.0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the time within as the study's own; the rest of a job is imports, files and checks."""
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds += time.process_time() - started


stopwatch = Stopwatch()
