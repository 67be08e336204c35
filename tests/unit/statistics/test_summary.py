"""Summaries by hand: what is counted, averaged and ranked when values are missing or infinite."""

import numpy as np
import pytest
from metric_rows import of_models, rows
from scipy import stats

from segstudy.errors import InputError
from segstudy.statistics.comparisons import compare
from segstudy.statistics.completion import completed
from segstudy.statistics.ranking import rank
from segstudy.statistics.summary import COLUMNS, quantile, summarise
from segstudy.statistics.values import chosen_metrics, read_values
from segstudy.study import Statistics

INF, NAN = float("inf"), float("nan")
QUICK = Statistics(bootstrap_samples=200)


def measured(found):
    """Rows (model, seed, case, metric, value) as `read_values` gives them."""
    model, seed, case, metric, value = zip(*found, strict=True)
    return rows(
        model=model,
        seed=seed,
        case=case,
        metric=metric,
        value=value,
        status="ok",
        diagonal_mm=300.0,
    )


def test_by_hand():
    values = [1.0, 2.0, 3.0, 6.0, INF, NAN]
    table = measured([("a", "0", f"c{n}", "hd95_mm", value) for n, value in enumerate(values)])
    found = summarise(completed(table, QUICK), QUICK)
    assert list(found.columns) == list(COLUMNS)
    row = found.iloc[0]
    counts = ["n_subjects", "n_cases", "n_undefined", "n_failed", "n_infinite", "n_finite"]
    assert row[counts].tolist() == [5, 5, 1, 1, 1, 4]
    assert row["mean"] == 3
    assert row["sd"] == pytest.approx(np.sqrt((4 + 1 + 0 + 9) / 3))
    assert (row["q1"], row["median"], row["q3"]) == (2, 3, 6)
    assert row["mean_penalised"] == (12 + 300) / 5
    expected = stats.t.interval(0.95, 3, 3, row["sd"] / 2)
    # A distance is never below 0.
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((max(expected[0], 0), expected[1]))
    assert row["failure_rate"] == 1 / 5
    # R: binom.test(1, 5): [0.00505, 0.71642].
    assert (row["failure_low"], row["failure_high"]) == pytest.approx((0.00505, 0.71642), abs=5e-6)
    assert row["surface"] == "mesh"


def test_the_unit_is_the_subject():
    subjects = ["s", "s", "s", "t", "u"]
    table = of_models({"a": [0.9, 0.8, 0.7, 0.5, 0.6]}, subjects)
    row = summarise(completed(table, QUICK), QUICK).iloc[0]
    assert (row["n_subjects"], row["n_cases"]) == (3, 5)
    assert (row["mean"], row["sd"]) == pytest.approx(
        (np.mean([0.8, 0.5, 0.6]), np.std([0.8, 0.5, 0.6], ddof=1))
    )
    assert row["median"] == 0.6


@pytest.mark.parametrize(
    ("values", "mean", "median"),
    [([NAN, NAN], NAN, NAN), ([INF, INF], NAN, INF), ([0.5], 0.5, 0.5), ([0.4] * 5, 0.4, 0.4)],
)
@pytest.mark.filterwarnings("error")
def test_odd_samples(values, mean, median):
    table = measured([("a", "0", f"c{n}", "hd_mm", value) for n, value in enumerate(values)])
    row = summarise(completed(table, QUICK), QUICK).iloc[0]
    np.testing.assert_equal([row["mean"], row["median"]], [mean, median])


def test_seeds_are_averaged_before_cases_are_counted():
    runs = {"c1": [0.6, 0.8, 1.0], "c2": [0.2, 0.1, 0.3], "c3": [0.4, NAN, 0.6]}
    found = measured(
        [
            ("a", str(seed), case, "dice", value)
            for case, values in runs.items()
            for seed, value in enumerate(values)
        ]
        + [("a", str(seed), "c4", "hd_mm", value) for seed, value in enumerate([2.0, INF])]
    )
    found = completed(found, QUICK).set_index("case")
    assert found["value"].to_dict() == pytest.approx({"c1": 0.8, "c2": 0.2, "c3": 0.5, "c4": INF})
    assert found["runs"].to_dict() == {"c1": 3, "c2": 3, "c3": 3, "c4": 2}


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.75, 1])
def test_quantile_is_that_of_numpy_where_all_is_finite(share):
    sample = np.random.default_rng(0).normal(size=13)
    assert quantile(sample, share) == pytest.approx(np.quantile(sample, share))


def test_quantile_ranks_infinite_worst():
    assert quantile(np.array([INF, 1.0, 2.0]), 0.5) == 2
    assert quantile(np.array([INF, 1.0]), 0.5) == INF
    assert quantile(np.array([INF, INF, INF, 1.0]), 0.75) == INF


def test_models_keep_the_order_of_the_table():
    found = measured([(model, "0", "c", "dice", 0.5) for model in ("unet", "enet", "attention")])
    found = summarise(completed(found, QUICK), QUICK)
    assert found["model"].tolist() == ["unet", "enet", "attention"]


