"""A test over the folds of a cross-validation: of two learning algorithms, beyond two trained models."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from segstudy.statistics.intervals import NAN, constant
from segstudy.statistics.swap import subject_means


@dataclass(frozen=True)
class FoldTest:
    """Nadeau and Bengio's corrected t of the mean differences of the folds; NaN where it is undefined.

    Attributes
    ----------
    folds
        Number of folds.
    t
        The statistic.
    df
        Degrees of freedom.
    p
        Two-sided.
    """

    folds: float
    t: float = NAN
    df: float = NAN
    p: float = NAN


def corrected_t(difference: np.ndarray, subject: np.ndarray, fold: np.ndarray) -> FoldTest:
    """Test whether the folds' mean differences are 0, allowing for their shared training data.

    A fold's mean is over its subjects. With k folds the tested cases are 1 / (k - 1) of the
    training cases (Nadeau and Bengio 2003).

    Parameters
    ----------
    difference
        Of each scan (scan,).
    subject
        Of each scan, int (scan,).
    fold
        Name of each scan's fold, empty where several tested it (scan,).
    """
    names = sorted(set(fold) - {""})
    if len(names) < 2 or (fold == "").any() or not np.isfinite(difference).all():
        return FoldTest(NAN)
    means = []
    for name in names:
        _, subject_of_scan = np.unique(subject[fold == name], return_inverse=True)
        means.append(subject_means(difference[fold == name], subject_of_scan).mean())
    return corrected_t_of_means(np.array(means))


def corrected_t_of_means(means: np.ndarray) -> FoldTest:
    """Test whether mean differences of folds (fold,) are 0."""
    folds = len(means)
    if constant(means):
        return FoldTest(folds)
    shared = 1 / (folds - 1)
    t = means.mean() / np.sqrt((1 / folds + shared) * means.var(ddof=1))
    p = 2 * stats.t.sf(abs(t), folds - 1)
    return FoldTest(folds, float(t), float(folds - 1), float(p))
