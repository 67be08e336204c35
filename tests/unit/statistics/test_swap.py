"""The swap test against enumeration, and against answers that were worked out beforehand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segstudy.statistics import swap as tested
from segstudy.statistics.intervals import significant

INF = float("inf")
pytestmark = pytest.mark.filterwarnings("error")


def grouped(*subjects):
    """A sample of several scans a subject."""
    lengths = [len(scans) for scans in subjects]
    return np.concatenate([np.array(scans, float) for scans in subjects]), np.repeat(
        np.arange(len(subjects)), lengths
    )


def single(*difference):
    return grouped(*[[value] for value in difference])


def found(sample, alpha=0.05):
    test = tested.swap(*sample, seed=1)
    return test.estimate, test.p, *test.interval(alpha)


# --- known answers ----------------------------------------------------------------------------------


def test_six_subjects_are_the_fewest_that_can_tell():
    assert found(single(1, 2, 3, 4, 5, 6)) == (3.5, 0.03125, 1, 6)
    assert found(single(1, 2, 3, 4, 5)) == (3, 0.0625, -INF, INF)


EIGHT = single(0.031, 0.012, -0.004, 0.025, 0.008, 0.017, -0.010, 0.022)


def test_eight_subjects():
    assert found(EIGHT) == pytest.approx((0.012625, 0.0546875, -0.0006666667, 0.0243333333))
    assert found(EIGHT, 0.10) == pytest.approx((0.012625, 0.0546875, 0.00275, 0.0225))


def test_scans_of_a_subject_are_averaged():
    sample = grouped(
        *([0.04, 0.02], [0.01], [0.02, 0.01, 0.03, 0.04], [0.035], [0.05, 0.03], [-0.012]),
        *([0.02, 0.06, 0.04], [0.028]),
    )
    assert found(sample) == pytest.approx((0.0245, 0.0234375, 0.0086666667, 0.0375))
    # As if each scan were a subject: what the average protects from.
    assert stats.ttest_1samp(sample[0], 0).pvalue == pytest.approx(2.714e-5, rel=1e-3)


def test_infinite_differences_are_ranked():
    sample = single(INF, 3, -1, 2.5, INF, 0.5, 1.5, -0.2)
    estimate, p, low, high = found(sample)
    assert (estimate, p, low, high) == (2.375, 0.0546875, -0.2, INF)


def test_scores_of_subjects_are_means_of_the_scans_ranks():
    sample = grouped([INF, 2], [3], [-1, -INF], [2.5], [INF], [0.5, 0], [1.5], [4, 1])
    test = tested.swap(*sample, seed=1)
    assert test.scores.tolist() == [8.5, 8, -7.25, 7, 11, 1, 5, 6.25]
    assert test.p == 0.0625


def test_no_difference_at_all():
    assert found(single(*[0] * 8)) == (0, 1, 0, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_only_infinite_differences(sign):
    assert found(single(*[sign * INF] * 8)) == (sign * INF, 2 / 256, sign * INF, sign * INF)


# --- properties -------------------------------------------------------------------------------------

values = st.sampled_from([0.0, 0.25, -0.25, 0.5, 1.0, -3.0]) | st.floats(-1, 1).map(
    lambda value: round(value, 3)
)
samples = st.lists(st.lists(values, min_size=1, max_size=3), min_size=2, max_size=9)


@settings(deadline=None, max_examples=40)
@given(samples)
def test_p_is_that_of_all_signs(subjects):
    difference, subject = grouped(*subjects)
    means = np.array([np.mean(scans) for scans in subjects])
    sums = np.array([np.dot(choice, means) for choice in product((1, -1), repeat=len(means))])
    expected = np.mean(np.abs(sums) >= abs(means.sum()) - 1e-12)
    assert tested.swap(difference, subject, 1).p == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(values | st.sampled_from([INF, -INF]), min_size=1, max_size=3),
        min_size=6,
        max_size=9,
    ),
    st.sampled_from([0.05, 0.1, 0.2]),
)
def test_p_and_interval_agree(subjects, alpha):
    """0 lies outside the interval exactly where p is at most alpha, with ties, zeros and infinities."""
    test = tested.swap(*grouped(*subjects), seed=1)
    low, high = test.interval(alpha)
    assert low <= high
    assert significant(test.p, alpha) == (not low <= 0 <= high)


@settings(deadline=None, max_examples=20)
@given(samples.filter(lambda found: len(found) >= 6), st.floats(-1, 1))
def test_the_interval_moves_with_the_sample(subjects, shift):
    difference, subject = grouped(*subjects)
    before, after = (tested.swap(moved, subject, 1) for moved in (difference, difference + shift))
    np.testing.assert_allclose(
        np.array(before.interval(0.1)) + shift, after.interval(0.1), atol=1e-12
    )


def test_single_scans_without_ties_are_those_of_wilcoxon():
    """One scan a subject, ranks: the exact test of Wilcoxon (Hollander and Wolfe 1973, p. 29)."""
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    ranks = tested.RankSwap(before - after, np.arange(9), seed=1)
    assert ranks.p == pytest.approx(2 * 10 / 512)
    # R: wilcox.test(before, after, paired = TRUE, conf.int = TRUE): 0.46, [0.01, 0.786].
    assert ranks.estimate == pytest.approx(0.46)
    assert ranks.interval(0.05) == pytest.approx((0.01, 0.786))


def test_random_signs_come_near_all_of_them():
    """Fourteen subjects are too many to try all signs here; the normal limit is close."""
    rng = np.random.default_rng(3)
    difference = rng.normal(0.4, 1, 30)
    test = tested.swap(difference, np.arange(30), seed=1)
    assert test.p == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=0.01)
    low, high = test.interval(0.05)
    expected = stats.t.interval(0.95, 29, difference.mean(), stats.sem(difference))
    np.testing.assert_allclose((low, high), expected, atol=0.05)
    again = tested.swap(difference, np.arange(30), seed=1)
    assert (again.p, again.interval(0.05)) == (test.p, (low, high))


def test_signs_come_with_their_opposites():
    choices = tested.signs(20, 1)
    assert choices.shape == (tested.RANDOM_SIGNS, 20)
    assert (choices[0] == 1).all()
    half = len(choices) // 2 - 1
    np.testing.assert_array_equal(choices[1 : half + 1], -choices[half + 1 : -1])


def test_no_end_is_a_negative_zero():
    test = tested.swap(*single(*[0.0] * 7, INF), seed=1)
    assert test.estimate == 0
    assert all(str(end) != "-0.0" for end in (test.estimate, *test.interval(0.05)))


def test_the_effect_of_equal_differences_is_undefined():
    assert np.isnan(tested.swap(*single(0.1, 0.1, 0.1), seed=1).effect_size)
    assert tested.swap(*single(1, 2, 3), seed=1).effect_size == pytest.approx(2)
