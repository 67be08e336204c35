"""Resampling of label maps and class probabilities.

Grids share their outer edges as in `resample`, where the coarse axis is explained. A class is
interpolated at the new centre by cubic convolution (Keys 1981), 4 voxels an axis, and the highest
one wins. Linear interpolation, and any average over a new voxel, would blur: a convex border moves
inwards, so that small structures shrink. Cubic convolution reproduces parabolas and keeps borders.
Where all voxels around a centre have one class, that class is taken at once, so that time goes
into borders alone, however many classes there are.

Ties do not depend on the number of a class. The nearest voxel decides; for a centre on the border
between two voxels, as everywhere when an axis is halved, the lower and the upper voxel take turns,
so that nothing is shifted and no class gains.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from segstudy.images.resample import centres

CLOSE = 1 / 16 + 1e-6
"""Half way between two voxels the kernel overshoots by 1/16 beside a flat border: no vote counts below that."""
TIED = 1e-6
"""Probabilities that differ by less are equal but for rounding."""


def resample_label(classes: np.ndarray, shape: Sequence[int], coarse: int | None) -> np.ndarray:
    """Resample a label map of class indices.

    Where the class of the nearest voxel comes within `CLOSE` of the highest one, it is kept.

    Parameters
    ----------
    classes
        uint8 (x, y, z).
    shape
        The new shape (x, y, z).
    coarse
        An axis along which the nearest slice is taken, or None.

    Returns
    -------
    numpy.ndarray
        uint8 of the new shape.

    References
    ----------
    Keys 1981, doi:10.1109/TASSP.1981.1163711, for the kernel.
    """
    classes = np.ascontiguousarray(classes)
    if classes.shape == tuple(shape):
        return classes.copy()
    taps = [
        _nearest(size, target) if axis == coarse else _cubic(size, target)
        for axis, (size, target) in enumerate(zip(classes.shape, shape, strict=True))
    ]
    return _vote(classes, *taps)


def most_likely(probabilities: np.ndarray, shape: Sequence[int], coarse: int | None) -> np.ndarray:
    """Resample class probabilities, and return the highest class of each voxel.

    Where the voxels around a centre agree on the highest class, so does the result. On one and the
    same grid a tie goes to the lower index. Beside the probabilities, memory is two label maps.

    Parameters
    ----------
    probabilities
        (class, x, y, z); logits serve as well.
    shape
        The new shape (x, y, z).
    coarse
        An axis along which the nearest slice is taken, or None; between two slices, their mean.

    Returns
    -------
    numpy.ndarray
        Class indices of the new shape, uint8 up to 256 classes, else uint16.
    """
    values = np.asarray(probabilities, np.float32)
    highest = np.zeros(values.shape[1:], np.uint8 if len(values) <= 256 else np.uint16)
    _argmax(values, highest)
    if highest.shape == tuple(shape):
        return highest
    taps = [
        _mean_of_nearest(size, target) if axis == coarse else _cubic(size, target)
        for axis, (size, target) in enumerate(zip(highest.shape, shape, strict=True))
    ]
    return _decide(values, highest, *taps)


def interpolate(values: np.ndarray, shape: Sequence[int], coarse: int | None) -> np.ndarray:
    """Interpolate the probability of a class as `most_likely` does, in every voxel.

    Parameters
    ----------
    values
        float32 (x, y, z).
    shape
        The new shape (x, y, z).
    coarse
        An axis along which the nearest slice is taken, or None.

    Returns
    -------
    numpy.ndarray
        float32 of the new shape, `values` itself where that is its own; up to some hundredths below 0 or above 1.
    """
    for axis, target in enumerate(shape):
        size = values.shape[axis]
        if size == target:
            continue
        indices, weights = (_mean_of_nearest if axis == coarse else _cubic)(size, target)
        wide = [1, 1, 1]
        wide[axis] = target
        summed = np.zeros((*values.shape[:axis], target, *values.shape[axis + 1 :]), np.float32)
        for tap in range(indices.shape[1]):
            part = values.take(indices[:, tap], axis)
            part *= weights[:, tap].astype(np.float32).reshape(wide)
            summed += part
        values = summed
    return values


# --- which voxels of the old grid a new centre is made of, and how much of each ------------------
# Along an axis: indices (target, n), the nearest first, then the other neighbour; weights alike.


def _cubic(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    if size == target:
        return np.arange(target)[:, None], np.ones((target, 1))
    lower, beyond, upper = _nearer(size, target)
    steps = np.where(upper[:, None], (1, 0, 2, -1), (0, 1, -1, 2))
    distance = np.abs(beyond[:, None] - steps)
    weights = np.where(
        distance <= 1,
        1 - 2.5 * distance**2 + 1.5 * distance**3,
        2 - 4 * distance + 2.5 * distance**2 - 0.5 * distance**3,
    )
    return (lower[:, None] + steps).clip(0, size - 1), weights


def _nearest(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    lower, _, upper = _nearer(size, target)
    return (lower + upper).clip(0, size - 1)[:, None], np.ones((target, 1))


def _mean_of_nearest(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    lower, beyond, upper = _nearer(size, target)
    nearest, other = lower + upper, lower + ~upper
    tied = beyond == 0.5
    pair = np.stack([nearest, np.where(tied, other, nearest)], axis=1).clip(0, size - 1)
    return pair, np.stack([1 - 0.5 * tied, 0.5 * tied], axis=1)


def _nearer(size: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each centre the voxel below, the distance from it, and whether the one above is nearer.

    A centre half way between two voxels is nearer to the lower and the upper one in turn.
    """
    lower, beyond = centres(size, target)
    return lower, beyond, (beyond > 0.5) | ((beyond == 0.5) & (np.arange(target) % 2 == 1))


