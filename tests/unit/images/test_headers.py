"""What headers say of place and lengths: where readers disagree a warning says so, or the file is refused."""

import gzip
import logging

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel import cifti2

from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images import headers
from segstudy.images.files import read_grid, read_image, read_label, within_memory, write_label
from segstudy.images.headers import one_line, say_warnings, warnings

SHAPE = (24, 22, 10)
VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
OBLIQUE = affine_of(TURNS[13], (0.7, 1.2, 3.0), (5, -8, 12))


def raw(path, affine=OBLIQUE, qform=None, codes=(1, 1), zooms=None, unit=2, scale=(1, 0)):
    """A NIfTI file with these header fields, whatever libraries think of them. codes: qform, sform."""
    image = nibabel.Nifti1Image(VOXELS, affine)
    image.set_qform(affine if qform is None else qform, 1)
    header = image.header
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["qform_code"], header["sform_code"] = codes
    if zooms is not None:
        header["pixdim"][1:4] = zooms
    header["xyzt_units"] = unit
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = scale
    path.write_bytes(header.binaryblock + bytes(4) + VOXELS.tobytes(order="F"))
    return path


def far(affine, mm=7.0):
    moved = affine.copy()
    moved[0, 3] += mm
    return moved


# --- what is doubtful -----------------------------------------------------------------------------


def test_nothing_is_said_of_a_sound_header(tmp_path):
    for codes in ((1, 1), (1, 0), (0, 1), (2, 4)):
        assert warnings(raw(tmp_path / "a.nii", codes=codes)) == []
    write_label(tmp_path / "b.nii.gz", VOXELS % 3, OBLIQUE)
    assert warnings(tmp_path / "b.nii.gz") == []
    for ending in (".nrrd", ".mha", ".mhd"):
        SimpleITK.WriteImage(
            SimpleITK.ReadImage(str(tmp_path / "b.nii.gz")), str(tmp_path / f"c{ending}")
        )
        assert warnings(tmp_path / f"c{ending}") == []
    assert warnings(tmp_path / "nothing.nii") == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"codes": (0, 0)}, "neither qform nor sform"),
        ({"qform": far(OBLIQUE)}, "qform and sform disagree: origin"),
        (
            {"affine": np.diag([1.0, 1, 1, 1]), "codes": (0, 1), "zooms": (0.8657, 0.8657, 0.796)},
            "voxels are 1x1x1 mm by the sform and 0.8657x0.8657x0.796 mm by pixdim; the sform is used",
        ),
        ({"qform": OBLIQUE @ np.diag([1.1, 1, 1, 1])}, "qform and sform disagree: spacing"),
    ],
)
def test_where_readers_disagree_is_said(tmp_path, fields, words):
    assert words in "\n".join(warnings(raw(tmp_path / "a.nii", **fields)))


