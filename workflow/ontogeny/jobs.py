"""The frame of every job: its log, and errors that a person can read."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ontogeny.errors import OntogenyError

log = logging.getLogger("ontogeny")


class Clock:
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


clock = Clock()


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Send the library's messages to the job's log and the terminal, and end the job with one clear message on error.

    The log holds the traceback as well; the terminal shows it only for errors that are not the user's to mend.
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(path, mode="a")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file], force=True)
    log.addHandler(to_terminal)
    try:
        yield
        logging.info("%.1f s of processor time, %.1f s of it in the study", time.process_time(), clock.seconds)
    except OntogenyError as error:
        logging.getLogger().exception("the job ends here")
        print(f"\nError: {error}\nThe log is {path}\n", file=sys.stderr)
        sys.exit(1)
    except Exception:
        logging.getLogger().exception("the job ends here")
        print(f"\nThe log is {path}", file=sys.stderr)
        raise
