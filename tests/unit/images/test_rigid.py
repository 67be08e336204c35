"""Moving a structure: hand-computed points, SciPy as the peer, and the edges of the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segstudy.images.rigid import (
    move_structure,
    rotation,
    segthor_corruption,
    translation,
)


def test_fault_matches_the_points_worked_out_by_hand():
    # (225, 160, 0): shifted to (275, 200, 15), which is the pivot, so the rotation keeps it.
    fault = segthor_corruption((512, 512, 180))
    assert fault @ [225, 160, 0, 1] == pytest.approx([275, 200, 15, 1])
    # 100 voxels along i from there: (100, 0) turned by -27 degrees is (100 cos 27, -100 sin 27).
    assert fault @ [325, 160, 0, 1] == pytest.approx(
        [275 + 89.10065241883679, 200 - 45.39904997395468, 15, 1]
    )
    # and 100 along j: (0, 100) turned by -27 degrees is (100 sin 27, 100 cos 27).
    assert fault @ [225, 260, 7, 1] == pytest.approx(
        [275 + 45.39904997395468, 200 + 89.10065241883679, 22, 1]
    )


def test_fault_is_the_same_matrix_for_any_number_of_slices():
    assert np.array_equal(segthor_corruption((512, 512, 135)), segthor_corruption((512, 512, 284)))


def test_fault_scales_pivot_and_shift_and_keeps_a_true_rotation():
    fault = segthor_corruption((96, 120, 44))
    assert fault[:3, :3] == pytest.approx(rotation(2, -27)[:3, :3])
    assert fault[:3, :3] @ fault[:3, :3].T == pytest.approx(np.eye(3))
    pivot = np.array([275 * 96 / 512, 200 * 120 / 512, 0])
    shift = np.array([50 * 96 / 512, 40 * 120 / 512, 15 * 44 / 180])
    assert fault @ [*(pivot - shift), 1] == pytest.approx([*pivot, 1])


def test_rotation_is_right_handed():
    assert rotation(2, 90) @ [1, 0, 0, 1] == pytest.approx([0, 1, 0, 1])
    assert rotation(0, 90) @ [0, 1, 0, 1] == pytest.approx([0, 0, 1, 1])
    assert rotation(1, 90) @ [0, 0, 1, 1] == pytest.approx([1, 0, 0, 1])


def test_a_voxel_goes_to_where_the_matrix_points_back_from():
    label = np.zeros((9, 9, 9), np.uint8)
    label[5, 4, 3] = 2
    moved = move_structure(label, 2, translation((1, 2, -3)))
    assert np.argwhere(moved == 2).tolist() == [[4, 2, 6]]


def test_others_are_overwritten_and_the_old_place_is_left_empty():
    label = np.zeros((8, 4, 4), np.uint8)
    label[0:2] = 2
    label[5] = 1
    label[7] = 3
    before = label.copy()
    moved = move_structure(label, 2, translation((-4, 0, 0)))
    assert np.array_equal(label, before)
    assert moved[:, 0, 0].tolist() == [0, 0, 0, 0, 2, 2, 0, 3]


def test_what_leaves_the_grid_is_lost():
    label = np.zeros((6, 6, 6), np.uint8)
    label[1:4, 2, 2] = 7
    assert (move_structure(label, 7, translation((2, 0, 0))) == 7).sum() == 2
    assert not move_structure(label, 7, translation((50, 0, 0))).any()


def test_an_absent_structure_changes_nothing():
    label = np.full((3, 3, 3), 4, np.uint8)
    assert np.array_equal(move_structure(label, 2, translation((1, 1, 1))), label)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    shift=st.tuples(*[st.floats(-9, 9)] * 3),
)
def test_agrees_with_scipy_on_the_whole_grid(seed, angles, shift):
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, (13, 11, 9)).astype(np.uint8)
    matrix = translation(shift)
    for axis, angle in enumerate(angles):
        matrix = rotation(axis, angle) @ matrix
    # SciPy's "constant" also drops what rounds to an edge voxel from outside the grid, which
    # half a voxel of padding hides: pad by one and compare inside.
    padded = np.pad((label == 2).astype(np.uint8), 1)
    to_padded = translation((1, 1, 1)) @ matrix @ translation((-1, -1, -1))
    peer = ndimage.affine_transform(padded, to_padded, order=0, mode="constant")[1:-1, 1:-1, 1:-1]
    expected = np.where(peer == 1, 2, np.where(label == 2, 0, label))
    assert np.array_equal(move_structure(label, 2, matrix), expected)
