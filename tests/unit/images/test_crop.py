"""Cropping: the box holds what it must, and no more than a margin beyond."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.boxes import Box
from segstudy.images.crop import body_box, crop_box, cut_off, widened


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


@settings(max_examples=20, deadline=None)
@given(st.floats(45, 70), st.floats(20, 70), st.floats(1, 6), st.booleans())
def test_every_part_of_the_body_is_kept(first, second, slices_mm, one_slice):
    """Two legs in air, an arm beside a trunk: cylinders of any thickness, a table's shell below."""
    spacing = (3.0, 3.0, slices_mm)
    shape = (100, 60, 12)
    x, y, z = np.ogrid[:100, :60, :12]
    image = np.full(shape, -1000.0, np.float32)
    parts = np.zeros(shape, bool)
    for centre, radius in (26, first), (76, second):
        parts |= ((x - centre) ** 2 + (y - 30) ** 2 < (radius / 3) ** 2) & (z >= 0)
    image[parts] = 40
    image[:, 1] = 300
    if one_slice:
        image, parts = image[:, :, :1], parts[:, :, :1]
    found, exact = body_box(image[None], spacing), extent(parts)
    assert all(low <= start for low, start in zip(found.start, exact.start, strict=True))
    assert all(high >= stop for high, stop in zip(found.stop, exact.stop, strict=True))
    assert found.start[1] > 1


def test_where_nothing_is_thick_everything_is_kept():
    image = np.full((1, 40, 40, 40), -1000, np.float32)
    image[0, 5:8, 5:8, 5:8] = 50
    image[0, 30:33, 30:33, 30:33] = 50
    found = body_box(image, (1, 1, 1))
    assert found.start <= (5, 5, 5) and found.stop >= (33, 33, 33)


def test_what_a_crop_takes_is_counted_by_value():
    label = np.zeros((10, 10, 10), np.uint16)
    label[2:6, 2:6, 2:6], label[6:8, 0, 0], label[4, 4, 4] = 7, 300, 9
    box = Box((3, 0, 1), (7, 9, 9))
    assert cut_off(label, box, (300, 7, 9, 5)) == {300: (2, 2), 7: (16, 63)}
    assert cut_off(label, Box((0, 0, 0), (10, 10, 10)), (300, 7, 9)) == {}


@settings(max_examples=40, deadline=None)
@given(
    st.floats(16.5, 20),
    st.tuples(st.floats(0, 4), st.floats(0, 4)),
    st.sampled_from([1.0, 2.0, 4.0]),
)
def test_a_thin_limb_is_kept_wherever_it_lies_and_a_shell_is_not(diameter, shift, spacing):
    """The arm of a child beside the trunk, and a shell of 6 mm below both."""
    shape = (int(200 / spacing), int(120 / spacing), int(160 / spacing))
    x, y, _ = ((np.arange(size) + 0.5) * spacing for size in shape)
    x, y = np.meshgrid(x, y, indexing="ij")
    trunk = (x - 60) ** 2 + (y - 60) ** 2 < 40**2
    limb = (x - 150 - shift[0]) ** 2 + (y - 60 - shift[1]) ** 2 < (diameter / 2) ** 2
    image = np.full(shape, -1000.0, np.float32)
    image[trunk | limb] = 20
    image[:, y[0] > 120 - 6, :] = 20
    box, body = body_box(image[None], (spacing,) * 3), np.argwhere(trunk | limb)
    assert box.start[0] <= body[:, 0].min()
    assert box.stop[0] > body[:, 0].max()
    assert box.stop[1] * spacing < 116
