"""What a scale takes in time, memory, disk and GPU-hours, before anything starts; afterwards, what it did take.

    python -m ontogeny.budget                                    the configuration
    python -m ontogeny.budget scale=paper "studies=[deep_linear]"

A job that has a benchmark in results/ counts as it was measured; a block of seeds that has none, but has a measured
brother of as many seeds in its row, as its brother. Any other job counts with the limits of its study.yaml: an upper
bound, never an estimate. What was foretold is kept in results/<scale>/forecast.json, and compared with what came.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ontogeny.config import Config, load_config
from ontogeny.errors import OntogenyError
from ontogeny.files import DamagedFile, read_json, write_json
from ontogeny.forecast import clock
from ontogeny.gpu_monitor import gpu_table, read_use
from ontogeny.gpus import demand, devices_here
from ontogeny.leases import WHOLE
from ontogeny.settings import read_yaml
from ontogeny.study import Resources, load_room

CONFIGS = ("config.yaml", "config/config.yaml")
RESULTS = Path("results")
MEASURED, ALIKE, BOUND = "measured", "alike", "bound"
FIXED = {  # the jobs that no study.yaml speaks of: as their rules say
    "acquire": Resources.model_validate({"mem_mb": 1000, "runtime": 30}),
    "export": Resources.model_validate({"mem_mb": 1000, "runtime": 5}),
    "report": Resources.model_validate({"mem_mb": 1500, "runtime": 5}),
}
OUTPUTS = {
    "prepare": ("data",),
    "probe": ("probes",),
    "claims": ("claims.json",),
    "figures": ("figures",),
    "export": ("notebook.ipynb", "notebook.html"),
    "report": ("report",),
}
MB, GB, HOUR = 1024**2, 1000.0, 3600.0
ENOUGH = 64  # GPUs, as many as a job may ask for


@dataclass(frozen=True)
class Task:
    """One job: where its benchmark and its outputs lie, its limits, and jobs that are `alike` but for their seeds."""

    group: str
    stage: str
    unit: str
    benchmark: Path
    outputs: tuple[Path, ...]
    limits: Resources
    gpus: float
    alike: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Study, stage and run."""
        return " ".join(filter(None, (self.group, self.stage, self.unit)))


@dataclass(frozen=True)
class Need:
    """What a job takes: seconds, MB of memory, MB on disk, GPU-seconds; and what that is known from."""

    seconds: float
    memory: float
    disk: float
    gpu_seconds: float
    basis: str


# ------------------------------------------------------------------------------------------------------ the jobs


def tasks(config: Config, where: str, results: Path = RESULTS) -> list[Task]:
    """Every job of the configured scale and studies, in the order of the workflow."""
    bases, studies = config.bases(where), config.selected()
    rooms = [*bases, *studies]
    sources = sorted({source for room in rooms for source in config.plan(room, config.scale, where).sources})
    found = [_acquire(source, results) for source in sources]
    for base in bases:
        found += _room_tasks(config, base, ("prepare", "train"), where, results)
    for study in studies:
        found += _room_tasks(
            config, study, ("prepare", "train", "probe", "claims", "figures", "export"), where, results
        )
    folder = results / config.scale
    return [*found, _task("atlas", "report", "", folder / "report", folder, FIXED["report"], 0)]


def _acquire(source: str, results: Path) -> Task:
    benchmark = results / "sources" / "benchmarks" / f"{source}.tsv"
    return Task("sources", "acquire", source, benchmark, (), FIXED["acquire"], 0, (source,))


