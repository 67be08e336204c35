"""The test that exchanges the group's labels of subjects, for samples that are not paired.

Two groups of different subjects, such as two sites: if they are alike, which subject is in which is
a matter of chance. Statistic: the size of Welch's t, or the sum of ranks where a value is infinite.
The interval holds the shifts of the first group that the test does not reject. Where spreads differ
the labels cannot be exchanged: Welch's t keeps the level then for groups that are not small (Janssen
1997), but 4 against 12 subjects, the fewer of three times the spread, are rejected in 0.10 of studies.

A sample is a value for every scan, float64 (scan,), without NaN, and the subject of every scan,
int (scan,), numbered from 0 over both groups, those of the first group before those of the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations, count
from math import factorial, prod

import numpy as np
from scipy import stats

from segstudy.statistics.intervals import ROUNDING, Interval, inverted, middle, significant
from segstudy.statistics.swap import RANDOM_SIGNS, permuted_sums, subject_means

ALL_CHOICES_UP_TO = 13_000
"""Choices of a group that are all tried: two groups of 8 have 12,870."""

_FEW = 500  # choices that are compared as fast as they are set aside
_ROOM = 1e-5  # share by which bounds are wider than they are computed to be


def number_of_choices(sizes: Sequence[int]) -> int:
    """Return how many choices of the subjects' groups are tried: all of them where these are few enough."""
    every = factorial(sum(sizes)) // prod(map(factorial, sizes))
    return every if every <= ALL_CHOICES_UP_TO else RANDOM_SIGNS


@lru_cache(4)
def groups(first: int, second: int, seed: int) -> np.ndarray:
    """Return choices of the first group (choice, subject), int8 of 1 and 0; the first is that of the data.

    Parameters
    ----------
    first, second
        Subjects of each group.
    seed
        Of random choices.
    """
    subjects = first + second
    if number_of_choices((first, second)) < RANDOM_SIGNS:
        chosen = np.array(list(combinations(range(subjects), first)))
    else:
        random = np.random.default_rng([seed, first, second])
        order = random.random((RANDOM_SIGNS - 1, subjects)).argpartition(first - 1, axis=1)
        chosen = np.concatenate([np.arange(first)[None], order[:, :first]])
    assignments = np.zeros((len(chosen), subjects), np.int8)
    np.put_along_axis(assignments, chosen, 1, axis=1)
    return assignments


_Sums = tuple[np.ndarray, np.ndarray, np.ndarray]  # number, sum and sum of squares (choice,) each


def _welch(first: _Sums, second: _Sums) -> np.ndarray:
    """Compute Welch's t of two groups (choice,)."""
    difference, variance = _difference(first, second)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / np.sqrt(variance)
    # A group of one subject has no spread to judge by: as far out as can be.
    t = np.where(np.isnan(t) & (difference != 0), np.inf, t)
    return np.where(np.isnan(t), 0.0, t)


def _difference(first: _Sums, second: _Sums) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference of the means of two groups, and its variance (choice,) each."""
    parts = []
    for number, total, squares in (first, second):
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / number
            variance = np.maximum(squares / number - mean**2, 0.0) / (number - 1)
        # What is left of equal numbers by rounding is no variance.
        parts.append((mean, np.where(variance * number <= 1e-14 * squares, 0.0, variance)))
    (mean, variance), (other, other_variance) = parts
    difference = mean - other
    # What is left of equal means by rounding is no difference.
    size = np.sqrt(first[2] + second[2])
    difference = np.where(np.abs(difference) <= ROUNDING * size, 0.0, difference)
    return difference, variance + other_variance


def _two_sided(statistics: np.ndarray) -> float:
    """Return the share of the choices of the group (choice,) whose statistic is as large as the data's, the first."""
    return _as_large(statistics) / len(statistics)


def _as_large(statistics: np.ndarray) -> int:
    """Count the statistics (choice,) that are as large as the data's, the first."""
    size = np.abs(statistics)
    limit = size[0] * (1 - ROUNDING * 1e3) if np.isfinite(size[0]) else np.inf
    return int(np.count_nonzero(size >= limit))


