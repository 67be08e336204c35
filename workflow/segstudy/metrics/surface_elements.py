"""The surface in a cell of every code, in mm, and the distance from a point to it.

For `mesh` these are polygons of triangles; for `surfel` and `voxel` a point in the cell's first
corner. The searches for the nearest surface need not know which.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from segstudy.metrics.cells import shapes

ROUNDING = 1e-20
"""Squared distance in mm² below which a point lies on the surface."""

Spacing = tuple[float, float, float]


class SurfaceElements(NamedTuple):
    """The surface in the cells of every code as `cells.Shapes` has it, in mm from the first corner.

    Code c has the polygons begin[c]:begin[c + 1], and polygon p the triangles
    triangle_begin[p]:triangle_begin[p + 1].

    Vertices of the surface are listed once, with one of their polygons: polygon p has those of
    vertex_begin[p]:vertex_begin[p + 1].

    With x, y, z and 1 the rows of `planes` (triangle, 3, 4) give the distance from a triangle's
    plane, and the barycentric coordinates of the second and third corner. sides (triangle, 3, 3):
    from each corner to the next; `per_square`: 1 over their squared length.

    Attributes
    ----------
    begin
        Code c has the polygons begin[c]:begin[c + 1].
    centres
        Of each polygon (polygon, 3).
    sizes
        The area in mm² that a polygon's centre stands for, or a count.
    boxes
        The smallest box of each polygon (polygon, end, axis).
    fills
        Whether the polygon is its box, being a point or a rectangle along the axes.
    triangle_begin
        Polygon p has the triangles triangle_begin[p]:triangle_begin[p + 1].
    triangles
        Corners (triangle, corner, axis).
    planes
        With x, y, z and 1 the rows (triangle, 3, 4) give the distance from a triangle's plane,
        and the barycentric coordinates of the second and third corner.
    sides
        (triangle, 3, 3), from each corner to the next.
    per_square
        1 over the squared length of each side.
    vertex_begin
        Polygon p has the vertices vertex_begin[p]:vertex_begin[p + 1]; a vertex is listed once,
        with one of its polygons.
    vertices
        (vertex, 3).
    from_centre
        Distance in mm of each vertex from its polygon's centre.
    """

    begin: np.ndarray
    centres: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    fills: np.ndarray
    triangle_begin: np.ndarray
    triangles: np.ndarray
    planes: np.ndarray
    sides: np.ndarray
    per_square: np.ndarray
    vertex_begin: np.ndarray
    vertices: np.ndarray
    from_centre: np.ndarray


@lru_cache(8)
def mesh_elements(spacing_mm: Spacing, in_parts: bool = False) -> SurfaceElements:
    """Return the mesh in the cells of every code at a spacing.

    Parameters
    ----------
    spacing_mm
        Voxel size along i, j, k, in mm.
    in_parts
        See `cells.shapes`.
    """
    table = shapes(in_parts)
    triangles = table.triangles * np.asarray(spacing_mm)
    triangle_begin = np.searchsorted(table.polygon_of, np.arange(len(table.centres) + 1))
    low = np.minimum.reduceat(triangles.min(axis=1), triangle_begin[:-1])
    high = np.maximum.reduceat(triangles.max(axis=1), triangle_begin[:-1])
    extent = np.sort(high - low, axis=1)
    areas = table.areas(spacing_mm)
    sides = np.roll(triangles, -1, axis=1) - triangles
    # A point is corner 0 + v (corner 1 - corner 0) + w (corner 2 - corner 0) + h normal.
    normals = np.cross(sides[:, 0], -sides[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    to_vwh = np.linalg.inv(np.stack([sides[:, 0], -sides[:, 2], normals], axis=2))
    rows = to_vwh[:, [2, 0, 1]]
    offsets = -(rows @ triangles[:, 0, :, None])
    centres, vertices = (part * np.asarray(spacing_mm) for part in (table.centres, table.vertices))
    owners = np.repeat(np.arange(len(centres)), np.diff(table.vertex_begin))
    return SurfaceElements(
        begin=table.polygon_begin,
        centres=centres,
        sizes=areas,
        boxes=np.stack([low, high], axis=1),
        fills=(extent[:, 0] == 0) & (areas >= extent[:, 1] * extent[:, 2] * (1 - 1e-9)),
        triangle_begin=triangle_begin,
        triangles=triangles,
        planes=np.concatenate([rows, offsets], axis=2),
        sides=sides,
        per_square=1 / (sides**2).sum(axis=2),
        vertex_begin=table.vertex_begin,
        vertices=vertices,
        from_centre=np.linalg.norm(vertices - centres[owners], axis=1),
    )


def point_elements(sizes: np.ndarray) -> SurfaceElements:
    """Return a point in the first corner of every crossed cell.

    Parameters
    ----------
    sizes
        By the cell's code (256,).
    """
    number = 254  # codes 1 to 254 are crossed
    return SurfaceElements(
        begin=np.clip(np.arange(257) - 1, 0, number),
        centres=np.zeros((number, 3)),
        sizes=np.ascontiguousarray(sizes[1:255], float),
        boxes=np.zeros((number, 2, 3)),
        fills=np.ones(number, bool),
        triangle_begin=np.zeros(number + 1, np.int64),
        triangles=np.zeros((0, 3, 3)),
        planes=np.zeros((0, 3, 4)),
        sides=np.zeros((0, 3, 3)),
        per_square=np.zeros((0, 3)),
        vertex_begin=np.zeros(number + 1, np.int64),
        vertices=np.zeros((0, 3)),
        from_centre=np.zeros(0),
    )


@njit(cache=True, nogil=True, inline="always")
def crossed(code):
    """Tell whether the surface passes a cell, which is neither all outside nor all inside."""
    return np.uint8(code - 1) < 254


@njit(cache=True, nogil=True, inline="always")
def any_crossed(row):
    """Tell whether any cell of a row is crossed: most rows are not, which shows many cells at a time."""
    any_cell = False
    for code in row:
        any_cell |= crossed(code)
    return any_cell


@njit(cache=True, nogil=True)
def count_elements(codes, begin):
    """Count the polygons in all crossed cells.

    Parameters
    ----------
    codes
        Uint8 (i, j, k).
    begin
        Of `SurfaceElements`.
    """
    number = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            if any_crossed(codes[i, j]):
                for code in codes[i, j]:
                    number += begin[code + 1] - begin[code]
    return number


@njit(cache=True, nogil=True, inline="always")
def squared_distance_to_box(x, y, z, box):
    """Square the distance in mm from a point to a box."""
    dx = max(box[0, 0] - x, 0.0, x - box[1, 0])
    dy = max(box[0, 1] - y, 0.0, y - box[1, 1])
    dz = max(box[0, 2] - z, 0.0, z - box[1, 2])
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True, inline="always")
def squared_distance_to_cell(x, y, z, code, best, table):
    """Square the distance in mm from a point to the surface in a cell of this code, or return `best` if smaller."""
    for polygon in range(table.begin[code], table.begin[code + 1]):
        square = squared_distance_to_box(x, y, z, table.boxes[polygon])
        if square >= best:
            continue
        if table.fills[polygon]:
            best = square
            continue
        for t in range(table.triangle_begin[polygon], table.triangle_begin[polygon + 1]):
            plane = table.planes[t]
            height = plane[0, 0] * x + plane[0, 1] * y + plane[0, 2] * z + plane[0, 3]
            if height * height >= best:
                continue
            v = plane[1, 0] * x + plane[1, 1] * y + plane[1, 2] * z + plane[1, 3]
            w = plane[2, 0] * x + plane[2, 1] * y + plane[2, 2] * z + plane[2, 3]
            if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
                best = height * height
                continue
            # The nearest point lies on a side that has the triangle behind it.
            if w < 0.0:
                best = min(best, squared_distance_to_edge(x, y, z, t, 0, table))
            if v + w > 1.0:
                best = min(best, squared_distance_to_edge(x, y, z, t, 1, table))
            if v < 0.0:
                best = min(best, squared_distance_to_edge(x, y, z, t, 2, table))
    return best


@njit(cache=True, nogil=True, inline="always")
def squared_distance_to_edge(x, y, z, triangle, number, table):
    """Square the distance in mm from a point to an edge of a triangle."""
    corner, side = table.triangles[triangle, number], table.sides[triangle, number]
    px, py, pz = x - corner[0], y - corner[1], z - corner[2]
    part = (px * side[0] + py * side[1] + pz * side[2]) * table.per_square[triangle, number]
    part = min(max(part, 0.0), 1.0)
    px, py, pz = px - part * side[0], py - part * side[1], pz - part * side[2]
    return px * px + py * py + pz * pz
