"""A canvas for the phantom: a grid on which tissues are painted in Hounsfield units and as labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import CubicSpline

Part = tuple[slice, slice, slice]

# Noise lives on a lattice that covers any patient, so that it does not depend on the scan's grid.
_REACH_MM = ((-300.0, 300.0), (-260.0, 260.0), (-220.0, 180.0))


class Canvas:
    """Paint anatomy stroke over stroke.

    Parameters
    ----------
    axes_mm
        Positions of the grid's planes along left, back and head, in the scanner's frame.
    to_anatomy
        4x4 matrix from the scanner's to the anatomy's millimetres.
    deformation
        Displacement field: three arrays of the grid's shape, added after the matrix, in mm.
    values
        Label value of each structure.
    background_hu
        Of voxels that nothing is painted on.

    Attributes
    ----------
    x, y, z : numpy.ndarray
        Position of each voxel in the anatomy, in mm: the frame that strokes are given in.
    hu : numpy.ndarray
        Hounsfield units painted so far.
    label : numpy.ndarray
        Value of the structure painted last, 0 for other tissue.
    """

    def __init__(
        self,
        axes_mm: Sequence[np.ndarray],
        to_anatomy: np.ndarray,
        deformation: Sequence[np.ndarray],
        values: Mapping[str, int],
        background_hu: float,
    ):
        """Compute the position of each voxel."""
        left, back, head = (
            axis.astype(np.float32).reshape([-1 if other == number else 1 for other in range(3)])
            for number, axis in enumerate(axes_mm)
        )
        self.axes_mm = list(axes_mm)
        self.x, self.y, self.z = (
            np.float32(row[0]) * left
            + np.float32(row[1]) * back
            + np.float32(row[2]) * head
            + np.float32(row[3])
            + moved
            for row, moved in zip(to_anatomy[:3], deformation, strict=True)
        )
        self.hu = np.full(self.x.shape, background_hu, np.float32)
        self.label = np.zeros(self.x.shape, np.uint8)
        self._values = values
        self._to_scanner = np.linalg.inv(to_anatomy[:3, :3])
        self._stretch = float(np.linalg.norm(self._to_scanner, 2))

    def paint(self, part: Part, mask: np.ndarray, hu, structure: str | None = None) -> None:
        """Paint a tissue on the voxels of a part of the grid where the mask is set."""
        np.copyto(self.hu[part], hu, where=mask)
        self.label[part][mask] = self._values[structure] if structure else 0

    def ellipsoid(
        self,
        centre: Sequence[float],
        radii: Sequence[float],
        hu: float,
        structure: str | None = None,
        turn: np.ndarray | None = None,
        over: tuple[float, float] | None = None,
    ) -> None:
        """Paint an ellipsoid.

        Parameters
        ----------
        centre, radii
            (3,) mm.
        hu
            Of the tissue.
        structure
            Its name; None for other tissue.
        turn
            3x3 matrix whose rows are its axes; None: x, y, z.
        over
            Paint only over tissue between these HU.
        """
        part = self.around(np.atleast_2d(centre), max(radii))[0]
        self._ellipsoid(part, centre, radii, hu, structure, turn, over)

    def tube(
        self,
        points: np.ndarray,
        radii: np.ndarray | float,
        hu: float,
        structure: str | None = None,
        over: tuple[float, float] | None = None,
    ) -> None:
        """Paint a tube along points that lie close together.

        Parameters
        ----------
        points
            (n, 3) mm.
        radii
            One for all, one a point (n,), or along x, y and z of each (n, 3), in mm.
        hu
            Of the tissue.
        structure
            Its name; None for other tissue.
        over
            Paint only over tissue between these HU.
        """
        radii = np.asarray(radii, float)
        if radii.ndim < 2:
            radii = np.broadcast_to(radii, len(points))[:, None]
        radii = np.broadcast_to(radii, (len(points), 3))
        parts = self.around(points, float(radii.max(initial=0)))
        for part, point, radius in zip(parts, points, radii, strict=True):
            self._ellipsoid(part, point, radius, hu, structure, None, over)

    def around(self, points: np.ndarray, radius_mm: float) -> list[Part]:
        """Return for each anatomical point (n, 3) the part of the grid that can lie within a radius."""
        # The deformation locally stretches by less than a third: see the test of whole balls.
        reach = radius_mm * self._stretch * 1.34 + 1
        centres = self._locate(points)
        firsts, lasts = (
            [np.searchsorted(axis, centres[:, n] + side) for n, axis in enumerate(self.axes_mm)]
            for side in (-reach, reach)
        )
        return [
            tuple(slice(*ends) for ends in zip(first, last, strict=True))
            for first, last in zip(np.stack(firsts, 1), np.stack(lasts, 1), strict=True)
        ]

    def _locate(self, points: np.ndarray) -> np.ndarray:
        """Find the scanner coordinates (n, 3) of anatomical points, by following the deformation back."""
        located = np.zeros_like(points, dtype=float)
        for _ in range(6):
            nearest = tuple(
                np.clip(np.searchsorted(axis, located[:, number]), 0, len(axis) - 1)
                for number, axis in enumerate(self.axes_mm)
            )
            there = np.stack([self.x[nearest], self.y[nearest], self.z[nearest]], axis=1)
            position = np.stack(
                [axis[index] for axis, index in zip(self.axes_mm, nearest, strict=True)], axis=1
            )
            located = position + (points - there) @ self._to_scanner.T
        return located

    def _ellipsoid(self, part, centre, radii, hu, structure, turn, over) -> None:
        x, y, z = (
            axis[part] - np.float32(middle)
            for axis, middle in zip((self.x, self.y, self.z), centre, strict=True)
        )
        if x.size == 0:
            return
        if turn is not None:
            x, y, z = (row[0] * x + row[1] * y + row[2] * z for row in turn.astype(np.float32))
        a, b, c = (np.float32(1 / radius) for radius in radii)
        mask = (x * a) ** 2 + (y * b) ** 2 + (z * c) ** 2 <= 1
        if over is not None:
            mask &= (self.hu[part] >= over[0]) & (self.hu[part] <= over[1])
        self.paint(part, mask, hu, structure)


def curve(points: Sequence[Sequence[float]], step_mm: float) -> np.ndarray:
    """Interpolate a smooth curve through points.

    Parameters
    ----------
    points
        (n, m); the first three columns are mm, further columns (a radius, say) go along.
    step_mm
        Largest distance between the returned points.
    """
    points = np.asarray(points, float)
    along = np.append(0, np.cumsum(np.linalg.norm(np.diff(points[:, :3], axis=0), axis=1)))
    count = max(int(np.ceil(along[-1] / step_mm)), 1) + 1
    return CubicSpline(along, points)(np.linspace(0, along[-1], count))


def smooth_noise(
    rng: np.random.Generator, axes_mm: Sequence[np.ndarray], wavelength_mm: float
) -> np.ndarray:
    """Draw smooth noise of mean 0 and SD about 1 on a grid: cubic B-splines on random knots.

    The same generator gives the same noise at the same position, whatever the grid.

    Parameters
    ----------
    rng
        Draws the knots' values.
    axes_mm
        Positions of the grid's planes along each axis.
    wavelength_mm
        Distance of the knots.
    """
    weights = [
        _bspline_weights(axis, low, high, wavelength_mm)
        for axis, (low, high) in zip(axes_mm, _REACH_MM, strict=True)
    ]
    lattice = rng.standard_normal([weight.shape[1] for weight in weights], np.float32)
    for weight in weights:
        # Contracts the first axis and appends the new one: after three turns all are in order.
        lattice = np.tensordot(lattice, weight, axes=(0, 1))
    # The weights' mean sum of squares is 151/315 along each axis.
    return lattice / np.float32((151 / 315) ** 1.5)


def _bspline_weights(axis: np.ndarray, low: float, high: float, step: float) -> np.ndarray:
    """Compute weights (positions, knots) of uniform cubic B-splines."""
    knots = np.arange(low - 2 * step, high + 3 * step, step)
    distance = np.abs(np.asarray(axis)[:, None] - knots) / step
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
