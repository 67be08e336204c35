"""A fault found without any right label: planted faults, and what must be refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from repair_shapes import AFFINE, FAULT, ORGAN, cohort, settings

from benchmark_runs import run_quickly
from builders import count_reads
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import Grid, read_grid, read_label
from segstudy.images.rigid import move_structure
from segstudy.repair import from_images
from segstudy.repair.cohort import estimate_cohort
from segstudy.repair.estimate import read_estimate
from segstudy.repair.sweep import iou
from segstudy.study import Repair

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = {"estimate_from": "images", "reference_case": None}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A first grid that is coarser than in earnest, for speed; the structures here are simple."""
    monkeypatch.setattr(from_images, "ANGLE_STEP_DEG", 30.0)
    monkeypatch.setattr(from_images, "STEPS", (2, 1))
    monkeypatch.setattr(from_images, "STEP_SHARE", (0.1, 0.08))
    monkeypatch.setattr(from_images, "STARTS", 3)


def repaired_iou(folder, cases, estimate) -> list[float]:
    scores = []
    for case in cases:
        wrong = read_label(case.label)
        fault = estimate.on(Grid(wrong.array.shape, wrong.affine))
        back = move_structure(wrong.array, ORGAN, np.linalg.inv(fault)) == ORGAN
        scores.append(iou(back, read_label(folder / f"{case.case}_right.nii.gz").array == ORGAN))
    return scores


def test_planted_fault_is_found_and_held_against_the_pair_where_there_is_one(tmp_path):
    cases = cohort(tmp_path)
    asked = settings(estimate_from="images").to_json()
    arguments = ["--cases", str(tmp_path / "cases.tsv"), "--settings", asked]
    assert main(["repair", "estimate", *arguments, "--output", str(tmp_path / "estimate")]) == 0
    found = read_estimate(tmp_path / "estimate/transform.json")
    assert found.method == "images"
    assert found.angle_deg == pytest.approx(-27, abs=1.5)
    assert min(repaired_iou(tmp_path, cases, found)) > 0.93
    assert found.reference_case == "p0"
    assert found.iou_after == pytest.approx(repaired_iou(tmp_path, cases[:1], found)[0])
    curve = pd.read_csv(tmp_path / "estimate/sweep.csv")
    best = curve.loc[curve["evidence"].idxmax(), "angle_deg"]
    assert best == pytest.approx(found.angle_deg, abs=2)


def test_without_a_pair_there_is_no_iou_and_no_repaired_reference(tmp_path, monkeypatch):
    """In millimetres, on patients with voxels of their own; a rotation in RAS is told in array axes."""
    affines = [AFFINE @ np.diag([1, 1, 1.0 + 0.1 * index, 1]) for index in range(3)]
    in_mm = AFFINE @ FAULT @ np.linalg.inv(AFFINE)
    cases = cohort(
        tmp_path, fault=lambda affine: np.linalg.inv(affine) @ in_mm @ affine, affines=affines
    )
    asked = settings(**IMAGES, frame="physical").to_json()
    arguments = ["--cases", str(tmp_path / "cases.tsv"), "--settings", asked]
    reads = count_reads(monkeypatch)
    assert main(["repair", "estimate", *arguments, "--output", str(tmp_path / "estimate")]) == 0
    assert reads == {file: 1 for case in cases for file in (*case.images, case.label)}
    found = read_estimate(tmp_path / "estimate/transform.json")
    assert (found.frame, found.reference_case, found.iou_after) == ("physical", None, None)
    assert found.angle_deg == pytest.approx(-27, abs=1.5)
    assert min(repaired_iou(tmp_path, cases, found)) > 0.9
    assert found.image_evidence["cases"] == 3
    assert not (tmp_path / "estimate/repaired.nii.gz").exists()
    attempts = pd.read_csv(tmp_path / "estimate/attempts.csv")
    assert attempts["method"].tolist() == ["images"]
    assert attempts[["iou_before", "iou_after", "iou_replayed"]].isna().all(axis=None)
    # The repair itself needs no pair either.
    apply = ["--transform", str(tmp_path / "estimate/transform.json"), "--settings", asked]
    apply = ["--cases", str(tmp_path / "cases.tsv"), *apply, "--output", str(tmp_path / "labels")]
    assert main(["repair", "apply", *apply]) == 0
    verdicts = pd.read_csv(tmp_path / "labels/verdicts.csv")
    assert set(verdicts["label"]) == {"moved"}
    assert "left" not in set(verdicts["verdict"])


def test_sound_labels_have_nothing_to_repair(tmp_path):
    cases = cohort(tmp_path, faulty=(False, False, False))
    with pytest.raises(InputError, match="nothing to repair that the images show"):
        estimate_cohort(cases, settings(**IMAGES))


def test_two_cases_are_too_few(tmp_path):
    cases = cohort(tmp_path, faulty=(True, True))
    with pytest.raises(InputError, match="2 cases hold the structure; expected 3 or more"):
        estimate_cohort(cases, settings(**IMAGES))


def test_a_given_transform_needs_no_pair(tmp_path, caplog):
    cases = cohort(tmp_path)
    asked = settings(reference_case=None, transform=FAULT.tolist())
    found = estimate_cohort(cases, asked)
    assert "no reference_case to check it on" in caplog.text
    assert found.estimate.matrix_voxel == pytest.approx(FAULT)
    assert found.estimate.angle_deg == pytest.approx(-27)
    assert found.estimate.iou_before is None
    grid = read_grid(cases[1].label)
    assert found.estimate.on(grid) == pytest.approx(FAULT)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "reference_case: needed to estimate from a pair"),
        (
            {"estimate_from": "images", "transform": np.eye(4).tolist()},
            "nothing is estimated where",
        ),
    ],
)
def test_settings_that_say_too_little_or_too_much(asked, message):
    with pytest.raises(ValueError, match=message):
        Repair.model_validate(json.loads(json.dumps({"structure": "organ", **asked})))


@pytest.mark.long
def test_the_benchmark_runs_and_reaches_its_targets():
    run = run_quickly("repair_images")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "| phantom CT | heart | 3 | nothing | refused: nothing to repair |" in run.stdout
