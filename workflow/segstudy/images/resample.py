"""Resampling between grids that share their outer edges.

A grid of n voxels is resampled to m voxels so that both cover the same extent: the first voxel's
outer edge and the last voxel's outer edge stay where they are (`grid_mode` of scipy's `zoom`,
skimage's `resize`, nnU-Net). Voxel i of the new grid has its centre at (i + 0.5) * n / m - 0.5 in
indices of the old one. So the way back is the same operation with n and m exchanged, and a new
spacing is kept up to the rounding of m to a whole number.

Nearest neighbour takes the voxel that holds the new centre. Where that lies on the border between
two voxels it takes the mean of both: either one alone would shift the image by half a voxel.

Interpolation is separable: along one axis it is a sparse matrix, here a few times faster than
interpolating in 3D, and worked through in slabs along the first axis, so that only the input and
the output are ever whole in memory.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import ndimage, sparse

Shape = tuple[int, int, int]
Orders = tuple[int, int, int]

NEAREST, LINEAR, CUBIC = 0, 1, 3

# A cubic spline's weights fall 3.7-fold from voxel to voxel; those below this are left out.
_SMALLEST_WEIGHT = 1e-5
_SLAB_BYTES = 8 << 20


def resampled_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]
) -> Shape:
    """Compute the shape at a target spacing: extent by spacing, rounded, at least 1 voxel an axis.

    The order of operations is nnU-Net's, and decides where the quotient is a half.

    Parameters
    ----------
    shape
        Voxels along each axis.
    spacing_mm, target_mm
        Voxel size before and after, along each axis.
    """
    return tuple(
        max(1, round(float(old) / float(new) * size))
        for size, old, new in zip(shape, spacing_mm, target_mm, strict=True)
    )


def coarse_axis(
    spacing_mm: Sequence[float], target_mm: Sequence[float], threshold: float
) -> int | None:
    """Find the axis that is resampled by nearest neighbour, or None.

    The coarsest axis is taken where its spacing exceeds the next coarser one more than `threshold`
    times, in the source or else in the target: between such slices, cubic interpolation would
    invent anatomy.

    Parameters
    ----------
    spacing_mm, target_mm
        Voxel size before and after, along each axis.
    threshold
        Ratio of spacings.

    References
    ----------
    Isensee et al. 2021, doi:10.1038/s41592-020-01008-z
    """
    for spacing in (spacing_mm, target_mm):
        coarse, following = sorted(spacing, reverse=True)[:2]
        if coarse > threshold * following:
            return int(np.argmax(spacing))
    return None


def orders(order: int, coarse: int | None) -> Orders:
    """Return the spline order along each axis: nearest neighbour along the coarse one."""
    return tuple(NEAREST if axis == coarse else order for axis in range(3))


def resample(array: np.ndarray, shape: Shape, order: Orders, antialias: bool = True) -> np.ndarray:
    """Resample an image by separable splines, between grids that share their outer edges.

    Values stay within the range of their channel: no overshoot at edges. Equal shapes give the
    array itself.

    Parameters
    ----------
    array
        (channel, x, y, z).
    shape
        The new shape (x, y, z).
    order
        NEAREST, LINEAR or CUBIC along each axis.
    antialias
        Where an axis gets coarser, smooth it first, against stripes: by a Gaussian that makes up
        the difference of the two voxel sizes. Not along a NEAREST axis.

    Returns
    -------
    numpy.ndarray
        float32 (channel, *shape).

    References
    ----------
    Cardoso et al., MICCAI 2015, on the width of the Gaussian.
    """
    array = np.asarray(array, np.float32)
    if array.shape[1:] == tuple(shape):
        return array
    result = np.empty((len(array), *shape), np.float32)
    for channel, values in zip(result, array, strict=True):
        for rows, needed, slab in _slabs(values.shape, shape, order, antialias):
            channel[rows] = slab(values[needed])
        np.clip(channel, values.min(), values.max(), out=channel)
    return result


def centres(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Locate each new voxel's centre along an axis, in indices of the old voxels.

    Parameters
    ----------
    size, target
        Voxels before and after.

    Returns
    -------
    lower : numpy.ndarray
        int (target,), the old voxel below the centre, from -1 on.
    beyond : numpy.ndarray
        float (target,), the distance from there in voxels, in [0, 1); exact, so that half way is
        0.5.
    """
    lower, rest = np.divmod((2 * np.arange(target) + 1) * size - target, 2 * target)
    return lower, rest / (2 * target)


def _slabs(
    shape: Shape, target_shape: Shape, order: Orders, antialias: bool
) -> Iterator[tuple[slice, slice, Callable[[np.ndarray], np.ndarray]]]:
    """Yield slabs of the target's first axis: its rows, the source rows they need, and a function.

    The function makes the slab of the source rows.
    """
    first, second, third = (
        _operator(*arguments, antialias)
        for arguments in zip(shape, target_shape, order, strict=True)
    )
    thickness = max(1, _SLAB_BYTES // (4 * max(target_shape[1] * target_shape[2], 1)))
    for start in range(0, target_shape[0], thickness):
        rows = slice(start, min(start + thickness, target_shape[0]))
        if first is None:
            part, needed = None, rows
        else:
            part = first[rows]
            needed = slice(int(part.indices.min()), int(part.indices.max()) + 1)
            part = part[:, needed]

        def slab(values: np.ndarray, part=part) -> np.ndarray:
            values = np.ascontiguousarray(values, np.float32)
            for axis, operator in enumerate((part, second, third)):
                if operator is not None:
                    values = _along(operator, values, axis)
            return values.copy() if not values.flags.owndata else values

        yield rows, needed, slab


def _along(operator: sparse.csr_array, values: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(values, axis, 0)
    result = operator @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    return np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)


@functools.lru_cache(maxsize=64)
def _operator(size: int, target: int, order: int, antialias: bool) -> sparse.csr_array | None:
    """Compute the matrix (target, size) that resamples one axis; None where nothing changes."""
    if size == target:
        return None
    if size == 1:
        return sparse.csr_array(np.ones((target, 1), np.float32))
    if order == NEAREST:
        return _nearest(size, target)
    weights = np.eye(size)
    if antialias and size > target:
        # Widths at half maximum add in squares; 2.355 turns a width into a standard deviation.
        sigma = np.sqrt((size / target) ** 2 - 1) / 2.355
        weights = ndimage.gaussian_filter1d(weights, sigma, axis=0, mode="nearest")
    weights = ndimage.zoom(weights, (target / size, 1), order=order, mode="nearest", grid_mode=True)
    weights[np.abs(weights) < _SMALLEST_WEIGHT] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.astype(np.float32))


def _nearest(size: int, target: int) -> sparse.csr_array:
    """Compute the matrix (target, size) of nearest neighbours; half way between two, their mean."""
    lower, beyond = centres(size, target)
    pair = np.stack([lower + (beyond > 0.5), lower + (beyond >= 0.5)], axis=1).clip(0, size - 1)
    rows = np.repeat(np.arange(target), 2)
    halves = np.full(2 * target, 0.5, np.float32)  # twice the same voxel adds up to 1
    return sparse.coo_array((halves, (rows, pair.ravel())), (target, size)).tocsr()
