"""Finding how a structure was moved: shift and rotation about one axis, by replaying the fault.

A candidate fault is applied to the right mask, voxel by voxel as the fault was, and the result
is compared with the wrong mask by IoU. The true fault scores 1 but for what its own
interpolation hides, also where it pushed part of the structure out of the grid; moving the
wrong mask back instead would round twice and could never score 1.

A rotation about an array axis treats all voxels of a column along that axis alike. The sweep
therefore looks a whole column up at once, in masks cropped to the structure, and never
resamples a volume.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from segstudy.images.moving import bounding_box, land

#: A peak reaches as far as the IoU stays within this of the best.
PEAK_IOU = 0.01
#: Peaks of the first sweep that are followed to the end.
CANDIDATES = 3


@dataclass(frozen=True)
class Sweep:
    """The fault that explains a pair of masks best.

    matrix: 4x4, output to input on voxel indices (i, j, k): wrong[o] = right[matrix @ o].
    angle_deg: rotation about the axis, right-handed in the order of the array axes.
    shift_voxels: what the fault adds, besides turning, to the place of the wrong mask's centroid.
    iou: of the right mask, moved by the matrix, with the wrong mask.
    angles_deg, ious: the curve, IoU over the rotation about the wrong mask's centroid.
    peak_deg: first and last angle around the optimum whose IoU is within 0.01 of it.
    rotation: `determined`; `ambiguous` where another peak explains the masks about as well;
        `undetermined` where every angle does. About as well means: no worse than the optimum
        shifted by one voxel.
    rival_deg: the angle of the other peak, where ambiguous.
    """

    matrix: np.ndarray
    angle_deg: float
    shift_voxels: tuple[float, float, float]
    iou: float
    angles_deg: np.ndarray
    ious: np.ndarray
    peak_deg: tuple[float, float]
    rotation: str
    rival_deg: float | None


def superior_axis(affine: np.ndarray) -> int:
    """The array axis nearest to the patient's foot-head axis, from the affine to RAS mm."""
    return int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 0 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def replayed_iou(right: np.ndarray, wrong: np.ndarray, matrix: np.ndarray) -> float:
    """IoU of the right mask, moved by the fault, with the wrong mask.

    right, wrong: bool (i, j, k) on the same grid. matrix: 4x4, output to input on voxel indices.
    """
    box = bounding_box(right)
    if box is None:
        return 0.0
    crop = tuple(slice(low, high) for low, high in box)
    landed, target = land(right[crop], box, matrix, right.shape)
    there = wrong[tuple(slice(low, high) for low, high in target)]
    both = np.count_nonzero(landed & there)
    union = np.count_nonzero(landed) + np.count_nonzero(wrong) - both
    return both / union if union else 0.0


