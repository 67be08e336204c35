"""Values of an image that show that it is not what it should be."""

from pathlib import Path

import numpy as np
import pytest

from segstudy.images.value_checks import REFUSED, WARNING, count_label_values, image_problems

SHAPE = (20, 24, 16)
DRAW = np.random.default_rng(0)
MR = DRAW.gamma(3, 100, SHAPE).astype(np.float32)
CT = DRAW.normal(0, 300, SHAPE).astype(np.float32)
BLOCKS = np.arange(60, dtype=np.float32).reshape(5, 6, 2).repeat(4, 0).repeat(4, 1).repeat(8, 2)


def problems(*channels, ct=False):
    paths = [Path("a.nii.gz")]
    names = ["t1", "t2"][: len(channels)]
    return [
        (text, verdict) for _, text, verdict in image_problems(np.stack(channels), paths, names, ct)
    ]


def test_sound_images_are_sound():
    assert problems(MR, CT) == []
    assert problems(CT, ct=True) == []
    assert problems(np.rint(MR / 4)) == []  # as with 8 bits


def test_a_channel_that_cannot_be_used_is_refused():
    infinite = CT.copy()
    infinite[0, 0, :2] = np.inf, np.nan
    assert problems(CT, infinite) == [
        (f"channel t2: 2 of {CT.size} voxels are not finite (NaN or infinite)", REFUSED)
    ]
    assert problems(CT * 0 + 3) == [("constant: every voxel is 3", REFUSED)]


def test_a_ct_without_air_is_doubtful():
    ((text, verdict),) = problems(MR, ct=True)
    assert "none below 0; a CT in Hounsfield units" in text
    assert verdict == WARNING
    assert problems(MR) == []


@pytest.mark.parametrize(
    ("array", "count"),
    [
        (np.where(MR > 400, 2, MR > 200).astype(np.float32), 3),
        (BLOCKS, 60),
        (DRAW.permutation(BLOCKS.ravel()).reshape(SHAPE), 0),  # as many values, but noise
        (BLOCKS - 1, 0),
        (BLOCKS / 2, 0),
        (MR, 0),
    ],
)
def test_a_label_map_is_told_by_few_whole_numbers_that_lie_together(array, count):
    assert count_label_values(array) == count
    told = [text for text, _ in problems(array)]
    assert told == (
        [
            f"only {count} different values, all whole numbers from 0 on: a label map in the place of an image?"
        ]
        if count
        else []
    )
