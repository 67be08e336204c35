"""Dice slice by slice against sums by hand and MONAI's habit of leaving empty slices to the caller."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segstudy.metrics.measure import metric_names
from segstudy.metrics.slice_dice import dice_by_slice, stored_axis
from segstudy.study import Metrics


def test_slices_by_hand():
    reference, prediction = np.zeros((2, 4, 5, 5), np.uint8)
    reference[:2, 0, 1] = prediction[1:3, 0, 1] = 7  # half of each: 0.5
    reference[:3, 2, 2] = prediction[:3, 2, 2] = 7  # alike: 1
    reference[0, 0, 3] = 7  # missed: 0
    found = dice_by_slice(reference, prediction, {"a": (7,), "none": (9,)}, 2)
    assert found["a"] == {"slice_dice": pytest.approx(0.5), "slices_undefined": 2}
    assert np.isnan(found["none"]["slice_dice"]) and found["none"]["slices_undefined"] == 5


@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_as_a_loop_over_slices(seed, axis):
    draw = np.random.default_rng(seed)
    reference, prediction = draw.integers(0, 4, (2, 3, 4, 5)) * draw.integers(0, 2, (2, 3, 4, 5))
    values = (1, 3)
    dice, empty = [], 0
    for index in range(reference.shape[axis]):
        one = np.isin(reference.take(index, axis), values)
        other = np.isin(prediction.take(index, axis), values)
        if one.sum() + other.sum() == 0:
            empty += 1
        else:
            dice.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    found = dice_by_slice(reference, prediction, {"group": values}, axis)["group"]
    np.testing.assert_allclose(found["slice_dice"], np.mean(dice) if dice else np.nan)
    assert found["slices_undefined"] == empty


def test_the_plane_is_found_on_turned_grids():
    turned = np.array([[0, 0, -2.0, 0], [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])
    assert [stored_axis(turned, plane) for plane in ("sagittal", "coronal", "axial")] == [2, 0, 1]


def test_the_names_are_there_only_where_asked_for():
    assert "slice_dice" not in metric_names(Metrics())
    assert metric_names(Metrics(slice_axis="axial"))[-2:] == ["slice_dice", "slices_undefined"]
