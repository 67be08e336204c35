"""The fault of a cohort, from the one case that has a right label and the wrong one."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import read_json, write_json, write_table
from segstudy.images.files import Grid, compare_grids, read_label
from segstudy.log import log
from segstudy.repair.sweep import Sweep, iou, replayed_iou, superior_axis, sweep
from segstudy.study import Dataset, Repair


@dataclass(frozen=True)
class Attempt:
    """One method's answer, or why it has none.

    matrix: 4x4 fault on voxel indices of the reference case, output to input.
    iou: of the right mask, moved by the fault, with the wrong mask.
    iou_after: of the wrong mask, moved back, with the right mask.
    """

    method: str
    matrix: np.ndarray | None
    iou: float = 0.0
    iou_after: float = 0.0
    angle_deg: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Estimate:
    """How a structure was moved in every case of a cohort.

    matrix_voxel: the fault on voxel indices (i, j, k) of the reference case, 4x4, output to input.
    matrix_mm: the same fault on RAS millimetres of the reference case.
    frame: which of the two is the same for all cases.
    angle_deg: rotation about the foot-head array axis, right-handed in array axes; the fault's.
    translation_voxels: what the fault adds, besides turning, to the place of the wrong mask's centroid.
    iou_before, iou_after: of the delivered and of the repaired with the right mask.
    iou_replayed: of the right mask, moved by the fault, with the delivered mask.
    peak_deg: angles within 0.01 IoU of the optimum, from the sweep.
    rotation: `determined`, `ambiguous`, `undetermined` (see sweep.Sweep), or `not swept`.
    """

    structure: str
    method: str
    frame: str
    matrix_voxel: np.ndarray
    matrix_mm: np.ndarray
    angle_deg: float
    translation_voxels: tuple[float, float, float]
    reference_case: str
    iou_before: float
    iou_after: float
    iou_replayed: float
    peak_deg: tuple[float, float] | None = None
    rotation: str = "not swept"
    rival_deg: float | None = None

    def on(self, grid: Grid) -> np.ndarray:
        """The fault on another case's voxel indices, output to input."""
        if self.frame == "voxel":
            return self.matrix_voxel
        return np.linalg.inv(grid.affine) @ self.matrix_mm @ grid.affine


@dataclass(frozen=True)
class Found:
    """An estimate with everything that was tried."""

    estimate: Estimate
    attempts: list[Attempt]
    sweep: Sweep | None = field(default=None)


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


def estimate(
    right: np.ndarray,
    wrong: np.ndarray,
    affine: np.ndarray,
    settings: Repair,
    threads: int = 1,
) -> Found:
    """Run the methods of the study file on a reference pair; the best IoU wins.

    right, wrong: bool (i, j, k) on one grid with the given affine to RAS mm.
    Methods are compared by the IoU of the replayed fault: it is 1 for the true fault, whereas the
    IoU after repair is held down by rounding twice and by what the fault pushed out of the grid.
    Raises InputError, with all attempts, where the best is below `minimum_iou`.
    """
    grid = Grid(right.shape, affine)
    axis = superior_axis(affine)
    in_mm = grid.spacing_mm if settings.frame == "physical" else None
    attempts: list[Attempt] = []
    swept = None
    if "sweep" in settings.methods:
        swept = sweep(
            right, wrong, axis, in_mm, settings.angle_step_deg, settings.angle_tolerance_deg
        )
        attempts.append(_attempt("sweep", swept.matrix, right, wrong, axis, in_mm))
    if "elastix" in settings.methods:
        from segstudy.repair.elastix import register

        for found in register(right, wrong, in_mm or (1.0, 1.0, 1.0), settings.elastix, threads):
            name = f"elastix {found.transform}, {found.image}"
            attempts.append(
                Attempt(name, None, reason=found.reason)
                if found.matrix is None
                else _attempt(name, found.matrix, right, wrong, axis, in_mm)
            )
    for attempt in attempts:
        log.info("%s", describe(attempt))
    best = max(attempts, key=lambda attempt: attempt.iou)
    if best.matrix is None or best.iou < settings.minimum_iou:
        raise InputError(
            f"repair of {settings.structure}: no method reached IoU {settings.minimum_iou:g} "
            f"(minimum_iou) on {settings.reference_case}. Tried:\n"
            + "\n".join(f"  {describe(attempt)}" for attempt in attempts)
            + "\nCheck that both labels show the same structure of the same patient, or try "
            f"frame: {'voxel' if settings.frame == 'physical' else 'physical'}."
        )
    centroid = np.append(np.argwhere(wrong).mean(axis=0), 1.0)
    result = Estimate(
        structure=settings.structure,
        method=best.method,
        frame=settings.frame,
        matrix_voxel=best.matrix,
        matrix_mm=affine @ best.matrix @ np.linalg.inv(affine),
        angle_deg=best.angle_deg,
        translation_voxels=tuple((best.matrix @ centroid - centroid)[:3].tolist()),
        reference_case=settings.reference_case,
        iou_before=iou(right, wrong),
        iou_after=best.iou_after,
        iou_replayed=best.iou,
        peak_deg=swept.peak_deg if swept else None,
        rotation=swept.rotation if swept else "not swept",
        rival_deg=swept.rival_deg if swept else None,
    )
    if result.rotation == "undetermined":
        log.warning(
            "the rotation of %s is undetermined: every angle explains the pair; cases are for review",
            settings.structure,
        )
    if result.rotation == "ambiguous":
        log.warning(
            "%s: %.2f deg explains the pair about as well as %.2f deg",
            settings.structure,
            result.rival_deg,
            result.angle_deg,
        )
    return Found(result, attempts, swept)


