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
    """Voxels along each axis at the target spacing: the extent divided by it, rounded, at least 1.

    In the order of nnU-Net's operations, which decides where the quotient is a half.
    """
    return tuple(
        max(1, round(float(old) / float(new) * size))
        for size, old, new in zip(shape, spacing_mm, target_mm, strict=True)
    )


def coarse_axis(
    spacing_mm: Sequence[float], target_mm: Sequence[float], threshold: float
) -> int | None:
    """The axis that is resampled apart, or None.

    That is the coarsest axis where its spacing exceeds the next coarser one more than
    `threshold` times, in the source or else in the target: between such slices, cubic
    interpolation would invent anatomy that nobody saw (Isensee et al. 2021).
    """
    for spacing in (spacing_mm, target_mm):
        coarse, following = sorted(spacing, reverse=True)[:2]
        if coarse > threshold * following:
            return int(np.argmax(spacing))
    return None


def orders(order: int, coarse: int | None) -> Orders:
    """Spline order along each axis: nearest neighbour along the coarse one."""
    return tuple(NEAREST if axis == coarse else order for axis in range(3))


def resample(array: np.ndarray, shape: Shape, order: Orders, antialias: bool = True) -> np.ndarray:
    """Resample an image (channel, x, y, z) to (channel, *shape), float32.

    order: per axis NEAREST, LINEAR or CUBIC.
    antialias: where an axis gets coarser, smooth it first, so that what the new voxels cannot
        hold does not come back as stripes: by a Gaussian that makes up the difference of the two
        voxels' widths (Cardoso et al., MICCAI 2015). Not done along a NEAREST axis.

    Values stay within the range of their channel: no overshoot at edges. Equal shapes give the
    array itself.
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
    """Of each new voxel's centre along an axis: the old voxel below it, from -1 on, and how far beyond.

    Returns whole numbers and fractions in [0, 1) of the old voxel, (target,) each; exact, so that
    half way is 0.5 to the last bit.
    """
    lower, rest = np.divmod((2 * np.arange(target) + 1) * size - target, 2 * target)
    return lower, rest / (2 * target)


def _slabs(
    shape: Shape, target_shape: Shape, order: Orders, antialias: bool
) -> Iterator[tuple[slice, slice, Callable[[np.ndarray], np.ndarray]]]:
    """Slabs of the target's first axis: its rows, the source rows they need, and how to make them."""
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
    """The matrix (target, size) that resamples one axis; None where nothing changes."""
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
    """The matrix (target, size) of nearest neighbours; half way between two, the mean of both."""
    lower, beyond = centres(size, target)
    pair = np.stack([lower + (beyond > 0.5), lower + (beyond >= 0.5)], axis=1).clip(0, size - 1)
    rows = np.repeat(np.arange(target), 2)
    halves = np.full(2 * target, 0.5, np.float32)  # twice the same voxel adds up to 1
    return sparse.coo_array((halves, (rows, pair.ravel())), (target, size)).tocsr()
