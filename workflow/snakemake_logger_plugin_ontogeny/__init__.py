"""A Snakemake logger that writes the events of a run as JSON lines, for `ontogeny.reproduce` and `ontogeny.why`.

Snakemake finds it by its name on PYTHONPATH: `--logger ontogeny`. The file to write to is named by the environment
variable ONTOGENY_EVENTS. With ONTOGENY_WATCHER, the number of a process, Snakemake and its jobs (which then must be a
process group of their own) end when that process is gone. Snakemake's own output and log file stay as they are.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from logging import ERROR, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase

KEPT = (
    *("jobid", "job_id", "rule_name", "wildcards", "reason", "input", "output", "log"),
    *("done", "total", "stats", "nodes"),
)


class LogHandler(LogHandlerBase):
    """Appends one JSON object for each event and error."""

    def __post_init__(self) -> None:
        """Open the file for appending, and begin to look after the watcher."""
        self._stream = Path(os.environ.get("ONTOGENY_EVENTS", os.devnull)).open("a")  # noqa: SIM115  (`close` does)
        if "ONTOGENY_WATCHER" in os.environ:
            watcher = int(os.environ["ONTOGENY_WATCHER"])
            threading.Thread(target=_end_with, args=(watcher,), daemon=True).start()

    def emit(self, record: LogRecord) -> None:
        """Write the record, at once, if it is an event or an error."""
        event = getattr(record, "event", None)
        if event is None and record.levelno < ERROR:
            return
        kept = {name: _plain(getattr(record, name)) for name in KEPT if hasattr(record, name)}
        if record.levelno >= ERROR:
            kept["message"] = record.getMessage()
        self._stream.write(json.dumps({"event": str(event or "error"), "time": record.created, **kept}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake's own output stays as it is."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """Snakemake's own log file stays as it is."""
        return False

    @property
    def has_filter(self) -> bool:
        """Every event is wanted."""
        return True

    @property
    def has_formatter(self) -> bool:
        """The lines are made here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No graph is drawn."""
        return False


def _end_with(watcher: int) -> None:
    """Interrupt Snakemake and its jobs once the process that watched them is gone."""
    while os.getppid() == watcher:
        time.sleep(1)
    os.killpg(os.getpgrp(), signal.SIGINT)


def _plain(value: Any) -> Any:
    """What JSON can hold: Snakemake's own lists, dictionaries and paths become plain ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    return [_plain(item) for item in value] if hasattr(value, "__iter__") else str(value)
