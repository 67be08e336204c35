"""Distances between the surfaces of two masks, in millimetres.

Three definitions of a surface and of the distance to it:

`mesh`    the marching-cubes surface; from the centre of each polygon to the nearest point of the
          other mesh, weighted by area. The idea is that of MeshMetrics (Podobnik and Vrtovec
          2024); of the three it lies closest to closed forms, above all with anisotropic voxels.
`surfel`  corners between voxels that are not all alike, weighted by the area of the surface that
          passes them; to the nearest such corner. The definition of surface-distance (Nikolov
          et al. 2018).
`voxel`   centres of the voxels of the mask with a face neighbour outside it, each counted once;
          to the nearest such centre. The definition of MONAI.

In all of them the border of the image is a surface where the mask reaches it. An image of a
single slice is measured in its plane: the mask has a contour and no faces above and below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from segstudy.metrics import nearest
from segstudy.metrics.cells import shapes, surfel_areas

Definition = Literal["mesh", "surfel", "voxel"]
Spacing = tuple[float, float, float]

ROUNDING_MM = 1e-9
"""A distance equal to a tolerance is within it, though three times 0.1 is more than 0.3."""


@dataclass(frozen=True)
class Surface:
    """What distances are taken from and to.

    points: (n, 3) in mm, where the surface is sampled. sizes: (n,), what each stands for: an
    area in mm² or, for `voxel`, 1. triangles: (m, 3 corners, 3) in mm, what others are near to.
    """

    points: np.ndarray
    sizes: np.ndarray
    triangles: np.ndarray


@dataclass(frozen=True)
class Distances:
    """Distances in mm between two surfaces, in both directions, sorted; sizes as in `Surface`."""

    forth: np.ndarray
    forth_sizes: np.ndarray
    back: np.ndarray
    back_sizes: np.ndarray
    definition: Definition

    def hausdorff_mm(self) -> float:
        """The larger of the two directed maxima."""
        return float(max(self.forth[-1], self.back[-1]))

    def quantile_mm(self, share: float = 0.95) -> float:
        """The larger of the two directed quantiles: HD95 for 0.95.

        Never pooled: a far false positive that covers little of both surfaces together, but much
        of the predicted one, is to be seen. The quantile is the smallest distance within which
        `share` of the surface lies; for `voxel`, as in MONAI, it is interpolated.
        """
        if self.definition == "voxel":
            return float(max(np.quantile(self.forth, share), np.quantile(self.back, share)))
        return max(
            _quantile(self.forth, self.forth_sizes, share),
            _quantile(self.back, self.back_sizes, share),
        )

    def mean_mm(self) -> float:
        """The mean over both surfaces, weighted by size: ASSD."""
        total = self.forth @ self.forth_sizes + self.back @ self.back_sizes
        return float(total / (self.forth_sizes.sum() + self.back_sizes.sum()))

    def share_within(self, tolerance_mm: float) -> float:
        """The share of both surfaces that lies within the tolerance of the other: NSD."""
        limit = tolerance_mm + ROUNDING_MM
        forth, back = self.forth <= limit, self.back <= limit
        within = self.forth_sizes[forth].sum() + self.back_sizes[back].sum()
        # The same numbers in another order of summation may exceed 1 by rounding.
        return min(float(within / (self.forth_sizes.sum() + self.back_sizes.sum())), 1.0)


def surface_distances(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    definition: Definition = "mesh",
) -> Distances:
    """Distances between the surfaces of two masks, which must not be empty.

    reference, prediction: bool or integer (i, j, k), not 0 in the mask, on the same grid.
    spacing_mm: voxel size along i, j, k.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"shape {reference.shape} against {prediction.shape}")
    mask = np.array([False, True])
    either = (reference != 0) | (prediction != 0)
    box = bounding_box(either)
    return between(
        framed((reference != 0).view(np.uint8), mask, box),
        framed((prediction != 0).view(np.uint8), mask, box),
        spacing_mm,
        flat_axes(reference.shape),
        definition,
    )


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """First and last voxel along each axis: int (3, 2). The mask must not be empty."""
    found = []
    for axis in range(3):
        other = tuple(number for number in range(3) if number != axis)
        full = np.flatnonzero(mask.any(axis=other))
        found.append((full[0], full[-1]))
    return np.array(found)


def flat_axes(shape: Sequence[int]) -> tuple[bool, bool, bool]:
    """Which axes of a grid are one voxel long, so that there is no surface across them."""
    return tuple(size == 1 for size in shape)


