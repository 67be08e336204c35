"""Voxel sizes and image sizes that are out of all proportion to the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segstudy.images.geometry import ras_grid
from segstudy.images.grids import Grid
from segstudy.images.names import times

OVERALL, ONE_AXIS = 8.0, 20.0
"""Factors by which voxel and image may both differ, in the geometric mean of the axes and along one.

A wrong unit changes both by 10 (cm), 25.4 (inch) or 1000. Sound cohorts change one of them or
little: voxels of 0.45 to 6 mm in one direction are 2.4 in the mean, a PET of 5.3 x 5.3 x 3.3 mm
beside a CT of 0.7 x 0.7 x 1 mm is 5.7 at the same size of the body; a crop has the same voxels.
"""


@dataclass(frozen=True)
class Size:
    """Voxel size and image size along right, front, head, in mm."""

    spacing_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]

    def __str__(self) -> str:
        return (
            f"voxels of {times(self.spacing_mm)} mm, {times(np.round(self.extent_mm, 3))} mm in all"
        )


def size_of(grid: Grid) -> Size:
    """The size of an image, by where its axes point."""
    turned = ras_grid(grid)
    return Size(
        turned.spacing_mm, tuple(np.multiply(turned.shape, turned.spacing_mm).astype(float))
    )


def typical(sizes: Sequence[Size]) -> Size:
    """The median along each axis."""
    spacing = np.median([size.spacing_mm for size in sizes], axis=0)
    extent = np.median([size.extent_mm for size in sizes], axis=0)
    return Size(tuple(spacing.tolist()), tuple(extent.tolist()))


def out_of_proportion(size: Size, usual: Size) -> bool:
    """Whether voxel and image are both far larger, or both far smaller, than is usual."""
    factors = np.log(
        [
            np.divide(size.spacing_mm, usual.spacing_mm),
            np.divide(size.extent_mm, usual.extent_mm),
        ]
    )
    factors = np.column_stack([factors, factors.mean(axis=1)])
    limits = np.log([ONE_AXIS, ONE_AXIS, ONE_AXIS, OVERALL])
    return bool(((factors > limits).all(axis=0) | (factors < -limits).all(axis=0)).any())


def stands_out(size: Size, usual: Size, whose: str) -> str:
    """That a size is out of proportion to what is usual, in words; empty where it is not.

    whose: what is usual, e.g. `the other cases`.
    """
    if not out_of_proportion(size, usual):
        return ""
    return (
        f"{size}; {whose}: {usual}. Both are out of proportion, as with a wrong unit: correct the "
        "voxel size in the header; if it is right, resample the image to voxels like those"
    )