def _room_tasks(config: Config, study: str, stages: Sequence[str], where: str, results: Path) -> Iterator[Task]:
    """The jobs of a study or base."""
    spec, folder = load_room(study), results / config.scale / study
    for stage in stages:
        limits = FIXED.get(stage) or spec.stage_resources(stage, config.scale)
        gpus = demand(limits, stage, config.device, ENOUGH).percent / WHOLE
        if stage != "train":
            yield _task(study, stage, "", folder, folder, limits, gpus)
            continue
        for name, run in config.plan(study, config.scale, where).runs.items():
            benchmark = folder / "benchmarks" / "train" / f"{name}.tsv"
            alike = (study, run.row, len(run.seeds))
            yield Task(study, stage, name, benchmark, (folder / "runs" / name,), limits, gpus, alike)


def _task(group: str, stage: str, unit: str, own: Path, folder: Path, limits: Resources, gpus: float) -> Task:
    outputs = tuple(folder / name for name in OUTPUTS[stage])
    return Task(group, stage, unit, own / "benchmarks" / f"{stage}.tsv", outputs, limits, gpus, (group, stage))


# -------------------------------------------------------------------------------------------- what they need


def measured(task: Task) -> Need | None:
    """What a job took when it last ran here; None if it never did."""
    try:
        with task.benchmark.open(newline="") as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        seconds = float(row["s"])
    except (OSError, StopIteration, KeyError, ValueError):
        return None
    use = read_use(gpu_table(task.benchmark))
    memory = _number(row.get("max_rss"))
    disk = sum(map(size_of, task.outputs))
    return Need(seconds, memory, disk, use.gpus * use.s if use else 0.0, MEASURED)


def _number(text: str | None) -> float:
    """A cell of a benchmark; 0 where a job was too quick to be measured."""
    try:
        return float(text or "0")
    except ValueError:
        return 0.0


def size_of(path: Path) -> float:
    """The size of a file or of a folder's files, in MB."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / MB


def bound(task: Task) -> Need:
    """The limits that a study sets for a job."""
    seconds, limits = 60.0 * task.limits.runtime, task.limits
    return Need(seconds, limits.mem_mb, limits.disk_mb if task.outputs else 0.0, seconds * task.gpus, BOUND)


def needs(jobs: Sequence[Task]) -> dict[str, Need]:
    """Job -> what it takes, from the best that is known."""
    own = {job.name: measured(job) for job in jobs}
    brothers: dict[tuple[Any, ...], list[Need]] = defaultdict(list)
    for job in jobs:
        if (need := own[job.name]) is not None:
            brothers[job.alike].append(need)
    return {job.name: own[job.name] or _largest(brothers[job.alike]) or bound(job) for job in jobs}


def _largest(known: Sequence[Need]) -> Need | None:
    """The longest of the jobs that are alike."""
    return replace(max(known, key=lambda need: need.seconds), basis=ALIKE) if known else None


@dataclass(frozen=True)
class Sum:
    """Several jobs together: seconds one after the other and along the longest chain, the largest memory, all disk."""

    jobs: int
    bounds: int
    seconds: float
    chain: float
    memory: float
    disk: float
    gpu_seconds: float


def together(jobs: Sequence[Task], known: dict[str, Need]) -> Sum:
    """What jobs of one study (or of all) take. Trainings wait for nothing but their data, every other stage for all."""
    mine = [known[job.name] for job in jobs]
    chains: dict[tuple[str, str], float] = defaultdict(float)
    for job in jobs:
        chains[job.group, job.stage] = max(chains[job.group, job.stage], known[job.name].seconds)
    per_group: dict[str, float] = defaultdict(float)
    for (group, _), seconds in chains.items():
        per_group[group] += seconds
    ends = [per_group.pop(group, 0.0) for group in ("sources", "atlas")]
    return Sum(
        len(mine),
        sum(need.basis == BOUND for need in mine),
        sum(need.seconds for need in mine),
        sum(ends) + max(per_group.values(), default=0.0),
        max((need.memory for need in mine), default=0.0),
        sum(need.disk for need in mine),
        sum(need.gpu_seconds for need in mine),
    )


def at_least(jobs: Sequence[Task], known: dict[str, Need], cores: int, gpus: int) -> float:
    """Seconds below which no schedule on this machine comes: its longest chain, or its cores or GPUs all at work."""
    work = sum(known[job.name].seconds * min(job.limits.threads, cores) for job in jobs) / cores
    on_gpus = sum(known[job.name].gpu_seconds for job in jobs) / gpus if gpus else 0.0
    return max(together(jobs, known).chain, work, on_gpus)


# ------------------------------------------------------------------------------------------- kept, and compared


@dataclass(frozen=True)
class Kept:
    """What was foretold for a job, and when."""

    need: Need
    made: float


def read_kept(path: Path) -> dict[str, Kept]:
    """The forecasts that were kept; none if there is no file that can be read."""
    try:
        content = read_json(path)["jobs"]
        return {name: Kept(Need(**job["need"]), job["made"]) for name, job in content.items()}
    except (DamagedFile, KeyError, TypeError, AttributeError):
        return {}


def foretold(jobs: Sequence[Task], known: dict[str, Need], kept: dict[str, Kept], now: float) -> dict[str, Kept]:
    """The forecast of each job: the kept one if the job ran after it was made, else a new one."""
    return {
        job.name: kept[job.name]
        if job.name in kept and ran_after(job, kept[job.name].made)
        else Kept(known[job.name], now)
        for job in jobs
    }


def ran_after(job: Task, moment: float) -> bool:
    """Whether a job's benchmark is younger than a moment."""
    return job.benchmark.exists() and job.benchmark.stat().st_mtime > moment


