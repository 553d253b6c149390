"""The frame of every job: its log, errors that a person can read, and no second attempt that must fail again."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ontogeny.errors import Interrupted, OntogenyError
from ontogeny.stopwatch import stopwatch

log = logging.getLogger("ontogeny")

END = "the job ends here"  # in a job's log; the error follows
TERMINATED = 143  # the exit status of a process that SIGTERM ended


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Send the library's messages to the job's log and the terminal, and end the job with one clear message on error.

    The log holds the traceback as well; the terminal shows it only for errors that are not the user's to mend. A
    further attempt (`retries` of a profile) at what ended by an error of its own ends at once: what passes are kills,
    preemptions, lost nodes, and limits of time and memory.
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(path, mode="a")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file], force=True)
    log.addHandler(to_terminal)
    failed = path.with_suffix(".failed")  # the log itself does not outlast an attempt
    if snakemake.resources.get("attempt", 1) > 1 and failed.exists():
        logging.getLogger().error(f"{END}\n{failed.read_text()}")
        print(f"\nError: the attempt before ended by an error that another one would meet again. The log is {path}\n")
        sys.exit(1)
    failed.unlink(missing_ok=True)
    try:
        yield
        logging.info("%.1f s of processor time, %.1f s of it in the study", time.process_time(), stopwatch.seconds)
    except Interrupted as error:
        log.warning(str(error))
        sys.exit(TERMINATED)
    except OntogenyError as error:
        logging.getLogger().exception(END)
        failed.write_text(traceback.format_exc())
        print(f"\nError: {error}\nThe log is {path}\n", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        logging.getLogger().exception(END)
        if not out_of_memory(error):
            failed.write_text(traceback.format_exc())
        print(f"\nThe log is {path}", file=sys.stderr)
        raise


def out_of_memory(error: Exception) -> bool:
    """Whether an error is a lack of memory: Python's, or torch's on a CPU or a GPU."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "OutOfMemory" in type(error).__name__
