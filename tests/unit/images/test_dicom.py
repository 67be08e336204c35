"""DICOM: series become the volumes that ITK reads, or are refused by name; segmentations and contours by their names."""

import shutil
import subprocess
import sys

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from dicom_series import PATIENT_ID, contours, shifted, write_series
from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images.files import Image, read_grid, read_image, read_label
from segstudy.images.fitting import fitted
from segstudy.images.formats import dicom_files, format_of
from segstudy.images.formats.dicom_series import sorted_headers
from segstudy.images.grids import Grid
from segstudy.images.label_formats import LABEL_FORMATS
from segstudy.images.segments import named_segments, value_map

SHAPE = (7, 6, 9)
VOLUME = np.random.default_rng(0).integers(-1024, 2000, SHAPE).astype(np.int16)
AFFINE = affine_of(TURNS[0] @ np.diag([-1, -1, 1]), (0.7, 0.9, 2.5))


def itk(folder):
    """The volume (i, j, k) as ITK reads the series, and its affine to RAS mm."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("turn", TURNS[::11])
def test_a_series_is_what_itk_reads_sorted_by_position(tmp_path, turn):
    affine = affine_of(turn, (0.7, 0.9, 2.5), (8, -4, 3))
    image = read_image(write_series(tmp_path / "ct", VOLUME, affine))
    expected, placed = itk(tmp_path / "ct")
    np.testing.assert_array_equal(image.array[0], expected)
    np.testing.assert_allclose(image.affine, placed, atol=1e-6)
    # Slices ascend along rows x columns, whichever way the series was written.
    written = VOLUME if np.linalg.det(turn) > 0 else VOLUME[:, :, ::-1]
    np.testing.assert_array_equal(image.array[0], written)
    assert read_grid(tmp_path / "ct").shape == SHAPE and image.notes == ()


def test_each_slice_is_rescaled_as_it_says(tmp_path):
    def change(one, place):
        one.RescaleSlope, one.RescaleIntercept = 0.5 + place, -10 * place

    image = read_image(write_series(tmp_path / "mr", VOLUME, AFFINE, change, Modality="MR"))
    places = np.arange(SHAPE[2])
    expected = (VOLUME + 1024) * (0.5 + places) - 10 * places
    np.testing.assert_allclose(image.array[0], expected, rtol=1e-6)


@pytest.mark.parametrize("without", ["absent", "empty"])
def test_a_series_that_says_nothing_of_rescaling_keeps_its_values(tmp_path, without):
    def change(one, place):
        for name in ("RescaleSlope", "RescaleIntercept"):
            setattr(one, name, None)
            if without == "absent":
                delattr(one, name)

    image = read_image(write_series(tmp_path / "mr", VOLUME, AFFINE, change, Modality="MR"))
    np.testing.assert_array_equal(image.array[0], VOLUME + 1024)


@pytest.mark.parametrize("kind", ["jp2klossless", "jpeg_ls_lossless", "RLE"])
def test_compressed_slices_are_those_that_were_compressed(kind):
    """Files of pydicom's own tests, an MR slice in several transfer syntaxes."""
    plain, packed = (
        read_image(get_testdata_file(f"MR_small{name}.dcm", download=False))
        for name in ("", f"_{kind}")
    )
    np.testing.assert_array_equal(packed.array, plain.array)
    np.testing.assert_array_equal(packed.affine, plain.affine)


