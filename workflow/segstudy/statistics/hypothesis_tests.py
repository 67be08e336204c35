"""The classical tests, with an outcome for every sample: none raises, warns, or invents a p.

A sample is the differences of two models subject by subject, float64 (n,), without NaN; an infinite
difference comes from a distance to an empty mask. A sample that cannot be tested has the p NaN.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from segstudy.statistics.intervals import NAN, ROUNDING, constant

NORMAL_UP_TO = 5000
"""Pairs up to which scipy's Shapiro-Wilk p is accurate."""

EXACT_WITH_TIES = 13
"""Differences up to which all 2^n signs are tried where ranks are tied."""


@dataclass(frozen=True)
class Test:
    """The result of a test; NaN where it is undefined.

    Attributes
    ----------
    statistic
        Of the test.
    df
        Degrees of freedom, NaN without.
    p
        Two-sided.
    effect_size
        Of the kind that belongs to the test.
    """

    statistic: float = NAN
    df: float = NAN
    p: float = NAN
    effect_size: float = NAN


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Subtract numbers that may be infinite, a - b: two infinities are a tie.

    A difference that is only rounding is a tie too, so that ranks don't depend on it.
    """
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isinf(a) & (a == b), 0.0, a - b)
    size = np.maximum(np.abs(a), np.abs(b))
    rounding = ROUNDING * np.maximum(1.0, np.where(np.isinf(size), 1.0, size))
    return np.where(np.abs(difference) <= rounding, 0.0, difference)


def shapiro(difference: np.ndarray) -> Test:
    """Test for normality (Shapiro and Wilk 1965); undefined for infinite, constant or fewer than 3 numbers."""
    if len(difference) < 3 or all_equal(difference) or np.isinf(difference).any():
        return Test()
    if len(difference) > NORMAL_UP_TO:
        # scipy warns that its p is inaccurate; as many, evenly chosen by rank, show the shape.
        places = np.linspace(0, len(difference) - 1, NORMAL_UP_TO).astype(int)
        difference = np.sort(difference)[places]
    result = stats.shapiro(difference)
    return Test(float(result.statistic), p=float(result.pvalue))


def paired_t(difference: np.ndarray) -> Test:
    """Test whether the mean difference is 0 by Student's paired t, with Cohen's d_z; undefined for infinite or constant differences."""
    if len(difference) < 3 or all_equal(difference) or np.isinf(difference).any():
        return Test()
    result = stats.ttest_1samp(difference, 0.0)
    return Test(
        float(result.statistic), float(result.df), float(result.pvalue), cohens_dz(difference)
    )


def cohens_dz(difference: np.ndarray) -> float:
    """Return the mean over the SD of paired differences (Cohen 1988)."""
    return float(difference.mean() / difference.std(ddof=1))


def wilcoxon(difference: np.ndarray) -> Test:
    """Test whether differences centre on 0 by signed ranks (Wilcoxon 1945), with the matched rank-biserial correlation (Kerby 2014).

    Differences of 0 are dropped (`zero_method="wilcox"`). The statistic is the smaller sum of
    ranks. p is exact up to 50 differences without ties (13 with), else from the normal
    distribution.
    """
    signed = _signed_ranks(difference)
    if len(difference) < 3 or not len(signed):
        return Test()
    effect = float(signed.sum() / np.abs(signed).sum())
    if len(signed) <= EXACT_WITH_TIES and len(np.unique(np.abs(signed))) < len(signed):
        # What scipy would do itself, forty times slower: all choices of the ranks' signs.
        all_signs = stats.permutation_test((signed,), np.sum, permutation_type="samples")
        smaller = min(signed[signed > 0].sum(), -signed[signed < 0].sum())
        return Test(float(smaller), p=float(all_signs.pvalue), effect_size=effect)
    result = stats.wilcoxon(signed)
    return Test(float(result.statistic), p=float(result.pvalue), effect_size=effect)


def _signed_ranks(difference: np.ndarray) -> np.ndarray:
    """Ranks of the differences that are not 0 by size, with their sign; infinite ones rank highest."""
    nonzero = difference[difference != 0]
    size = np.abs(nonzero)
    largest = size[np.isfinite(size)].max(initial=0.0)
    # Rounding must not break ties, such as 0.3 - 0.1 and 0.4 - 0.2.
    return np.sign(nonzero) * stats.rankdata(np.round(size / (largest or 1.0), 12))


def mannwhitneyu(a: np.ndarray, b: np.ndarray) -> Test:
    """Test whether a tends to be larger than b as if they were unpaired (Mann and Whitney 1947); U is that of a.

    Effect size: rank-biserial correlation, above 0 where a tends to be larger.
    """
    ranks = stats.rankdata(np.concatenate([a, b]))
    if min(len(a), len(b)) < 3 or np.ptp(ranks) == 0:
        return Test()
    result = stats.mannwhitneyu(ranks[: len(a)], ranks[len(a) :])
    effect = 2 * result.statistic / (len(a) * len(b)) - 1
    return Test(float(result.statistic), p=float(result.pvalue), effect_size=float(effect))


def welch(a: np.ndarray, b: np.ndarray) -> Test:
    """Test whether unpaired samples have equal means by Welch's t (1947), with Cohen's d (mean of the variances).

    Not for infinite values, and not where neither sample varies.
    """
    if min(len(a), len(b)) < 3 or np.isinf([*a, *b]).any() or (constant(a) and constant(b)):
        return Test()
    result = stats.ttest_ind(a, b, equal_var=False)
    effect = (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    return Test(float(result.statistic), float(result.df), float(result.pvalue), float(effect))


def median(difference: np.ndarray) -> float:
    """Return the median of numbers of which either infinity may be in the middle."""
    if not len(difference):
        return NAN
    ordered = np.sort(difference)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if low == high:
        return float(low)
    return NAN if np.isinf(low) and np.isinf(high) else float((low + high) / 2)


def all_equal(difference: np.ndarray) -> bool:
    """Tell whether all differences are equal but for rounding."""
    if np.isinf(difference).any():
        return len(np.unique(difference)) == 1
    return constant(difference)
