"""Verdicts: an estimate with its interval, held against a criterion that was written down before the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ontogeny.errors import OntogenyError
from ontogeny.files import read_json
from ontogeny.rooms import part
from ontogeny.statistics import Estimate, Interval
from ontogeny.study import ClaimSpec, Criterion, StudySpec

HOLDS, FAILS, INCONCLUSIVE, OUT_OF_SCOPE, REPORTED = (
    "holds",
    "fails",
    "inconclusive",
    "out of scope",
    "reported",
)
SYMBOLS = {"at_least": "≥", "at_most": "≤", "above": ">", "below": "<"}


@dataclass(frozen=True)
class TestResult:
    """One test of a claim. `detectable` is given for inconclusive tests: the smallest distance from the criterion
    that the interval could have told apart. Bounds that are not finite are stored as None."""

    test: str
    statement: str
    unit: str
    estimate: float
    ci_low: float | None
    ci_high: float | None
    criterion: str
    verdict: str
    detectable: float | None
    seeds: int
    method: str


@dataclass(frozen=True)
class ClaimResult:
    """The verdict on one claim and the tests that it rests on."""

    claim: str
    statement: str
    source: str
    paper_value: str
    headline: bool
    verdict: str
    reason: str
    tests: tuple[TestResult, ...]


def decide(spec: StudySpec, scale: str, tables: Mapping[str, pd.DataFrame]) -> list[ClaimResult]:
    """The verdict on every claim of a study, from its tidy tables.

    Raises OntogenyError if claims.py lacks a claim, or returns other tests than study.yaml lists.
    """
    module, interval = part(spec.slug, "claims"), Interval.simultaneous(len(spec.claims))
    results = []
    for name, claim in spec.claims.items():
        if scale in claim.out_of_scope:
            results.append(_result(name, claim, OUT_OF_SCOPE, claim.out_of_scope[scale], ()))
            continue
        if not hasattr(module, name):
            raise OntogenyError(f"{module.__file__}: has no function {name}, but study.yaml lists that claim.")
        estimates = getattr(module, name)(tables, interval)
        if set(estimates) != set(claim.tests):
            raise OntogenyError(
                f"{module.__file__}: {name} returns the tests {sorted(estimates)}, "
                f"but study.yaml lists {sorted(claim.tests)}."
            )
        tests = tuple(judge(test, claim.tests[test], estimates[test]) for test in claim.tests)
        results.append(_result(name, claim, *_combine(tests), tests))
    return results


def judge(name: str, criterion: Criterion, estimate: Estimate) -> TestResult:
    """Hold one estimate against its criterion."""
    if math.isnan(estimate.value) or math.isnan(estimate.low) or math.isnan(estimate.high):
        raise OntogenyError(f"test {name}: the estimate or its interval is not a number ({estimate}).")
    verdict = test_verdict(criterion, estimate)
    half_width = (estimate.high - estimate.low) / 2
    return TestResult(
        test=name,
        statement=criterion.statement,
        unit=criterion.unit,
        estimate=estimate.value,
        ci_low=_finite(estimate.low),
        ci_high=_finite(estimate.high),
        criterion=describe(criterion),
        verdict=verdict,
        detectable=_finite(half_width) if verdict == INCONCLUSIVE else None,
        seeds=estimate.n,
        method=estimate.method,
    )


def test_verdict(criterion: Criterion, estimate: Estimate) -> str:
    """`holds` if the whole interval satisfies the criterion, `fails` if no part of it does, else `inconclusive`."""
    if criterion.report:
        return REPORTED
    inside = [meets(criterion, value) for value in (estimate.low, estimate.high)]
    if all(inside):
        return HOLDS
    return FAILS if _disjoint(criterion, estimate) else INCONCLUSIVE


def meets(criterion: Criterion, value: float) -> bool:
    """Whether a value satisfies a criterion that has a bound."""
    kind, bound = next(iter(criterion.bounds().items()))
    return bool(
        {
            "at_least": lambda: value >= bound,
            "at_most": lambda: value <= bound,
            "above": lambda: value > bound,
            "below": lambda: value < bound,
            "between": lambda: bound[0] <= value <= bound[1],
        }[kind]()
    )


def _disjoint(criterion: Criterion, estimate: Estimate) -> bool:
    if criterion.between is not None:
        return estimate.high < criterion.between[0] or estimate.low > criterion.between[1]
    return not meets(criterion, estimate.low) and not meets(criterion, estimate.high)


def describe(criterion: Criterion) -> str:
    """The criterion in symbols, e.g. '≥ 0.95' or 'in [-0.02, 0.15]'."""
    if criterion.report:
        return "reported only"
    kind, bound = next(iter(criterion.bounds().items()))
    if kind == "between":
        return f"in [{bound[0]:g}, {bound[1]:g}]"
    return f"{SYMBOLS[kind]} {bound:g}"


def _combine(tests: tuple[TestResult, ...]) -> tuple[str, str]:
    """The claim's verdict and the reason for it."""
    for verdict in (FAILS, INCONCLUSIVE):
        names = [test.test for test in tests if test.verdict == verdict]
        if names:
            return verdict, f"{', '.join(names)}: {verdict}"
    deciding = [test for test in tests if test.verdict == HOLDS]
    if not deciding:
        return INCONCLUSIVE, "no test decides"
    return HOLDS, "every deciding test holds"


def _result(name: str, claim: ClaimSpec, verdict: str, reason: str, tests: tuple[TestResult, ...]) -> ClaimResult:
    return ClaimResult(name, claim.statement, claim.source, claim.paper_value, claim.headline, verdict, reason, tests)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_json(spec: StudySpec, scale: str, results: list[ClaimResult]) -> dict[str, Any]:
    """What claims.json holds."""
    return {
        "study": spec.slug,
        "scale": scale,
        "level": Interval.simultaneous(len(spec.claims)).level,
        "deviations": spec.deviations,
        "claims": [asdict(result) for result in results],
    }


def read_claims(path: Path) -> dict[str, ClaimResult]:
    """The results that a claims.json holds, by claim id."""
    content = read_json(path)
    results = [
        ClaimResult(**{**claim, "tests": tuple(TestResult(**test) for test in claim["tests"])})
        for claim in content["claims"]
    ]
    return {result.claim: result for result in results}