def _tails(statistics: np.ndarray) -> tuple[float, float]:
    """Return p by each tail, doubled, of a statistic with every choice of the group (choice,)."""
    slack = ROUNDING * 1e3 * abs(statistics[0]) if np.isfinite(statistics[0]) else 0.0
    return tuple(
        min(1.0, 2 * float(np.mean(further)))
        for further in (statistics >= statistics[0] - slack, statistics <= statistics[0] + slack)
    )


@dataclass(frozen=True)
class _Relabel:
    """The parts that the two tests share.

    Attributes
    ----------
    values
        Of every scan.
    first
        Subjects of the first group.
    """

    values: np.ndarray
    subject: np.ndarray
    first: int
    seed: int

    @property
    def subjects(self) -> int:
        """Return the number of subjects of both groups."""
        return int(self.subject.max()) + 1

    @property
    def df(self) -> int:
        """Return the degrees of freedom of the studentised statistic, by which it is compared with others."""
        return min(self.first, self.subjects - self.first) - 1

    @property
    def smallest_p(self) -> float:
        """Return the smallest p that the number of subjects allows."""
        mirrored = 2 * self.first == self.subjects
        number = number_of_choices((self.first, self.subjects - self.first))
        return (2 if mirrored or isinstance(self, RankRelabel) else 1) / number

    @property
    def choices(self) -> np.ndarray:
        """Return the choices of the first group (choice, subject)."""
        return groups(self.first, self.subjects - self.first, self.seed)

    def shifted(self, shift: float):
        """Return the test of the sample whose first group is moved down by a shift."""
        return replace(self, values=self.values - np.where(self.subject < self.first, shift, 0.0))

    def centred(self):
        """Return the test of the sample without its estimate."""
        return self.shifted(self.estimate if np.isfinite(self.estimate) else 0.0)

    @cached_property
    def scores(self) -> np.ndarray:
        """Return a score for each subject (subject,)."""
        raise NotImplementedError

    @cached_property
    def t(self) -> float:
        """Return Welch's t of the scores of the data."""
        of_data = np.arange(self.subjects) < self.first
        return float(self.swapped_t(of_data[None])[0])

    def swapped_t(self, choices: np.ndarray) -> np.ndarray:
        """Compute Welch's t of the scores with every choice of the group (choice,)."""
        columns = np.stack([np.ones(self.subjects), self.scores, self.scores**2], axis=1)
        inside = permuted_sums(choices, columns).T
        return _welch(inside, columns.sum(axis=0)[:, None] - inside)


