"""Masks in any format and order of the axes are brought to their image as label maps are."""

import json

import highdicom
import numpy as np
import pytest
from PIL import Image as Picture
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_series import contours, write_series
from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.download.convert import merge_masks
from segstudy.download.layouts import list_cases
from segstudy.images.files import Image, read_image, read_label, write_label, write_nifti
from segstudy.images.formats.dicom_series import sorted_headers
from segstudy.images.geometry import reorient
from segstudy.study import Dataset

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (16, 14, 8)


def heart():
    array = np.zeros(SHAPE, np.uint8)
    array[3:11, 4:12, 2:6] = 1
    return array


def merged(folder, ending, resample=False, structure="heart"):
    """The merged label map, and what is said. The image is `ct.nii.gz`."""
    scan = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    write_nifti(folder / "a" / "ct.nii.gz", scan, AFFINE)
    masks = {structure: f"{{case}}/mask{ending}"}
    source = {"layout": "files", "path": str(folder), "image": "{case}/ct.nii.gz", "masks": masks}
    dataset = Dataset.model_validate(
        {"source": source, "structures": {structure: 1}} | {"modality": "CT"}
    )
    listing = list_cases(dataset, derived=folder / "derived")
    found = merge_masks(listing, dataset.structures, resample=resample)
    said = "; ".join(map(str, found.problems))
    return (read_label(found.cases[0].label) if found.cases else None), said


def folder_of(tmp_path):
    (tmp_path / "a").mkdir()
    return tmp_path / "a"


@pytest.mark.parametrize("codes_of", ["RAS", "PIR"])
def test_a_mask_in_another_order_of_axes_is_reordered(tmp_path, codes_of):
    turned = reorient(Image(heart(), AFFINE), codes_of)
    write_label(folder_of(tmp_path) / "mask.nii.gz", turned.array, turned.affine)
    label, said = merged(tmp_path, ".nii.gz")
    np.testing.assert_array_equal(label.array, heart())
    assert f"axes pointed to {codes_of}, the image's to LPS: reordered" in said


@pytest.mark.parametrize("resample", [False, True])
def test_a_mask_on_another_grid_is_resampled_on_request_alone(tmp_path, resample):
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
    fine = heart().repeat(2, axis=0).repeat(2, axis=1)
    write_label(folder_of(tmp_path) / "mask.nii.gz", fine, finer)
    label, said = merged(tmp_path, ".nii.gz", resample)
    if resample:
        np.testing.assert_array_equal(label.array, heart())
        assert "resampled from another grid" in said
    else:
        assert label is None and "set datasets.<name>.on_other_grid: resample_label" in said


