"""The test that exchanges the models' labels subject by subject, and the interval that belongs to it.

If two models are equally good, the sign of a subject's difference is a toss of a coin. The test
compares the data with all such tosses, or with many random ones, and assumes nothing of the
differences' shape. Its interval holds the shifts that the test does not reject, so that p <= alpha
exactly where 0 lies outside (Fisher 1935; Hartigan 1969).

A sample is a difference of two models for every scan, float64 (scan,), without NaN, and the subject
of every scan, int (scan,), numbered from 0. The unit is the subject: scans of a subject are averaged.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import stats

from segstudy.statistics.intervals import ROUNDING, Interval, inverted, middle, significant

ALL_SIGNS_UP_TO = 13
"""Subjects up to which all choices of signs are tried."""

RANDOM_SIGNS = 100_000
"""Choices of signs for more subjects, that of the data among them."""

_ROWS = 10_000  # choices of signs that are multiplied at a time, which bounds the memory


@lru_cache(4)
def signs(subjects: int, seed: int) -> np.ndarray:
    """Return choices of signs (choice, subject), int8 of 1 and -1; the first is that of the data, all 1.

    With each choice its opposite is there, so that both directions are tested alike.
    """
    if subjects <= ALL_SIGNS_UP_TO:
        bits = np.arange(2**subjects)[:, None] >> np.arange(subjects) & 1
        return (1 - 2 * bits).astype(np.int8)
    random = np.random.default_rng([seed, subjects])
    half = random.integers(0, 2, (RANDOM_SIGNS // 2 - 1, subjects), np.int8) * 2 - 1
    as_observed = np.ones((1, subjects), np.int8)
    return np.concatenate([as_observed, half, -half, -as_observed])


def permuted_sums(choices: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sum columns (subject, column) over the subjects with every choice of signs: (choice, column)."""
    return np.concatenate(
        [
            choices[first : first + _ROWS].astype(float) @ columns
            for first in range(0, len(choices), _ROWS)
        ]
    )