@dataclass(frozen=True)
class _Shifts:
    """The test of the means where the first group is moved, by sums with every choice of the group.

    Attributes
    ----------
    inside, whole
        Sums of 1, x, x², a and a·x, where a is 1 in the first group of the data: over the group of each choice
        (5, choice), the data first, and over all subjects (5,).
    number
        Of all choices, of which `inside` has those that are still to be compared with the data.
    further
        How many of the others are as far out as the data.
    """

    inside: np.ndarray
    whole: np.ndarray
    number: int
    further: int = 0

    def _moved(self, shift: float) -> tuple[_Sums, _Sums]:
        """Return number, sum and sum of squares of both groups where the first group is moved down by a shift."""
        first, second = (
            (number, total - shift * in_first, squares - 2 * shift * product + shift**2 * in_first)
            for number, total, squares, in_first, product in (
                self.inside,
                self.whole[:, None] - self.inside,
            )
        )
        return first, second

    @cached_property
    def _known(self) -> dict:
        return {}  # intervals of several levels ask for the same shifts first

    def p(self, shift: float) -> float:
        """Return the share of all choices whose t is as large as the data's."""
        if shift not in self._known:
            as_large = self.further + _as_large(_welch(*self._moved(shift)))
            self._known[shift] = as_large / self.number
        return self._known[shift]

    def between(self, one: float, other: float) -> "_Shifts":
        """Set aside the choices that compare alike with the data at every shift between two.

        The difference of means is linear in the shift and so largest and smallest at an end, or 0 between; its
        variance is a parabola that opens upwards, so largest at an end, and nowhere further below its middle
        than an end is above that.
        """
        if self.inside.shape[1] < _FEW:
            return self
        if (one, other) not in self._known:
            self._known[one, other] = self._kept(one, other)
        return self._known[one, other]

    def _kept(self, one: float, other: float) -> "_Shifts":
        sums = [self._moved(shift) for shift in (one, (one + other) / 2, other)]
        (start, at_one), (_, at_middle), (end, at_other) = (_difference(*both) for both in sums)
        most = np.maximum(at_one, at_other)
        least = 2 * at_middle - np.maximum(most, at_middle)
        with np.errstate(divide="ignore", invalid="ignore"):
            smallest = np.minimum(abs(start), abs(end)) / np.sqrt(most) * (1 - _ROOM)
            largest = np.maximum(abs(start), abs(end)) / np.sqrt(least) * (1 + _ROOM)
            smallest = np.where(start * end > 0, smallest, 0.0)
        squares = np.maximum(*(first[2] + second[2] for first, second in sums[::2]))
        # Where little but rounding is left of a variance, no bound is sure.
        sure = least > _ROOM**1.5 * squares
        further = sure & (smallest > largest[0])
        nearer = sure & (largest < smallest[0])
        if not sure[0]:
            return self
        kept = self.inside[:, ~(further | nearer)]
        return replace(self, inside=kept, further=self.further + int(np.count_nonzero(further)))


@dataclass(frozen=True)
class MeanRelabel(_Relabel):
    """The test of the difference of means by Welch's t, for values that are finite."""

    name = "relabel_mean"
    estimate_name = "mean_difference"
    effect_name = "cohens_d"

    @cached_property
    def scores(self) -> np.ndarray:
        """Return the mean over the scans of each subject (subject,)."""
        return subject_means(self.values, self.subject)

    @cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        return self.scores[: self.first], self.scores[self.first :]

    @property
    def estimate(self) -> float:
        """Return the difference of the groups' means, in the unit of the metric."""
        return float(self._sides[0].mean() - self._sides[1].mean())

    @property
    def statistic(self) -> float:
        """Return Welch's t."""
        return self.t

    @cached_property
    def p(self) -> float:
        """Return the share of the choices whose t is as large as the data's."""
        return _two_sided(self.swapped_t(self.choices))

    def interval(self, alpha: float) -> Interval:
        """Return the shifts that are not rejected at alpha; unbounded where no choice is rare enough."""
        if self.smallest_p > alpha:
            return -np.inf, np.inf
        if self._error == 0:
            return self.estimate, self.estimate
        return self._end(alpha, -1), self._end(alpha, 1)

    @cached_property
    def _shifts(self) -> "_Shifts":
        in_first_group = (np.arange(self.subjects) < self.first).astype(float)
        x = self.scores - self.scores.mean()
        columns = np.stack([np.ones_like(x), x, x**2, in_first_group, in_first_group * x], axis=1)
        inside = permuted_sums(self.choices, columns).T
        return _Shifts(inside, columns.sum(axis=0), inside.shape[1])

    @property
    def _error(self) -> float:
        return float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in self._sides)))

    def _end(self, alpha: float, sign: int) -> float:
        """Find the last shift to one side of the estimate at which the test does not reject, by bisection."""
        shifts = self._shifts
        near, reach = self.estimate, 2 * self._error
        while not significant(shifts.p(self.estimate + sign * reach), alpha):
            near = self.estimate + sign * reach
            reach *= 2
            if reach > 1e6 * self._error:
                return sign * np.inf
        far = self.estimate + sign * reach
        for number in count():
            if abs(far - near) <= 1e-9 * abs(reach):
                return float(near)
            if number % 2 == 0:
                shifts = shifts.between(near, far)
            between = (near + far) / 2
            rejected = significant(shifts.p(between), alpha)
            near, far = (near, between) if rejected else (between, far)

    @property
    def effect_size(self) -> float:
        """Return Cohen's d, by the mean of the variances."""
        spread = np.sqrt(np.mean([side.var(ddof=1) for side in self._sides]))
        return self.estimate / float(spread) if spread else np.nan


