"""Intervals against scipy, statsmodels and coverage; verdicts against their definition."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from ontogeny.claims import judge
from ontogeny.errors import OntogenyError
from ontogeny.settings import validate
from ontogeny.statistics import Estimate, Interval
from ontogeny.study import Criterion

EIGHT = Interval.simultaneous(8)
SAMPLE = np.random.default_rng(0).normal(3, 2, size=12)


def test_level_is_bonferroni_over_claims():
    assert EIGHT.level == pytest.approx(1 - 0.05 / 8)


def test_mean_equals_scipy():
    ours = EIGHT.mean(SAMPLE)
    theirs = stats.ttest_1samp(SAMPLE, 0).confidence_interval(EIGHT.level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert (ours.value, ours.n) == (pytest.approx(SAMPLE.mean()), 12)


def test_paired_difference_is_the_mean_of_differences():
    ours = EIGHT.paired_difference(SAMPLE, SAMPLE[::-1])
    direct = EIGHT.mean(SAMPLE - SAMPLE[::-1])
    assert (ours.value, ours.low, ours.high) == (direct.value, direct.low, direct.high)
    with pytest.raises(OntogenyError, match="pairs"):
        EIGHT.paired_difference([1, 2], [1, 2, 3])


@pytest.mark.parametrize(("method", "reference"), [("exact", "beta"), ("wilson", "wilson")])
@pytest.mark.parametrize("successes", [0, 7, 20])
def test_proportion_equals_statsmodels(method, reference, successes):
    ours = EIGHT.proportion(successes, 20, method)
    theirs = proportion_confint(successes, 20, alpha=1 - EIGHT.level, method=reference)
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-9)


def test_slope_equals_statsmodels():
    import statsmodels.api as sm

    x = np.linspace(0, 1, 12)
    ours = EIGHT.slope(x, SAMPLE)
    fit = sm.OLS(SAMPLE, sm.add_constant(x)).fit()
    assert (ours.low, ours.high) == pytest.approx(tuple(fit.conf_int(1 - EIGHT.level)[1]))


def test_one_seed_gives_an_unbounded_interval():
    for estimate in (EIGHT.mean([1.0]), EIGHT.difference([1.0], [2.0]), EIGHT.bootstrap(np.mean, [1.0])):
        assert (estimate.low, estimate.high) == (-math.inf, math.inf)


def test_intervals_refuse_missing_values():
    with pytest.raises(OntogenyError, match="finite"):
        EIGHT.mean([1.0, math.nan])
    with pytest.raises(OntogenyError, match="finite"):
        EIGHT.mean([])


def test_intervals_cover_the_truth_as_often_as_they_say():
    level = Interval(0.9)
    rng = np.random.default_rng(1)
    draws = rng.normal(0, 1, size=(1000, 8))
    means = [level.mean(row) for row in draws]
    shares = [level.spearman(a, a + b) for a, b in zip(draws[:300], rng.normal(0, 1e-9, (300, 8)), strict=True)]
    assert np.mean([e.low <= 0 <= e.high for e in means]) == pytest.approx(0.9, abs=0.03)
    assert all(e.low <= 1 for e in shares)


def test_bootstrap_of_the_mean_is_close_to_the_t_interval_and_repeatable():
    large = np.random.default_rng(2).normal(size=200)
    ours, again, t = EIGHT.bootstrap(np.mean, large), EIGHT.bootstrap(np.mean, large), EIGHT.mean(large)
    assert ours == again
    assert (ours.low, ours.high) == pytest.approx((t.low, t.high), abs=0.05)


@pytest.mark.parametrize(
    ("bound", "low", "high", "verdict"),
    [
        ({"at_least": 1}, 1.0, 2.0, "holds"),
        ({"at_least": 1}, 0.9, 2.0, "inconclusive"),
        ({"at_least": 1}, 0.0, 0.9, "fails"),
        ({"above": 1}, 1.0, 2.0, "inconclusive"),
        ({"above": 1}, 0.0, 1.0, "fails"),
        ({"at_most": 1}, 0.0, 1.0, "holds"),
        ({"below": 1}, 0.0, 1.0, "inconclusive"),
        ({"below": 1}, 1.0, 2.0, "fails"),
        ({"between": (0, 1)}, 0.0, 1.0, "holds"),
        ({"between": (0, 1)}, -0.1, 1.1, "inconclusive"),
        ({"between": (0, 1)}, 1.1, 2.0, "fails"),
        ({"between": (0, 1)}, -2.0, -0.1, "fails"),
        ({"report": True}, 0.0, 1.0, "reported"),
    ],
)
def test_verdicts(bound, low, high, verdict):
    criterion = validate(Criterion, {"statement": "s", **bound}, "here")
    result = judge("t", criterion, Estimate((low + high) / 2, low, high, 5, "m"))
    assert result.verdict == verdict
    assert (result.detectable is not None) == (verdict == "inconclusive")


def test_unbounded_intervals_are_inconclusive_and_stored_as_none():
    criterion = validate(Criterion, {"statement": "s", "above": 0}, "here")
    result = judge("t", criterion, Estimate(1.0, -math.inf, math.inf, 1, "m"))
    assert (result.verdict, result.ci_low, result.ci_high, result.detectable) == ("inconclusive", None, None, None)


def test_a_number_that_is_none_is_refused():
    criterion = validate(Criterion, {"statement": "s", "above": 0}, "here")
    with pytest.raises(OntogenyError, match="not a number"):
        judge("t", criterion, Estimate(math.nan, 0, 1, 3, "m"))