def test_the_sform_counts_then_the_qform_then_the_voxel_sizes(tmp_path):
    other = far(OBLIQUE)
    place = {
        codes: read_grid(raw(tmp_path / "a.nii", qform=other, codes=codes)).affine
        for codes in ((1, 1), (0, 1), (1, 0), (0, 0))
    }
    np.testing.assert_allclose(place[1, 1], OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(place[0, 1], OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(place[1, 0], other, atol=1e-5)
    np.testing.assert_allclose(place[0, 0][:3, :3], np.diag([-0.7, 1.2, 3.0]), atol=1e-6)


def test_warnings_are_logged_with_the_case(tmp_path, caplog):
    path = raw(tmp_path / "a.nii", codes=(0, 0))
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        say_warnings([path], "p1")
        say_warnings([path])
    assert [record.getMessage().partition(": the header")[0] for record in caplog.records] == [
        f"case p1: {path}",
        str(path),
    ]


# --- units ------------------------------------------------------------------------------------------

METER, MICRON = 1, 3


@pytest.mark.parametrize(
    ("unit", "spacing", "spacing_mm", "words"),
    [
        (MICRON, 1000, 1, "lengths in micron: converted to mm, which makes the image 24 mm long"),
        (MICRON, 1, 1, "would make the image 0.024 mm long: they are taken as millimetres"),
        (METER, 0.001, 1, "lengths in meter: converted to mm"),
        (METER, 1, 1, "would make the image 24000 mm long: they are taken as millimetres"),
    ],
)
def test_the_length_of_the_image_decides_what_a_unit_means(
    tmp_path, unit, spacing, spacing_mm, words
):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = spacing * np.array([5, 6, 7])
    path = raw(tmp_path / "a.nii", affine, unit=unit)
    (told,) = warnings(path)
    assert words in told
    for found in (read_grid(path), read_image(path).grid):
        assert found.spacing_mm == (spacing_mm,) * 3
        np.testing.assert_allclose(
            found.affine[:3, 3], (5 * spacing_mm, 6 * spacing_mm, 7 * spacing_mm)
        )


@pytest.mark.parametrize(
    ("unit", "spacing"), [(MICRON, 0.01), (METER, 1e-6), (MICRON, 1e6), (MICRON, 100)]
)
def test_a_unit_that_cannot_be_right_either_way_is_refused(tmp_path, unit, spacing):
    path = raw(tmp_path / "a.nii", np.diag([spacing, spacing, spacing, 1.0]), unit=unit)
    for read in (read_grid, read_image, read_label):
        with pytest.raises(
            InputError, match=r"a\.nii: the header gives lengths in m.* Correct voxel size"
        ):
            read(path)


def test_a_short_crop_in_microns_is_not_made_a_thousand_times_larger(tmp_path):
    """24 voxels of 100 micron are 2.4 mm, and 2.4 m as millimetres: both are named."""
    path = raw(tmp_path / "a.nii", np.diag([100.0, 100, 100, 1]), unit=MICRON)
    with pytest.raises(InputError, match=r"would be 2\.4 mm long, or 2400 mm were they mill"):
        read_grid(path)
    path = raw(tmp_path / "b.nii", np.diag([150.0, 150, 150, 1]), unit=MICRON)
    assert read_grid(path).spacing_mm == (0.15, 0.15, 0.15)  # 3.6 m would be no image


@pytest.mark.parametrize("code", [4, 5, 6, 7])
def test_a_unit_that_nifti_does_not_define_is_refused(tmp_path, code):
    for read in (read_grid, read_image, read_label):
        with pytest.raises(InputError, match=f"lengths in code {code}; expected one unit"):
            read(raw(tmp_path / "a.nii", unit=code))


def test_an_image_shorter_than_any_scanner_makes_is_warned_of(tmp_path):
    (told,) = warnings(raw(tmp_path / "a.nii", np.diag([1e-6, 1e-6, 1e-6, 1])))
    assert "the image is 2.4e-05 mm long, shorter than any scanner of patients" in told
    path = nrrd(
        tmp_path / "a.nrrd",
        SPACE,
        DIRECTIONS.replace("0.7", "0.0007").replace("1.2", "0.0012").replace("3)", "0.003)"),
    )
    assert "the image is 0.03 mm long" in warnings(path)[0]
    path = metaimage(tmp_path / "a.mha", "ElementSpacing = 0.001 0.001 0.001", AXES)
    assert "the image is 0.024 mm long" in warnings(path)[0]


# --- voxel sizes that libraries make up -----------------------------------------------------------------


@pytest.mark.parametrize("codes", [(1, 0), (0, 0)])
@pytest.mark.parametrize("zooms", [(0, 1.2, 3), (0, 0, 0), (0.7, np.nan, 3)])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_no_voxel_size_is_not_1_mm(tmp_path, codes, zooms, ending):
    path = raw(tmp_path / "a.nii", codes=codes, zooms=zooms)
    if ending == ".nii.gz":
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    for read in (read_grid, read_image, read_label):
        with pytest.raises(
            InputError, match=r"a\.nii.*no voxel size: pixdim is .* Write the right"
        ):
            read(path)


def test_a_voxel_size_of_0_beside_the_sform_is_said_as_it_is(tmp_path, caplog):
    path = raw(tmp_path / "a.nii", codes=(0, 1), zooms=(0, 1.2, 3))
    read_image(path)
    assert "setting 0 dims to 1" not in caplog.text
    assert read_grid(path).spacing_mm == (0.7, 1.2, 3)
    (told,) = warnings(path)
    assert "voxels are 0.7x1.2x3 mm by the sform and 0x1.2x3 mm by pixdim" in told
    assert "and 1 mm for 0" in told
    write_label(tmp_path / "label.nii.gz", VOXELS % 3, read_grid(path).affine, like=path)
    assert SimpleITK.ReadImage(str(tmp_path / "label.nii.gz")).GetSpacing() == pytest.approx(
        (0.7, 1.2, 3)
    )


@pytest.mark.parametrize(("slope", "inter"), [(np.inf, 0), (-np.inf, 0), (2, np.inf), (2, np.nan)])
def test_a_scale_that_is_not_finite_is_refused(tmp_path, slope, inter):
    path = raw(tmp_path / "a.nii", scale=(slope, inter))
    for read in (read_image, read_label):
        with pytest.raises(
            InputError, match=r"a\.nii: (values are scaled by|not readable .*inter)"
        ):
            read(path)


@pytest.mark.parametrize("scale", [(np.nan, np.nan), (0, 0), (1, 0)])
def test_no_scale_is_none(tmp_path, scale):
    np.testing.assert_array_equal(read_image(raw(tmp_path / "a.nii", scale=scale)).array[0], VOXELS)


def test_a_folder_named_as_a_file_is_said_to_be_one(tmp_path):
    for name in ("a.nii.gz", "a.mha"):
        (tmp_path / name).mkdir()
        for read in (read_image, read_label, read_grid):
            with pytest.raises(InputError, match=f"{name}: a folder; expected an image file"):
                read(tmp_path / name)


# --- NRRD and MetaImage -----------------------------------------------------------------------------


def nrrd(path, *fields):
    lines = ["NRRD0005", "# made here", "type: short", "dimension: 3", "sizes: 24 22 10"]
    lines += ["encoding: raw", "endian: little", *fields]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + VOXELS.tobytes(order="F"))
    return path


AXES = "TransformMatrix = 1 0 0 0 1 0 0 0 1"


def metaimage(path, *fields):
    header = "ObjectType = Image\nNDims = 3\nDimSize = 24 22 10\nElementType = MET_SHORT"
    lines = [header, *fields, "ElementDataFile = LOCAL\n"]
    path.write_bytes("\n".join(lines).encode() + VOXELS.tobytes(order="F"))
    return path


SPACE = "space: left-posterior-superior"
DIRECTIONS = "space directions: (0.7,0,0) (0,1.2,0) (0,0,3)"


def test_an_nrrd_file_without_voxel_size_is_refused(tmp_path):
    for fields in (
        (),
        ("spacings: nan nan nan",),
        (SPACE,),
        (SPACE, "space directions: none none none"),
        (SPACE, "space directions: (nan,nan,nan) (nan,nan,nan) (nan,nan,nan)"),
    ):
        path = nrrd(tmp_path / "a.nrrd", *fields)
        assert SimpleITK.ReadImage(str(path)).GetSpacing() == (1, 1, 1)  # ITK makes them up
        for read in (read_image, read_label, read_grid):
            with pytest.raises(InputError, match=r"a\.nrrd: the header gives no voxel size"):
                read(path)


def test_a_metaimage_without_voxel_size_is_refused(tmp_path):
    header = "ObjectType = Image\nNDims = 3\nDimSize = 24 22 10\nElementType = MET_SHORT\n"
    path = tmp_path / "a.mha"
    path.write_bytes(f"{header}ElementDataFile = LOCAL\n".encode() + VOXELS.tobytes(order="F"))
    with pytest.raises(
        InputError, match=r"a\.mha: the header gives no voxel size; expected `ElementSpacing`"
    ):
        read_image(path)
    spaced = f"{header}ElementSpacing = 0.7 1.2 3\nElementDataFile = LOCAL\n"
    path.write_bytes(spaced.encode() + VOXELS.tobytes(order="F"))
    assert read_image(path).spacing_mm == (0.7, 1.2, 3)
    assert "does not say which way the axes point" in warnings(path)[0]


def test_nrrd_files_with_voxel_size(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", SPACE, DIRECTIONS)
    assert read_grid(path).spacing_mm == (0.7, 1.2, 3)
    assert warnings(path) == []
    path = nrrd(tmp_path / "b.nrrd", "spacings: 0.7 1.2 3")
    assert read_grid(path).spacing_mm == (0.7, 1.2, 3)
    (told,) = warnings(path)
    assert "which side is left is a guess" in told


def test_units_of_an_nrrd_file(tmp_path):
    directions = "space directions: (700,0,0) (0,1200,0) (0,0,3000)"
    path = nrrd(tmp_path / "a.nrrd", SPACE, directions, 'space units: "um" "um" "um"')
    assert read_grid(path).spacing_mm == (0.7, 1.2, 3)
    assert "lengths in micron: converted to mm" in warnings(path)[0]
    path = nrrd(tmp_path / "b.nrrd", SPACE, DIRECTIONS, 'space units: "mm" "mm" "mm"')
    assert read_grid(path).spacing_mm == (0.7, 1.2, 3)
    path = nrrd(tmp_path / "c.nrrd", SPACE, DIRECTIONS, 'space units: "cm" "cm" "cm"')
    with pytest.raises(InputError, match="lengths in centimeter"):
        read_grid(path)  # 30 mm and 300 mm are both likely


UNITS = {
    **{"centimetres": 10, "cm": 10, "MET_DISTANCE_UNITS_CM": 10, "in": 25.4, "inches": 25.4},
    **{"micrometers": 1e-3, "um": 1e-3, "Microns": 1e-3, "metres": 1000, "nm": 1e-6},
    **{"millimeters": 1, "mm": 1, "?": 1},
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("write", ["nrrd", "metaimage"])
def test_units_by_their_names(tmp_path, unit, write):
    """Of an image that is 0.8, or 8, or 80 m long as mm, or so short, that the unit must be right."""
    factor = UNITS[unit]
    # 24 voxels: 120 mm at the right unit.
    step = 5 / factor
    if factor in (10, 25.4):
        step = 100 / factor  # 2.4 m: as mm it were 240 or 94 mm, which is likely too
    if write == "nrrd":
        directions = f"space directions: ({step},0,0) (0,{step},0) (0,0,{step})"
        path = nrrd(
            tmp_path / "a.nrrd", SPACE, directions, f'space units: "{unit}" "{unit}" "{unit}"'
        )
    else:
        sizes = f"ElementSpacing = {step} {step} {step}"
        path = metaimage(tmp_path / "a.mha", sizes, AXES, f"DistanceUnits = {unit}")
    if factor in (10, 25.4):
        with pytest.raises(InputError, match=r"lengths in (inch|centimeter): .* 2400 mm long, or"):
            read_grid(path)
        return
    assert read_grid(path).spacing_mm == pytest.approx((5, 5, 5), rel=1e-6)
    assert bool(warnings(path)) == (factor != 1)


@pytest.mark.parametrize("units", ['"pixels" "pixels" "pixels"', '"mm" "mm" "um"'])
def test_units_that_are_none_are_refused(tmp_path, units):
    path = nrrd(tmp_path / "a.nrrd", SPACE, DIRECTIONS, f"space units: {units}")
    with pytest.raises(InputError, match=r"lengths in (pixels|micron and mm); expected one"):
        read_image(path)
    path = metaimage(tmp_path / "a.mha", "ElementSpacing = 1 1 1", "DistanceUnits = parsec")
    with pytest.raises(InputError, match=r"lengths in parsec"):
        read_image(path)


# --- any reader's error -------------------------------------------------------------------------------


def test_cifti_is_refused_for_what_it_is(tmp_path):
    axis = cifti2.ScalarAxis(["a"])
    models = cifti2.BrainModelAxis.from_mask(np.ones((2, 2, 2), bool), affine=np.eye(4))
    path = tmp_path / "a.dscalar.nii"
    nibabel.save(cifti2.Cifti2Image(np.zeros((1, 8), np.float32), (axis, models)), path)
    for read in (read_image, read_label, read_grid):
        with pytest.raises(
            InputError, match=r"a\.dscalar\.nii: a Cifti2 file; expected a NIfTI volume"
        ):
            read(path)
    assert warnings(path) == []


@pytest.mark.parametrize(
    "error", [KeyError("a"), AttributeError(), AssertionError(), RecursionError("b")]
)
def test_whatever_a_reader_raises_is_an_answer_about_the_file(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    path = raw(tmp_path / "a.nii")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "a.mha"))
    monkeypatch.setattr(headers.nibabel, "load", fail)
    monkeypatch.setattr(SimpleITK, "ReadImage", fail)
    for name in ("a.nii", "a.mha"):
        for read in (read_image, read_label, read_grid):
            with pytest.raises(InputError, match=f"{name}: not readable as an image"):
                read(tmp_path / name)


def test_the_reason_of_itk_is_told_without_addresses():
    text = (
        "Exception thrown in SimpleITK ImageFileReader_Execute: /tmp/build/itkNrrdImageIO.cxx:935:\n"
        "ITK ERROR: NrrdImageIO(0x560e057f0b70): Read: Error reading a.nrrd:\n"
        "[nrrd] nrrdRead: trouble\n[nrrd] _nrrdRead: Sorry, bzip2 encoding not available in NrrdIO\n"
    )
    assert one_line(RuntimeError(text)) == "Sorry, bzip2 encoding not available in NrrdIO"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("a\n b")) == "a b"


def test_too_little_memory_is_said_in_a_line(tmp_path):
    path = raw(tmp_path / "a.nii")
    with pytest.raises(InputError) as error, within_memory("p1", path):
        np.empty((1 << 16, 1 << 16, 1 << 16))
    assert f"{path}: case p1: not enough memory for 24x22x10 voxels (Unable to allocate" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    with pytest.raises(InputError), within_memory("p1", path):
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )
    with pytest.raises(RuntimeError, match="another"), within_memory("p1", path):
        raise RuntimeError("another")