@dataclass(frozen=True)
class RankRelabel(_Relabel):
    """The test of the sum of ranks, for values some of which are infinite.

    The ranks are those of the scans, and a subject's score is the mean of its scans' (Datta and
    Satten 2005, for clustered rank sums).
    """

    name = "relabel_ranks"
    estimate_name = "hodges_lehmann"
    effect_name = "rank_biserial"

    @cached_property
    def scores(self) -> np.ndarray:
        """Return the mean rank over the scans of each subject (subject,)."""
        return self._scores(0.0)

    def _scores(self, shift: float) -> np.ndarray:
        moved = self.values - np.where(self._own, shift, 0.0)
        finite = np.abs(moved[np.isfinite(moved)]).max(initial=0.0) or 1.0
        return subject_means(stats.rankdata(np.round(moved / finite, 12)), self.subject)

    @cached_property
    def _own(self) -> np.ndarray:
        return self.subject < self.first

    @cached_property
    def _apart(self) -> np.ndarray:
        """Return the differences of each two finite values, sorted: the only shifts at which a rank changes."""
        first, second = (
            side[np.isfinite(side)] for side in (self.values[self._own], self.values[~self._own])
        )
        return np.unique(np.subtract.outer(first, second))

    def _sum(self, scores: np.ndarray) -> np.ndarray:
        """Return the mean score of the group less that of the others, with every choice."""
        inside = permuted_sums(self.choices, scores[:, None])[:, 0]
        return inside / self.first - (scores.sum() - inside) / (self.subjects - self.first)

    def _tails_at(self, shift: float) -> tuple[float, float]:
        """Return p by each tail where the first group is moved down by a shift; both ends, at any level, ask for the same shifts."""
        if shift not in self._known:
            self._known[shift] = _tails(self._sum(self._scores(shift)))
        return self._known[shift]

    @cached_property
    def _known(self) -> dict[float, tuple[float, float]]:
        return {}

    @property
    def statistic(self) -> float:
        """Return the sum of the scores of the first group."""
        return float(self.scores[: self.first].sum())

    @cached_property
    def p(self) -> float:
        """Return p of the test, two-sided: the smaller of its doubled tails."""
        return min(self._tails_at(0.0))

    @cached_property
    def estimate(self) -> float:
        """Return the shift at which both groups have the same mean rank (Hodges and Lehmann 1963)."""

        def apart(shift: float) -> float:
            scores = self._scores(shift)
            difference = scores[: self.first].mean() - scores[self.first :].mean()
            return 0.0 if abs(difference) < ROUNDING * self.subjects else float(difference)

        ends = inverted(
            lambda shift: apart(shift) <= 0, lambda shift: apart(shift) >= 0, self._apart
        )
        return middle(ends, self._apart)

    def interval(self, alpha: float) -> Interval:
        """Return the shifts that are not rejected at alpha."""

        def kept(shift: float, side: int) -> bool:
            return not significant(self._tails_at(shift)[side], alpha)

        return inverted(lambda shift: kept(shift, 0), lambda shift: kept(shift, 1), self._apart)

    @property
    def effect_size(self) -> float:
        """Return the rank-biserial correlation of the subjects' scores."""
        first, second = self.scores[: self.first], self.scores[self.first :]
        return float(np.sign(np.subtract.outer(first, second)).mean())


def relabel(
    values: np.ndarray, subject: np.ndarray, first: int, seed: int
) -> MeanRelabel | RankRelabel:
    """Choose the test for two groups: of their means, or of ranks where a value is infinite.

    Parameters
    ----------
    values
        Of every scan, float64 (scan,).
    subject
        Of every scan, int (scan,), numbered from 0, those of the first group before those of
        the second.
    first
        Subjects of the first group.
    seed
        Of random choices.
    """
    kind = RankRelabel if np.isinf(values).any() else MeanRelabel
    return kind(values, subject, first, seed)
