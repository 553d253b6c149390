"""The frame of every job: its log, errors that a person can read, and no second attempt that must fail again."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ontogeny.errors import Interrupted, OntogenyError

log = logging.getLogger("ontogeny")

ENDED = " ERROR the job ends here\n"  # in a job's log: an error of its own, not a signal, not a lack of memory
RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", re.MULTILINE)  # how a later record begins
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
    if snakemake.resources.get("attempt", 1) > 1 and ended_by_itself(path):
        print(f"\nError: the attempt before ended by an error that another one would meet again. The log is {path}\n")
        sys.exit(1)
    to_file = logging.FileHandler(path, mode="a")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file], force=True)
    log.addHandler(to_terminal)
    try:
        yield
    except Interrupted as error:
        log.warning(str(error))
        sys.exit(TERMINATED)
    except OntogenyError as error:
        logging.getLogger().exception("the job ends here")
        print(f"\nError: {error}\nThe log is {path}\n", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        end = "out of memory" if out_of_memory(error) else "the job ends here"
        logging.getLogger().exception(end)
        print(f"\nThe log is {path}", file=sys.stderr)
        raise


def ended_by_itself(path: Path) -> bool:
    """Whether the last thing in a job's log is an error of its own."""
    if not path.exists():
        return False
    _, found, after = path.read_text(errors="replace").rpartition(ENDED)
    return bool(found) and not RECORD.search(after)


def out_of_memory(error: Exception) -> bool:
    """Whether an error is a lack of memory: Python's, or torch's on a CPU or a GPU."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "OutOfMemory" in type(error).__name__
