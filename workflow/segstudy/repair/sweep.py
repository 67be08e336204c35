"""Estimating how a structure was moved: shift and rotation about one axis, by replaying the corruption.

A candidate is applied to the right mask, voxel by voxel as the corruption was, and the result
is compared with the wrong mask by IoU. The true corruption scores 1 but for the loss of its own
interpolation, also where it pushed part of the structure out of the grid; moving the wrong mask
back instead would round twice and could never score 1.

A rotation about an array axis treats all voxels of a column along that axis alike. The sweep
therefore looks a whole column up at once, in masks cropped to the structure, and never
resamples a volume.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from segstudy.boxes import bounding_box
from segstudy.images.rigid import rotation, transform_mask, translation

#: The angle is uncertain as far as the IoU stays within this of the best.
PEAK_IOU = 0.01
#: Peaks of the first sweep that are followed to the end.
CANDIDATES = 3


@dataclass(frozen=True)
class Sweep:
    """Hold the corruption that explains a pair of masks best.

    Parameters
    ----------
    matrix
        4x4, output to input on voxel indices (i, j, k): wrong[o] = right[matrix @ o].
    angle_deg
        Rotation about the axis, right-handed in the order of the array axes.
    shift_voxels
        Displacement of the wrong mask's centroid by the corruption, beside the rotation.
    iou
        Of the right mask, moved by the matrix, with the wrong mask.
    angles_deg, ious
        IoU over the rotation about the wrong mask's centroid.
    peak_deg
        First and last angle around the optimum that reach its IoU but for 0.01, each with the shift
        that suits it best: the uncertainty of the angle.
    rotation
        `determined`; `ambiguous` where another peak explains the masks about as well;
        `undetermined` where every angle does. About as well means: no worse than the optimum
        shifted by one voxel.
    rival_deg
        The angle of the other peak, where ambiguous.
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
    """Return the array axis nearest to the patient's foot-head axis, from the affine to RAS mm."""
    return int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Compute intersection over union of two boolean masks; 0 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def replayed_iou(right: np.ndarray, wrong: np.ndarray, matrix: np.ndarray) -> float:
    """Compute the IoU of the right mask, moved by the corruption, with the wrong mask.

    Parameters
    ----------
    right, wrong
        bool (i, j, k) on the same grid.
    matrix
        4x4, output to input on voxel indices.
    """
    box = bounding_box(right)
    if box is None:
        return 0.0
    landed, target = transform_mask(box.of(right), box, matrix, right.shape)
    there = target.of(wrong)
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
    """Search for shift and rotation about an array axis that turn the right mask into the wrong one.

    The centroids are laid on each other and the full circle is swept. From the best peaks on,
    angle and shift are refined together, with ever smaller steps, down to the tolerance and the
    arc that it spans at the structure's rim. Along the axis the shift is a whole number of
    voxels, since a nearest-neighbour corruption leaves no trace of a fraction.

    Parameters
    ----------
    right, wrong
        bool (i, j, k) on the same grid, neither empty.
    axis
        Array axis of the rotation (`superior_axis`).
    spacing_mm
        Voxel sizes where the rotation was one in millimetres (frame `physical`); None where voxel
        indices were rotated (frame `voxel`).
    angle_step_deg, angle_tolerance_deg
        First and last step.
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
    best, *candidate = max(refined)
    angle, *shift = _centre(columns, tuple(candidate), best, angle_tolerance_deg)
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
    if rotation == "undetermined":
        peak = (-180.0, 180.0)
    else:
        peak = tuple(
            float(angle + sign * _reach(columns, (angle, *shift), sign, best - PEAK_IOU))
            for sign in (-1, 1)
        )
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
        peak_deg=peak,
        rotation=rotation,
        rival_deg=rival,
    )


def refine(
    right: np.ndarray,
    wrong: np.ndarray,
    matrix: np.ndarray,
    spacing_mm: tuple[float, float, float] | None,
    ways: Sequence[str],
    tolerance_deg: float = 0.01,
) -> np.ndarray:
    """Refine a corruption by rotations about all three axes (`tilt`) and one scale (`scale`).

    A pattern search on whole masks, cropped: a local one, from the sweep's optimum on. Tilts of 5
    to 30 degrees of the phantom's heart are found to 0.1 degree (benchmarks/repair.py).

    Parameters
    ----------
    right, wrong
        bool (i, j, k) on one grid, neither empty.
    matrix
        4x4, output to input on voxel indices, where to start: the sweep's.
    spacing_mm
        Voxel sizes where angles and scale are in millimetres; None for voxel indices.
    ways
        `tilt`, `scale` or both.
    tolerance_deg
        Last step.

    Returns
    -------
    numpy.ndarray
        4x4 whose replayed IoU is no worse.
    """
    stretch = np.diag([*(spacing_mm or (1.0, 1.0, 1.0)), 1.0])
    start = stretch @ matrix @ np.linalg.inv(stretch)
    box = bounding_box(wrong)
    centre = (stretch @ np.append(_centroid(box.of(wrong)) + box.start, 1))[:3]
    radius = np.linalg.norm([size * stretch[a, a] for a, size in enumerate(box.shape)]) / 2

    def corruption(parameters: np.ndarray) -> np.ndarray:
        turn = rotation(0, parameters[3]) @ rotation(1, parameters[4]) @ rotation(2, parameters[5])
        inner = turn @ np.diag([*[math.exp(parameters[6])] * 3, 1.0])
        there = (
            translation(parameters[:3]) @ start @ translation(centre) @ inner @ translation(-centre)
        )
        return np.linalg.inv(stretch) @ there @ stretch

    # Steps that move the rim alike: degrees, shift, and logarithm of the scale.
    arc = math.radians(1.0)
    free = (
        [arc * radius] * 3
        + [1.0 if "tilt" in ways else 0.0] * 3
        + [arc if "scale" in ways else 0.0]
    )
    moves = [sign * row for row in np.diag(free) if row.any() for sign in (-1, 1)]
    parameters, step = np.zeros(7), 8.0
    best = replayed_iou(right, wrong, matrix)
    while step >= tolerance_deg:
        around = [parameters + step * move for move in moves]
        scores = [replayed_iou(right, wrong, corruption(place_near)) for place_near in around]
        if max(scores) > best:
            best, parameters = max(scores), around[int(np.argmax(scores))]
        else:
            step /= 2
    return corruption(parameters)


class _Columns:
    """Hold two masks as columns along the last axis, and compute the IoU of a candidate.

    Columns are cropped to the structure and packed, 64 voxels to a word, so that the overlap of
    two columns is a few bit operations.
    """

    def __init__(self, right: np.ndarray, wrong: np.ndarray, stretch: float):
        self.shape = right.shape
        self.stretch = stretch
        right_box, wrong_box = bounding_box(right), bounding_box(wrong)
        self.right = right_box.of(right)
        self.wrong = _packed(wrong_box.of(wrong))
        self.right_start = np.array(right_box.start)
        self.wrong_start = np.array(wrong_box.start)
        self.wrong_slices = wrong_box.ranges[2]
        self.wrong_size = int(np.count_nonzero(wrong_box.of(wrong)))
        self.right_centroid = _centroid(self.right) + self.right_start
        self.wrong_centroid = _centroid(wrong_box.of(wrong)) + self.wrong_start
        self.lift = self.right_centroid[2] - self.wrong_centroid[2]
        self.radius = max(1.0, math.hypot(*wrong_box.shape[:2]) / 2)
        self._lifted: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def matrix(self, angle_deg: float, first: float, second: float, lift: int) -> np.ndarray:
        """Return the candidate: rotate about the wrong centroid, then lay it on the right one."""
        cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        turn = np.array([[cosine, -sine * self.stretch], [sine / self.stretch, cosine]])
        matrix = np.eye(4)
        matrix[:2, :2] = turn
        matrix[:2, 3] = self.right_centroid[:2] + (first, second) - turn @ self.wrong_centroid[:2]
        matrix[2, 3] = lift
        return matrix

    def iou(self, angle_deg: float, first: float, second: float, lift: int) -> float:
        """Compute the IoU of the right mask, moved by the candidate, with the wrong mask."""
        matrix = self.matrix(angle_deg, first, second, lift)
        columns, counts = self._at(lift)
        low, high = self._landing(matrix)
        both, moved = _overlap(
            (columns, counts, self.right_start),
            (self.wrong, self.wrong_start),
            (matrix[:2, :2], matrix[:2, 3]),
            (low, high),
        )
        union = moved + self.wrong_size - both
        return both / union if union else 0.0

    def _at(self, lift: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the right mask lifted along the axis.

        The result is its columns within the wrong mask's slices, packed, and the number of voxels of
        each column that stay within the grid.
        """
        if lift not in self._lifted:
            start = self.right_start[2] - lift
            in_grid = self.right[:, :, max(0, -start) : max(0, self.shape[2] - start)]
            low, high = (limit - start for limit in self.wrong_slices)
            inner = self.right[:, :, max(0, low) : max(0, high)]
            room = (max(0, -low), high - low - max(0, -low) - inner.shape[2])
            if room[1] < 0:  # the lifted mask lies wholly above the wrong one
                inner, room = inner[:, :, :0], (high - low, 0)
            self._lifted[lift] = (
                _packed(np.pad(inner, ((0, 0), (0, 0), room))),
                in_grid.sum(axis=2, dtype=np.int32),
            )
        return self._lifted[lift]

    def _landing(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and one past the last column that the right mask can land in."""
        start, size = self.right_start[:2], np.array(self.right.shape[:2])
        corners = np.array([[a, b] for a in (0, 1) for b in (0, 1)]) * size + start - 0.5
        corners = np.linalg.solve(matrix[:2, :2], (corners - matrix[:2, 3]).T)
        low = np.clip(np.floor(corners.min(axis=1)).astype(np.int64), 0, self.shape[:2])
        high = np.clip(np.ceil(corners.max(axis=1)).astype(np.int64) + 1, 0, self.shape[:2])
        return low, high


def _packed(mask: np.ndarray) -> np.ndarray:
    """Pack the last axis of a bool array into words of 64 bits."""
    packed = np.packbits(mask, axis=2, bitorder="little")
    room = -packed.shape[2] % 8
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, 0), (0, room)))).view(np.uint64)


@njit(cache=True, nogil=True)
def _overlap(right_columns, wrong_columns, transform, landing):
    """Count voxels of the moved right mask that lie in the wrong one, and in the whole grid."""
    right, counts, right_start = right_columns
    wrong, wrong_start = wrong_columns
    turn, shift = transform
    low, high = landing
    both = 0
    moved = 0
    for i in range(low[0], high[0]):
        u = i - wrong_start[0]
        for j in range(low[1], high[1]):
            a = math.floor(turn[0, 0] * i + turn[0, 1] * j + shift[0] + 0.5) - right_start[0]
            b = math.floor(turn[1, 0] * i + turn[1, 1] * j + shift[1] + 0.5) - right_start[1]
            if not (0 <= a < right.shape[0] and 0 <= b < right.shape[1]):
                continue
            if counts[a, b] == 0:
                continue
            moved += counts[a, b]
            v = j - wrong_start[1]
            if 0 <= u < wrong.shape[0] and 0 <= v < wrong.shape[1]:
                for word in range(wrong.shape[2]):
                    both += _bits(right[a, b, word] & wrong[u, v, word])
    return both, moved


@njit(cache=True, nogil=True)
def _bits(word):
    """Count the set bits of a 64-bit word (Warren, Hacker's Delight, 5-1)."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    word = (word & pairs) + ((word >> np.uint64(2)) & pairs)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


def _climb(columns: _Columns, start: tuple, step_deg: float, tolerance_deg: float) -> tuple:
    """Climb from a start by pattern search: (iou, angle, first, second, lift) at the optimum."""
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
            better = max(better, (columns.iou(*place), *place), key=lambda candidate: candidate[0])
        if better[0] > best[0]:
            best = better
        elif step_deg <= tolerance_deg:
            return best
        else:
            step_deg = max(step_deg / 2, tolerance_deg)


def _centre(columns: _Columns, place: tuple, best: float, tolerance_deg: float) -> tuple:
    """Find the middle of the plateau around an optimum.

    A nearest-neighbour corruption gives the same mask for a small range of angles and shifts; the
    middle is the best guess.
    """
    angle, first, second, lift = place
    reaches = [sign * _reach(columns, place, sign, best) for sign in (-1, 1)]
    iou_there, *shift = _slide(
        columns, angle + sum(reaches) / 2, (first, second, lift), tolerance_deg
    )
    if iou_there >= best:
        angle, first, second, lift = angle + sum(reaches) / 2, *shift
    for axis in (1, 2):
        place = [angle, first, second, lift]
        ends = []
        for sign in (-1, 1):
            step = 0.5
            end = 0.0
            while step > 0.005:
                there = list(place)
                there[axis] += sign * (end + step)
                if columns.iou(*there) >= best:
                    end += step
                step /= 2
            ends.append(sign * end)
        place[axis] += sum(ends) / 2
        if columns.iou(*place) >= best:
            angle, first, second, lift = place
    return angle, first, second, lift


def _reach(columns: _Columns, place: tuple, sign: int, level: float) -> float:
    """Measure how far the angle can be turned one way, in degrees, with the IoU still at the level.

    The shift follows the angle, so that the result is the uncertainty of the angle itself and not
    of the angle at one shift.
    """
    angle, *shift = place
    reached, step, growing = 0.0, 0.01, True
    while step >= 0.01:
        iou_there, *moved = _slide(columns, angle + sign * (reached + step), tuple(shift), step)
        if iou_there >= level:
            reached, shift = reached + step, moved
            if reached >= 180.0:
                return 180.0
        else:
            growing = False
        step = step * 2 if growing else step / 2
    return reached


def _slide(columns: _Columns, angle: float, shift: tuple, turned_deg: float) -> tuple:
    """Search for the best in-plane shift at one angle, near a start: (iou, first, second, lift)."""
    first, second, lift = shift
    best = (columns.iou(angle, first, second, lift), first, second, lift)
    step = max(0.2, math.radians(turned_deg) * columns.radius)
    while step > 0.02:
        around = [
            (best[1] + a * step, best[2] + b * step, lift)
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
            if a or b
        ]
        candidate = max((columns.iou(angle, *place), *place) for place in around)
        if candidate[0] > best[0]:
            best = candidate
        else:
            step /= 2
    return best


def _peaks(ious: np.ndarray) -> list[int]:
    """List the local maxima of a curve over the full circle, best first."""
    higher = (ious >= np.roll(ious, 1)) & (ious > np.roll(ious, -1))
    peaks = np.flatnonzero(higher)
    if peaks.size == 0:
        return [int(np.argmax(ious))]
    return sorted(peaks.tolist(), key=lambda peak: -ious[peak])


def _judge(angles: np.ndarray, ious: np.ndarray, at: int, level: float) -> tuple[str, float | None]:
    """Tell whether the angle is determined, with the best angle of another peak above the level."""
    above = ious >= level
    if above.all():
        return "undetermined", None
    size = len(angles)
    same_peak = {at}
    for direction in (-1, 1):
        index = at
        while above[(index + direction) % size]:
            index += direction
            same_peak.add(index % size)
    rivals = [index for index in np.flatnonzero(above).tolist() if index not in same_peak]
    if not rivals:
        return "determined", None
    return "ambiguous", float(angles[max(rivals, key=lambda index: ious[index])])


def _centroid(mask: np.ndarray) -> np.ndarray:
    """Compute the centroid in voxel indices, from the mask's profiles along each axis."""
    profiles = [mask.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.int64) for axis in range(3)]
    return np.array([profile @ np.arange(len(profile)) / profile.sum() for profile in profiles])


def _wrap(angle_deg):
    """Wrap angles into [-180, 180)."""
    return (angle_deg + 180.0) % 360.0 - 180.0
