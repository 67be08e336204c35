"""Labels on another grid: fitted without loss where each voxel is one of the image's, else refused or resampled."""

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.spatial.transform import Rotation

from orientations import TURNS, affine_of
from segstudy.errors import InputError
from segstudy.images.files import Image, read_label, write_label
from segstudy.images.fitting import fitted, on_grid, resampled
from segstudy.images.grids import Grid

SHAPE = (9, 8, 7)
AFFINE = affine_of(TURNS[5], (0.7, 0.9, 2.5), (4, -3, 10))
GRID = Grid(SHAPE, AFFINE)


def label():
    array = np.zeros(SHAPE, np.uint8)
    array[2:6, 3:7, 1:5] = np.random.default_rng(3).integers(0, 4, (4, 4, 4))
    return array


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "AIL"])
def test_another_order_of_axes_is_undone(codes):
    """Against nibabel's reorientation."""
    turn = ornt_transform(nibabel.io_orientation(AFFINE), axcodes2ornt(codes))
    stored = Image(apply_orientation(label(), turn), AFFINE @ inv_ornt_aff(turn, SHAPE))
    found = fitted(stored, GRID)
    np.testing.assert_array_equal(found.array, label())
    assert found.affine is AFFINE or np.array_equal(found.affine, AFFINE)
    assert not found.notes or f"axes pointed to {codes}" in found.notes[0]


@pytest.mark.parametrize("turn", [None, [[1, -1], [2, 1], [0, -1]]])
def test_a_crop_is_padded_back(turn):
    first, last = (1, 2, 0), (8, 8, 6)
    array = label()[tuple(map(slice, first, last))]
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [*first, 1])[:3]
    if turn is not None:
        affine = affine @ inv_ornt_aff(np.array(turn, float), array.shape)
        array = apply_orientation(array, np.array(turn, float))
    found = fitted(Image(array, affine), GRID)
    np.testing.assert_array_equal(found.array, label())
    assert "covers 7x6x6 voxels from [1, 2, 0] of the image's 9x8x7" in found.notes[0]


def test_labelled_voxels_outside_are_refused_and_empty_ones_left_out():
    array = np.pad(label(), 2)
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [-2, -2, -2, 1])[:3]
    np.testing.assert_array_equal(fitted(Image(array, affine), GRID).array, label())
    array[0, 0, :2] = 1
    with pytest.raises(InputError, match="2 labelled voxels lie outside of the image"):
        fitted(Image(array, affine), GRID)


@pytest.mark.parametrize(("voxels", "refused"), [(0.009, False), (0.011, True), (0.5, True)])
def test_an_origin_is_the_images_within_a_hundredth_of_a_voxel(voxels, refused):
    affine = AFFINE.copy()
    affine[:3, 3] += voxels * AFFINE[:3, 2]
    moved = Image(label(), affine)
    if refused:
        with pytest.raises(
            InputError, match="expected voxels that are the image's own, to 1% of a voxel"
        ):
            fitted(moved, GRID)
    else:
        found = fitted(moved, GRID)
        np.testing.assert_array_equal(found.array, label())
        assert found.notes == (
            "lies on a compatible grid; its place differs by less than 1 % of a voxel: taken for the image's",
        )


def test_what_a_qform_rounds_is_no_difference(tmp_path):
    write_label(tmp_path / "a.nii.gz", label(), AFFINE)
    image = nibabel.load(tmp_path / "a.nii.gz")
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(fitted(read_label(tmp_path / "b.nii.gz"), GRID).array, label())


def test_other_extents_from_the_same_first_voxel_are_more_likely_another_images():
    small = label()[:, :, :5]
    with pytest.raises(InputError, match="from the same first voxel: the label of another image"):
        fitted(Image(small, AFFINE), GRID)
    np.testing.assert_array_equal(fitted(Image(small, AFFINE, is_part=True), GRID).array, label())


def test_a_shift_by_whole_voxels_is_no_crop():
    affine = AFFINE.copy()
    affine[:3, 3] += AFFINE[:3, 0]
    with pytest.raises(
        InputError, match="expected the image's extents, or a part of them: the label begins at"
    ):
        fitted(Image(label(), affine), GRID)


def test_other_voxel_sizes_and_directions_are_refused():
    for affine in (
        AFFINE @ np.diag([2, 2, 1, 1.0]),
        np.block(
            [
                [Rotation.from_euler("z", 1, degrees=True).as_matrix(), np.zeros((3, 1))],
                [0, 0, 0, 1],
            ]
        )
        @ AFFINE,
    ):
        with pytest.raises(InputError, match="expected voxels that are the image's own"):
            fitted(Image(label(), affine), GRID)


def test_a_resampled_box_has_its_volume_where_it_was():
    """A box of 12 x 12 x 12 mm whose borders are those of voxels on both grids."""
    fine, coarse = np.diag([1.0, 1, 1, 1]), np.diag([-2.0, 2, 2, 1])
    coarse[:3, 3] = (22.5, 0.5, 0.5)
    array = np.zeros((24, 24, 24), np.uint16)
    array[6:18, 6:18, 6:18] = 300
    found = resampled(Image(array, fine), Grid((12, 12, 12), coarse))
    expected = np.zeros((12, 12, 12), np.uint16)
    expected[3:9, 3:9, 3:9] = 300
    np.testing.assert_array_equal(found.array, expected)
    assert "resampled from another grid (shape 24x24x24 against 12x12x12 voxels)" in found.notes[0]


def test_resampling_a_label_loses_no_voxel_unheard():
    """Two voxels of 2 mm lie beyond an image of 20 mm; a speck of 1 mm is lost between voxels of 5 mm."""
    coarse = np.diag([2.0, 2, 2, 1])
    array = np.zeros((12, 5, 5), np.uint8)
    array[3:, 2, 2] = 1
    grid = Grid((20, 10, 10), np.eye(4))
    with pytest.raises(InputError, match="2 of 9 labelled voxels lie outside of the image"):
        on_grid(Image(array, coarse), grid, resample=True)
    array[10:] = 0
    found = on_grid(Image(array, coarse), grid, resample=True)
    left = np.count_nonzero(found.array)  # a rod of one voxel thins out between the voxels' centres
    assert left < 7 * 8 and f"changed by more than 5%: 1 from 56 to {left} mm3" in found.notes[0]
    speck = np.zeros((20, 20, 20), np.uint8)
    speck[2, 2, 2], speck[5:15, 5:15, 5:15] = 3, 1
    wide = Grid((4, 4, 4), np.diag([5.0, 5, 5, 1]))
    with pytest.raises(InputError, match=r"no voxel is left of values \(voxels\) 3 \(1\) once"):
        on_grid(Image(speck, np.eye(4)), wide, resample=True)
    with pytest.raises(InputError, match="or set datasets.<name>.on_other_grid: resample_label"):
        on_grid(Image(speck, np.eye(4)), wide, resample=False)