def test_nsd_stands_for_all_tolerances():
    table = measured([("a", "0", "c", m, 0.5) for m in ("nsd_1mm", "dice", "nsd_2.5mm")])
    assert chosen_metrics(table, ("dice", "nsd")) == ["dice", "nsd_1mm", "nsd_2.5mm"]


def write(path, text):
    path.write_text(text)
    return path


def test_a_table_of_another_program(tmp_path):
    table = read_values(
        write(
            tmp_path / "m.csv",
            "case,model,structure,metric,value\n007,NA,2,dice,0.5\n008,NA,2,dice,\n",
        )
    )
    found = completed(table, QUICK)
    assert found["case"].tolist() == ["007", "008"]
    assert found["model"].tolist() == ["NA", "NA"]
    np.testing.assert_equal(found["value"].tolist(), [0.5, NAN])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,model,metric,value\nc,m,dice,1\n", "no column 'structure'"),
        ("case,model,structure,metric,value\nc,m,s,dice,high\n", "row 2: value is 'high'"),
        ("case,model,structure,metric,value\nc,m,s,dice,1\nc,m,s,dice,1\n", "two rows with dice"),
        ("", "not readable as a table"),
    ],
)
def test_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_values(write(tmp_path / "m.csv", text))
    with pytest.raises(InputError, match="no such table"):
        read_values(tmp_path / "nowhere.csv")


def test_models_are_ordered_by_what_the_tests_compare():
    """Errors of 2 and -1.9 in turn have a mean near 0, and are larger than 0.7 throughout."""
    table = of_models(
        {"alt": [2, -1.9] * 4, "const": [0.7] * 8}, metric="signed_surface_distance_mm"
    )
    values = completed(table, QUICK)
    rows = summarise(values, QUICK).set_index("model")
    assert rows["mean"].to_dict() == pytest.approx({"alt": 0.05, "const": 0.7})
    assert rows["mean_penalised"].to_dict() == pytest.approx({"alt": 1.95, "const": 0.7})
    tests = compare(values, QUICK).iloc[0]
    assert tests["mean_difference"] == pytest.approx(1.95 - 0.7)
    assert tests["verdict"] == "b_better"
    ranks = rank(values, QUICK)[0].set_index("model")["mean_rank"]
    assert ranks.to_dict() == {"alt": 2, "const": 1}


def test_sizes_are_taken_of_scans_before_subjects_are_averaged():
    """Visits of a subject at 2 and -2 are no good ones, whether scans or subjects are paired."""
    subjects = [name for name in "abcdefgh" for _ in range(2)]
    table = of_models({"turning": [2, -2] * 8, "near": [0.5] * 16}, subjects, metric="rve")
    table["metric"] = "relative_volume_error"
    table["value"] = table["value"].clip(-0.9, 2)
    rows = summarise(completed(table, QUICK), QUICK).set_index("model")
    assert rows.loc["turning", "mean_penalised"] == pytest.approx((2 + 0.9) / 2)
    table.loc[table["model"] == "near", "case"] += "_later"
    tests = compare(completed(table, QUICK), QUICK).iloc[0]
    assert "paired by subject" in tests["remark"]
    assert tests["mean_difference"] == pytest.approx(1.45 - 0.5)


@pytest.mark.parametrize(
    ("metric", "penalised"),
    [
        ("hd_mm", (1 + 300) / 2),
        ("lesionwise_hd95_mm", (1 + 300) / 2),
        ("signed_surface_distance_mm", (1 + 300) / 2),
        ("betti_error", NAN),
        ("lesion_false_positives", NAN),
        ("relative_volume_error", NAN),
        ("absolute_relative_volume_error", NAN),
        ("volume_difference_ml", NAN),
        ("absolute_volume_difference_mm3", NAN),
        ("hd_voxel", NAN),
    ],
)
def test_the_diagonal_stands_for_distances_in_mm_alone(metric, penalised):
    table = measured([("a", "0", f"c{n}", metric, value) for n, value in enumerate([1.0, INF])])
    row = summarise(completed(table, QUICK), QUICK).iloc[0]
    np.testing.assert_equal([row["mean"], row["mean_penalised"]], [1, penalised])
    assert row["n_failed"] == 1


def test_an_empty_prediction_is_infinitely_small():
    """Minus infinity is the size of infinity, fails, and ranks as the lowest of the signed values."""
    table = measured(
        [
            ("a", "0", f"c{n}", "signed_surface_distance_mm", value)
            for n, value in enumerate([-INF, -1.0, 2.0, 3.0])
        ]
    )
    row = summarise(completed(table, QUICK), QUICK).iloc[0]
    assert (row["n_infinite"], row["n_failed"], row["median"]) == (1, 1, 0.5)
    assert row["mean_penalised"] == (300 + 1 + 2 + 3) / 4
    assert quantile(np.array([-INF, -1.0]), 0.5) == -INF
