"""Folders as other programs write them are named for what they are, with what to do."""

import json
from pathlib import Path

import numpy as np
import pytest

from segstudy.cases import Case, Split, write_cases, write_splits
from segstudy.cli import main
from segstudy.images.files import write_label

ARRAY = np.pad(np.ones((3, 3, 3), np.uint8), 2)
MONAI = "one folder per case (case_1/case_1_seg.nii.gz, ...), as MONAI's SaveImage writes them"
ONE_FOLDER = "the names of the references, such as case_1.nii.gz"
STRUCTURES = "one file per structure (liver.nii.gz, spleen.nii.gz), as TotalSegmentator writes"


def files(*paths: str) -> None:
    for path in paths:
        write_label(Path(path), ARRAY, np.eye(4))


@pytest.fixture(autouse=True)
def _labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files("labels/case_1.nii.gz", "labels/case_2.nii.gz")
    Path("predicted").mkdir()


def refused(capsys, *arguments: str) -> str:
    assert main(["metrics", *arguments, "--output", "metrics.csv"]) == 1
    assert not Path("metrics.csv").exists()
    return capsys.readouterr().err


FOLDERS = ("--reference", "labels", "--prediction", "predicted")


@pytest.mark.parametrize(
    "paths",
    [
        ["case_1/case_1_seg.nii.gz", "case_2/case_2_seg.nii.gz"],
        ["case_1/case_1_seg.nii.gz", "case_1/image.nii.gz"],
        # The others are where they belong: this case is not missing.
        ["case_2.nii.gz", "case_1/case_1_seg.nii.gz"],
    ],
)
def test_a_folder_per_case(capsys, paths):
    files(*(f"predicted/{path}" for path in paths))
    error = refused(capsys, *FOLDERS)
    assert f"predicted: {MONAI}" in error
    assert ONE_FOLDER in error


def test_a_folder_per_case_of_one_file_with_another_name(capsys):
    files("predicted/case_1/prediction.nrrd", "predicted/case_2/prediction.nrrd")
    assert "per case (case_1/prediction.nrrd, ...)" in refused(capsys, *FOLDERS)


@pytest.mark.parametrize("inner", ["", "segmentations/"])
def test_a_folder_per_case_with_a_file_per_structure(capsys, inner):
    files(*(f"predicted/case_1/{inner}{name}.nii.gz" for name in ("spleen", "liver")))
    error = refused(capsys, *FOLDERS)
    assert f"predicted: one folder per case (case_1/, ...) with {STRUCTURES}" in error
    assert "--ml" in error
    assert "prediction_labels" in error


def test_a_file_per_structure(capsys):
    files("predicted/liver.nii.gz", "predicted/spleen.nii.gz")
    named = ("--settings", json.dumps({"structures": {"liver": 1}}))
    assert STRUCTURES in refused(capsys, *FOLDERS, *named)
    # Both folders: structures are not to pass for cases.
    alike = ("--reference", "predicted", "--prediction", "predicted")
    assert STRUCTURES in refused(capsys, *alike, *named)
    one = ("--reference", "labels/case_1.nii.gz", "--prediction", "predicted")
    error = refused(capsys, *one)
    assert "expected two files or two folders; if predicted holds one file per structure" in error


def test_a_file_of_one_structure(capsys):
    files("predicted/liver.nii.gz")
    pair = ("--reference", "labels/case_1.nii.gz", "--prediction", "predicted/liver.nii.gz")
    two = json.dumps({"structures": {"liver": 1, "spleen": 2}})
    assert "predicted/liver.nii.gz: one file per structure" in refused(
        capsys, *pair, "--settings", two
    )
    one = json.dumps({"structures": {"liver": 1}})
    assert main(["metrics", *pair, "--settings", one, "--output", "metrics.csv"]) == 0


@pytest.mark.parametrize("ending", [".nii.bz2", ".mnc", ".npy"])
def test_a_case_whose_ending_is_not_read_is_not_missing(capsys, ending):
    files("predicted/case_1.nii.gz")
    Path(f"predicted/case_2{ending}").write_bytes(b"")
    error = refused(capsys, *FOLDERS)
    assert (
        f"predicted: case_2{ending}: the ending is not read; expected one of .nii, .nii.gz" in error
    )
    # Where no file is read at all, and among the references.
    Path("predicted/case_1.nii.gz").unlink()
    assert f"case_2{ending}: the ending is not read" in refused(capsys, *FOLDERS)
    turned = ("--reference", "predicted", "--prediction", "labels")
    files("predicted/case_1.nii.gz")
    assert f"predicted: case_2{ending}: the ending" in refused(capsys, *turned)


def test_a_folder_named_as_a_case_is_not_missing(capsys):
    files("predicted/case_1.nii.gz")
    Path("predicted/case_2.nii.gz").mkdir()
    assert "predicted/case_2.nii.gz: a folder, though it is named as a file" in refused(
        capsys, *FOLDERS
    )


def test_other_files_of_a_missing_case_say_nothing():
    files("predicted/case_1.nii.gz")
    for ending in (".npz", ".pkl", ".json"):
        Path(f"predicted/case_2{ending}").write_bytes(b"")
    assert main(["metrics", *FOLDERS, "--output", "metrics.csv"]) == 0


def test_references_too(capsys):
    files("nested/case_1/case_1_seg.nii.gz", "predicted/case_1.nii.gz")
    assert f"nested: {MONAI}" in refused(
        capsys, "--reference", "nested", "--prediction", "predicted"
    )


def test_a_folder_without_label_maps(capsys):
    Path("predicted/logs").mkdir()
    assert "predicted: no label maps" in refused(capsys, *FOLDERS)


def test_other_folders_are_left_alone():
    """A case that lacks is missing where the folders are none of cases."""
    files("predicted/case_1.nii.gz", "predicted/previews/liver.nii.gz")
    assert main(["metrics", *FOLDERS, "--output", "metrics.csv"]) == 0


def test_in_a_study(capsys):
    cases = [
        Case(name, name, (path,), path)
        for name in ("case_1", "case_2")
        for path in [Path(f"labels/{name}.nii.gz")]
    ]
    write_cases(Path("cases.tsv"), cases, ["image"])
    write_splits(Path("splits.tsv"), [Split("d", case.case, case.case, 0) for case in cases])
    study = ("--cases", "cases.tsv", "--splits", "splits.tsv", "--fold", "0", "--dataset", "d")
    study = (*study, "--prediction", "predicted")
    assert "predicted: no label maps" in refused(capsys, *study)
    files("predicted/case_1/case_1_seg.nii.gz")
    assert f"predicted: {MONAI}" in refused(capsys, *study)


def test_a_prediction_is_paired_whichever_way_its_letters_are_written():
    """One sign for an accented letter, or two, as macOS writes them."""
    for folder, name in (("labels", "M\u00fcller"), ("predicted", "Mu\u0308ller")):
        files(*(f"{folder}/{case}.nii.gz" for case in (name, "case_1", "case_2")))
    settings = json.dumps({"structures": {"liver": 1}})
    assert main(["metrics", *FOLDERS, "--settings", settings, "--output", "metrics.csv"]) == 0
    assert Path("metrics.csv").read_text(encoding="utf-8").count("M\u00fcller") > 0
