"""Boxes of voxels: the one kind that stages crop to, search in and draw."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A part of an array along its axes: `start[axis] <= index < stop[axis]`."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the number of voxels along each axis."""
        return tuple(stop - start for start, stop in self.ranges)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Return start and stop of each axis."""
        return tuple(zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Return the index that cuts the box out of an array."""
        return tuple(slice(start, stop) for start, stop in self.ranges)

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return the part of an array within the box, as a view."""
        return array[self.slices]

    def size_mm(self, spacing_mm: Sequence[float]) -> tuple[float, ...]:
        """Return the length along each axis in mm, for voxels of this size."""
        return tuple(size * step for size, step in zip(self.shape, spacing_mm, strict=True))

    def widened(self, margin: int | Sequence[int], shape: Sequence[int]) -> "Box":
        """Add a margin on each side, and end where the array ends.

        Parameters
        ----------
        margin
            Voxels, the same along all axes or one number an axis.
        shape
            Shape of the array, in voxels.
        """
        margins = [int(voxels) for voxels in np.broadcast_to(margin, len(shape))]
        return Box(
            tuple(max(0, low - more) for low, more in zip(self.start, margins, strict=True)),
            tuple(
                min(int(size), high + more)
                for size, high, more in zip(shape, self.stop, margins, strict=True)
            ),
        )


def whole(shape: Sequence[int]) -> Box:
    """Return the box of all voxels of an array of this shape."""
    return Box((0,) * len(shape), tuple(int(size) for size in shape))


def bounding_box(mask: np.ndarray) -> Box | None:
    """Return the smallest box that holds all voxels of a mask of any dimension; None if it is empty."""
    start, stop, part = [], [], mask
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(part.any(axis=others))
        if not filled.size:
            return None
        start.append(int(filled[0]))
        stop.append(int(filled[-1]) + 1)
        part = part[(*[slice(None)] * axis, slice(start[-1], stop[-1]))]
    return Box(tuple(start), tuple(stop))
