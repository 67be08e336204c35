"""Predictions with a label scheme of their own: refused with their values, or measured by a map of them."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segstudy.cli import main
from segstudy.images.files import write_label
from segstudy.metrics.label_values import count_values
from segstudy.study import MeasureSettings

AFFINE = np.diag([1.0, 1.0, 2.5, 1.0])
STRUCTURES = {"liver": 1, "tumour": 2}


def organ(liver=1, tumour=2, shift=0):
    """80 voxels, 8 of them of the tumour."""
    array = np.zeros((12, 10, 8), np.uint16)
    array[2 + shift : 7 + shift, 3:7, 2:6] = liver
    array[3 + shift : 5 + shift, 4:6, 3:5] = tumour
    return array


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """Measure references against predictions, case -> array: the table, or what the error says."""
    monkeypatch.chdir(tmp_path)

    def run(references, predictions, **settings):
        for folder, arrays in (("labels", references), ("predicted", predictions)):
            for case, array in arrays.items():
                write_label(tmp_path / folder / f"{case}.nii.gz", array, AFFINE)
        code = main(
            [
                *("metrics", "--reference", "labels", "--prediction", "predicted"),
                *("--output", "metrics.csv", "--settings", json.dumps(settings)),
            ]
        )
        error = capsys.readouterr().err
        assert (tmp_path / "metrics.csv").exists() == (code == 0)
        return pd.read_csv("metrics.csv") if code == 0 else error

    return run


def test_values_that_nothing_has_are_refused(measured):
    """The values of TotalSegmentator's liver and another of its structures."""
    cases = {"a": organ(), "b": organ()}
    error = measured(cases, {"a": organ(5, 99), "b": organ(5, 2)}, structures=STRUCTURES)
    assert "predicted/a.nii.gz: case a, and 1 more (b) of the predictions" in error
    assert "5 (144 voxels), 99 (8 voxels)" in error
    assert "which no structure has (liver 1, tumour 2) and no reference holds" in error
    assert '"prediction_labels": {"liver": VALUE, "tumour": VALUE}' in error
    assert '"background_labels": [5, 99]' in error


def test_references_of_another_scheme_are_refused(measured):
    """A mask of 0 and 255, and a liver that is 1 in the settings: no table of empty references."""
    masks = {name: (organ() > 0).astype(np.uint8) * 255 for name in "ab"}
    error = measured(masks, {name: organ(1, 1) for name in "ab"}, structures={"liver": 1})
    assert (
        "labels/a.nii.gz: case a, and 1 more (b): references hold values 255 (160 voxels)" in error
    )
    assert "which no structure has (liver 1), and none of them holds liver" in error
    assert '"structures": {"liver": VALUE IN THE REFERENCES}' in error
    assert '"background_labels": [255]' in error
    found = measured(
        masks,
        {name: organ(1, 1) for name in "ab"},
        structures={"liver": 255},
        prediction_labels={"liver": 1},
    )
    assert (found.loc[found["metric"] == "dice", "value"] == 1).all()


@pytest.mark.parametrize(("ignored", "said"), [([7], False), ("all", True)])
def test_a_structure_that_no_reference_has_may_be_right(measured, caplog, ignored, said):
    asked = {"structures": {"liver": 1, "tumour": 2}, "background_labels": ignored}
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        found = measured({"a": organ(1, 7)}, {"a": organ(1, 1)}, **asked)
    assert set(found.loc[found["structure"] == "tumour", "status"]) == {"both_empty"}
    assert ("and none of them holds tumour" in caplog.text) == said
    # Nothing but structures is there: the cohort has no tumour.
    assert set(measured({"a": organ(1, 1)}, {"a": organ(1, 1)}, structures=STRUCTURES)["case"]) == {
        "a"
    }


@pytest.mark.parametrize(
    ("prediction", "scheme", "told"),
    [
        (organ(5, 9), {}, "no prediction holds liver (1), tumour (2), and the values 5 (72 voxels), 9 (8 voxels) became"),
        (organ(1, 9), {}, "no prediction holds tumour (2), and the values 9 (8 voxels) became background"),
        (organ(1, 1), {}, ""),
        (organ(5, 9), {"liver": 5, "tumour": 9}, ""),
        (organ(1, 2), {"liver": 5, "tumour": 9}, "no prediction holds liver (5), tumour (9), and the values 1"),
    ],
)  # fmt: skip
def test_values_that_all_become_background_are_told(measured, caplog, prediction, scheme, told):
    asked = {"structures": STRUCTURES, "background_labels": "all", "prediction_labels": scheme}
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        measured({"a": organ()}, {"a": prediction}, **asked)
    assert told in caplog.text
    assert ("became background" in caplog.text) == bool(told)


