"""Structures of a left and a right side: sides exchanged in known cases are found, to the voxel."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segstudy.cli import main
from segstudy.images.files import write_label
from segstudy.metrics.measure import LATERALITY_ERROR, measure, with_regions
from segstudy.metrics.overlap import confusion
from segstudy.regions import merged_sides
from segstudy.study import MeasureSettings, Metrics

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
STRUCTURES = {"left_putamen": 12, "right_putamen": 51, "left_caudate": 11, "brainstem": 16}
STRUCTURES |= {"right_caudate": 50}
PAIRS = [["left_putamen", "right_putamen"], ["left_caudate", "right_caudate"]]
SETTINGS = json.dumps({"structures": STRUCTURES, "left_right_pairs": PAIRS})


def brain() -> np.ndarray:
    """Left structures are a little larger than right ones, so that no count agrees by chance."""
    label = np.zeros((24, 14, 8), np.uint8)
    label[2:6, 2:6, 2:6] = 12  # 64 voxels
    label[18:21, 2:6, 2:6] = 51  # 48
    label[4:8, 9:12, 2:5] = 11  # 36
    label[16:19, 9:12, 2:5] = 50  # 27
    label[11:13, 5:9, 1:7] = 16  # 48
    return label


def exchanged(label: np.ndarray, one: int, other: int) -> np.ndarray:
    found = label.copy()
    found[label == one], found[label == other] = other, one
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Measures and confusion of four cases, by the command on two folders."""
    folder = tmp_path_factory.mktemp("sides")
    partly = brain()
    partly[2:3, 2:6, 2:6] = 51  # a slab of 16 of the 64 voxels of the left putamen
    predictions = {
        "good": brain(),
        "swapped": exchanged(exchanged(brain(), 12, 51), 11, 50),
        "one_pair": exchanged(brain(), 11, 50),
        "partly": partly,
    }
    for case, prediction in predictions.items():
        write_label(folder / f"labels/{case}.nii.gz", brain(), AFFINE)
        write_label(folder / f"predictions/{case}.nii.gz", prediction, AFFINE)
    write_label(folder / "labels/without.nii.gz", brain(), AFFINE)
    paths = {"reference": "labels", "prediction": "predictions"}
    paths |= {"output": "metrics.csv", "confusion": "confusion.csv"}
    options = [text for name, path in paths.items() for text in (f"--{name}", str(folder / path))]
    assert main(["metrics", *options, "--settings", SETTINGS]) == 0
    return pd.read_csv(folder / "metrics.csv"), pd.read_csv(folder / "confusion.csv")


def value(tables, case, structure, metric):
    rows = tables[0].set_index(["case", "structure", "metric"])["value"]
    return rows[case, structure, metric]


def test_swapped_sides_are_found_exactly(tables):
    expected = {
        "good": [0, 0, 0, 0],
        "swapped": [1, 1, 1, 1],
        "one_pair": [0, 0, 1, 1],
        # The right putamen is predicted with 48 + 16 voxels, 16 of them in the left one.
        "partly": [0, 16 / 64, 0, 0],
    }
    names = [name for pair in PAIRS for name in pair]
    for case, shares in expected.items():
        assert [value(tables, case, name, LATERALITY_ERROR) for name in names] == shares
    assert np.isnan([value(tables, "without", name, LATERALITY_ERROR) for name in names]).all()


def test_only_structures_of_a_pair_have_sides(tables):
    rows = tables[0]
    assert set(rows.loc[rows["metric"] == LATERALITY_ERROR, "structure"]) == {
        n for p in PAIRS for n in p
    }


def test_apart_merged_and_foreground(tables):
    """Right shapes under the wrong side's label: nothing is right apart, all is right merged."""
    for name in ("left_putamen", "right_putamen", "left_caudate", "right_caudate"):
        assert value(tables, "swapped", name, "dice") == 0
    for name in ("putamen", "caudate", "foreground", "brainstem"):
        assert value(tables, "swapped", name, "dice") == 1
        assert value(tables, "swapped", name, "hd95_mm") == 0
        assert value(tables, "swapped", name, "nsd_2mm") == 1
    assert value(tables, "partly", "left_putamen", "dice") == 2 * 48 / (64 + 48)
    assert value(tables, "partly", "right_putamen", "dice") == 2 * 48 / (48 + 64)
    assert value(tables, "partly", "putamen", "dice") == 1


def test_the_confusion_counts_every_voxel(tables):
    confused = tables[1]
    assert set(confused["case"]) == {"good", "swapped", "one_pair", "partly"}
    assert (confused.groupby("case")["n_voxels"].sum() == brain().size).all()
    partly = confused[confused["case"] == "partly"].set_index(["reference", "prediction"])
    assert partly["n_voxels"].to_dict() == {
        ("background", "background"): brain().size - 64 - 48 - 36 - 27 - 48,
        ("left_putamen", "left_putamen"): 48,
        ("left_putamen", "right_putamen"): 16,
        ("right_putamen", "right_putamen"): 48,
        ("left_caudate", "left_caudate"): 36,
        ("right_caudate", "right_caudate"): 27,
        ("brainstem", "brainstem"): 48,
    }


LABELS = hnp.arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 3))


@settings(deadline=None, max_examples=40)
@given(LABELS, LABELS)
def test_confusion_and_swapped_share_as_counted_one_by_one(reference, prediction):
    found = confusion(reference, prediction, [1, 2])
    for one in (1, 2):
        for other in (1, 2):
            count = ((reference == one) & (prediction == other)).sum()
            assert found.voxels(one, other) == count
    assert found.voxels(1, 0) == ((reference == 1) & ~np.isin(prediction, (1, 2))).sum()
    structures = with_regions({"left": 1, "right": 2}, {})
    measures = measure(
        reference, prediction, (1, 1, 1), structures, Metrics(surface="voxel"), None,
        [("left", "right")],
    )  # fmt: skip
    for one, here, there in zip(measures, (1, 2), (2, 1), strict=True):
        predicted = (prediction == here).sum()
        expected = ((prediction == here) & (reference == there)).sum() / (predicted or np.nan)
        assert one.values[LATERALITY_ERROR] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [
        ("left_hippocampus", "right_hippocampus", "hippocampus"),
        ("Left-Cerebral-Cortex", "Right-Cerebral-Cortex", "Cerebral_Cortex"),
        ("thalamus_l", "thalamus_r", "thalamus"),
        ("liver_half", "spleen_half", "liver_half_and_spleen_half"),
    ],
)
def test_a_pair_is_named_by_what_its_structures_share(left, right, name):
    found = merged_sides(((left, right),), [left, right, "stem"], {})
    assert found == {name: (left, right), "foreground": (left, right, "stem")}


def test_groups_that_are_there_already_are_not_measured_twice():
    pair = (("left_lung", "right_lung"),)
    names = ["left_lung", "right_lung", "lung"]
    assert merged_sides(pair, names, {"both": ("right_lung", "left_lung")}) == {
        "foreground": tuple(names)
    }
    assert set(merged_sides(pair, names, {})) == {"lung_merged", "foreground"}
    assert merged_sides((), names, {}) == {}


def test_a_pair_of_unknown_structures_is_named():
    with pytest.raises(ValueError, match="left_right_pairs: 'liver' is none of the structures"):
        MeasureSettings(structures={"lung": 1}, left_right_pairs=(("lung", "liver"),))
