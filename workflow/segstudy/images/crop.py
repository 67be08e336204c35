"""The part of an image that is worth keeping, as a box in voxels."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segstudy.boxes import Box, bounding_box, whole

BODY_ABOVE_HU = -500
BODY_PART_ML, BODY_PART_SHARE = 20.0, 0.05
"""A part of the body has at least this volume, or this share of the largest part."""
DEPTH_MM = 5.0
"""A part of the body lies deeper than this under its surface somewhere. On voxels 4 mm apart all that is 16 mm
thick does, wherever it lies among them; a table's shell of up to 8 mm does not."""
MOST_CUT = 0.001
"""The share of a labelled structure that a crop may take at most."""
_BODY_STEP_MM = 4.0


def crop_box(array: np.ndarray, spacing_mm: Sequence[float], crop: str) -> Box:
    """Compute the box that an image is cropped to, without a margin.

    Parameters
    ----------
    array
        (channel, x, y, z).
    spacing_mm
        Voxel size along x, y, z.
    crop
        `body` (CT in Hounsfield units), `nonzero`, or `none` for the whole image.

    Returns
    -------
    Box
        The whole image where nothing is found.
    """
    if crop == "body":
        return body_box(array, spacing_mm)
    if crop == "nonzero":
        return bounding_box((array != 0).any(axis=0)) or whole(array.shape[1:])
    return whole(array.shape[1:])


def body_box(array: np.ndarray, spacing_mm: Sequence[float]) -> Box:
    """Compute the box of the patient in a CT image.

    The box holds every connected part above -500 HU of at least 20 ml or a twentieth of the largest
    part's volume, such as two legs, or arms beside the trunk. Thin parts (a table's shell, a
    blanket) are left out, unless all parts are thin. The search runs on voxels about 4 mm apart;
    the box is widened by two such steps, since a pointed part can end between them.

    Parameters
    ----------
    array
        (channel, x, y, z) in Hounsfield units.
    spacing_mm
        Voxel size along x, y, z.
    """
    steps = tuple(
        max(1, min(int(_BODY_STEP_MM / size), voxels // 32))
        for size, voxels in zip(spacing_mm, array.shape[1:], strict=True)
    )
    coarse = array[(slice(None), *(slice(None, None, step) for step in steps))]
    parts, count = ndimage.label((coarse > BODY_ABOVE_HU).any(axis=0))
    if count == 0:
        return whole(array.shape[1:])
    step_mm = np.multiply(steps, spacing_mm)
    coarse_box = bounding_box(_body_parts(parts, count, step_mm)) or whole(parts.shape)
    start = tuple(
        max(0, (low - 2) * step + 1) for low, step in zip(coarse_box.start, steps, strict=True)
    )
    stop = tuple(
        min(size, (high + 1) * step)
        for size, high, step in zip(array.shape[1:], coarse_box.stop, steps, strict=True)
    )
    return Box(start, stop)


def _body_parts(parts: np.ndarray, count: int, spacing_mm: Sequence[float]) -> np.ndarray:
    """Mark the voxels of the body among the numbered parts 1 .. count of an image (x, y, z)."""
    # A slab at the border of a slice is as thin as one within.
    framed = np.pad(parts, ((1, 1), (1, 1), (0, 0)))
    depth_mm = ndimage.distance_transform_edt(framed, spacing_mm)[1:-1, 1:-1]
    thick = np.unique(parts[depth_mm > DEPTH_MM])
    volumes_ml = np.bincount(parts.ravel(), minlength=count + 1) * np.prod(spacing_mm) / 1000
    kept = np.zeros(count + 1, bool)
    kept[thick] = True
    if not kept[1:].any():
        return parts > 0
    least_ml = min(BODY_PART_ML, BODY_PART_SHARE * volumes_ml[thick].max())
    return (kept & (volumes_ml >= least_ml))[parts] & (parts > 0)


def cut_off(label: np.ndarray, box: Box, values: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Count the voxels of each label value that lie outside a box.

    Parameters
    ----------
    label
        (x, y, z).
    box
        The part that is kept.
    values
        Label values that are counted.

    Returns
    -------
    dict
        Value -> (voxels outside, voxels in all), for values with voxels outside.
    """
    size = int(max(*values, label.max(initial=0), 0)) + 1
    everywhere = np.bincount(label.ravel(), minlength=size)
    inside = np.bincount(label[box.slices].ravel(), minlength=size)
    return {
        value: (int(everywhere[value] - inside[value]), int(everywhere[value]))
        for value in values
        if everywhere[value] > inside[value]
    }


def widened(box: Box, shape: Sequence[int], spacing_mm: Sequence[float], margin_mm: float) -> Box:
    """Add a margin to each side of a box, within an image of this shape.

    Parameters
    ----------
    box
        In voxels.
    shape
        Shape of the image (x, y, z).
    spacing_mm
        Voxel size along x, y, z.
    margin_mm
        Rounded up to whole voxels.
    """
    return box.widened([math.ceil(margin_mm / size) for size in spacing_mm], shape)
