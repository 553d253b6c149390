"""What was found in models of the user's, beside what the studies found in their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ontogeny.claims import ClaimResult, TestResult, describe, meets
from ontogeny.errors import OntogenyError
from ontogeny.files import Folder, damaged, sha256
from ontogeny.report.collect import Study
from ontogeny.study import Criterion, StudySpec, load_study

KINDS = ("pdf", "svg", "png")


@dataclass(frozen=True)
class Finding:
    """One of the study's tests on the user's model. `meets`: None for a test that decides nothing."""

    claim: str
    test: str
    statement: str
    unit: str
    criterion: str
    value: float
    meets: bool | None
    reproduced: TestResult | None


@dataclass(frozen=True)
class Own:
    """A user's model as its page shows it."""

    name: str
    spec: StudySpec
    folder: Path
    findings: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...]
    files: Mapping[str, str]
    model: Mapping[str, Any]
    captions: Mapping[str, str]
    tables: tuple[str, ...]
    digest: str
    reproduced: bool  # whether the atlas has the study's own estimates

    def figure(self, name: str, kind: str) -> Path:
        """The file of a figure."""
        return self.folder / "figures" / f"{name}.{kind}"


def collect_own(results: Path, names: Sequence[str], studies: Sequence[Study]) -> list[Own]:
    """Read what was found in each named model; `studies` are those of the atlas.

    Raises DamagedFile for a missing or damaged file.
    """
    done = {study.slug: {claim.claim: claim for claim in study.claims} for study in studies}
    return [_own(results, name, done) for name in names]


def _own(results: Path, name: str, studies: Mapping[str, Mapping[str, ClaimResult]]) -> Own:
    folder = results / "own" / name
    examination, figures = Folder(folder / "examination"), Folder(folder / "figures")
    content = examination.json("findings.json")
    try:
        spec = load_study(content["study"])
        done = studies.get(spec.slug, {})
        findings = tuple(
            _finding(spec, claim, test, value, done)
            for claim, tests in content["measured"].items()
            for test, value in tests.items()
        )
        return Own(
            name=name,
            spec=spec,
            folder=folder,
            findings=findings,
            facts=tuple((what, value) for what, value in content["facts"]),
            files=content["files"],
            model=content["model"],
            captions=figures.json("captions.json"),
            tables=tuple(sorted(file for file in examination.manifest if file.endswith(".parquet"))),
            digest=sha256(folder / "examination" / "findings.json"),
            reproduced=bool(done),
        )
    except (KeyError, TypeError, ValueError, OntogenyError) as error:
        raise damaged(folder / "examination", f"it holds no findings: {type(error).__name__} {error}") from error


def _finding(spec: StudySpec, claim: str, test: str, value: float, done: Mapping[str, ClaimResult]) -> Finding:
    criterion: Criterion = spec.claims[claim].tests[test]
    tests = done[claim].tests if claim in done else ()
    reproduced = next((result for result in tests if result.test == test), None)
    met = None if criterion.report else meets(criterion, value)
    return Finding(claim, test, criterion.statement, criterion.unit, describe(criterion), float(value), met, reproduced)