def describe(attempt: Attempt) -> str:
    """An attempt in a line of text."""
    if attempt.matrix is None:
        return f"{attempt.method}: failed: {attempt.reason}"
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


def _attempt(method, matrix, right, wrong, axis, spacing_mm) -> Attempt:
    return Attempt(
        method,
        matrix,
        iou=replayed_iou(right, wrong, matrix),
        iou_after=replayed_iou(wrong, right, np.linalg.inv(matrix)),
        angle_deg=angle_about(matrix, axis, spacing_mm),
    )


# --- files ----------------------------------------------------------------------------------------


def write_estimate(folder: Path, found: Found) -> None:
    """Write transform.json, transform.tfm, attempts.csv and sweep.csv into a folder.

    transform.tfm is the fault as ITK has it: output to input points in LPS mm of the reference case.
    """
    import pandas as pd

    content = asdict(found.estimate)
    for key in ("matrix_voxel", "matrix_mm"):
        content[key] = content[key].tolist()
    write_json(folder / "transform.json", content)
    write_itk_transform(folder / "transform.tfm", found.estimate.matrix_mm)
    rows = [
        {
            "method": attempt.method,
            "iou_before": found.estimate.iou_before,
            "iou_after": attempt.iou_after if attempt.matrix is not None else None,
            "iou_replayed": attempt.iou if attempt.matrix is not None else None,
            "angle_deg": attempt.angle_deg if attempt.matrix is not None else None,
            "chosen": attempt.method == found.estimate.method,
            "reason": attempt.reason,
        }
        for attempt in found.attempts
    ]
    write_table(folder / "attempts.csv", pd.DataFrame(rows).round(6))
    curve = found.sweep
    table = pd.DataFrame(
        {
            "angle_deg": curve.angles_deg if curve else [],
            "iou": curve.ious if curve else [],
        }
    )
    write_table(folder / "sweep.csv", table.round(6))


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
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a transform that `segstudy repair estimate` wrote ({error})"
        ) from None


def estimate_cohort(cases: Sequence[Case], settings: Dataset, threads: int = 1) -> Found:
    """The fault of a cohort, as the `repair` section of its dataset asks."""
    repair = needs_repair(settings)
    value = settings.structures[repair.structure]
    right, wrong, grid = reference_pair(cases, repair.structure, value, repair.reference_case)
    return estimate(right, wrong, grid.affine, repair, threads)


def needs_repair(settings: Dataset) -> Repair:
    """The dataset's repair section, or InputError."""
    if settings.repair is None:
        raise InputError("--settings: repair: this dataset has no repair section; nothing to do")
    return settings.repair


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
