"""How `ontogeny.reproduce` and `ontogeny.why` call Snakemake: as a subprocess that writes its events to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

LIBRARY = Path(__file__).parents[1]


def command(arguments: Sequence[str], events: bool = True) -> list[str]:
    """Snakemake's command line. Several --config are joined (Snakemake keeps the last), targets may stand anywhere."""
    options, targets = list(arguments), list[str]()
    if "--" in options:
        cut = options.index("--")
        options, targets = options[:cut], options[cut + 1 :]
    values: list[str] = []
    while found := {"--config", "-C"}.intersection(options):
        at = min(map(options.index, found))
        entries = list(takewhile(lambda word: not word.startswith("-"), options[at + 1 :]))
        options[at : at + 1 + len(entries)] = []
        values += [entry for entry in entries if "=" in entry]
        targets += [entry for entry in entries if "=" not in entry]
    config = ["--config", *values] if values else []
    logger = ["--logger", "ontogeny"] if events else []
    return [sys.executable, "-m", "snakemake", *targets, *options, *config, *logger]


def environment(events: Path, watched: bool = False) -> dict[str, str]:
    """The environment of a Snakemake that writes to `events` and, if `watched`, ends when this process is gone."""
    path = os.pathsep.join(filter(None, [str(LIBRARY), os.environ.get("PYTHONPATH")]))
    watcher = {"ONTOGENY_WATCHER": str(os.getpid())} if watched else {}
    return {**os.environ, "PYTHONPATH": path, "ONTOGENY_EVENTS": str(events), **watcher}


def option(arguments: Sequence[str], *names: str) -> str | None:
    """The value that follows the last of an option's names, or None."""
    places = [index for index, word in enumerate(arguments) if word in names and index + 1 < len(arguments)]
    return arguments[places[-1] + 1] if places else None