# --- kernels: each works through a line along the third axis -------------------------------------


@njit(cache=True, nogil=True)
def _agreed(classes, x, y, i, j, line):
    """Write for each voxel of a line the class of the columns around it, or -1 where they differ."""
    near_x, far_x = x[i, 0], x[i, min(1, x.shape[1] - 1)]
    near_y, far_y = y[j, 0], y[j, min(1, y.shape[1] - 1)]
    for k in range(len(line)):
        near_class = classes[near_x, near_y, k]
        same = (
            (near_class == classes[near_x, far_y, k])
            & (near_class == classes[far_x, near_y, k])
            & (near_class == classes[far_x, far_y, k])
        )
        line[k] = near_class if same else -1


@njit(cache=True, nogil=True)
def _until_undecided(line, z, start, result):
    """Fill a line of the result from `start` on while the voxels around agree; return the end."""
    other = min(1, z.shape[1] - 1)
    for k in range(start, len(result)):
        near_class = line[z[k, 0]]
        if near_class < 0 or near_class != line[z[k, other]]:
            return k
        result[k] = near_class
    return len(result)


@njit(cache=True, nogil=True)
def _until_decided(line, z, start):
    """Find where the voxels around agree again, and the range of voxels that is needed till there."""
    other = min(1, z.shape[1] - 1)
    low, high = z[start].min(), z[start].max()
    stop = start + 1
    while stop < len(z) and (line[z[stop, 0]] < 0 or line[z[stop, 0]] != line[z[stop, other]]):
        low, high = min(low, z[stop].min()), max(high, z[stop].max())
        stop += 1
    return stop, low, high + 1


