"""Predictions that are there already: found by their pattern, translated, refused by name."""

import json

import numpy as np
import PIL.Image
import pytest

from segstudy import prediction_files
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import Image, read_grid, read_label, write_label
from segstudy.images.geometry import reorient
from segstudy.images.grids import Grid, compare_grids
from segstudy.images.label_formats import LABEL_FORMATS
from segstudy.infer import predictions
from segstudy.study import PredictionSettings, PredictionsModel

STRUCTURES = {"liver": 1, "spleen": 2}
SHAPE = (6, 4, 3)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def label(*values: int) -> np.ndarray:
    """A label map on the references' grid, whose first slice is empty and whose next ones have these values."""
    slices = np.zeros(SHAPE[0], int)
    slices[1 : len(values) + 1] = values
    return np.broadcast_to(slices[:, None, None], SHAPE)


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, array, AFFINE)


def settings(files, background=(), **keys) -> PredictionSettings:
    model = PredictionsModel(network="predictions", files=str(files), **keys)
    return PredictionSettings(name="m", model=model, structures=STRUCTURES, background=background)


def gathered(tmp_path, asked, names=("a", "b"), fold=0, subjects=None):
    """The label maps that are handed on, by case."""
    known = {"a": "a", "b": "b", "c": "c"} | (subjects or {})
    reference = tmp_path / "references" / "of_all" / "label.nii.gz"
    put(reference, label())
    cases = [Case(name, subject, (), reference) for name, subject in known.items()]
    predictions.gather_fold(asked, predictions.Tested(fold, 0, names, cases), tmp_path / "out")
    return {path.name[:-7]: read_label(path).array for path in (tmp_path / "out").glob("*.nii.gz")}


def test_a_case_without_a_file_is_missing_and_others_are_handed_on(tmp_path, caplog):
    put(tmp_path / "p/fold_1/a.nii.gz", label(1, 2))
    found = gathered(tmp_path, settings(tmp_path / "p/fold_{fold}/{case}.nii.gz"), fold=1)
    assert list(found) == ["a"]
    assert np.array_equal(found["a"], label(1, 2))
    assert "case b: no prediction of m" in caplog.text


def test_values_of_a_program_become_the_datasets(tmp_path):
    for name in "ab":
        put(tmp_path / f"p/{name}/{name}_seg.nii.gz", label(7, 8, 3, 9))
    asked = settings(
        tmp_path / "p/{case}/{case}_seg.nii.gz",
        labels={"liver": [7, 8], "spleen": 3},
        background_labels=[9],
    )
    assert np.array_equal(gathered(tmp_path, asked)["a"], label(1, 1, 2, 0))


def test_values_without_a_meaning_are_refused_with_file_and_case(tmp_path):
    for name in "ab":
        put(tmp_path / f"{name}.nii.gz", label(1, 5))
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: case a: m holds the values 5, which"
    ) as told:
        gathered(tmp_path, settings(tmp_path / "{case}.nii.gz"))
    assert "2 of 2 predictions cannot be used" in str(told.value)
    assert not (tmp_path / "out").exists()
    # What the dataset takes for background is so in predictions of the same values.
    assert gathered(tmp_path, settings(tmp_path / "{case}.nii.gz", background=[5]))["a"].max() == 1


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([(7, 9), (7,)], "no prediction of m holds liver (1), spleen (2), and the values 7, 9 became background"),
        ([(1, 9), (1,)], "no prediction of m holds spleen (2), and the values 9 became"),
        ([(1, 9), (2,)], None),
        ([(1,), ()], None),
    ],
)  # fmt: skip
def test_values_that_all_become_background_are_told(tmp_path, caplog, values, told):
    for name, own in zip("ab", values, strict=True):
        put(tmp_path / f"{name}.nii.gz", label(*own))
    gathered(tmp_path, settings(tmp_path / "{case}.nii.gz", background_labels="all"))
    assert (told or "") in caplog.text
    assert ("became background" in caplog.text) == bool(told)


def test_a_file_a_structure_is_merged_into_one_label_map(tmp_path):
    for name in "ab":
        put(tmp_path / f"{name}/seg/liver.nii.gz", label(1, 0, 0))
        put(tmp_path / f"{name}/seg/spleen_1.nii.gz", label(0, 255, 0))
        put(tmp_path / f"{name}/seg/spleen_2.nii.gz", label(0, 0, 1))
        put(tmp_path / f"{name}/seg/heart.nii.gz", label(1, 1, 1))
    asked = settings(
        tmp_path / "{case}/seg/{structure}.nii.gz",
        labels={"liver": "liver", "spleen": ["spleen_1", "spleen_2"]},
    )
    assert np.array_equal(gathered(tmp_path, asked)["b"], label(1, 2, 2))
    put(tmp_path / "a/seg/spleen_1.nii.gz", label(1, 1, 0))
    with pytest.raises(InputError, match="case a: 12 voxels are of another structure too"):
        gathered(tmp_path, asked)
    (tmp_path / "a/seg/spleen_1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case a: no file of spleen_1 \(spleen\) beside it"):
        gathered(tmp_path, asked)


