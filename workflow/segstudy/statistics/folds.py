"""What the folds of a cross-validation say of two learning algorithms, beyond two trained models."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from segstudy.statistics.intervals import NAN, constant
from segstudy.statistics.swap import subject_means


@dataclass(frozen=True)
class FoldTest:
    """Nadeau and Bengio's corrected t of the mean differences of the folds; NaN where it cannot be done."""

    folds: float
    t: float = NAN
    df: float = NAN
    p: float = NAN


def corrected_t(difference: np.ndarray, subject: np.ndarray, fold: np.ndarray) -> FoldTest:
    """Test whether the folds' mean differences are 0, allowing for their shared training data.

    difference: of a scan (scan,); subject: its subject, int (scan,); fold: its fold's name, empty
    where it was tested by several (scan,). A fold's mean is over its subjects. With k folds a model
    is tested on 1 / (k - 1) of what it was trained on (Nadeau and Bengio 2003).
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
    """The test from the folds' mean differences (fold,)."""
    folds = len(means)
    if constant(means):
        return FoldTest(folds)
    shared = 1 / (folds - 1)
    t = means.mean() / np.sqrt((1 / folds + shared) * means.var(ddof=1))
    p = 2 * stats.t.sf(abs(t), folds - 1)
    return FoldTest(folds, float(t), float(folds - 1), float(p))
