"""Moving one structure of a label map by a matrix, as the heart of the SegTHOR labels was moved.

A matrix here is 4x4, acts on voxel indices (i, j, k) of the stored array and maps output to
input: voxel o of the result takes the value at `matrix @ o` (nearest neighbour).
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from segstudy.boxes import Box, bounding_box

SEGTHOR_SHAPE = (512, 512, 180)
SEGTHOR_PIVOT = (275.0, 200.0, 0.0)
SEGTHOR_SHIFT = (50.0, 40.0, 15.0)
SEGTHOR_ANGLE_DEG = -27.0


def translation(shift: Sequence[float]) -> np.ndarray:
    """Return the 4x4 matrix that adds `shift`."""
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def rotation(axis: int, angle_deg: float) -> np.ndarray:
    """Return the 4x4 matrix of a right-handed rotation about coordinate axis 0, 1 or 2, in degrees."""
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def segthor_corruption(shape: Sequence[int]) -> np.ndarray:
    """Compute the corruption of the SegTHOR labels for a grid, output to input on voxel indices.

    On 512x512 slices, however many, the matrix is the original
    `T(275, 200, 0) . Rz(-27 deg) . T(-275, -200, 0) . T(50, 40, 15)`. For another grid, pivot
    and shift are multiplied by `shape / (512, 512, 180)` axis by axis; the rotation stays a
    true rotation of voxel indices.

    The SegTHOR labels were corrupted with one matrix for all patients, though they differ in their
    number of slices. One matrix is right for a cohort on smaller grids, too: pass the cohort's mean
    shape once, not each patient's own.

    Parameters
    ----------
    shape
        Voxels along i, j, k; a mean shape may hold fractions.

    Returns
    -------
    numpy.ndarray
        4x4.
    """
    scale = np.ones(3) if tuple(shape[:2]) == SEGTHOR_SHAPE[:2] else np.divide(shape, SEGTHOR_SHAPE)
    pivot = scale * SEGTHOR_PIVOT
    turn = rotation(2, SEGTHOR_ANGLE_DEG)
    return translation(pivot) @ turn @ translation(-pivot) @ translation(scale * SEGTHOR_SHIFT)


def move_structure(label: np.ndarray, value: int, matrix: np.ndarray) -> np.ndarray:
    """Move one structure of a label map; the others stay.

    The structure leaves 0 at its old place and overwrites other structures where it lands. The part
    that would land outside the grid is lost.

    Parameters
    ----------
    label
        (i, j, k), unsigned integers; not changed.
    value
        The structure's value.
    matrix
        4x4, output to input on voxel indices.

    Returns
    -------
    numpy.ndarray
        (i, j, k).
    """
    moved = label.copy()
    box = bounding_box(label == value)
    if box is None:
        return moved
    structure = box.of(label) == value
    box.of(moved)[structure] = 0
    landing, target = transform_mask(structure, box, matrix, label.shape)
    target.of(moved)[landing] = value
    return moved


def transform_mask(
    mask: np.ndarray, box: Box, matrix: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, Box]:
    """Transform a mask by nearest neighbour, computed only on the box where it lands.

    Parameters
    ----------
    mask
        bool, the structure within its box.
    box
        Where the mask lies on the grid.
    matrix
        4x4, output to input on voxel indices of the grid.
    shape
        Shape of the grid (i, j, k).

    Returns
    -------
    landing : numpy.ndarray
        bool, the transformed structure within its box.
    box : Box
        Where that box lies on the grid; may be empty.
    """
    # A voxel takes its value from half a voxel around; hence corners half a voxel further out.
    corners = np.array(np.meshgrid(*[(low - 0.5, high - 0.5) for low, high in box.ranges])).reshape(
        3, -1
    )
    inverse = np.linalg.inv(matrix)
    corners = inverse[:3, :3] @ corners + inverse[:3, 3:]
    lows = np.clip(np.floor(corners.min(axis=1)).astype(int), 0, shape)
    highs = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 1, lows, shape)
    start = np.array(box.start)
    to_crop = translation(-start) @ matrix @ translation(lows)
    landing = _nearest_neighbour(
        np.ascontiguousarray(mask), to_crop, tuple(int(s) for s in highs - lows)
    )
    return landing, Box(tuple(lows.tolist()), tuple(highs.tolist()))


@njit(cache=True, nogil=True)
def _nearest_neighbour(mask, matrix, shape):
    """Compute result[o] = mask[round(matrix @ o)], False outside; a half is rounded up, as in SciPy."""
    result = np.zeros(shape, np.bool_)
    for i in range(shape[0]):
        for j in range(shape[1]):
            x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]
            y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]
            z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]
            for k in range(shape[2]):
                a = math.floor(x + matrix[0, 2] * k + 0.5)
                b = math.floor(y + matrix[1, 2] * k + 0.5)
                c = math.floor(z + matrix[2, 2] * k + 0.5)
                if 0 <= a < mask.shape[0] and 0 <= b < mask.shape[1] and 0 <= c < mask.shape[2]:
                    result[i, j, k] = mask[a, b, c]
    return result
