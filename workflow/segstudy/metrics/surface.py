"""Distances between the surfaces of two masks, in millimetres.

Three definitions of a surface and of the distance to it:

`mesh`    the marching-cubes surface; from the centre of each polygon to the nearest point of the
          other mesh, weighted by area, and for the maximum from each vertex too. The idea is that
          of MeshMetrics (Podobnik and Vrtovec 2024); of the three it lies closest to closed forms,
          above all with anisotropic voxels.
`surfel`  corners between voxels that are not all alike, weighted by the area of the surface that
          passes them; to the nearest such corner. The definition of surface-distance (Nikolov
          et al. 2018).
`voxel`   centres of the voxels of the mask with a face neighbour outside it, each counted once;
          to the nearest such centre. The definition of MONAI.

In all of them the border of the image is a surface where the mask reaches it. An image of a
single slice is measured in its plane: the mask has a contour and no faces above and below.

Where voxels are ignored, since nobody has labelled them, both masks are empty, and no surface is
taken beside such a voxel, as it may be the border of the labelled region and not of the structure.
Left out, in both masks, to be measured from as well as to be measured to, are the polygons and
corners among whose eight voxels is an ignored one, and the boundary voxels with an ignored face
neighbour. Beside them a distance may be too large, the nearest surface being unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates

from segstudy.boxes import Box
from segstudy.metrics import column_search, tree_search
from segstudy.metrics.cells import surfel_areas
from segstudy.metrics.surface_elements import (
    Spacing,
    SurfaceElements,
    count_elements,
    mesh_elements,
    point_elements,
)

Definition = Literal["mesh", "surfel", "voxel"]

BINS = 1000
"""Bins of the histogram in which a quantile is looked up; they change no result."""

SLACK = 1e-6
"""Relative slack, ten times the rounding of spacings in headers, which are in single precision.

A distance that equals a tolerance is thus within it, and a share just reached is reached."""

SLACK_MM = 1e-5
"""The least slack of a tolerance in mm."""


@dataclass(frozen=True)
class Distances:
    """Distances in mm between two surfaces, in both directions, at the samples of each.

    Attributes
    ----------
    forth, back
        Distances (n,), (m,) from the reference to the prediction and from the prediction to the
        reference.
    forth_sizes, back_sizes
        Area in mm² that each sample stands for or, for `voxel`, 1.
    farthest_mm
        The largest distance, of the samples in both directions and, for `mesh`, of its
        vertices, which stand for no area.
    definition
        Of the surface.
    """

    forth: np.ndarray
    forth_sizes: np.ndarray
    back: np.ndarray
    back_sizes: np.ndarray
    farthest_mm: float
    definition: Definition

    def hausdorff_mm(self) -> float:
        """Return the larger of the two directed maxima.

        For `mesh` of all polygons' centres and vertices. A vertex is the farthest point wherever
        the nearest part of the other surface is convex, so that a lesion moved by a slice is found
        to have moved by a slice. Halfway between parts of the other surface a point of an edge or a
        polygon may lie further away, by less than its way to the next sample: in masks of noise by
        up to 0.14 of the longest side of a voxel.
        """
        return self.farthest_mm

    def quantile_mm(self, share: float = 0.95) -> float:
        """Return the larger of the two directed quantiles: HD95 for 0.95.

        Never pooled: a far false positive that covers little of both surfaces together, but much of
        the predicted one, is to be seen. The quantile is the smallest distance within which `share`
        of the surface lies; for `voxel`, as in MONAI, it is interpolated.
        """
        if self.definition == "voxel":
            return float(max(np.quantile(self.forth, share), np.quantile(self.back, share)))
        return max(
            _quantile(self.forth, self.forth_sizes, share),
            _quantile(self.back, self.back_sizes, share),
        )

    def mean_mm(self) -> float:
        """Return the mean over both surfaces, weighted by size: ASSD."""
        total = self.forth @ self.forth_sizes + self.back @ self.back_sizes
        return float(total / (self.forth_sizes.sum() + self.back_sizes.sum()))

    def directed_mean_mm(self) -> float:
        """Return the mean of the two directed means, however large each surface is: MASD."""
        forth = self.forth @ self.forth_sizes / self.forth_sizes.sum()
        return float(forth + self.back @ self.back_sizes / self.back_sizes.sum()) / 2

    def signed_mean_mm(self, outside: np.ndarray) -> float:
        """Return the mean distance of the predicted surface, above 0 outside the reference: its bias.

        outside: of `outside_reference`.
        """
        signed = np.where(outside, self.back, -self.back)
        return float(signed @ self.back_sizes / self.back_sizes.sum())

    def share_within(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces that lies within the tolerance of the other: NSD.

        A distance that equals the tolerance is within it, as far as a header can tell (SLACK).
        """
        limit = tolerance_mm + max(SLACK * tolerance_mm, SLACK_MM)
        forth, back = self.forth <= limit, self.back <= limit
        within = self.forth_sizes[forth].sum() + self.back_sizes[back].sum()
        # The same numbers in another order of summation may exceed 1 by rounding.
        return min(float(within / (self.forth_sizes.sum() + self.back_sizes.sum())), 1.0)


