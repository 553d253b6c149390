"""Numbers, intervals and criteria as a reader wants to see them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal

from ontogeny.claims import TestResult

DASH = "–"
MINUS = "−"
TIMES_TEN = "\u00a0×\u00a010"  # with spaces at which no line breaks
UNBOUNDED = "unbounded"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
MAX_DIGITS = 8


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits and a true minus sign; a dash for None."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    rounded = Decimal(f"{value:.{digits - 1}e}")
    exponent = rounded.adjusted()
    if -4 < exponent < 6:
        return f"{rounded:f}".replace("-", MINUS)
    power = str(exponent).translate(SUPERSCRIPTS)
    return f"{rounded.scaleb(-exponent):f}{TIMES_TEN}{power}".replace("-", MINUS)


def bound(value: float | None, digits: int = 3) -> str:
    """One end of an interval; None stands for an end that is not finite."""
    return UNBOUNDED if value is None else number(value, digits)


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """'[low, high]', or 'unbounded' where neither end is finite."""
    return UNBOUNDED if low is None and high is None else f"[{bound(low, digits)}, {bound(high, digits)}]"


def precision(test: TestResult) -> int:
    """Significant digits for a test: three, and as many more as it takes to see the width of its interval."""
    if test.ci_low is None or test.ci_high is None or test.ci_high <= test.ci_low:
        return 3
    largest = max(abs(test.ci_low), abs(test.ci_high))
    return min(MAX_DIGITS, max(3, math.floor(math.log10(largest / (test.ci_high - test.ci_low))) + 2))


def estimate(test: TestResult) -> str:
    """The estimate of a test."""
    return number(test.estimate, precision(test))


def confidence(test: TestResult) -> str:
    """The interval of a test."""
    return interval(test.ci_low, test.ci_high, precision(test))


def detectable(test: TestResult) -> str:
    """The smallest distance from the criterion that could have been told apart; a dash where it does not matter."""
    return bound(test.detectable) if test.verdict == "inconclusive" else DASH


def criterion(text: str) -> str:
    """A criterion such as 'in [-0.02, 1e-05]' with true minus signs and powers of ten."""
    return NUMBER.sub(lambda match: _literal(match.group()), text)


def _literal(text: str) -> str:
    """A number as it was written in a criterion, without rounding."""
    mantissa, _, exponent = text.partition("e")
    power = f"{TIMES_TEN}{str(int(exponent)).translate(SUPERSCRIPTS)}" if exponent else ""
    return mantissa.replace("-", MINUS) + power


def percent(share: float) -> str:
    """A share as a percentage with at most three significant digits."""
    return f"{100 * share:.3g} %"


def seconds(value: float | None) -> str:
    """A duration in seconds, or in minutes or hours where that reads better."""
    if value is None:
        return DASH
    for size, unit in ((3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{number(value / size)} {unit}"
    return f"{number(value)} s"


def memory(megabytes: float | None) -> str:
    """An amount of memory."""
    if megabytes is None:
        return DASH
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def ranges(values: Iterable[int]) -> str:
    """Whole numbers as ranges, e.g. '0–9, 12'."""
    found: list[list[int]] = []
    for value in sorted(set(values)):
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in found)