def sweep(
    right: np.ndarray,
    wrong: np.ndarray,
    axis: int,
    spacing_mm: tuple[float, float, float] | None = None,
    angle_step_deg: float = 1.0,
    angle_tolerance_deg: float = 0.01,
) -> Sweep:
    """Find shift and rotation about an array axis that turn the right mask into the wrong one.

    right, wrong: bool (i, j, k) on the same grid, neither empty.
    axis: array axis of the rotation (`superior_axis`).
    spacing_mm: voxel sizes where the rotation was a rotation in millimetres (frame
        `physical`); None where it turned voxel indices (frame `voxel`).
    angle_step_deg, angle_tolerance_deg: first and last step.

    The centroids are laid on each other and the full circle is swept. From the best peaks on,
    angle and shift are refined together, with ever smaller steps, down to the tolerance and the
    arc that it spans at the structure's rim. Along the axis the shift is a whole number of
    voxels, since a nearest-neighbour fault leaves no trace of a fraction.
    """
    # Axes in cyclic order, rotation axis last: a positive angle turns the first to the second.
    order = ((axis + 1) % 3, (axis + 2) % 3, axis)
    stretch = (
        1.0 if spacing_mm is None else spacing_mm[order[1]] / spacing_mm[order[0]]
    )  # a rotation in mm, seen in voxels, is sheared by the ratio of the voxel sizes
    columns = _Columns(right.transpose(order), wrong.transpose(order), stretch)

    circle = np.arange(-180.0, 180.0, angle_step_deg)
    start = (0.0, 0.0, round(columns.lift))
    first = np.array([columns.iou(angle, *start) for angle in circle])
    peaks = _peaks(first)
    refined = [
        _climb(columns, (circle[peak], *start), 4 * angle_step_deg, angle_tolerance_deg)
        for peak in peaks[:CANDIDATES]
    ]
    best, angle, *shift = max(refined)

    angles = np.unique(
        np.concatenate(
            [
                circle,
                angle + np.arange(-100, 101) * (2 * angle_step_deg / 100),
                angle + np.arange(-20, 21) * angle_tolerance_deg,
            ]
        )
    )
    angles = np.unique(np.round(_wrap(angles), 9))
    ious = np.array([columns.iou(a, *shift) for a in angles])
    at_best = int(np.argmin(np.abs(angles - round(_wrap(angle), 9))))
    one_voxel_off = max(
        columns.iou(angle, shift[0] + a, shift[1] + b, shift[2])
        for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    rotation, rival = _judge(angles, ious, at_best, one_voxel_off)
    matrix = columns.matrix(angle, *shift)
    full = np.eye(4)
    full[np.ix_(order, order)] = matrix[:3, :3]
    full[list(order), 3] = matrix[:3, 3]
    centroid = np.argwhere(wrong).mean(axis=0)
    return Sweep(
        matrix=full,
        angle_deg=float(_wrap(angle)),
        shift_voxels=tuple((full[:3, :3] @ centroid + full[:3, 3] - centroid).tolist()),
        iou=best,
        angles_deg=angles,
        ious=ious,
        peak_deg=_peak_width(angles, ious, at_best),
        rotation=rotation,
        rival_deg=rival,
    )


class _Columns:
    """Two masks as columns along the last axis, cropped, and the IoU of a candidate fault."""

    def __init__(self, right: np.ndarray, wrong: np.ndarray, stretch: float):
        self.shape = right.shape
        self.stretch = stretch
        right_box, wrong_box = bounding_box(right), bounding_box(wrong)
        self.right, self.right_start = _crop(right, right_box)
        self.wrong, self.wrong_start = _crop(wrong, wrong_box)
        # Set voxels of a column below each index, to count what stays within the grid.
        self.below = np.zeros((*self.right.shape[:2], self.right.shape[2] + 1), np.int32)
        np.cumsum(self.right, axis=2, out=self.below[:, :, 1:])
        self.wrong_size = int(np.count_nonzero(self.wrong))
        self.right_centroid = _centroid(self.right) + self.right_start
        self.wrong_centroid = _centroid(self.wrong) + self.wrong_start
        self.lift = self.right_centroid[2] - self.wrong_centroid[2]
        sides = [high - low for low, high in wrong_box[:2]]
        self.radius = max(1.0, math.hypot(*sides) / 2)

    def matrix(self, angle_deg: float, first: float, second: float, lift: int) -> np.ndarray:
        """The candidate fault: turn about the wrong centroid, then lay it on the right one."""
        cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        turn = np.array([[cosine, -sine * self.stretch], [sine / self.stretch, cosine]])
        matrix = np.eye(4)
        matrix[:2, :2] = turn
        matrix[:2, 3] = self.right_centroid[:2] + (first, second) - turn @ self.wrong_centroid[:2]
        matrix[2, 3] = lift
        return matrix

    def iou(self, angle_deg: float, first: float, second: float, lift: int) -> float:
        matrix = self.matrix(angle_deg, first, second, lift)
        low, high = self._landing(matrix)
        both, moved = _overlap(
            self.right,
            self.below,
            self.right_start,
            self.wrong,
            self.wrong_start,
            matrix[:2, :2],
            matrix[:2, 3],
            lift,
            low,
            high,
            self.shape[2],
        )
        union = moved + self.wrong_size - both
        return both / union if union else 0.0

    def _landing(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last column that the right mask can land in."""
        start, size = self.right_start[:2], np.array(self.right.shape[:2])
        corners = np.array([[a, b] for a in (0, 1) for b in (0, 1)]) * size + start - 0.5
        corners = np.linalg.solve(matrix[:2, :2], (corners - matrix[:2, 3]).T)
        low = np.clip(np.floor(corners.min(axis=1)).astype(np.int64), 0, self.shape[:2])
        high = np.clip(np.ceil(corners.max(axis=1)).astype(np.int64) + 1, 0, self.shape[:2])
        return low, high


@njit(cache=True, nogil=True)
def _overlap(right, below, right_start, wrong, wrong_start, turn, shift, lift, low, high, slices):
    """Voxels of the moved right mask in the wrong one, and in the whole grid."""
    both = 0
    moved = 0
    # Slices of the cropped right mask that land within the grid, and slices of both crops.
    bottom = min(max(lift - right_start[2], 0), right.shape[2])
    top = min(max(slices + lift - right_start[2], 0), right.shape[2])
    offset = wrong_start[2] + lift - right_start[2]
    first = max(0, -offset)
    last = min(wrong.shape[2], right.shape[2] - offset)
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            a = math.floor(turn[0, 0] * i + turn[0, 1] * j + shift[0] + 0.5) - right_start[0]
            b = math.floor(turn[1, 0] * i + turn[1, 1] * j + shift[1] + 0.5) - right_start[1]
            if not (0 <= a < right.shape[0] and 0 <= b < right.shape[1]):
                continue
            here = below[a, b, top] - below[a, b, bottom]
            if here == 0:
                continue
            moved += here
            u = i - wrong_start[0]
            v = j - wrong_start[1]
            if 0 <= u < wrong.shape[0] and 0 <= v < wrong.shape[1]:
                for k in range(first, last):
                    both += right[a, b, k + offset] & wrong[u, v, k]
    return both, moved


def _climb(columns: _Columns, start: tuple, step_deg: float, tolerance_deg: float) -> tuple:
    """Pattern search from a start: (iou, angle, first, second, lift) at the optimum."""
    moves = [(a, b, c, 0) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    moves = [move for move in moves if any(move)] + [(0, 0, 0, -1), (0, 0, 0, 1)]
    best = (columns.iou(*start), *start)
    while True:
        # A shift step as long as the arc that the angle step spans at the rim.
        shift = math.radians(step_deg) * columns.radius
        steps = (step_deg, shift, shift, max(1, round(shift)))
        better = best
        for move in moves:
            place = tuple(x + m * s for x, m, s in zip(best[1:], move, steps, strict=True))
            better = max(better, (columns.iou(*place), *place), key=lambda found: found[0])
        if better[0] > best[0]:
            best = better
        elif step_deg <= tolerance_deg:
            return best
        else:
            step_deg = max(step_deg / 2, tolerance_deg)


def _peaks(ious: np.ndarray) -> list[int]:
    """Local maxima of a curve over the full circle, best first."""
    higher = (ious >= np.roll(ious, 1)) & (ious > np.roll(ious, -1))
    peaks = np.flatnonzero(higher)
    if peaks.size == 0:
        return [int(np.argmax(ious))]
    return sorted(peaks.tolist(), key=lambda peak: -ious[peak])


def _peak_width(angles: np.ndarray, ious: np.ndarray, at: int) -> tuple[float, float]:
    """The unbroken run of angles around the optimum within PEAK_IOU of it."""
    enough = ious >= ious[at] - PEAK_IOU
    if enough.all():
        return (-180.0, 180.0)
    size = len(angles)
    low = high = at
    while enough[(low - 1) % size]:
        low -= 1
    while enough[(high + 1) % size]:
        high += 1
    turns = lambda index: 360.0 * (index // size)  # noqa: E731
    return (
        float(angles[low % size] + turns(low)),
        float(angles[high % size] + turns(high)),
    )


def _judge(
    angles: np.ndarray, ious: np.ndarray, at: int, level: float
) -> tuple[str, float | None]:
    """Whether the angle is determined, and the best angle of another peak above the level."""
    above = ious >= level
    if above.all():
        return "undetermined", None
    size = len(angles)
    own = {at}
    for direction in (-1, 1):
        index = at
        while above[(index + direction) % size]:
            index += direction
            own.add(index % size)
    rivals = [index for index in np.flatnonzero(above).tolist() if index not in own]
    if not rivals:
        return "determined", None
    return "ambiguous", float(angles[max(rivals, key=lambda index: ious[index])])


def _crop(mask: np.ndarray, box) -> tuple[np.ndarray, np.ndarray]:
    crop = mask[tuple(slice(low, high) for low, high in box)]
    return np.ascontiguousarray(crop).view(np.uint8), np.array([low for low, _ in box])


def _centroid(mask: np.ndarray) -> np.ndarray:
    """Centroid in voxel indices, from the mask's profiles along each axis."""
    profiles = [mask.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.int64) for axis in range(3)]
    return np.array([profile @ np.arange(len(profile)) / profile.sum() for profile in profiles])


def _wrap(angle_deg):
    """Angles in [-180, 180)."""
    return (angle_deg + 180.0) % 360.0 - 180.0


Score = Callable[[np.ndarray], float]
