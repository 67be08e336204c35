"""One scan in every format and in four orientations gives the same voxels; labels are written as the user needs them."""

import dataclasses
import subprocess
import sys

import highdicom
import nibabel
import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK

from dicom_series import PATIENT_ID, write_series
from segstudy.cli import main
from segstudy.images.files import Image, read_image, read_label, write_nifti
from segstudy.images.fitting import fitted, itk_image
from segstudy.images.geometry import reorient, to_ras
from segstudy.images.segments import named_segments
from segstudy.networks.weights import load_weights, save_weights

AFFINE = np.diag([-1.5, -1.5, 2.0, 1.0])
AFFINE[:3, 3] = (30, 24, -12)


@pytest.fixture(scope="module")
def scans(tmp_path_factory, write_weights):
    """A folder with weights and one scan in many files."""
    folder = tmp_path_factory.mktemp("scans")
    i, j, k = np.indices((34, 30, 18))
    distance = np.sqrt((i - 15) ** 2 + (j - 14) ** 2 + (1.3 * (k - 8)) ** 2)
    scan = np.clip(1000 - 90 * distance, -1000, 1000).astype(np.int16)
    write_weights(folder / "weights.pt")
    write_nifti(folder / "in/nifti.nii.gz", scan, AFFINE)
    for name in ("nrrd", "mha"):
        SimpleITK.WriteImage(itk_image(scan, AFFINE), str(folder / f"in/{name}.{name}"))
    nibabel.save(nibabel.MGHImage(scan, AFFINE.astype(np.float32)), folder / "in/mgz.mgz")
    write_series(folder / "in/dicom", scan, AFFINE)
    for codes in ("RAS", "PIR", "AIL", "SLP"):
        turned = reorient(Image(scan, AFFINE), codes)
        write_nifti(folder / f"in/{codes}.nii", turned.array, turned.affine)
    return folder


def infer(folder, *images, form="nifti", output="out"):
    return main(
        [
            *("infer", "--weights", str(folder / "weights.pt"), "--output", str(folder / output)),
            *("--structures", '{"core": 2, "shell": 7}', "--threads", "1", "--format", form),
            *(str(folder / image) for image in images),
        ]
    )


def label_files(folder):
    """The files of a folder of predictions but its tables and its record."""
    return [path for path in folder.iterdir() if path.suffix not in (".csv", ".jsonl")]


def test_the_same_voxels_whatever_the_format_and_the_orientation(scans, caplog):
    folder = scans
    assert infer(folder, "in") == 0
    labels = {path.name: to_ras(read_label(path)) for path in label_files(folder / "out")}
    assert len(labels) == 9
    first = labels["nifti.nii.gz"]
    assert {2, 7} < set(np.unique(first.array))
    for name, label in labels.items():
        np.testing.assert_array_equal(label.array, first.array, err_msg=name)
        np.testing.assert_allclose(label.affine, first.affine, atol=1e-4, err_msg=name)
    said = b"".join(path.read_bytes() for path in (folder / "out").iterdir()).decode("latin-1")
    assert PATIENT_ID not in said + caplog.text and "Mustermann" not in said + caplog.text


def test_pictures_are_predicted_as_the_volume_of_their_voxel_size(scans, capsys):
    """A folder of PNG, a TIFF of several pages and one PNG: columns run to the left, rows to the back, as in AFFINE."""
    folder, size = scans, ("--spacing-mm", "1.5", "1.5", "2")
    scan = np.clip(read_image(folder / "in/nifti.nii.gz").array[0], 0, None).astype(np.uint16)
    write_nifti(folder / "pictures/nifti.nii.gz", scan, np.diag([-1.5, -1.5, 2, 1]))
    pages, slices = ([PIL.Image.fromarray(page) for page in scan.T] for _ in range(2))
    (folder / "pictured/stack").mkdir(parents=True)
    for number, page in enumerate(slices, start=95):  # 95 ... 112: not by the alphabet
        page.save(folder / f"pictured/stack/s{number}.png")
    pages[0].save(folder / "pictured/pages.tif", save_all=True, append_images=pages[1:])
    slices[8].save(folder / "pictured/one.png")
    words = ["infer", "--weights", folder / "weights.pt", "--threads", "1", "--output"]
    words = [*map(str, [*words, folder / "of_pictures"])]
    images = [str(folder / "pictures/nifti.nii.gz"), str(folder / "pictured")]
    assert main([*words, *images, *size]) == 0
    found = {path.name: read_label(path) for path in label_files(folder / "of_pictures")}
    expected = found.pop("nifti.nii.gz")
    assert expected.array.max() == 2
    assert sorted(found) == ["one.nii.gz", "pages.nii.gz", "stack.nii.gz"]
    for name in ("pages.nii.gz", "stack.nii.gz"):
        np.testing.assert_array_equal(found[name].array, expected.array, err_msg=name)
        np.testing.assert_allclose(found[name].affine, expected.affine, err_msg=name)
    assert found["one.nii.gz"].array.shape == (34, 30, 1)
    np.testing.assert_allclose(found["one.nii.gz"].spacing_mm, (1.5, 1.5, 2))
    capsys.readouterr()
    assert main([*words, str(folder / "pictured/one.png")]) == 1
    assert "give --spacing-mm COLUMN ROW SLICE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, images[0], "--spacing-mm", "1", "0", "1"])
    assert "'0': expected a length in mm, above 0" in capsys.readouterr().err


