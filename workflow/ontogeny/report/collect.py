"""Everything that the atlas shows, read from the results of the studies. Nothing is computed here but sums."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ontogeny.claims import ClaimResult, read_claims
from ontogeny.errors import OntogenyError
from ontogeny.files import MANIFEST, Folder, damaged, read_json, read_table, sha256
from ontogeny.gpu_monitor import gpu_table, read_use
from ontogeny.study import StudySpec, load_study

BENCHMARKED = ("prepare", "train", "probe", "claims", "figures", "export")
FIGURE_KINDS = ("pdf", "svg", "png")
NOTEBOOK_KINDS = ("html", "ipynb")
RECEIPT_KEYS = {"name", "version", "licence", "origin", "files"}


@dataclass(frozen=True)
class RunRecord:
    """A finished training: what was asked, and what it was made with. `manifest` is the sha256 of its manifest."""

    name: str
    row: str
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    device: str
    threads: int
    code: dict[str, str]
    packages: dict[str, str]
    machine: dict[str, Any]
    manifest: str

    @property
    def fingerprint(self) -> str:
        """One short digest of all modules that the training imported."""
        return hashlib.sha256(json.dumps(self.code, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def made_with(self) -> tuple[str, str]:
        """The machine and the package versions, as text."""
        texts = (
            ", ".join(f"{name} {value}" for name, value in sorted(record.items()))
            for record in (self.machine, self.packages)
        )
        return next(texts), next(texts)


@dataclass(frozen=True)
class Cost:
    """What a stage took: number of measured jobs, seconds (summed) and peak memory in MB (the largest job).

    gpu_seconds: time x GPUs held (summed). gpu_peak: memory of the GPUs in MB (the largest job). gpu_load: share of
    that time in which the GPUs computed, in percent. None where nothing was measured.
    """

    stage: str
    jobs: int
    seconds: float | None
    peak: float | None
    gpu_seconds: float | None = None
    gpu_peak: float | None = None
    gpu_load: float | None = None


@dataclass(frozen=True)
class TableFile:
    """A tidy table: its file, its number of rows and the meaning of its columns."""

    name: str
    description: str
    columns: dict[str, str]
    rows: int
    path: Path
    digest: str


class Needs(TypedDict):
    """What a study was built on: names of sources, and the runs of its bases."""

    sources: Sequence[str]
    bases: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Study:
    """A study at a scale, with all that its page shows."""

    spec: StudySpec
    scale: str
    folder: Path
    level: float
    deviations: tuple[str, ...]
    claims: tuple[ClaimResult, ...]
    runs: tuple[RunRecord, ...]
    costs: tuple[Cost, ...]
    tables: tuple[TableFile, ...]
    data: dict[str, str]
    sources: tuple[dict[str, Any], ...]
    bases: Mapping[str, tuple[RunRecord, ...]]

    @property
    def slug(self) -> str:
        """The study's name in files."""
        return self.spec.slug

    @property
    def seeds(self) -> int:
        """The number of different seeds over all runs."""
        return len({seed for run in self.runs for seed in run.seeds})

    @property
    def cost(self) -> Cost:
        """The cost of all stages together."""
        return Cost(
            "together",
            sum(cost.jobs for cost in self.costs),
            total(cost.seconds for cost in self.costs),
            largest(cost.peak for cost in self.costs),
            total(cost.gpu_seconds for cost in self.costs),
            largest(cost.gpu_peak for cost in self.costs),
            mean((cost.gpu_load, cost.gpu_seconds) for cost in self.costs),
        )

    def figure(self, name: str, kind: str) -> Path:
        """The file of a declared figure."""
        return self.folder / "figures" / f"{name}.{kind}"


def collect(
    results: Path,
    scale: str,
    slugs: Sequence[str],
    runs: Mapping[str, Sequence[str]] | None = None,
    needs: Mapping[str, Needs] | None = None,
) -> list[Study]:
    """Read the results of the studies at a scale.

    runs: the runs that belong to each study; without it every finished run in the study's folder counts.
    needs: what each study was built on; without it the sources that its study.yaml names.
    Raises DamagedFile for a missing or damaged file, with the way out.
    """
    return [_study(results, scale, slug, (runs or {}).get(slug), (needs or {}).get(slug)) for slug in slugs]


