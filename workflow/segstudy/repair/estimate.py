"""The fault of a cohort: from the one case that has a right label and the wrong one, as given, or
from the images (from_images.py)."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, write_table
from segstudy.images.files import Grid, Image, compare_grids, read_label, write_label
from segstudy.images.moving import move_structure
from segstudy.log import log
from segstudy.repair.sweep import Sweep, also, iou, replayed_iou, superior_axis, sweep
from segstudy.study import Repair, RepairedCohort


@dataclass(frozen=True)
class Attempt:
    """One method's answer, or why it has none.

    frame: `voxel` or `physical`, in which the method took the fault to be a rotation and a shift.
    matrix: 4x4 fault on voxel indices of the reference case, output to input.
    iou: of the right mask, moved by the fault, with the wrong mask.
    iou_after: of the wrong mask, moved back, with the right mask.
    Both are NaN where there is no pair to tell.
    seconds: that the method took, with the steps that it started from; NaN where nothing was sought.
    """

    method: str
    frame: str
    matrix: np.ndarray | None
    iou: float = math.nan
    iou_after: float = math.nan
    angle_deg: float = math.nan
    reason: str = ""
    seconds: float = math.nan


@dataclass(frozen=True)
class Estimate:
    """How a structure was moved in every case of a cohort.

    matrix_voxel: the fault on voxel indices (i, j, k) of the reference case, 4x4, output to input.
    matrix_mm: the same fault on RAS millimetres of the reference case. Without a reference case
        (None): of the first case by name.
    frame: which of the two is the same for all cases.
    angle_deg: rotation about the foot-head array axis, right-handed in array axes; the fault's.
    translation_voxels: what the fault adds, besides turning, to the place of the wrong mask's centroid.
    iou_before, iou_after: of the delivered and of the repaired with the right mask.
    iou_replayed: of the right mask, moved by the fault, with the delivered mask. All None without a
        reference case.
    peak_deg: angles within 0.01 IoU of the optimum, from the sweep.
    rotation: `determined`, `ambiguous`, `undetermined` (see sweep.Sweep), or `not swept`.
    frame_evidence: with `frame: auto`, how well each frame suits the images of the cohort, the
        greater the better (see frame.choose).
    image_evidence: with `estimate_from: images`: `cases` looked at, `gain` of the log evidence over
        the labels as delivered, and its `t` (see from_images.Agreed).
    """

    structure: str
    method: str
    frame: str
    matrix_voxel: np.ndarray
    matrix_mm: np.ndarray
    angle_deg: float
    translation_voxels: tuple[float, float, float]
    reference_case: str | None = None
    iou_before: float | None = None
    iou_after: float | None = None
    iou_replayed: float | None = None
    peak_deg: tuple[float, float] | None = None
    rotation: str = "not swept"
    rival_deg: float | None = None
    frame_evidence: dict[str, float] | None = None
    image_evidence: dict[str, float] | None = None

    def on(self, grid: Grid) -> np.ndarray:
        """The fault on another case's voxel indices, output to input."""
        if self.frame == "voxel":
            return self.matrix_voxel
        return np.linalg.inv(grid.affine) @ self.matrix_mm @ grid.affine


@dataclass(frozen=True)
class Found:
    """An estimate with everything that was tried, and the reference case as repaired by it.

    repaired: None without a reference case. evidence_curve: angles in degrees and how well each
    suits the images, where these were asked.
    """

    estimate: Estimate
    attempts: list[Attempt]
    sweep: Sweep | None
    repaired: Image | None
    evidence_curve: tuple[np.ndarray, np.ndarray] | None = None


