"""Segments that a study does not ask for take no voxel from those it asks for, and reject no case."""

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_series import PATIENT_ID, contours, write_series
from segstudy.errors import InputError
from segstudy.images.files import read_grid, read_label, write_label
from segstudy.images.fitting import fitted
from segstudy.images.formats.dicom_series import sorted_headers
from segstudy.images.grids import Grid
from segstudy.images.segments import (
    apply_value_map,
    check_segment_names,
    named_segments,
    value_map,
    wanted_segments,
)

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (16, 14, 8)
GRID = Grid(SHAPE, AFFINE)
LIVER = {"liver": [3]}


def boxes():
    """A liver, and a target volume in it that reaches out of it."""
    liver, target = np.zeros((2, *SHAPE), np.uint8)
    liver[3:12, 3:11, 2:6] = 1
    target[5:9, 5:9, 3:7] = 1
    return liver, target


def square(first, last, place):
    """A contour half a voxel around the voxels from first to last."""
    a, b = first - 0.5, last + 0.5
    return np.array([[a, a, place], [b, a, place], [b, b, place], [a, b, place]])


def of_study(path, structures, grid=None):
    """The label map as the audit and metrics take it, on its own grid."""
    values = {value for values in structures.values() for value in values}

    def wanted(file):
        return wanted_segments(file, value_map(file, structures)[0], values)

    label = read_label(path, grid, wanted)
    return label, apply_value_map(label.array, value_map(path, structures)[0], path)


def slicer(path, layers, segments):
    """A .seg.nrrd. segments: (name, layer, value)."""
    vector = SimpleITK.GetImageFromArray(np.stack(layers, -1).transpose(2, 1, 0, 3), isVector=True)
    image = vector if len(layers) > 1 else SimpleITK.VectorIndexSelectionCast(vector, 0)
    for number, fields in enumerate(segments):
        for key, value in zip(("Name", "Layer", "LabelValue"), fields, strict=True):
            image.SetMetaData(f"Segment{number}_{key}", str(value))
    SimpleITK.WriteImage(image, str(path))


def segmentation(path, folder, masks, names):
    """A DICOM-SEG of a series; empty frames are left out, as highdicom does."""
    code = codes.SCT.Organ
    described = [
        highdicom.seg.SegmentDescription(number, name, code, code, "MANUAL")
        for number, name in enumerate(names, start=1)
    ]
    highdicom.seg.Segmentation(
        sorted_headers(folder),
        np.stack([mask.T for mask in masks], axis=-1),
        "BINARY",
        described,
        *(generate_uid(), 5, generate_uid(), 1, "maker", "model", "1", "0"),
    ).save_as(path)


def test_a_layer_of_slicer_takes_no_voxel(tmp_path):
    liver, target = boxes()
    slicer(tmp_path / "a.seg.nrrd", (liver, target), [("Liver", 0, 1), ("vessel", 1, 1)])
    label, found = of_study(tmp_path / "a.seg.nrrd", LIVER)
    np.testing.assert_array_equal(found == 3, liver == 1)
    assert label.notes == ()


def test_a_segment_of_dicom_takes_no_voxel(tmp_path):
    liver, target = boxes()
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    segmentation(tmp_path / "seg.dcm", folder, (liver, target), ("Liver", "PTV"))
    label, found = of_study(tmp_path / "seg.dcm", LIVER)
    whole = fitted(label, read_grid(folder)).array
    np.testing.assert_array_equal(whole == 1, liver == 1)
    assert set(np.unique(found)) == {0, 3} and label.notes == ()


def test_contours_that_are_not_asked_for_take_no_voxel_and_reject_no_case(tmp_path):
    """A ring between the slices and a body beyond the image are read by nobody."""
    drawn = {
        "Ring": [square(2, 4, 3.4)],
        "BODY": [square(0, 12, place) for place in range(20)],
        "Liver": [square(3, 10, place) for place in range(2, 6)],
        "PTV": [square(5, 8, place) for place in range(3, 5)],
    }
    path = contours(tmp_path / "rs.dcm", drawn, AFFINE)
    expected = np.zeros(SHAPE, bool)
    expected[3:11, 3:11, 2:6] = True
    label, found = of_study(path, LIVER, GRID)
    np.testing.assert_array_equal(found == 3, expected)
    assert label.notes == ()
    with pytest.raises(InputError, match="contours of 'Ring' lie up to 0.4 slices off"):
        of_study(path, {**LIVER, "ring": [4]}, GRID)