def test_values_of_predictions_alone_are_said(measured, caplog):
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        measured({"a": organ(1, 2), "b": organ()}, {"a": organ(2, 7), "b": organ(1, 2)})
    assert (
        "predicted/a.nii.gz: case a: values 7 (8 voxels), which no reference holds" in caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        measured({"a": organ(1, 2)}, {"a": organ(2, 1)})
    assert "which no reference holds" not in caplog.text


def test_a_map_of_the_values_is_as_good_as_the_references_own(measured):
    expected = measured({"a": organ()}, {"a": organ(shift=1)}, structures=STRUCTURES)
    assert expected["value"].notna().all()
    found = measured(
        {"a": organ()},
        {"a": organ(5, 99, shift=1)},
        structures=STRUCTURES,
        prediction_labels={"tumour": 99, "liver": [5, 6]},
    )
    pd.testing.assert_frame_equal(found, expected)


def test_a_map_changes_values_that_mean_something_else(measured):
    """The model's 1 is the tumour, its 2 and 7 the liver, its 9 is nothing that is measured."""
    prediction = organ(2, 1)
    prediction[2, 3:7, 2:6], prediction[0, 0, 0] = 7, 9
    scheme = {"liver": [2, 7], "tumour": 1}
    asked = {"structures": STRUCTURES, "prediction_labels": scheme}
    error = measured({"a": organ()}, {"a": prediction}, **asked)
    assert "case a: values 9 (1 voxels), which prediction_labels does not name" in error
    assert "(liver 2, 7; tumour 1)" in error
    for ignored in ([9], "all"):
        found = measured({"a": organ()}, {"a": prediction}, **asked, background_labels=ignored)
        assert (found.loc[found["metric"] == "dice", "value"] == 1).all()


@pytest.mark.parametrize("ignored", [[5], "all"])
def test_ignored_values_are_background(measured, ignored):
    prediction = organ()
    prediction[8:] = 5
    found = measured(
        {"a": organ()}, {"a": prediction}, structures=STRUCTURES, background_labels=ignored
    )
    assert found.loc[found["metric"] == "hd_mm", "value"].tolist() == [0, 0]


def test_ignored_values_without_named_structures(measured):
    prediction = organ()
    prediction[8:] = 5
    found = measured({"a": organ()}, {"a": prediction}, background_labels=[5])
    assert found["structure"].unique().tolist() == [1, 2]
    assert found.loc[found["metric"] == "dice", "value"].tolist() == [1, 1]


def test_two_of_four_structures_may_be_measured(measured):
    """What references hold is known, though no structure is named by it; in another case too."""
    reference, prediction = organ(), organ()
    reference[8, :5], reference[8, 5:] = 3, 4
    prediction[8, :5] = 4
    references = {"a": reference, "b": organ(), "c": organ()}
    predictions = {"a": prediction, "b": prediction}
    found = measured(references, predictions, structures=STRUCTURES)
    assert (found.loc[found["case"] != "c", "status"] == "ok").all()


def test_nothing_in_common_without_named_structures(measured):
    error = measured({"a": organ()}, {"a": organ(5, 99)})
    assert "case a: no value in common with the reference" in error
    assert (
        "predicted 5 (72 voxels), 99 (8 voxels); the reference holds 1 (72 voxels), 2 (8" in error
    )
    assert '"structures": {"NAME": VALUE IN THE REFERENCE}' in error


@pytest.mark.parametrize(
    ("references", "predictions"),
    [
        # A wrong structure, but one that a reference of the run has.
        ({"a": organ(1, 1), "b": organ(2, 2)}, {"a": organ(1, 1), "b": organ(1, 1)}),
        # Some of the prediction is known.
        ({"a": organ(1, 2)}, {"a": organ(2, 7)}),
        # Nothing there to have a value in common with.
        ({"a": organ(0, 0)}, {"a": organ(5, 5)}),
        ({"a": organ()}, {"a": organ(0, 0)}),
    ],
)
def test_mistakes_of_a_model_are_measured(measured, references, predictions):
    found = measured(references, predictions)
    assert set(found["case"]) == set(references)


maps = hnp.arrays(
    np.uint16,
    st.tuples(*[st.integers(1, 9)] * 3),
    elements=st.sampled_from([0, 0, 0, 1, 7, 40_000]),
)


@settings(deadline=None, max_examples=60)
@given(maps, st.booleans())
def test_every_voxel_is_counted(label, turned):
    label = np.tile(label, (1, 8, 8))
    label = label.T if turned else label
    values, voxels = np.unique(label[label > 0], return_counts=True)
    assert count_values(label) == dict(zip(values.tolist(), voxels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prediction_labels": {"liver": 5}}, "liver; expected the structures: liver, tumour"),
        ({"prediction_labels": {"liver": 5, "tumour": [5, 6]}}, "value 5 stands for two things"),
        ({"prediction_labels": {"liver": 5, "tumour": []}}, "no value for tumour"),
        (
            {"prediction_labels": {"liver": 5, "tumour": 6}, "background_labels": [6]},
            "value 6 stands for two things",
        ),
        ({"background_labels": [2]}, "background_labels: 2 is the value of tumour"),
        ({"structures": {}, "background_labels": "all"}, "expected structures"),
    ],
)
def test_settings_that_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        MeasureSettings.model_validate({"structures": STRUCTURES} | asked)
