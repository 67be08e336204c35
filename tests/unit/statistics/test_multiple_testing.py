"""Adjusted p by hand, by answers worked out beforehand, and against statsmodels."""

import numpy as np
import pytest

from segstudy.statistics import multiple_testing as tested
from segstudy.statistics.swap import signs, swap

INF = float("inf")


def by_max_t(samples, alpha=0.05):
    tests = [swap(np.array(one, float), np.arange(len(one)), seed=1) for one in samples]
    found = tested.max_t(tests, [signs(len(one), 1) for one in samples], alpha)
    return [test.p for test in tests], found


ROWS = [
    [1, 2, 3, 4, 5, 6, 7, 8],
    [2, 1, 4, 3, 6, 5, 8, 7],
    [1, -2, 3, 4, 5, -6, 7, 8],
    [1, -1, 2, -2, 3, -3, 4, -3],
]


def test_four_tests_of_eight_subjects():
    raw, found = by_max_t(ROWS)
    assert raw == [0.0078125, 0.0078125, 0.1953125, 1]
    assert found.p == [0.0234375, 0.0234375, 0.34375, 1]
    holm = tested.by_p(raw, lambda number, level: (0, level), "holm", 0.05)
    assert holm.p == [0.03125, 0.03125, 0.390625, 1]


def test_a_unit_makes_no_difference():
    scaled = [ROWS[0], [0.01 * value for value in ROWS[1]], *ROWS[2:]]
    assert by_max_t(scaled)[1].p == by_max_t(ROWS)[1].p


def test_statistics_are_studentised():
    """The mean of the first is the smallest, yet it is the firmest; raw means would give .195 .156 .195."""
    samples = [
        [0.9, 1.1, 1, 0.8, 1.2, 1.05, 0.95, 1],
        [3, 1, 4, 1, 5, -1, 2, 6],
        [1, -2, 3, 4, 5, -6, 7, 8],
    ]
    assert by_max_t(samples)[1].p == [0.0078125, 0.0390625, 0.1953125]


def test_a_single_test_is_not_adjusted():
    raw, found = by_max_t(ROWS[2:3])
    assert found.p == raw


def test_simultaneous_intervals_are_wider_and_agree_with_p():
    _, found = by_max_t(ROWS)
    for sample, p, interval in zip(ROWS, found.p, found.intervals, strict=True):
        low, high = tested.agreeing(interval, p, 0.05, np.mean(sample))
        alone = swap(np.array(sample, float), np.arange(8), seed=1).interval(0.05)
        assert low <= alone[0]
        assert alone[1] <= high
        assert (p <= 0.05) == (not low < 0 < high)


def test_the_interval_of_a_single_test_is_its_own():
    sample = [0.031, 0.012, -0.004, 0.025, 0.008, 0.017, -0.010, 0.022]
    for one in (sample, [0.1] * 8, [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]):
        _, found = by_max_t([one])
        assert found.intervals == [swap(np.array(one), np.arange(len(one)), seed=1).interval(0.05)]


@pytest.mark.parametrize("effect", [0.0, 3.0])
def test_simultaneous_intervals_hold_at_once(effect):
    """Four correlated tests of ten subjects; with a common effect they swap alike, which must not count."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(150):
        samples = np.sqrt(0.6) * rng.normal(size=10) + np.sqrt(0.4) * rng.normal(size=(4, 10))
        _, found = by_max_t(samples + effect)
        held += all(low <= effect <= high for low, high in found.intervals)
    assert held / 150 >= 0.92


def test_a_test_of_few_subjects_costs_the_others_nothing():
    """The heavy tail of t with 5 degrees of freedom is no measure of one with 29."""
    rng = np.random.default_rng(3)
    samples = [rng.normal(0.6, 1, 30), rng.normal(0, 1, 6)]
    alone, both = by_max_t(samples[:1])[1].p[0], None
    tests = [swap(one, np.arange(len(one)), seed=1) for one in samples]
    choices = signs(36, 1)
    both = tested.max_t(tests, [choices[:, :30], choices[:, 30:]], 0.05).p[0]
    assert alone <= both <= 3 * alone


def test_an_end_is_put_at_0_where_interval_and_p_differ():
    assert tested.agreeing((-0.1, 2.0), 0.04, 0.05, 1) == (0.0, 2.0)
    assert tested.agreeing((-INF, INF), 0.04, 0.05, -1) == (-INF, 0.0)
    assert tested.agreeing((0.1, 2.0), 0.06, 0.05, 1) == (0.0, 2.0)
    assert tested.agreeing((-1.0, 2.0), 0.06, 0.05, 1) == (-1.0, 2.0)
    assert tested.agreeing((-INF, INF), 0.5, 0.05, 1) == (-INF, INF)


def test_holm_by_hand():
    """p = .01 .04 .03 .005: sorted times 4, 3, 2, 1, never below the one before."""
    levels = []
    found = tested.by_p(
        [0.01, 0.04, 0.03, 0.005],
        lambda number, level: levels.append(level) or (0, 0),
        "holm",
        0.05,
    )
    assert found.p == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert levels == pytest.approx([0.0125] * 4)


def test_benjamini_hochberg_by_hand():
    found = tested.by_p(
        [0.01, 0.04, 0.03, 0.005], lambda number, level: (0, level), "benjamini_hochberg", 0.05
    )
    assert found.p == pytest.approx([0.02, 0.04, 0.04, 0.02])
    # All four were found, so each interval is of the level of a single one.
    assert found.intervals == [(0, pytest.approx(0.05))] * 4


def test_none_adjusts_nothing():
    found = tested.by_p([0.01, 0.04], lambda number, level: (number, level), "none", 0.05)
    assert (found.p, found.intervals) == ([0.01, 0.04], [(0, 0.05), (1, 0.05)])
