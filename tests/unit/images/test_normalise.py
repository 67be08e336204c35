"""Normalisation against its closed form."""

import numpy as np
import pytest

from segstudy.images.normalise import moments, normalise
from segstudy.images.plan import Plan

ZSCORE = Plan((1, 1, 1), "nonzero", 0, "zscore", 3)
CT = Plan(
    (1, 1, 1),
    "body",
    0,
    "ct",
    3,
    intensities=({"low": -50.0, "high": 250.0, "mean": 80.0, "sd": 40.0},),
)


@pytest.fixture
def scan():
    """Two channels, 1000 voxels each, no zero among them."""
    draw = np.random.default_rng(5)
    return np.stack(
        [draw.normal(300, 20, (10, 10, 10)), draw.normal(-3, 0.1, (10, 10, 10))]
    ).astype(np.float32)


def test_ct_clips_then_uses_the_plans_numbers():
    values = np.array([-1000, -50, 80, 120, 250, 3000], np.float32).reshape(1, 6, 1, 1)
    found = normalise(values, CT).ravel()
    np.testing.assert_allclose(found, [-3.25, -3.25, 0, 1, 4.25, 4.25])
    np.testing.assert_array_equal(values.ravel()[[0, -1]], [-1000, 3000])  # the input is kept


def test_zscore_is_by_image_and_channel(scan):
    found = normalise(scan, ZSCORE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(1, 2, 3)), 1, atol=1e-5)


def test_a_zero_background_is_left_out_and_stays_zero(scan):
    with_background = np.pad(scan, [(0, 0), (3, 3), (3, 3), (3, 3)])
    found = normalise(with_background, ZSCORE)
    np.testing.assert_allclose(found[:, 3:-3, 3:-3, 3:-3], normalise(scan, ZSCORE), atol=1e-5)
    assert (found[:, :3] == 0).all()
    assert moments(with_background)[0]["zero_background"]


def test_a_few_zero_voxels_are_measurements(scan):
    scan[:, 0, 0, :5] = 0
    found = moments(scan)
    assert not found[0]["zero_background"]
    assert found[0]["mean"] == pytest.approx(scan[0].mean(dtype=float), rel=1e-9)
    assert found[0]["sd"] == pytest.approx(scan[0].std(dtype=float), rel=1e-6)


@pytest.mark.parametrize("background", [False, True])
def test_a_patch_is_normalised_as_the_whole_image_is(scan, background):
    image = np.pad(scan, [(0, 0), (3, 3), (3, 3), (3, 3)]) if background else scan
    whole = normalise(image, ZSCORE)
    patch = (slice(None), slice(1, 7), slice(2, 9), slice(4, 5))
    np.testing.assert_array_equal(normalise(image[patch], ZSCORE, moments(image)), whole[patch])


@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0, 1e6])
def test_a_constant_image_becomes_zero(value):
    found = normalise(np.full((1, 8, 8, 8), value, np.float32), ZSCORE)
    np.testing.assert_array_equal(found, 0)


def test_moments_hold_for_more_voxels_than_are_summed_at_once():
    image = np.random.default_rng(0).normal(1000, 3, (1, 150, 100, 100)).astype(np.float32)
    found = moments(image)[0]
    assert found["mean"] == pytest.approx(image.mean(dtype=float), rel=1e-9)
    assert found["sd"] == pytest.approx(image.std(dtype=float), rel=1e-5)
