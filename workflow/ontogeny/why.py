"""Say in words what would run now, and why.

    python -m ontogeny.why --cores all

Arguments go to Snakemake as they are. Its reasons are taken apart: modules whose code changed, settings with their old
and new values, seeds, files that came or went, inputs that another job makes again.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ontogeny.changes import values_changed
from ontogeny.engine import command, environment
from ontogeny.errors import OntogenyError
from ontogeny.events import Board, EventFile, Job
from ontogeny.forecast import clock, expected_work, record_of
from ontogeny.outcome import refusal

ORDER = ("acquire", "prepare", "train", "probe", "claims", "figures", "export", "report")
NEVER = "never run yet"
FOLLOWS = "made again, because of the above"
NAMED = 4  # runs or files that a line names
RUN = re.compile(r"(?P<row>.+)-s(?P<first>\d+)-(?P<last>\d+)")

MARKERS = {
    "missing": "Missing output files: ",
    "incomplete": "Incomplete output files: ",
    "updated": "Updated input files: ",
    "upstream": "Input files updated by another job: ",
    "inputs": "Set of input files has changed since last execution",
    "script": "Code has changed since last execution",
    "params": "Params have changed since last execution: ",
    "environment": "Software environment definition has changed since last execution",
    "forced": "Forced execution",
}


def planned_jobs(arguments: Sequence[str]) -> list[Job]:
    """The jobs that Snakemake would run. Raises OntogenyError with its message if it refuses."""
    board = Board()
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events"
        words = [*command(arguments), "--dry-run"]
        done = subprocess.run(words, env=environment(events), capture_output=True, text=True, check=False)
        for event in EventFile(events).new():
            board.take(event, 0.0)
    if done.returncode:
        raise OntogenyError(refusal(board) or f"{done.stdout}{done.stderr}")
    return list(board.jobs.values())


def parse_reason(reason: str) -> dict[str, str]:
    """Kind of change -> what Snakemake says about it. Values of parameters may hold anything, so they come last."""
    head, found, params = reason.partition(MARKERS["params"])
    parts: dict[str, str] = {}
    for kind, marker in MARKERS.items():
        if found and kind == "params":
            parts[kind] = params.removesuffix(MARKERS["environment"]).rstrip("; ")
        elif marker in head:
            parts[kind] = head.partition(marker)[2].partition("; ")[0]
    if found and params.endswith(MARKERS["environment"]):
        parts["environment"] = ""
    return parts


def parse_params(text: str) -> tuple[list[Any], list[Any]]:
    """The values of parameters that were there only before, and only now. Raises ValueError."""
    body = text.partition("before: ")[2].strip()
    for cut in re.finditer(r" now: ", body):
        try:
            return _literals(body[: cut.start()]), _literals(body[cut.end() :])
        except (SyntaxError, ValueError):
            continue  # these words stand inside a value
    raise ValueError(text)


def _literals(text: str) -> list[Any]:
    text = text.strip()
    return [] if text == "<nothing exclusive>" else list(ast.literal_eval(f"[{text}]"))


@dataclass
class Plan:
    """The planned jobs, and what follows from seeing them together."""

    jobs: list[Job]
    seeds: dict[tuple[str, str], str] = field(default_factory=dict)  # (study, row) -> seeds of a run that went

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> Plan:
        """The plan with the runs that are no longer read, taken from what probes read last time."""
        plan = cls(list(jobs))
        for job in plan.jobs:
            for name in _came_and_went(job)[1] if job.rule == "probe" else ():
                if match := RUN.fullmatch(name):
                    plan.seeds[job.group, match["row"]] = _seeds(match)
        return plan

    def explain(self, job: Job) -> list[str]:
        """Why a job would run, in words: its own reasons, else that it follows."""
        parts = parse_reason(job.reason)
        lines = [*self._state(job, parts), *_changes(job, parts)]
        if not lines and "upstream" in parts:
            return [FOLLOWS]
        return lines or [job.reason.strip() or "Snakemake gives no reason"]

    def _state(self, job: Job, parts: dict[str, str]) -> list[str]:
        """What is the matter with the results of a job."""
        if "forced" in parts:
            return ["was asked for"]
        if "incomplete" in parts:
            return ["was interrupted"]
        if "missing" not in parts:
            return []
        if all(record_of(output) is None for output in job.output):
            return [self._first_time(job)]
        gone = [name for name in parts["missing"].split(", ") if not Path(name).exists()]
        return [f"output is missing ({_few(gone)})"]

    def _first_time(self, job: Job) -> str:
        match = RUN.fullmatch(job.unit)
        before = self.seeds.get((job.group, match["row"])) if match else None
        return f"seeds of {match['row']}: {before} -> {_seeds(match)}" if match and before else NEVER


def _changes(job: Job, parts: dict[str, str]) -> list[str]:
    """What is different from the last time that a job ran."""
    lines = []
    if "params" in parts:
        try:
            lines += values_changed(job.rule, *parse_params(parts["params"]))
        except ValueError:
            lines.append(f"parameters changed: {parts['params']}")
    if "inputs" in parts:
        came, went = _came_and_went(job)
        words = [f"{_few(names)} {word}" for names, word in ((came, "new"), (went, "gone")) if names]
        lines.append(f"reads other files than before ({', '.join(words)})")
    if parts.get("updated"):
        lines.append(f"an input is newer ({parts['updated']})")
    if "script" in parts and not lines:
        lines.append("its script or notebook is newer than its results")
    if "environment" in parts:
        lines.append("its environment (envs/) changed")
    return lines


def _came_and_went(job: Job) -> tuple[list[str], list[str]]:
    """Names of the files that a job reads and did not read the last time, and the reverse."""
    record = next(filter(None, map(record_of, job.output)), None)
    if record is None:
        return [], []
    before, now = record.get("input") or [], job.input
    return [Path(name).name for name in now if name not in before], [
        Path(name).name for name in before if name not in now
    ]


def _seeds(match: re.Match[str]) -> str:
    return match["first"] if match["first"] == match["last"] else f"{match['first']}–{match['last']}"


def _few(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])


def report(jobs: Sequence[Job]) -> str:
    """The whole answer, by study; jobs with the same reason share a line."""
    if not jobs:
        return "Nothing to do: everything is up to date."
    plan, groups = Plan.of(jobs), defaultdict[str, list[Job]](list)
    for job in sorted(jobs, key=lambda job: (job.rule == "report", job.group, _place(job), job.unit)):
        groups[job.group].append(job)
    lines = [headline(jobs)]
    for name, members in groups.items():
        lines += ["", name, *_lines_of(plan, members)]
    return "\n".join(lines)


def _place(job: Job) -> int:
    return ORDER.index(job.rule) if job.rule in ORDER else len(ORDER)


def _lines_of(plan: Plan, jobs: Sequence[Job]) -> list[str]:
    reasons = defaultdict[tuple[str, ...], list[Job]](list)
    for job in jobs:
        reasons[tuple(plan.explain(job))].append(job)
    lines = []
    for reason, members in sorted(reasons.items(), key=lambda item: item[0] == (FOLLOWS,)):
        first, *others = reason
        lines += [f"  {_stages(members)}: {first}", *(f"    {line}" for line in others)]
    return lines


def _stages(jobs: Sequence[Job]) -> str:
    """'prepare, train (tree-s0-19), probe'."""
    units = defaultdict[str, list[str]](list)
    for job in jobs:
        units[job.rule] += [job.unit] if job.unit else []
    return ", ".join(f"{rule} ({_few(names)})" if names else rule for rule, names in units.items())


def headline(jobs: Sequence[Job]) -> str:
    """How many jobs, and how long they took earlier."""
    count = "1 job would run" if len(jobs) == 1 else f"{len(jobs)} jobs would run"
    seconds, unknown = expected_work(jobs)
    if unknown == len(jobs):
        return f"{count}."
    rest = f", not counting {unknown} that never ran" if unknown else ""
    return f"{count}: about {clock(max(seconds, 1))} of computing, as jobs of this kind took earlier{rest}."


def main(arguments: list[str]) -> int:
    """The command line: Snakemake's."""
    try:
        print(report(planned_jobs(arguments)))
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
