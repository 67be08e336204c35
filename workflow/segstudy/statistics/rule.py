"""The rule of many studies: Shapiro-Wilk first, then a t test or a test of ranks.

Its tests have the properties of those of `swap` and `relabel`, with the interval of the very test
that gave p: the shifts that it does not reject.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segstudy.statistics import hypothesis_tests
from segstudy.statistics.hypothesis_tests import Test
from segstudy.statistics.intervals import NAN, Interval, inverted, significant
from segstudy.statistics.swap import RankSwap
from segstudy.study import Statistics


@dataclass(frozen=True)
class Classical:
    """A test that the rule chose; see the properties of `swap.MeanSwap`."""

    name: str
    result: Test
    estimate: float
    estimate_name: str
    effect_name: str
    interval: Callable[[float], Interval]

    @property
    def p(self) -> float:
        """Return p of the test, two-sided."""
        return self.result.p

    @property
    def statistic(self) -> float:
        """Return the statistic of the test."""
        return self.result.statistic

    @property
    def effect_size(self) -> float:
        """Return the effect size that belongs to the test."""
        return self.result.effect_size


def of_pairs(
    a: np.ndarray, b: np.ndarray, settings: Statistics
) -> tuple[Classical | None, list[str]]:
    """Choose the test of two models on the same subjects, and remark on the choice.

    Parameters
    ----------
    a, b
        A value a subject (subject,), without NaN.
    settings
        Settings of the statistics.
    """
    difference = hypothesis_tests.differences(a, b)
    if not difference.any():
        return None, ["the models are equal for every subject: not tested"]
    normality = hypothesis_tests.shapiro(difference)
    if normality.p >= settings.alpha:
        return of_t(difference), []
    reasons = []
    if hypothesis_tests.all_equal(difference):
        reasons = ["the difference is the same for every subject: normality cannot be tested"]
    if settings.rule == "shapiro_then_mannwhitneyu":
        return of_u(a, b), [*reasons, "Mann-Whitney U discards the pairing"]
    return of_wilcoxon(difference), reasons


def of_groups(
    a: np.ndarray, b: np.ndarray, settings: Statistics
) -> tuple[Classical | None, list[str]]:
    """Choose the test of two groups of different subjects: Welch's where both are normal, else U.

    Parameters
    ----------
    a, b
        A value a subject (subject,), without NaN.
    settings
        Settings of the statistics.
    """
    if all(hypothesis_tests.shapiro(sample).p >= settings.alpha for sample in (a, b)):
        return of_welch(a, b), []
    test = of_u(a, b)
    return (None, ["all values are equal: not tested"]) if np.isnan(test.p) else (test, [])


def of_t(difference: np.ndarray) -> Classical:
    """Test paired differences (subject,) by Student's t."""
    mean, error = float(difference.mean()), float(stats.sem(difference))

    def interval(alpha: float) -> Interval:
        reach = stats.t.ppf(1 - alpha / 2, len(difference) - 1) * error
        return mean - reach, mean + reach

    test = hypothesis_tests.paired_t(difference)
    return Classical("paired_t", test, mean, "mean_difference", "cohens_dz", interval)


def of_welch(a: np.ndarray, b: np.ndarray) -> Classical:
    """Test two groups (subject,) by Welch's t."""
    test, mean = hypothesis_tests.welch(a, b), float(a.mean() - b.mean())
    error = float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))

    def interval(alpha: float) -> Interval:
        reach = stats.t.ppf(1 - alpha / 2, test.df) * error
        return mean - reach, mean + reach

    return Classical("welch_t", test, mean, "mean_difference", "cohens_d", interval)


def of_wilcoxon(difference: np.ndarray) -> Classical:
    """Test paired differences (subject,) by Wilcoxon's signed ranks."""
    ranks = RankSwap(difference, np.arange(len(difference)), seed=0)
    return Classical(
        "wilcoxon",
        hypothesis_tests.wilcoxon(difference),
        ranks.estimate,
        ranks.estimate_name,
        "matched_rank_biserial",
        lambda alpha: _inverted(
            lambda shift: (
                hypothesis_tests.wilcoxon(
                    hypothesis_tests.differences(difference, np.full_like(difference, shift))
                ).p
            ),
            ranks.walsh,
            ranks.estimate,
            alpha,
        ),
    )


def of_u(a: np.ndarray, b: np.ndarray) -> Classical:
    """Test two groups (subject,) by Mann-Whitney's U."""
    pair_differences = hypothesis_tests.differences(*(side.ravel() for side in np.meshgrid(a, b)))
    estimate = hypothesis_tests.median(pair_differences)
    return Classical(
        "mannwhitneyu",
        hypothesis_tests.mannwhitneyu(a, b),
        estimate,
        "hodges_lehmann",
        "rank_biserial",
        lambda alpha: _inverted(
            lambda shift: hypothesis_tests.mannwhitneyu(a - shift, b).p,
            np.unique(pair_differences[np.isfinite(pair_differences)]),
            estimate,
            alpha,
        ),
    )


def _inverted(
    p: Callable[[float], float], steps: np.ndarray, estimate: float, alpha: float
) -> Interval:
    """Return the shifts with p above alpha; p rises up to the estimate, falls after it, and changes at the steps."""
    if np.isnan(estimate):
        return NAN, NAN

    def kept(shift: float) -> bool:
        p_of_shift = p(shift)
        return np.isnan(p_of_shift) or not significant(p_of_shift, alpha)

    return inverted(
        lambda shift: shift >= estimate or kept(shift),
        lambda shift: shift <= estimate or kept(shift),
        steps,
    )
