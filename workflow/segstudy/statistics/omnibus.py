"""Tests of more than two groups at once, by permuting which group is whose.

Between groups of different subjects, labels are permuted over the subjects, as `relabel` does for two groups: the
statistic is the sum of squared distances of the groups' means from their weighted mean, each by its standard error
(Wald-type; for two groups Welch's t squared), which keeps the level asymptotically where spreads differ (Pauly, Brunner &
Konietschke 2015); where a value is infinite, the sum of squares between the groups' mean ranks, as of Kruskal and Wallis. Within
subjects that have a value in every group, labels are permuted subject by subject, with the sum of squares between the
groups, as of a randomised block design (Fisher 1935), or of Friedman's ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np
from scipy import stats

from segstudy.statistics.intervals import ROUNDING
from segstudy.statistics.relabel import number_of_choices
from segstudy.statistics.swap import RANDOM_SIGNS, subject_means

_ROWS = 10_000  # choices at a time, which bounds the memory


@lru_cache(4)
def assignments(sizes: tuple[int, ...], seed: int) -> np.ndarray:
    """Return choices of every subject's group (choice, subject), int8; the first is that of the data, in order.

    All distinct choices where there are at most `relabel.ALL_CHOICES_UP_TO`, else random ones.

    Parameters
    ----------
    sizes
        Subjects of each group.
    seed
        Of random choices.
    """
    observed = _of_data(sizes)
    if number_of_choices(sizes) < RANDOM_SIGNS:
        chosen = _all_choices(sizes, np.zeros(sum(sizes), np.int8), list(range(sum(sizes))), 0)
        return np.array(list(chosen))
    random = np.random.default_rng([seed, *sizes])
    repeated = np.tile(observed, (RANDOM_SIGNS - 1, 1))
    return np.concatenate([observed[None], random.permuted(repeated, axis=1)])


def _of_data(sizes: tuple[int, ...]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes), dtype=np.int8), sizes)


def _all_choices(
    sizes: tuple[int, ...], chosen: np.ndarray, free: list[int], group: int
) -> Iterator[np.ndarray]:
    """Yield every choice, the places of one group after another's."""
    if group == len(sizes):
        yield chosen.copy()
        return
    for places in combinations(free, sizes[group]):
        chosen[list(places)] = group
        rest = [place for place in free if place not in places]
        yield from _all_choices(sizes, chosen, rest, group + 1)


@dataclass(frozen=True)
class Between:
    """The test of groups of different subjects.

    Attributes
    ----------
    values
        Of every scan, float64 (scan,), without NaN.
    subject
        Of every scan, int (scan,), numbered from 0, those of the first group first, and so on.
    sizes
        Subjects of each group, 2 or more of them.
    seed
        Of random choices.
    """

    values: np.ndarray
    subject: np.ndarray
    sizes: tuple[int, ...]
    seed: int

    @property
    def is_of_ranks(self) -> bool:
        """Return whether ranks are compared, since a value is infinite."""
        return bool(np.isinf(self.values).any())

    @property
    def name(self) -> str:
        """Return the name of the test."""
        return "relabel_kruskal" if self.is_of_ranks else "relabel_wald"

    @property
    def smallest_p(self) -> float:
        """Return a bound below p by the number of choices."""
        return 1 / number_of_choices(self.sizes)

    @cached_property
    def scores(self) -> np.ndarray:
        """Return a number for each subject (subject,): the mean of its scans, or of their ranks."""
        values = stats.rankdata(self.values) if self.is_of_ranks else self.values
        scores = subject_means(values, self.subject)
        return scores - scores.mean()

    @property
    def statistic(self) -> float:
        """Return the statistic of the data."""
        return float(self._statistics(_of_data(self.sizes)[None])[0])

    @cached_property
    def p(self) -> float:
        """Return the share of the choices whose statistic is as large as the data's."""
        return _share(self._statistics(assignments(self.sizes, self.seed)))

    def _statistics(self, choices: np.ndarray) -> np.ndarray:
        """Compute the statistic with every choice (choice,)."""
        columns = np.stack([self.scores, self.scores**2], axis=1)
        parts = [choices[first : first + _ROWS] for first in range(0, len(choices), _ROWS)]
        return np.concatenate([self._of(part, columns) for part in parts])

    def _of(self, choices: np.ndarray, columns: np.ndarray) -> np.ndarray:
        sums = np.stack(
            [(choices == group).astype(float) @ columns for group in range(len(self.sizes))]
        )
        number = np.array(self.sizes, float)[:, None]
        mean = sums[..., 0] / number
        if self.is_of_ranks:
            return (number * mean**2).sum(axis=0)
        variance = np.maximum(sums[..., 1] / number - mean**2, 0.0) / (number - 1)
        # A group of equal numbers has no spread to judge by: as sure as can be, but no division by 0.
        least = 1e-12 * columns[:, 1].mean() or 1.0
        weight = 1 / np.maximum(variance, least)
        centre = (weight * mean).sum(axis=0) / weight.sum(axis=0)
        return (weight * (mean - centre) ** 2).sum(axis=0)


@dataclass(frozen=True)
class Within:
    """The test of subjects that have a value in every group.

    Attributes
    ----------
    values
        Means of each subject's scans in each group, float64 (subject, group), without NaN.
    seed
        Of random choices.
    """

    values: np.ndarray
    seed: int

    @property
    def is_of_ranks(self) -> bool:
        """Return whether ranks are compared, since a value is infinite."""
        return bool(np.isinf(self.values).any())

    @property
    def name(self) -> str:
        """Return the name of the test."""
        return "shuffle_friedman" if self.is_of_ranks else "shuffle_mean"

    @property
    def smallest_p(self) -> float:
        """Return a bound below p by the number of choices."""
        return 1 / RANDOM_SIGNS

    @cached_property
    def scores(self) -> np.ndarray:
        """Return the subjects' values less their mean, or their ranks (subject, group)."""
        scores = stats.rankdata(self.values, axis=1) if self.is_of_ranks else self.values
        return scores - scores.mean(axis=1, keepdims=True)

    @property
    def statistic(self) -> float:
        """Return the sum of squares between the groups."""
        return float((self.scores.sum(axis=0) ** 2).sum() / len(self.scores))

    @cached_property
    def p(self) -> float:
        """Return the share of random choices, that of the data among them, whose statistic is as large as the data's."""
        random = np.random.default_rng([self.seed, *self.scores.shape])
        statistics = [np.array([self.statistic])]
        for number in [_ROWS] * ((RANDOM_SIGNS - 1) // _ROWS) + [(RANDOM_SIGNS - 1) % _ROWS]:
            shuffled = random.permuted(
                np.broadcast_to(self.scores, (number, *self.scores.shape)), axis=2
            )
            statistics.append((shuffled.sum(axis=1) ** 2).sum(axis=1) / len(self.scores))
        return _share(np.concatenate(statistics))


def _share(statistics: np.ndarray) -> float:
    """Return the share of statistics (choice,) that are as large as the data's, the first."""
    return float(np.mean(statistics >= statistics[0] * (1 - ROUNDING * 1e3)))