def test_a_segmentation_of_3d_slicer_has_names_and_colours(scans):
    folder = scans
    assert infer(folder, "in/nifti.nii.gz", output="plain") == 0
    assert infer(folder, "in/nifti.nii.gz", form="seg.nrrd", output="slicer") == 0
    file = folder / "slicer/nifti.seg.nrrd"
    expected = read_label(folder / "plain/nifti.nii.gz")
    np.testing.assert_array_equal(fitted(read_label(file), expected.grid).array, expected.array)
    assert named_segments(file) == [("core", 2), ("shell", 7)]
    header = SimpleITK.ReadImage(str(file))
    assert header.GetMetaData("Segment1_Color") == "0.337255 0.705882 0.913725"


def test_dicom_seg_refers_to_its_series(scans, monkeypatch):
    """By highdicom's reader, and by pydicom with every field checked."""
    folder = scans
    assert infer(folder, "in/dicom", output="plain") == 0
    assert infer(folder, "in/dicom", form="dicom-seg", output="seg") == 0
    file = folder / "seg/dicom.dcm"
    found = highdicom.seg.segread(file)
    names = [found.get_segment_description(n).segment_label for n in found.segment_numbers]
    assert names == ["core", "shell"]
    assert found.get_segment_description(1).algorithm_type.value == "AUTOMATIC"
    source = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (folder / "in/dicom").iterdir()}
    assert {uid for *_, uid in found.get_source_image_uids()} == source
    expected = read_label(folder / "plain/dicom.nii.gz")
    label = fitted(read_label(file), expected.grid)
    for number, value in enumerate((2, 7), start=1):
        np.testing.assert_array_equal(label.array == number, expected.array == value)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    assert [element.value for element in pydicom.dcmread(file).iterall()]
    pydicom.dcmwrite(folder / "again.dcm", pydicom.dcmread(file), enforce_file_format=True)


def test_a_name_that_no_segment_can_have_is_refused_before_any_work(scans, capsys):
    trained = load_weights(scans / "weights.pt")
    long = dataclasses.replace(trained, structures=(trained.structures[0], "x" * 65))
    save_weights(scans / "long.pt", long)
    words = [
        "infer",
        "--weights",
        scans / "long.pt",
        "--output",
        scans / "none",
        scans / "in/dicom",
    ]
    assert main([*map(str, words), "--format", "dicom-seg"]) == 1
    assert "65 characters; expected 1 to 64" in capsys.readouterr().err
    assert not (scans / "none").exists()


def test_dicom_seg_of_other_images_is_refused_before_any_work(scans, capsys):
    folder = scans
    assert infer(folder, "in/nifti.nii.gz", form="dicom-seg", output="none") == 1
    assert (
        "nifti.nii.gz: no DICOM series; --format dicom-seg refers to one" in capsys.readouterr().err
    )
    assert not (folder / "none").exists()


def test_metrics_read_what_infer_writes(scans):
    folder = scans
    assert infer(folder, "in/dicom", output="plain") == 0
    for form, suffix in (("seg.nrrd", ".seg.nrrd"), ("dicom-seg", ".dcm")):
        assert infer(folder, "in/dicom", form=form, output="other") == 0
        settings = '{"structures": {"core": 2, "shell": 7}}'
        pair = ("--reference", folder / "plain/dicom.nii.gz")
        pair += ("--prediction", folder / f"other/dicom{suffix}", "--output", folder / "m.csv")
        assert main(["metrics", *map(str, pair), "--settings", settings]) == 0
        rows = [line.split(",") for line in (folder / "m.csv").read_text().splitlines()]
        dice = [row for row in rows if "dice" in row]
        assert len(dice) == 2 and all("1.0" in row or "1" in row for row in dice)
    assert read_image(folder / "in/dicom").array.shape == (1, 34, 30, 18)


