"""The audit of DICOM, pictures, segments by name and labels on other grids: what later stages are given."""

import json

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from PIL import Image as Picture

from dicom_series import PATIENT_ID, contours, write_series
from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.images.files import Image, compare_grids, read_image, read_label, write_label
from segstudy.images.geometry import reorient

AFFINE = np.diag([-0.8, -0.8, 2.0, 1.0])
AFFINE[:3, 3] = (10, 20, -30)


def volume(seed=0):
    """A scan (i, j, k) in HU, and its heart, label 2."""
    scan = np.random.default_rng(seed).integers(-900, 900, (12, 10, 8)).astype(np.int16)
    heart = np.zeros(scan.shape, np.uint8)
    heart[3:9, 2:8, 2:6] = 2
    return scan, heart


def audited(folder, rows, **more):
    """The exit code, the good cases by name, and the problems."""
    lines = ["case\timage\tlabel", *("\t".join(row) for row in rows)]
    (folder / "cases.tsv").write_text("\n".join(lines) + "\n")
    settings = {
        "source": {"layout": "table", "path": str(folder / "cases.tsv")},
        **{"modality": "CT", "structures": {"heart": 2}, "on_bad_case": "drop", **more},
    }
    out = folder / "out"
    code = main(
        [
            *("download", "audit", "--dataset", "chest", "--settings", json.dumps(settings)),
            *("--cases", str(out / "cases.tsv"), "--problems", str(out / "problems.tsv")),
        ]
    )
    cases = {case.case: case for case in read_cases(out / "cases.tsv")} if not code else {}
    return code, cases, pd.read_csv(out / "problems.tsv", sep="\t", keep_default_na=False)


def test_dicom_becomes_volumes_by_patient_and_no_identifier_is_in_any_output(
    tmp_path, caplog, capfd
):
    for seed, name in enumerate(("scan_b", "scan_a", "other")):
        scan, heart = volume(seed)
        fields = {"PatientID": "X1"} if name == "other" else {}
        write_series(tmp_path / name, scan, AFFINE, **fields)
        write_label(tmp_path / f"{name}.nii.gz", heart, AFFINE)
    rows = [(name, name, f"{name}.nii.gz") for name in ("scan_b", "scan_a", "other")]
    code, cases, problems = audited(tmp_path, rows)
    assert code == 0 and {name: case.subject for name, case in cases.items()} == {
        "scan_a": "scan_a",
        "scan_b": "scan_a",
        "other": "other",
    }
    assert "of the same patient as case scan_a" in problems.iloc[0]["problem"]
    image = read_image(cases["scan_b"].images)
    assert cases["scan_b"].images[0].name == "scan_b.nii.gz"
    np.testing.assert_array_equal(image.array[0], volume(0)[0])
    assert cases["scan_b"].label == tmp_path / "scan_b.nii.gz"
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    said = caplog.text + "".join(capfd.readouterr())
    said += b"".join(path.read_bytes() for path in written).decode("latin-1")
    for identifier in (PATIENT_ID, "Mustermann", "19500101", "A-99", "X1"):
        assert identifier not in said


@pytest.mark.parametrize("asked", ["refuse", "resample_label"])
def test_labels_on_other_grids(tmp_path, asked):
    scan, heart = volume()
    write_series(tmp_path / "ct", scan, AFFINE)
    turned = reorient(Image(heart, AFFINE), "PIR")
    write_label(tmp_path / "turned.nii.gz", turned.array, turned.affine)
    crop = AFFINE.copy()
    crop[:3, 3] = (AFFINE @ [1, 1, 1, 1])[:3]
    write_label(tmp_path / "crop.nii.gz", heart[1:, 1:, 1:], crop)
    write_label(tmp_path / "coarse.nii.gz", heart[::2, ::2], AFFINE @ np.diag([2, 2, 1, 1.0]))
    names = ("turned", "crop", "coarse")
    rows = [(name, "ct", f"{name}.nii.gz") for name in names]
    code, cases, problems = audited(tmp_path, rows, on_other_grid=asked)
    said = problems.set_index("case")["problem"].groupby("case").agg("; ".join)
    assert code == 0 and "axes pointed to PIR" in said["turned"] and "covers 11x9x7" in said["crop"]
    for name in ("turned", "crop"):
        label = read_label(cases[name].label)
        np.testing.assert_array_equal(label.array, heart)
        assert compare_grids(label.grid, read_image(cases[name].images).grid) == ""
    if asked == "refuse":
        assert "coarse" not in cases
        assert "expected voxels that are the image's own, to 1% of a voxel" in said["coarse"]
        assert "set datasets.<name>.on_other_grid: resample_label" in said["coarse"]
    else:
        assert read_label(cases["coarse"].label).array.shape == heart.shape
        assert "resampled from another grid (shape 6x5x8 against 12x10x8" in said["coarse"]


