"""A structure as points, so that its image evidence at any other position costs a few look-ups.

Coordinates are millimetres to the right, front and head, from the middle of the grid. Sampling
is by stride: the same label gives the same points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from segstudy.boxes import bounding_box
from segstudy.images.files import Image
from segstudy.images.geometry import to_ras

#: Points on the surface and inside, each at most, unless more are asked for.
POINTS = 600
#: Voxels of a scene, at most: larger images are averaged over blocks.
SCENE_VOXELS = 2_000_000
#: Intensities are clipped to these percentiles of the image, so that metal and air do not rule.
CLIP = (0.5, 99.5)


@dataclass(frozen=True)
class Points:
    """Hold points of a structure.

    Parameters
    ----------
    surface
        (n, 3) mm.
    normal
        (n, 3), unit length.
    inside
        (m, 3) mm.
    """

    surface: np.ndarray
    normal: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Hold an image for look-ups: gradients and intensities on an RAS grid about its middle.

    Parameters
    ----------
    intensity
        (channel, x, y, z) scaled to 0..1 over the clipped range.
    gradient
        (channel, 3, x, y, z) a mm.
    spacing_mm
        (3,).
    size_mm
        (3,), of the whole grid.
    """

    intensity: np.ndarray
    gradient: np.ndarray
    spacing_mm: np.ndarray
    size_mm: np.ndarray


def middle_of(shape) -> np.ndarray:
    """Return the middle of a grid in voxel indices."""
    return (np.array(shape, float) - 1) / 2


def scene(image: Image, smoothing_mm: float | None = None) -> Scene:
    """Prepare an image for look-ups.

    Parameters
    ----------
    image
        (channel, i, j, k), finite.
    smoothing_mm
        SD of the Gaussian before derivatives; None: the finest voxel size.
    """
    ras = to_ras(image)
    spacing = np.array(ras.spacing_mm)
    array = ras.array
    size = np.array(array.shape[1:])
    low, high = np.percentile(array.reshape(len(array), -1)[:, ::7], CLIP, axis=1)
    span = np.where(high > low, high - low, 1.0)
    block = _blocks(size, spacing)
    channels = []
    for channel, start, width in zip(array, low, span, strict=True):
        scaled = ((channel - np.float32(start)) / np.float32(width)).clip(0, 1)
        channels.append(block_means(scaled, block))
    coarse = spacing * block
    sigma = np.full(3, smoothing_mm or coarse.min()) / coarse
    gradients = [gaussian_gradient(channel, sigma, coarse) for channel in channels]
    return Scene(np.stack(channels), np.array(gradients), coarse, spacing * size)


