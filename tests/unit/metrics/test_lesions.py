"""Lesion by lesion: closed forms, the outcome of every empty case, and the values of panoptica and BraTS 2023's scorer."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark_runs import run_quickly
from lesion_pairs import pairs
from segstudy.cli import main
from segstudy.images.files import write_label
from segstudy.metric import OF_LESIONS, find
from segstudy.metrics.measure import measure, metric_names, missing
from segstudy.study import Lesions, MeasureSettings, Metrics

PEERS = json.loads((Path(__file__).parent / "lesion_peers.json").read_text())
PAIRS = pairs()
INF = float("inf")


def measured(reference, prediction, spacing_mm=(1, 1, 1), lesions="panoptica", surface="mesh"):
    asked = Metrics.model_validate({"lesions": lesions, "surface": surface})
    (found,) = measure(reference, prediction, spacing_mm, {"a": (1,)}, asked)
    return found


def scored(*arguments, **settings):
    found = measured(*arguments, **settings).values
    return [found[name] for name in OF_LESIONS if name in found]


def cubes(*corners, size=3):
    """Cubes of 3 voxels a side."""
    mask = np.zeros((40, 12, 12), np.uint8)
    for i, j, k in corners:
        mask[i : i + size, j : j + size, k : k + size] = 1
    return mask


def test_names():
    names = metric_names(Metrics(lesions=Lesions(structures=("a",))), "a")
    assert names[-7:] == list(OF_LESIONS)
    assert not set(metric_names(Metrics(lesions=Lesions(structures=("a",))), "b")) & set(OF_LESIONS)
    assert [find(name).name for name in OF_LESIONS] == list(OF_LESIONS)


def test_counted_by_hand():
    """Three lesions: one found, one found in two thirds, one missed; one false."""
    reference = cubes((2, 2, 2), (12, 2, 2), (22, 2, 2))
    prediction = cubes((2, 2, 2), (32, 2, 2))
    prediction[12:14, 2:5, 2:5] = 1
    f1, precision, recall, false, quality, dice, hd95_mm = scored(reference, prediction)
    assert (f1, precision, recall, false) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 1))
    assert quality == pytest.approx((1 + 2 / 3) / 3)
    assert dice == pytest.approx((1 + 36 / 45) / 2)
    assert 0.3 < hd95_mm <= 0.5
    # With the rules of BraTS a missed and a false one have Dice 0 and 374 mm; 27 mm³ are too few.
    rules = {"preset": "brats2023", "min_volume_mm3": 2}
    found = scored(reference, prediction, lesions=rules)
    assert found[5] == pytest.approx((1 + 36 / 45) / 4)
    assert found[6] == pytest.approx((2 * hd95_mm + 2 * 374) / 4)
    assert scored(reference, prediction, lesions="brats2023") == []


def test_what_touches_and_what_lies_close():
    reference, prediction = cubes((2, 2, 2), (8, 2, 2)), cubes((2, 2, 2), (8, 2, 2))
    merging = {"preset": "brats2023", "min_volume_mm3": 0}
    (lesion,) = measured(reference, prediction, lesions=merging).lesions
    assert (lesion.number, lesion.predicted, lesion.dice, lesion.hd95_mm) == (1, (1, 2), 1, 0)
    assert lesion.reference_mm3 == 54
    assert len(measured(reference, prediction, lesions=merging | {"merge_voxels": 1}).lesions) == 2
    # Corner to corner: one with 26 neighbours, two with 18.
    corner = cubes((2, 2, 2), (5, 5, 5))
    assert len(measured(corner, corner).lesions) == 1
    assert len(measured(corner, corner, lesions={"connectivity": 18}).lesions) == 2


def test_a_pair_needs_its_iou_and_none_is_in_two():
    reference = cubes((2, 2, 2), (6, 2, 2))
    joined = reference.copy()
    joined[5, 2:5, 2:5] = 1  # 63 voxels, 27 of each lesion
    assert [one.outcome for one in measured(reference, joined).lesions] == ["missed"] * 2 + [
        "false"
    ]
    outcomes = [
        one.outcome for one in measured(reference, joined, lesions={"min_iou": 0.4}).lesions
    ]
    assert outcomes == ["found", "missed"]


def test_small_lesions_count_neither_as_found_nor_as_missed():
    reference = cubes((2, 2, 2), (12, 2, 2))
    reference[22, 2, 2] = 1
    rules = {"min_volume_mm3": 1}
    for prediction in (reference, cubes((2, 2, 2), (12, 2, 2))):
        assert scored(reference, prediction, lesions=rules)[:4] == [1, 1, 1, 0]
    assert [one.counts for one in measured(reference, reference, lesions=rules).lesions] == [
        *(True, True, False)
    ]


EMPTY = np.zeros((40, 12, 12), np.uint8)


def test_empty_cases():
    held = cubes((2, 2, 2))
    of_none = scored(held, EMPTY)
    # The precision of nothing is undefined, as that of voxels; the statistics take the worst value, 0.
    assert np.isnan(of_none.pop(1)) and of_none == [0, 0, 0, 0, 0, INF]
    assert np.isnan(measured(held, EMPTY).values["precision"])
    assert scored(held, EMPTY, lesions="brats2023")[:1] == []
    assert scored(held, EMPTY, lesions={"average": "all"})[-2:] == [0, 374]
    assert scored(held, EMPTY, lesions={"average": "all", "missed_mm": 100})[-2:] == [0, 100]
    assert np.isnan(scored(EMPTY, held)).all()
    (false,) = measured(EMPTY, held).lesions
    assert (false.outcome, false.centre, false.predicted_mm3) == ("false", (3.0, 3.0, 3.0), 27)
    assert np.isnan(scored(EMPTY, EMPTY)).all()
    # None is found, though something is predicted.
    assert scored(held, np.roll(held, 10, axis=0)) == [0, 0, 0, 1, 0, 0, INF]
    (lost,) = missing(held, (1, 1, 1), {"a": (1,)}, Metrics(lesions=Lesions()))
    assert [one.outcome for one in lost.lesions] == ["missed"]
    assert np.isnan([lost.values[name] for name in OF_LESIONS]).all()


@pytest.mark.parametrize("name", PAIRS)
def test_as_panoptica(name):
    reference, prediction, spacing_mm = PAIRS[name]
    peer = PEERS["values"][name]["panoptica"]
    found = measured(reference, prediction, spacing_mm, surface="voxel").values
    for score in (*OF_LESIONS[:5], "lesionwise_dice"):
        if np.isfinite(peer[score]):  # else nothing was found, which is 0 here
            assert found[score] == pytest.approx(peer[score], abs=1e-12), score
        else:
            assert found[score] == 0, score
    # panoptica pools both directions, and ours is the larger of two: the same where both are alike.
    if name in ("the same", "moved"):
        assert found["lesionwise_hd95_mm"] == pytest.approx(peer["pooled_hd95_mm"])


@pytest.mark.parametrize("name", PAIRS)
def test_as_brats(name):
    reference, prediction, spacing_mm = PAIRS[name]
    peer = PEERS["values"][name]["brats2023"]
    one = measured(reference, prediction, spacing_mm, "brats2023", "surfel")
    counted = [lesion for lesion in one.lesions if lesion.counts]
    outcomes = [lesion.outcome for lesion in counted]
    assert [outcomes.count(outcome) for outcome in ("found", "missed", "false")] == [
        *(peer["found"], peer["missed"], peer["lesion_false_positives"])
    ]
    for score in ("lesionwise_dice", "lesionwise_hd95_mm"):
        # The scorer reads voxel sizes in single precision.
        assert one.values[score] == pytest.approx(peer[score], rel=1e-6), score


def test_table_of_lesions(tmp_path):
    for folder in ("reference", "prediction"):
        (tmp_path / folder).mkdir()
    lesions = cubes((2, 2, 2), (12, 2, 2))
    for case in ("a", "b"):
        write_label(tmp_path / "reference" / f"{case}.nii.gz", lesions, np.diag([1, 1, 2, 1.0]))
    write_label(
        tmp_path / "prediction" / "a.nii.gz", cubes((2, 2, 2), (30, 2, 2)), np.diag([1, 1, 2, 1.0])
    )
    settings = {"structures": {"lesion": 1}, "metrics": {"lesions": "panoptica"}}
    command = ["metrics", "--reference", str(tmp_path / "reference")]
    command += ["--prediction", str(tmp_path / "prediction"), "--output", str(tmp_path / "m.csv")]
    wanted = ["--instances", str(tmp_path / "instances.csv")]
    json_text = MeasureSettings.model_validate(settings).to_json()
    assert main([*command, *wanted, "--settings", json_text]) == 0
    table = pd.read_csv(tmp_path / "instances.csv")
    assert table[["case", "outcome"]].to_numpy().tolist() == [
        *(["a", "found"], ["a", "missed"], ["a", "false"]),
        *(["b", "missed"], ["b", "missed"]),
    ]
    assert table["reference_mm3"].tolist() == [54, 54, 0, 54, 54]
    collected = [str(tmp_path / "instances.csv")] * 2
    joined = ["--collect-instances", *collected, "--instances", str(tmp_path / "all.csv")]
    assert main(["metrics", "--collect", str(tmp_path / "m.csv"), *joined, *command[-2:]]) == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == 10


def test_a_table_of_lesions_needs_lesions(tmp_path, capsys):
    path = tmp_path / "a.nii.gz"
    write_label(path, cubes((2, 2, 2)), np.eye(4))
    files = [
        "--reference",
        str(path),
        "--prediction",
        str(path),
        "--output",
        str(tmp_path / "m.csv"),
    ]
    assert main(["metrics", *files, "--instances", str(tmp_path / "i.csv")]) == 1
    assert "no lesions are measured; ask for them" in capsys.readouterr().err


@pytest.mark.long
def test_the_benchmark_runs():
    run = run_quickly("lesions")
    assert run.returncode == 0, run.stderr
    assert "| segstudy |" in run.stdout
