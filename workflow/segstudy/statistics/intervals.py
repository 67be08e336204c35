"""Confidence intervals: of a mean, a median and a share, and by inversion of a test."""

import zlib
from collections.abc import Callable

import numpy as np
from scipy import stats

from segstudy.study import Statistics

NAN = float("nan")
ROUNDING = 1e-12
"""Differences between metrics below this, or this share of them, are rounding."""

Interval = tuple[float, float]


def generator(settings: Statistics, *key: str) -> np.random.Generator:
    """Return random numbers that depend on the seed and on their purpose alone.

    So that one more model or metric changes no other row of the tables.
    """
    return np.random.default_rng([settings.seed, zlib.crc32("/".join(key).encode())])


def constant(sample: np.ndarray) -> bool:
    """Tell whether finite numbers are all equal but for rounding."""
    return not len(sample) or np.ptp(sample) <= ROUNDING * max(1.0, np.abs(sample).max())


def mean_interval(sample: np.ndarray, alpha: float, low: float, high: float) -> Interval:
    """Return the interval of the mean of finite numbers (n,) by Student's t, clipped to their possible range.

    Undefined (NaN) for fewer than two numbers.
    """
    if len(sample) < 2:
        return NAN, NAN
    reach = stats.t.ppf(1 - alpha / 2, len(sample) - 1) * stats.sem(sample)
    mean = sample.mean()
    return float(max(mean - reach, low)), float(min(mean + reach, high))


def median_interval(sample: np.ndarray, alpha: float) -> Interval:
    """Return the interval of the median of numbers (n,) that may be infinite, by order statistics.

    The k-th smallest and k-th largest, where k is the largest number for which fewer than k of n
    tosses of a coin come up heads with a probability of at most alpha / 2 (Conover 1999). Undefined
    (NaN) where there are too few numbers for any k.
    """
    rank = int(stats.binom.ppf(alpha / 2, len(sample), 0.5)) if len(sample) else 0
    if rank < 1:
        return NAN, NAN
    ordered = np.sort(sample)
    return float(ordered[rank - 1]), float(ordered[-rank])


def share_interval(hits: int, number: int, alpha: float) -> Interval:
    """Return the interval of a share by Clopper and Pearson (1934); undefined (NaN) of nothing."""
    if not number:
        return NAN, NAN
    interval = stats.binomtest(hits, number).proportion_ci(1 - alpha, method="exact")
    return float(interval.low), float(interval.high)


def significant(p: np.ndarray | float, alpha: float) -> np.ndarray | bool:
    """Tell whether p is at most alpha."""
    return p <= alpha * (1 + ROUNDING)


def middle(ends: Interval, steps: np.ndarray) -> float:
    """Return the middle of an interval of `inverted`, infinite where one end is; NaN where the ends are opposite infinities."""
    low, high = ends
    if np.isinf(ends).all() and low != high:
        return NAN
    centre = (low + high) / 2
    # What an end was moved away from 0 is nothing to the middle.
    return centre if abs(centre) > ROUNDING * (np.abs(steps).max(initial=0.0) or 1.0) else 0.0


def inverted(
    from_below: Callable[[float], bool], from_above: Callable[[float], bool], steps: np.ndarray
) -> Interval:
    """Return the shifts that a test does not reject, by its two tails, which change at some shifts alone.

    An end at 0 that is no part of the interval is moved inwards by rounding, so that 0 lies
    outside.

    Parameters
    ----------
    from_below
        Whether a shift is not too low; once true it stays so further up.
    from_above
        Whether a shift is not too high.
    steps
        The shifts at which a tail can change, sorted (n,).
    """
    high = first(lambda shift: from_above(-shift), -steps[::-1])
    return first(from_below, steps), 0.0 - high


def first(holds: Callable[[float], bool], steps: np.ndarray) -> float:
    """Return the shift from which on a condition holds; -inf where it holds everywhere, inf where nowhere."""
    if not len(steps):
        return -np.inf if holds(0.0) else np.inf
    span = np.abs(steps).max() or 1.0
    steps = np.where(np.abs(steps) <= ROUNDING * span, 0.0, steps)
    between = np.concatenate([[steps[0] - span], (steps[:-1] + steps[1:]) / 2, [steps[-1] + span]])
    places = np.empty(2 * len(steps) + 1)
    places[::2], places[1::2] = between, steps
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(places[middle]) else (middle + 1, high)
    if low == 0:
        return -np.inf
    if low == len(places):
        return np.inf
    number, on_step = divmod(low, 2)
    if on_step:
        return float(steps[number]) + 0.0  # no negative zero
    # From between two steps on: the lower one is no part of it.
    return float(steps[number - 1]) or ROUNDING * span
