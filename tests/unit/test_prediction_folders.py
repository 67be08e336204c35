"""Which pattern the files of a folder of predictions have; the paths of every layout are written out by hand."""

import re

import numpy as np
import pytest

from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.prediction_folders import files_in, find_pattern

LABEL = np.zeros((4, 3, 2), np.uint8)
LABEL[1], LABEL[2] = 1, 2
CASES = [f"case_{number}" for number in range(4)]


def put(path, array=LABEL):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, array, np.eye(4))


def put_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, np.linspace(0, 1, LABEL.size, dtype=np.float32).reshape(4, 3, 2), np.eye(4))


def masks(folder, names=("liver", "spleen"), cases=CASES):
    for case in cases:
        for value, name in enumerate(names, 1):
            put(folder / case / "segmentations" / f"{name}.nii.gz", value == LABEL)


@pytest.mark.parametrize("structures", [("liver", "spleen"), ("label_1", "label_2")])
@pytest.mark.parametrize("lacking", ["liver", "spleen"])
def test_a_missing_mask_makes_no_other_mask_the_prediction(tmp_path, structures, lacking):
    masks(tmp_path)
    (tmp_path / "case_1" / "segmentations" / f"{lacking}.nii.gz").unlink()
    found = find_pattern(tmp_path, CASES, structures)
    assert found.pattern == "{case}/segmentations/{structure}.nii.gz"
    assert found.held == ["liver", "spleen"]
    assert re.search(
        f"no mask of {lacking} for 1 case, e.g. case_1; .* an empty mask", *found.notes
    )


def test_one_mask_of_a_structure_of_the_references_is_no_whole_prediction(tmp_path):
    masks(tmp_path, ["liver"])
    assert find_pattern(tmp_path, CASES, ["liver", "spleen"]).pattern.endswith("{structure}.nii.gz")
    # Where nothing names the values, a mask of value 1 is not label_1 by that.
    assert find_pattern(tmp_path, CASES, ["label_1", "label_2"]).pattern.endswith(
        "{structure}.nii.gz"
    )
    found = find_pattern(tmp_path, CASES, ["label_2"])
    assert (found.pattern, found.held) == ("{case}/segmentations/liver.nii.gz", [1])


def test_what_monai_leaves_beside_its_label_maps_is_told_and_not_read(tmp_path):
    for case in CASES:
        put_image(tmp_path / case / f"{case}_image.nii.gz")
    for case in CASES[:3]:  # the image of a failed case is there too
        put(tmp_path / case / f"{case}_trans.nii.gz")
    found = find_pattern(tmp_path, CASES, ["liver"])
    assert (found.pattern, found.held) == ("{case}/{case}_trans.nii.gz", [1, 2])
    assert "1 reference without a prediction, e.g. case_3" in found.notes[0]
    assert "4 files not of the pattern" in found.notes[1]
    assert "_image.nii.gz" in found.notes[1]


@pytest.mark.parametrize("name", ["{}_prob", "probabilities/{}", "{}/uncertainty"])
def test_probabilities_beside_label_maps_are_told_and_not_read(tmp_path, name):
    for case in CASES:
        put(tmp_path / f"{case}.nii.gz")
        put_image(tmp_path / f"{name.format(case)}.nii.gz")
    found = find_pattern(tmp_path, CASES, ["liver"])
    assert found.pattern == "{case}.nii.gz"
    assert "4 files not of the pattern" in found.notes[0]


def test_of_two_runs_in_a_folder_none_is_chosen(tmp_path):
    for case in CASES:
        put(tmp_path / "run1" / f"{case}.nii.gz")
        put(tmp_path / "run2" / f"{case}.nii.gz")
    with pytest.raises(
        InputError, match=r"run1/\{case\}\.nii\.gz \(4 cases\), run2/.* name the folder"
    ):
        find_pattern(tmp_path, CASES, ["liver"])


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("pred_2d_{}", "pred_2d_{case}"),
        ("{0}/{0}_seg", "{case}/{case}_seg"),
        ("{0}/run_1/{0}", "{case}/run_1/{case}"),
        ("pred{}", "pred{case}"),
        ("fold_3/{}_12", "fold_3/{case}_12"),
        ("{}/1", "{case}/1"),
    ],
)  # fmt: skip
def test_numbers_as_names_are_found_where_all_cases_have_them(tmp_path, name, pattern):
    cases = [str(number) for number in range(1, 13)]
    for case in cases:
        put(tmp_path / f"{name.format(case)}.nii.gz")
    found = find_pattern(tmp_path, cases, ["liver"])
    assert (found.pattern, found.notes) == (f"{pattern}.nii.gz", ())


def test_masks_of_cases_that_are_numbers_keep_their_own_numbers(tmp_path):
    cases = [str(number) for number in range(1, 6)]
    masks(tmp_path, ["rib_1", "rib_2"], cases)
    found = find_pattern(tmp_path, cases, ["label_1"])
    assert (found.pattern, found.held) == (
        "{case}/segmentations/{structure}.nii.gz",
        ["rib_1", "rib_2"],
    )
    assert found.notes == ()


def test_a_folder_where_hardly_a_name_is_a_references_is_refused(tmp_path):
    cases = [str(number) for number in range(1, 13)]
    for number in range(1, 13):
        put(tmp_path / f"P{'abcdefghijkl'[number - 1]}_t2.nii.gz")
    put(tmp_path / "x_2.nii.gz")
    with pytest.raises(
        InputError, match=r"1 of 12 references have a file .* 12 files no such name"
    ):
        find_pattern(tmp_path, cases, ["liver"])
    with pytest.raises(InputError, match="none of its files has the name of a reference, e.g. q"):
        find_pattern(tmp_path, ["q"], ["liver"])


def test_predictions_of_some_cases_alone_are_missing_and_told(tmp_path):
    put(tmp_path / "case_2.nii.gz")
    found = find_pattern(tmp_path, CASES, ["liver"])
    assert found.pattern == "{case}.nii.gz"
    assert (
        "3 references without a prediction, e.g. case_0; they will count as missing"
        in found.notes[0]
    )


def test_two_files_of_one_name_are_refused_in_references_and_predictions(tmp_path):
    for case in CASES:
        put(tmp_path / f"{case}.nii.gz")
    put(tmp_path / "._case_1.nii.gz")  # what a Mac leaves behind is none
    assert list(files_in(tmp_path)) == CASES
    put(tmp_path / "case_1.nii")
    for look in (files_in, lambda folder: find_pattern(folder, CASES, ["liver"])):
        with pytest.raises(InputError, match=r"case_1\.nii and case_1\.nii\.gz have one name"):
            look(tmp_path)


def test_braces_in_a_folders_name_are_refused_as_such(tmp_path):
    put(tmp_path / "p {x}" / "case_0.nii.gz")
    with pytest.raises(InputError, match="found braces"):
        find_pattern(tmp_path / "p {x}", CASES, ["liver"])
