"""The test of two groups against enumeration, R and scipy."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segstudy.statistics import relabel as tested
from segstudy.statistics.intervals import significant
from segstudy.statistics.multiple_testing import agreeing

INF = float("inf")
pytestmark = pytest.mark.filterwarnings("error")

# Student (1908): hours of sleep gained with two drugs, taken as unpaired, as in R's example of t.test.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def single(a, b, seed=1):
    return tested.relabel(np.array([*a, *b], float), np.arange(len(a) + len(b)), len(a), seed)


def test_students_sleep():
    """R: t = -1.8608, p = 0.07939, interval [-3.3655, 0.2055]; the permutations say the like."""
    test = single(SLEEP_1, SLEEP_2)
    assert test.t == pytest.approx(-1.8608, abs=5e-5)
    assert test.p == pytest.approx(0.07939, abs=0.004)
    assert test.estimate == pytest.approx(-1.58)
    low, high = test.interval(0.05)
    assert (low, high) == pytest.approx((-3.3655, 0.2055), abs=0.03)
    assert low <= 0 <= high


numbers = st.floats(-2, 2).map(lambda value: round(value, 2))


@settings(deadline=None, max_examples=25)
@given(st.lists(numbers, min_size=3, max_size=5), st.lists(numbers, min_size=3, max_size=5))
def test_p_is_that_of_all_choices(a, b):
    both = np.array([*a, *b])
    if len(set(a)) == 1 or len(set(b)) == 1:
        return
    test = single(a, b)

    def welch(first):
        rest = [place for place in range(len(both)) if place not in first]
        one, other = both[list(first)], both[rest]
        error = one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)
        apart = one.mean() - other.mean()
        if error < 1e-20:
            return np.sign(round(apart, 9)) * INF if round(apart, 9) else 0.0
        return apart / np.sqrt(error)

    every = np.array([welch(first) for first in combinations(range(len(both)), len(a))])
    if np.isinf(every[1:]).any():
        return  # which infinity a spread of 0 gives is a convention
    assert test.p == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) * (1 - 1e-9)))


def test_rank_sums_are_those_of_mann_and_whitney():
    """One scan a subject and no ties: the exact test of scipy."""
    a, b = [INF, 8.0, 9.0, 7.0, 3.5], [1.0, 2.0, 3.0, 4.0, 0.5]
    test = single(a, b)
    ranks = stats.rankdata([*a, *b])
    expected = stats.mannwhitneyu(ranks[:5], ranks[5:], method="exact")
    assert test.name == "relabel_ranks"
    assert test.p == pytest.approx(expected.pvalue)
    assert test.effect_size == pytest.approx(2 * expected.statistic / 25 - 1)
    # The median of all 25 differences, infinite ones among them.
    assert test.estimate == np.median(np.subtract.outer(a, b)) == 6
    # R: the 3rd smallest and largest of 25 differences for sizes 5 and 5.
    low, high = test.interval(0.05)
    assert low == sorted(np.subtract.outer(a, b).ravel())[2]
    assert high == INF


def test_scans_of_a_subject_do_not_make_it_heavier():
    values = np.array([1.0, 1.2, 0.8, 2.0, 3.0, 2.5, 5.0, 5.2, 4.8, 6.0, 7.0])
    subject = np.array([0, 0, 0, 1, 2, 3, 4, 4, 4, 5, 6])
    several = tested.relabel(values, subject, 4, seed=1)
    single_scan = single([1.0, 2.0, 3.0, 2.5], [5.0, 6.0, 7.0])
    assert (several.p, several.t) == (single_scan.p, pytest.approx(single_scan.t))


def test_too_few_subjects_for_any_small_p():
    test = single([1, 2, 3], [7, 8, 9])
    assert test.p == pytest.approx(2 / 20)
    assert test.interval(0.05) == (-INF, INF)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(numbers | st.just(INF), min_size=4, max_size=6),
    st.lists(numbers, min_size=4, max_size=6),
    st.sampled_from([0.05, 0.1]),
)
def test_p_and_interval_agree(a, b, alpha):
    if len({*a, *b}) == 1:
        return
    test = single(a, b)
    low, high = agreeing(test.interval(alpha), test.p, alpha, test.t)
    assert low <= high
    if significant(test.p, alpha):
        assert not low < 0 < high
    else:
        assert low <= 0 <= high


@pytest.mark.parametrize(("sizes", "shift", "digits"), [((11, 11), 0.0, 12), ((5, 17), -2.0, 1)])
def test_choices_that_are_set_aside_change_no_end(sizes, shift, digits, monkeypatch):
    """The ends are those of a bisection that compares all choices at every step, to the bit, for a tenth of the work."""
    rng = np.random.default_rng(3)
    values = [rng.normal(shift, 1, sizes[0]), rng.normal(0, 3, sizes[1])]
    values = [np.round(side, digits) for side in values]
    compared = []
    welch = tested._welch
    monkeypatch.setattr(
        tested, "_welch", lambda *sums: compared.append(len(sums[0][1])) or welch(*sums)
    )
    levels = (0.05, 0.05 / 180)
    test = single(*values)
    found, few = [test.interval(level) for level in levels], sum(compared)
    monkeypatch.setattr(tested, "_FEW", np.inf)
    compared.clear()
    assert found == [single(*values).interval(level) for level in levels]
    assert few < sum(compared) / 10
