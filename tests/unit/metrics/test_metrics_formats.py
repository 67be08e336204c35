"""Pairs in different formats and on different grids: the prediction is brought to the reference, never the other way."""

import json

import highdicom
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dicom_series import contours, write_series
from segstudy.cli import main
from segstudy.images.files import Image, read_label, write_label
from segstudy.images.formats.dicom_series import sorted_headers
from segstudy.images.geometry import reorient

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
AFFINE[:3, 3] = (5, 6, 7)


def organ():
    label = np.zeros((16, 14, 8), np.uint8)
    label[4:12, 4:10, 2:6] = 1
    return label


def measured(folder, reference, prediction, **settings):
    """The exit code, and the values by metric."""
    files = ("--reference", folder / reference, "--prediction", folder / prediction)
    code = main(
        [
            *("metrics", *map(str, files), "--output", str(folder / "m.csv")),
            *("--settings", json.dumps({"structures": {"organ": 1}, **settings})),
        ]
    )
    table = pd.read_csv(folder / "m.csv") if not code else None
    return code, None if table is None else table.set_index("metric")["value"].to_dict()


def test_a_prediction_in_another_order_or_cropped_is_measured_on_the_reference(tmp_path, caplog):
    write_label(tmp_path / "r.nii.gz", organ(), AFFINE)
    turned = reorient(Image(organ()[2:, 1:, 1:7], AFFINE), "PIR")
    moved = np.eye(4)
    moved[:3, 3] = AFFINE[:3, :3] @ (2, 1, 1)
    write_label(tmp_path / "p.nii.gz", turned.array, moved @ turned.affine)
    code, found = measured(tmp_path, "r.nii.gz", "p.nii.gz")
    assert code == 0 and found["dice"] == 1 and found["hd_mm"] == 0
    assert "p.nii.gz: case r: lies on a compatible grid" in caplog.text


def test_another_grid_is_refused_with_a_way_on_and_resampled_on_request(tmp_path, capsys):
    write_label(tmp_path / "r.nii.gz", organ(), AFFINE)
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
    fine = organ().repeat(2, axis=0).repeat(2, axis=1)
    write_label(tmp_path / "p.nii.gz", fine, finer)
    assert measured(tmp_path, "r.nii.gz", "p.nii.gz")[0] == 1
    said = capsys.readouterr().err
    assert "shape 16x14x8 against 32x28x8 voxels; expected voxels that are the image's own" in said
    assert '"on_other_grid": "resample_prediction"' in said
    code, found = measured(tmp_path, "r.nii.gz", "p.nii.gz", on_other_grid="resample_prediction")
    assert code == 0 and found["dice"] == 1 and found["assd_mm"] == 0


def test_of_pictures_nothing_is_measured_in_mm_unless_their_size_is_given(tmp_path, caplog):
    flat = organ()[:, :, 3]
    shifted = np.roll(flat, 2, axis=0)
    for name, array in (("r", flat), ("p", shifted)):
        Picture.fromarray(array.T).save(tmp_path / f"{name}.png")
    code, found = measured(tmp_path, "r.png", "p.png")
    assert code == 0 and found["dice"] == 0.75
    assert not [name for name in found if name.endswith("mm")]
    assert "hd_mm, hd95_mm, assd_mm, nsd_2mm are left out" in caplog.text
    code, found = measured(tmp_path, "r.png", "p.png", spacing_mm=[0.5, 0.5, 1])
    assert code == 0 and found["hd_mm"] == 1.0


def both_sides(folder, first, last):
    """A reference cropped to the slices from first to last, and a whole prediction with as many voxels outside."""
    whole = organ()
    crop = AFFINE.copy()
    crop[:3, 3] = (AFFINE @ [0, 0, first, 1])[:3]
    write_label(folder / "r.nii.gz", whole[:, :, first : last + 1], crop)
    return whole, whole[:, :, first : last + 1]


def dice_of(whole, kept):
    return 2 * np.count_nonzero(kept) / (np.count_nonzero(whole) + np.count_nonzero(kept))


