"""Verdicts: better, equivalent within a margin, or not to be told, by the known answers of the procedure."""

import numpy as np
import pytest
from metric_rows import of_models

from segstudy import verdict_words
from segstudy.errors import InputError
from segstudy.statistics.comparisons import judged_families
from segstudy.statistics.completion import completed
from segstudy.statistics.verdict import COLUMNS, other_order, verdicts
from segstudy.study import Statistics

EIGHT = np.array([0.031, 0.012, -0.004, 0.025, 0.008, 0.017, -0.010, 0.022])
BASE = np.linspace(0.6, 0.9, len(EIGHT))
RULE = {"rule": "shapiro_then_wilcoxon", "correction": "holm"}


def told(samples, metric="dice", **settings):
    settings = Statistics(metrics=(metric,), **settings)
    table = of_models(samples, metric=metric, n_reference_voxels=9)
    found = verdicts(judged_families(completed(table, settings), settings), settings)
    assert list(found.columns) == list(COLUMNS)
    return found


@pytest.mark.parametrize(
    ("margin", "p", "verdict"),
    [(0.03, 0.0078125, "equivalent"), (0.02, 0.10546875, "cannot_be_told")],
)
def test_equivalence_of_eight_subjects(margin, p, verdict):
    row = told({"a": BASE + EIGHT, "b": BASE}, margin={"dice": margin}).iloc[0]
    assert row["p_equivalence"] == row["p_equivalence_adjusted"] == p
    ends = row[["ci_low", "ci_high", "equivalence_low", "equivalence_high"]].astype(float)
    assert ends.to_numpy() == pytest.approx([-0.000667, 0.024333, 0.00275, 0.0225], abs=1e-6)
    assert (row["verdict"], row["slightly_better"]) == (verdict, "")
    assert row["p_other_order"] == pytest.approx(0.039931 / 2, abs=1e-6)


def test_equivalent_models_of_which_one_is_slightly_better():
    sample = {"a": BASE + 0.02 + EIGHT / 10, "b": BASE}
    row = told(sample, margin={"dice": 0.05}).iloc[0]
    assert (row["verdict"], row["slightly_better"]) == ("equivalent", "a")
    assert "a being slightly better" in verdict_words.sentence(row, 0.05, "Dice")
    row = told(sample).iloc[0]
    assert (row["verdict"], row["n_equivalence"]) == ("a_better", 0)
    assert "margin" not in verdict_words.sentence(row, 0.05, "Dice")


def test_the_t_test_tells_equivalence_by_its_interval():
    row = told({"a": BASE + EIGHT, "b": BASE}, margin={"dice": 0.03}, **RULE).iloc[0]
    error = EIGHT.std(ddof=1) / np.sqrt(8)
    from scipy import stats

    assert row["p_equivalence"] == pytest.approx(
        stats.t.sf((0.03 - EIGHT.mean()) / error, 7), abs=1e-5
    )


def test_an_infinite_distance_is_never_within_a_margin():
    values = np.arange(1.0, 9)
    infinite = np.where(values > 6, np.inf, values)
    row = told({"a": infinite, "b": values}, "hd95_mm", margin={"hd95_mm": 5.0}).iloc[0]
    assert (row["verdict"], row["equivalence_high"]) == ("cannot_be_told", np.inf)


def test_probability_of_a_false_claim():
    """Of 30 subjects, means .84 and .83, SD .1, correlation .8."""
    t = 0.01 / (0.1 * np.sqrt(0.4) / np.sqrt(30))
    assert other_order({"t_statistic": t, "t_df": 29, "p": 1.0}) == pytest.approx(0.19679, abs=1e-5)
    assert other_order({"t_statistic": np.nan, "p": 0.3}) == 0.15


def test_the_primary_endpoint_is_a_family_of_its_own():
    samples = {"a": BASE + EIGHT, "b": BASE, "c": BASE - EIGHT}
    primary = {"structure": "heart", "metric": "dice"}
    row = told({name: samples[name] for name in "ab"}, primary=primary).iloc[0]
    assert (row["primary"], row["n_family"], row["p"]) == (True, 1, row["p_adjusted"])
    with pytest.raises(
        InputError, match="dice of aorta is not compared; compared are dice of heart"
    ):
        told(samples, primary={"structure": "aorta", "metric": "dice"})


def test_margins_by_structure_and_for_all_tolerances():
    settings = Statistics(margin={"Dice": {"heart": 0.01}, "nsd": 0.02})
    assert settings.margin_of("dice", "heart") == 0.01
    assert settings.margin_of("dice", "aorta") is None
    assert settings.margin_of("nsd_2mm", "aorta") == 0.02
