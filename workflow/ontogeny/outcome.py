"""How a run ended, in words: verdicts and the atlas, or what went wrong and where to read more."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from ontogeny.engine import option
from ontogeny.events import Board, Job
from ontogeny.forecast import clock

GO_ON = "the same command goes on from here."
KILLED = 128  # a status above is that of a process that a signal has killed
TAIL = 8  # lines of Snakemake's output, where nothing better is known


def conclusion(board: Board, results: Path, arguments: Sequence[str], seconds: float) -> list[str]:
    """The lines that end a run in which all went well."""
    report = results / scale_of(board, arguments) / "report"
    studies = {job.group for job in board.jobs.values() if "study" in job.wildcards}
    if "report" in board.planned or not studies:
        studies |= atlas_studies(report / "claims.csv")
    lines = [f"  {line}" for line in verdicts(report.parent, studies)]
    if (report / "index.html").exists():
        lines.append(f"The atlas: {report / 'index.html'}")
    if not board.total:
        return ["Nothing to do: everything is up to date.", *lines]
    return [*lines, f"Done: {len(board.finished)} jobs in {clock(seconds)}."]


def scale_of(board: Board, arguments: Sequence[str]) -> str:
    """The scale of a run: that of its jobs, else the one that the command line or the configuration names."""
    scales = Counter(job.wildcards["scale"] for job in board.jobs.values() if "scale" in job.wildcards)
    if scales:
        return scales.most_common(1)[0][0]
    for word in arguments:
        if word.startswith("scale="):
            return word.removeprefix("scale=").strip("'\"")
    files = [option(arguments, "--configfile", "--configfiles"), "config.yaml", "config/config.yaml"]
    for name in filter(None, files):
        if Path(name).exists():
            return str((yaml.safe_load(Path(name).read_text()) or {}).get("scale", "laptop"))
    return "laptop"


def verdicts(folder: Path, studies: set[str]) -> list[str]:
    """One line for each of `studies` that has claims: how many got which verdict. `folder` is that of the scale."""
    lines = []
    for study in sorted(studies):
        with suppress(OSError, ValueError, KeyError, TypeError):
            claims = json.loads((folder / study / "claims.json").read_text())["claims"]
            counts = Counter(claim["verdict"] for claim in claims)
            lines.append(f"{study}: " + ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items())))
    return lines


def atlas_studies(table: Path) -> set[str]:
    """The studies in claims.csv."""
    if not table.exists():
        return set()
    with table.open(newline="") as stream:
        return {row["study"] for row in csv.DictReader(stream)}


def interruption(board: Board) -> list[str]:
    """The line that ends a run that was asked to end."""
    return [f"Ended; {len(board.finished)} of {board.total} jobs are done, {GO_ON}"]


def failure(board: Board, status: int, said: str, log: Path) -> list[str]:
    """The lines that end a run with a `status` other than 0; `said` is Snakemake's own output, kept in `log`."""
    where = f"All that Snakemake said: {log}"
    if status > KILLED:
        return [f"Snakemake was killed (by signal {status - KILLED}); {GO_ON}", where]
    if not board.failed:
        return [refusal(board) or "\n".join(said.splitlines()[-TAIL:]), where]
    lines = []
    for job in board.failed:
        lines += ["", f"{job.label} failed: {failure_message(job)}", f"  its log: {', '.join(job.log)}"]
    done = f"{len(board.failed)} failed, {len(board.finished)} of {board.total} jobs are done."
    return [*lines, "", f"{done} When the cause is mended, {GO_ON}", where]


def refusal(board: Board) -> str:
    """Why Snakemake did not even begin: its errors, without the places in its rules."""
    lines = "\n".join(board.errors).splitlines()
    return "\n".join(line for line in lines if not re.match(r'(\w+Error in file|  File) ".*", line \d+', line))


def failure_message(job: Job) -> str:
    """The message with which a job ended, from its log."""
    for log in map(Path, job.log):
        with suppress(OSError, ValueError, KeyError):
            text = log.read_text(errors="replace")
            found = notebook_message(json.loads(text)) if log.suffix == ".ipynb" else log_message(text, job.started)
            if found:
                return found
    return "it ended without a message of its own (was it killed, or out of memory?)"


def notebook_message(notebook: dict[str, Any]) -> str:
    """The error of the cell that failed."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    errors = [output for output in outputs if output["output_type"] == "error"]
    return f"{errors[-1]['ename']}: {errors[-1]['evalue']}" if errors else ""


def log_message(text: str, since: float) -> str:
    """The last exception in a job's log, if it was written after `since`; our own errors without their class."""
    before, found, after = text.rpartition(" ERROR the job ends here\n")
    if not found or _written(before) < since - 1:
        return ""
    lines = after.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    last = next((number for number, line in enumerate(lines) if line and not line.startswith(" ")), 0)
    return re.sub(r"^ontogeny\.[\w.]+: ", "", "\n".join(lines[last:]).strip())


def _written(text: str) -> float:
    """When the last, unfinished line of a log was written."""
    try:
        return datetime.strptime(text.rpartition("\n")[2][:19], "%Y-%m-%d %H:%M:%S").timestamp()
    except ValueError:
        return 0.0
