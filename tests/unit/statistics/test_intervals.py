"""Intervals of means, medians and shares against R and scipy, and the inversion of a step."""

import numpy as np
import pytest
from scipy import stats

from segstudy.statistics import intervals as tested

INF = float("inf")


def test_the_interval_of_a_mean_is_that_of_t():
    sample = np.random.default_rng(3).normal(5, 2, 12)
    expected = stats.t.interval(0.95, 11, sample.mean(), stats.sem(sample))
    assert tested.mean_interval(sample, 0.05, -INF, INF) == pytest.approx(expected)


def test_it_is_clipped_to_what_the_metric_can_be():
    low, high = tested.mean_interval(np.array([0.99, 0.9, 1.0, 0.95]), 0.05, 0, 1)
    assert high == 1
    assert 0.8 < low < 0.95
    assert np.isnan(tested.mean_interval(np.array([0.5]), 0.05, 0, 1)).all()


def test_the_interval_of_a_median_is_of_order_statistics():
    """Conover (1999): with 16 numbers the 4th and the 13th hold the median with 0.979."""
    sample = np.arange(1.0, 17.0)
    low, high = tested.median_interval(sample, 0.05)
    assert (low, high) == (4, 13)
    inside = stats.binom.cdf(12, 16, 0.5) - stats.binom.cdf(3, 16, 0.5)
    assert inside == pytest.approx(0.979, abs=5e-4)
    sample[-5:] = INF
    assert tested.median_interval(sample, 0.05) == (4, INF)
    assert np.isnan(tested.median_interval(np.arange(5.0), 0.05)).all()


def test_the_interval_of_a_share_is_exact():
    """R: binom.test(2, 16): [0.01551, 0.38348]."""
    assert tested.share_interval(2, 16, 0.05) == pytest.approx((0.0155, 0.3835), abs=5e-5)
    assert tested.share_interval(0, 10, 0.05)[0] == 0
    assert np.isnan(tested.share_interval(0, 0, 0.05)).all()


STEPS = np.array([-1.0, 0.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("holds", "begin"),
    [
        (lambda shift: shift >= 2, 2),
        (lambda shift: shift > 2, 2),
        (lambda shift: True, -INF),
        (lambda shift: False, INF),
        (lambda shift: shift >= 0, 0),
    ],
)
def test_where_a_step_begins(holds, begin):
    assert tested.first(holds, STEPS) == begin


def test_the_interval_between_two_tails():
    found = tested.inverted(lambda shift: shift >= -1, lambda shift: shift < 5, STEPS)
    assert found == (-1, 5)


def test_an_open_end_at_0_leaves_0_out():
    assert tested.first(lambda shift: shift > 0, STEPS) > 0
    low, high = tested.inverted(lambda shift: shift >= -1, lambda shift: shift < 0, STEPS)
    assert low == -1
    assert -1e-9 < high < 0