def test_no_file_at_all_is_told_with_what_was_sought_and_found(tmp_path):
    put(tmp_path / "p/x.nii.gz", label(1))
    with pytest.raises(
        InputError, match=r"none of the 2 cases that fold 0 tests has a file"
    ) as told:
        gathered(tmp_path, settings(tmp_path / "p/{case}.nii.gz"))
    assert f"expected {tmp_path}/p/a.nii.gz, found {tmp_path}/p/x.nii.gz" in str(told.value)


def test_predictions_stand_on_the_references_grid_whatever_the_order_of_their_axes(
    tmp_path, caplog
):
    """Later stages compare them with images and labels voxel by voxel."""
    turned = reorient(Image(label(1, 2), AFFINE), "PIL")
    write_label(tmp_path / "a.nii.gz", turned.array, turned.affine)
    cropped = AFFINE.copy()
    cropped[:3, 3] = AFFINE[:3, :3] @ (1, 0, 0)
    write_label(tmp_path / "b.nii.gz", label(1, 2)[1:], cropped)
    found = gathered(tmp_path, settings(tmp_path / "{case}.nii.gz"))
    for case in "ab":
        np.testing.assert_array_equal(found[case], label(1, 2))
        written = tmp_path / "out" / f"{case}.nii.gz"
        assert not compare_grids(read_grid(written), Grid(SHAPE, AFFINE))
    assert "case a: lies on a compatible grid" in caplog.text
    assert "case b: lies on a compatible grid" in caplog.text


def test_predictions_on_other_grids_are_refused_all_at_once(tmp_path):
    for name, shift in (("a", 0.3), ("b", 0.5)):
        moved = AFFINE.copy()
        moved[0, 3] = shift
        write_label(tmp_path / f"{name}.nii.gz", label(1), moved)
    with pytest.raises(
        InputError, match=r"a\.nii\.gz: case a: other grid than its reference"
    ) as told:
        gathered(tmp_path, settings(tmp_path / "{case}.nii.gz"))
    assert "centres lie 0.3 voxels apart" in str(told.value)
    assert "2 of 2 predictions cannot be used" in str(told.value)


def test_segments_that_a_file_names_go_by_their_names(tmp_path):
    """3D Slicer numbers segments in the order in which they were drawn."""
    for case, names in (("a", {"liver": 1, "spleen": 2}), ("b", {"spleen": 1, "liver": 2})):
        write = LABEL_FORMATS["seg.nrrd"].write
        array = label(*(names[name] for name in ("liver", "spleen"))).astype(np.uint8)
        write(tmp_path / f"{case}.seg.nrrd", Image(array, AFFINE), names, tmp_path)
    found = gathered(tmp_path, settings(tmp_path / "{case}.seg.nrrd"))
    np.testing.assert_array_equal(found["a"], label(1, 2))
    np.testing.assert_array_equal(found["b"], label(1, 2))


def test_pictures_are_predictions_of_the_references_voxels(tmp_path):
    for case in "ab":
        (tmp_path / case).mkdir()
        for k in range(SHAPE[2]):
            page = label(1, 2)[:, :, k].T.astype(np.uint8)
            PIL.Image.fromarray(page).save(tmp_path / case / f"{k}.png")
    np.testing.assert_array_equal(
        gathered(tmp_path, settings(tmp_path / "{case}"))["b"], label(1, 2)
    )


