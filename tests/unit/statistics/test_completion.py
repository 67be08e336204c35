"""What is missing counts as worst, what is absent is undefined, and a subject is a subject."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_rows import of_models, rows

from segstudy.errors import InputError
from segstudy.statistics.analysis import analyse
from segstudy.statistics.comparisons import compare
from segstudy.statistics.completion import completed, false_positives
from segstudy.study import Statistics

INF, NAN = float("inf"), float("nan")
WORST, EXCLUDE = Statistics(), Statistics(missing="exclude")
pytestmark = pytest.mark.filterwarnings("error")


def values(table, model="b", column="value"):
    return table[table["model"] == model].set_index("case")[column]


# --- missing predictions --------------------------------------------------------------------------

A = [0.9, 0.8, 0.85, 0.7, 0.6, 0.75, 0.81]
B = [0.92, 0.82, NAN, 0.73, 0.625, 0.77, 0.83]


def test_a_model_that_fails_does_not_look_better():
    """Worked out beforehand: without the third case B wins, with it as worst nothing can be told."""
    table = completed(of_models({"a": A, "b": B}), WORST)
    assert values(table)["c002"] == 0
    found = compare(table, WORST).iloc[0]
    assert (found["n_missing_a"], found["n_missing_b"], found["n_subjects"]) == (0, 1, 7)
    assert found["estimate"] == pytest.approx(0.102143, abs=5e-7)
    assert found["p"] == 1
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((-0.025, 0.415))
    assert found["verdict"] == "cannot_be_told"
    assert (found["other_estimate"], found["other_p"]) == (pytest.approx(-0.0225), 0.03125)
    assert found["other_verdict"] == "b_better"
    assert (
        "1 missing prediction taken as worst; left out, they give another verdict (b is better)"
        in (found["remark"])
    )


def test_missing_predictions_may_be_left_out():
    found = compare(completed(of_models({"a": A, "b": B}), EXCLUDE), EXCLUDE).iloc[0]
    assert (found["n_subjects"], found["n_left_out"], found["missing"]) == (6, 1, "exclude")
    assert (found["estimate"], found["p"]) == (pytest.approx(-0.0225), 0.03125)
    assert found["verdict"] == "b_better"
    assert (found["other_estimate"], found["other_p"]) == (pytest.approx(0.102143, abs=5e-7), 1)


@pytest.mark.parametrize("how", ["no row", "empty value", "status"])
def test_however_a_prediction_is_missing(how):
    table = of_models({"a": A, "b": B})
    lost = (table["model"] == "b") & (table["case"] == "c002")
    if how == "no row":
        table = table[~lost]
    elif how == "status":
        table.loc[lost, "status"] = "missing_file"
    found = completed(table, WORST).set_index(["model", "case"]).loc[("b", "c002")]
    assert (found["value"], found["missing"], found["failed"]) == (0, True, True)
    assert np.isnan(found["other_value"])


def test_a_missing_distance_is_infinite_and_ranks_last():
    table = of_models({"a": [3.0, 4.0, 5.0], "b": [2.0, NAN, 4.0]}, metric="hd95_mm")
    assert values(completed(table, WORST))["c001"] == INF


def test_an_empty_prediction_is_failed_but_not_missing():
    table = rows(
        model=["a", "b"], case="c", metric="precision", value=[0.8, NAN],
        status=["ok", "pred_empty"], n_reference_voxels=9, n_predicted_voxels=[9, 0],
    )  # fmt: skip
    found = completed(table, WORST).set_index("model").loc["b"]
    assert (found["value"], found["missing"], found["failed"]) == (0, False, True)


def test_a_seed_without_a_prediction_counts_as_its_worst():
    table = rows(
        model=["a"] * 4, case=["c0", "c0", "c1", "c1"], seed=["0", "1"] * 2,
        value=[0.9, 0.7, 0.8, 0.6],
    )  # fmt: skip
    found = values(completed(table[:-1], WORST), "a")
    assert found.to_dict() == pytest.approx({"c0": 0.8, "c1": 0.4})
    assert values(completed(table[:-1], EXCLUDE), "a")["c1"] == 0.8


def test_models_without_a_common_case_lack_nothing():
    table = of_models({"a": A, "b": A})
    table.loc[table["model"] == "b", "case"] += "-elsewhere"
    found = completed(table, WORST)
    assert not found["missing"].any()
    assert len(found) == 14


def test_summary_ranking_and_report_name_what_is_missing():
    found = analyse(of_models({"a": A, "b": B}), Statistics(bootstrap_samples=100))
    summary = found.summary.set_index("model")
    assert summary["n_missing"].to_dict() == {"a": 0, "b": 1}
    assert summary.loc["b", "mean"] == pytest.approx(np.nansum(B) / 7)
    assert summary.loc["b", "failure_rate"] == pytest.approx(1 / 7)
    assert found.ranking.set_index("model")["n_missing"].to_dict() == {"a": 0, "b": 1}
    ranks = found.ranking.set_index("model")["mean_rank"]
    assert ranks["a"] == pytest.approx((6 * 2 + 1) / 7)


# --- structures that the reference lacks ------------------------------------------------------------


def with_absent():
    """Eight cases with the structure, four without: `a` is clean there, `b` finds it in three."""
    present = of_models(
        {"a": np.linspace(0.7, 0.8, 8), "b": np.linspace(0.72, 0.81, 8)},
        status="ok", n_reference_voxels=1000, n_predicted_voxels=1000, voxel_mm3=2.0,
    )  # fmt: skip
    absent = pd.concat(
        [
            rows(model="a", case=[f"e{n}" for n in range(4)], value=NAN, status="both_empty",
                 n_reference_voxels=0, n_predicted_voxels=0, voxel_mm3=2.0),
            rows(model="b", case=[f"e{n}" for n in range(4)], value=[0.0, 0.0, 0.0, NAN],
                 status=["ref_empty"] * 3 + ["both_empty"], n_reference_voxels=0,
                 n_predicted_voxels=[500, 1000, 1500, 0], voxel_mm3=2.0),
        ]
    )  # fmt: skip
    return pd.concat([present, absent], ignore_index=True)


def test_a_case_without_the_structure_is_undefined_for_every_model():
    table = completed(with_absent(), WORST)
    absent = table[table["case"].str.startswith("e")]
    assert absent["absent"].all()
    assert absent["value"].isna().all()
    assert not absent["missing"].any()
    found = compare(table, WORST).iloc[0]
    assert (found["n_subjects"], found["n_left_out"]) == (8, 4)


def test_false_positives_have_a_table_of_their_own():
    found = analyse(with_absent(), Statistics(bootstrap_samples=100))
    table = found.false_positives.set_index(["model", "metric"])
    assert table.loc[("a", "false_positive_cases"), "mean"] == 0
    assert table.loc[("b", "false_positive_cases"), ["n_cases", "mean"]].tolist() == [4, 0.75]
    assert table.loc[("b", "predicted_volume_where_absent_ml"), "mean"] == pytest.approx(
        (1 + 2 + 3 + 0) / 4
    )
    assert found.false_positive_tests["metric"].tolist() == [
        "false_positive_cases",
        "predicted_volume_where_absent_ml",
    ]
    assert (found.summary["n_absent"] == 4).all()


def test_a_missing_prediction_there_counts_as_a_false_positive():
    table = with_absent()
    table = table[~((table["model"] == "a") & (table["case"] == "e0"))]
    found = false_positives(table, WORST).set_index(["model", "metric", "case"])
    row = found.loc[("a", "false_positive_cases", "e0")]
    assert (row["value"], row["missing"]) == (1, True)
    assert found.loc[("a", "predicted_volume_where_absent_ml", "e0"), "value"] == INF


def test_a_missing_prediction_there_may_be_left_out():
    table = with_absent()
    table = table[~((table["model"] == "a") & (table["case"] == "e0"))]
    found = false_positives(table, EXCLUDE).set_index(["model", "metric", "case"])
    row = found.loc[("a", "false_positive_cases", "e0")]
    assert np.isnan(row["value"])
    assert (row["other_value"], row["missing"]) == (1, True)
    missing = completed(table, EXCLUDE)
    assert values(missing, "a", "missing")["e0"]


def test_what_was_predicted_must_be_known():
    """Of a table without predicted voxels, a Dice of 0 tells of a false positive and nothing of none."""
    table = rows(model=["a", "b"], case="e", value=[NAN, 0.0], n_reference_voxels=0)
    found = false_positives(table, WORST)
    assert found["model"].tolist() == ["b"]
    assert found["value"].tolist() == [1]


def test_the_worst_of_a_metric_without_a_floor_is_not_its_best():
    settings = Statistics(directions={"my_score": "higher"})
    table = of_models({"a": [5.0] * 12, "b": [4.0, 4.0] + [NAN] * 10}, metric="my_score")
    found = compare(completed(table, settings), settings).iloc[0]
    assert found["verdict"] == "a_better"
    assert found["share_a_better"] == 1


def test_an_empty_value_that_may_be_either_is_refused():
    table = rows(model=["a", "b"] * 2, case=["c", "c", "e", "e"], value=[0.5, 0.6, NAN, 0.0])
    with pytest.raises(
        InputError, match="case e: dice of heart is empty for model a.*n_reference_voxels"
    ):
        completed(table, WORST)


def test_two_references_are_refused():
    table = rows(model=["a", "b"], case="c", value=[NAN, 0.5], n_reference_voxels=[0, 9])
    with pytest.raises(
        InputError, match=r"case c: the reference lacks heart by the rows of a, and"
    ):
        completed(table, WORST)


# --- subjects -------------------------------------------------------------------------------------


def test_a_case_is_its_own_subject_where_none_is_named():
    assert values(completed(of_models({"b": A}), WORST), column="subject").tolist()[:2] == [
        "c000",
        "c001",
    ]


def test_a_table_without_subjects_takes_them_from_one_that_has():
    table = pd.concat([of_models({"a": [0.5, 0.6]}, ["s", "s"]), of_models({"b": [0.4, 0.5]})])
    assert values(completed(table, WORST), column="subject").tolist() == ["s", "s"]


def test_two_subjects_of_a_case_are_refused():
    table = pd.concat([of_models({"a": [0.5]}, ["s"]), of_models({"b": [0.4]}, ["t"])])
    with pytest.raises(InputError, match="case c000: subject s and t in the tables"):
        completed(table, WORST)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_failing_more_never_helps(data):
    """Taking a prediction of B away moves no estimate towards B."""
    number = data.draw(st.integers(6, 10))
    samples = {
        model: data.draw(st.lists(st.floats(0, 1), min_size=number, max_size=number), label=model)
        for model in ("a", "b")
    }
    lost = data.draw(st.integers(0, number - 1))
    whole = of_models(samples)
    fewer = whole[~((whole["model"] == "b") & (whole["case"] == f"c{lost:03d}"))]
    before, after = (compare(completed(table, WORST), WORST).iloc[0] for table in (whole, fewer))
    assert after["estimate"] >= before["estimate"] - 1e-12
    assert after["n_subjects"] == number
