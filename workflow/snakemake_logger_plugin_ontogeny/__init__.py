"""A Snakemake logger that writes the events of a run as JSON lines, for `ontogeny.reproduce` and `ontogeny.why`.

Snakemake finds it by its name on PYTHONPATH. The file to write to is named by the environment variable ONTOGENY_EVENTS.
"""

from __future__ import annotations

import json
import os
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase

KEPT = ("jobid", "job_id", "jobs", "rule_name", "wildcards", "reason", "output", "log", "done", "total", "stats")


class LogHandler(LogHandlerBase):
    """Appends one JSON object for each event."""

    def __post_init__(self) -> None:
        """Open the file for appending; each line is flushed, so that a reader may follow it."""
        self._stream = Path(os.environ["ONTOGENY_EVENTS"]).open("a")  # noqa: SIM115  (closed by `close`)

    def emit(self, record: LogRecord) -> None:
        """Write the record if it is an event."""
        event = getattr(record, "event", None)
        if event is None:
            return
        kept = {name: _plain(getattr(record, name)) for name in KEPT if hasattr(record, name)}
        self._stream.write(json.dumps({"event": str(event), **kept}) + "\n")
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


def _plain(value: Any) -> Any:
    """What JSON can hold: Snakemake's own lists, dictionaries and paths become plain ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return [_plain(item) for item in value] if hasattr(value, "__iter__") else str(value)