def test_the_segment_of_a_dicom_file_that_is_called_as_the_structure_is_its_mask(tmp_path):
    lung = heart()[::-1].copy()
    series = write_series(tmp_path / "series" / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    code = codes.SCT.Organ
    highdicom.seg.Segmentation(
        sorted_headers(series),
        np.stack([lung.T, heart().T], axis=-1),
        "BINARY",
        [
            highdicom.seg.SegmentDescription(number, name, code, code, "MANUAL")
            for number, name in enumerate(("Lung", "Heart"), start=1)
        ],
        *(generate_uid(), 5, generate_uid(), 1, "maker", "model", "1", "0"),
    ).save_as(folder_of(tmp_path) / "mask.dcm")
    label, _ = merged(tmp_path, ".dcm")
    np.testing.assert_array_equal(label.array, heart())
    assert read_image(tmp_path / "a" / "ct.nii.gz").grid.shape == label.array.shape


@pytest.mark.parametrize("structure", ["heart", "aorta"])
def test_contours_are_filled_in_on_the_image_of_the_masks(tmp_path, structure):
    def curve(place):
        corners = [[2.5, 3.5], [10.5, 3.5], [10.5, 11.5], [2.5, 11.5]]
        return np.column_stack([corners, np.full(4, place)])

    drawn = {"Heart": [curve(place) for place in range(2, 6)], "BODY": [curve(3.4)]}
    contours(folder_of(tmp_path) / "mask.dcm", drawn, AFFINE)
    label, said = merged(tmp_path, ".dcm", structure=structure)
    if structure == "heart":
        np.testing.assert_array_equal(label.array, heart())
    else:
        assert label is None and "a mask with the segments 'Heart', 'BODY'; expected one" in said


@pytest.mark.parametrize("shift", [0, 1])
def test_stacks_of_pictures_are_masks_of_slices_of_the_same_numbers(tmp_path, shift):
    for place in range(8):
        for kind, number in (("scan", place), ("heart", place + shift)):
            file = tmp_path / "data" / "a" / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = heart()[:, :, place] * (255 if kind == "heart" else 1)
            Picture.fromarray(picture.T).save(file)
    source = {"layout": "files", "path": str(tmp_path / "data")}
    source |= {"image": "{case}/scan", "masks": {"heart": "{case}/heart"}}
    settings = {"source": source, "structures": {"heart": 1}, "spacing_mm": [1, 2, 3]}
    out = [str(tmp_path / "out" / name) for name in ("cases.tsv", "problems.tsv")]
    code = main(
        ["download", "audit", "--dataset", "d", "--settings"]
        + [json.dumps(settings | {"modality": "other"}), "--cases", out[0], "--problems", out[1]]
    )
    assert code == shift
    said = (tmp_path / "out" / "problems.tsv").read_text()
    if shift:
        assert "heart\tpictures numbered 1 to 8, 8 of them; expected the numbers 0 to 7" in said
    else:
        (case,) = read_cases(tmp_path / "out" / "cases.tsv")
        label = read_label(case.label)
        np.testing.assert_array_equal(label.array, heart())
        assert label.spacing_mm == read_image(case.images).spacing_mm == (1, 2, 3)


def audited(tmp_path, source, **settings):
    """Exit code of the audit, its cases, and what it says."""
    settings = {"modality": "other", "structures": {"heart": 1}} | settings
    settings["source"] = {"layout": "files", "path": str(tmp_path / "data")} | source
    out = [str(tmp_path / "out" / name) for name in ("cases.tsv", "problems.tsv")]
    words = ["download", "audit", "--dataset", "d", "--settings", json.dumps(settings)]
    code = main([*words, "--cases", out[0], "--problems", out[1]])
    cases = read_cases(tmp_path / "out" / "cases.tsv") if code == 0 else []
    return code, cases, (tmp_path / "out" / "problems.tsv").read_text()


def pages(file, array):
    """A TIFF of a page a slice."""
    file.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [Picture.fromarray(page) for page in array.T]
    first.save(file, save_all=True, append_images=others)


SCAN = np.random.default_rng(0).integers(1, 250, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("lacking", [0, 1])
def test_pages_of_a_tiff_belong_together_by_their_places(tmp_path, lacking):
    pages(tmp_path / "data" / "p1.tif", SCAN)
    pages(tmp_path / "data" / "p1_seg.tiff", heart()[:, :, : SHAPE[2] - lacking])
    source = {"image": "{case}.tif", "label": "{case}_seg.tiff"}
    code, cases, said = audited(tmp_path, source, spacing_mm=[1, 2, 3])
    assert code == lacking
    if lacking:
        assert "shape 16x14x8 against 16x14x7 voxels" in said
    else:
        np.testing.assert_array_equal(read_label(cases[0].label).array, heart())
        np.testing.assert_array_equal(read_image(cases[0].images).array[0], SCAN)


def test_each_picture_is_a_case_of_one_slice(tmp_path):
    (tmp_path / "data" / "masks").mkdir(parents=True)
    for number in (3, 4, 5):
        Picture.fromarray(SCAN[:, :, number].T).save(tmp_path / "data" / f"x{number}.png")
        mask = heart()[:, :, number].T * 255
        Picture.fromarray(mask).save(tmp_path / "data" / "masks" / f"x{number}.png")
    source = {"image": "{case}.png", "masks": {"heart": "masks/{case}.png"}}
    assert "give spacing_mm: [column, row, slice]" in audited(tmp_path, source)[2]
    code, cases, _ = audited(tmp_path, source, spacing_mm=[1, 2, 3])
    assert code == 0 and [case.case for case in cases] == ["x3", "x4", "x5"]
    for case, number in zip(cases, (3, 4, 5), strict=True):
        label = read_label(case.label)
        assert label.spacing_mm == (1, 2, 3)
        np.testing.assert_array_equal(label.array[:, :, 0], heart()[:, :, number])


def test_pictures_are_masks_of_a_dicom_series(tmp_path):
    folder = tmp_path / "data" / "a"
    write_series(folder / "ct", SCAN.astype(np.int16), AFFINE)
    # Files of the series are named by 389 times the place of their slice.
    (folder / "heart").mkdir()
    for place in range(SHAPE[2]):
        Picture.fromarray(heart()[:, :, place].T * 255).save(folder / f"heart/{place + 95}.png")
    source = {"image": "{case}/ct", "masks": {"heart": "{case}/heart"}}
    code, cases, said = audited(tmp_path, source, modality="CT")
    assert code == 0 and "look at an overlay" in said
    label, image = read_label(cases[0].label), read_image(cases[0].images)
    np.testing.assert_array_equal(image.array[0], SCAN)
    np.testing.assert_array_equal(label.array, heart())
    np.testing.assert_allclose(label.affine, image.affine)
