"""The sweep against planted faults: angle, shift, axis, frame, and what it must not claim."""

import numpy as np
import pytest
from repair_shapes import ellipsoid, lobed, moved

from segstudy.images.rigid import rotation, segthor_corruption, translation
from segstudy.repair.sweep import iou, refine, replayed_iou, superior_axis, sweep

SHAPE = (80, 76, 40)
CENTRE = (40, 37, 20)
RADII = (20, 13, 9)


def planted(axis, angle_deg, shift, spacing_mm=None, shape=SHAPE, centre=CENTRE):
    scale = np.diag([*(spacing_mm or (1, 1, 1)), 1.0])
    turn = np.linalg.inv(scale) @ rotation(axis, angle_deg) @ scale
    return translation(centre) @ turn @ translation(np.negative(centre)) @ translation(shift)


def error_at_centroid(found, fault, wrong):
    """How far apart the two faults send the middle of the structure, in voxels."""
    centroid = np.append(np.argwhere(wrong).mean(axis=0), 1)
    return np.linalg.norm(((found - fault) @ centroid)[:3])


def apart(one, other):
    return abs((one - other + 180) % 360 - 180)


@pytest.mark.parametrize("angle_deg", [-27, -26.6, -153.21, -90, 8.44, 33.3, 121.9])
def test_planted_fault_is_found(angle_deg):
    right = lobed(SHAPE, CENTRE, RADII)
    # After a quarter turn a fraction of a voxel leaves no trace, so nobody can find it.
    fault = planted(2, angle_deg, (5, -4, 4) if angle_deg == -90 else (5.3, -3.6, 4))
    wrong = moved(right, fault)
    found = sweep(right, wrong, axis=2)
    assert apart(found.angle_deg, angle_deg) <= 0.05
    assert error_at_centroid(found.matrix, fault, wrong) <= 0.25
    assert found.iou >= 0.999
    assert found.rotation == "determined"
    low, high = found.peak_deg
    assert low <= found.angle_deg <= high
    assert high - low < 4


def test_peak_holds_the_true_angle_where_voxels_cannot_tell_it():
    # A turn by 179 degrees steps at few rows of a small structure; many angles give the same mask.
    right = lobed(SHAPE, CENTRE, (8, 6, 5))
    found = sweep(right, moved(right, planted(2, 179, (5, -4, 4))), axis=2)
    low, high = found.peak_deg
    assert low <= 179 <= high
    assert high - low > 2


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing_mm", [None, (0.9, 1.4, 2.7), (2.0, 1.1, 0.8)])
def test_any_axis_in_either_frame(axis, spacing_mm):
    shape, centre = (72, 70, 68), (36, 35, 34)
    right = lobed(shape, centre, (15, 11, 13))
    shift = [2.4, -3.3, 1.2]
    shift[axis] = 3
    fault = planted(axis, 41.3, shift, spacing_mm, shape, centre)
    wrong = moved(right, fault)
    found = sweep(right, wrong, axis, spacing_mm)
    assert apart(found.angle_deg, 41.3) <= 0.05
    assert error_at_centroid(found.matrix, fault, wrong) <= 0.25
    assert found.iou >= 0.999


def test_wrong_frame_cannot_explain_a_turn_in_millimetres():
    spacing_mm = (1.0, 1.6, 2.0)
    right = lobed(SHAPE, CENTRE, RADII)
    wrong = moved(right, planted(2, 50, (0, 0, 0), spacing_mm))
    assert sweep(right, wrong, 2, spacing_mm).iou > 0.999
    assert sweep(right, wrong, 2).iou < 0.95


def test_segthor_fault_is_found_with_its_sign_and_order():
    shape = (128, 128, 45)
    right = lobed(shape, (66, 60, 25), (19, 14, 8))
    fault = segthor_corruption(shape)
    found = sweep(right, moved(right, fault), axis=2)
    assert found.angle_deg == pytest.approx(-27, abs=0.05)
    # The point that the fault shifts onto its pivot, worked out by hand: (225, 160) * 128 / 512.
    sent = found.matrix @ [56.25, 40, 0, 1]
    assert sent[:2] == pytest.approx([68.75, 50], abs=0.1)


def test_the_other_order_of_the_factors_would_be_told_apart():
    # T(shift) . T(pivot) . R . T(-pivot): the shift is not turned. Same shape, other place.
    pivot = translation((34, 25, 0))
    other = translation((6, 5, 2)) @ pivot @ rotation(2, -27) @ np.linalg.inv(pivot)
    asked = pivot @ rotation(2, -27) @ np.linalg.inv(pivot) @ translation((6, 5, 2))
    right = lobed(SHAPE, CENTRE, RADII)
    found = sweep(right, moved(right, other), axis=2).matrix
    assert np.abs(found - other)[:3, 3].max() < 0.1
    assert np.abs(found - asked)[:2, 3].max() > 1


def test_part_outside_the_grid_does_not_mislead():
    shape, centre = (60, 60, 40), (48, 40, 10)
    right = lobed(shape, centre, (12, 9, 8))
    fault = planted(2, -27, (-9, -3, 7), None, shape, centre)
    wrong = moved(right, fault)
    assert wrong.sum() < 0.6 * right.sum()
    found = sweep(right, wrong, axis=2)
    assert apart(found.angle_deg, -27) <= 0.3  # half of a small structure is left
    assert found.peak_deg[0] <= -27 <= found.peak_deg[1]
    assert error_at_centroid(found.matrix, fault, wrong) <= 0.25
    assert found.iou >= 0.999


