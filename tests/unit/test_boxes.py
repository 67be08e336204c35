"""Boxes of voxels, against the places of a mask's voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segstudy.boxes import Box, bounding_box, whole


@given(array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(lambda shape: arrays(bool, shape)))
def test_a_bounding_box_holds_all_voxels_and_touches_them_on_every_side(mask):
    box, places = bounding_box(mask), np.argwhere(mask)
    if not len(places):
        assert box is None
        return
    assert box == Box(tuple(places.min(axis=0)), tuple(places.max(axis=0) + 1))
    assert box.of(mask).sum() == mask.sum()
    assert box.of(mask).shape == box.shape


@given(st.integers(0, 4), arrays(bool, (5, 4, 3), fill=st.just(False)))
def test_a_margin_ends_where_the_array_ends(margin, mask):
    box = bounding_box(mask)
    if box is None:
        return
    wide = box.widened(margin, mask.shape)
    for axis, (low, high) in enumerate(wide.ranges):
        assert low == max(0, box.start[axis] - margin)
        assert high == min(mask.shape[axis], box.stop[axis] + margin)


def test_a_margin_by_axis_and_a_size_in_mm():
    box = Box((2, 3), (4, 9)).widened((1, 2), (20, 10))
    assert box == Box((1, 1), (5, 10))
    assert box.size_mm((0.5, 2.0)) == pytest.approx((2.0, 18.0))
    assert whole((20, 10)) == Box((0, 0), (20, 10))