def _study(results: Path, scale: str, slug: str, runs: Sequence[str] | None, needs: Needs | None) -> Study:
    spec, folder = load_study(slug), results / scale / slug
    needs = needs or Needs(sources=spec.sources, bases={})
    level, deviations, claims = _verdicts(folder / "claims.json")
    records = tuple(_run(folder / "runs" / name) for name in runs or _finished(folder / "runs"))
    study = Study(
        spec=spec,
        scale=scale,
        folder=folder,
        level=level,
        deviations=deviations,
        claims=claims,
        runs=records,
        costs=_costs(folder / "benchmarks", [run.name for run in records]),
        tables=_tables(spec, folder / "probes"),
        data=dict(Folder(folder / "data").manifest),
        sources=tuple(_receipt(results / "sources" / f"{name}.json") for name in needs["sources"]),
        bases={
            base: tuple(_run(results / scale / base / "runs" / name) for name in names)
            for base, names in needs["bases"].items()
        },
    )
    _require_copies(study)
    return study


def _verdicts(path: Path) -> tuple[float, tuple[str, ...], tuple[ClaimResult, ...]]:
    """The interval level, the deviations and the claims that a claims.json holds."""
    content = read_json(path)
    try:
        return float(content["level"]), tuple(content["deviations"]), tuple(read_claims(path).values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"it is not a list of verdicts: {type(error).__name__} {error}") from error


def _finished(folder: Path) -> list[str]:
    """Names of the finished runs, rows in alphabetical order and blocks of seeds in numerical order."""
    names = [path.parent.name for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in name.rsplit("-s", 1)])


def _run(path: Path) -> RunRecord:
    folder = Folder(path)
    config, origin = folder.json("config.json"), folder.json("provenance.json")
    try:
        asked = {key: config[key] for key in ("row", "settings")}
        made = {key: origin[key] for key in ("device", "threads", "code", "packages", "machine")}
        seeds = tuple(int(seed) for seed in config["seeds"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"its records lack {error}") from error
    return RunRecord(name=path.name, seeds=seeds, manifest=sha256(path / MANIFEST), **asked, **made)


def _costs(folder: Path, runs: Sequence[str]) -> tuple[Cost, ...]:
    """The cost of each stage, from the benchmark tables that exist."""
    files = {stage: [folder / f"{stage}.tsv"] for stage in BENCHMARKED}
    files["train"] = [folder / "train" / f"{name}.tsv" for name in runs]
    return tuple(_cost(stage, paths) for stage, paths in files.items())


def _cost(stage: str, paths: Sequence[Path]) -> Cost:
    rows = [row for path in paths for row in _benchmark(path)]
    uses = [use for path in paths if (use := read_use(gpu_table(path))) is not None]
    return Cost(
        stage,
        len(rows),
        total(_float(row.get("s")) for row in rows),
        largest(_float(row.get("max_rss")) for row in rows),
        total(use.gpus * use.s for use in uses),
        largest(use.max_gpu_mb for use in uses),
        mean((use.mean_load, use.gpus * use.s) for use in uses),
    )


def total(values: Iterable[float | None]) -> float | None:
    """The sum of what was measured; None if nothing was."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def largest(values: Iterable[float | None]) -> float | None:
    """The largest of what was measured; None if nothing was."""
    return max((value for value in values if value is not None), default=None)


def mean(weighted: Iterable[tuple[float | None, float | None]]) -> float | None:
    """The mean of (value, weight) over what was measured; None if nothing was."""
    known = [(value, weight) for value, weight in weighted if value is not None and weight]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None


def _benchmark(path: Path) -> list[dict[str, str]]:
    """The rows of a benchmark table; none if there is no table."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def _float(text: str | None) -> float | None:
    """The number in a cell of a benchmark table, or None for '-', 'NA' and the like."""
    try:
        return float(text) if text and text.lower() != "nan" else None
    except ValueError:
        return None


def _tables(spec: StudySpec, path: Path) -> tuple[TableFile, ...]:
    folder, tables = Folder(path), []
    for name, table in spec.tables.items():
        file = folder.file(f"{name}.parquet")
        rows = len(read_table(file))
        tables.append(TableFile(name, table.description, table.columns, rows, file, folder.manifest[file.name]))
    return tuple(tables)


def _receipt(path: Path) -> dict[str, Any]:
    receipt: dict[str, Any] = read_json(path)
    if not isinstance(receipt, dict) or not receipt.keys() >= RECEIPT_KEYS:
        raise damaged(path, "it is not the receipt of a source")
    return receipt


def _require_copies(study: Study) -> None:
    """Raise OntogenyError unless the figures and the notebook, which the atlas copies, are there."""
    wanted = [study.figure(name, kind) for name in study.spec.figures for kind in FIGURE_KINDS]
    wanted += [study.folder / f"notebook.{kind}" for kind in NOTEBOOK_KINDS]
    missing = [path for path in wanted if not path.is_file()]
    if missing:
        way_out = f"Draw it again: snakemake --forcerun figures --config studies={study.slug} scale={study.scale}"
        raise OntogenyError(f"{missing[0]}: is missing. {way_out}")