def test_pictures_are_cases_with_the_voxel_size_of_the_study(tmp_path):
    scan, heart = volume()
    for place in range(8):
        for name, array in (("scan", scan + 1000), ("heart", heart)):
            (tmp_path / name).mkdir(exist_ok=True)
            kind = np.uint16 if name == "scan" else np.uint8
            picture = Picture.fromarray(array[:, :, place].T.astype(kind))
            picture.save(tmp_path / name / f"slice{place + 5}.png")  # 5 ... 12: not by the alphabet
    rows = [("stack", "scan", "heart"), ("one", "scan/slice8.png", "heart/slice8.png")]
    code, cases, problems = audited(tmp_path, rows, modality="other")
    assert code == 1 and not cases
    assert set(problems["problem"]) >= {
        "a picture does not tell how large its voxels are; give spacing_mm: [column, row, slice] in the dataset"
    }
    code, cases, _ = audited(tmp_path, rows, modality="other", spacing_mm=[0.5, 0.6, 3])
    assert code == 0 and cases["one"].shape == (12, 10, 1)
    image, label = read_image(cases["stack"].images), read_label(cases["stack"].label)
    assert image.spacing_mm == label.spacing_mm == (0.5, 0.6, 3)
    np.testing.assert_array_equal(image.array[0], scan + 1000)
    np.testing.assert_array_equal(label.array, heart)


@pytest.mark.parametrize("up", [True, False])
def test_pictures_are_paired_with_the_files_of_a_series(tmp_path, up):
    """As in CHAOS: files are numbered along the body or against it, and so are the pictures."""
    scan, heart = volume()
    write_series(tmp_path / "scan", scan, AFFINE)
    for file in sorted((tmp_path / "scan").iterdir()):
        place = pydicom.dcmread(file).InstanceNumber - 1
        number = place if up else 7 - place
        file.rename(tmp_path / "scan" / f"i{number},0000b.dcm")
        (tmp_path / "Ground").mkdir(exist_ok=True)
        Picture.fromarray(heart[:, :, place].T).save(
            tmp_path / "Ground" / f"liver_{number + 98}.png"
        )
    code, cases, problems = audited(tmp_path, [("a", "scan", "Ground")])
    assert (
        code == 0 and "numbers in their names: look at an overlay" in problems["problem"].str.cat()
    )
    label, image = read_label(cases["a"].label), read_image(cases["a"].images[0])
    expected = reorient(Image(heart, AFFINE), "RAS").array
    np.testing.assert_array_equal(reorient(label, "RAS").array, expected)
    assert not compare_grids(image.grid, label.grid)
    (tmp_path / "Ground" / "liver_98.png").unlink()
    code, _, problems = audited(tmp_path, [("a", "scan", "Ground")])
    assert code and "expected a picture for each slice" in problems["problem"].str.cat()


def test_a_segment_that_is_not_asked_for_takes_nothing_from_the_heart(tmp_path):
    scan, heart = volume()
    write_series(tmp_path / "ct", scan, AFFINE)

    def curve(first, last, place):
        a, b = first - 0.5, last + 0.5
        corners = [[a, a - 1], [b, a - 1], [b, b - 1], [a, b - 1]]
        return np.column_stack([corners, np.full(4, place)])

    drawn = {
        "Heart": [curve(3, 8, place) for place in range(2, 6)],
        "Tumour": [curve(4, 5, place) for place in range(3, 5)],
    }
    contours(tmp_path / "rs.dcm", drawn, AFFINE)
    code, cases, _ = audited(tmp_path, [("a", "ct", "rs.dcm")])
    assert code == 0
    label = read_label(cases["a"].label)
    np.testing.assert_array_equal(reorient(label, "LPS").array, heart)


def test_later_stages_read_no_layer_that_is_not_asked_for(tmp_path):
    """A vessel within the heart, in a layer of its own: the label that the table names has the whole heart."""
    scan, heart = volume()
    write_series(tmp_path / "ct", scan, AFFINE)
    vessel = np.zeros_like(heart)
    vessel[4:6, 4:6, 3:5] = 1
    layers = np.stack([heart, vessel], -1).transpose(2, 1, 0, 3)
    image = SimpleITK.GetImageFromArray(layers, isVector=True)
    image.SetSpacing((0.8, 0.8, 2.0))
    image.SetOrigin((-10, -20, -30))
    for number, (name, value) in enumerate((("heart", 2), ("vessel", 1))):
        for key, text in (("Name", name), ("LabelValue", value), ("Layer", number)):
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    SimpleITK.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    code, cases, _ = audited(tmp_path, [("a", "ct", "a.seg.nrrd")])
    assert code == 0
    np.testing.assert_array_equal(read_label(cases["a"].label).array, heart)
