"""Distances between two surfaces of one lattice, found near by: no tree, no grid of distances.

Both surfaces lie in cells (or voxels) of the same grid, so that whatever is near to a point stands
a few cells from it. `reach` says, for every cell, how many cells along the first axis the other
surface is away; a search then goes through the columns along that axis, the nearest first, and
stops where no column can hold anything nearer. The first axis should be that of the finest
spacing: columns are then few. What lies beyond the last column of COLUMNS stays open, and is
left to the tree of `nearest`.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from segstudy.metrics.cells import shapes
from segstudy.metrics.nearest import ROUNDING, to_box

COLUMNS = 400
"""Columns that are searched about a point; a tree is quicker for what is further away."""

FAR = 255
"""In `reach`: the other surface is this many cells away along the axis, or more, or nowhere."""

OPEN = -1.0
"""In the place of a distance: nothing was found among COLUMNS."""

Spacing = tuple[float, float, float]


@lru_cache(8)
def columns(step_j: float, step_k: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns about one, the nearest first: steps along j and k (n, 2), and distance in mm (n,)."""
    # A rectangle that holds the disc of COLUMNS columns, whose area is theirs.
    radius = np.sqrt(COLUMNS * step_j * step_k / np.pi)
    sides = [np.arange(-int(radius / step), int(radius / step) + 1) for step in (step_j, step_k)]
    steps = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    apart = np.hypot(steps[:, 0] * step_j, steps[:, 1] * step_k)
    order = np.argsort(apart, kind="stable")
    # Outside the disc some columns are missing, so what is inside is all that can be relied on.
    order = order[apart[order] <= radius]
    return steps[order], apart[order]


@njit(cache=True, nogil=True)
def codes_of(mask):
    """The code of every cell between the voxels of a framed mask: uint8, one less along each axis."""
    size_i, size_j, size_k = mask.shape[0] - 1, mask.shape[1] - 1, mask.shape[2] - 1
    codes = np.empty((size_i, size_j, size_k), np.uint8)
    for i in range(size_i):
        for j in range(size_j):
            a, b = mask[i, j], mask[i, j + 1]
            c, d = mask[i + 1, j], mask[i + 1, j + 1]
            row = codes[i, j]
            for k in range(size_k):
                row[k] = (
                    a[k] << 7
                    | a[k + 1] << 6
                    | b[k] << 5
                    | b[k + 1] << 4
                    | c[k] << 3
                    | c[k + 1] << 2
                    | d[k] << 1
                    | d[k + 1]
                )
    return codes


@njit(cache=True, nogil=True)
def reach_of(codes):
    """Cells along the first axis to the nearest one that is crossed, at most FAR: uint8.

    A cell is crossed where its code is neither 0 nor 255.
    """
    reach = np.empty(codes.shape, np.uint8)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            here, row = codes[i, j], reach[i, j]
            if i == 0:
                for k in range(len(row)):
                    row[k] = 0 if np.uint8(here[k] - 1) < 254 else 255
            else:
                before = reach[i - 1, j]
                for k in range(len(row)):
                    one_more = np.uint8(before[k] + (before[k] < 255))
                    row[k] = 0 if np.uint8(here[k] - 1) < 254 else one_more
    for i in range(codes.shape[0] - 2, -1, -1):
        for j in range(codes.shape[1]):
            after, row = reach[i + 1, j], reach[i, j]
            for k in range(len(row)):
                one_more = np.uint8(after[k] + (after[k] < 255))
                row[k] = min(row[k], one_more)
    return reach


