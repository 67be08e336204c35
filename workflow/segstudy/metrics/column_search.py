"""Short distances between two surfaces of one grid, by a search through columns of cells.

Both surfaces lie in cells (or voxels) of the same grid, so that the surface near to a point stands
a few cells from it. `reach` says, for every cell, how many cells along the first axis the other
surface is away; a search then goes through the columns along that axis, the nearest first, and
stops where no column can hold anything nearer. The first axis should be that of the finest spacing:
columns are then few. Distances beyond the last column of COLUMNS stay open, for `tree_search`.
Coarse blocks tell most of it at once, without a search.
"""

from functools import lru_cache

import numpy as np
from numba import njit
from scipy.ndimage import binary_dilation

from segstudy.metrics.surface_elements import (
    ROUNDING,
    Spacing,
    SurfaceElements,
    any_crossed,
    count_elements,
    crossed,
    mesh_elements,
    squared_distance_to_cell,
)

COLUMNS = 400
"""Columns that are searched about a point; a tree is quicker for what is further away."""

FAR = 255
"""In `reach`: the other surface is this many cells away along the axis, or more, or nowhere."""

OPEN = -1.0
"""In the place of a distance: nothing was found among COLUMNS."""


@lru_cache(8)
def columns(spacing_mm: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns about one, the nearest first: steps along j and k (n, 2), and distance in mm (n,)."""
    step_i, step_j, step_k = spacing_mm
    # A rectangle that holds the disc of COLUMNS columns, whose area is theirs.
    radius = np.sqrt(COLUMNS * step_j * step_k / np.pi)
    # Nothing is searched further away than `reach` counts.
    radius = min(radius, FAR * step_i)
    sides = [np.arange(-int(radius / step), int(radius / step) + 1) for step in (step_j, step_k)]
    steps = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    distances_mm = np.hypot(steps[:, 0] * step_j, steps[:, 1] * step_k)
    order = np.argsort(distances_mm, kind="stable")
    # Outside the disc some columns are missing, so what is inside is all that can be relied on.
    order = order[distances_mm[order] <= radius]
    return steps[order], distances_mm[order]


@njit(cache=True, nogil=True)
def codes_of(mask):
    """Return the code of every cell between the voxels of a framed mask: uint8, one less along each axis."""
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
    """Count the cells along the first axis to the nearest crossed one, at most FAR: uint8, of the shape of `codes`."""
    reach = np.empty(codes.shape, np.uint8)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            codes_row, row = codes[i, j], reach[i, j]
            if i == 0:
                for k in range(len(row)):
                    row[k] = 0 if crossed(codes_row[k]) else 255
            else:
                before = reach[i - 1, j]
                for k in range(len(row)):
                    one_more = np.uint8(before[k] + (before[k] < 255))
                    row[k] = 0 if crossed(codes_row[k]) else one_more
    for i in range(codes.shape[0] - 2, -1, -1):
        for j in range(codes.shape[1]):
            after, row = reach[i + 1, j], reach[i, j]
            for k in range(len(row)):
                one_more = np.uint8(after[k] + (after[k] < 255))
                row[k] = min(row[k], one_more)
    return reach


def to_points(
    codes: np.ndarray, reach: np.ndarray, spacing_mm: Spacing, table: SurfaceElements
) -> tuple[np.ndarray, np.ndarray]:
    """Measure from each crossed cell to the nearest crossed cell of another mask.

    Parameters
    ----------
    codes
        Uint8 (i, j, k), of `codes_of`.
    reach
        `reach_of` the other mask's codes.
    spacing_mm
        Voxel size along i, j, k, in mm.
    table
        Of `surface_elements.point_elements`.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Distances in mm (n,), OPEN where nothing is near, and the sizes (n,) in `table`, which
        is of `surface_elements.point_elements`, in the order of the array.
    """
    blocks = _blocks(reach, spacing_mm)
    return _to_points(codes, reach, blocks, spacing_mm[0], columns(spacing_mm), table)


@njit(cache=True, nogil=True)
def _to_points(codes, reach, blocks, step_i, about, table):
    occupied, block = blocks
    steps, distances_mm = about
    squares = (np.arange(FAR + 1) * step_i) ** 2
    squares[FAR] = np.inf
    planes = distances_mm**2
    number = count_elements(codes, table.begin)
    distances, sizes = np.empty(number), np.empty(number)
    n = 0
    for i in range(codes.shape[0]):
        level = reach[i]
        for j in range(codes.shape[1]):
            row = codes[i, j]
            if not any_crossed(row):
                continue
            occupied_row = occupied[i // block[0], j // block[1]]
            for k in range(len(row)):
                if not crossed(row[k]):
                    continue
                sizes[n] = table.sizes[table.begin[row[k]]]
                distances[n] = OPEN
                n += 1
                if not occupied_row[k // block[2]]:
                    continue
                best = squares[level[j, k]]
                for c in range(1, len(planes)):
                    if planes[c] >= best:
                        distances[n - 1] = np.sqrt(best)
                        break
                    y, z = j + steps[c, 0], k + steps[c, 1]
                    if 0 <= y < level.shape[0] and 0 <= z < level.shape[1]:
                        best = min(best, planes[c] + squares[level[y, z]])
    return distances, sizes


@lru_cache(8)
def columns_of_polygons(spacing_mm: Spacing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the columns about the centre of each polygon of `mesh_elements`, the nearest first.

    Polygons whose centres lie at the same place in their column share a row.

    Returns
    -------
    tuple[np.ndarray, np.ndarray, np.ndarray]
        The row of each polygon (polygon,), steps along j and k (row, n, 2), and squared
        distance in mm² of the centre from the nearest point of the column (row, n).
    """
    steps, distances_mm = columns(spacing_mm)
    step = np.asarray(spacing_mm[1:])
    centres = mesh_elements(spacing_mm).centres[:, 1:]
    places, row = np.unique(centres, axis=0, return_inverse=True)
    before = steps * step - places[:, None]
    beyond = np.maximum(np.maximum(before, -before - step), 0)
    squares = (beyond**2).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")
    # A column that `columns` leaves out is no nearer than the last one less the size of a cell.
    reached = max(distances_mm[-1] - np.hypot(*step), 0) ** 2
    number = (squares <= reached).sum(axis=1).min()
    order = order[:, :number]
    return row, steps[order], np.take_along_axis(squares, order, axis=1)


def to_mesh(
    codes: np.ndarray,
    others: np.ndarray,
    reach: np.ndarray,
    spacing_mm: Spacing,
    table: SurfaceElements,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure from the centre of each polygon in the cells `codes` to the surface in the cells `others`.

    Parameters
    ----------
    codes, others
        Uint8 (i, j, k), of `codes_of`.
    reach
        `reach_of` the codes `others`.
    spacing_mm
        Voxel size along i, j, k, in mm.
    table
        Of `surface_elements.mesh_elements`.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Distances in mm (n,), OPEN where nothing is near, and the sizes (n,) in `table`, which
        is of `surface_elements.mesh_elements`, in the order of the array.
    """
    blocks = _blocks(reach, spacing_mm)
    about = columns_of_polygons(spacing_mm)
    return _to_mesh(codes, others, reach, blocks, spacing_mm, about, table)


@njit(cache=True, nogil=True)
def _to_mesh(codes, others, reach, blocks, spacing_mm, about, table):
    occupied, block = blocks
    places, steps, planes = about
    step_i, step_j, step_k = spacing_mm
    size_i, size_j, size_k = codes.shape
    number = count_elements(codes, table.begin)
    distances, sizes = np.empty(number), np.empty(number)
    at_i, at_j, at_k = -1, 0, 0
    n = 0
    for i in range(size_i):
        level = reach[i]
        for j in range(size_j):
            row = codes[i, j]
            if not any_crossed(row):
                continue
            for k in range(size_k):
                code = row[k]
                if not crossed(code):
                    continue
                first, last = table.begin[code], table.begin[code + 1]
                after = n + last - first
                sizes[n:after] = table.sizes[first:last]
                same = others[i, j, k] == code
                distances[n:after] = 0.0 if same else OPEN
                if same or not occupied[i // block[0], j // block[1], k // block[2]]:
                    n = after
                    continue
                for polygon in range(first, last):
                    x, y, z = table.centres[polygon]
                    # From the centre to the farther end of its cell.
                    rest = max(x, step_i - x)
                    best = np.inf
                    if at_i >= 0:
                        # The cell nearest to the point before is a good first guess.
                        best = squared_distance_to_cell(
                            x + (i - at_i) * step_i,
                            y + (j - at_j) * step_j,
                            z + (k - at_k) * step_k,
                            others[at_i, at_j, at_k],
                            best,
                            table,
                        )
                    place = places[polygon]
                    for c in range(planes.shape[1]):
                        plane = planes[place, c]
                        if plane >= best:
                            # On the surface itself only rounding is left.
                            distances[n] = np.sqrt(best) if best > ROUNDING else 0.0
                            break
                        to_j, to_k = j + steps[place, c, 0], k + steps[place, c, 1]
                        if not (0 <= to_j < size_j and 0 <= to_k < size_k):
                            continue
                        # Outwards along the column, on both sides, until both are too far.
                        away = np.int64(level[to_j, to_k])
                        while away <= i or away < size_i - i:
                            near = max(away * step_i - rest, 0.0)
                            if plane + near * near >= best:
                                break
                            for side in range(2 if away else 1):
                                to_i = i - away if side else i + away
                                if not 0 <= to_i < size_i:
                                    continue
                                other = others[to_i, to_j, to_k]
                                if not crossed(other):
                                    continue
                                square = squared_distance_to_cell(
                                    x + (i - to_i) * step_i,
                                    y + (j - to_j) * step_j,
                                    z + (k - to_k) * step_k,
                                    other,
                                    best,
                                    table,
                                )
                                if square < best:
                                    best = square
                                    at_i, at_j, at_k = to_i, to_j, to_k
                            away += 1
                    n += 1
    return distances, sizes


def _blocks(reach: np.ndarray, spacing_mm: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return the blocks of cells that anything may be near to, bool (i, j, k), and their size in cells (3,).

    A block is as wide as the search reaches, so that the crossed cells near to it lie in itself or
    in its neighbours. One of its planes shows those along the first axis.
    """
    _, distances_mm = columns(spacing_mm)
    block = (distances_mm[-1] / np.asarray(spacing_mm)).astype(np.int64) + 1
    middle = np.arange(0, len(reach), block[0]) + block[0] // 2
    occupied = reach[np.minimum(middle, len(reach) - 1)] <= min(2 * block[0], FAR)
    for axis in (1, 2):
        firsts = np.arange(0, reach.shape[axis], block[axis])
        occupied = np.logical_or.reduceat(occupied, firsts, axis=axis)
    return binary_dilation(occupied, np.ones((1, 3, 3), bool)), block
