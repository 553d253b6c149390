"""Building the atlas: everything is written beside it first, then put in its place entry by entry."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ontogeny.files import atomic, sha256, write_json, write_text
from ontogeny.report.collect import FIGURE_KINDS, NOTEBOOK_KINDS, Needs, RunRecord, Study, collect
from ontogeny.report.own import KINDS, Own, collect_own
from ontogeny.report.pages import render
from ontogeny.report.tables import csv_text, tex_text

ENTRANCE = "index.html"  # put in its place last: where it lies, the rest is complete


def build(
    results: Path,
    scale: str,
    studies: Sequence[str],
    out: Path,
    templates: Path,
    runs: Mapping[str, Sequence[str]] | None = None,
    needs: Mapping[str, Needs] | None = None,
    own: Sequence[str] = (),
) -> None:
    """Write the atlas of the studies at a scale into the folder `out`; what else lies there stays.

    results: the folder of all results. templates: the folder of the pages' templates.
    runs: the runs that belong to each study; without it every finished run in the study's folder counts.
    needs: what each study was built on; without it the sources that its study.yaml names.
    own: names of the user's models that were examined.
    Raises DamagedFile for a missing or damaged file of an earlier stage; nothing of `out` has changed then.
    """
    found = collect(results, scale, studies, runs, needs)
    models = collect_own(results, own, found)
    work = out.with_name(f".{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    try:
        _write(found, models, scale, work, templates)
        _publish(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(studies: Sequence[Study], models: Sequence[Own], scale: str, work: Path, templates: Path) -> None:
    for name, page in render(studies, models, scale, templates).items():
        write_text(work / name, page)
    write_text(work / "claims.csv", csv_text(studies))
    write_text(work / "claims.tex", tex_text(studies))
    write_json(work / "provenance.json", provenance(studies, scale))
    for folder in ("studies", "figures", "notebooks", "tables", "own"):
        (work / folder).mkdir(exist_ok=True)
    for study in studies:
        _copy_files(study, work)
    for model in models:
        _copy_own(model, work)


def _copy_files(study: Study, work: Path) -> None:
    """Copy a study's figures, notebook and tidy tables."""
    for name in study.spec.figures:
        for kind in FIGURE_KINDS:
            _copy(study.figure(name, kind), work / "figures" / study.slug / f"{name}.{kind}")
    for kind in NOTEBOOK_KINDS:
        _copy(study.folder / f"notebook.{kind}", work / "notebooks" / f"{study.slug}.{kind}")
    for table in study.tables:
        _copy(table.path, work / "tables" / study.slug / table.path.name)


def _copy_own(model: Own, work: Path) -> None:
    for figure in model.captions:
        for kind in KINDS:
            _copy(model.figure(figure, kind), work / "figures" / "own" / model.name / f"{figure}.{kind}")
    for table in model.tables:
        _copy(model.folder / "examination" / table, work / "tables" / "own" / model.name / table)


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def _publish(work: Path, out: Path) -> None:
    """Replace the entries of `out` by those of `work`, the entrance last."""
    out.mkdir(parents=True, exist_ok=True)
    (out / ENTRANCE).unlink(missing_ok=True)
    for entry in sorted(work.iterdir(), key=lambda path: (path.name == ENTRANCE, path.name)):
        target = out / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)


def provenance(studies: Sequence[Study], scale: str) -> dict[str, Any]:
    """Where every number comes from: sources, data, runs with code and versions, tables, verdicts."""
    return {
        "scale": scale,
        "sources": {receipt["name"]: receipt for study in studies for receipt in study.sources},
        "studies": {study.slug: _origin(study) for study in studies},
    }


def _origin(study: Study) -> dict[str, Any]:
    return {
        "claims": sha256(study.folder / "claims.json"),
        "data": study.data,
        "runs": {run.name: _run_origin(run) for run in study.runs},
        "bases": {base: {run.name: _run_origin(run) for run in runs} for base, runs in study.bases.items()},
        "sources": [receipt["name"] for receipt in study.sources],
        "tables": {table.name: table.digest for table in study.tables},
    }


def _run_origin(run: RunRecord) -> dict[str, Any]:
    keys = ("row", "seeds", "settings", "device", "threads", "code", "fingerprint", "packages", "machine", "manifest")
    return {key: getattr(run, key) for key in keys}