@njit(cache=True, nogil=True)
def _vote(classes, x_taps, y_taps, z_taps):
    x, x_weights = x_taps
    y, y_weights = y_taps
    z, z_weights = z_taps
    result = np.empty((len(x), len(y), len(z)), classes.dtype)
    line, sums = np.empty(classes.shape[2], np.int64), np.empty(classes.shape[2], np.float64)
    kept, most = np.empty(len(z), np.float64), np.empty(len(z), np.float64)
    for i in range(len(x)):
        for j in range(len(y)):
            _agreed(classes, x, y, i, j, line)
            stop = 0
            while True:
                start = _until_undecided(line, z, stop, result[i, j])
                if start == len(z):
                    break
                stop, low, high = _until_decided(line, z, start)
                there = np.zeros(256, np.bool_)
                for a in range(x.shape[1]):
                    for b in range(y.shape[1]):
                        for k in range(low, high):
                            there[classes[x[i, a], y[j, b], k]] = True
                most[start:stop] = -np.inf
                for index in np.flatnonzero(there):
                    sums[low:high] = 0
                    for a in range(x.shape[1]):
                        for b in range(y.shape[1]):
                            weight = x_weights[i, a] * y_weights[j, b]
                            for k in range(low, high):
                                sums[k] += weight * (classes[x[i, a], y[j, b], k] == index)
                    for k in range(start, stop):
                        votes = 0.0
                        for c in range(z.shape[1]):
                            votes += z_weights[k, c] * sums[z[k, c]]
                        if classes[x[i, 0], y[j, 0], z[k, 0]] == index:
                            kept[k] = votes
                        if votes > most[k] + TIED or (
                            votes > most[k] - TIED
                            and _sooner(classes, (x[i], y[j], z[k]), index, result[i, j, k])
                        ):
                            most[k], result[i, j, k] = votes, index
                for k in range(start, stop):
                    if most[k] - kept[k] <= CLOSE:
                        result[i, j, k] = classes[x[i, 0], y[j, 0], z[k, 0]]
    return result


@njit(cache=True, nogil=True)
def _sooner(classes, near, first, second):
    """Tell whether `first` is met before `second` among the voxels around a centre, the nearest first."""
    x, y, z = near
    for a in range(min(2, len(x))):
        for b in range(min(2, len(y))):
            for c in range(min(2, len(z))):
                near_class = classes[x[a], y[b], z[c]]
                if near_class == first:
                    return True
                if near_class == second:
                    return False
    return False


@njit(cache=True, nogil=True)
def _argmax(values, result):
    """Write the highest class of each voxel, of (class, x, y, z)."""
    most = np.empty(result.shape[2], np.float32)
    for i in range(result.shape[0]):
        for j in range(result.shape[1]):
            best = result[i, j]
            most[:] = values[0, i, j]
            for index in range(1, len(values)):
                line = values[index, i, j]
                for k in range(len(most)):
                    higher = line[k] > most[k]
                    best[k] = index if higher else best[k]
                    most[k] = line[k] if higher else most[k]


@njit(cache=True, nogil=True)
def _decide(values, highest, x_taps, y_taps, z_taps):
    x, x_weights = x_taps
    y, y_weights = y_taps
    z, z_weights = z_taps
    result = np.empty((len(x), len(y), len(z)), highest.dtype)
    line, sums = np.empty(highest.shape[2], np.int64), np.empty(highest.shape[2], np.float64)
    kept, most = np.empty(len(z), np.float64), np.empty(len(z), np.float64)
    for i in range(len(x)):
        for j in range(len(y)):
            _agreed(highest, x, y, i, j, line)
            stop = 0
            while True:
                start = _until_undecided(line, z, stop, result[i, j])
                if start == len(z):
                    break
                stop, low, high = _until_decided(line, z, start)
                most[start:stop] = -np.inf
                for index in range(len(values)):
                    sums[low:high] = 0
                    for a in range(x.shape[1]):
                        for b in range(y.shape[1]):
                            weight = x_weights[i, a] * y_weights[j, b]
                            for k in range(low, high):
                                sums[k] += weight * values[index, x[i, a], y[j, b], k]
                    for k in range(start, stop):
                        value = 0.0
                        for c in range(z.shape[1]):
                            value += z_weights[k, c] * sums[z[k, c]]
                        if highest[x[i, 0], y[j, 0], z[k, 0]] == index:
                            kept[k] = value
                        if value > most[k]:
                            most[k], result[i, j, k] = value, index
                for k in range(start, stop):
                    if most[k] - kept[k] <= TIED:
                        result[i, j, k] = highest[x[i, 0], y[j, 0], z[k, 0]]
    return result