def to_points(
    codes: np.ndarray, reach: np.ndarray, spacing_mm: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """From each crossed cell to the nearest crossed cell of another mask, from which reach is.

    Returns the distances in mm (n,), OPEN where nothing is near, and the codes (n,) of the
    crossed cells in the order of the array.
    """
    return _to_points(codes, reach, spacing_mm[0], *columns(*spacing_mm[1:]))


@njit(cache=True, nogil=True)
def _to_points(codes, reach, step_i, steps, apart):
    squares = (np.arange(FAR + 1) * step_i) ** 2
    squares[FAR] = np.inf
    planes = apart**2
    count = 0
    for code in codes.ravel():
        count += np.uint8(code - 1) < 254
    found, kinds = np.empty(count), np.empty(count, np.uint8)
    n = 0
    for i in range(codes.shape[0]):
        level = reach[i]
        for j in range(codes.shape[1]):
            row = codes[i, j]
            for k in range(len(row)):
                if not np.uint8(row[k] - 1) < 254:
                    continue
                best = squares[level[j, k]]
                settled = False
                for c in range(1, len(planes)):
                    if planes[c] >= best:
                        settled = True
                        break
                    y, z = j + steps[c, 0], k + steps[c, 1]
                    if 0 <= y < level.shape[0] and 0 <= z < level.shape[1]:
                        best = min(best, planes[c] + squares[level[y, z]])
                found[n] = np.sqrt(best) if settled else OPEN
                kinds[n] = row[k]
                n += 1
    return found, kinds


class Pieces(NamedTuple):
    """The surface in the cells of every code as `cells.Shapes` has it, in mm from the first corner.

    Code c has the polygons begin[c]:begin[c + 1], and polygon p the triangles
    triangle_begin[p]:triangle_begin[p + 1]. boxes: the smallest of each polygon (polygon, end,
    axis). fills: whether the polygon is its box, being a rectangle along the axes.

    With x, y, z and 1 the rows of `planes` (triangle, 3, 4) give the distance from a triangle's
    plane, and the barycentric coordinates of the second and third corner. sides (triangle, 3, 3):
    from each corner to the next; `per_square`: 1 over their squared length.
    """

    begin: np.ndarray
    centres: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    fills: np.ndarray
    triangle_begin: np.ndarray
    triangles: np.ndarray
    planes: np.ndarray
    sides: np.ndarray
    per_square: np.ndarray


@lru_cache(8)
def pieces(spacing_mm: Spacing) -> Pieces:
    """The surface of every code at a spacing."""
    table = shapes()
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
    return Pieces(
        begin=table.polygon_begin,
        centres=table.centres * np.asarray(spacing_mm),
        areas=areas,
        boxes=np.stack([low, high], axis=1),
        fills=(extent[:, 0] == 0) & (areas >= extent[:, 1] * extent[:, 2] * (1 - 1e-9)),
        triangle_begin=triangle_begin,
        triangles=triangles,
        planes=np.concatenate([rows, offsets], axis=2),
        sides=sides,
        per_square=1 / (sides**2).sum(axis=2),
    )


def to_mesh(
    codes: np.ndarray, others: np.ndarray, reach: np.ndarray, spacing_mm: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """From the centre of each polygon in the cells `codes` to the surface in the cells `others`.

    reach: of `others`. Returns distances in mm (n,), OPEN where nothing is near, and the polygons
    (n,) of `pieces` in the order of the array.
    """
    return _to_mesh(codes, others, reach, spacing_mm, *columns(*spacing_mm[1:]), pieces(spacing_mm))


@njit(cache=True, nogil=True)
def _to_mesh(codes, others, reach, spacing_mm, steps, apart, table):
    begin = table.begin
    step_i, step_j, step_k = spacing_mm
    count = 0
    for code in codes.ravel():
        count += begin[code + 1] - begin[code]
    found, polygons = np.empty(count), np.empty(count, np.int64)
    half = np.hypot(step_j, step_k) / 2
    at_i, at_j, at_k = -1, 0, 0
    n = 0
    for i in range(codes.shape[0]):
        level = reach[i]
        for j in range(codes.shape[1]):
            row = codes[i, j]
            for k in range(len(row)):
                code = row[k]
                if not np.uint8(code - 1) < 254:
                    continue
                same = others[i, j, k] == code
                for polygon in range(begin[code], begin[code + 1]):
                    polygons[n] = polygon
                    n += 1
                    if same:
                        found[n - 1] = 0.0
                        continue
                    x, y, z = table.centres[polygon]
                    best = np.inf
                    if at_i >= 0:
                        # The cell nearest to the point before is a good first guess.
                        best = _to_cell(
                            x + (i - at_i) * step_i,
                            y + (j - at_j) * step_j,
                            z + (k - at_k) * step_k,
                            others[at_i, at_j, at_k],
                            best,
                            table,
                        )
                    # Neither the point nor what is in a column lies in the middle of its column.
                    slack = half + np.hypot(y - step_j / 2, z - step_k / 2)
                    limit = np.sqrt(best) + slack
                    settled = False
                    for c in range(len(apart)):
                        if apart[c] >= limit:
                            settled = True
                            break
                        to_j, to_k = steps[c, 0], steps[c, 1]
                        dy = max(to_j * step_j - y, y - (to_j + 1) * step_j, 0.0)
                        dz = max(to_k * step_k - z, z - (to_k + 1) * step_k, 0.0)
                        plane = dy * dy + dz * dz
                        if plane >= best:
                            continue
                        to_j += j
                        to_k += k
                        if not (0 <= to_j < codes.shape[1] and 0 <= to_k < codes.shape[2]):
                            continue
                        away = np.int64(level[to_j, to_k])
                        while True:
                            # Outwards along the column, on both sides, until both are too far.
                            up = max(away * step_i - x, 0.0)
                            down = max(x + (away - 1) * step_i, 0.0)
                            near = min(up, down)
                            if plane + near * near >= best:
                                break
                            if i + away >= codes.shape[0] and i - away < 0:
                                break
                            for side in range(2 if away else 1):
                                to_i = i - away if side else i + away
                                if not 0 <= to_i < codes.shape[0]:
                                    continue
                                other = others[to_i, to_j, to_k]
                                if not np.uint8(other - 1) < 254:
                                    continue
                                square = _to_cell(
                                    x + (i - to_i) * step_i,
                                    y + (j - to_j) * step_j,
                                    z + (k - to_k) * step_k,
                                    other,
                                    best,
                                    table,
                                )
                                if square < best:
                                    best = square
                                    limit = np.sqrt(best) + slack
                                    at_i, at_j, at_k = to_i, to_j, to_k
                            away += 1
                    if not settled:
                        found[n - 1] = OPEN
                    else:
                        # On the surface itself only rounding is left.
                        found[n - 1] = np.sqrt(best) if best > ROUNDING else 0.0
    return found, polygons


@njit(cache=True, nogil=True, inline="always")
def _to_cell(x, y, z, code, best, table):
    """Squared distance from a point to the surface in a cell of this code, or `best` if smaller."""
    for polygon in range(table.begin[code], table.begin[code + 1]):
        square = to_box(x, y, z, table.boxes[polygon])
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
                best = min(best, _to_side(x, y, z, t, 0, table))
            if v + w > 1.0:
                best = min(best, _to_side(x, y, z, t, 1, table))
            if v < 0.0:
                best = min(best, _to_side(x, y, z, t, 2, table))
    return best


@njit(cache=True, nogil=True, inline="always")
def _to_side(x, y, z, triangle, number, table):
    """Squared distance from a point to a side of a triangle."""
    corner, side = table.triangles[triangle, number], table.sides[triangle, number]
    px, py, pz = x - corner[0], y - corner[1], z - corner[2]
    part = (px * side[0] + py * side[1] + pz * side[2]) * table.per_square[triangle, number]
    part = min(max(part, 0.0), 1.0)
    px, py, pz = px - part * side[0], py - part * side[1], pz - part * side[2]
    return px * px + py * py + pz * pz