# ------------------------------------------------------------------------------------------------------- in words


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def size(megabytes: float) -> str:
    """An amount of memory or disk."""
    return f"{megabytes / GB:.1f} GB" if megabytes >= GB else f"{megabytes:.0f} MB"


def hours(gpu_seconds: float) -> str:
    """GPU-hours."""
    return f"{gpu_seconds / HOUR:.2f}" if 0 < gpu_seconds < 36000 else f"{gpu_seconds / HOUR:.0f}"


def row(name: str, found: Sum) -> list[str]:
    """A line of the forecast; what holds a bound is marked."""
    most = "≤ " if found.bounds else ""
    cells = [clock(found.seconds), clock(found.chain), size(found.memory), size(found.disk), hours(found.gpu_seconds)]
    return [name, str(found.jobs), str(found.jobs - found.bounds), *(f"{most}{cell}" for cell in cells)]


def by_group(jobs: Sequence[Task]) -> dict[str, list[Task]]:
    """The jobs of each study, of the sources and of the atlas."""
    groups: dict[str, list[Task]] = defaultdict(list)
    for job in jobs:
        groups[job.group].append(job)
    return groups


def forecast_lines(config: Config, jobs: Sequence[Task], known: dict[str, Need], cores: int, gpus: int) -> list[str]:
    """The forecast, study by study."""
    heads = ["", "jobs", "known", "time of all jobs", "longest chain", "memory of a job", "disk", "GPU-hours"]
    rows = [row(name, together(members, known)) for name, members in by_group(jobs).items()]
    everything = together(jobs, known)
    basis = Counter(known[job.name].basis for job in jobs)
    limits = ", every job at its limit" if everything.bounds else ""
    return [
        f"Forecast for scale {config.scale}, device {config.device}: {len(jobs)} jobs, from the beginning",
        "",
        *table([heads, *rows, row("together", everything)]),
        "",
        f"Known from: {basis[MEASURED]} jobs measured in results/{config.scale}; {basis[ALIKE]} like one of their row;",
        f"{basis[BOUND]} by the limits in study.yaml, which are upper bounds: so is every sum that holds one (≤).",
        f"On this machine ({cores} cores, {gpus or 'no'} GPU{'s' * (gpus > 1)}): "
        f"{clock(at_least(jobs, known, cores, gpus))}, with no core or GPU ever idle{limits}.",
        *_without_gpu(config, jobs, known, gpus),
    ]


