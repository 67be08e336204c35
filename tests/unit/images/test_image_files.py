"""Reading images: formats agree, damage and odd content are refused by name, nothing passes silently."""

import gzip
import logging

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from nibabel.nifti1 import Nifti1Image

from orientations import TURNS, affine_of, affines
from segstudy.errors import InputError
from segstudy.images.files import (
    Grid,
    compare_grids,
    read_grid,
    read_image,
    read_label,
    write_label,
    write_nifti,
)

SHAPE = (4, 5, 6)
RAMP = np.arange(120, dtype=np.int16).reshape(SHAPE)
OTHER = (".nrrd", ".mha", ".mhd")
reuse_folder = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def itk_image(array, affine, vector=False):
    """The same image as ITK sees it: axes reversed in memory, directions to left, back, head."""
    axes = (2, 1, 0, 3) if vector else (2, 1, 0)
    image = SimpleITK.GetImageFromArray(array.transpose(axes), isVector=vector)
    lps = np.diag([-1.0, -1, 1]) @ affine[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps / spacing).ravel().tolist())
    image.SetOrigin((affine[:3, 3] * (-1, -1, 1)).tolist())
    return image


# --- formats ------------------------------------------------------------------------------------


@reuse_folder
@given(affine=affines())
def test_nibabel_and_simpleitk_files_hold_the_same_grid(tmp_path, affine):
    write_nifti(tmp_path / "ours.nii.gz", RAMP, affine)
    image = itk_image(RAMP, affine)
    names = ["ours.nii.gz", "itk.nii.gz", "itk.nrrd", "itk.mha", "itk.mhd"]
    for name in names[1:]:
        SimpleITK.WriteImage(image, str(tmp_path / name))
    first = read_image(tmp_path / names[0])
    np.testing.assert_allclose(first.affine, affine, atol=1e-5)
    for name in names:
        found = read_image(tmp_path / name)
        np.testing.assert_array_equal(found.array[0], RAMP, err_msg=name)
        np.testing.assert_allclose(found.affine, affine, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(read_label(tmp_path / name).array, RAMP, err_msg=name)
        assert compare_grids(first.grid, read_grid(tmp_path / name)) == ""


@pytest.mark.parametrize("turn", TURNS[::7])
def test_simpleitk_sees_what_we_write_where_we_see_it(tmp_path, turn):
    affine = affine_of(turn, (0.7, 1.2, 3.0), (5, -8, 12))
    write_label(tmp_path / "a.nii.gz", RAMP, affine)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    for index in [(0, 0, 0), (3, 0, 5), (1, 4, 2)]:
        place = (affine @ [*index, 1])[:3] * (-1, -1, 1)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), place, atol=1e-4)
        assert image[index] == RAMP[index]


def test_channels_in_a_fourth_axis_a_fifth_axis_a_vector_or_files(tmp_path):
    affine = affine_of(TURNS[13], (1, 2, 3))
    channels = np.stack([RAMP, RAMP + 500], axis=3)
    write_nifti(tmp_path / "four.nii.gz", channels, affine)
    write_nifti(tmp_path / "five.nii.gz", channels[:, :, :, None], affine)
    vector = itk_image(channels, affine, vector=True)
    SimpleITK.WriteImage(vector, str(tmp_path / "vector.nrrd"))
    SimpleITK.WriteImage(vector, str(tmp_path / "vector.nii.gz"))
    write_nifti(tmp_path / "a.nii.gz", RAMP, affine)
    write_nifti(tmp_path / "b.nii", RAMP + 500, affine)
    for paths in (
        ["four.nii.gz"],
        ["five.nii.gz"],
        ["vector.nrrd"],
        ["vector.nii.gz"],
        ["a.nii.gz", "b.nii"],
    ):
        image = read_image([tmp_path / path for path in paths], channels=2)
        assert image.array.dtype == np.float32
        assert image.array.shape == (2, *SHAPE)
        np.testing.assert_array_equal(image.array, np.moveaxis(channels, 3, 0), err_msg=str(paths))
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)


