"""Evidence from the image for the position of a structure, without knowing the right answer."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segstudy.boxes import bounding_box

#: Image and mask are smoothed by this many of the finest voxel sizes before derivatives are taken.
SMOOTHING = 1.0
#: Voxels around the structure that the derivatives need.
MARGIN = 6


@dataclass(frozen=True)
class Evidence:
    """Hold measures of a structure's position in an image, one value a channel, and of its own form.

    Parameters
    ----------
    gradient
        Mean absolute derivative of the image across the structure's surface, in intensity a mm;
        high where the surface follows an edge of the image.
    spread
        Mean absolute deviation of the intensity from its median within the structure; low where it
        holds one kind of tissue.
    smoothness
        Mean Dice of the structure's neighbouring slices; low where they do not follow on each
        other. 1 for a structure of one slice.
    """

    gradient: tuple[float, ...]
    spread: tuple[float, ...]
    smoothness: float = 1.0


def measure(
    image: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float], axis: int = 2
) -> Evidence:
    """Measure the evidence for a mask.

    The surface integral is taken as a sum over voxels weighted by the gradient of the smoothed
    mask: its direction is the surface's normal and its sum the surface's area, so that voxel
    stairs do not count as edges.

    Parameters
    ----------
    image
        (channel, i, j, k), finite.
    mask
        bool (i, j, k), not empty.
    spacing_mm
        Voxel size along i, j, k.
    axis
        Array axis across the slices.
    """
    sigma = [SMOOTHING * min(spacing_mm) / size for size in spacing_mm]
    around = _around(mask)
    image, mask = image[(slice(None), *around)], mask[around]
    normal = [
        ndimage.gaussian_filter(mask.astype(np.float32), sigma, _order(axis), mode="nearest") / size
        for axis, size in enumerate(spacing_mm)
    ]
    area = np.sqrt(sum(part**2 for part in normal)).sum(dtype=np.float64)
    gradients, spreads = [], []
    for channel in image:
        across = sum(
            ndimage.gaussian_filter(channel, sigma, _order(axis), mode="nearest")
            * (normal[axis] / size)
            for axis, size in enumerate(spacing_mm)
        )
        total = np.abs(across).sum(dtype=np.float64)
        gradients.append(float(total / area) if area > 0 else 0.0)
        inside = channel[mask].astype(np.float64)
        spreads.append(float(np.abs(inside - np.median(inside)).mean()))
    return Evidence(tuple(gradients), tuple(spreads), smoothness(mask, axis))


def smoothness(mask: np.ndarray, axis: int) -> float:
    """Compute the mean Dice of neighbouring slices over a structure's extent; 1 for one slice."""
    slices = np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1)
    filled = np.flatnonzero(slices.any(axis=1))
    slices = slices[filled[0] : filled[-1] + 1]
    sizes = slices.sum(axis=1)
    if len(slices) < 2:
        return 1.0
    both = (slices[1:] & slices[:-1]).sum(axis=1)
    # Two empty slices in a row, between pieces, follow on each other no better than other gaps.
    return float(np.mean(2 * both / np.maximum(sizes[1:] + sizes[:-1], 1)))


def gain(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """Compute the mean over the channels of log(after / before); 0 where neither says anything."""
    logs = [math.log((b + 1e-9) / (a + 1e-9)) for a, b in zip(before, after, strict=True)]
    return sum(logs) / len(logs)


def _order(axis: int) -> list[int]:
    return [int(axis == other) for other in range(3)]


def _around(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the box around the structure with room for the derivatives."""
    return bounding_box(mask).widened(MARGIN, mask.shape).slices