def test_contours_of_the_exclusive_type_are_read(tmp_path):
    tube = [square(first, last, 4) for first, last in ((2, 11), (5, 8))]
    path = contours(tmp_path / "rs.dcm", {"Liver": tube}, AFFINE, "CLOSEDPLANAR_XOR")
    _, found = of_study(path, LIVER, GRID)
    assert np.count_nonzero(found) == 10 * 10 - 4 * 4


@pytest.mark.parametrize("kind", ["OPEN_PLANAR", "OPEN_NONPLANAR", "POINT"])
def test_contours_without_an_inside_are_named(tmp_path, kind):
    path = contours(tmp_path / "rs.dcm", {"Liver": [square(3, 9, 4)] * 2}, AFFINE, kind)
    with pytest.raises(InputError, match=rf"'Liver' that have no inside: 2 {kind}; 0 closed"):
        of_study(path, LIVER, GRID)
    assert f"no inside: 2 {kind}" in read_label(path, GRID).notes[0]


def test_an_extra_segment_with_a_structures_value_is_background(tmp_path):
    liver, _ = boxes()
    array = 2 * liver
    array[0, 0, 0] = 1
    slicer(tmp_path / "a.seg.nrrd", [array], [("vessel", 0, 1), ("liver", 0, 2)])
    _, found = of_study(tmp_path / "a.seg.nrrd", {"liver": [1]})
    np.testing.assert_array_equal(found, liver)


@pytest.mark.parametrize("first", ["Tumours", "liver"])
def test_names_that_are_nearly_those_of_other_values_are_refused(tmp_path, first):
    liver, target = boxes()
    segments = [("Tumours", 0, 1), ("Livers" if first == "Tumours" else "liver", 0, 2)]
    slicer(tmp_path / "a.seg.nrrd", [np.where(target, 2, liver)], segments)
    named = {"liver": [1], "tumour": [2]}
    for others in (False, True):
        with pytest.raises(
            InputError, match="'Tumours' is nearly called as tumour, whose value is 2"
        ):
            value_map(tmp_path / "a.seg.nrrd", named, rest_is_background=others)


def test_nearly_the_name_in_dicom_is_refused_too(tmp_path):
    drawn = {"Liver": [square(3, 9, 4)], "Tumours": [square(4, 6, 4)]}
    path = contours(tmp_path / "rs.dcm", drawn, AFFINE)
    with pytest.raises(InputError, match="'Tumours' is nearly called as tumour"):
        value_map(path, {"liver": [1], "tumour": [2]})


def test_two_segments_of_one_name_are_refused(tmp_path):
    liver, target = boxes()
    segments = [("Liver", 0, 1), ("liver", 0, 2)]
    slicer(tmp_path / "a.seg.nrrd", [np.where(target, 2, liver)], segments)
    with pytest.raises(
        InputError, match="'Liver' 1, 'liver' 2: 2 are called as liver; expected one"
    ):
        value_map(tmp_path / "a.seg.nrrd", {"liver": [1]})
    write_label(tmp_path / "b.nii.gz", liver, AFFINE)
    with pytest.raises(InputError, match="two segments are called 'liver', of the values 1 and 2"):
        check_segment_names([tmp_path / "a.seg.nrrd", tmp_path / "b.nii.gz"])


def test_a_segment_without_a_name_is_told_without_a_field_of_the_patient(tmp_path):
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    segmentation(tmp_path / "seg.dcm", folder, boxes(), ("Liver", "PTV"))
    content = pydicom.dcmread(tmp_path / "seg.dcm")
    del content.SegmentSequence[1].SegmentLabel
    content.save_as(tmp_path / "seg.dcm")
    for read in (named_segments, read_label):
        with pytest.raises(InputError, match=r"seg\.dcm: not readable as DICOM") as error:
            read(tmp_path / "seg.dcm")
        assert PATIENT_ID not in str(error.value)
