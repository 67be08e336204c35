"""Many tests at once: adjusted p, and the intervals that go with them.

By default step-down max-T with the swaps that all tests of a family share (Westfall and Young 1993):
it knows how tests hang together, such as Dice and IoU of the same cases, and so costs less power than
Holm's method. Statistics are studentised anew with each swap, so that tests in different units weigh alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.multitest import multipletests

from segstudy.statistics.intervals import Interval, significant

SLACK = 1e-9
"""Share of a statistic by which equal ones may differ through rounding."""


@dataclass(frozen=True)
class Adjusted:
    """p adjusted for a family, and the family's intervals, one a test."""

    p: list[float]
    intervals: list[Interval]


def max_t(
    observed: Sequence[float],
    swapped: Callable[[int], np.ndarray],
    within: Callable[[int, float], Interval],
    alpha: float,
) -> Adjusted:
    """Adjust by step-down max-T.

    observed: studentised statistic of each test. swapped: given a test's number, its statistic with
    every shared swap (swap,), the first being the data. within: given a test's number and a critical
    value, the shifts at which its statistic is no larger.

    The intervals hold at once: they are those of the largest statistic of all (single-step). Where
    the steps down reject what that alone would not, 0 is the end of the interval and no part of it.
    """
    size = np.abs(observed)
    order = np.argsort(-size, kind="stable")
    largest = None
    p = np.empty(len(size))
    for test in order[::-1]:
        own = np.abs(swapped(test))
        largest = own if largest is None else np.maximum(largest, own)
        limit = size[test] * (1 - SLACK) if np.isfinite(size[test]) else np.inf
        p[test] = np.mean(largest >= limit)
    p[order] = np.maximum.accumulate(p[order])
    # As many swaps as alpha allows lie above the critical value.
    rank = int(alpha * len(largest) + 1e-9)
    critical = np.sort(largest)[-rank - 1] if rank else np.inf
    return Adjusted(p.tolist(), [within(test, critical) for test in range(len(size))])


def by_p(
    p: Sequence[float], interval: Callable[[int, float], Interval], correction: str, alpha: float
) -> Adjusted:
    """Adjust p by Holm's method, or that of Benjamini and Hochberg, or not at all (`none`).

    interval: given a test's number and a level, its interval. For Holm they are Bonferroni's; for
    Benjamini and Hochberg those of Benjamini and Yekutieli (2005), for what was found significant.
    """
    number = len(p)
    if correction == "none":
        return Adjusted(list(p), [interval(test, alpha) for test in range(number)])
    method = {"holm": "holm", "benjamini_hochberg": "fdr_bh"}[correction]
    adjusted = multipletests(p, method=method)[1]
    found = 1 if correction == "holm" else max(1, int(np.sum(significant(adjusted, alpha))))
    level = alpha * found / number
    return Adjusted(adjusted.tolist(), [interval(test, level) for test in range(number)])


def agreeing(interval: Interval, p: float, alpha: float) -> Interval:
    """The interval with 0 on the side of it that p says: outside where p is at most alpha.

    A test that was adjusted step by step, or whose p is no smooth function of a shift, may differ from
    its interval by a hair. An end at 0 belongs to the interval where p is above alpha, else not.
    """
    low, high = interval
    if np.isnan([low, high, p]).any():
        return interval
    if not significant(p, alpha):
        return min(low, 0.0), max(high, 0.0)
    if low < 0 < high:
        return (0.0, high) if high > -low else (low, 0.0)
    return interval