def framed(label: np.ndarray, chosen: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a label map within a box as a mask, in a frame of empty voxels.

    chosen: whether each label value belongs to the mask, bool (values,). Returns uint8 0 or 1.
    Along a flat axis the voxel is there twice and without a frame, so that one layer of cells
    has the contour in it and nothing closes it.
    """
    flat = flat_axes(label.shape)
    size = [2 if thin else last - first + 3 for thin, (first, last) in zip(flat, box, strict=True)]
    mask = np.zeros(size, np.uint8)
    inner = tuple(slice(None) if thin else slice(1, -1) for thin in flat)
    mask[inner] = chosen[label[tuple(slice(first, last + 1) for first, last in box)]]
    return mask


def between(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    flat: tuple[bool, bool, bool],
    definition: Definition,
) -> Distances:
    """Distances between the surfaces of two framed masks of the same box."""
    spacing = tuple(float(size) for size in spacing_mm)
    one = surface(reference, spacing, flat, definition)
    other = surface(prediction, spacing, flat, definition)
    return Distances(
        *_sorted(nearest.distances(one.points, other.triangles), one.sizes),
        *_sorted(nearest.distances(other.points, one.triangles), other.sizes),
        definition,
    )


def surface(
    mask: np.ndarray, spacing_mm: Spacing, flat: tuple[bool, bool, bool], definition: Definition
) -> Surface:
    """The surface of a framed mask, in mm from the first voxel of the frame."""
    if definition == "voxel":
        voxels = _boundary_voxels(mask, flat)
        points = voxels[nearest.order(voxels)] * np.asarray(spacing_mm)
        return Surface(points, np.ones(len(points)), np.repeat(points[:, None], 3, axis=1))
    cells, codes = _crossed_cells(mask)
    order = nearest.order(cells)
    cells, codes = cells[order], codes[order]
    if definition == "surfel":
        points = cells * np.asarray(spacing_mm)
        triangles = np.repeat(points[:, None], 3, axis=1)
        return Surface(points, surfel_areas(spacing_mm)[codes], triangles)
    table = shapes()
    polygons, polygon_cells = _gather(codes, table.polygon_begin)
    triangles, triangle_cells = _gather(codes, table.triangle_begin)
    return Surface(
        (table.centres[polygons] + cells[polygon_cells]) * spacing_mm,
        table.areas(spacing_mm)[polygons],
        (table.triangles[triangles] + cells[triangle_cells, None]) * spacing_mm,
    )


@njit(cache=True, nogil=True)
def _crossed_cells(mask):
    """Cells whose eight corners are not all alike: their first corner (n, 3), and their code."""
    cells, found = np.empty((0, 3), np.int64), np.empty(0, np.uint8)
    for fill in (False, True):
        count = 0
        for i in range(mask.shape[0] - 1):
            for j in range(mask.shape[1] - 1):
                before = 0
                for k in range(mask.shape[2]):
                    column = np.int64(
                        mask[i, j, k] << 6
                        | mask[i, j + 1, k] << 4
                        | mask[i + 1, j, k] << 2
                        | mask[i + 1, j + 1, k]
                    )
                    if k > 0:
                        code = before << 1 | column
                        if 0 < code < 255:
                            if fill:
                                cells[count, 0], cells[count, 1], cells[count, 2] = i, j, k - 1
                                found[count] = code
                            count += 1
                    before = column
        if not fill:
            cells = np.empty((count, 3), np.int64)
            found = np.empty(count, np.uint8)
    return cells, found


def _boundary_voxels(mask: np.ndarray, flat: tuple[bool, bool, bool]) -> np.ndarray:
    """Voxels of a framed mask with a face neighbour outside it: (n, 3)."""
    inner = tuple(slice(0, 1) if thin else slice(1, -1) for thin in flat)
    outside = np.zeros(mask[inner].shape, bool)
    for axis in range(3):
        if not flat[axis]:
            # What a roll brings in from the other end is frame, so it is never looked at.
            for step in (-1, 1):
                outside |= np.roll(mask, step, axis)[inner] == 0
    return np.argwhere(outside & (mask[inner] != 0))


def _gather(codes: np.ndarray, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows begin[code]:begin[code + 1] of a table for each cell, and the cell of each row."""
    counts = np.diff(begin)[codes]
    cells = np.repeat(np.arange(len(codes)), counts)
    within = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    return begin[codes][cells] + within, cells


def _sorted(distances: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(distances, kind="stable")
    return distances[order], sizes[order]


def _quantile(distances: np.ndarray, sizes: np.ndarray, share: float) -> float:
    covered = np.cumsum(sizes)
    # The order in which areas are added must not decide where exactly the share is reached.
    index = np.searchsorted(covered, share * covered[-1] * (1 - 1e-12))
    return float(distances[min(index, len(distances) - 1)])