def test_other_channels_than_asked_are_refused(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", np.stack([RAMP] * 3, axis=3), np.eye(4))
    with pytest.raises(InputError, match=r"a\.nii\.gz: shape 4x5x6x3; expected 2 channels"):
        read_image(tmp_path / "a.nii.gz", channels=2)
    with pytest.raises(InputError, match="expected 1 channel"):
        read_image(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="2 files, expected 3 channels"):
        read_image([tmp_path / "a.nii.gz"] * 2, channels=3)


def test_channels_on_different_grids_are_refused(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", RAMP, np.eye(4))
    moved = np.eye(4)
    moved[1, 3] = 2
    write_nifti(tmp_path / "b.nii.gz", RAMP, moved)
    with pytest.raises(InputError, match=r"b\.nii\.gz: other grid than .*a\.nii\.gz: origin"):
        read_image([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], channels=2)


def test_scale_factors_and_byte_order_are_honoured(tmp_path):
    image = Nifti1Image(RAMP, np.eye(4))
    image.header.set_slope_inter(2, -1024)
    stored = Nifti1Image(RAMP * 2.0 - 1024, np.eye(4), image.header)
    nibabel.save(stored, tmp_path / "scaled.nii.gz")
    scaled = read_image(tmp_path / "scaled.nii.gz").array[0]
    np.testing.assert_allclose(scaled, RAMP * 2.0 - 1024, atol=0.01)  # nibabel packs into int16
    big = Nifti1Image(RAMP, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    big.header.set_data_dtype(">i2")
    nibabel.save(big, tmp_path / "big.nii")
    assert nibabel.load(tmp_path / "big.nii").header.endianness == ">"
    np.testing.assert_array_equal(read_label(tmp_path / "big.nii").array, RAMP)
    np.testing.assert_array_equal(read_image(tmp_path / "big.nii").array[0], RAMP)


# --- damage -------------------------------------------------------------------------------------


@pytest.fixture
def noisy(tmp_path):
    """A compressed file that does not fit one deflate block's luck: random voxels."""
    path = tmp_path / "a.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    write_nifti(path, voxels, np.eye(4))
    return path, voxels


@pytest.mark.parametrize("kept", [0, 5, 200, 0.5, -9, -1])
def test_a_truncated_gzip_is_refused(noisy, kept):
    path, _ = noisy
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        read_image(path)


def test_a_wrong_checksum_is_refused_though_all_voxels_are_there(noisy):
    path, _ = noisy
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the CRC, after the last voxel
    path.write_bytes(content)
    assert nibabel.load(path).get_fdata().shape == (20, 20, 20)  # the peer notices nothing
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


def test_bytes_after_the_end_are_left_out_with_a_warning(noisy, caplog):
    path, voxels = noisy
    path.write_bytes(path.read_bytes() + b"left over from a longer file")
    with caplog.at_level(logging.WARNING, logger="segstudy"):
        np.testing.assert_array_equal(read_image(path).array[0], voxels)
    assert "28 bytes after its end" in caplog.text


def test_padding_and_several_gzip_members_are_read(noisy, caplog):
    path, voxels = noisy
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + bytes(64))
    np.testing.assert_array_equal(read_image(path).array[0], voxels)
    assert not caplog.records


def test_a_truncated_uncompressed_file_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    write_nifti(path, RAMP, np.eye(4))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"a\.nii"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", *OTHER])
def test_files_that_are_no_images_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (b"", b"patient,age\n1,60\n" * 40):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"a{suffix}"):
            read_image(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_image(path)
    path.mkdir()
    with pytest.raises(InputError, match=f"a{suffix}"):
        read_image(path)


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    with pytest.raises(InputError, match=r"expected an image file \(\.nii"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("compressed", [False, True])
def test_no_damaged_header_gives_a_stack_trace(tmp_path, compressed):
    path = tmp_path / ("a.nii.gz" if compressed else "a.nii")
    whole = Nifti1Image(RAMP, np.eye(4)).to_bytes()
    draw = np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in draw.integers(0, 352, 3):
            content[place] = draw.integers(0, 256)
        path.write_bytes(gzip.compress(bytes(content), 1) if compressed else content)
        for read in (read_image, read_label, read_grid):
            try:
                read(path)
            except InputError as error:
                assert str(path) in str(error)
                refused += 1
    assert 50 < refused < 440


# --- content ------------------------------------------------------------------------------------


def _with_affine(path, affine):
    image = Nifti1Image(RAMP, np.eye(4))
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    path.write_bytes(image.header.binaryblock + bytes(4) + RAMP.tobytes(order="F"))


@pytest.mark.parametrize(
    "column", [(np.nan, 0, 0), (np.inf, 0, 0), (0, 0, 0), (0, 1, 0), (1e-5, 1, 1e-5)]
)
def test_an_affine_that_places_no_voxel_is_refused(tmp_path, column):
    affine = np.eye(4)
    affine[:3, 0] = column
    _with_affine(tmp_path / "a.nii", affine)
    for read in (read_image, read_label, read_grid):
        with pytest.raises(InputError, match=r"a\.nii: the affine"):
            read(tmp_path / "a.nii")


def test_an_origin_that_is_nan_is_refused(tmp_path):
    affine = np.eye(4)
    affine[2, 3] = np.nan
    _with_affine(tmp_path / "a.nii", affine)
    with pytest.raises(InputError, match="not finite"):
        read_grid(tmp_path / "a.nii")


@pytest.mark.parametrize("size_mm", [3e-4, 50.0])
def test_voxels_of_microscopy_and_huge_ones_are_fine(tmp_path, size_mm):
    _with_affine(tmp_path / "a.nii", np.diag([size_mm, size_mm, 2 * size_mm, 1]))
    assert read_grid(tmp_path / "a.nii").spacing_mm == pytest.approx(
        (size_mm, size_mm, 2 * size_mm), rel=1e-6
    )


def test_colour_and_complex_voxels_are_refused(tmp_path):
    rgb = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii.gz")
    wave = Nifti1Image((RAMP + 1j).astype(np.complex64), np.eye(4))
    nibabel.save(wave, tmp_path / "complex.nii.gz")
    for read in (read_image, read_label):
        with pytest.raises(InputError, match=r"rgb\.nii\.gz: RGB voxels"):
            read(tmp_path / "rgb.nii.gz")
        with pytest.raises(InputError, match=r"complex\.nii\.gz: complex voxels"):
            read(tmp_path / "complex.nii.gz")


def test_real_files_with_faults(real_data):
    oddities = real_data / "faults" / "oddities"
    with pytest.raises(InputError, match="complex"):
        read_image(oddities / "complex_image.nii.gz")
    with pytest.raises(InputError, match="RGB"):
        read_image(oddities / "ct_perfusion.nii.gz")
    for name in ("LPS", "PIR", "RAS", "AIL"):
        path = oddities / f"{name}.nii.gz"
        assert read_grid(path).orientation == name
        peer = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        np.testing.assert_allclose(read_image(path).array[0], peer.transpose(2, 1, 0), rtol=1e-6)


# --- labels -------------------------------------------------------------------------------------


def test_float_labels_with_whole_numbers_are_read_as_integers(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", (RAMP % 3).astype(np.float64)[..., None], np.eye(4))
    label = read_label(tmp_path / "a.nii.gz")
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array, RAMP % 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"value 0\.5 in 1 of 120 voxels; expected whole numbers"),
        (np.nan, "non-finite"),
        (np.inf, "non-finite"),
        (-1, "label values from -1 to 2; expected 0 to 65535$"),
        (-109, "label values from -109 to 2; expected 0 to 65535; it looks like an image"),
        (70000, "to 70000; expected 0 to 65535"),
    ],
)
def test_labels_that_are_no_labels_are_refused(tmp_path, value, message):
    array = (RAMP % 3).astype(np.float32)
    array[1, 2, 3] = value
    write_nifti(tmp_path / "a.nii.gz", array, np.eye(4))
    with pytest.raises(InputError, match=message):
        read_label(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("off", [1e-7, 9e-4])
def test_labels_near_whole_numbers_are_rounded_and_say_how_far_off_they_were(tmp_path, off):
    truth = RAMP % 3
    write_nifti(tmp_path / "a.nii.gz", (truth * np.float32(1 - off / 2)).astype("f4"), np.eye(4))
    label = read_label(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(label.array, truth)
    assert label.integer_deviation == pytest.approx(off, rel=0.2)
    write_label(tmp_path / "b.nii.gz", truth, np.eye(4))
    assert read_label(tmp_path / "b.nii.gz").integer_deviation == 0


def test_a_label_scaled_by_its_header_is_refused_with_the_cause_and_enough_digits(tmp_path):
    image = nibabel.Nifti1Image((RAMP % 3).astype(np.int16) * 100, np.eye(4))
    image.header.set_slope_inter(0.0101, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"value 1\.00\d+, 2\.0\d+ in 80 of 120 voxels") as caught:
        read_label(tmp_path / "a.nii.gz")
    assert "multiplies the stored numbers by 0.0101 (scl_slope)" in str(caught.value)
    write_nifti(tmp_path / "b.nii.gz", np.where(RAMP == 7, 1.00123, RAMP % 3), np.eye(4))
    with pytest.raises(InputError, match=r"value 1\.00123 in 1 of .*interpolation"):
        read_label(tmp_path / "b.nii.gz")


def test_a_label_with_channels_is_refused(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", np.stack([RAMP] * 2, axis=3), np.eye(4))
    with pytest.raises(InputError, match="shape 4x5x6x2; expected a 3D label map"):
        read_label(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("highest", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)]
)
def test_labels_are_written_small_and_come_back(tmp_path, highest, dtype):
    array = np.where(RAMP == 7, highest, RAMP.astype(int) % 5)
    affine = affine_of(TURNS[30], (0.7, 0.8, 2.5), (10, 5, -15))
    write_label(tmp_path / "a.nii.gz", array, affine)
    write_label(tmp_path / "b.nii.gz", array, affine)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    label = read_label(tmp_path / "a.nii.gz")
    assert label.array.dtype == dtype
    np.testing.assert_array_equal(label.array, array)
    np.testing.assert_allclose(label.affine, affine, atol=1e-6)


@pytest.mark.parametrize("value", [-1, 65536])
def test_a_label_that_would_wrap_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="expected 0 to 65535"):
        write_label(tmp_path / "a.nii.gz", np.full(SHAPE, value), np.eye(4))
    assert not list(tmp_path.iterdir())


# --- comparing grids ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda affine: affine @ np.diag([1.01, 1, 1, 1]), "spacing"),
        (lambda affine: affine @ np.diag([1, -1, 1, 1]), "orientation"),
        (lambda affine: affine + np.eye(4)[:, 3:] @ np.array([[0, 0, 0, 0.0]]), ""),
        (lambda affine: affine + np.outer([0.5, 0, 0, 0], [0, 0, 0, 1]), "origin"),
        (lambda affine: affine + np.outer([0.001, 0, 0, 0], [0, 0, 0, 1]), ""),
        (lambda affine: affine_of(np.eye(3), (1, 1, 2), (0, 0, 3)), "direction"),
    ],
)
def test_differences_between_grids_are_named(change, word):
    affine = affine_of(np.eye(3), (1, 1, 2))
    message = compare_grids(Grid(SHAPE, affine), Grid(SHAPE, change(affine)))
    assert message.startswith(word)
    assert bool(message) == bool(word)


def test_other_shapes_are_named_first():
    assert (
        compare_grids(Grid((1, 2, 3), np.eye(4)), Grid((1, 2, 4), -np.eye(4)))
        == "shape 1x2x3 against 1x2x4 voxels"
    )


def test_names_in_any_script_stay_apart_and_safe():
    from segstudy.images.names import SAFE_NAME, safe_name

    given = [
        "李_01",
        "王_01",
        "李",
        "王",
        "Иванов_1",
        "Петров_1",
        "홍길동",
        "محمد",
        "scan 李",
        "scan 王",
    ]
    safe = [safe_name(name) for name in given]
    assert len({name.lower() for name in safe}) == len(given)
    assert all(SAFE_NAME.fullmatch(name) for name in safe)
    assert safe == [safe_name(name) for name in given]
    latin = {"P01_early": "P01_early", "Müller 2": "Mueller_2", "José^A": "Jose_A", "(a)": "a"}
    assert {name: safe_name(name) for name in latin} == latin