# --- labels written where their image is --------------------------------------------------------------


def itk_place(path):
    image = SimpleITK.ReadImage(str(path))
    corners = [(0, 0, 0), (23, 0, 0), (0, 21, 0), (0, 0, 9)]
    return [image.TransformIndexToPhysicalPoint(corner) for corner in corners]


HEADERS = {
    "both": {},
    "sform": {"codes": (0, 1)},
    "qform": {"codes": (1, 0)},
    "neither": {"codes": (0, 0)},
    "neither, with a qform all the same": {"codes": (0, 0), "qform": far(OBLIQUE)},
    "disagreeing": {"qform": far(OBLIQUE)},
    "pixdim": {"codes": (0, 1), "zooms": (0.8, 1.0, 2.0)},
    "micron": {"unit": MICRON},
    "micron, rightly": {"affine": np.diag([700.0, 1200, 3000, 1]), "unit": MICRON},
    "meter": {"unit": METER},
    "no unit": {"unit": 0},
    "codes of templates": {"codes": (2, 4)},
    "left-handed": {"affine": affine_of(np.diag([-1.0, 1, 1]), (0.7, 1.2, 3.0), (5, -8, 12))},
}


@pytest.mark.parametrize("name", HEADERS)
def test_every_reader_sees_a_label_where_it_sees_its_image(tmp_path, name):
    image = raw(tmp_path / "image.nii", **HEADERS[name])
    grid = read_grid(image)
    write_label(tmp_path / "label.nii.gz", VOXELS % 3, grid.affine, like=image)
    label = tmp_path / "label.nii.gz"
    np.testing.assert_allclose(itk_place(label), itk_place(image), rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(nibabel.load(label).affine, nibabel.load(image).affine)
    np.testing.assert_array_equal(read_grid(label).affine, grid.affine)
    np.testing.assert_array_equal(read_label(label).array, VOXELS % 3)
    one, other = (nibabel.load(path).header for path in (image, label))
    assert one.get_xyzt_units()[0] == other.get_xyzt_units()[0]
    assert (one["qform_code"], one["sform_code"]) == (other["qform_code"], other["sform_code"])


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("zooms", [(-0.7, 1.2, 3), (-0.7, -1.2, -3)])
def test_negative_voxel_sizes_are_said_and_not_written(tmp_path, codes, zooms):
    """ITK mirrors such an image, nibabel does not; a label is where nibabel has the image."""
    image = raw(tmp_path / "image.nii", codes=codes, zooms=zooms)
    assert "pixdim gives negative voxel sizes" in "\n".join(warnings(image))
    write_label(tmp_path / "label.nii.gz", VOXELS % 3, read_grid(image).affine, like=image)
    label = tmp_path / "label.nii.gz"
    affine = nibabel.load(image).affine
    np.testing.assert_allclose(nibabel.load(label).affine, affine, atol=1e-6)
    corners = np.array([(0, 0, 0, 1), (23, 0, 0, 1), (0, 21, 0, 1), (0, 0, 9, 1)])
    places = (np.diag([-1, -1, 1, 1]) @ affine @ corners.T).T[:, :3]
    np.testing.assert_allclose(itk_place(label), places, atol=1e-4)
    assert warnings(label) == []


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_label_of_another_format_is_written_as_nifti_in_its_place(tmp_path, ending):
    raw(tmp_path / "a.nii")
    image = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a.nii")), str(image))
    write_label(tmp_path / "label.nii.gz", VOXELS % 3, read_grid(image).affine, like=image)
    np.testing.assert_allclose(itk_place(tmp_path / "label.nii.gz"), itk_place(image), atol=1e-4)