def subject_means(values: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """Average the scans of each subject (subject,).

    Parameters
    ----------
    values
        Of every scan (scan,).
    subject
        Of every scan, int (scan,), numbered from 0.
    """
    return np.bincount(subject, values) / np.bincount(subject)


def signed_ranks(difference: np.ndarray) -> np.ndarray:
    """Rank the differences by size, with their sign; infinite ones rank highest, 0 scores 0.

    Zeros are ranked before they score nothing (Pratt 1959), so that a shift changes a score step by
    step.
    """
    size = np.abs(difference)
    largest = size[np.isfinite(size)].max(initial=0.0)
    # Rounding must not break ties, such as 0.3 - 0.1 and 0.4 - 0.2.
    return np.sign(difference) * stats.rankdata(np.round(size / (largest or 1.0), 12))


def studentised(scores: np.ndarray) -> float:
    """Divide the mean of scores (subject,) by its standard error: 0 where all are 0, infinite where all are equal."""
    return float(_studentised(scores.sum(), (scores**2).sum(), len(scores)))


def _studentised(totals: np.ndarray, squares: float, subjects: int) -> np.ndarray:
    """Studentise sums with any choice of signs, which leave the sum of squares as it is."""
    mean = totals / subjects
    variance = np.maximum(squares / subjects - mean**2, 0.0) / (subjects - 1)
    # What is left of equal numbers by rounding is no variance.
    variance = np.where(variance <= 1e-14 * squares, 0.0, variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(totals == 0, 0.0, mean / np.sqrt(variance))


@lru_cache(4)
def _turned(subjects: int, seed: int) -> np.ndarray:
    """Count the signs that each choice turns, without that of the data (choice - 1,)."""
    return np.count_nonzero(signs(subjects, seed)[1:] < 0, axis=1).astype(float)


class _Swap:
    """The parts that the two tests share.

    Attributes
    ----------
    scores
        Of each subject, at no shift (subject,).
    """

    scores: np.ndarray
    seed: int

    @property
    def subjects(self) -> int:
        """Return the number of subjects."""
        return len(self.scores)

    @property
    def choices(self) -> np.ndarray:
        """Return the choices of signs (choice, subject)."""
        return signs(self.subjects, self.seed)

    @property
    def statistic(self) -> float:
        """Return the mean score."""
        return float(self.scores.mean())

    @cached_property
    def t(self) -> float:
        """Return the studentised statistic of the data."""
        return studentised(self.scores)

    @cached_property
    def totals(self) -> np.ndarray:
        """Return the sums of the scores with every choice of signs (choice,)."""
        return _totals(self.scores, self.choices)

    def swapped_t(self, choices: np.ndarray) -> np.ndarray:
        """Compute the studentised statistic with every choice of signs (choice,)."""
        totals = self.totals if choices is self.choices else _totals(self.scores, choices)
        return _studentised(totals, float((self.scores**2).sum()), self.subjects)

    @cached_property
    def p(self) -> float:
        """Return p of the test, two-sided."""
        return min(_tails(self.totals, self.scores))

    @property
    def df(self) -> int:
        """Return the degrees of freedom of the studentised statistic, by which it is compared with others."""
        return self.subjects - 1

    def centred(self):
        """Return the test of the sample without its estimate."""
        return self.shifted(self.estimate if np.isfinite(self.estimate) else 0.0)


def _totals(scores: np.ndarray, choices: np.ndarray) -> np.ndarray:
    return permuted_sums(choices, scores[:, None])[:, 0]


def _tails(totals: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return p by each of the two tails, doubled: small where scores are large, where they are small."""
    slack = ROUNDING * np.abs(scores).sum()
    number = len(totals)
    return (
        min(1.0, 2 * np.count_nonzero(totals >= totals[0] - slack) / number),
        min(1.0, 2 * np.count_nonzero(totals <= totals[0] + slack) / number),
    )


@dataclass(frozen=True)
class MeanSwap(_Swap):
    """The test of the mean difference, for differences that are finite."""

    scores: np.ndarray
    seed: int

    name = "swap_mean"
    estimate_name = "mean_difference"

    @property
    def estimate(self) -> float:
        """Return the mean difference, in the unit of the metric."""
        return float(self.scores.mean())

    def _shifts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the shifts at which a choice of signs is as far out as the data: lower and upper ends, sorted.

        They are the means of the subjects whose sign is turned (Hartigan's typical values). Where
        none is, the shift does not matter.
        """
        number = _turned(self.subjects, self.seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = (self.totals[0] - self.totals[1:]) / 2 / number
        slack = ROUNDING * np.abs(self.scores).sum()
        means = np.where(np.abs(means) * number <= slack, 0.0, means)
        none = number == 0
        return np.sort(np.where(none, -np.inf, means)), np.sort(np.where(none, np.inf, means))

    def interval(self, alpha: float) -> Interval:
        """Return the shifts that are not rejected at alpha; unbounded where no choice of signs is rare enough."""
        low, high = self._shifts()
        rank = int(alpha / 2 * (len(low) + 1) + 1e-9)
        if rank == 0:
            return -np.inf, np.inf
        return float(low[rank - 1]), float(high[len(high) - rank])

    def shifted(self, shift: float) -> "MeanSwap":
        """Return the test of the sample less a shift."""
        return MeanSwap(self.scores - shift, self.seed)

    @property
    def effect_size(self) -> float:
        """Return Cohen's d_z: mean over SD of the subjects' differences."""
        spread = self.scores.std(ddof=1) if self.subjects > 1 else 0.0
        return self.estimate / spread if spread > ROUNDING * abs(self.estimate) else np.nan

    effect_name = "cohens_dz"


@dataclass(frozen=True)
class RankSwap(_Swap):
    """The test of signed ranks, for differences some of which are infinite.

    The ranks are those of the scans, and a subject's score is the mean of its scans' (Rosner, Glynn
    and Lee 2006; Datta and Satten 2008, for clustered signed ranks).
    """

    difference: np.ndarray
    subject: np.ndarray
    seed: int

    name = "swap_ranks"
    estimate_name = "hodges_lehmann"
    effect_name = "matched_rank_biserial"

    @cached_property
    def scores(self) -> np.ndarray:
        """Return the mean signed rank over the scans of each subject (subject,)."""
        return self._scores(0.0)

    def _scores(self, shift: float) -> np.ndarray:
        return subject_means(signed_ranks(self.difference - shift), self.subject)

    @cached_property
    def walsh(self) -> np.ndarray:
        """Return the means of each two finite differences, sorted: the only shifts at which a score changes."""
        finite = self.difference[np.isfinite(self.difference)]
        first, second = np.triu_indices(len(finite))
        return np.unique((finite[first] + finite[second]) / 2)

    @cached_property
    def estimate(self) -> float:
        """Return the shift at which the statistic is 0: for one scan a subject, that of Hodges and Lehmann (1963).

        An average of both infinities is no number and has no part in it.
        """
        ends = inverted(
            lambda shift: self._mean_score(shift) <= 0,
            lambda shift: self._mean_score(shift) >= 0,
            self.walsh,
        )
        return middle(ends, self.walsh)

    def _mean_score(self, shift: float) -> float:
        scores = self._scores(shift)
        return float(
            np.where(np.abs(scores.sum()) < ROUNDING * np.abs(scores).sum(), 0, scores.sum())
        )

    def interval(self, alpha: float) -> Interval:
        """Return the shifts that are not rejected at alpha."""
        choices = self.choices

        def tails(shift: float) -> tuple[float, float]:
            scores = self._scores(shift)
            return _tails(_totals(scores, choices), scores)

        return inverted(
            lambda shift: not significant(tails(shift)[0], alpha),
            lambda shift: not significant(tails(shift)[1], alpha),
            self.walsh,
        )

    def shifted(self, shift: float) -> "RankSwap":
        """Return the test of the sample less a shift."""
        return RankSwap(self.difference - shift, self.subject, self.seed)

    @property
    def effect_size(self) -> float:
        """Return the matched rank-biserial correlation (Kerby 2014)."""
        size = np.abs(self.scores).sum()
        return float(self.scores.sum() / size) if size else np.nan


def swap(difference: np.ndarray, subject: np.ndarray, seed: int) -> MeanSwap | RankSwap:
    """Choose the test for a sample: of its mean, or of its ranks where a difference is infinite.

    Parameters
    ----------
    difference
        Of every scan, float64 (scan,).
    subject
        Of every scan, int (scan,), numbered from 0.
    seed
        Of random choices.
    """
    if np.isinf(difference).any():
        return RankSwap(difference, subject, seed)
    return MeanSwap(subject_means(difference, subject), seed)
