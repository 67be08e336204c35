"""The corrected t of folds."""

import numpy as np
import pytest
from scipy import stats

from segstudy.statistics.folds import corrected_t, corrected_t_of_means


def test_five_folds():
    means = np.array([0.012, 0.004, 0.009, -0.002, 0.007])
    found = corrected_t_of_means(means)
    assert (found.folds, found.df) == (5, 4)
    assert found.t == pytest.approx(1.67542, abs=5e-6)
    assert found.p == pytest.approx(0.169162, abs=5e-7)
    assert stats.ttest_1samp(means, 0).pvalue == pytest.approx(0.065838, abs=5e-7)


def test_a_folds_mean_is_over_its_subjects():
    difference = np.array([0.1, 0.3, 0.5, 0.2, 0.0])
    subject = np.array([0, 0, 1, 2, 3])
    fold = np.array(["0", "0", "0", "1", "1"])
    expected = corrected_t_of_means(np.array([(0.2 + 0.5) / 2, 0.1]))
    assert corrected_t(difference, subject, fold) == expected


@pytest.mark.parametrize(
    ("difference", "fold"),
    [([0.1, 0.2], ["0", "0"]), ([0.1, 0.2], ["0", ""]), ([0.1, np.inf], ["0", "1"])],
)
def test_where_it_cannot_be_done(difference, fold):
    found = corrected_t(np.array(difference), np.arange(2), np.array(fold))
    assert np.isnan(found.p)
