"""The estimate from files: methods compared, frames, transform files, and clear refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from repair_shapes import AFFINE, FAULT, ORGAN, cohort, lobed, moved, settings

from segstudy.cases import read_cases
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.files import Grid, read_label, write_label, write_nifti
from segstudy.images.rigid import rotation, segthor_corruption, translation
from segstudy.repair.cohort import estimate_cohort
from segstudy.repair.elastix import register
from segstudy.repair.estimate import angle_about, estimate, read_estimate
from segstudy.repair.sweep import iou, replayed_iou
from segstudy.study import Elastix

QUICK = {"resolutions": 2, "iterations": 60, "images": ["masks"]}


@pytest.fixture
def cases(tmp_path):
    return cohort(tmp_path)


def test_every_method_is_scored_and_the_best_wins(cases):
    asked = settings(methods=["sweep", "elastix"], elastix=QUICK)
    found = estimate_cohort(cases, asked)
    assert [attempt.method for attempt in found.attempts] == [
        "sweep",
        "elastix rigid, masks",
        "elastix affine, masks",
    ]
    assert found.estimate.iou_replayed == max(attempt.iou for attempt in found.attempts)
    assert found.estimate.angle_deg == pytest.approx(-27, abs=0.1)
    assert found.estimate.iou_before < 0.5
    assert found.estimate.iou_after > 0.95


@pytest.mark.parametrize("step_deg", [1.0, 8.0])
def test_the_circle_is_swept_in_steps_as_asked(cases, step_deg):
    """Far from the optimum the curve has the first step, and the optimum is found from coarse steps too."""
    found = estimate_cohort(cases, settings(angle_step_deg=step_deg))
    assert found.estimate.angle_deg == pytest.approx(-27, abs=0.1)
    far = found.sweep.angles_deg[np.abs(found.sweep.angles_deg) > 60]
    np.testing.assert_allclose(np.diff(far[far > 0]), step_deg)
    np.testing.assert_allclose(np.diff(far[far < 0]), step_deg)


def test_elastix_finds_a_rigid_fault_with_axes_in_the_right_order():
    # Three different rotations would hide a swap of axes only if all were equal.
    shape = (60, 50, 40)
    right = lobed(shape, (30, 24, 20), (14, 10, 8))
    pivot = translation((30, 24, 20))
    turn = rotation(2, 18) @ rotation(1, -7) @ rotation(0, 4)
    fault = pivot @ turn @ np.linalg.inv(pivot) @ translation((3.4, -2.7, 1.6))
    wrong = moved(right, fault)
    [found] = register(
        right, wrong, (1, 1, 1), Elastix(transforms=("rigid",), images=("masks",), iterations=200)
    )
    assert found.reason == ""
    assert replayed_iou(right, wrong, found.matrix) > 0.97
    centroid = np.append(np.argwhere(wrong).mean(axis=0), 1)
    assert np.abs((found.matrix - fault) @ centroid)[:3].max() < 0.25
    assert found.matrix[:3, :3] == pytest.approx(fault[:3, :3], abs=0.02)


def test_elastix_in_millimetres_is_rigid_in_millimetres():
    shape, spacing = (60, 50, 40), (1.0, 1.5, 2.5)
    scale = np.diag([*spacing, 1.0])
    right = lobed(shape, (30, 24, 20), (14, 9, 7))
    pivot = translation((30, 36, 50))  # in mm
    in_mm = pivot @ rotation(2, 25) @ np.linalg.inv(pivot) @ translation((4, -3, 2.5))
    wrong = moved(right, np.linalg.inv(scale) @ in_mm @ scale)
    [found] = register(
        right, wrong, spacing, Elastix(transforms=("rigid",), images=("distances",), iterations=200)
    )
    assert replayed_iou(right, wrong, found.matrix) > 0.95
    turn = (scale @ found.matrix @ np.linalg.inv(scale))[:3, :3]
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-3)


def test_a_registration_that_fails_is_a_row_with_its_reason(cases, monkeypatch):
    def fails(*_):
        raise RuntimeError(
            "ITK ERROR: Foo(0x55d): Too many samples map outside moving image buffer: 0 / 2048"
        )

    monkeypatch.setattr("segstudy.repair.elastix._run", fails)
    found = estimate_cohort(cases, settings(methods=["sweep", "elastix"], elastix=QUICK))
    assert found.estimate.method == "sweep"
    assert "Too many samples map outside" in found.attempts[1].reason
    assert found.attempts[1].matrix is None
    with pytest.raises(InputError, match="failed: .*Too many samples"):
        estimate_cohort(cases, settings(methods=["elastix"], elastix=QUICK))


def test_elastix_gives_the_same_answer_each_time():
    right = lobed((40, 40, 30), (20, 18, 15), (10, 7, 6))
    wrong = moved(right, segthor_corruption((80, 80, 30)))
    asked = Elastix(**QUICK)
    one, other = (register(right, wrong, (1, 1, 1), asked) for _ in range(2))
    assert [a.matrix.tolist() for a in one] == [a.matrix.tolist() for a in other]


def test_physical_frame_transfers_to_cases_with_other_voxels(tmp_path):
    in_mm = translation((-40, -35, 30)) @ rotation(2, 20) @ translation((30, 32, -35))
    affines = [AFFINE, np.diag([-1.2, -1.2, 3.0, 1]), np.diag([-1.7, -1.4, 2.2, 1])]
    cases = cohort(
        tmp_path, fault=lambda affine: np.linalg.inv(affine) @ in_mm @ affine, affines=affines
    )
    found = estimate_cohort(cases, settings(frame="physical")).estimate
    assert found.iou_replayed > 0.99
    for case, affine in zip(cases[1:], affines[1:], strict=True):
        truth = np.linalg.inv(affine) @ in_mm @ affine
        wrong = read_label(case.label).array == ORGAN
        right = read_label(tmp_path / f"{case.case}_right.nii.gz").array == ORGAN
        matrix = found.on(Grid(right.shape, affine))
        middle = np.append(np.argwhere(wrong).mean(axis=0), 1)
        assert np.abs((matrix - truth) @ middle)[:3].max() < 0.25
        assert replayed_iou(right, wrong, matrix) > 0.97


def test_both_matrices_and_the_itk_file_say_the_same(cases, tmp_path):
    code = main(
        ["repair", "estimate", "--cases", str(tmp_path / "cases.tsv")]
        + ["--settings", settings().to_json(), "--output", str(tmp_path / "estimate")]
    )
    assert code == 0
    found = read_estimate(tmp_path / "estimate" / "transform.json")
    assert found.matrix_mm == pytest.approx(AFFINE @ found.matrix_voxel @ np.linalg.inv(AFFINE))
    # ITK, resampling the right label with the transform, makes the delivered one.
    right = SimpleITK.ReadImage(str(tmp_path / "p0_right.nii.gz")) == ORGAN
    wrong = SimpleITK.ReadImage(str(tmp_path / "p0_label.nii.gz")) == ORGAN
    transform = SimpleITK.ReadTransform(str(tmp_path / "estimate" / "transform.tfm"))
    replayed = SimpleITK.Resample(right, wrong, transform, SimpleITK.sitkNearestNeighbor, 0)
    one, other = (SimpleITK.GetArrayFromImage(image).astype(bool) for image in (replayed, wrong))
    assert iou(one, other) == pytest.approx(found.iou_replayed, abs=2e-3)
    assert found.iou_replayed > 0.99
    names = sorted(path.name for path in (tmp_path / "estimate").iterdir())
    assert names == [
        "attempts.csv",
        "repaired.nii.gz",
        "seconds.csv",
        "sweep.csv",
        "transform.json",
        "transform.tfm",
    ]
    repaired = read_label(tmp_path / "estimate" / "repaired.nii.gz")
    right = read_label(cases[0].reference_label).array == ORGAN
    assert iou(repaired.array == 1, right) == pytest.approx(found.iou_after)


def test_same_bytes_each_time(cases, tmp_path):
    asked = settings(methods=["sweep", "elastix"], elastix=QUICK).to_json()
    for name in ("one", "two"):
        arguments = ["--cases", str(tmp_path / "cases.tsv"), "--settings", asked]
        assert main(["repair", "estimate", *arguments, "--output", str(tmp_path / name)]) == 0
    for path in (tmp_path / "one").iterdir():
        if path.name == "seconds.csv":
            continue  # what differs from run to run has a table to itself
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_translation_is_what_the_structure_was_moved_by(cases):
    found = estimate_cohort(cases, settings()).estimate
    right, wrong = (
        read_label(path).array == ORGAN for path in (cases[0].reference_label, cases[0].label)
    )
    shift = np.argwhere(right).mean(axis=0) - np.argwhere(wrong).mean(axis=0)
    assert found.translation_voxels == pytest.approx(shift, abs=0.25)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle_deg", [-170, -27, 3.5, 90, 133])
def test_angle_is_read_from_a_matrix(axis, angle_deg):
    spacing = (0.8, 1.7, 2.9)
    scale = np.diag([*spacing, 1.0])
    matrix = translation((4, 5, 6)) @ rotation(axis, angle_deg)
    assert angle_about(matrix, axis, None) == pytest.approx(angle_deg)
    in_voxels = np.linalg.inv(scale) @ matrix @ scale
    assert angle_about(in_voxels, axis, spacing) == pytest.approx(angle_deg)


# --- refusals ---------------------------------------------------------------------------------------


def test_unrelated_masks_are_refused_with_all_attempts(cases):
    shape = (64, 60, 30)
    right = lobed(shape, (30, 26, 14), (11, 8, 6))
    wrong = np.zeros(shape, bool)
    wrong[5:9, 3:50, 2:20] = True
    with pytest.raises(InputError, match=r"minimum_iou.*\n +sweep: IoU 0\.\d+") as error:
        estimate(right, wrong, AFFINE, settings().repair)
    assert "frame: physical" in str(error.value)


def test_reference_case_must_be_in_the_table(cases):
    with pytest.raises(
        InputError, match=r"'p9' is not in the case table; expected one of p0, p1, p2"
    ):
        estimate_cohort(cases, settings(reference_case="p9"))


def test_reference_case_must_have_a_right_label(cases):
    with pytest.raises(InputError, match="p1 has no reference_label"):
        estimate_cohort(cases, settings(reference_case="p1"))


@pytest.mark.parametrize(
    ("which", "name"), [("label", "p0_label"), ("reference_label", "p0_right")]
)
@pytest.mark.parametrize(("voxels", "words"), [(0, "no voxel"), (1, "one voxel")])
def test_a_missing_structure_is_named(cases, which, name, voxels, words):
    label = read_label(getattr(cases[0], which)).array
    label[label == ORGAN] = 0
    label[3, 3, 3] = ORGAN if voxels else 0
    write_label(getattr(cases[0], which), label, AFFINE)
    with pytest.raises(InputError, match=rf"{name}.nii.gz: case p0: {words} of organ \(value 2\)"):
        estimate_cohort(cases, settings())


def test_a_pair_of_different_shape_is_refused(cases):
    write_label(cases[0].reference_label, np.full((10, 11, 12), ORGAN, np.uint8), AFFINE)
    with pytest.raises(InputError, match=r"p0_right.*shape 10x11x12 against 64x60x30 voxels"):
        estimate_cohort(cases, settings())


def test_a_dataset_without_repair_is_refused(cases, tmp_path, capsys):
    plain = settings().model_copy(update={"repair": None})
    code = main(
        ["repair", "estimate", "--cases", str(tmp_path / "cases.tsv")]
        + ["--settings", plain.to_json(), "--output", str(tmp_path / "estimate")]
    )
    assert code == 1
    assert "no repair section" in capsys.readouterr().err
    assert not (tmp_path / "estimate").exists()


def test_a_damaged_transform_is_refused(cases, tmp_path):
    (tmp_path / "transform.json").write_text(json.dumps({"matrix_voxel": [[1, 2], [3, 4]]}))
    with pytest.raises(InputError, match="transform.json: not a transform"):
        read_estimate(tmp_path / "transform.json")


def test_cases_survive_the_table(cases, tmp_path):
    assert read_cases(tmp_path / "cases.tsv") == [
        replace(case, voxels={"organ": 0, "vessel": 0}) for case in cases
    ]
    assert np.linalg.det(FAULT) == pytest.approx(1)


# --- which frame, and a transform that is known -------------------------------------------------------


@pytest.mark.parametrize("frame", ["voxel", "physical"])
def test_images_tell_the_frame(tmp_path, frame):
    affines = [np.diag([-s, -s, 2.5, 1]) for s in (1.5, 1.1, 1.9, 1.3)]
    in_mm = AFFINE @ FAULT @ np.linalg.inv(AFFINE)
    cases = cohort(
        tmp_path,
        faulty=(True,) * 4,
        fault=FAULT if frame == "voxel" else lambda affine: np.linalg.inv(affine) @ in_mm @ affine,
        affines=affines,
    )
    found = estimate_cohort(cases, settings(frame="auto"))
    assert found.estimate.frame == frame
    evidence = found.estimate.frame_evidence
    assert max(evidence, key=evidence.get) == frame
    assert [attempt.frame for attempt in found.attempts] == ["voxel", "physical"]


def test_equal_grids_leave_the_frame_open_and_harmless(cases):
    found = estimate_cohort(cases, settings(frame="auto")).estimate
    assert found.frame == "voxel"
    assert found.frame_evidence == {}


def test_frames_that_the_images_cannot_tell_are_refused(tmp_path):
    affines = [AFFINE, np.diag([-1.1, -1.1, 2.5, 1]), np.diag([-1.9, -1.9, 2.5, 1])]
    cases = cohort(tmp_path, affines=affines)
    for case in cases:
        write_nifti(
            case.images[0], np.zeros((64, 60, 30), np.float32), read_label(case.label).affine
        )
    with pytest.raises(InputError, match="the images do not tell voxel from physical"):
        estimate_cohort(cases, settings(frame="auto"))


@pytest.mark.parametrize("frame", ["voxel", "physical"])
def test_a_given_transform_is_used_and_checked(cases, frame):
    matrix = FAULT if frame == "voxel" else AFFINE @ FAULT @ np.linalg.inv(AFFINE)
    found = estimate_cohort(cases, settings(transform=matrix.tolist(), frame=frame)).estimate
    assert found.method == "given"
    assert found.iou_replayed == 1
    assert found.matrix_voxel == pytest.approx(FAULT)
    with pytest.raises(InputError, match=r"minimum_iou.*\n +given: IoU"):
        estimate_cohort(cases, settings(transform=np.linalg.inv(matrix).tolist(), frame=frame))


def test_a_given_transform_must_be_a_matrix():
    with pytest.raises(ValueError, match="4 rows of 4 numbers"):
        settings(transform=np.eye(4)[:3].tolist())
    with pytest.raises(ValueError, match="not auto"):
        settings(transform=np.eye(4).tolist(), frame="auto")


def test_what_the_sweep_also_looks_for_is_one_more_attempt(tmp_path):
    tilt = rotation(0, 8)
    pivot = translation((30, 26, 14))
    cases = cohort(tmp_path, fault=pivot @ rotation(2, -20) @ tilt @ np.linalg.inv(pivot))
    asked = {"minimum_iou": 0.5, "angle_tolerance_deg": 0.2}
    plain = estimate_cohort(cases, settings(**asked))
    found = estimate_cohort(cases, settings(additional_degrees_of_freedom=["tilt"], **asked))
    assert [attempt.method for attempt in found.attempts] == ["sweep", "sweep with tilt"]
    assert found.estimate.method == "sweep with tilt"
    assert found.estimate.iou_replayed > plain.estimate.iou_replayed + 0.03
    assert found.estimate.rotation == plain.estimate.rotation
