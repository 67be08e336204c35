"""Faults planted in a label of two boxes: their scores have known values, their place lies in what was planted."""

import math

import numpy as np
import pytest

from segstudy.images.files import Image
from segstudy.review.scores import best_names, consensus, opposed, score_case

NAMES = ["heart", "aorta"]
SPACING = (1.0, 1.0, 1.0)
HEART = (slice(10, 20), slice(10, 20), slice(8, 16))
AORTA = (slice(26, 32), slice(10, 16), slice(8, 16))


def truth() -> np.ndarray:
    label = np.zeros((44, 34, 26), np.uint8)
    label[HEART], label[AORTA] = 1, 2
    return label


def scored(label: np.ndarray, votes=None, spacing=SPACING):
    votes = [truth(), truth()] if votes is None else votes
    return score_case(Image(label, np.diag([*spacing, 1.0])), votes, NAMES)


def test_a_label_that_is_the_consensus_has_nothing():
    case = scored(truth())
    for name in NAMES:
        one = case.structures[name]
        assert (one.dice, one.boundary_mm, one.p95_mm, one.log_volume) == (1, 0, 0, 0)
        assert (one.missing_share, one.extra_share, one.apart_share) == (0, 0, 0)
        assert one.models_dice == 1
    assert (case.renamed, case.swap_gain, case.shift_gain) == ({}, 0, 0)


@pytest.mark.parametrize(("grown", "sign"), [(2, 1), (-2, -1)])
def test_a_boundary_off_by_two_voxels_is_measured_with_its_sign(grown, sign):
    label = truth()
    label[label == 1] = 0
    box = tuple(slice(part.start - grown, part.stop + grown) for part in HEART)
    label[box] = 1
    one = scored(label, spacing=(1.5, 1.5, 1.5)).structures["heart"]
    # Two voxels of 1.5 mm on the faces, a little more at the corners of the wider box.
    assert sign * one.boundary_mm == pytest.approx(3.0, abs=0.25)
    assert 3.0 <= one.p95_mm <= 3.0 * math.sqrt(3)
    # No piece, but for what lies around single voxels at a corner of the boxes.
    assert max(one.missing_share, one.extra_share) < 0.06
    assert one.log_volume == pytest.approx(math.log((10 + 2 * grown) ** 2 * (8 + 2 * grown) / 800))


def test_a_missing_part_is_the_largest_piece_that_reaches_beyond_three_voxels():
    label = truth()
    label[15:20, 10:20, 8:16] = 0  # half of the heart
    one = scored(label).structures["heart"]
    # The label's outline is the plane i = 14; i = 18 and 19 lie further than 3 from it, and the rest up to it belongs to them.
    assert one.missing_share == pytest.approx(0.5)
    assert one.extra_share == 0
    i, j, k = one.places["missing_part"]
    assert 15 <= i < 20 and 10 <= j < 20 and 8 <= k < 16
    assert one.dice == pytest.approx(2 * 400 / (400 + 800))


def test_a_blob_stands_apart_and_is_found_in_its_middle():
    label = truth()
    label[36:41, 24:29, 18:23] = 2
    case = scored(label)
    one = case.structures["aorta"]
    assert one.apart_share == pytest.approx(125 / (125 + 288))
    assert one.extra_share == pytest.approx(125 / 288)
    assert one.places["extra_part"] == (38, 26, 20)
    assert case.structures["heart"].apart_share == 0


def test_exchanged_names_are_found_and_called():
    label = truth()
    label[HEART], label[AORTA] = 2, 1
    case = scored(label)
    assert case.renamed == {"heart": "aorta", "aorta": "heart"}
    assert case.swap_gain == 1
    assert case.structures["heart"].dice == 0


def test_names_that_fit_stay_where_others_fit_as_well():
    assert best_names(np.zeros((4, 4), int)) == ({}, 0.0)
    counts = np.diag([100, 5, 5, 5])
    counts[1, 2] = counts[1, 1]
    assert best_names(counts)[0] == {}


def test_a_shift_is_measured_along_the_stored_axes():
    label = np.roll(truth(), (5, -3), (0, 1))
    case = scored(label, spacing=(1.0, 2.0, 3.0))
    assert case.shift_mm == (5, -6, 0)
    heart = 2 * 5 * 7 * 8 / (2 * 800)
    aorta = 2 * 1 * 3 * 8 / (2 * 288)
    assert case.shift_gain == pytest.approx(1 - (heart + aorta) / 2)


def test_a_structure_that_only_one_has():
    label = truth()
    label[AORTA] = 0
    one = scored(label).structures["aorta"]
    assert (one.dice, one.missing_share, one.extra_share) == (0, 1, 0)
    assert math.isnan(one.boundary_mm) and math.isnan(one.log_volume)
    i, j, k = one.places["missing_part"]
    assert truth()[i, j, k] == 2
    other = scored(truth(), [label]).structures["aorta"]
    assert (other.dice, other.missing_share, other.extra_share, other.apart_share) == (0, 0, 1, 1)
    neither = scored(label, [label]).structures["aorta"]
    assert math.isnan(neither.dice) and neither.missing_share == neither.extra_share == 0


def test_the_majority_decides_and_ties_go_with_the_neighbourhood():
    one, two, three = truth(), truth(), truth()
    one[0, 0, 0] = 1
    assert (consensus([one, two, three], 3) == truth()).all()
    two[9, 12, 10] = (
        1  # beside the heart, where one of two votes has it: most voxels around have none
    )
    three[10, 10, 8] = 0
    agreed = consensus([two, three], 3)
    assert agreed[9, 12, 10] == 0
    assert agreed[10, 10, 8] == 0
    assert (agreed[12:18, 12:18, 10:14] == 1).all()


def test_what_models_are_of_two_minds_about_does_not_speak_against_a_label():
    label, blob = np.zeros((8, 8, 8), np.uint16), np.zeros((8, 8, 8), np.uint16)
    label[2:5, 2:5, 2:5] = 1
    blob[label == 1], blob[6:, 6:, 6:] = 1, 1
    np.testing.assert_array_equal(opposed([label, blob], label, 2), label)
    # Two of three have the blob, which the label lacks.
    np.testing.assert_array_equal(opposed([label, blob, blob], label, 2), blob)
    # Where neither vote is the label's, both speak against it.
    assert not opposed([np.zeros_like(label), np.zeros_like(label)], label, 2).any()


def test_models_that_disagree_are_told():
    narrow = truth()
    narrow[15:20, 10:20, 8:16] = 0
    one = scored(truth(), [truth(), narrow]).structures["heart"]
    assert one.models_dice == pytest.approx(2 * 400 / 1200)
    assert math.isnan(scored(truth(), [truth()]).structures["heart"].models_dice)
