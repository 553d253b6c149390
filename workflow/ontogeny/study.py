"""A study: what ``study.yaml`` says, and the runs that follow from it at a scale; likewise a base (``base.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

from pydantic import Field, model_validator

from ontogeny.errors import ConfigError, did_you_mean
from ontogeny.rooms import all_bases, all_studies, part, study_file
from ontogeny.settings import ModelData, Settings, read_yaml, validate

SCALES = ("smoke", "laptop", "paper")
STAGES = ("prepare", "train", "probe", "figures", "claims")
GPU_STAGES = ("prepare", "train", "probe")  # the others draw and decide
RESERVED = ("seeds", "seeds_per_run")  # keys of a row that say how often it runs, not what it runs

Scale = Literal["smoke", "laptop", "paper"]


class Paper(Settings):
    """Where the findings were published."""

    authors: str
    title: str
    year: int
    arxiv: str | None
    code: str | None = Field(description="address of the authors' code, or null")


class Resources(Settings):
    """What one job of a stage needs. `threads` is what torch uses, whatever the machine has."""

    threads: int = Field(1, ge=1)
    mem_mb: int = Field(1500, ge=100, description="peak memory in MB")
    runtime: int = Field(10, ge=1, description="wall time in minutes")
    gpu: float = Field(0, ge=0, le=64, description="GPUs; below 1 a share of one, so that several jobs use it at once")
    disk_mb: int = Field(1000, ge=1, description="what the job leaves on disk at most, in MB")

    @model_validator(mode="after")
    def _whole_devices_or_a_share(self) -> Resources:
        if self.gpu % 1 and not 0.05 <= self.gpu < 1:
            raise ValueError("gpu is a whole number of devices, or a share of one between 0.05 and 1")
        return self


class Criterion(Settings):
    """One test of a claim: a statement, and the bound that its estimate is held against."""

    statement: str
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    between: tuple[float, float] | None = None
    report: bool = Field(False, description="estimated and shown, does not decide the claim")

    @model_validator(mode="after")
    def _exactly_one_bound(self) -> Criterion:
        if len(self.bounds()) + self.report != 1:
            raise ValueError("needs exactly one of at_least, at_most, above, below, between, or report: true")
        return self

    def bounds(self) -> dict[str, Any]:
        """The bound that is given, as {kind: value}; empty for a test that only reports."""
        kinds = ("at_least", "at_most", "above", "below", "between")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind) is not None}


class ClaimSpec(Settings):
    """A finding of the paper: it holds if all its tests hold, and fails if one of them fails."""

    statement: str
    source: str
    paper_value: str
    headline: bool = False
    tests: dict[str, Criterion] = Field(min_length=1)
    out_of_scope: dict[Scale, str] = Field({}, description="scales that cannot test the claim, with the reason")


class TableSpec(Settings):
    """A tidy table: one observation a row."""

    description: str
    columns: dict[str, str] = Field(min_length=1, description="column -> meaning [unit]")


class ScaleSpec(Settings):
    """What a scale changes: numbers of seeds, and differences to the data and to rows of the sweep."""

    seeds: int = Field(ge=1)
    seeds_per_run: int = Field(ge=1)
    data: dict[str, Any] = {}
    sweep: dict[str, dict[str, Any] | None] = Field({}, description="row -> differences; null drops the row")


class World(Settings):
    """A small world for the null-world test: differences to the smoke scale."""

    seeds: int | None = Field(None, ge=1)
    data: dict[str, Any] = {}
    sweep: dict[str, dict[str, Any] | None] = {}


class RoomSpec(Settings):
    """What a study and a base have in common: all that it takes to prepare data and to train."""

    slug: str
    title: str
    sources: list[str]
    data: dict[str, Any]
    sweep: dict[str, dict[str, Any]] = Field(min_length=1)
    scales: dict[Scale, ScaleSpec]
    resources: dict[str, Any]

    def stage_resources(self, stage: str, scale: str) -> Resources:
        """What one job of `stage` needs at `scale`."""
        merged = {**self.resources.get(stage, {}), **self.resources.get(scale, {}).get(stage, {})}
        return validate(Resources, merged, f"{study_file(self.slug)}: resources.{stage}")


class BaseSpec(RoomSpec):
    """The whole of a ``base.yaml``: data and trained networks that several studies build on."""

    description: str


class StudySpec(RoomSpec):
    """The whole of a ``study.yaml``."""

    paper: Paper
    question: str
    tables: dict[str, TableSpec] = Field(min_length=1)
    figures: dict[str, str] = Field(min_length=1)
    claims: dict[str, ClaimSpec] = Field(min_length=1)
    deviations: list[str] = []
    null_world: str
    worlds: dict[Literal["control", "ablated"], World]


@dataclass(frozen=True)
class RunPlan:
    """One training job: a row of the sweep x a block of seeds."""

    name: str
    row: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """All that a study computes at a scale."""

    study: str
    scale: str
    data: dict[str, Any]
    sources: tuple[str, ...]
    bases: tuple[str, ...]
    runs: dict[str, RunPlan]


def load_study(slug: str) -> StudySpec:
    """Read, check and return the study.yaml of `slug`. Raises ConfigError."""
    if slug not in all_studies():
        raise ConfigError(f"there is no study '{slug}'; {did_you_mean(slug, all_studies())}")
    spec = load_room(slug)
    assert isinstance(spec, StudySpec)
    return spec


@cache
def load_room(slug: str) -> StudySpec | BaseSpec:
    """Read, check and return what describes the study or base `slug`. Raises ConfigError."""
    if slug not in (*all_studies(), *all_bases()):
        raise ConfigError(f"there is no study or base '{slug}'; {did_you_mean(slug, (*all_studies(), *all_bases()))}")
    path = study_file(slug)
    spec: StudySpec | BaseSpec = validate(BaseSpec if slug in all_bases() else StudySpec, read_yaml(path), str(path))
    if spec.slug != slug:
        raise ConfigError(f"{path}: slug: is '{spec.slug}', but the folder is '{slug}'.")
    unknown = [key for key in spec.resources if key not in (*STAGES, *SCALES)]
    if unknown:
        raise ConfigError(f"{path}: resources.{unknown[0]}: unknown stage; {did_you_mean(unknown[0], STAGES)}")
    for stage, scale in product(STAGES, SCALES):
        if spec.stage_resources(stage, scale).gpu and stage not in GPU_STAGES:
            raise ConfigError(f"{path}: resources.{stage}.gpu: only {', '.join(GPU_STAGES)} may use a GPU.")
    return spec


def plan(
    slug: str,
    scale: str,
    overrides: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    where: str | None = None,
) -> Plan:
    """Work out the data settings, the needs and the runs of a study or base at a scale.

    overrides: {"seeds": int, "data": {...}, "sweep": {row: {...}}}, differences to what the study says.
    seeds: number of seeds of every row, in place of the study's own numbers.
    where: the file that the overrides come from, for messages.
    Raises ConfigError for an unknown scale, row or key, or a value outside its domain.
    """
    spec, overrides = load_room(slug), overrides or {}
    origin = f"{where}: overrides.{slug}" if where and overrides else f"{study_file(slug)}"
    if scale not in spec.scales:
        raise ConfigError(f"{study_file(slug)}: has no scale '{scale}'; {did_you_mean(scale, spec.scales)}")
    chosen = spec.scales[scale]
    data = _merge(spec.data, chosen.data, f"{study_file(slug)}: scales.{scale}.data")
    data = _merge(data, overrides.get("data", {}), f"{origin}.data")
    typed = validate(part(slug, "settings").DataSettings, data, _key(origin, "data"))
    needs = typed if isinstance(typed, ModelData) else ModelData()
    sources = (*spec.sources, *needs.further_sources())
    rows = _rows(spec, chosen, overrides, seeds, origin)
    runs = {run.name: run for row in rows for run in _blocks(*row)}
    return Plan(slug, scale, typed.model_dump(mode="json"), sources, needs.bases(), runs)


def _key(origin: str, key: str) -> str:
    return f"{origin}.{key}" if ": " in origin else f"{origin}: {key}"


def _merge(base: dict[str, Any], change: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """`base` with `change` laid over it; a key that `base` lacks is an error."""
    for key in change or {}:
        if key not in base and key not in RESERVED:
            raise ConfigError(f"{where}.{key}: unknown key; {did_you_mean(key, base)}")
    return {**base, **(change or {})}


def _rows(spec: RoomSpec, chosen: ScaleSpec, overrides: Mapping[str, Any], seeds: int | None, origin: str) -> list:
    """The rows of a scale as (row, settings, number of seeds, seeds per run)."""
    rows = []
    for diff, where in ((chosen.sweep, str(study_file(spec.slug))), (overrides.get("sweep", {}), origin)):
        for row in diff:
            if row not in spec.sweep:
                raise ConfigError(f"{_key(where, 'sweep')}.{row}: no such row; {did_you_mean(row, spec.sweep)}")
    changes = overrides.get("sweep", {})
    for row, base in spec.sweep.items():
        own = chosen.sweep.get(row, {})
        if (own is None and row not in changes) or changes.get(row, {}) is None:
            continue
        merged = _merge(base, own, f"{study_file(spec.slug)}: sweep.{row}")
        count = overrides.get("seeds") or seeds or merged.get("seeds", chosen.seeds)
        merged = _merge(merged, changes.get(row), _key(origin, f"sweep.{row}"))
        count = (changes.get(row) or {}).get("seeds", count)
        block = merged.get("seeds_per_run", chosen.seeds_per_run)
        fields = {key: value for key, value in merged.items() if key not in RESERVED}
        typed = validate(part(spec.slug, "settings").RunSettings, fields, _key(origin, f"sweep.{row}"))
        rows.append((row, typed.model_dump(mode="json"), _count(count, row, origin), _count(block, row, origin)))
    if not rows:
        raise ConfigError(f"{_key(origin, 'sweep')}: no row is left to train.")
    return rows


def _count(value: Any, row: str, origin: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        key = _key(origin, f"sweep.{row}")
        raise ConfigError(f"{key}: seeds and seeds_per_run are whole numbers of at least 1 (found {value!r}).")
    return value


def _blocks(row: str, settings: dict[str, Any], seeds: int, block: int) -> list[RunPlan]:
    """Cut seeds 0..seeds-1 into fixed blocks, so that one seed more touches the last block only."""
    bounds = [(first, min(first + block, seeds)) for first in range(0, seeds, block)]
    return [RunPlan(f"{row}-s{a}-{b - 1}", row, settings, tuple(range(a, b))) for a, b in bounds]