def setting(**fields):
    def change(one, place):
        for name, value in fields.items():
            setattr(one, name, value(place))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shifted(1, lambda place: 0.5 * place), "the axes j and k meet at .* gantry"),
        (shifted(2, lambda place: 2.5 * (place > 4)), "1 slice missing, the first at .* of 10 with"),
        (shifted(2, lambda place: 1.3 * (place > 4)), "uneven slices: from 2.5 to 3.8 mm apart"),
        (shifted(0, lambda place: 3 * (place == 4)),
         "slices are shifted in their plane: 1556.dcm lies 3 mm beside the line of the others"),
        (
            lambda one, place: (
                shifted(2, lambda p: -2.5 * (p % 3))(one, place),
                setattr(one, "TemporalPositionIdentifier", place % 3),
            ),
            r"up to 3 slices at one position: 3 temporal phases \(TemporalPositionIdentifier\)",
        ),
        (setting(SeriesInstanceUID=lambda p: f"1.2.{p % 2}", SeriesNumber=lambda p: p % 2),
         r"2 series: number 0 \(CT, 5 files\), number 1 \(CT, 4 files\); expected one"),
        (setting(Modality=lambda p: "PT"), r"a PET series; .*\(SUV\) are not computed"),
        (setting(PixelSpacing=lambda p: [1, 1 + (p > 3)]), "different pixel sizes"),
        (setting(ImageOrientationPatient=lambda p: [1, 0, 0, 0, (p < 3) * 1, (p >= 3) * 1]),
         "slices that are not parallel"),
        (setting(ImagePositionPatient=lambda p: None), "9 of 9 slices have no ImagePositionPatient"),
        (setting(Rows=lambda p: 6 - 2 * (p == 0)), "slices of 2 sizes"),
        (setting(PatientID=lambda p: PATIENT_ID + "x" * (p > 6)), r"slices of 2 patients \(PatientID\)"),
        (setting(StudyInstanceUID=lambda p: f"1.3.{p > 6:d}"), "slices of 2 studies"),
        (setting(FrameOfReferenceUID=lambda p: f"1.3.{p > 6:d}"), "slices of 2 frames of reference"),
        (setting(RescaleType=lambda p: ["HU", "US"][p > 6]), "slices of 2 units"),
        (setting(RescaleSlope=lambda p: p != 5), r"1 of 9 slices have a RescaleSlope of 0, the first in 1945\.dcm"),
        (setting(RescaleSlope=lambda p: None if p == 5 else 1), r"1 of 9 slices have no RescaleSlope, .* 1945\.dcm"),
        (lambda one, place: place == 5 and delattr(one, "RescaleIntercept"),
         r"1 of 9 slices have no RescaleIntercept, the first in 1945\.dcm"),
    ],
)  # fmt: skip
def test_what_makes_no_volume_is_refused_by_name(tmp_path, change, words):
    folder = write_series(tmp_path / "ct", VOLUME, AFFINE, change)
    for read in (read_image, read_grid):
        with pytest.raises(InputError, match=words) as error:
            read(folder)
        assert str(error.value).startswith(f"{folder}: ") and PATIENT_ID not in str(error.value)


def test_rounded_positions_and_files_that_stand_twice_are_taken_with_a_note(tmp_path):
    folder = write_series(tmp_path / "ct", VOLUME, AFFINE, shifted(2, lambda p: 0.2 * (p % 2)))
    first = sorted(folder.iterdir())[0]
    (folder / "copy.dcm").write_bytes(first.read_bytes())
    (folder / "report.txt").write_text("no DICOM")
    image = read_image(folder)
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.notes[0].startswith("1 of the files hold a slice that another one holds")
    assert "off their even places" in image.notes[1]


def test_a_damaged_file_is_told_without_its_fields(tmp_path):
    folder = write_series(tmp_path / "ct", VOLUME, AFFINE)
    file = sorted(folder.iterdir())[4]
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match=rf"ct: {file.name}: not readable as DICOM \(") as error:
        read_image(folder)
    assert PATIENT_ID not in str(error.value)


def test_a_slice_without_voxels_is_named_wherever_it_lies(tmp_path):
    def change(one, place):
        if place == 8:
            del one.PixelData

    folder = write_series(tmp_path / "ct", VOLUME, AFFINE, change)
    with pytest.raises(InputError, match=f"ct: {8 * 389:04d}.dcm: a slice without voxels"):
        read_image(folder)


