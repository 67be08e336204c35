"""Pairs in different formats and on different grids: the prediction is brought to the reference, never the other way."""

import json

import numpy as np
import pandas as pd
from PIL import Image as Picture

from segstudy.cli import main
from segstudy.images.files import Image, write_label
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
