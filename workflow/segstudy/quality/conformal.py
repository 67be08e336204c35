"""Intervals that hold a new subject's value with a stated probability, whatever the distribution.

Conformal prediction (Vovk, Gammerman & Shafer 2005): a new residual is as likely to have any rank among those of
calibration. Subjects are what is exchangeable, not their scans: each subject counts with weight 1, divided among its
scans (Lee, Barber & Willett 2023, hierarchical conformal prediction). Where a regression is fitted on the same
subjects, CV+ keeps each subject out of the fit that its residual is taken from (Barber, Candès, Ramdas & Tibshirani
2021); that guarantees 1 - 2 alpha, and gives about 1 - alpha.

The probability is marginal: over subjects of the population that the calibration's are from, and not for each kind of
case.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALPHA = 0.1
"""Share of new values that may lie outside: 90 % intervals."""

FOLDS = 10
"""Folds of subjects of the cross-validated regression."""


def fewest_subjects(alpha: float = ALPHA) -> int:
    """Return the fewest subjects of which an interval is finite: 9 for 90 %."""
    return math.ceil((1 - alpha) / alpha - 1e-9)


def subject_weights(subjects: Sequence[str]) -> np.ndarray:
    """Return the weight of each scan: 1 divided by the number of its subject's scans; they add up to the subjects."""
    _, which, number = np.unique(np.asarray(subjects, str), return_inverse=True, return_counts=True)
    return 1 / number[which]


def upper_quantile(values: Sequence[float], weights: Sequence[float], alpha: float) -> float:
    """Return the value that a new subject's exceeds with probability alpha at most.

    The smallest one that 1 - alpha of all subjects lie at or below, the new one counted as infinite: for n subjects of one
    scan, the ceil((1 - alpha)(n + 1))-th smallest.

    Parameters
    ----------
    values
        Of the calibration's scans; infinite ones may be among them.
    weights
        Of `subject_weights`.
    alpha
        Between 0 and 1.

    Returns
    -------
    float
        Infinite where there are too few subjects.
    """
    values, weights = np.asarray(values, float), np.asarray(weights, float)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    needed = (1 - alpha) * (weights.sum() + 1)
    index = int(np.searchsorted(reached, needed - 1e-9))
    return float(values[order[index]]) if index < len(values) else math.inf


@dataclass(frozen=True)
class Monotone:
    """Hold a monotone regression: piecewise linear between knots, constant outside.

    Parameters
    ----------
    scores
        Of the knots, rising.
    values
        Of the knots, never falling.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, score: float | np.ndarray) -> Any:
        """Return the value at a score, or at an array of them."""
        return np.interp(score, self.scores, self.values)


def fit_monotone(
    scores: Sequence[float], values: Sequence[float], weights: Sequence[float]
) -> Monotone:
    """Fit the non-falling function with the least weighted squares (isotonic regression, Barlow et al. 1972).

    Parameters
    ----------
    scores, values, weights
        Of one or more scans; scans of one score get one value.
    """
    from scipy.optimize import isotonic_regression

    scores, values, weights = (np.asarray(one, float) for one in (scores, values, weights))
    unique, which = np.unique(scores, return_inverse=True)
    mass = np.bincount(which, weights=weights)
    mean = np.bincount(which, weights=weights * values) / mass
    fitted = isotonic_regression(mean, weights=mass).x
    # The first and last knot of each level tell all.
    same = np.diff(fitted) == 0
    kept = ~np.concatenate([[False], same]) | ~np.concatenate([same, [False]])
    return Monotone(tuple(unique[kept].tolist()), tuple(fitted[kept].tolist()))


@dataclass(frozen=True)
class Regression:
    """Hold a calibrated regression of a value on a score.

    Parameters
    ----------
    fit
        On all subjects, which predicts.
    folds
        Fits without a fold's subjects each, which make the interval.
    fold
        Of each scan of the calibration: the fold that it was left out in.
    residuals
        Of each scan: distance of its value from what the fit without its subject predicts.
    weights
        Of each scan.
    """

    fit: Monotone
    folds: tuple[Monotone, ...]
    fold: tuple[int, ...]
    residuals: tuple[float, ...]
    weights: tuple[float, ...]

    def interval(self, score: float, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the CV+ interval of a new subject's value at a score; infinite where subjects are too few."""
        centre = np.array([one.at(score) for one in self.folds])[list(self.fold)]
        high = upper_quantile(centre + self.residuals, self.weights, alpha)
        low = -upper_quantile(-(centre - self.residuals), self.weights, alpha)
        return low, high


def fit_regression(
    scores: Sequence[float], values: Sequence[float], subjects: Sequence[str], seed: int = 0
) -> Regression:
    """Fit a value on a score, and keep the residuals of subjects that a fit has not seen.

    Parameters
    ----------
    scores, values
        Of each scan, finite.
    subjects
        Whose scan it is; two or more.
    seed
        Of the folds.
    """
    scores, values = np.asarray(scores, float), np.asarray(values, float)
    weights = subject_weights(subjects)
    fold = subject_folds(subjects, FOLDS, seed)
    fits = tuple(
        fit_monotone(*(part[fold != number] for part in (scores, values, weights)))
        for number in range(fold.max() + 1)
    )
    residuals = [
        abs(value - fits[number].at(score))
        for score, value, number in zip(scores, values, fold, strict=True)
    ]
    return Regression(
        fit_monotone(scores, values, weights),
        fits,
        tuple(fold.tolist()),
        tuple(float(one) for one in residuals),
        tuple(weights.tolist()),
    )


def subject_folds(subjects: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Return the fold of each scan, by its subject; folds differ by one subject at most."""
    names, which = np.unique(np.asarray(subjects, str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return (order % min(folds, len(names)))[which]
