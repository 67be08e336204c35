"""Preparing and restoring: positions, values and labels survive the way there and back."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orientations import TURNS, affine_of, affines, world
from segstudy.boxes import Box
from segstudy.errors import InputError
from segstudy.images.files import Grid, Image, read_image, read_label
from segstudy.images.geometry import ras_grid
from segstudy.images.names import grid_name, parse_grid
from segstudy.images.overlap import dice
from segstudy.images.plan import Geometry, Plan, Restore
from segstudy.images.prepare import IGNORED, check_size, prepare, prepare_label, restore

MR = Geometry((1, 1, 1), "nonzero", 2.0, "zscore", 3.0)


def one_hot(classes, count):
    return np.stack([(classes == index).astype(np.float32) for index in range(count)])


def blobs(grid, values):
    """A label of an ellipsoid within another in the middle of a grid, with these values."""
    centre = grid.affine @ [*(np.array(grid.shape) / 2 - 0.5), 1]
    places = world(grid.affine, grid.shape) - centre[:3].reshape(3, 1, 1, 1)
    extent = np.abs(grid.affine[:3, :3]) @ grid.shape
    radii = np.reshape(0.33 * extent, (3, 1, 1, 1))
    distance = np.sqrt(np.square(places / radii).sum(axis=0))
    return np.select([distance < 0.65, distance < 1], values).astype(np.uint16)


# --- positions ----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    affines(low_mm=0.6, high_mm=2.0),
    st.tuples(*[st.floats(0.5, 2.5)] * 3),
    st.sampled_from(["none", "nonzero"]),
)
def test_a_place_in_the_patient_stays_where_it_is(affine, spacing, crop):
    # Three channels that hold x, y, z in mm, and a frame of zeros where one is to be cropped.
    shape = (22, 26, 24)
    image = (world(affine, shape) + 1000).astype(np.float32)
    if crop == "nonzero":
        image = np.pad(image[:, 3:-3, 2:-4, 1:-2], [(0, 0), (3, 3), (2, 4), (1, 2)])
    geometry = Geometry(spacing, crop, 0.0, "other", 100.0)
    array, way = prepare(Image(image, affine), geometry)
    assert array.shape[1:] == way.shape == way.grid.shape
    assert array.flags.c_contiguous
    assert way.grid.orientation == "RAS"
    # Away from the border, where a ramp ends.
    inner = (slice(None), *(slice(size // 3, size - size // 3) for size in way.shape))
    expected = world(way.grid.affine, way.shape) + 1000
    np.testing.assert_allclose(array[inner], expected[inner], atol=0.02)


@settings(max_examples=40, deadline=None)
@given(affines(), st.tuples(*[st.floats(0.5, 5)] * 3))
def test_the_extent_is_kept_and_the_spacing_up_to_whole_voxels(affine, spacing):
    image = Image(np.ones((1, 24, 18, 30), np.float32), affine)
    _, way = prepare(image, Geometry(spacing, "none", 0, "other", 3))
    native, new = ras_grid(image.grid), way.grid
    for corner in (-0.5, 0.5):
        # The outer corners of the first and of the last voxel.
        ends = [
            grid.affine[:3, :3] @ (np.multiply(grid.shape, corner + 0.5) - 0.5) + grid.affine[:3, 3]
            for grid in (native, new)
        ]
        np.testing.assert_allclose(*ends, atol=1e-6)
    for got, asked, size in zip(new.spacing_mm, spacing, new.shape, strict=True):
        extent = got * size
        assert size == max(1, round(extent / asked)) or abs(extent / asked % 1 - 0.5) < 1e-6


def test_unchanged_spacing_is_not_interpolated():
    draw = np.random.default_rng(0)
    affine = affine_of(TURNS[29], (1, 1, 1))
    array = draw.normal(size=(2, 10, 12, 14)).astype(np.float32)
    prepared, way = prepare(Image(array, affine), MR)
    assert way.unchanged
    assert sorted(prepared.ravel()) == sorted(array.ravel())


def test_ct_is_clipped_before_metal_can_ring():
    image = np.full((1, 20, 20, 20), 40.0, np.float32)
    image[0, 10, 10, 10] = 31743
    image[0, 5, 5, 5] = -32768
    geometry = Geometry((0.7, 0.7, 0.7), "none", 0, "ct", 3)
    array, _ = prepare(Image(image, np.eye(4)), geometry)
    assert array.max() <= 3071
    assert array.min() >= -1024
    assert array[0, :5].max() == pytest.approx(40, abs=5)


def test_a_zero_background_stays_exactly_zero():
    image = np.zeros((2, 30, 30, 30), np.float32)
    image[:, 8:22, 8:22, 8:22] = np.random.default_rng(0).normal(500, 50, (2, 14, 14, 14))
    array, _ = prepare(
        Image(image, np.eye(4)), dataclasses.replace(MR, spacing_mm=(0.8, 0.8, 0.8), margin_mm=6)
    )
    zero = (array == 0).all(axis=0)
    assert zero[:5].all()
    assert 0.5 < zero.mean() < 0.9
    assert np.abs(array[:, ~zero]).min() > 100  # no thin shell of ringing around it


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    image = np.zeros((1, 4, 4, 4), np.float32)
    image[0, 1, 1, 1] = value
    with pytest.raises(InputError, match=r"scan\.nii\.gz: voxels that are not finite"):
        prepare(Image(image, np.eye(4)), MR, "scan.nii.gz")


@pytest.mark.parametrize(
    ("size_mm", "words"),
    [
        # 40,000 x 40,000 x 40,000 float32 values
        (
            1000,
            "40x40x40 voxels of 1000x1000x1000 mm would become 40000x40000x40000 of 1x1x1 mm: 2.384e",
        ),
        (0.003, "40x40x40 voxels of 0.003x0.003x0.003 mm would become 1x1x1 of 1x1x1 mm. Correct"),
    ],
)
def test_a_grid_that_no_machine_holds_or_that_holds_nothing_is_refused(size_mm, words):
    image = np.random.default_rng(0).random((1, 40, 40, 40), np.float32) + 1
    with pytest.raises(InputError) as error:
        prepare(Image(image, np.diag([size_mm] * 3 + [1])), MR, "scan.nii.gz (case p1)")
    assert str(error.value).startswith(f"scan.nii.gz (case p1): {words}")


def test_memory_is_counted_for_all_arrays_on_the_grid(monkeypatch):
    monkeypatch.setattr(
        "segstudy.images.prepare.psutil.virtual_memory", lambda: SimpleNamespace(total=4 * 1000 * 3)
    )
    way = Restore(Grid((10, 10, 10), np.eye(4)), Box((0, 0, 0), (10, 10, 10)), (10, 10, 10), None)
    check_size(way, 3, (1, 1, 1), "scan.nii.gz")
    with pytest.raises(
        InputError, match=r"scan\.nii\.gz: 10x10x10 voxels .* GiB, and the machine has"
    ):
        check_size(way, 4, (1, 1, 1), "scan.nii.gz")


# --- labels there and back ----------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(affines(low_mm=0.7, high_mm=2.0), st.tuples(*[st.floats(0.6, 1.2)] * 3))
def test_smooth_labels_survive_the_way_there_and_back(affine, factors):
    grid = Grid((34, 38, 36), affine)
    label = blobs(grid, (7, 300))
    image = Image(np.ones((1, *grid.shape), np.float32), affine)
    spacing = tuple(np.multiply(ras_grid(grid).spacing_mm, factors))
    _, way = prepare(image, dataclasses.replace(MR, spacing_mm=spacing))
    classes = prepare_label(Image(label, affine), way, (300, 7))
    assert classes.dtype == np.uint8
    assert classes.shape == way.shape
    back = restore(one_hot(classes, 3), way)
    assert back.shape == label.shape
    expected = np.select([label == 300, label == 7], [1, 2])
    assert dice(expected, back, 3).min() > 0.95


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TURNS), st.tuples(*[st.floats(0.5, 4)] * 3), st.integers(0, 99))
def test_at_unchanged_spacing_every_voxel_comes_back(turn, spacing, seed):
    affine = affine_of(turn, spacing, (5, -4, 8))
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 4, (6, 7, 8)).astype(np.uint8)
    image = np.zeros((1, 6, 7, 8), np.float32)
    image[0, 1:5, 2:6, 1:7] = 1
    _, way = prepare(
        Image(image, affine),
        Geometry(ras_grid(Grid((6, 7, 8), affine)).spacing_mm, "nonzero", 0, "zscore", 3),
    )
    back = restore(one_hot(prepare_label(Image(label, affine), way, (1, 2, 3)), 4), way)
    expected = np.where(image[0] > 0, label, 0)  # outside the crop: background
    np.testing.assert_array_equal(back, expected)


def test_classes_follow_the_order_of_the_values_and_others_are_background():
    label = np.arange(8, dtype=np.uint16).reshape(2, 2, 2) * 100
    _, way = prepare(Image(np.ones((1, 2, 2, 2), np.float32), np.eye(4)), MR)
    found = prepare_label(Image(label, np.eye(4)), way, (300, 100, 5000))
    np.testing.assert_array_equal(found.ravel(), [0, 2, 0, 1, 0, 0, 0, 0])


def test_a_label_of_another_shape_is_refused():
    _, way = prepare(Image(np.ones((1, 4, 4, 4), np.float32), np.eye(4)), MR)
    with pytest.raises(InputError, match="expected the same"):
        prepare_label(Image(np.ones((4, 4, 5), np.uint8), np.eye(4)), way, (1,))


def test_more_structures_than_a_byte_holds_are_refused():
    _, way = prepare(Image(np.ones((1, 4, 4, 4), np.float32), np.eye(4)), MR)
    label = Image(np.ones((4, 4, 4), np.uint16), np.eye(4))
    assert (prepare_label(label, way, range(254, 0, -1)) == 254).all()
    with pytest.raises(InputError, match="255 structures"):
        prepare_label(label, way, range(1, 256))


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.8, 1.3, 2.0)])
def test_what_nobody_has_labelled_stays_so_on_any_grid(spacing_mm):
    """As if it were one more structure; which of its values a voxel has is nothing to the result."""
    label = np.zeros((20, 18, 16), np.uint16)
    label[4:12, 4:12, 4:12], label[10:, 8:], label[:, :, 13:] = 7, 3, 3
    _, way = prepare(
        Image(np.ones((1, *label.shape), np.float32), np.eye(4)),
        dataclasses.replace(MR, spacing_mm=spacing_mm),
    )
    expected = prepare_label(Image(label, np.eye(4)), way, (7, 3))
    expected = np.where(expected == 2, np.uint8(IGNORED), expected)
    assert (expected == IGNORED).any() and (expected == 1).any() and (expected == 0).any()
    garbage = np.random.default_rng(0).choice([3, 200, 60000], label.shape)
    for marked in (label, np.where(label == 3, garbage, label).astype(np.uint16)):
        found = prepare_label(Image(marked, np.eye(4)), way, (7,), (3, 200, 60000))
        np.testing.assert_array_equal(found, expected)


def test_labels_are_smoother_than_by_nearest_neighbour():
    # A ball at 2 mm brought to 0.5 mm: how far its volume's border lies from the true sphere.
    affine = np.diag([2.0, 2, 2, 1])
    places = world(affine, (24, 24, 24)) - 23
    label = (np.square(places).sum(axis=0) < 15**2).astype(np.uint8)
    _, way = prepare(
        Image(np.ones((1, 24, 24, 24), np.float32), affine),
        dataclasses.replace(MR, spacing_mm=(0.5,) * 3),
    )
    truth = np.square(world(way.grid.affine, way.shape) - 23).sum(axis=0) < 15**2
    ours = prepare_label(Image(label, affine), way, (1,))
    nearest = label.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    # A blur would make it smoother still, and smaller.
    assert (ours != truth).mean() < 0.75 * (nearest != truth).mean()


def test_slices_of_a_coarse_axis_stay_apart():
    # 5 mm slices brought to 1 mm: the label changes between slices, never within one.
    affine = np.diag([1.0, 1, 5, 1])
    label = np.zeros((10, 10, 6), np.uint8)
    label[3:7, 3:7, 2:4] = 1
    _, way = prepare(Image(np.ones((1, 10, 10, 6), np.float32), affine), MR)
    assert way.coarse == 2
    found = prepare_label(Image(label, affine), way, (1,))
    np.testing.assert_array_equal(found, label.repeat(5, axis=2))
    np.testing.assert_array_equal(restore(one_hot(found, 2), way), label)


def test_restore_interpolates_probabilities_before_it_decides():
    # Between a voxel of 0.9 and one of 0.3, the border (0.5) lies at two thirds, not half way.
    probabilities = np.zeros((2, 2, 1, 1), np.float32)
    probabilities[1] = [[[0.9]], [[0.3]]]
    probabilities[0] = 1 - probabilities[1]
    way = Restore(Grid((40, 1, 1), np.eye(4)), Box((0, 0, 0), (40, 1, 1)), (2, 1, 1), None)
    found = restore(probabilities, way).ravel()
    # Centres at 10 and 30 of 40; 0.9 - 0.6 t = 0.5 at t = 2/3, so at 10 + 20 * 2 / 3 = 23.3.
    np.testing.assert_array_equal(found, np.arange(40) + 0.5 < 10 + 20 * 2 / 3)


def test_probabilities_of_another_shape_are_refused():
    way = Restore(Grid((4, 4, 4), np.eye(4)), Box((0, 0, 0), (4, 4, 4)), (4, 4, 4), None)
    with pytest.raises(ValueError, match="expected"):
        restore(np.zeros((2, 4, 4, 5), np.float32), way)


def test_real_hippocampus_cases_round_trip(real_data):
    folder = real_data / "Task04_Hippocampus"
    for path in sorted((folder / "labelsTr").glob("hippocampus_*.nii.gz"))[:6]:
        image, label = read_image(folder / "imagesTr" / path.name), read_label(path)
        array, way = prepare(image, MR, path.name)
        classes = prepare_label(label, way, (1, 2))
        np.testing.assert_array_equal(restore(one_hot(classes, 3), way), label.array)
        assert array.shape[1:] == classes.shape
        _, way = prepare(image, dataclasses.replace(MR, spacing_mm=(0.8, 0.9, 1.1)))
        back = restore(one_hot(prepare_label(label, way, (1, 2)), 3), way)
        assert dice(label.array, back, 3).min() > 0.95, path.name


def test_a_real_ct_round_trip(real_data):
    folder = real_data / "thorax_ct"
    image = read_image(folder / "ct_cropped.nii.gz")
    label = read_label(next(folder.glob("label_*.nii.gz")))
    geometry = Geometry((1.2, 1.2, 2.0), "body", 5.0, "ct", 3.0)
    array, way = prepare(image, geometry)
    values = (1, 2, 3, 7)
    back = restore(one_hot(prepare_label(label, way, values), 5), way)
    expected = np.select([label.array == value for value in values], [1, 2, 3, 4])
    assert dice(expected, back, 5).min() > 0.95
    # The heart's own intensities are still under its label.
    heart = prepare_label(label, way, (1,)) == 1
    assert array[0, heart].mean() == pytest.approx(image.array[0, label.array == 1].mean(), abs=3)


# --- values that travel -------------------------------------------------------------------------


def test_plans_and_ways_back_survive_json():
    plan = Plan(
        (0.9, 0.9, 2.5),
        "body",
        5.0,
        "ct",
        3.0,
        intensities=({"low": -90.0, "high": 240.0, "mean": 60.0, "sd": 50.0},),
        median_shape=(300, 280, 120),
    )
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    _, way = prepare(
        Image(np.ones((1, 5, 6, 7), np.float32), affine_of(TURNS[11], (1, 2, 3))), plan
    )
    again = Restore.from_dict(json.loads(json.dumps(way.to_dict())))
    assert (again.box, again.shape, again.coarse) == (way.box, way.shape, way.coarse)
    np.testing.assert_array_equal(again.native.affine, way.native.affine)
    np.testing.assert_array_equal(again.grid.affine, way.grid.affine)


def test_an_unusable_plan_is_refused():
    with pytest.raises(InputError, match="crop"):
        Plan.from_dict({"spacing_mm": [1, 1, 1]})


@pytest.mark.parametrize(
    ("spacing", "name"),
    [
        ((1, 1, 2.5), "1x1x2.5"),
        ((0.98, 0.977, 10.0), "0.98x0.977x10"),
        ((0.9765625, 1200, 0.0003), "0.976562x1200x0.0003"),
    ],
)
def test_grids_have_names(spacing, name):
    assert grid_name(spacing) == name
    assert parse_grid(name) == pytest.approx(spacing, abs=1e-6)
    assert grid_name(parse_grid(name)) == name


@pytest.mark.parametrize("name", ["", "1x1", "1x1x0", "1x-1x1", "axbxc", "1x1xnan", "1x1xinf"])
def test_other_names_are_no_grids(name):
    with pytest.raises(InputError, match="three voxel sizes"):
        parse_grid(name)


def test_a_plan_may_keep_some_channels_in_an_order_of_its_own():
    draw = np.random.default_rng(0)
    image = Image(draw.normal(size=(4, 12, 13, 14)).astype(np.float32), np.diag([2, 2, 2, 1.0]))
    whole = Geometry((1.5, 1.5, 1.5), "nonzero", 0.0, "zscore", 3.0)
    some = dataclasses.replace(whole, channels=(3, 1))
    every, way = prepare(image, whole)
    two, same = prepare(image, some)
    np.testing.assert_array_equal(two, every[[3, 1]])
    assert same.to_dict() == way.to_dict()