@pytest.mark.parametrize(
    ("train", "subjects", "told"),
    [
        (["b"], {}, r"fold 0 was trained on b, and models\.m predicts case b by that fold"),
        (["c"], {"b": "anna", "c": "anna"}, r"trained on c of the same subject anna, and models\.m predicts case b"),
    ],
    ids=["the case", "another case of its subject"],
)  # fmt: skip
def test_a_case_whose_subject_was_trained_on_is_refused_by_name(tmp_path, train, subjects, told):
    for name in "ab":
        put(tmp_path / f"{name}.nii.gz", label(1))
    splits = tmp_path / "splits_final.json"
    asked = settings(tmp_path / "{case}.nii.gz", training_splits=str(splits))
    splits.write_text(json.dumps([{"train": ["c"], "val": ["a", "b"]}]))
    assert list(gathered(tmp_path, asked)) == ["a", "b"]
    splits.write_text(json.dumps([{"train": train, "val": ["a"]}]))
    with pytest.raises(InputError, match=told) as error:
        gathered(tmp_path, asked, subjects=subjects)
    assert "1 of 2 cases are predicted by a fold that knows their subject" in str(error.value)
    with pytest.raises(InputError, match="has 1 folds, and fold 3 is asked for"):
        gathered(tmp_path, asked, fold=3)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ("nn/Hip-{case}.nii.gz", "Hip-a"),
        ("{case}_0/{case}_trans.nii.gz", "a_0"),
        ("{case}.nii.gz", "a"),
        ("fold_{fold}/{case}/{structure}.nii.gz", "a"),
    ],
)
def test_names_of_the_splits_are_known_by_what_the_files_are_called(tmp_path, files, name):
    """`segstudy export nnunet` calls case a of dataset Hip `Hip-a`, and so do its splits and what was trained on them."""
    called = {case: name.replace("a", case) for case in "abc"}
    for case in "ab":
        for structure in STRUCTURES:
            path = files.format(case=case, fold=0, structure=structure)
            put(tmp_path / path, label(structure == "liver", structure == "spleen"))
    splits = tmp_path / "splits_final.json"
    asked = settings(tmp_path / files, training_splits=str(splits))
    splits.write_text(json.dumps([{"train": [called["c"]], "val": [called["a"], called["b"]]}]))
    gathered(tmp_path, asked)
    assert json.loads((tmp_path / "out" / "leak_check.json").read_text()) == {
        **{"tested": 2, "named": 2},
        **{"trained_on": 1, "known": 1},
    }
    splits.write_text(json.dumps([{"train": [called["b"]], "val": [called["a"]]}]))
    with pytest.raises(InputError, match="fold 0 was trained on b, and models.m predicts case b"):
        gathered(tmp_path, asked)


def test_what_no_name_of_the_splits_tells_is_counted_as_not_checked(tmp_path, caplog):
    for name in "ab":
        put(tmp_path / f"{name}.nii.gz", label(1))
    splits = tmp_path / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["x", "c", "y"], "val": ["a"]}]))
    gathered(tmp_path, settings(tmp_path / "{case}.nii.gz", training_splits=str(splits)))
    checked = json.loads((tmp_path / "out" / "leak_check.json").read_text())
    assert checked == {"tested": 2, "named": 1, "trained_on": 3, "known": 1}
    assert "does not name 1 of 2 tested cases, e.g. b" in caplog.text
    assert "2 of the 3 cases that it was trained on are none of the case table's" in caplog.text


def test_names_are_compared_as_results_call_them(tmp_path):
    put(tmp_path / "Müller [1].nii.gz", label(1))
    model = PredictionsModel(network="predictions", files=f"{tmp_path}/{{case}}.nii.gz")
    assert list(prediction_files.found(model, STRUCTURES, 0, 0)) == ["Mueller_1"]
    put(tmp_path / "Mueller_1.nii.gz", label(1))
    with pytest.raises(InputError, match="would be case Mueller_1"):
        prediction_files.found(model, STRUCTURES, 0, 0)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"files": "p/{fold}.nii.gz"}, r"files: \{case\} is missing"),
        ({"files": "p/{name}.nii.gz"}, r"unknown placeholder \{name\}"),
        ({"seeds": [0, 1]}, r"files has no \{seed\}"),
        ({"labels": {"liver": "x"}}, "expected a whole number"),
        ({"labels": {"liver": 1, "spleen": 1}}, "value 1 stands for two things"),
        (
            {"files": "{case}/{structure}.nii", "labels": {"liver": 1}},
            "expected the name of a file",
        ),
        ({"rater": True, "chosen_on_tested": True}, "chosen_on_tested: with rater: true"),
        ({"rater": True, "training_splits": "s.json"}, "training_splits: with rater: true"),
        ({"rater": True, "files": "{fold}/{case}.nii"}, "a reader drew each case once"),
        ({"train_on": ["a"]}, "train_on: trainer: predictions trains nothing"),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused(keys, told):
    with pytest.raises(ValueError, match=told):
        PredictionsModel.model_validate(
            {"network": "predictions", "trainer": "predictions", "files": "{case}.nii.gz", **keys}
        )


def test_a_rater_may_have_drawn_some_cases_or_none_of_a_fold(tmp_path, caplog):
    put(tmp_path / "p/a.nii.gz", label(1))
    asked = settings(tmp_path / "p/{case}.nii.gz", rater=True)
    with caplog.at_level("INFO"):
        assert list(gathered(tmp_path, asked)) == ["a"]
        assert list(gathered(tmp_path, asked, names=("b", "c"))) == []
    assert "m drew 1 of 2 cases" in caplog.text and "m drew 0 of 2 cases" in caplog.text
    assert "missing" not in caplog.text
    with pytest.raises(InputError, match="found no file of that pattern"):
        gathered(tmp_path, settings(tmp_path / "q/{case}.nii.gz", rater=True))
