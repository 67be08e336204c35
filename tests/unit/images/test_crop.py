"""Cropping: the box holds what it must, and no more than a margin beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.images.crop import Box, body_box, crop_box, widened


def ellipsoid(shape, spacing_mm, centre_mm, radii_mm):
    axes = np.meshgrid(
        *[(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing_mm, strict=True)], indexing="ij"
    )
    parts = zip(axes, centre_mm, radii_mm, strict=True)
    return sum(((axis - c) / r) ** 2 for axis, c, r in parts) < 1


def extent(mask):
    inside = np.argwhere(mask)
    return Box(tuple(inside.min(axis=0)), tuple(inside.max(axis=0) + 1))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.floats(1, 4), st.floats(1, 4), st.floats(1.5, 6)),
    st.tuples(*[st.floats(65, 85)] * 3),
    st.tuples(*[st.floats(40, 50)] * 3),
)
def test_the_body_is_inside_and_the_box_is_tight(spacing, centre, radii):
    shape = tuple(int(150 / size) for size in spacing)
    body = ellipsoid(shape, spacing, centre, radii)
    lungs = ellipsoid(shape, spacing, centre, np.multiply(radii, 0.6))
    image = np.where(body, 20.0, -1000.0).astype(np.float32)
    image[lungs] = -850
    # A table below the patient and a blanket's speck above it: parts of their own.
    image[:, :2, :] = 100
    image[1:3, -3:-1, 1:3] = 50
    found, exact = body_box(image[None], spacing), extent(body)
    for low, start, stop, high in zip(
        found.start, exact.start, exact.stop, found.stop, strict=True
    ):
        assert low <= start
        assert high >= stop
    slack = np.subtract(found.shape, exact.shape) * spacing
    assert (slack <= np.maximum(4 * 4, 2 * np.array(spacing)) + 1e-6).all()


def test_an_image_without_body_is_kept_whole():
    for crop, value in ("body", -1000), ("nonzero", 0):
        image = np.full((1, 6, 7, 8), value, np.float32)
        assert crop_box(image, (1, 1, 1), crop) == Box((0, 0, 0), (6, 7, 8))


def test_nonzero_of_any_channel_counts():
    image = np.zeros((2, 9, 9, 9), np.float32)
    image[0, 2, 3, 4] = -5
    image[1, 6, 3, 4] = 1
    assert crop_box(image, (1, 1, 1), "nonzero") == Box((2, 3, 4), (7, 4, 5))
    assert crop_box(image, (1, 1, 1), "none") == Box((0, 0, 0), (9, 9, 9))


@pytest.mark.parametrize(
    ("margin_mm", "expected"),
    [(0, ((2, 2, 2), (4, 4, 4))), (3, ((0, 0, 1), (7, 6, 5))), (99, ((0, 0, 0), (10, 10, 10)))],
)
def test_a_margin_is_at_least_its_length_and_stays_inside(margin_mm, expected):
    box = Box((2, 2, 2), (4, 4, 4))
    assert widened(box, (10, 10, 10), (1, 2, 4), margin_mm) == expected