def _blocks(size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the voxels averaged along each axis, the finest axes first, for a small enough scene."""
    block = np.ones(3, int)
    while np.prod(size // block) > SCENE_VOXELS:
        block[np.argmin(np.where(size // block > 8, spacing * block, np.inf))] += 1
    return block


def block_means(array: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Average an array (x, y, z) over blocks of voxels, float32; voxels beyond the last block are dropped."""
    if block.max() == 1:
        return array.astype(np.float32)
    keep = np.array(array.shape) // block
    parts = [length for axis in range(3) for length in (keep[axis], block[axis])]
    cut = array[tuple(slice(0, size) for size in keep * block)]
    return cut.reshape(parts).mean(axis=(1, 3, 5), dtype=np.float32)


def gaussian_gradient(
    array: np.ndarray, sigma: Sequence[float], spacing_mm: Sequence[float]
) -> np.ndarray:
    """Compute the gradient of a smoothed array by derivatives of Gaussians.

    Parameters
    ----------
    array
        float32 (x, y, z).
    sigma
        Standard deviation of the Gaussian along each axis, in voxels.
    spacing_mm
        Voxel size along each axis.

    Returns
    -------
    numpy.ndarray
        float32 (3, x, y, z), a mm. Beyond the border the nearest voxel counts.
    """
    return np.stack(
        [
            ndimage.gaussian_filter(array, sigma, np.eye(3, dtype=int)[axis], mode="nearest")
            / np.float32(size)
            for axis, size in enumerate(spacing_mm)
        ]
    )


def sample(mask: np.ndarray, spacing_mm: tuple[float, float, float], most: int = POINTS) -> Points:
    """Sample points of a mask on an RAS grid, on its surface and inside.

    Parameters
    ----------
    mask
        bool (x, y, z), not empty.
    spacing_mm
        Voxel size along x, y, z.
    most
        Points on the surface, and inside, at most.
    """
    room = bounding_box(mask).widened(3, mask.shape).slices
    crop = mask[room]
    spacing = np.array(spacing_mm)
    origin = np.array([part.start for part in room]) - middle_of(mask.shape)
    sigma = spacing.min() / spacing
    normal = gaussian_gradient(crop.astype(np.float32), sigma, spacing)
    length = np.sqrt((normal**2).sum(axis=0))
    indices = (
        np.argwhere(length > 0.5 * length.max()) if length.max() > 0 else np.empty((0, 3), int)
    )
    indices = strided(indices, most)
    at = tuple(indices.T)
    inside = strided(np.argwhere(crop), most)
    return Points(
        surface=(indices + origin) * spacing,
        normal=(normal[(slice(None), *at)] / length[at]).T.astype(float),
        inside=(inside + origin) * spacing,
    )


def strided(rows: np.ndarray, most: int) -> np.ndarray:
    """Pick at most `most` rows of an array (n, 3), evenly."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def evidence(
    points: Points, image: Scene, rotation: np.ndarray | None = None, shift=(0.0, 0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure the image evidence for a structure after a rigid transform.

    A point p is looked up at `rotation @ p + shift`. Points outside the grid have no gradient and
    take no part in the intensity.

    Parameters
    ----------
    points
        The structure.
    image
        The scene.
    rotation
        3x3; None: none.
    shift
        (3,) mm.

    Returns
    -------
    across, mean, spread : numpy.ndarray
        (channel,): gradient across the surface, mean and spread of the intensity inside.
    """
    rotation = np.eye(3) if rotation is None else np.asarray(rotation, float)
    inverse = np.linalg.inv(rotation)
    # A normal goes by the inverse transposed; all of this module's rotations keep lengths nearly.
    transform = (rotation, np.ascontiguousarray(inverse.T), np.asarray(shift, float))
    return _evidence(
        (points.surface, points.normal, points.inside),
        (image.intensity, image.gradient, image.spacing_mm),
        transform,
    )


@njit(cache=True, nogil=True)
def _evidence(points, image, transform):
    surface, normal, inside = points
    intensity, gradient, spacing = image
    rotation, rotation_normal, shift = transform
    channels = intensity.shape[0]
    size = intensity.shape[1:]
    across = np.zeros(channels)
    mean = np.zeros(channels)
    spread = np.zeros(channels)
    index = np.zeros(3, np.int64)
    for n in range(surface.shape[0]):
        if not _place(surface[n], rotation, shift, spacing, size, index):
            continue
        direction = rotation_normal @ np.ascontiguousarray(normal[n])
        for c in range(channels):
            value = 0.0
            for axis in range(3):
                value += gradient[c, axis, index[0], index[1], index[2]] * direction[axis]
            across[c] += abs(value)
    count = 0
    values = np.zeros((channels, inside.shape[0]))
    for n in range(inside.shape[0]):
        if not _place(inside[n], rotation, shift, spacing, size, index):
            continue
        for c in range(channels):
            values[c, count] = intensity[c, index[0], index[1], index[2]]
        count += 1
    for c in range(channels):
        across[c] /= max(surface.shape[0], 1)
        if count:
            mean[c] = values[c, :count].mean()
            spread[c] = np.abs(values[c, :count] - np.median(values[c, :count])).mean()
    return across, mean, spread


@njit(cache=True, nogil=True)
def _place(point, rotation, shift, spacing, size, index):
    """Write the voxel index of a transformed point; tell whether it lies on the grid."""
    for axis in range(3):
        at = shift[axis]
        for other in range(3):
            at += rotation[axis, other] * point[other]
        index[axis] = math.floor(at / spacing[axis] + size[axis] / 2)
        if index[axis] < 0 or index[axis] >= size[axis]:
            return False
    return True
