"""DICOM as scanners and archives send it: whole series in compressed syntaxes, and enhanced files of several frames."""

import io

import highdicom
import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from dicom_series import PATIENT_ID, shifted, write_series
from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images.files import read_grid, read_image

SHAPE = (7, 6, 5)
VOLUME = np.random.default_rng(0).integers(-1024, 2000, SHAPE).astype(np.int16)
AFFINE = affine_of(TURNS[0] @ np.diag([-1, -1, 1]), (0.7, 0.9, 2.5))


def by_pydicom(one, folder, syntax):
    one.compress(syntax)


def jpeg_2000(one, folder, syntax):
    """Pillow's encoder, of pixels without a sign."""
    content = io.BytesIO()
    pixels = np.frombuffer(one.PixelData, "<u2").reshape(one.Rows, one.Columns)
    picture = PIL.Image.fromarray(pixels.astype(np.uint16))
    picture.save(content, "JPEG2000", irreversible=False, no_jp2=True)
    one.PixelRepresentation, one.PixelData = 0, encapsulate([content.getvalue()])
    one["PixelData"].is_undefined_length = True
    one.file_meta.TransferSyntaxUID = syntax


def jpeg_lossless(one, folder, syntax):
    """ITK's encoder, of GDCM."""
    pixels = np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(folder / "encoded.dcm"))
    writer.Execute(SimpleITK.GetImageFromArray(pixels))
    encoded = pydicom.dcmread(folder / "encoded.dcm")
    assert encoded.file_meta.TransferSyntaxUID == syntax
    one.PixelData = encoded.PixelData
    one["PixelData"].is_undefined_length = True
    one.file_meta.TransferSyntaxUID = syntax


def plain(one, folder, syntax):
    if syntax == ExplicitVRBigEndian:
        one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
    one.file_meta.TransferSyntaxUID = syntax


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (RLELossless, by_pydicom),
        (JPEGLSLossless, by_pydicom),
        (JPEG2000Lossless, jpeg_2000),
        (JPEGLosslessSV1, jpeg_lossless),
        (ImplicitVRLittleEndian, plain),
        (ExplicitVRBigEndian, plain),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_a_series_in_any_lossless_syntax_is_the_series(tmp_path, syntax, encode):
    """Each slice with a slope of its own: they are decoded and rescaled one by one."""

    def change(one, place):
        one.RescaleSlope, one.RescaleIntercept = 1 + place, -1024

    series = write_series(tmp_path / "ct", VOLUME, AFFINE, change)
    for file in series.iterdir():
        one = pydicom.dcmread(file)
        encode(one, tmp_path, syntax)
        syntaxes = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        pydicom.dcmwrite(file, one, **syntaxes)
    found = read_image(series)
    expected = (VOLUME + 1024.0) * (1 + np.arange(SHAPE[2])) - 1024
    np.testing.assert_allclose(found.array[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)


# --- files of several frames ---------------------------------------------------------------------


def enhanced(folder, change=None, modality="CT"):
    """An enhanced file, by highdicom's conversion of a series."""
    series = write_series(folder / "series", VOLUME, AFFINE, change, Modality=modality)
    kind = {
        "CT": highdicom.legacy.LegacyConvertedEnhancedCTImage,
        "MR": highdicom.legacy.LegacyConvertedEnhancedMRImage,
    }[modality]
    slices = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    if modality == "MR":
        for one in slices:
            one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    kind(slices, generate_uid(), 1, generate_uid(), 1).save_as(folder / "frames.dcm")
    return folder / "frames.dcm"


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_file_of_several_frames_is_its_series(tmp_path, modality):
    """In the same order of voxels, each frame rescaled as it says."""

    def change(one, place):
        one.RescaleSlope, one.RescaleIntercept = 0.5 + place, -10 * place

    file = enhanced(tmp_path, change, modality)
    frames, series = read_image(file), read_image(tmp_path / "series")
    np.testing.assert_allclose(frames.array, series.array, rtol=1e-6)
    np.testing.assert_allclose(frames.affine, series.affine, atol=1e-6)
    assert read_grid(file).shape == SHAPE
    (tmp_path / "alone").mkdir()
    file.rename(tmp_path / "alone" / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "alone").array, frames.array)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shifted(1, lambda place: 0.5 * place), "the axes j and k meet at .* gantry"),
        (shifted(2, lambda place: 2.5 * (place > 2)), "1 slice missing, the first at"),
        (shifted(2, lambda place: 1.3 * (place > 2)), "uneven slices: from 2.5 to 3.8 mm apart"),
        (shifted(2, lambda place: -2.5 * (place % 2)), "up to 2 slices at one position"),
        (shifted(0, lambda place: 3 * (place == 2)),
         "slices are shifted in their plane: frame . lies 3 mm beside the line of the others"),
    ],
)  # fmt: skip
def test_frames_that_make_no_volume_are_refused_by_name(tmp_path, change, words):
    file = enhanced(tmp_path, change)
    with pytest.raises(InputError, match=words) as error:
        read_image(file)
    assert str(error.value).startswith(f"{file}: ") and PATIENT_ID not in str(error.value)
