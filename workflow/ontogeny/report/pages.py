"""What the templates show: studies, claims and tests in words, counts, and the positions of little drawings."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ontogeny.claims import FAILS, HOLDS, INCONCLUSIVE, OUT_OF_SCOPE, REPORTED, ClaimResult, TestResult
from ontogeny.report import wording
from ontogeny.report.collect import Study
from ontogeny.report.own import Own
from ontogeny.statistics import FAMILYWISE_ERROR
from ontogeny.study import Criterion

LARGEST_SVG = 1_500_000  # bytes; a drawing with more marks than that is embedded as pixels
DETERMINISTIC = "deterministic"  # the method of an estimate without sampling error


@dataclass(frozen=True)
class Mark:
    """How a verdict looks: a symbol, a word, and the css class that gives the colour."""

    symbol: str
    word: str
    style: str


MARKS = {
    HOLDS: Mark("✓", HOLDS, "holds"),
    FAILS: Mark("✗", FAILS, "fails"),
    INCONCLUSIVE: Mark("?", INCONCLUSIVE, "inconclusive"),
    OUT_OF_SCOPE: Mark("–", OUT_OF_SCOPE, "scope"),
}
REPORT_MARK = Mark("·", REPORTED, "reported")


@dataclass(frozen=True)
class Strip:
    """A test drawn on a line from 0 to 100: its interval, its estimate, and where the criterion is met.

    Ends that are not finite lie at the edge and are marked as open.
    """

    low: float
    high: float
    estimate: float
    met: tuple[float, float] | None
    open_low: bool
    open_high: bool


def strip(test: TestResult, criterion: Criterion) -> Strip:
    """Place a test and its criterion on a common line."""
    bounds = _bounds(criterion)
    known = [test.estimate, test.ci_low, test.ci_high, *bounds]
    finite = [value for value in known if value is not None]
    least, most = min(finite), max(finite)
    room = 0.15 * (most - least) or abs(most) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - least + room) / (most - least + 2 * room), 2)

    met = tuple(edge if end is None else place(end) for end, edge in zip(bounds, (0.0, 100.0), strict=True))
    return Strip(
        low=0.0 if test.ci_low is None else place(test.ci_low),
        high=100.0 if test.ci_high is None else place(test.ci_high),
        estimate=place(test.estimate),
        met=None if criterion.report else (met[0], met[1]),
        open_low=test.ci_low is None,
        open_high=test.ci_high is None,
    )


def _bounds(criterion: Criterion) -> tuple[float | None, float | None]:
    """The lower and the upper bound of a criterion; None where it has none."""
    if criterion.between is not None:
        return criterion.between
    lower = criterion.at_least if criterion.at_least is not None else criterion.above
    upper = criterion.at_most if criterion.at_most is not None else criterion.below
    return lower, upper


def environment(templates: Path) -> Environment:
    """The templates with the words and marks that they use. A name that they misspell is an error."""
    env = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words = (wording.number, wording.percent, wording.seconds, wording.memory, wording.ranges, wording.criterion)
    tests = (wording.estimate, wording.confidence, wording.detectable)
    env.filters.update({word.__name__: word for word in (*words, *tests)})
    env.globals.update(marks=MARKS, mark=_mark, strip=strip, picture=picture)
    return env


def _mark(verdict: str) -> Mark:
    return MARKS.get(verdict, REPORT_MARK)


def picture(study: Study | Own, name: str) -> str:
    """A figure as a data address: vector graphics, unless these would be very large."""
    svg = study.figure(name, "svg")
    path, kind = (svg, "svg+xml") if svg.stat().st_size <= LARGEST_SVG else (study.figure(name, "png"), "png")
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def counts(claims: Sequence[ClaimResult]) -> dict[str, int]:
    """The number of claims with each verdict, all verdicts listed."""
    found = Counter(claim.verdict for claim in claims)
    return {verdict: found[verdict] for verdict in MARKS}


def expected_errors(studies: Sequence[Study]) -> dict[str, float]:
    """How many verdicts are wrong by chance, in expectation and at most.

    `holds`: if no claim were true. A claim holds wrongly only if the interval of a test that is not met misses.
    `fails`: if every claim were true. A claim fails wrongly if the interval of any of its tests misses.
    Tests without sampling error cannot be wrong by chance; a claim with one such test can still fail by another.
    """
    holds = fails = 0.0
    for study in studies:
        for claim in study.claims:
            random = [test for test in claim.tests if test.verdict != REPORTED and test.method != DETERMINISTIC]
            holds += (1 - study.level) * bool(random)
            fails += (1 - study.level) * len(random)
    return {HOLDS: holds, FAILS: fails}


def columns(studies: Sequence[Study]) -> list[str]:
    """Headings of the matrix: the claims' id where all studies agree on it, else its place."""
    widest = max((len(study.claims) for study in studies), default=0)
    names = [{study.claims[i].claim for study in studies if i < len(study.claims)} for i in range(widest)]
    return [ids.pop() if len(ids) == 1 else str(place) for place, ids in enumerate(names, 1)]


def render(studies: Sequence[Study], models: Sequence[Own], scale: str, templates: Path) -> dict[str, str]:
    """Every page of the atlas: its address within the atlas, and its text."""
    env = environment(templates)
    claims = [claim for study in studies for claim in study.claims]
    headlines = [claim for claim in claims if claim.headline]
    shared: dict[str, Any] = {
        "studies": studies,
        "models": models,
        "scale": scale,
        "claims": claims,
        "counts": counts(claims),
        "headlines": headlines,
        "headline_counts": counts(headlines),
        "count_claims": counts,
    }
    methods = {"errors": expected_errors(studies), "familywise": FAMILYWISE_ERROR}
    pages = {
        "index.html": env.get_template("index.html.j2").render(root="", columns=columns(studies), **shared),
        "methods.html": env.get_template("methods.html.j2").render(root="", **methods, **shared),
    }
    for place, study in enumerate(studies):
        around = {
            "before": studies[place - 1] if place else None,
            "after": studies[place + 1] if place + 1 < len(studies) else None,
        }
        page = env.get_template("study.html.j2").render(root="../", study=study, **around, **shared)
        pages[f"studies/{study.slug}.html"] = page
    for model in models:
        pages[f"own/{model.name}.html"] = env.get_template("own.html.j2").render(root="../", model=model, **shared)
    return pages