def test_two_series_of_a_patient_are_known_without_their_name(tmp_path):
    one, two = (write_series(tmp_path / name, VOLUME, AFFINE) for name in "ab")
    other = write_series(tmp_path / "c", VOLUME, AFFINE, PatientID="x")
    nobody = write_series(tmp_path / "d", VOLUME, AFFINE, PatientID="")
    found = [format_of(path).patient(path) for path in (one, two, other, nobody)]
    assert found[0] == found[1] != found[2] and found[3] == ""
    assert PATIENT_ID not in found[0]


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "ct", VOLUME, AFFINE)

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(dicom_files.importlib, "import_module", absent)
    with pytest.raises(
        InputError, match=r"needs pydicom; install it: pip install 'segstudy\[dicom\]'"
    ):
        read_image(folder)


def test_a_real_ct_is_the_same_as_a_series(tmp_path, real_data):
    nifti = read_image(real_data / "thorax_ct" / "ct_cropped.nii.gz")
    scan = np.rint(nifti.array[0]).astype(np.int16)
    series = read_image(write_series(tmp_path / "ct", scan, nifti.affine))
    found = fitted(Image(series.array[0], series.affine), nifti.grid)
    np.testing.assert_array_equal(found.array, scan)


# --- labels -------------------------------------------------------------------------------------


def test_overlapping_segments_of_few_slices_are_placed_by_name(tmp_path):
    """As highdicom writes them: only frames that hold something are in the file."""
    folder = write_series(tmp_path / "ct", VOLUME, AFFINE)
    organ, tumour = np.zeros((2, *SHAPE), np.uint8)
    organ[1:6, 1:5, 3:7], tumour[2:4, 2:4, 4:8] = 1, 1
    code = pydicom.sr.codedict.codes.SCT.AnatomicalStructure
    segmentation = highdicom.seg.Segmentation(
        sorted_headers(folder),
        np.stack([tumour.T, organ.T], axis=-1),
        "BINARY",
        [
            highdicom.seg.SegmentDescription(number, name, code, code, "MANUAL")
            for number, name in enumerate(("Tumour", "organ"), start=1)
        ],
        *(generate_uid(), 5, generate_uid(), 1, "maker", "model", "1", "0"),
    )
    segmentation.save_as(tmp_path / "seg.dcm")
    label = read_label(tmp_path / "seg.dcm")
    assert label.array.shape[0] < SHAPE[2] and "12 voxels are of 'organ'" in label.notes[0]
    placed = fitted(label, read_grid(folder)).array
    np.testing.assert_array_equal(placed == 1, tumour == 1)
    np.testing.assert_array_equal(placed == 2, (organ == 1) & (tumour == 0))
    moved, _ = value_map(tmp_path / "seg.dcm", {"tumour": [7]})
    assert moved == {1: 7, 2: 0}


def circle(radius, place, points=200):
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    flat = 20 + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.column_stack([flat, np.full(points, place)])


@pytest.mark.parametrize("turn", TURNS[::13])
def test_contours_fill_the_voxels_whose_centres_are_inside(tmp_path, turn):
    """A tube, whose inner circle is a hole: the voxels of the closed form."""
    affine = affine_of(turn, (0.7, 0.9, 2.5), (5, 9, -3))
    tube = [circle(radius, place) for place in (2, 3, 4) for radius in (12.3, 6.2)]
    path = contours(tmp_path / "rs.dcm", {"BODY": [], "tube": tube}, affine)
    label = read_label(path, Grid((41, 40, 7), affine))
    i, j, k = np.indices((41, 40, 7))
    distance = np.hypot(i - 20, j - 20)
    expected = (distance < 12.3) & (distance > 6.2) & (k >= 2) & (k <= 4)
    near = np.minimum(abs(distance - 12.3), abs(distance - 6.2)) < 0.01  # chords cut there
    np.testing.assert_array_equal((label.array == 2) & ~near, expected & ~near)
    assert named_segments(path) == [("BODY", 1), ("tube", 2)]
    assert value_map(path, {"tube": [1]})[0] == {1: 0, 2: 1}
    with pytest.raises(InputError, match="none is called as a structure"):
        value_map(path, {"heart": [1]})