def lacking(field, at=None):
    """Take a field out of the slices, or of the one at a place."""

    def change(one, place):
        if at in (None, place) and field in one:
            delattr(one, field)

    return change


def series(scans, name, change):
    scan = read_image(scans / "in/nifti.nii.gz")
    return write_series(scans / name, scan.array[0].astype(np.int16), AFFINE, change)


MAY_BE_EMPTY = [
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
]


@pytest.mark.parametrize("field", MAY_BE_EMPTY)
def test_a_field_that_may_be_empty_is_empty_in_dicom_seg(scans, field):
    """Type 2 of the Patient and General Study modules (DICOM PS3.3 C.7.1.1, C.7.2.1)."""
    series(scans, f"without/{field}", lacking(field))
    assert infer(scans, f"without/{field}", form="dicom-seg", output="without_out") == 0
    found = pydicom.dcmread(scans / f"without_out/{field}.dcm")
    assert field in found and not found[field].value


@pytest.mark.parametrize("field", ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"])
def test_a_series_without_a_uid_is_refused_and_the_others_are_predicted(scans, field, capsys):
    folder, name = scans, f"uid_{field}"
    series(scans, f"{name}/bad", lacking(field))
    series(scans, f"{name}/good", lambda one, place: None)
    assert infer(folder, name, form="dicom-seg", output=f"out_{field}") == 1
    assert [path.name for path in label_files(folder / f"out_{field}")] == ["good.dcm"]
    said = capsys.readouterr().err
    assert f"{name}/bad: of 18 slices lack: {field} (18); expected these fields in each" in said
    assert "1 of 2 images were refused before the prediction" in said
    assert "Traceback" not in said


def test_slices_of_two_studies_are_refused_before_any_work(scans, capsys):
    def change(one, place):
        if place == 4:
            one.StudyInstanceUID = pydicom.uid.generate_uid()

    series(scans, "two_studies", change)
    assert infer(scans, "two_studies", form="dicom-seg", output="none") == 1
    assert "two_studies: slices of 2 studies (StudyInstanceUID)" in capsys.readouterr().err
    assert not (scans / "none").exists()


ODD = {
    "PatientBirthDate": "02.01.1970",
    "StudyDate": "3. Mai 2019",
    "StudyTime": "halb neun",
    "PatientSex": "weiblich",
    "PatientName": "Mustermann=Erika=Secret=Person",
    "PatientID": "SECRET" * 20,
    "PatientAge": "secretage",
    "AccessionNumber": "SECRETNUMBER" * 5,
    "ReferringPhysicianName": "Dr. Secret" * 10,
}


@pytest.mark.parametrize("field", ODD)
def test_no_odd_value_of_a_patient_is_told(scans, field, tmp_path, monkeypatch):
    """Run by itself, as a user does: warnings, logs of libraries and tracebacks count."""

    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    series(scans, f"odd/{field}", lambda one, place: setattr(one, field, ODD[field]))
    command = [sys.executable, "-W", "always", "-m", "segstudy", "infer", "--format", "dicom-seg"]
    command += ["--weights", scans / "weights.pt", "--output", tmp_path / "out"]
    done = subprocess.run([*command, scans / f"odd/{field}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for value in (ODD[field], "HOSP-4711", "Mustermann", "19500101", "A-99"):
        assert value not in done.stdout + done.stderr
    if field in ("PatientBirthDate", "StudyDate", "StudyTime", "PatientSex"):
        assert f"{field} is not as DICOM writes it, and is left empty" in done.stderr


@pytest.mark.parametrize("turned_round", [False, True])
def test_the_folder_of_a_dicom_seg_is_one_image_of_metrics(scans, turned_round):
    assert infer(scans, "in/dicom", output="plain") == 0
    assert infer(scans, "in/dicom", form="dicom-seg", output="alone") == 0
    files = [scans / "plain/dicom.nii.gz", scans / "alone"][:: -1 if turned_round else 1]
    pair = ("--reference", files[0], "--prediction", files[1], "--output", scans / "m.csv")
    settings = '{"structures": {"core": 2, "shell": 7}}'
    assert main(["metrics", *map(str, pair), "--settings", settings]) == 0
    rows = [line.split(",") for line in (scans / "m.csv").read_text().splitlines()]
    assert len([row for row in rows if "dice" in row and ("1.0" in row or "1" in row)]) == 2
