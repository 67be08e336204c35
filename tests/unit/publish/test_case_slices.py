"""Slices for the report's slider: the right ones, and outlines that enclose what they should."""

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from segstudy.publish import case_slices
from segstudy.publish.results import Results


def _filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """The pixels that an outline encloses, by the even-odd rule, told at the pixels' centres."""
    inside = np.zeros(shape, bool)
    for part in re.findall(r"M([^M]*)z", path):
        start, steps = part.split("l")
        numbers = [int(text) for text in re.findall(r"-?\d+", start)]
        moves = np.array([int(text) for text in re.findall(r"-?\d+", steps)]).reshape(-1, 2)
        corners = np.vstack([[numbers], numbers + moves.cumsum(axis=0)])
        for row, column in np.ndindex(shape):
            x, y = 2 * column + 1, 2 * row + 1
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                    inside[row, column] ^= True
    return inside


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_encloses_its_pixels_and_no_other(mask):
    np.testing.assert_array_equal(_filled(case_slices.outline(mask), mask.shape), mask)


def test_an_outline_is_short():
    mask = np.zeros((200, 200), bool)
    mask[20:180, 30:170] = True
    assert len(case_slices.outline(mask)) < 60  # eight straight runs


@pytest.mark.parametrize(
    ("labelled", "most", "expected"),
    [
        ([], 5, [5]),
        ([4], 5, [3, 4, 5]),
        ([0, 9], 4, [0, 3, 6, 9]),
        ([2, 3, 4], 99, [1, 2, 3, 4, 5]),
    ],
)
def test_slices_cover_what_is_labelled(labelled, most, expected):
    there = np.zeros(10, bool)
    there[labelled] = True
    assert case_slices.chosen(there, most).tolist() == expected


def test_more_cases_get_fewer_slices():
    assert case_slices.affordable(40, 4) == case_slices.MOST_SLICES
    assert case_slices.FEWEST_SLICES < case_slices.affordable(60, 4) < case_slices.MOST_SLICES
    each = case_slices.PICTURE_BYTES + 5 * case_slices.OUTLINE_BYTES
    assert case_slices.affordable(60, 4) * 60 * each <= case_slices.MOST_BYTES
    assert case_slices.affordable(10_000, 12) == case_slices.FEWEST_SLICES


def test_a_stack_shows_what_the_files_hold(plain):
    found = case_slices.slices_through(plain, "thorax", "case_000")
    label = plain.references("thorax")["case_000"].label
    from segstudy.images.files import read_label

    array = read_label(label).array
    assert found["plane"] == "axial"
    assert found["total"] == array.shape[2]
    for structure, value in (("heart", 1), ("aorta", 2)):
        areas = (array == value).sum(axis=(0, 1))[np.array(found["slices"]) - 1]
        assert areas[found["fullest"][structure]] == areas.max()
        shown = [bool(outlines.get(structure)) for outlines in found["reference"]]
        assert shown == (areas > 0).tolist()
    # The last model misses the aorta of the first case altogether.
    assert not any("aorta" in outlines for outlines in found["predictions"]["unet_3d"])
    assert any("heart" in outlines for outlines in found["predictions"]["unet_3d"])
    picture = found["images"][0].removeprefix("data:image/webp;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert image.size == (found["width"], found["height"])


def test_as_many_processes_as_one_likes_give_the_same(plain):
    again = Results(plain.study, plain.root)
    assert case_slices.case_slices(plain, "thorax", 1) == case_slices.case_slices(
        again, "thorax", 2
    )
