"""Slices: the right way up whatever the stored axes, and in the right proportions."""

import itertools

import numpy as np
import pytest
from nibabel import orientations

from segstudy.errors import InputError
from segstudy.images.files import Grid, Image, write_label, write_nifti
from segstudy.planes import NORMAL_AXIS
from segstudy.publish import slices

AXES = [
    "".join(letters)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*order)
]


def _image(axes: str, spacing=(1.0, 2.0, 3.0)) -> Image:
    """A volume of 6 x 8 x 10 (RAS) with a voxel at the patient's right, front and top, stored as `axes`."""
    ras = np.zeros((6, 8, 10), np.uint8)
    ras[5, 7, 9] = 1
    affine = np.diag([*spacing, 1.0])
    turn = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(axes)
    )
    stored = orientations.apply_orientation(ras, turn)
    return Image(stored, affine @ orientations.inv_ornt_aff(turn, ras.shape))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("plane", NORMAL_AXIS)
def test_the_display_is_radiological_for_every_stored_orientation(axes, plane):
    image = _image(axes)
    index = slices.fullest(image, plane, [1])
    where = slices.cut(image.grid, plane, index)
    flat = where.take(image.array)
    # Right and front are on the left, front and head are on top: always the upper left corner.
    assert np.argwhere(flat).tolist() == [[0, 0]]
    sizes = {"axial": ((8, 6), (2, 1)), "coronal": ((10, 6), (3, 1)), "sagittal": ((10, 8), (3, 2))}
    assert flat.shape == sizes[plane][0]
    assert where.pixel_mm == pytest.approx(sizes[plane][1])


@pytest.mark.parametrize(
    ("shape", "spacing", "plane"),
    [
        ((20, 20, 20), (1, 1, 1), "axial"),
        ((20, 20, 20), (1, 1, 3), "axial"),
        ((20, 20, 20), (3, 1, 1), "sagittal"),
        ((20, 20, 20), (1, 4, 1), "coronal"),
        ((20, 20, 20), (1.2, 1, 1), "axial"),
        ((20, 1, 20), (1, 1, 1), "coronal"),
    ],
)
def test_the_plane_of_the_finest_pixels_is_shown(shape, spacing, plane):
    assert slices.best_plane(Grid(shape, np.diag([*spacing, 1.0]))) == plane


def test_the_fullest_slice_is_that_with_most_voxels():
    label = np.zeros((5, 5, 4), np.uint8)
    label[:2, :2, 1] = 1
    label[:3, :3, 2] = 2
    label[:, :, 3] = 9
    assert slices.fullest(Image(label, np.eye(4)), "axial", [1, 2]) == 2
    assert slices.fullest(Image(label, np.eye(4)), "axial", [5]) == 2  # the middle, where none is


def test_a_slice_read_from_a_file_is_that_of_the_whole_volume(tmp_path):
    volume = np.random.default_rng(1).normal(0, 100, (7, 6, 5)).astype(np.float32)
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    write_nifti(tmp_path / "a.nii.gz", volume, affine)
    write_nifti(tmp_path / "b.nii.gz", np.stack([volume, volume + 1], axis=3), affine)
    grid = Grid(volume.shape, affine)
    for plane in NORMAL_AXIS:
        where = slices.cut(grid, plane, 3)
        for name in ("a", "b"):
            flat = slices.read_slice((tmp_path / f"{name}.nii.gz",), where, grid)
            np.testing.assert_array_equal(flat, where.take(volume))


def test_another_grid_is_refused(tmp_path):
    write_label(tmp_path / "p.nii.gz", np.zeros((4, 4, 4), np.uint8), np.diag([1, 1, 2.0, 1]))
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(InputError, match=r"p\.nii\.gz: lies on another grid.*spacing"):
        slices.read_label_slice(tmp_path / "p.nii.gz", slices.cut(grid, "axial", 0), grid)


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"no image")
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(InputError, match=r"x\.nii\.gz: not readable"):
        slices.read_slice((tmp_path / "x.nii.gz",), slices.cut(grid, "axial", 0), grid)


def test_ct_is_shown_in_a_soft_tissue_window_and_others_by_percentiles():
    ct = np.array([[-1000.0, -160.0, 40.0, 240.0, 3000.0]])
    np.testing.assert_allclose(slices.grey(ct, None, "CT"), [[0, 0, 0.5, 1, 1]])
    np.testing.assert_allclose(slices.grey(ct, (-1000, 3000), "CT")[0, [0, 4]], [0, 1])
    mr = np.concatenate([np.zeros(50), np.linspace(1, 100, 100)])[None]
    shown = slices.grey(mr, None, "MR")
    assert shown.min() == 0
    assert shown.max() == 1
    assert np.isfinite(slices.grey(np.full((2, 2), np.nan), None, "MR")).all()


def test_the_box_shows_the_mask_whole_and_square():
    mask = np.zeros((100, 60), bool)
    mask[40:60, 20:26] = True
    box = slices.around(mask, (1.0, 2.0))
    assert box.of(mask).sum() == mask.sum()
    height_mm, width_mm = box.size_mm((1.0, 2.0))
    assert height_mm == pytest.approx(width_mm, abs=2)
    whole = slices.around(np.zeros((100, 60), bool), (1.0, 2.0))
    assert whole.stop == (100, 60)