@pytest.mark.parametrize("turn", ["LPS", "PIR"])
def test_what_is_predicted_beyond_the_reference_counts_as_wrong(tmp_path, caplog, turn):
    """By hand: of the 4 slices of the organ that are predicted, the reference has 3 and ends there."""
    whole, kept = both_sides(tmp_path, 0, 4)
    predicted = reorient(Image(whole, AFFINE), turn)
    write_label(tmp_path / "p.nii.gz", predicted.array, predicted.affine)
    code, found = measured(tmp_path, "r.nii.gz", "p.nii.gz", on_other_grid="resample_prediction")
    assert code == 0 and found["dice"] == pytest.approx(dice_of(whole, kept))
    assert found["dice"] == pytest.approx(6 / 7)
    assert "48 labelled voxels of the prediction lie outside of the reference's" in caplog.text


def test_finer_voxels_beyond_the_reference_count_as_wrong(tmp_path):
    whole, kept = both_sides(tmp_path, 3, 7)
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
    fine = whole.repeat(2, axis=0).repeat(2, axis=1)
    write_label(tmp_path / "p.nii.gz", fine, finer)
    code, found = measured(tmp_path, "r.nii.gz", "p.nii.gz", on_other_grid="resample_prediction")
    assert code == 0 and found["dice"] == pytest.approx(dice_of(whole, kept))


def test_grids_apart_are_refused(tmp_path, capsys):
    write_label(tmp_path / "r.nii.gz", organ(), AFFINE)
    apart = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    apart[:3, 3] += 100
    write_label(tmp_path / "p.nii.gz", organ(), apart)
    code, _ = measured(tmp_path, "r.nii.gz", "p.nii.gz", on_other_grid="resample_prediction")
    assert code == 1 and "the two grids have no place in common" in capsys.readouterr().err


@pytest.mark.parametrize("beyond", [True, False])
def test_a_dicom_reference_without_its_empty_frames_is_background_there(tmp_path, beyond):
    """highdicom leaves out the frames of a segmentation that are empty; the prediction has them all."""
    whole = organ()
    folder = write_series(tmp_path / "ct", np.zeros(whole.shape, np.int16), AFFINE)
    code = codes.SCT.Organ
    highdicom.seg.Segmentation(
        sorted_headers(folder),
        whole.T,
        "BINARY",
        [highdicom.seg.SegmentDescription(1, "Organ", code, code, "MANUAL")],
        *(generate_uid(), 5, generate_uid(), 1, "maker", "model", "1", "0"),
    ).save_as(tmp_path / "r.dcm")
    assert read_label(tmp_path / "r.dcm").array.shape != whole.shape
    predicted = whole.copy()
    if beyond:
        predicted[:, :, 7] = 1
        predicted[0, 0, 0] = 1
    write_label(tmp_path / "p.nii.gz", predicted, AFFINE)
    code, found = measured(tmp_path, "r.dcm", "p.nii.gz")
    assert code == 0 and found["dice"] == pytest.approx(dice_of(predicted, whole))


@pytest.mark.parametrize("side", ["reference", "prediction"])
def test_a_target_volume_in_the_organ_takes_nothing_from_it(tmp_path, side):
    """The contours of the organ, and those of a target volume within; a ring lies between the slices."""

    def curve(x, y, place):
        (a, b), (c, d) = (np.array(one) + (-0.5, 0.5) for one in (x, y))
        return np.column_stack([[a, b, b, a], [c, c, d, d], np.full(4, place)])

    drawn = {
        "Organ": [curve((4, 11), (4, 9), place) for place in range(2, 6)],
        "PTV": [curve((6, 8), (5, 7), place) for place in range(3, 5)],
        "Ring": [curve((6, 8), (5, 7), 3.4)],
    }
    contours(tmp_path / "rs.dcm", drawn, AFFINE)
    write_label(tmp_path / "o.nii.gz", organ(), AFFINE)
    files = ("rs.dcm", "o.nii.gz") if side == "reference" else ("o.nii.gz", "rs.dcm")
    code, found = measured(tmp_path, *files)
    assert code == 0 and found["dice"] == 1 and found["hd_mm"] == 0