def test_contours_on_other_slices_or_without_a_grid_are_refused(tmp_path):
    grid = Grid((41, 40, 9), AFFINE)
    for places, words in (
        ((2.4, 3.4), "lie up to 0.4 slices off those of the image"),
        ((2, 4, 6), "are in one of 2 slices"),
        ((8, 9), "1 contours of 'a' lie outside of the image"),
    ):
        path = contours(tmp_path / "rs.dcm", {"a": [circle(5, place) for place in places]}, AFFINE)
        with pytest.raises(InputError, match=words):
            read_label(path, grid)
    with pytest.raises(InputError, match=r"rs\.dcm: contours \(RTSTRUCT\) have no voxels"):
        read_label(path)


ODD = {
    "PatientName": "Secret^Sophie=a=b=c",
    "PatientBirthDate": "SECRET1970",
    "PatientSex": "secretsex",
    "PatientAge": "secretage",
    "PatientWeight": "secret kg",
    "PatientID": "SECRETNUMBER" * 9,
    "StudyDate": "secret date",
    "StudyTime": "secret time",
    "AccessionNumber": "SECRETACCESSION" * 5,
}


def with_odd_fields(file):
    """Write odd values of a patient's fields into a file, as they are."""
    one = pydicom.dcmread(file)
    for name, value in ODD.items():
        tag = pydicom.datadict.tag_for_keyword(name)
        raw = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value) + len(value) % 2,
            value.encode() + b" " * (len(value) % 2), 0, False, True,
        )  # fmt: skip
        one._dict[pydicom.tag.Tag(tag)] = raw
    one.save_as(file)


def test_no_reader_tells_a_value_of_a_patients_field(tmp_path):
    """Run by itself, as a user does: warnings, logs of libraries and tracebacks count."""
    folder = write_series(tmp_path / "ct", VOLUME, AFFINE)
    label = np.zeros(SHAPE, np.uint8)
    label[2:4], label[4:6] = 1, 2
    names = {"liver": 1, "tumour": 2}
    LABEL_FORMATS["dicom-seg"].write(tmp_path / "seg.dcm", Image(label, AFFINE), names, folder)
    contours(tmp_path / "rt.dcm", {"liver": [circle(3, 4)], "tumour": [circle(1, 4)]}, AFFINE)
    for file in (*folder.iterdir(), tmp_path / "seg.dcm", tmp_path / "rt.dcm"):
        with_odd_fields(file)
    shutil.copytree(folder, tmp_path / "cut")
    (tmp_path / "cut/0000.dcm").write_bytes((tmp_path / "cut/0000.dcm").read_bytes()[:-50])
    script = f"""
import logging, warnings
from pathlib import Path
from segstudy.images.files import read_grid, read_image, read_label
from segstudy.images.formats import format_of
from segstudy.images.grids import Grid
from segstudy.images.segments import named_segments
from segstudy.errors import InputError
logging.basicConfig(level=logging.INFO)
root = Path({str(tmp_path)!r})
grid = read_grid(root / "ct")
print(read_image(root / "ct").array.shape, len(format_of(root / "ct").patient(root / "ct")))
for name in ("seg.dcm", "rt.dcm"):
    print(named_segments(root / name), read_label(root / name, Grid((41, 40, 9), grid.affine)).array.max())
for name in ("cut", "seg.dcm", "rt.dcm"):
    try:
        read_image(root / name)
    except InputError as error:
        print(error)
"""
    command = [sys.executable, "-W", "always", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "cut: 0000.dcm: not readable as DICOM" in said
    assert "secret" not in said.replace(str(tmp_path), "").lower()
