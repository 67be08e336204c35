"""What an estimate of a repair is: the transform, how it was found, and what else was tried."""

import math
from dataclasses import dataclass

import numpy as np

from segstudy.images.files import Grid, Image
from segstudy.repair.sweep import Sweep


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
class EstimateReport:
    """An estimate with everything that was tried, and the reference case as repaired by it.

    repaired: None without a reference case. evidence_curve: angles in degrees and how well each
    suits the images, where these were asked.
    """

    estimate: Estimate
    attempts: list[Attempt]
    sweep: Sweep | None
    repaired: Image | None
    evidence_curve: tuple[np.ndarray, np.ndarray] | None = None
