"""Estimating the corruption from a right and a wrong label of one case, and the files of an estimate."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.errors import InputError
from segstudy.files import read_json, write_json, write_table
from segstudy.images.files import Grid, Image, write_label
from segstudy.images.rigid import move_structure
from segstudy.log import log
from segstudy.repair.model import Attempt, Estimate, EstimateReport
from segstudy.repair.sweep import Sweep, iou, refine, replayed_iou, superior_axis, sweep
from segstudy.study import Repair

ATTEMPTS = ("method", "frame", "iou_before", "iou_after", "iou_replayed", "angle_deg")
ATTEMPTS += ("chosen", "reason")
SECONDS = ("method", "frame", "seconds")
SWEEP = ("angle_deg", "iou", "evidence")
"""Columns of the tables of an estimate."""


def estimate(
    right: np.ndarray, wrong: np.ndarray, affine: np.ndarray, settings: Repair
) -> EstimateReport:
    """Estimate the corruption from a reference pair, in one frame; the best IoU wins.

    Methods are compared by the IoU of the replayed corruption, which is 1 for the true one. The IoU
    after repair is held down by rounding twice and by the part that was pushed out of the grid.

    Parameters
    ----------
    right, wrong
        bool (i, j, k) on one grid.
    affine
        4x4 of that grid, to RAS mm.
    settings
        With frame `voxel` or `physical`. A given `transform` takes the methods' place.

    Raises
    ------
    InputError
        With all attempts, where the best IoU is below `minimum_iou`.
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
        log.info("%s", describe_attempt(attempts[-1]))
    best = max(attempts, key=lambda attempt: -1.0 if attempt.matrix is None else attempt.iou)
    if best.matrix is None or best.iou < settings.minimum_iou:
        raise InputError(
            f"repair of {settings.structure}: no method reached IoU {settings.minimum_iou:g} "
            f"(minimum_iou) on {settings.reference_case}. Tried:\n"
            + "\n".join(f"  {describe_attempt(attempt)}" for attempt in attempts)
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
    return EstimateReport(result, attempts, swept, Image(repaired, affine))


def _candidates(
    right: np.ndarray,
    wrong: np.ndarray,
    affine: np.ndarray,
    axis: int,
    spacing_mm: tuple[float, float, float] | None,
    settings: Repair,
) -> tuple[list[tuple[str, np.ndarray | None, str, float]], Sweep | None]:
    """Run the methods: (method, corruption on voxel indices or None, reason, seconds) each; the sweep."""
    if settings.transform is not None:
        return [("given", stated_transform(settings, affine), "", math.nan)], None
    candidates, swept = [], None
    began = time.perf_counter()
    if "sweep" in settings.methods:
        swept = sweep(
            right, wrong, axis, spacing_mm, settings.angle_step_deg, settings.angle_tolerance_deg
        )
        candidates.append(("sweep", swept.matrix, "", time.perf_counter() - began))
        if settings.additional_degrees_of_freedom:
            matrix = refine(
                right,
                wrong,
                swept.matrix,
                spacing_mm,
                settings.additional_degrees_of_freedom,
                settings.angle_tolerance_deg,
            )
            name = f"sweep with {' and '.join(settings.additional_degrees_of_freedom)}"
            candidates.append((name, matrix, "", time.perf_counter() - began))
    if "elastix" in settings.methods:
        from segstudy.repair.elastix import register

        candidates += [
            (
                f"elastix {registration.transform}, {registration.image}",
                registration.matrix,
                registration.reason,
                registration.seconds,
            )
            for registration in register(
                right, wrong, spacing_mm or (1.0, 1.0, 1.0), settings.elastix
            )
        ]
    return candidates, swept


def stated_transform(settings: Repair, affine: np.ndarray) -> np.ndarray:
    """Return the corruption that the study file states, on voxel indices of a grid."""
    matrix = np.array(settings.transform)
    if settings.frame == "physical":
        matrix = np.linalg.inv(affine) @ matrix @ affine
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError("repair.transform: this matrix cannot be inverted")
    return matrix


def describe_attempt(attempt: Attempt) -> str:
    """Describe an attempt in a line of text."""
    if attempt.matrix is None:
        return f"{attempt.method}: failed: {attempt.reason}"
    if math.isnan(attempt.iou):
        return f"{attempt.method}: rotation {attempt.angle_deg:.2f} deg"
    return (
        f"{attempt.method}: IoU {attempt.iou:.4f} replayed, {attempt.iou_after:.4f} after repair, "
        f"rotation {attempt.angle_deg:.2f} deg"
    )


def angle_about(matrix: np.ndarray, axis: int, spacing_mm: Sequence[float] | None) -> float:
    """Compute the rotation of a voxel matrix about an array axis, in degrees, in (-180, 180].

    For an affine matrix the rotation nearest to its in-plane part is returned.

    Parameters
    ----------
    matrix
        4x4 on voxel indices.
    axis
        Array axis of the rotation.
    spacing_mm
        Voxel sizes where the rotation is one in millimetres; None for voxel indices.
    """
    first, second = (axis + 1) % 3, (axis + 2) % 3
    scale = 1.0 if spacing_mm is None else spacing_mm[second] / spacing_mm[first]
    sine = matrix[second, first] * scale - matrix[first, second] / scale
    return math.degrees(math.atan2(sine, matrix[first, first] + matrix[second, second]))


# --- files ----------------------------------------------------------------------------------------


def write_estimate(folder: Path, report: EstimateReport) -> None:
    """Write transform.json, transform.tfm, attempts.csv, seconds.csv, sweep.csv and repaired.nii.gz.

    transform.tfm is the corruption in ITK's terms: output to input points in LPS mm of the
    reference case. repaired.nii.gz is the structure (1) of the reference case as delivered and
    moved back; the cohort's label of that case is its right one. Without a reference case there is
    no such file. Seconds, which differ from run to run, have a table to themselves.
    """
    import pandas as pd

    content = asdict(report.estimate)
    for key in ("matrix_voxel", "matrix_mm"):
        content[key] = content[key].tolist()
    write_json(folder / "transform.json", content)
    write_itk_transform(folder / "transform.tfm", report.estimate.matrix_mm)
    if report.repaired is not None:
        write_label(folder / "repaired.nii.gz", report.repaired.array, report.repaired.affine)
    rows = [
        (
            *(attempt.method, attempt.frame, report.estimate.iou_before, attempt.iou_after),
            *(attempt.iou, attempt.angle_deg),
            (attempt.method, attempt.frame) == (report.estimate.method, report.estimate.frame),
            attempt.reason,
        )
        for attempt in report.attempts
    ]
    write_table(folder / "attempts.csv", pd.DataFrame(rows, columns=list(ATTEMPTS)).round(6))
    timed = [(attempt.method, attempt.frame, attempt.seconds) for attempt in report.attempts]
    seconds = pd.DataFrame(timed, columns=list(SECONDS))
    write_table(folder / "seconds.csv", seconds.round(3))
    angles, ious, evidence = [], None, None
    if report.sweep:
        angles, ious = report.sweep.angles_deg, report.sweep.ious
    elif report.evidence_curve:
        angles, evidence = report.evidence_curve
    values = dict(zip(SWEEP, (angles, ious, evidence), strict=True))
    curve = pd.DataFrame(values, dtype=float)
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
    """Read transform.json; InputError where `segstudy repair estimate` did not write it."""
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


def unchecked_estimate(label: Image, repair: Repair, value: int) -> EstimateReport:
    """Return a known transform as an estimate, where no right label can confirm it.

    Parameters
    ----------
    label
        Of the case on whose voxel indices the transform is stated.
    repair
        Settings with `transform` and `frame`.
    value
        The structure's value.
    """
    affine = label.affine
    matrix = stated_transform(repair, affine)
    mask = label.array == value
    centroid = np.append(np.argwhere(mask).mean(axis=0), 1.0) if mask.any() else np.eye(4)[3]
    spacing_mm = label.spacing_mm if repair.frame == "physical" else None
    angle_deg = angle_about(matrix, superior_axis(affine), spacing_mm)
    estimated = Estimate(
        structure=repair.structure,
        method="given",
        frame=repair.frame,
        matrix_voxel=matrix,
        matrix_mm=affine @ matrix @ np.linalg.inv(affine),
        angle_deg=angle_deg,
        translation_voxels=tuple((matrix @ centroid - centroid)[:3].tolist()),
    )
    attempt = Attempt("given", repair.frame, matrix, angle_deg=angle_deg)
    return EstimateReport(estimated, [attempt], None, None)
