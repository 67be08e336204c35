"""Grids: the position of voxels, unusable grids, and the difference of two grids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np

from segstudy.images.names import times

FLOAT32 = 2.0**-22
"""Relative error of a length that a header holds in float32: four units in the last place."""
SHEAR_DEG = 0.1
"""How far two axes may be from a right angle; 0.1 degrees change a distance by 0.2 % at most."""
LONGEST_MM = 3000.0
"""The longest image taken for real: scanners reach 2 m."""
LEAST_MM = 1.0
"""The shortest image that a scanner of patients makes; shorter ones are warned of: microscopy may be right."""
SHORTEST_MM = 5.0
"""The shortest image whose unit is beyond doubt; less than `LONGEST_MM` / 1000 tells units apart."""


@dataclass(frozen=True)
class Grid:
    """Place voxels in the patient.

    Parameters
    ----------
    shape
        Voxels along i, j, k.
    affine
        4x4, from voxel indices to RAS mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the voxel size along i, j, k, as `cleaned`: the same from any format and orientation."""
        return tuple(cleaned(float(size)) for size in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def orientation(self) -> str:
        """Return the directions of the axes i, j, k, such as `LPS`."""
        return "".join(nibabel.aff2axcodes(self.affine))


def cleaned(size_mm: float) -> float:
    """Find the shortest decimal number that float32 cannot tell from a voxel size in mm.

    Headers round each number of an affine to float32, so that 1 mm comes back as 0.99999996 or
    1.00000004, by format and by rotation. With such noise, chance would decide whether a distance
    of one voxel is within a tolerance of 1 mm.
    """
    if not 0 < size_mm < math.inf:
        return size_mm
    for digits in range(1, 9):
        short = float(f"{size_mm:.{digits - 1}e}")
        if abs(short - size_mm) <= FLOAT32 * size_mm:
            return short
    return size_mm


def unusable(shape: Sequence[int], affine: np.ndarray) -> str:
    """Explain why no distance can be measured on a grid, and the remedy; empty for a usable grid.

    Unusable are an affine that is not finite or is singular, axes further than `SHEAR_DEG` from
    right angles, as a CT with a tilted gantry has them, and an image longer than `LONGEST_MM`.

    Parameters
    ----------
    shape
        Voxels along i, j, k.
    affine
        4x4, to RAS mm.
    """
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        # Of the size of one voxel: microscopy has determinants of 1e-10 that are sound.
        volume = abs(np.linalg.det(axes)) / np.prod(sizes) if sizes.all() else 0.0
    if not np.isfinite(affine).all() or not volume > 1e-3:
        return (
            "the affine in the header is not finite or cannot be inverted; expected axes that "
            "span three dimensions. Mend the header (qform and sform) or leave the case out"
        )
    cosines = (axes / sizes).T @ (axes / sizes)
    first, second = max(((0, 1), (0, 2), (1, 2)), key=lambda pair: abs(cosines[pair]))
    angle = math.degrees(math.acos(np.clip(cosines[first, second], -1, 1)))
    if abs(angle - 90) > SHEAR_DEG:
        return (
            f"the axes {'ijk'[first]} and {'ijk'[second]} meet at {angle:.2f} degrees; expected right "
            f"angles, to {SHEAR_DEG:g} degrees (a sheared affine, as of a CT with a tilted gantry): "
            "distances and volumes would be wrong. Resample image and label to a grid at right "
            "angles with dcm2niix (its file named _Tilt) or SimpleITK"
        )
    length = longest_mm(shape, affine)
    if length > LONGEST_MM:
        return (
            f"voxels of {times(Grid(tuple(shape), affine).spacing_mm)} mm make an image {length:.6g} mm long; "
            f"expected at most {LONGEST_MM:g} mm. Correct the voxel size in the header"
        )
    return ""


def longest_mm(shape: Sequence[int], affine: np.ndarray) -> float:
    """Compute the length of the longest side; axes of one voxel do not count."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return max(
        (float(n * size) for n, size in zip(shape, sizes, strict=True) if n > 1), default=0.0
    )


def compare_grids(one: Grid, other: Grid, tolerance_mm: float = 1e-2) -> str:
    """Describe the difference between two grids; empty where they agree.

    Shape and spacing are compared first, then the positions of the corner voxels. Orientation,
    origin and direction only serve to put a difference into words.

    Parameters
    ----------
    one, other
        The grids.
    tolerance_mm
        Largest accepted distance between corner voxels; at least 0.01.
    """
    if one.shape != other.shape:
        return f"shape {times(one.shape)} against {times(other.shape)} voxels"
    if not np.allclose(one.spacing_mm, other.spacing_mm, atol=1e-4, rtol=1e-3):
        return f"spacing {times(one.spacing_mm)} against {times(other.spacing_mm)} mm"
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in one.shape])).reshape(3, -1)
    between = one.affine - other.affine
    tolerance_mm = max(tolerance_mm, 1e-2)
    if np.abs(between[:3, :3] @ corners + between[:3, 3:]).max() <= tolerance_mm:
        return ""
    if one.orientation != other.orientation:
        return f"orientation {one.orientation} against {other.orientation}"
    if not np.abs(between[:3, 3]).max() <= tolerance_mm:  # nan too
        origins = [tuple(np.round(grid.affine[:3, 3], 3).tolist()) for grid in (one, other)]
        return f"origin {origins[0]} against {origins[1]} mm"
    apart = np.abs(between[:3, :3] @ corners).max()
    return f"direction: corners lie up to {apart:.3g} mm apart"
