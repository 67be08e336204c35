"""Confidence intervals of means by the bootstrap."""

import zlib

import numpy as np
from scipy import stats

from segstudy.study import Statistics

NAN = float("nan")
ROUNDING = 1e-12
"""Differences between metrics below this, or this share of them, are rounding."""


def generator(settings: Statistics, *key: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on what they are for.

    So that one more model or metric changes no other row of the tables.
    """
    return np.random.default_rng([settings.seed, zlib.crc32("/".join(key).encode())])


def constant(sample: np.ndarray) -> bool:
    """Whether finite numbers are all equal but for rounding."""
    return not len(sample) or np.ptp(sample) <= ROUNDING * max(1.0, np.abs(sample).max())


def mean_interval(
    sample: np.ndarray, settings: Statistics, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % confidence interval of the mean of finite numbers (n,).

    Percentile or BCa bootstrap (Efron 1987), never the basic one. Undefined (NaN) for fewer than
    two numbers; for equal numbers both ends are that number.
    """
    if len(sample) < 2:
        return NAN, NAN
    if constant(sample):
        return float(sample[0]), float(sample[0])
    return _interval((sample,), np.mean, settings, rng)


def difference_interval(
    a: np.ndarray, b: np.ndarray, settings: Statistics, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % confidence interval of the difference of two means, of samples that are not paired."""
    if len(a) < 2 or len(b) < 2:
        return NAN, NAN
    if constant(a) and constant(b):
        return float(a[0] - b[0]), float(a[0] - b[0])
    return _interval((a, b), _difference_of_means, settings, rng)


def _difference_of_means(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean(a, axis=axis) - np.mean(b, axis=axis)


def _interval(samples, statistic, settings, rng) -> tuple[float, float]:
    found = NAN, NAN
    for method in dict.fromkeys((settings.bootstrap, "percentile")):
        interval = stats.bootstrap(
            samples,
            statistic,
            n_resamples=settings.bootstrap_samples,
            # Bounds the memory: a batch holds this many resamples at a time.
            batch=max(1, 10_000_000 // sum(map(len, samples))),
            method={"bca": "BCa"}.get(method, method),
            rng=rng,
        ).confidence_interval
        found = float(interval.low), float(interval.high)
        if np.isfinite(found).all():
            break
    return found
