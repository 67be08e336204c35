"""Overlap counts against counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.images.overlap import confusion, dice


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(0, 999), st.sampled_from([np.uint8, np.int64, np.uint16]))
def test_counts_each_pair_of_classes(classes, seed, dtype):
    draw = np.random.default_rng(seed)
    one, other = draw.integers(0, classes, (2, 6, 7, 5)).astype(dtype)
    counts = confusion(one, other, classes)
    for row in range(classes):
        for column in range(classes):
            assert counts[row, column] == ((one == row) & (other == column)).sum()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(0, 999))
def test_dice_by_its_definition(classes, seed):
    draw = np.random.default_rng(seed)
    one, other = draw.integers(0, draw.integers(1, classes + 1), (2, 5, 4, 3)).astype(np.uint8)
    for index, found in enumerate(dice(one, other, classes), start=1):
        sizes = (one == index).sum() + (other == index).sum()
        if (one == index).any():
            assert found == 2 * ((one == index) & (other == index)).sum() / sizes
        else:
            assert np.isnan(found)


def test_what_is_missed_is_zero_and_what_the_reference_lacks_is_undefined():
    reference = np.array([0, 1, 1, 0])
    assert dice(reference, np.zeros(4, int), 2).tolist() == [0]
    assert np.isnan(dice(reference, np.array([2, 1, 1, 0]), 3)[1])


def test_other_shapes_and_classes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        confusion(np.zeros(3, int), np.zeros(4, int), 2)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        confusion(np.array([0, 2]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        confusion(np.array([0, 1]), np.array([0, -1]), 2)