@pytest.mark.parametrize("radius", [4, 12])
def test_a_sphere_leaves_the_rotation_undetermined(radius):
    right = ellipsoid((60, 60, 60), (30, 30, 30), (radius,) * 3)
    found = sweep(right, moved(right, segthor_corruption((60, 60, 60))), axis=2)
    assert found.rotation == "undetermined"
    assert found.peak_deg == (-180, 180)
    assert found.iou > 0.95


def test_a_half_turn_of_an_ellipsoid_is_ambiguous():
    right = ellipsoid(SHAPE, CENTRE, (20, 12, 9))
    found = sweep(right, moved(right, planted(2, 30, (3, 2, 1))), axis=2)
    assert found.rotation == "ambiguous"
    assert sorted([apart(found.angle_deg, 30), apart(found.rival_deg, 30)]) == pytest.approx(
        [0, 180], abs=1.5
    )


def test_curve_covers_the_circle_and_peaks_at_the_optimum():
    right = lobed(SHAPE, CENTRE, RADII)
    found = sweep(right, moved(right, planted(2, 75.3, (2, 2, 0))), axis=2)
    assert found.angles_deg[0] == -180
    assert found.angles_deg[-1] > 178
    assert (np.diff(found.angles_deg) > 0).all()
    assert found.ious.max() == pytest.approx(found.iou, abs=1e-3)
    assert apart(found.angles_deg[found.ious.argmax()], 75.3) < 0.2


def test_two_voxels_do_not_fail():
    right = np.zeros((9, 9, 9), bool)
    right[4, 4, 3:5] = True
    found = sweep(right, moved(right, translation((1, -2, 1))), axis=2)
    assert found.iou == 1
    assert found.shift_voxels == pytest.approx((1, -2, 1), abs=0.5)
    assert found.rotation == "undetermined"


def test_score_of_the_sweep_is_the_score_of_the_moved_mask():
    right = lobed(SHAPE, CENTRE, RADII)
    fault = planted(2, 17.7, (30, 1, 12))  # part of it leaves the grid at two sides
    wrong = moved(right, fault)
    other = planted(2, 25, (29, 2, 11))
    expected = iou(moved(right, other), wrong)
    assert replayed_iou(right, wrong, other) == expected
    found = sweep(right, wrong, axis=2)
    assert found.iou == pytest.approx(iou(moved(right, found.matrix), wrong), abs=1e-12)


@pytest.mark.parametrize(
    ("affine", "axis"),
    [
        (np.diag([-1.0, -1, 2.5, 1]), 2),
        (np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1]]), 1),
        (np.array([[0, 1.0, 0, 0], [0, 0, 1, 0], [5, 0, 0, 0], [0, 0, 0, 1]]), 0),
        # Oblique by 20 degrees about left-right, with thin slices along another axis.
        (rotation(0, 20) @ np.diag([0.5, 4.0, 1, 1]), 2),
    ],
)
def test_axis_nearest_to_foot_head(affine, axis):
    assert superior_axis(affine) == axis


def test_same_answer_each_time():
    right = lobed(SHAPE, CENTRE, RADII)
    wrong = moved(right, planted(2, 9.87, (2, 2, 1)))
    one, other = sweep(right, wrong, 2), sweep(right, wrong, 2)
    assert np.array_equal(one.matrix, other.matrix)
    assert np.array_equal(one.ious, other.ious)


@pytest.mark.parametrize("spacing_mm", [None, (1.0, 1.0, 2.0)])
def test_tilt_and_scale_are_found_where_asked_for(spacing_mm):
    shape = (56, 56, 40)
    right = lobed(shape, (28, 26, 20), (13, 9, 8))
    stretch = np.diag([*(spacing_mm or (1, 1, 1)), 1.0])
    pivot = translation((stretch @ (28, 26, 20, 1))[:3])
    turn = rotation(2, -24) @ rotation(0, 7) @ rotation(1, -5) @ np.diag([1.06, 1.06, 1.06, 1])
    fault = pivot @ turn @ np.linalg.inv(pivot) @ translation((4, -3, 2))
    fault = np.linalg.inv(stretch) @ fault @ stretch
    wrong = moved(right, fault)
    swept = sweep(right, wrong, 2, spacing_mm)
    scores = [swept.iou]
    for ways in (("tilt",), ("scale",), ("tilt", "scale")):
        found = refine(right, wrong, swept.matrix, spacing_mm, ways, 0.05)
        scores.append(replayed_iou(right, wrong, found))
    assert scores[0] < 0.9
    assert scores[3] > 0.97
    assert scores[3] > max(scores[1:3]) >= min(scores[1:3]) >= scores[0]
    in_space = (stretch @ found @ np.linalg.inv(stretch))[:3, :3]
    assert np.cbrt(np.linalg.det(in_space)) == pytest.approx(1.06, abs=0.01)
    assert error_at_centroid(found, fault, wrong) < 0.3


def test_nothing_more_is_found_where_there_is_nothing_more():
    right = lobed(SHAPE, CENTRE, (9, 6, 5))
    found = refine(right, right, np.eye(4), None, ("tilt", "scale"), 0.5)
    assert found == pytest.approx(np.eye(4), abs=1e-9)
