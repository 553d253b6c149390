"""Say in words what would run now, and why.

    python -m ontogeny.why --cores all

Arguments go to Snakemake as they are. Its reasons are taken apart: modules whose code changed, settings with their old
and new values, seeds, inputs that another job makes again.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ontogeny.events import Board, EventFile, Job
from ontogeny.fingerprint import decode
from ontogeny.forecast import Forecast, clock

CHANGED = re.compile(r"before: (?P<before>.*?) ?now: (?P<now>.*)", re.DOTALL)


def planned_jobs(arguments: list[str]) -> Board:
    """The jobs that Snakemake would run. Raises CalledProcessError with its output if it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events"
        command = [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--logger", "ontogeny"]
        environment = {**os.environ, "ONTOGENY_EVENTS": str(events)}
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        board = Board()
        for event in EventFile(events).new():
            board.take(event, 0.0)
    return board


def explain(job: Job) -> list[str]:
    """Why a job would run, in words, one reason a line."""
    reason = job.reason.strip()
    lines = []
    if "Params have changed" in reason:
        lines += explain_params(reason)
    for marker, words in (
        ("Missing output files: ", "has not been made yet"),
        ("Input files updated by another job: ", "follows a job above"),
        ("Updated input files: ", "an input is newer"),
        ("Set of input files has changed", "reads other files than before"),
        ("Code has changed", "its script changed"),
        ("Software environment definition has changed", "its environment in envs/ changed"),
        ("Forced execution", "was asked for"),
        ("Incomplete output files", "was interrupted"),
    ):
        if marker in reason:
            lines.append(words + _files(reason, marker))
    return lines or [reason or "no reason is given"]


def _files(reason: str, marker: str) -> str:
    """The files that Snakemake names after a marker that ends with a colon."""
    if not marker.endswith(": "):
        return ""
    names = reason.split(marker, 1)[1].split(";")[0].split("\n")[0]
    return f" ({names.strip()})"


def explain_params(reason: str) -> list[str]:
    """Take apart the values that Snakemake found only before, and only now."""
    match = CHANGED.search(reason)
    if match is None:
        return ["its parameters changed"]
    before, now = literals(match["before"]), literals(match["now"])
    lines = []
    for old, new in _pairs(before, now):
        lines += difference(old, new)
    return lines or ["its parameters changed"]


def literals(text: str) -> list[Any]:
    """The Python values in a comma-separated list of their representations; what cannot be read stays text."""
    text = text.split("; ")[0].strip().rstrip(",")
    if text in ("", "<nothing exclusive>"):
        return []
    try:
        value = ast.literal_eval(f"[{text}]")
    except (SyntaxError, ValueError):
        return [text]
    return list(value)


def _pairs(before: list[Any], now: list[Any]) -> list[tuple[Any, Any]]:
    """Match old and new values of the same kind, in order; None where one has no counterpart."""
    pairs, left = [], list(before)
    for new in now:
        old = next((value for value in left if _kind(value) == _kind(new)), None)
        if old is not None:
            left.remove(old)
        pairs.append((old, new))
    return pairs + [(old, None) for old in left]


def _kind(value: Any) -> str:
    return "code" if is_code(value) else type(value).__name__


def is_code(value: Any) -> bool:
    """Whether a parameter is a fingerprint of modules."""
    return isinstance(value, str) and value.startswith(("ontogeny=", "notebooks/"))


def difference(old: Any, new: Any) -> list[str]:
    """Two values of a parameter, compared in words."""
    if is_code(old) and is_code(new):
        return code_difference(decode(old), decode(new))
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return [line for key in keys for line in _entry(key, old.get(key), new.get(key))]
    if _seeds(old) and _seeds(new):
        return [f"seeds: {_range(old)} -> {_range(new)}"]
    return [f"a parameter: {_short(old)} -> {_short(new)}"]


def _entry(key: Any, old: Any, new: Any) -> list[str]:
    """A changed key of a dictionary; nested dictionaries are named by their path."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [f"{key}.{line}" for line in difference(old, new)]
    return [f"{key}: {_short(old)} -> {_short(new)}"]


def code_difference(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The modules whose code changed, came or went."""
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    came, went = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    lines = [f"the notebook changed ({name})" for name in changed if name.endswith(".ipynb")]
    for names, words in (
        ([name for name in changed if not name.endswith(".ipynb")], "code changed in"),
        (came, "imports now"),
        (went, "no longer imports"),
    ):
        if names:
            lines.append(f"{words} {', '.join(names)}")
    return lines


def _seeds(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _range(seeds: list[int]) -> str:
    return f"{seeds[0]}–{seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"


def _short(value: Any, length: int = 60) -> str:
    if value is None:
        return "(absent)"
    text = repr(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def report(board: Board) -> str:
    """The whole answer."""
    jobs = list(board.jobs.values())
    if not jobs:
        return "Nothing to do: everything is up to date."
    forecast = Forecast(Path("results"))
    expected = sum(forecast.expected(Board(), job.rule) for job in jobs)
    lines = [f"{len(jobs)} jobs would run, about {clock(expected)} of one core.", ""]
    for job in jobs:
        lines += [job.label, *(f"    {line}" for line in explain(job))]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The command line: Snakemake's."""
    try:
        print(report(planned_jobs(arguments)))
    except subprocess.CalledProcessError as error:
        print(error.stderr or error.stdout, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
