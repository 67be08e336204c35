"""Resampling: SciPy as the peer, closed forms, and what must never happen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segstudy.images import resample as resampling
from segstudy.images.resample import (
    CUBIC,
    LINEAR,
    NEAREST,
    coarse_axis,
    orders,
    resample,
    resampled_shape,
)

shapes = st.tuples(*[st.integers(1, 14)] * 3)


def centres(size, target):
    """Centres of the new voxels in indices of the old, by the definition."""
    return (np.arange(target) + 0.5) * size / target - 0.5


@settings(max_examples=60, deadline=None)
@given(shapes, shapes, st.sampled_from([LINEAR, CUBIC]), st.integers(0, 99))
def test_equals_scipys_interpolation_in_3d(shape, target, order, seed):
    array = np.random.default_rng(seed).uniform(-5, 5, shape).astype(np.float32)
    ours = resample(array[None], target, (order,) * 3, antialias=False)[0]
    factors = [new / old for old, new in zip(shape, target, strict=True)]
    peer = ndimage.zoom(array.astype(float), factors, order=order, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(ours, peer.clip(array.min(), array.max()), atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(shapes, shapes)
def test_nearest_takes_the_voxel_that_holds_the_centre(shape, target):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    ours = resample(array[None], target, (NEAREST,) * 3)[0]
    places = [
        np.floor(centres(old, new) + 0.5).astype(int)
        for old, new in zip(shape, target, strict=True)
    ]
    # A centre on the border between two voxels has a test of its own.
    unsure = [
        np.isclose((centres(old, new) + 0.5) % 1, [[0], [1]]).any(axis=0)
        for old, new in zip(shape, target, strict=True)
    ]
    sure = ~(unsure[0][:, None, None] | unsure[1][:, None] | unsure[2])
    np.testing.assert_array_equal(ours[sure], array[np.ix_(*places)][sure])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_nearest_shifts_nothing(size, target):
    """On the mean over the new voxels; half way between two slices, both count by half."""
    ramp = np.broadcast_to(np.arange(size, dtype=np.float32), (1, 2, 2, size))
    found = resample(ramp, (2, 2, target), (NEAREST,) * 3)[0, 0, 0]
    places = centres(size, target)
    np.testing.assert_allclose((found - places).mean(), 0, atol=1e-5)
    assert (np.abs(found - places) < 0.5 + 1e-5).all()
    half_way = np.isclose(places % 1, 0.5)
    np.testing.assert_allclose(found[half_way], places[half_way], atol=1e-5)


@pytest.mark.parametrize("target", [(20, 25, 40), (61, 90, 33), (40, 30, 24), (13, 13, 13)])
@pytest.mark.parametrize("order", [LINEAR, CUBIC])
def test_a_ramp_stays_the_same_ramp(target, order):
    # Linear in space, so known at every new centre: finer, coarser, equal, with smoothing.
    shape = (40, 30, 24)
    slopes = (3.0, -2.0, 0.5)

    def ramp(places):
        return sum(
            slope * axis
            for slope, axis in zip(slopes, np.meshgrid(*places, indexing="ij"), strict=True)
        )

    array = ramp([np.arange(size) for size in shape]).astype(np.float32)
    expected = ramp([centres(old, new) for old, new in zip(shape, target, strict=True)])
    found = resample(array[None], target, (order,) * 3)[0]
    inner = tuple(slice(size // 4, -(size // 4)) for size in target)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.02)


@settings(max_examples=40, deadline=None)
@given(shapes, shapes, st.integers(0, 99))
def test_values_never_leave_their_channels_range(shape, target, seed):
    draw = np.random.default_rng(seed)
    steps = np.where(draw.random((2, *shape)) < 0.5, -1000.0, 3000.0).astype(np.float32)
    found = resample(steps, target, (CUBIC,) * 3)
    for before, after in zip(steps, found, strict=True):
        assert before.min() <= after.min()
        assert after.max() <= before.max()


@settings(max_examples=30, deadline=None)
@given(shapes, shapes, st.floats(-2000, 2000))
def test_a_constant_stays_constant(shape, target, value):
    array = np.full((1, *shape), value, np.float32)
    np.testing.assert_array_equal(resample(array, target, (CUBIC,) * 3), np.float32(value))


def test_equal_shapes_touch_nothing():
    array = np.random.default_rng(0).random((2, 5, 6, 7)).astype(np.float32)
    assert resample(array, (5, 6, 7), (CUBIC,) * 3) is array


def test_the_input_is_not_changed():
    array = np.random.default_rng(0).random((1, 5, 6, 7)).astype(np.float32)
    before = array.copy()
    resample(array, (5, 9, 3), (CUBIC,) * 3)
    np.testing.assert_array_equal(array, before)


def test_coarsening_averages_stripes_away_and_keeps_the_mean():
    # Stripes one voxel wide cannot be held at half the resolution and a bit.
    stripes = np.zeros((1, 60, 8, 8), np.float32)
    stripes[:, ::2] = 100
    target = (23, 8, 8)
    plain = resample(stripes, target, (CUBIC,) * 3, antialias=False)
    smooth = resample(stripes, target, (CUBIC,) * 3)
    inner = (slice(None), slice(2, -2))
    assert np.ptp(plain[inner]) > 90
    assert np.ptp(smooth[inner]) < 25
    assert smooth[inner].mean() == pytest.approx(50, abs=1)


def test_a_coarse_axis_is_never_mixed():
    slices = np.random.default_rng(1).random(6).astype(np.float32)
    array = np.broadcast_to(slices, (1, 9, 8, 6)).copy()
    found = resample(array, (15, 5, 20), orders(CUBIC, coarse=2))
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape), atol=1e-6)
    assert {value.round(5) for value in found.ravel()} == {value.round(5) for value in slices}
    assert len(np.unique(resample(array, (15, 5, 20), orders(CUBIC, None)).round(5))) > 6


@pytest.mark.parametrize(
    ("spacing", "target", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((1, 1, 3), (1, 1, 1), None),  # not above the threshold
        ((1, 1, 3.1), (1, 1, 1), 2),  # the source is coarse
        ((1, 1, 1), (1, 4, 1), 1),  # the target is coarse
        ((5, 1, 1), (1, 1, 5), 0),  # the source decides first
        ((1, 4, 4), (1, 1, 1), None),  # two coarse axes: no single one apart
    ],
)
def test_which_axis_is_resampled_apart(spacing, target, expected):
    assert coarse_axis(spacing, target, threshold=3) == expected


def test_shapes_keep_the_extent():
    assert resampled_shape((512, 512, 180), (0.98, 0.98, 2.5), (0.98, 0.98, 2.5)) == (512, 512, 180)
    assert resampled_shape((100, 100, 10), (1, 0.5, 5), (2, 1, 1)) == (50, 50, 50)
    assert resampled_shape((3, 1, 1), (1, 1, 0.1), (100, 1, 1)) == (1, 1, 1)
    # 46.5 but for rounding, and nnU-Net's order of operations says which side of it.
    assert resampled_shape((124, 1, 1), (2.067, 1, 1), (5.512, 1, 1)) == (47, 1, 1)


def test_shapes_are_nnunets():
    peer = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    draw = np.random.default_rng(0)
    for _ in range(20_000):
        shape = draw.integers(20, 600, 3)
        old, new = draw.uniform(0.3, 6, (2, 3)).round(3)
        assert resampled_shape(shape, old, new) == tuple(peer.compute_new_shape(shape, old, new))


@pytest.mark.parametrize("slab_bytes", [1, 3000, 1 << 30])
def test_the_size_of_the_slabs_does_not_matter(monkeypatch, slab_bytes):
    array = np.random.default_rng(2).random((1, 20, 11, 13)).astype(np.float32)
    expected = resample(array, (31, 9, 17), orders(CUBIC, 2))
    monkeypatch.setattr(resampling, "_SLAB_BYTES", slab_bytes)
    np.testing.assert_array_equal(resample(array, (31, 9, 17), orders(CUBIC, 2)), expected)