def _without_gpu(config: Config, jobs: Sequence[Task], known: dict[str, Need], gpus: int) -> list[str]:
    """A warning where limits that were written for a GPU are held against the CPU."""
    asking = [job for job in jobs if job.limits.gpu and known[job.name].basis == BOUND]
    if not asking or (gpus and config.device != "cpu"):
        return []
    why = "device: cpu" if config.device == "cpu" else "there is no GPU here"
    return [
        f"{len(asking)} jobs have limits for a GPU, and {why}: on the CPU they may take far longer than these bounds."
    ]


def comparison_lines(jobs: Sequence[Task], before: dict[str, Kept]) -> list[str]:
    """Forecast and fact of the jobs that ran after they were forecast; nothing if none did."""
    facts = {
        job.name: fact for job in jobs if ran_after(job, before[job.name].made) and (fact := measured(job)) is not None
    }
    ran = [job for job in jobs if job.name in facts]
    if not ran:
        return []
    expected = {job.name: before[job.name].need for job in ran}
    heads = ["", "jobs", "time of all jobs", "memory of a job", "disk", "GPU-hours"]
    rows = [
        _both(name, together(members, expected), together(members, facts)) for name, members in by_group(ran).items()
    ]
    rows.append(_both("together", together(ran, expected), together(ran, facts)))
    return [
        "", f"Forecast → fact, for the {len(ran)} of {len(jobs)} jobs that ran since they were forecast", "",
        *table([heads, *rows]), *_excesses(ran, facts),
    ]  # fmt: skip


def _both(name: str, expected: Sum, fact: Sum) -> list[str]:
    most = "≤ " if expected.bounds else ""

    def cell(word: Callable[[float], str], what: str) -> str:
        return f"{most}{word(getattr(expected, what))} → {word(getattr(fact, what))}"

    columns = [(clock, "seconds"), (size, "memory"), (size, "disk"), (hours, "gpu_seconds")]
    return [name, str(fact.jobs), *(cell(word, what) for word, what in columns)]


def _excesses(ran: Iterable[Task], facts: dict[str, Need]) -> list[str]:
    """The jobs that took more than their study.yaml allows, which is then wrong."""
    lines = []
    for job in ran:
        fact, most = facts[job.name], bound(job)
        over = [
            f"{word(getattr(fact, what))} of {name} (resources.{job.stage}.{key}: {word(getattr(most, what))})"
            for what, name, key, word in EXCESSES
            if getattr(fact, what) > getattr(most, what) > 0
        ]
        lines += [f"Above its limit: {job.name}: {', '.join(over)}"] if over else []
    return ["", *lines] if lines else []


EXCESSES: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("seconds", "time", "runtime", clock),
    ("memory", "memory", "mem_mb", size),
    ("disk", "disk", "disk_mb", size),
)


# ------------------------------------------------------------------------------------------------ the command line


@cache
def cores_here() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configuration(arguments: Sequence[str]) -> tuple[Config, str]:
    """config.yaml with the `key=value` of the command line laid over it, and the file's name."""
    where = next(filter(lambda name: Path(name).exists(), CONFIGS), CONFIGS[0])
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    content = {**read_yaml(Path(where)), **{key: yaml.safe_load(value) for key, value in given.items()}}
    return load_config(content, where), where


def main(arguments: list[str]) -> int:
    """The command line: keys of config.yaml with their values."""
    try:
        config, where = configuration(arguments)
        jobs = tasks(config, where)
        known = needs(jobs)
        path = RESULTS / config.scale / "forecast.json"
        kept = read_kept(path)
        before = foretold(jobs, known, kept, time.time())
        gpus = 0 if config.device == "cpu" else len(devices_here())
        lines = forecast_lines(config, jobs, known, cores_here(), gpus)
        print("\n".join([*lines, *comparison_lines(jobs, before)]))
        write_json(path, {"jobs": {name: asdict(one) for name, one in {**kept, **before}.items()}})
    except OntogenyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