def flat_axes(shape: Sequence[int]) -> tuple[bool, bool, bool]:
    """Tell which axes of a grid are one voxel long, so that no surface lies across them."""
    return tuple(size == 1 for size in shape)


def framed(label: np.ndarray, values: Sequence[int], box: Box) -> np.ndarray:
    """Cut a mask out of a label map, in a frame of empty voxels.

    Parameters
    ----------
    label
        (i, j, k).
    values
        The label values that belong to the mask.
    box
        The part of the label map, half open.

    Returns
    -------
    np.ndarray
        Uint8 0 or 1. Along a flat axis the voxel is there twice and without a frame, so that
        one layer of cells has the contour in it and nothing closes it.
    """
    flat = flat_axes(label.shape)
    size = [2 if thin else voxels + 2 for thin, voxels in zip(flat, box.shape, strict=True)]
    mask = np.zeros(size, np.uint8)
    inner = mask[tuple(slice(None) if thin else slice(1, -1) for thin in flat)].view(bool)
    part = box.of(label)
    for value in values:
        inner |= part == value
    return mask


def surroundings(ignored: np.ndarray, box: Box) -> np.ndarray:
    """Cut the ignored voxels within a box and next to it, framed as `framed` does: uint8 0 or 1.

    Parameters
    ----------
    ignored
        Bool (i, j, k).
    box
        The part of the grid.
    """
    part = box.widened(1, ignored.shape)
    places = [
        slice(0, 2) if size == 1 else slice(low - first + 1, high - first + 1)
        for size, first, (low, high) in zip(ignored.shape, box.start, part.ranges, strict=True)
    ]
    flat = flat_axes(ignored.shape)
    size = [2 if thin else voxels + 2 for thin, voxels in zip(flat, box.shape, strict=True)]
    frame = np.zeros(size, np.uint8)
    frame[tuple(places)] = part.of(ignored)
    return frame


def framed_distances(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    flat: tuple[bool, bool, bool],
    definition: Definition,
    ignored: np.ndarray | None = None,
) -> Distances | float:
    """Measure the distances between the surfaces of two framed masks of the same box.

    Parameters
    ----------
    reference, prediction
        Uint8 (i, j, k), of `framed`.
    spacing_mm
        Voxel size along i, j, k.
    flat
        Of `flat_axes`.
    definition
        Of the surface.
    ignored
        Of `surroundings`; surface that touches these voxels is left out.

    Returns
    -------
    Distances | float
        NaN where that leaves no surface of the reference, and infinity where it leaves none of the prediction only, which is infinitely far away.
    """
    axes = _search_axes(spacing_mm, flat)
    spacing = tuple(float(spacing_mm[axis]) for axis in axes)
    codes = [_codes(mask, axes, flat, definition, ignored) for mask in (reference, prediction)]
    table = _table(definition, spacing, ignored is not None)
    if ignored is not None:
        for surface_codes, value_if_empty in zip(codes, (float("nan"), float("inf")), strict=True):
            if not count_elements(surface_codes, table.begin):
                return value_if_empty
    forth, forth_sizes = _directed(*codes, spacing, definition, table)
    back, back_sizes = _directed(*codes[::-1], spacing, definition, table)
    farthest_mm = max(forth.max(), back.max())
    if definition == "mesh":
        farthest_mm = tree_search.with_vertices(farthest_mm, forth, *codes, spacing, table)
        farthest_mm = tree_search.with_vertices(farthest_mm, back, *codes[::-1], spacing, table)
    return Distances(forth, forth_sizes, back, back_sizes, float(farthest_mm), definition)


def outside_reference(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    flat: tuple[bool, bool, bool],
    definition: Definition,
    ignored: np.ndarray | None = None,
) -> np.ndarray:
    """Tell which samples of the predicted surface lie outside the reference: bool, as `Distances.back`.

    The arguments are those of `framed_distances`. Between the centres of voxels the reference is taken to
    change linearly.
    """
    axes = _search_axes(spacing_mm, flat)
    spacing = tuple(float(spacing_mm[axis]) for axis in axes)
    codes = _codes(prediction, axes, flat, definition, ignored)
    table = _table(definition, spacing, ignored is not None)
    cells = np.argwhere(np.diff(table.begin)[codes])
    begin, end = (table.begin[codes[tuple(cells.T)] + more].astype(int) for more in (0, 1))
    counts = end - begin
    first = np.repeat(np.cumsum(counts) - counts, counts)
    polygons = np.repeat(begin, counts) + np.arange(counts.sum()) - first
    places = np.repeat(cells, counts, axis=0) + table.centres[polygons] / spacing
    # A corner stands for the middle of its cell; boundary voxels are counted without the frame.
    thin = np.array([flat[axis] for axis in axes])
    places += {"mesh": 0.0, "surfel": 0.5, "voxel": 1.0 * ~thin}[definition]
    inside = map_coordinates(reference.transpose(axes).astype(float), places.T, order=1)
    return inside < 0.5


