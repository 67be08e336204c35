"""Many tests at once: adjusted p, and the intervals that go with them.

By default step-down max-T with the swaps that all tests of a family share (Westfall and Young 1993):
it knows how tests hang together, such as Dice and IoU of the same cases, and so costs less power than
Holm's method. Statistics are studentised anew with each swap, so that tests in different units weigh alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from segstudy.statistics.intervals import Interval, significant

SLACK = 1e-9
"""Share of a statistic by which equal ones may differ through rounding."""


@dataclass(frozen=True)
class Adjusted:
    """p adjusted for a family, and the family's intervals, one a test.

    Attributes
    ----------
    p
        Adjusted.
    intervals
        That hold at once.
    """

    p: list[float]
    intervals: list[Interval]


def max_t(tests: Sequence, choices: Sequence[np.ndarray], alpha: float) -> Adjusted:
    """Adjust p by step-down max-T.

    Statistics of unlike numbers of subjects are brought to one scale by Student's t. The intervals
    hold at once: each is that of its own test, at a common level. Where the steps down reject more
    than that level, 0 is the end of the interval and no part of it.

    Parameters
    ----------
    tests
        Of `swap` or of `relabel`.
    choices
        For each test the swaps that all share, of its own subjects (swap, subject), the first
        being the data.
    alpha
        Level of significance.
    """
    p = _stepped_down(tests, choices, [np.abs] * len(tests))
    level = _common_level([test.centred() for test in tests], choices, alpha)
    return Adjusted(p, [test.interval(level) for test in tests])


def one_sided(
    tests: Sequence, choices: Sequence[np.ndarray], sides: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Return p of one-sided tests by themselves, and adjusted by step-down max-T.

    Parameters
    ----------
    tests, choices
        As of `max_t`.
    sides
        Of each test, 1 where a difference above 0 is asked for, -1 where one below is.
    """
    extents = [np.positive if side > 0 else np.negative for side in sides]
    alone = [
        _stepped_down([test], [choice], [extent])[0]
        for test, choice, extent in zip(tests, choices, extents, strict=True)
    ]
    return alone, _stepped_down(tests, choices, extents)


def _stepped_down(
    tests: Sequence, choices: Sequence[np.ndarray], extents: Sequence[Callable]
) -> list[float]:
    """Step down from the test that is furthest out. extents: how far out statistics are, of each test."""
    size = np.array(
        [
            float(_scaled(extent(np.array([test.t])), test.df)[0])
            for test, extent in zip(tests, extents, strict=True)
        ]
    )
    order = np.argsort(-size, kind="stable")
    largest = None
    p = np.empty(len(size))
    for number in order[::-1]:
        test = tests[number]
        permuted = _scaled(extents[number](test.swapped_t(choices[number])), test.df)
        largest = permuted if largest is None else np.maximum(largest, permuted)
        p[number] = np.mean(largest >= size[number] * (1 - SLACK))
    p[order] = np.maximum.accumulate(p[order])
    return p.tolist()


def _common_level(tests: Sequence, choices: Sequence[np.ndarray], alpha: float) -> float:
    """Return the level at which intervals hold at once, with a probability of 1 - alpha, by all shared swaps.

    The level is the quantile of the smallest p (min-P), of swaps of samples without their
    estimates: a difference that is there would make all tests swap alike. This level is never below
    Bonferroni's, which holds as well, and is larger where few subjects leave few values of p.
    """
    smallest = None
    for test, assignments in zip(tests, choices, strict=True):
        size = -np.abs(test.swapped_t(assignments))
        with np.errstate(invalid="ignore"):
            p = stats.rankdata(np.round(size, 9), method="max") / len(size)
        smallest = p if smallest is None else np.minimum(smallest, p)
    # As many swaps as alpha allows have a smaller p.
    rank = int(alpha * len(smallest) + 1e-9)
    ordered = np.sort(smallest)
    below = ordered[ordered < ordered[rank]] if rank < len(ordered) else ordered
    return min(max(float(below[-1]) if len(below) else 0.0, alpha / len(tests)), alpha)


def _scaled(t: np.ndarray, df: int) -> np.ndarray:
    """Scale statistics so that their size does not depend on the degrees of freedom: -log p of Student's t."""
    return -stats.t.logsf(t, df)


def by_p(
    p: Sequence[float], interval: Callable[[int, float], Interval], correction: str, alpha: float
) -> Adjusted:
    """Adjust p by Holm's method, or that of Benjamini and Hochberg, or not at all (`none`).

    The intervals are Bonferroni's for Holm; for Benjamini and Hochberg those of Benjamini and
    Yekutieli (2005), for the significant tests.

    Parameters
    ----------
    p
        Of each test.
    interval
        The interval of a test, given its number and a level.
    correction
        `holm`, `benjamini_hochberg` or `none`.
    alpha
        Level of significance.
    """
    number = len(p)
    if correction == "none":
        return Adjusted(list(p), [interval(test, alpha) for test in range(number)])
    method = {"holm": "holm", "benjamini_hochberg": "fdr_bh"}[correction]
    adjusted = multipletests(p, method=method)[1]
    n_significant = 1 if correction == "holm" else max(1, int(np.sum(significant(adjusted, alpha))))
    level = alpha * n_significant / number
    return Adjusted(adjusted.tolist(), [interval(test, level) for test in range(number)])


def agreeing(interval: Interval, p: float, alpha: float, leaning: float) -> Interval:
    """Move an interval's end so that 0 lies outside exactly where p is at most alpha.

    A test that was adjusted step by step, or whose p is no smooth function of a shift, may differ
    from its interval by a hair. An end at 0 belongs to the interval where p is above alpha, else
    not.

    Parameters
    ----------
    interval
        Of the test.
    p
        Of the test, adjusted.
    alpha
        Level of significance.
    leaning
        A number with the sign of the estimate.
    """
    low, high = interval
    if np.isnan([low, high, p]).any():
        return interval
    if not significant(p, alpha):
        return min(low, 0.0), max(high, 0.0)
    if low < 0 < high:
        return (0.0, high) if leaning > 0 else (low, 0.0)
    return interval
