"""Undoing the fault: known truth on cohorts, verdicts from the image, and what is lost for good."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from repair_shapes import AFFINE, ORGAN, VESSEL, cohort, lobed, patient, settings

from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import Image, read_image, read_label, write_label, write_nifti
from segstudy.images.rigid import move_structure, segthor_corruption, translation
from segstudy.repair.apply import Reverted, fill_vacated, judge, repair_case, revert
from segstudy.repair.cohort import estimate_cohort
from segstudy.repair.evidence import Evidence, measure, smoothness
from segstudy.repair.sweep import iou, superior_axis, sweep


def organ_iou(label: Image, right: np.ndarray) -> float:
    return iou(label.array == ORGAN, right == ORGAN)


def test_faulty_cases_are_repaired_and_a_right_one_is_left(tmp_path):
    cases = cohort(tmp_path, faulty=(True, True, False, True))
    estimate = estimate_cohort(cases, settings()).estimate
    verdicts = []
    for index, case in enumerate(cases):
        right = patient(index)[1]
        label, verdict = repair_case(case, estimate, settings())
        verdicts.append((verdict.verdict, verdict.label))
        before = organ_iou(read_label(case.label), right)
        assert organ_iou(label, right) >= 0.95
        assert before == 1 if index == 2 else before < 0.5
    assert verdicts == [
        ("repaired", "reference"),
        ("repaired", "moved"),
        ("left", "delivered"),
        ("repaired", "moved"),
    ]


def test_a_case_that_is_left_keeps_every_voxel(tmp_path):
    cases = cohort(tmp_path, faulty=(True, False))
    estimate = estimate_cohort(cases, settings()).estimate
    label, verdict = repair_case(cases[1], estimate, settings())
    assert verdict.verdict == "left"
    assert np.array_equal(label.array, read_label(cases[1].label).array)
    assert "worse" in verdict.remark


def test_evidence_before_and_after_is_recorded(tmp_path):
    cases = cohort(tmp_path)
    _, verdict = repair_case(cases[1], estimate_cohort(cases, settings()).estimate, settings())
    assert verdict.gradient_after > 2 * verdict.gradient_before
    assert verdict.spread_after < verdict.spread_before / 2


def test_undo_moves_one_structure_and_counts_the_cost():
    label = np.zeros((10, 6, 6), np.uint8)
    label[0:3, 2, 2] = ORGAN  # as delivered: moved by -4 along i, its first voxels on the border
    label[5, 2, 2] = VESSEL  # where its second voxel lands
    label[8, 5, 5] = 1
    reverted = revert(label, ORGAN, translation((4, 0, 0)))
    assert reverted.label[:, 2, 2].tolist() == [0, 0, 0, 0, 2, 2, 2, 0, 0, 0]
    assert reverted.label[8, 5, 5] == 1
    assert (reverted.moved, reverted.overwritten, reverted.lost_outside, reverted.at_border) == (
        3,
        1,
        0,
        1,
    )
    outside = revert(label, ORGAN, translation((8, 0, 0)))
    assert outside.lost_outside == 1


def test_holes_are_left_unless_filling_is_asked_for(tmp_path):
    # The moved organ lands on the vessel and cuts a piece out of it.
    fault = translation((3, -14, 0))
    cases = cohort(tmp_path, fault=fault)
    right = patient(1)[1]
    destroyed = (move_structure(right, ORGAN, fault) == ORGAN) & (right == VESSEL)
    assert destroyed.sum() > 100
    left, verdict = repair_case(cases[1], estimate_cohort(cases, settings()).estimate, settings())
    assert not (left.array[destroyed] == VESSEL).any()
    assert verdict.voxels_filled == 0
    assert verdict.voxels_vacated_near_others > 50
    asked = settings(fill_holes="nearest")
    filled, verdict = repair_case(cases[1], estimate_cohort(cases, asked).estimate, asked)
    assert verdict.voxels_filled == verdict.voxels_vacated_near_others
    # Filling is careful: what it gives back was nearly always there, but it finds only a part.
    given = (filled.array == VESSEL) & (left.array != VESSEL)
    assert (right[given] == VESSEL).mean() > 0.8
    assert (filled.array[destroyed] == VESSEL).mean() > 0.25
    assert organ_iou(filled, right) == organ_iou(left, right)


def test_fill_measures_distance_in_millimetres():
    label = np.zeros((5, 5, 5), np.uint8)
    label[2, 2, 4] = 3  # two slices away
    label[0, 2, 2] = 7  # two columns away
    vacated = np.zeros(label.shape, bool)
    vacated[1:4, 1:4, 1:4] = True
    vacated[2, 2, 3] = vacated[1, 2, 2] = True
    assert fill_vacated(label, vacated, (1, 1, 5))[1, 2, 2] == 7
    assert fill_vacated(label, vacated, (1, 1, 5))[2, 2, 3] == 0
    assert fill_vacated(label, vacated, (5, 5, 1))[2, 2, 3] == 3


def test_a_structure_cut_off_by_the_border_is_for_review(tmp_path):
    shape = (64, 60, 30)
    fault = translation((-2, -3, 11))  # pushes half of the organ below the first slice
    cases = cohort(tmp_path, fault=fault)
    estimate = estimate_cohort(cases, settings()).estimate
    label, verdict = repair_case(cases[1], estimate, settings())
    assert verdict.verdict == "review"
    assert verdict.label == "moved"
    assert "cut off by the border" in verdict.remark
    assert verdict.voxels_at_border > 0
    right = patient(1)[1]
    kept = label.array == ORGAN
    assert label.array.shape == shape
    assert (right[kept] == ORGAN).all()  # what is left is in its place
    assert kept.sum() < 0.8 * (right == ORGAN).sum()


def test_a_structure_that_would_leave_the_grid_stays(tmp_path):
    cases = cohort(tmp_path, faulty=(True, False), fault=translation((0, 0, 12)))
    label = read_label(cases[1].label).array
    label[label == ORGAN] = 0
    label[20:24, 20:24, 27:30] = ORGAN
    write_label(cases[1].label, label, AFFINE)
    estimate = estimate_cohort(cases, settings()).estimate
    written, verdict = repair_case(cases[1], estimate, settings())
    assert (verdict.verdict, verdict.label) == ("review", "delivered")
    assert "leave the grid altogether" in verdict.remark
    assert np.array_equal(written.array, label)


def test_a_case_without_the_structure_is_for_review(tmp_path):
    cases = cohort(tmp_path)
    label = read_label(cases[1].label).array
    write_label(cases[1].label, np.where(label == ORGAN, 0, label), AFFINE)
    _, verdict = repair_case(cases[1], estimate_cohort(cases, settings()).estimate, settings())
    assert (verdict.verdict, verdict.remark) == ("review", "no voxel of organ")


def test_a_case_of_one_voxel_gets_a_verdict(tmp_path):
    cases = cohort(tmp_path)
    label = np.zeros((64, 60, 30), np.uint8)
    label[20, 20, 14] = ORGAN
    write_label(cases[1].label, label, AFFINE)
    written, verdict = repair_case(
        cases[1], estimate_cohort(cases, settings()).estimate, settings()
    )
    assert verdict.verdict in ("review", "left", "repaired")
    assert verdict.voxels_moved == 1
    assert (written.array == ORGAN).sum() == 1


def test_an_undetermined_rotation_repairs_nothing_without_review(tmp_path):
    cases = cohort(tmp_path)
    for kind in ("label", "right"):
        path = tmp_path / f"p0_{kind}.nii.gz"
        label = read_label(path).array
        middle = np.argwhere(label == ORGAN).mean(axis=0)
        grid = np.indices(label.shape)
        ball = sum((axis - c) ** 2 for axis, c in zip(grid, middle, strict=True)) < 64
        write_label(path, np.where(ball, ORGAN, 0), AFFINE)
    estimate = estimate_cohort(cases, settings()).estimate
    assert estimate.rotation == "undetermined"
    _, verdict = repair_case(cases[1], estimate, settings())
    assert verdict.verdict != "repaired"


def test_non_finite_voxels_are_refused_by_name(tmp_path):
    cases = cohort(tmp_path)
    estimate = estimate_cohort(cases, settings()).estimate
    image = read_image(cases[1].images).array[0]
    image[4, 5, 6] = np.nan
    write_nifti(cases[1].images[0], image, AFFINE)
    with pytest.raises(InputError, match=r"p1.nii.gz: case p1: 1 voxels are not finite"):
        repair_case(cases[1], estimate, settings())


def test_reference_with_the_structure_alone_keeps_the_others(tmp_path):
    cases = cohort(tmp_path)
    right = patient(0)[1]
    write_label(cases[0].reference_label, np.where(right == ORGAN, ORGAN, 0), AFFINE)
    label, verdict = repair_case(cases[0], estimate_cohort(cases, settings()).estimate, settings())
    assert verdict.label == "reference"
    assert np.array_equal(label.array == ORGAN, right == ORGAN)
    assert (label.array == VESSEL).sum() > 0


# --- evidence and verdicts --------------------------------------------------------------------------


def test_gradient_across_a_plane_is_the_step_over_the_blur():
    # A step of 100 seen through a Gaussian of sigma s has the slope 100 / (s sqrt(2 pi)) at the edge.
    image = np.zeros((1, 60, 24, 24), np.float32)
    image[0, 30:] = 100
    mask = np.zeros(image.shape[1:], bool)
    mask[30:] = True
    found = measure(image, mask, (1.0, 1.0, 1.0))
    # Averaged over the surface, itself blurred by the same Gaussian: sigma becomes s sqrt(2).
    assert found.gradient[0] == pytest.approx(100 / np.sqrt(4 * np.pi), rel=0.06)
    assert found.spread[0] == 0
    assert measure(image, mask, (2.0, 2.0, 2.0)).gradient[0] == pytest.approx(
        found.gradient[0] / 2, rel=1e-5
    )


def test_spread_is_the_mean_absolute_deviation():
    image = np.arange(8.0, dtype=np.float32).reshape(1, 8, 1, 1)
    mask = np.zeros((8, 1, 1), bool)
    mask[[1, 2, 6]] = True
    assert measure(image, mask, (1, 1, 1)).spread[0] == pytest.approx((1 + 0 + 4) / 3)


def test_smoothness_is_the_dice_of_neighbouring_slices():
    mask = np.zeros((6, 4, 5), bool)
    mask[0:4, 0, 1], mask[2:6, 0, 2], mask[2:4, 0, 3] = True, True, True
    assert smoothness(mask, 2) == pytest.approx((2 * 2 / 8 + 2 * 2 / 6) / 2)
    assert smoothness(mask[:, :, 1:2], 2) == 1
    assert smoothness(mask, 1) == 1  # it lies in one slice
    mask[:, :, 2] = False
    assert smoothness(mask, 2) == 0  # a gap


def test_a_structure_that_gets_ragged_is_for_review():
    before, after = Evidence((10,), (50,), 0.9), Evidence((20,), (20,), 0.7)
    verdict, move, remark = judge(before, after, FITS)
    assert (verdict, move) == ("review", True)
    assert "smoothness through slices worse" in remark


def test_an_ambiguous_rotation_repairs_nothing_without_review(tmp_path):
    cases = cohort(tmp_path)
    estimate = estimate_cohort(cases, settings()).estimate
    assert estimate.rotation == "determined"
    doubtful = replace(estimate, rotation="ambiguous", rival_deg=153.0)
    _, verdict = repair_case(cases[1], doubtful, settings())
    assert (verdict.verdict, verdict.label) == ("review", "moved")
    assert "rotation is ambiguous" in verdict.remark


FITS = Reverted(np.zeros(1), moved=1000, lost_outside=0, overwritten=5, at_border=0)
CLASHES = Reverted(np.zeros(1), moved=1000, lost_outside=100, overwritten=300, at_border=0)


@pytest.mark.parametrize(
    ("gradient", "spread", "reverted", "verdict", "move"),
    [
        ((10, 20), (50, 20), FITS, "repaired", True),
        ((20, 10), (20, 50), FITS, "left", False),
        ((20, 10), (20, 50), CLASHES, "left", False),
        ((20, 10), (20, 20), CLASHES, "left", False),
        ((10, 20), (50, 20), CLASHES, "review", True),
        ((10, 20), (20, 50), FITS, "review", True),
        ((10, 20), (20, 50), CLASHES, "review", False),
        ((10, 10.1), (20, 20.1), FITS, "review", True),
    ],
)
def test_verdict_follows_from_the_evidence(gradient, spread, reverted, verdict, move):
    before, after = (Evidence((gradient[n],), (spread[n],)) for n in (0, 1))
    found, moved, reasons = judge(before, after, reverted)
    assert (found, moved) == (verdict, move)
    assert reasons


# --- the command ------------------------------------------------------------------------------------


def test_apply_writes_a_label_for_every_case_and_the_verdicts(tmp_path):
    cohort(tmp_path, faulty=(True, True, False))
    table = ["--cases", str(tmp_path / "cases.tsv"), "--settings", settings().to_json()]
    assert main(["repair", "estimate", *table, "--output", str(tmp_path / "estimate")]) == 0
    transform = ["--transform", str(tmp_path / "estimate" / "transform.json")]
    for name in ("one", "two"):
        selected = ["--select", "p2", "p1"]
        output = ["--output", str(tmp_path / name)]
        assert main(["repair", "apply", *table, *transform, *selected, *output]) == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["p1.nii.gz", "p2.nii.gz", "verdicts.csv"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    verdicts = pd.read_csv(tmp_path / "one" / "verdicts.csv")
    assert verdicts["case"].tolist() == ["p1", "p2"]
    assert verdicts["verdict"].tolist() == ["repaired", "left"]
    written = read_label(tmp_path / "one" / "p1.nii.gz")
    assert np.allclose(written.affine, AFFINE)
    assert organ_iou(written, patient(1)[1]) >= 0.95


def test_simulate_plants_the_corruption_that_estimate_finds(tmp_path):
    (tmp_path / "labels").mkdir()
    shape = (96, 90, 40)
    for index in range(2):
        label = np.zeros(shape, np.uint8)
        label[lobed(shape, (50 + 2 * index, 44, 22), (14, 10, 7))] = ORGAN
        label[5:9, 5:9] = VESSEL
        write_label(tmp_path / "labels" / f"p{index}.nii.gz", label, AFFINE)
    for step in ("simulate", "tamper"):  # the latter until 0.2.0
        output = ["--output", str(tmp_path / step)]
        assert main(["repair", step, str(tmp_path / "labels"), "--value", "2", *output]) == 0
    for index in range(2):
        name = f"p{index}.nii.gz"
        right, wrong = (read_label(tmp_path / f / name).array for f in ("labels", "simulate"))
        assert (tmp_path / "tamper" / name).read_bytes() == (
            tmp_path / "simulate" / name
        ).read_bytes()
        assert np.array_equal(wrong, move_structure(right, ORGAN, segthor_corruption(shape)))
        found = sweep(right == ORGAN, wrong == ORGAN, superior_axis(AFFINE))
        assert found.angle_deg == pytest.approx(-27, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--value", "9"], "no voxel of value 9"),
        (["--value", "2", "--matrix", "[[1, 0], [0, 1]]"], "expected 4x4"),
        (["--value", "2", "--matrix", "nonsense"], "--matrix: not readable as JSON"),
        (["--value", "2", "--matrix", str(np.diag([0, 1, 1, 1]).tolist())], "cannot be inverted"),
    ],
)
def test_simulate_refuses_what_makes_no_sense(tmp_path, capsys, arguments, words):
    write_label(tmp_path / "a.nii.gz", patient(0)[1], AFFINE)
    output = ["--output", str(tmp_path / "moved")]
    assert main(["repair", "simulate", str(tmp_path / "a.nii.gz"), *arguments, *output]) == 1
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "moved").glob("*")) if (tmp_path / "moved").exists() else True


def test_simulate_does_not_overwrite_its_source(tmp_path, capsys):
    path = tmp_path / "a.nii.gz"
    write_label(path, patient(0)[1], AFFINE)
    before = path.read_bytes()
    assert main(["repair", "simulate", str(path), "--value", "2", "--output", str(tmp_path)]) == 1
    assert "would overwrite" in capsys.readouterr().err
    assert path.read_bytes() == before


# --- a real scan ------------------------------------------------------------------------------------


def test_real_thorax_heart_is_put_back_and_a_right_one_left(real_data):
    folder = real_data / "thorax_ct"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    image = read_image(folder / "ct_cropped.nii.gz")
    label = read_label(next(folder.glob("label_heart1*.nii.gz")))
    right, heart = label.array, 1
    wrong = move_structure(right, heart, segthor_corruption(right.shape))
    assert iou(wrong == heart, right == heart) < 0.5
    found = sweep(right == heart, wrong == heart, superior_axis(label.affine))
    assert found.angle_deg == pytest.approx(-27, abs=0.05)
    verdicts = []
    for delivered in (wrong, right):
        reverted = revert(delivered, heart, found.matrix)
        before, after = (
            measure(image.array, array == heart, label.spacing_mm)
            for array in (delivered, reverted.label)
        )
        verdicts.append(judge(before, after, reverted)[0])
        if delivered is wrong:
            assert iou(reverted.label == heart, right == heart) >= 0.97
    assert verdicts == ["repaired", "left"]