def _search_axes(spacing_mm: Sequence[float], flat: tuple[bool, bool, bool]) -> list[int]:
    """Order the axes for the search, which wants the finest first and is none along an axis of one layer."""
    return sorted(range(3), key=lambda axis: (flat[axis], spacing_mm[axis]))


def _codes(
    mask: np.ndarray,
    axes: Sequence[int],
    flat: tuple[bool, bool, bool],
    definition: Definition,
    ignored: np.ndarray | None,
) -> np.ndarray:
    """Return the codes of the cells of a framed mask's surface, uint8 along `axes`, without what is ignored."""
    turned = np.ascontiguousarray(mask.transpose(axes))
    thin = tuple(flat[axis] for axis in axes)
    # A voxel of the boundary is a crossed cell, whatever its code.
    voxels = definition == "voxel"
    codes = _boundary_voxels(turned, thin) if voxels else column_search.codes_of(turned)
    if ignored is not None:
        frame = np.ascontiguousarray(ignored.transpose(axes))
        codes[_touching(frame, thin, definition)] = 0
    return codes


@lru_cache(8)
def _table(definition: Definition, spacing_mm: Spacing, in_parts: bool = False) -> SurfaceElements:
    """Return the surface in the cells of every code.

    Parameters
    ----------
    in_parts
        Whether the surface may be open.
    """
    if definition == "mesh":
        return mesh_elements(spacing_mm, in_parts)
    return point_elements(surfel_areas(spacing_mm) if definition == "surfel" else np.ones(256))


def _directed(
    codes: np.ndarray,
    others: np.ndarray,
    spacing_mm: Spacing,
    definition: Definition,
    table: SurfaceElements,
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from one surface, given by its cells' codes, to the other, and their sizes."""
    reach = column_search.reach_of(others)
    if definition == "mesh":
        distances, sizes = column_search.to_mesh(codes, others, reach, spacing_mm, table)
    else:
        distances, sizes = column_search.to_points(codes, reach, spacing_mm, table)
    if (distances == column_search.OPEN).any():
        tree_search.fill_open(distances, codes, others, spacing_mm, table)
    return distances, sizes


def _touching(
    ignored: np.ndarray, flat: tuple[bool, bool, bool], definition: Definition
) -> np.ndarray:
    """Tell which cells, or for `voxel` which voxels without the frame, touch an ignored one: bool."""
    if definition == "voxel":
        return _boundary_voxels(1 - ignored, flat).astype(bool)
    return column_search.codes_of(ignored) != 0


def _boundary_voxels(mask: np.ndarray, flat: tuple[bool, bool, bool]) -> np.ndarray:
    """Voxels of a framed mask with a face neighbour outside it: uint8 0 or 1, without the frame."""
    inner = tuple(slice(0, 1) if thin else slice(1, -1) for thin in flat)
    deep = mask[inner].copy()
    for axis in range(3):
        if not flat[axis]:
            for neighbour in (slice(None, -2), slice(2, None)):
                deep &= mask[(*inner[:axis], neighbour, *inner[axis + 1 :])]
    return mask[inner] & ~deep


def _quantile(distances: np.ndarray, sizes: np.ndarray, share: float) -> float:
    """Return the smallest distance within which `share` of the sizes lies.

    Only the distances of one bin of a histogram are sorted: that in which the share is reached.
    """
    largest = distances.max()
    if largest == 0:
        return 0.0
    bins = (distances / largest * BINS).astype(np.intp)
    covered = np.cumsum(np.bincount(bins, sizes, minlength=BINS + 1))
    # Neither the last digits of the spacing nor the order in which areas are added must decide where
    # exactly the share is reached: the rest may be larger by the slack.
    wanted = (share - SLACK * (1 - share)) * covered[-1] * (1 - 1e-12)
    chosen = int(np.searchsorted(covered, wanted))
    inside = np.flatnonzero(bins == chosen)
    inside = inside[np.argsort(distances[inside], kind="stable")]
    before = covered[chosen - 1] if chosen else 0.0
    index = np.searchsorted(before + np.cumsum(sizes[inside]), wanted)
    return float(distances[inside[min(index, len(inside) - 1)]])