def reference_pair(
    cases: Sequence[Case], structure: str, value: int, reference_case: str
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Masks of the right and of the wrong label of the reference case, and their grid.

    Raises InputError where there is no such pair or it cannot tell how the structure moved.
    """
    named = {case.case: case for case in cases}
    if reference_case not in named:
        raise InputError(
            f"repair.reference_case: {reference_case!r} is not in the case table; "
            f"expected one of {_some(sorted(named))}"
        )
    case = named[reference_case]
    if case.reference_label is None:
        raise InputError(
            f"repair.reference_case: {reference_case} has no reference_label; repair needs one "
            "case with both the delivered label and the right one"
        )
    right, wrong = read_label(case.reference_label), read_label(case.label)
    difference = compare_grids(right.grid, wrong.grid)
    if difference:
        raise InputError(
            f"{case.reference_label}: other grid than {case.label} of the same case "
            f"{reference_case}: {difference}; repair compares them voxel by voxel"
        )
    masks = right.array == value, wrong.array == value
    for mask, path in zip(masks, (case.reference_label, case.label), strict=True):
        count = int(np.count_nonzero(mask))
        if count < 2:
            raise InputError(
                f"{path}: case {reference_case}: {'no voxel' if count == 0 else 'one voxel'} of "
                f"{structure} (value {value}); expected the whole structure in the delivered and "
                "in the right label"
            )
    return *masks, right.grid


def estimate(right: np.ndarray, wrong: np.ndarray, affine: np.ndarray, settings: Repair) -> Found:
    """Run the methods of the study file on a reference pair, in one frame; the best IoU wins.

    right, wrong: bool (i, j, k) on one grid with the given affine to RAS mm.
    settings: with frame `voxel` or `physical`. A given `transform` takes the methods' place.

    Methods are compared by the IoU of the replayed fault: it is 1 for the true fault, whereas the
    IoU after repair is held down by rounding twice and by what the fault pushed out of the grid.
    Raises InputError, with all attempts, where the best is below `minimum_iou`.
    """
    frame = settings.frame
    axis = superior_axis(affine)
    spacing_mm = Grid(right.shape, affine).spacing_mm if frame == "physical" else None
    candidates, swept = _candidates(right, wrong, affine, axis, spacing_mm, settings)
    attempts = []
    for method, matrix, reason, seconds in candidates:
        if matrix is None:
            attempts.append(Attempt(method, frame, None, reason=reason, seconds=seconds))
        else:
            attempts.append(
                Attempt(
                    method,
                    frame,
                    matrix,
                    iou=replayed_iou(right, wrong, matrix),
                    iou_after=replayed_iou(wrong, right, np.linalg.inv(matrix)),
                    angle_deg=angle_about(matrix, axis, spacing_mm),
                    seconds=seconds,
                )
            )
        log.info("%s", describe(attempts[-1]))
    best = max(attempts, key=lambda attempt: -1.0 if attempt.matrix is None else attempt.iou)
    if best.matrix is None or best.iou < settings.minimum_iou:
        raise InputError(
            f"repair of {settings.structure}: no method reached IoU {settings.minimum_iou:g} "
            f"(minimum_iou) on {settings.reference_case}. Tried:\n"
            + "\n".join(f"  {describe(attempt)}" for attempt in attempts)
            + "\nCheck that both labels show the same structure of the same patient, or try "
            f"frame: {'voxel' if frame == 'physical' else 'physical'}."
        )
    by_sweep = swept if best.method.startswith("sweep") else None
    centroid = np.append(np.argwhere(wrong).mean(axis=0), 1.0)
    result = Estimate(
        structure=settings.structure,
        method=best.method,
        frame=frame,
        matrix_voxel=best.matrix,
        matrix_mm=affine @ best.matrix @ np.linalg.inv(affine),
        angle_deg=best.angle_deg,
        translation_voxels=tuple((best.matrix @ centroid - centroid)[:3].tolist()),
        reference_case=settings.reference_case,
        iou_before=iou(right, wrong),
        iou_after=best.iou_after,
        iou_replayed=best.iou,
        peak_deg=by_sweep.peak_deg if best.method == "sweep" else None,
        rotation=by_sweep.rotation if by_sweep else "not swept",
        rival_deg=by_sweep.rival_deg if by_sweep else None,
    )
    if result.rotation == "undetermined":
        log.warning(
            "the rotation of %s is undetermined: every angle explains the pair, so that no case "
            "counts as repaired without review",
            settings.structure,
        )
    if result.rotation == "ambiguous":
        log.warning(
            "%s: %.2f deg explains the pair about as well as %.2f deg",
            settings.structure,
            result.rival_deg,
            result.angle_deg,
        )
    repaired = move_structure(wrong.astype(np.uint8), 1, np.linalg.inv(best.matrix))
    return Found(result, attempts, swept, Image(repaired, affine))


def _candidates(
    right: np.ndarray,
    wrong: np.ndarray,
    affine: np.ndarray,
    axis: int,
    spacing_mm: tuple[float, float, float] | None,
    settings: Repair,
) -> tuple[list[tuple[str, np.ndarray | None, str, float]], Sweep | None]:
    """What each method proposes: (method, fault on voxel indices or None, reason, seconds); the sweep."""
    if settings.transform is not None:
        return [("given", given(settings, affine), "", math.nan)], None
    found, swept = [], None
    began = time.perf_counter()
    if "sweep" in settings.methods:
        swept = sweep(
            right, wrong, axis, spacing_mm, settings.angle_step_deg, settings.angle_tolerance_deg
        )
        found.append(("sweep", swept.matrix, "", time.perf_counter() - began))
        if settings.sweep_also:
            matrix = also(
                right,
                wrong,
                swept.matrix,
                spacing_mm,
                settings.sweep_also,
                settings.angle_tolerance_deg,
            )
            name = f"sweep with {' and '.join(settings.sweep_also)}"
            found.append((name, matrix, "", time.perf_counter() - began))
    if "elastix" in settings.methods:
        from segstudy.repair.elastix import register

        found += [
            (f"elastix {one.transform}, {one.image}", one.matrix, one.reason, one.seconds)
            for one in register(right, wrong, spacing_mm or (1.0, 1.0, 1.0), settings.elastix)
        ]
    return found, swept


def given(settings: Repair, affine: np.ndarray) -> np.ndarray:
    """The fault that the study file states, on voxel indices of a grid."""
    matrix = np.array(settings.transform)
    if settings.frame == "physical":
        matrix = np.linalg.inv(affine) @ matrix @ affine
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError("repair.transform: this matrix cannot be inverted")
    return matrix


def describe(attempt: Attempt) -> str:
    """An attempt in a line of text."""
    if attempt.matrix is None:
        return f"{attempt.method}: failed: {attempt.reason}"
    if math.isnan(attempt.iou):
        return f"{attempt.method}: rotation {attempt.angle_deg:.2f} deg"
    return (
        f"{attempt.method}: IoU {attempt.iou:.4f} replayed, {attempt.iou_after:.4f} after repair, "
        f"rotation {attempt.angle_deg:.2f} deg"
    )


def angle_about(matrix: np.ndarray, axis: int, spacing_mm: Sequence[float] | None) -> float:
    """Rotation of a voxel matrix about an array axis, in degrees, in (-180, 180].

    spacing_mm: voxel sizes where the rotation is one in millimetres. For an affine matrix it is
    the rotation nearest to its in-plane part.
    """
    first, second = (axis + 1) % 3, (axis + 2) % 3
    scale = 1.0 if spacing_mm is None else spacing_mm[second] / spacing_mm[first]
    sine = matrix[second, first] * scale - matrix[first, second] / scale
    return math.degrees(math.atan2(sine, matrix[first, first] + matrix[second, second]))


# --- files ----------------------------------------------------------------------------------------


def write_estimate(folder: Path, found: Found) -> None:
    """Write transform.json, transform.tfm, attempts.csv, seconds.csv, sweep.csv and repaired.nii.gz.

    transform.tfm is the fault as ITK has it: output to input points in LPS mm of the reference case.
    repaired.nii.gz is the structure (1) of the reference case as delivered and moved back; the
    cohort's label of that case is its right one. Without a reference case there is no such file.
    Seconds, which differ from run to run, have a table to themselves.
    """
    import pandas as pd

    content = asdict(found.estimate)
    for key in ("matrix_voxel", "matrix_mm"):
        content[key] = content[key].tolist()
    write_json(folder / "transform.json", content)
    write_itk_transform(folder / "transform.tfm", found.estimate.matrix_mm)
    if found.repaired is not None:
        write_label(folder / "repaired.nii.gz", found.repaired.array, found.repaired.affine)
    rows = [
        {
            "method": attempt.method,
            "frame": attempt.frame,
            "iou_before": found.estimate.iou_before,
            "iou_after": attempt.iou_after,
            "iou_replayed": attempt.iou,
            "angle_deg": attempt.angle_deg,
            "chosen": (attempt.method, attempt.frame)
            == (found.estimate.method, found.estimate.frame),
            "reason": attempt.reason,
        }
        for attempt in found.attempts
    ]
    write_table(folder / "attempts.csv", pd.DataFrame(rows).round(6))
    timed = [(attempt.method, attempt.frame, attempt.seconds) for attempt in found.attempts]
    seconds = pd.DataFrame(timed, columns=["method", "frame", "seconds"])
    write_table(folder / "seconds.csv", seconds.round(3))
    angles, ious, evidence = [], None, None
    if found.sweep:
        angles, ious = found.sweep.angles_deg, found.sweep.ious
    elif found.evidence_curve:
        angles, evidence = found.evidence_curve
    curve = pd.DataFrame({"angle_deg": angles, "iou": ious, "evidence": evidence}, dtype=float)
    write_table(folder / "sweep.csv", curve.round(6))


def write_itk_transform(path: Path, matrix_mm: np.ndarray) -> None:
    """Write a 4x4 matrix on RAS mm as an ITK affine transform, which is on LPS mm."""
    import SimpleITK

    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ matrix_mm @ flip
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    SimpleITK.WriteTransform(transform, str(path))


def read_estimate(path: Path | str) -> Estimate:
    """Read transform.json."""
    content: dict[str, Any] = read_json(path)
    try:
        for key in ("matrix_voxel", "matrix_mm"):
            content[key] = np.array(content[key], float).reshape(4, 4)
        for key in ("translation_voxels", "peak_deg"):
            content[key] = None if content[key] is None else tuple(content[key])
        return Estimate(**content)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: not a transform that `segstudy repair estimate` wrote ({error})"
        ) from None


def estimate_cohort(cases: Sequence[Case], settings: RepairedCohort) -> Found:
    """The fault of a cohort, as the `repair` section of its dataset asks."""
    repair = needs_repair(settings)
    value = settings.structures[repair.structure]
    if repair.estimate_from == "images":
        from segstudy.repair.from_images import shared_fault

        return shared_fault(cases, settings)
    if repair.reference_case is None:
        log.warning(
            "%s: the given transform is taken as it is: there is no reference_case to check it on",
            repair.structure,
        )
        first = min(cases, key=lambda case: case.case)
        return unchecked(read_label(first.label), repair, value)
    right, wrong, grid = reference_pair(cases, repair.structure, value, repair.reference_case)
    if repair.frame != "auto":
        return estimate(right, wrong, grid.affine, repair)
    from segstudy.repair.frame import choose

    found, refused = {}, []
    for frame in ("voxel", "physical"):
        log.info("frame %s:", frame)
        try:
            one = repair.model_copy(update={"frame": frame})
            found[frame] = estimate(right, wrong, grid.affine, one)
        except InputError as error:
            refused.append(str(error))
    if not found:
        raise InputError("\n".join(refused))
    frame, evidence = choose({name: one.estimate for name, one in found.items()}, cases, settings)
    chosen = found[frame]
    return replace(
        chosen,
        estimate=replace(chosen.estimate, frame_evidence=evidence),
        attempts=[attempt for one in found.values() for attempt in one.attempts],
    )


def unchecked(label: Image, repair: Repair, value: int) -> Found:
    """A known transform as an estimate, where no right label tells whether it is the fault.

    label: of the case on whose voxel indices it is told.
    """
    affine = label.affine
    matrix = given(repair, affine)
    mask = label.array == value
    centroid = np.append(np.argwhere(mask).mean(axis=0), 1.0) if mask.any() else np.eye(4)[3]
    spacing_mm = label.spacing_mm if repair.frame == "physical" else None
    angle_deg = angle_about(matrix, superior_axis(affine), spacing_mm)
    found = Estimate(
        structure=repair.structure,
        method="given",
        frame=repair.frame,
        matrix_voxel=matrix,
        matrix_mm=affine @ matrix @ np.linalg.inv(affine),
        angle_deg=angle_deg,
        translation_voxels=tuple((matrix @ centroid - centroid)[:3].tolist()),
    )
    attempt = Attempt("given", repair.frame, matrix, angle_deg=angle_deg)
    return Found(found, [attempt], None, None)


def needs_repair(settings: RepairedCohort) -> Repair:
    """The dataset's repair section, or InputError."""
    if settings.repair is None:
        raise InputError("--settings: repair: this dataset has no repair section; nothing to do")
    return settings.repair


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
