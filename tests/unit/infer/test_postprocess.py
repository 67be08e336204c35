"""Largest components, by hand and against scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from segstudy.errors import InputError
from segstudy.infer.postprocess import (
    Choice,
    apply,
    choose,
    compare,
    from_record,
    keep_largest,
    to_record,
)


def test_the_smaller_part_goes_and_other_classes_stay():
    classes = np.zeros((12, 5, 5), np.uint8)
    classes[:4, 1:4, 1:4] = 1
    classes[7:9, 1:3, 1:3] = 1
    classes[10:, :, :] = 2
    classes[0, 0, 0] = 2  # touches class 1 at a corner, and is no part of it
    kept = keep_largest(classes, [1])
    assert (kept[:4, 1:4, 1:4] == 1).all()
    assert not (kept[7:9] == 1).any()
    assert np.array_equal(kept == 2, classes == 2)
    assert (classes[7:9] == 1).any(), "the array given is left alone"
    assert keep_largest(classes, [1, 2])[0, 0, 0] == 0


def test_voxels_that_share_a_corner_belong_together():
    classes = np.zeros((4, 4, 4), np.uint8)
    classes[0, 0, 0] = classes[1, 1, 1] = classes[2, 2, 2] = 1
    assert np.array_equal(keep_largest(classes, [1]), classes)


@settings(deadline=None, max_examples=60)
@given(arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 3)))
def test_equals_scikit_image(classes):
    kept = keep_largest(classes, [1, 3])
    assert np.array_equal(kept == 2, classes == 2)
    for number in (1, 3):
        components = label(classes == number, connectivity=3)
        sizes = np.bincount(components.ravel())[1:]
        left = kept == number
        assert left.sum() == sizes.max(initial=0)
        assert not (left & (classes != number)).any()
        assert label(left, connectivity=3).max() <= 1


def cohort():
    """Class 1 has a stray part in each prediction, class 2 is truly in two parts, 3 is never there."""
    for number in range(3):
        reference = np.zeros((20, 8, 8), np.uint8)
        reference[2:8, 2:6, 2:6] = 1
        reference[10:12, 2:6, 2:6] = 2
        reference[14:17, 2:6, 2:6] = 2
        prediction = reference.copy()
        prediction[19, 7, : number + 1] = 1
        yield f"site/case{number}", reference, prediction


def compared(cases):
    return {name: compare(reference, prediction, 4) for name, reference, prediction in cases}


def test_a_structure_is_reduced_where_its_dice_rises():
    found = choose(compared(cohort()), ["one", "two", "three"])
    assert found["one"].keep_largest
    assert found["one"].dice_largest == 1
    assert found["one"].dice_all == pytest.approx(np.mean([192 / (192 + n) for n in (1, 2, 3)]))
    assert found["one"].cases == ("site/case0", "site/case1", "site/case2")
    assert not found["two"].keep_largest
    assert found["two"].dice_all == 1
    assert found["two"].dice_largest == pytest.approx(2 * 48 / (48 + 80))
    assert found["three"] == Choice(False, None, None, ())


def test_a_tie_leaves_the_prediction_alone():
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[:3] = 1
    found = choose({"a": compare(reference, reference, 2)}, ["one"])
    assert found["one"] == Choice(False, 1.0, 1.0, ("a",))


def test_a_case_without_the_structure_does_not_count():
    empty = np.zeros((20, 8, 8), np.uint8)
    found = choose(compared([("empty", empty, empty), *cohort()]), ["one", "two", "three"])
    assert "empty" not in found["one"].cases
    assert found["one"].keep_largest


def test_choices_are_applied_and_come_back_from_their_record():
    structures = ["one", "two", "three"]
    choices = choose(compared(cohort()), structures)
    _, reference, prediction = next(iter(cohort()))
    assert np.array_equal(apply(prediction, choices, structures), reference)
    assert from_record(to_record(choices), structures, "file") == choices
    with pytest.raises(InputError, match="four: found None; expected"):
        from_record(to_record(choices), [*structures, "four"], "file")


def test_what_nobody_has_labelled_has_no_say():
    """The stray parts, which alone speak for the reduction, lie where nothing is known."""
    cases = list(cohort())
    ignored = np.zeros((20, 8, 8), bool)
    ignored[18:] = True
    seen = {name: compare(*pair, 4, ignored) for name, *pair in cases}
    emptied = {name: compare(one, np.where(ignored, 0, other), 4) for name, one, other in cases}
    assert choose(seen, ["one", "two", "three"]) == choose(emptied, ["one", "two", "three"])
    assert not choose(seen, ["one", "two", "three"])["one"].keep_largest
