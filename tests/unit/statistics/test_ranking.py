"""Ranks of all models at once, against R's example and by hand."""

import numpy as np
import pytest
from metric_rows import of_models
from scipy import stats

from segstudy.statistics.completion import completed
from segstudy.statistics.ranking import (
    COLUMNS,
    PLACES,
    friedman,
    kendall_tau_b,
    rank,
    scan_ranks,
    stability,
    subject_ranks,
)
from segstudy.study import Statistics

INF, NAN = float("inf"), float("nan")
pytestmark = pytest.mark.filterwarnings("error")

# Hollander and Wolfe (1973), p. 140: seconds to round first base in three ways, 22 players.
# fmt: off
BASES = np.array(
    [
        [5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50],
        [5.55, 5.50, 5.40], [5.90, 5.85, 5.70], [5.45, 5.55, 5.60],
        [5.40, 5.40, 5.35], [5.45, 5.50, 5.35], [5.25, 5.15, 5.00],
        [5.85, 5.80, 5.70], [5.25, 5.20, 5.10], [5.65, 5.55, 5.45],
        [5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40],
        [5.45, 5.55, 5.50], [5.55, 5.55, 5.35], [5.45, 5.50, 5.55],
        [5.50, 5.45, 5.25], [5.65, 5.60, 5.40], [5.70, 5.65, 5.55],
        [6.30, 6.30, 6.25],
    ]
)
# fmt: on


QUICK = Statistics(bootstrap_samples=100)


def table(values, metric="hd95_mm", subjects=None):
    samples = dict(zip("xyz", np.array(values, float).T, strict=False))
    return completed(of_models(samples, subjects, metric=metric), QUICK)


def test_friedman_of_hollander_and_wolfe():
    statistic, df, p = friedman(scan_ranks(BASES, "lower"))
    assert statistic == pytest.approx(11.1429, abs=5e-5)
    assert df == 2
    assert p == pytest.approx(0.003805, abs=5e-7)


def test_ranks_by_hand():
    values = np.array([[0.9, 0.8, 0.7], [0.5, 0.5, 0.9], [0.1 + 0.2, 0.3, 0.0]])
    assert scan_ranks(values, "higher").tolist() == [[1, 2, 3], [2.5, 2.5, 1], [1.5, 1.5, 3]]
    assert scan_ranks(np.array([[INF, 2.0, INF]]), "lower").tolist() == [[2.5, 1, 2.5]]
    assert scan_ranks(np.array([[-0.3, 0.2, 0.0]]), "zero").tolist() == [[3, 2, 1]]


def test_the_table():
    values = np.vstack([BASES, [[NAN, NAN, NAN]]])
    found, places = rank(table(values), Statistics(metrics=("hd95_mm",), bootstrap_samples=200))
    assert list(found.columns) == list(COLUMNS)
    assert list(places.columns) == list(PLACES)
    assert found["model"].tolist() == ["x", "y", "z"]
    assert found[["n_subjects", "n_cases", "n_left_out"]].drop_duplicates().values.tolist() == [
        [22, 22, 1]
    ]
    # R: the rank sums are 53, 47, 32.
    assert (found["mean_rank"] * 22).tolist() == pytest.approx([53, 47, 32])
    assert (found["rank_low"] < found["mean_rank"]).all()
    assert (found["rank_high"] > found["mean_rank"]).all()
    assert found["share_first"].sum() == pytest.approx(1)
    assert found["share_first"].iloc[2] > 0.95
    # Every model has some place in each resample, and every place some model.
    shares = places.pivot(index="model", columns="place", values="share")
    assert shares.sum(axis=0).tolist() == pytest.approx([1, 1, 1])
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert shares[1].tolist() == found["share_first"].tolist()
    assert 0.5 < found["kendall_tau"].iloc[0] < 1


def test_a_firm_order_never_changes():
    ranks = np.tile([1.0, 2.0, 3.0], (9, 1))
    found = stability(ranks, QUICK, np.random.default_rng(0))
    assert found.mean.tolist() == found.low.tolist() == found.high.tolist() == [1, 2, 3]
    assert found.places.tolist() == np.eye(3).tolist()
    assert found.kendall_tau == 1


def test_models_that_tie_share_their_places():
    found = stability(np.tile([1.0, 2.5, 2.5], (9, 1)), QUICK, np.random.default_rng(0))
    assert found.places.tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]


@pytest.mark.parametrize(
    "values",
    [
        [[0.5, 0.5, 0.5]] * 4,
        [[NAN, NAN, NAN]] * 4,
        [[0.1, 0.2]] * 5,
        [[0.3, 0.2, 0.1]],
        [[INF] * 3] * 4,
    ],
)
def test_odd_samples(values):
    found, _ = rank(table(values), Statistics(metrics=("hd95_mm",), bootstrap_samples=100))
    assert found["friedman_p"].isna().all()
    assert len(found) == len(values[0])


def test_a_subject_ranks_by_its_scans():
    """Subject s of three scans: mean ranks 5/3, 7/3, 2; its scans count as one subject."""
    values = np.array([[1, 2, 3], [2, 3, 1], [2, 3, 1], [5, 6, 7]], float)
    ranks = subject_ranks(values, np.array([0, 0, 0, 1]), "lower")
    assert ranks.tolist() == [[1.5, 3, 1.5], [1, 2, 3]]
    found, _ = rank(table(values, subjects=["s", "s", "s", "t"]), QUICK)
    assert found["n_subjects"].tolist() == [2, 2, 2]
    assert found["n_cases"].tolist() == [4, 4, 4]
    assert found["mean_rank"].tolist() == [1.25, 2.5, 2.25]


def test_kendalls_tau_b_is_that_of_scipy():
    """Ties in a resample count as ties, not as disagreement."""
    order = np.array([1.2, 2.1, 2.9, 3.8])
    drawn = np.array([[1, 2, 2, 4], [2, 2, 2, 2], [4, 3, 2, 1], [1, 1, 2, 2]], float)
    one, other = np.triu_indices(4, 1)
    signs = np.sign(drawn[:, one] - drawn[:, other])
    expected = [stats.kendalltau(order, row).statistic for row in drawn if np.ptp(row)]
    found = kendall_tau_b(signs, np.sign(order[one] - order[other]))
    assert found == pytest.approx(np.mean(expected))


def test_one_model_is_not_ranked():
    values = table([[0.5]] * 3)
    assert [len(one) for one in rank(values, Statistics())] == [0, 0]
