"""Orientation: bringing arrays to RAS (axis 0 to the right, 1 to the front, 2 to the head) and back."""

import numpy as np
from nibabel import orientations

from segstudy.images.files import Grid, Image


def to_ras(image: Image) -> Image:
    """Permute and flip the last three axes so that they point right, front and head.

    An oblique grid is brought to the nearest such order; nothing is interpolated. The affine
    moves along, so that every voxel keeps its place in the patient.
    """
    reorientation = orientations.io_orientation(image.affine)
    return Image(
        np.ascontiguousarray(_apply(image.array, reorientation)), ras_grid(image.grid).affine
    )


def reorient(image: Image, orientation: str) -> Image:
    """Permute and flip the last three axes so that they point as `orientation` says, such as `LPS`.

    Nothing is interpolated, and every voxel keeps its place in the patient. Reorienting back gives
    the array and affine that were passed in.
    """
    reorientation = orientations.ornt_transform(
        orientations.io_orientation(image.affine), orientations.axcodes2ornt(orientation)
    )
    affine = image.affine @ orientations.inv_ornt_aff(reorientation, image.grid.shape)
    return Image(np.ascontiguousarray(_apply(image.array, reorientation)), affine)


def ras_grid(grid: Grid) -> Grid:
    """Compute the grid of an image after `to_ras`."""
    reorientation = orientations.io_orientation(grid.affine)
    shape = [0, 0, 0]
    for axis, size in zip(reorientation[:, 0].astype(int), grid.shape, strict=True):
        shape[axis] = int(size)
    return Grid(tuple(shape), grid.affine @ orientations.inv_ornt_aff(reorientation, grid.shape))


def from_ras(array: np.ndarray, native: Grid) -> np.ndarray:
    """Bring an array with axes (..., right, front, head) back to the axes of the native grid."""
    ras = np.array([[0, 1], [1, 1], [2, 1]], float)
    reorientation = orientations.ornt_transform(ras, orientations.io_orientation(native.affine))
    return np.ascontiguousarray(_apply(array, reorientation))


def _apply(array: np.ndarray, reorientation: np.ndarray) -> np.ndarray:
    """Apply a reorientation, as nibabel writes one, to the last three axes."""
    if array.ndim == 3:
        return orientations.apply_orientation(array, reorientation)
    moved = np.moveaxis(array, 0, -1)
    return np.moveaxis(orientations.apply_orientation(moved, reorientation), -1, 0)
