"""The estimate of a repair: the transform, how it was found, and the other attempts."""

import math
from dataclasses import dataclass

import numpy as np

from segstudy.images.files import Grid, Image
from segstudy.repair.sweep import Sweep


@dataclass(frozen=True)
class Attempt:
    """Hold one method's answer, or why it has none.

    Parameters
    ----------
    method
        Its name.
    frame
        `voxel` or `physical`: the coordinates in which rotation and shift were sought.
    matrix
        4x4 corruption on voxel indices of the reference case, output to input.
    iou
        Of the right mask, moved by the corruption, with the wrong mask; NaN without a pair.
    iou_after
        Of the wrong mask, moved back, with the right mask; NaN without a pair.
    angle_deg
        Rotation of the matrix.
    reason
        Why the method has no answer.
    seconds
        Includes the steps that the method started from; NaN where nothing was sought.
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
    """Describe how a structure was moved in every case of a cohort.

    Parameters
    ----------
    structure
        Its name.
    method
        The method that found the transform.
    frame
        `voxel` or `physical`: the coordinates in which all cases share the corruption.
    matrix_voxel
        4x4 corruption on voxel indices (i, j, k) of the reference case, output to input.
    matrix_mm
        The same on RAS millimetres of the reference case; without one, of the first case by name.
    angle_deg
        Rotation of the corruption about the foot-head array axis, right-handed in array axes.
    translation_voxels
        Displacement of the wrong mask's centroid by the corruption, beside the rotation.
    reference_case
        Its name; None where the estimate has no reference pair.
    iou_before, iou_after
        IoU of the delivered and of the repaired with the right mask; None without a reference case.
    iou_replayed
        IoU of the right mask, moved by the corruption, with the delivered mask; None likewise.
    peak_deg
        Angles within 0.01 IoU of the optimum, from the sweep.
    rotation
        `determined`, `ambiguous`, `undetermined` (see `sweep.Sweep`), or `not swept`.
    rival_deg
        The other angle, where ambiguous.
    frame_evidence
        With `frame: auto`, how well each frame suits the images of the cohort, the greater the
        better (see `frame.choose_frame`).
    image_evidence
        With `estimate_from: images`: the number of `cases`, the `gain` of the log evidence over the
        labels as delivered, and its `t` (see `from_images.SharedCorruption`).
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
        """Return the corruption on the voxel indices of a case's grid, 4x4, output to input."""
        if self.frame == "voxel":
            return self.matrix_voxel
        return np.linalg.inv(grid.affine) @ self.matrix_mm @ grid.affine


@dataclass(frozen=True)
class EstimateReport:
    """Hold an estimate with all attempts, and the reference case as repaired by the estimate.

    Parameters
    ----------
    estimate
        The chosen one.
    attempts
        One a method and frame.
    sweep
        The sweep, where one was run.
    repaired
        The structure's mask of the reference case, moved back; None without a reference case.
    evidence_curve
        Angles in degrees and the mean score of the images at each, where these were searched.
    """

    estimate: Estimate
    attempts: list[Attempt]
    sweep: Sweep | None
    repaired: Image | None
    evidence_curve: tuple[np.ndarray, np.ndarray] | None = None
