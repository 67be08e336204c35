"""Metrics of label maps counted by hand, and the defined outcome of every empty mask."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segstudy.metrics.measure import measure, metric_names, missing, with_regions
from segstudy.metrics.overlap import overlaps
from segstudy.study import Metrics

SETTINGS = Metrics(nsd_tolerance_mm=(0.5, 2.0))
NAN, INF = float("nan"), float("inf")


def one(reference, prediction, spacing_mm=(1, 1, 1), settings=SETTINGS):
    (found,) = measure(reference, prediction, spacing_mm, {"heart": (1,)}, settings)
    return found


def test_names_and_their_order():
    assert metric_names(SETTINGS) == [
        *("dice", "iou", "precision", "recall", "relative_volume_error"),
        *("hd_mm", "hd95_mm", "assd_mm", "nsd_0.5mm", "nsd_2mm"),
    ]


def test_counted_by_hand():
    """A row of 6 voxels against one of 4, with 3 in common."""
    reference, prediction = np.zeros((12, 3, 3), np.uint8), np.zeros((12, 3, 3), np.uint8)
    reference[2:8, 1, 1] = 1
    prediction[5:9, 1, 1] = 1
    found = one(reference, prediction)
    assert found.status == "ok"
    assert (found.n_reference_voxels, found.n_predicted_voxels) == (6, 4)
    assert found.values["dice"] == pytest.approx(6 / 10)
    assert found.values["iou"] == pytest.approx(3 / 7)
    assert found.values["precision"] == pytest.approx(3 / 4)
    assert found.values["recall"] == pytest.approx(3 / 6)
    assert found.values["relative_volume_error"] == pytest.approx(-2 / 6)
    # The reference starts 3 mm before the prediction; nothing lies further apart.
    assert 2.4 < found.values["hd_mm"] <= 3
    assert 0 < found.values["nsd_0.5mm"] < found.values["nsd_2mm"] < 1


EMPTY = np.zeros((6, 6, 6), np.uint8)
FULL = np.pad(np.ones((2, 2, 2), np.uint8), 2)


@pytest.mark.parametrize(
    ("reference", "prediction", "status", "expected"),
    [
        (FULL, EMPTY, "pred_empty", [0, 0, NAN, 0, -1, INF, INF, INF, 0, 0]),
        (EMPTY, FULL, "ref_empty", [NAN] * 10),
        (EMPTY, EMPTY, "both_empty", [NAN] * 10),
        (FULL, FULL, "ok", [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]),
    ],
)
@pytest.mark.parametrize("surface", ["mesh", "surfel", "voxel"])
def test_empty_masks(reference, prediction, status, expected, surface):
    found = one(reference, prediction, settings=SETTINGS.model_copy(update={"surface": surface}))
    assert found.status == status
    np.testing.assert_array_equal(list(found.values.values()), expected)
    assert list(found.values) == metric_names(SETTINGS)


def test_a_missing_prediction_is_undefined_and_keeps_its_count():
    (found,) = missing(FULL, (1, 1, 1), {"heart": (1,)}, SETTINGS)
    assert found.status == "missing_file"
    assert all(math.isnan(value) for value in found.values.values())
    assert (found.n_reference_voxels, found.n_predicted_voxels) == (8, 0)


def test_groups_are_merged_before_they_are_measured():
    """Left and right swapped: both wrong, together right."""
    reference, prediction = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.uint8)
    reference[1:3, 2:6, 2:6], reference[5:7, 2:6, 2:6] = 1, 2
    prediction[1:3, 2:6, 2:6], prediction[5:7, 2:6, 2:6] = 2, 1
    structures = with_regions({"left": 1, "right": 2}, {"both": ("left", "right")})
    assert list(structures) == ["left", "right", "both"]
    left, right, both = measure(reference, prediction, (1, 1, 1), structures, SETTINGS)
    assert left.values["dice"] == right.values["dice"] == 0
    assert left.values["hd95_mm"] == pytest.approx(4)
    assert both.values["dice"] == both.values["nsd_2mm"] == 1
    assert both.values["hd_mm"] == 0
    assert both.n_reference_voxels == 64


def test_other_values_are_background():
    reference, prediction = FULL.astype(np.uint16), FULL.astype(np.uint16)
    reference[0, 0, 0], prediction[5, 5, 5] = 40_000, 77
    assert one(reference, prediction).values["hd_mm"] == 0


maps = hnp.arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 3))


@settings(deadline=None, max_examples=60)
@given(maps, maps)
def test_one_pass_counts_as_masks_do(reference, prediction):
    structures = {"one": (1,), "three": (3,), "both": (1, 3), "absent": (9,)}
    for name, found in overlaps(reference, prediction, structures).items():
        a, b = np.isin(reference, structures[name]), np.isin(prediction, structures[name])
        assert found.reference == a.sum()
        assert found.prediction == b.sum()
        assert found.common == (a & b).sum()
        if not (a | b).any():
            assert found.box is None
            continue
        places = np.argwhere(a | b)
        np.testing.assert_array_equal(found.box, (places.min(0), places.max(0) + 1))


@settings(deadline=None, max_examples=40)
@given(maps, maps, st.sampled_from(["mesh", "surfel", "voxel"]))
def test_structures_do_not_disturb_each_other(reference, prediction, surface):
    """Each as if it were alone in both label maps."""
    settings = SETTINGS.model_copy(update={"surface": surface})
    structures = {str(value): (value,) for value in (1, 2, 3)}
    for found in measure(reference, prediction, (1, 2, 3), structures, settings):
        alone = [
            np.where(array == int(found.structure), 1, 0).astype(np.uint8)
            for array in (reference, prediction)
        ]
        expected = one(*alone, (1, 2, 3), settings)
        np.testing.assert_array_equal(list(found.values.values()), list(expected.values.values()))
        assert found.status == expected.status
