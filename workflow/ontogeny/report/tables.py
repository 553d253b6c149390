"""The claims as a spreadsheet (claims.csv) and as a table with its numbers for a paper (claims.tex)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ontogeny.claims import INCONCLUSIVE, OUT_OF_SCOPE, ClaimResult, TestResult, describe
from ontogeny.report import wording
from ontogeny.report.collect import Study
from ontogeny.report.tex import escape

COLUMNS = (
    "study",
    "claim",
    "test",
    "statement",
    "test_statement",
    "source",
    "paper_value",
    "estimate",
    "ci_low",
    "ci_high",
    "unit",
    "criterion",
    "verdict",
    "claim_verdict",
    "reason",
    "detectable",
    "seeds",
    "level",
    "scale",
    "headline",
    "method",
)

PREAMBLE = r"""% Verdicts of Ontogeny. Needs \usepackage{booktabs,longtable}.
% \input this file in the preamble to use the numbers in the text and \ontoClaims where the table belongs,
% or \input it in the body to print the table there. Numbers are looked up by study, claim and test:
%   \ontoResult{study}{claim}{test}    estimate and interval     \ontoCriterion{study}{claim}{test}
%   \ontoEstimate{study}{claim}{test}                            \ontoSeeds{study}{claim}{test}
%   \ontoInterval{study}{claim}{test}                            \ontoTestVerdict{study}{claim}{test}
%   \ontoVerdict{study}{claim}
\providecommand{\ontoSet}[3]{\expandafter\gdef\csname onto/\detokenize{#1/#2}\endcsname{#3}}%
\providecommand{\ontoGet}[2]{\ifcsname onto/\detokenize{#1/#2}\endcsname%
  \csname onto/\detokenize{#1/#2}\endcsname%
  \else\textbf{??}\GenericWarning{}{Ontogeny: no number #2 for \detokenize{#1}}\fi}%
\providecommand{\ontoResult}[3]{\ontoEstimate{#1}{#2}{#3} \ontoInterval{#1}{#2}{#3}}%
\providecommand{\ontoEstimate}[3]{\ontoGet{#1/#2/#3}{estimate}}%
\providecommand{\ontoInterval}[3]{\ontoGet{#1/#2/#3}{interval}}%
\providecommand{\ontoCriterion}[3]{\ontoGet{#1/#2/#3}{criterion}}%
\providecommand{\ontoSeeds}[3]{\ontoGet{#1/#2/#3}{seeds}}%
\providecommand{\ontoTestVerdict}[3]{\ontoGet{#1/#2/#3}{verdict}}%
\providecommand{\ontoVerdict}[2]{\ontoGet{#1/#2}{verdict}}%
"""
TABLE_HEAD = r"""\gdef\ontoClaims{\begingroup\footnotesize\setlength{\tabcolsep}{4pt}%
\begin{longtable}{@{}p{0.32\linewidth}p{0.28\linewidth}p{0.17\linewidth}l@{}}
\toprule
Claim and tests & Estimate and interval & Criterion & Verdict \\
\midrule
\endhead
\bottomrule
\endfoot
"""
SPAN = r"\multicolumn{3}{@{}p{\dimexpr0.77\linewidth+4\tabcolsep\relax}}"
TABLE_FOOT = r"""\end{longtable}\endgroup}%
\expandafter\ifx\csname @nodocument\endcsname\relax\ontoClaims\fi%
"""


def csv_text(studies: Sequence[Study]) -> str:
    """claims.csv: one row a test. Ends of intervals that are not finite are -inf and inf."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for study in studies:
        for claim in study.claims:
            writer.writerows(_rows(study, claim))
    return stream.getvalue()


def _rows(study: Study, claim: ClaimResult) -> Iterator[dict[str, Any]]:
    common = {
        "study": study.slug,
        "claim": claim.claim,
        "statement": claim.statement,
        "source": claim.source,
        "paper_value": claim.paper_value,
        "claim_verdict": claim.verdict,
        "reason": claim.reason,
        "level": study.level,
        "scale": study.scale,
        "headline": str(claim.headline).lower(),
    }
    for test in claim.tests:
        yield {**common, **_measured(test)}
    if not claim.tests:
        for name, criterion in study.spec.claims[claim.claim].tests.items():
            words = {"test_statement": criterion.statement, "unit": criterion.unit, "criterion": describe(criterion)}
            yield {**common, **words, "test": name, "verdict": claim.verdict}


def _measured(test: TestResult) -> dict[str, Any]:
    detectable = "inf" if test.verdict == INCONCLUSIVE and test.detectable is None else test.detectable
    return {
        "test": test.test,
        "test_statement": test.statement,
        "estimate": test.estimate,
        "ci_low": "-inf" if test.ci_low is None else test.ci_low,
        "ci_high": "inf" if test.ci_high is None else test.ci_high,
        "unit": test.unit,
        "criterion": test.criterion,
        "verdict": test.verdict,
        "detectable": detectable,
        "seeds": test.seeds,
        "method": test.method,
    }


def tex_text(studies: Sequence[Study]) -> str:
    """claims.tex: every number behind a macro, and a longtable of all claims."""
    numbers = [line for study in studies for claim in study.claims for line in _macros(study, claim)]
    rows = [line for study in studies for line in _tex_study(study)]
    return PREAMBLE + "\n".join(numbers) + "\n" + TABLE_HEAD + "\n".join(rows) + "\n" + TABLE_FOOT


def _macros(study: Study, claim: ClaimResult) -> Iterator[str]:
    place = f"{study.slug}/{claim.claim}"
    yield _macro(place, "verdict", claim.verdict)
    for test in claim.tests:
        values = {
            "estimate": wording.estimate(test),
            "interval": wording.confidence(test),
            "criterion": wording.criterion(test.criterion),
            "seeds": str(test.seeds),
            "verdict": test.verdict,
        }
        yield from (_macro(f"{place}/{test.test}", key, value) for key, value in values.items())


def _macro(place: str, key: str, value: str) -> str:
    return rf"\ontoSet{{{place}}}{{{key}}}{{{escape(value)}}}%"


def _tex_study(study: Study) -> Iterator[str]:
    """The rows of a study: its title, then each claim with its tests. `\\*` keeps rows on one page."""
    title = f"{study.spec.title} ({study.spec.paper.authors}, {study.spec.paper.year}), scale {study.scale}"
    yield rf"\addlinespace[6pt]{SPAN}{{\raggedright\textbf{{{escape(title)}}}}} & \\*"
    for claim in study.claims:
        verdict = rf"\textbf{{{escape(claim.verdict)}}}"
        yield rf"\addlinespace[3pt]{SPAN}{{\raggedright {_tex_claim(claim)}}} & {verdict} " + _end(bool(claim.tests))
        for index, test in enumerate(claim.tests):
            yield _tex_test(test) + _end(index + 1 < len(claim.tests))


def _end(more: bool) -> str:
    """The end of a row; no page break if `more` rows of the claim follow."""
    return r"\\*" if more else r"\\"


def _tex_claim(claim: ClaimResult) -> str:
    parts = [claim.statement, f"Paper: {claim.paper_value} ({claim.source})"]
    parts += [f"Out of scope: {claim.reason}"] if claim.verdict == OUT_OF_SCOPE else []
    text = " ".join(part.strip() if part.strip().endswith((".", "?", "!")) else f"{part.strip()}." for part in parts)
    return rf"\textbf{{{escape(claim.claim)}}} {escape(text)}"


def _tex_test(test: TestResult) -> str:
    unit = f" [{test.unit}]" if test.unit else ""
    result = f"{wording.estimate(test)} {wording.confidence(test)}"
    cells = (test.statement + unit, result, wording.criterion(test.criterion))
    ragged = " & ".join(rf"\raggedright {escape(cell)}" for cell in cells)
    return rf"{ragged} & {escape(test.verdict)} "
