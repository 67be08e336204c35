"""Which names speak of a side."""

import pytest

from segstudy.sides import class_pairs, likely_pairs, other_side


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("kidney_left", "kidney_right"),
        ("Right-Hippocampus", "Left-Hippocampus"),
        ("LeftLung", "RightLung"),
        ("left", "right"),
        ("hippocampus_l", "hippocampus_r"),
        ("LUNG_R", "LUNG_L"),
        ("L-putamen", "R-putamen"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("rh", "lh"),
        ("lung upper left", "lung upper right"),
    ],
)
def test_names_of_a_side(name, other):
    assert other_side(name) == other
    assert other_side(other) == name


@pytest.mark.parametrize(
    "name",
    [
        *("heart", "aorta", "anterior", "bright_spot", "leftover", "vertebra_L1", "L", "r", "L5"),
        *("cerebrospinal_fluid", "thrombus", "upright", "a_l_b"),
    ],
)
def test_names_of_none(name):
    assert other_side(name) is None


def test_pairs_are_found_once_each_and_numbered_as_classes():
    names = ["aorta", "kidney_right", "lung_left", "kidney_left", "adrenal_left"]
    assert likely_pairs(names) == [("kidney_right", "kidney_left")]
    assert class_pairs(names, likely_pairs(names)) == [(2, 4)]
