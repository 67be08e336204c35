"""Long distances to a surface, by a tree of boxes over its crossed cells.

Distances that `column_search` leaves open are found here. Far predictions cost little more than
near ones, and memory grows with the surface that is searched, not with the volume nor with the
other surface.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from segstudy.metrics.surface_elements import (
    ROUNDING,
    Spacing,
    SurfaceElements,
    any_crossed,
    crossed,
    squared_distance_to_box,
    squared_distance_to_cell,
)

LEAF = 4
"""Cells a leaf."""

ROUNDED = 1e-12
"""Relative error of a squared distance."""


class Tree(NamedTuple):
    """A complete binary tree of bounding boxes: node n has the children 2n and 2n + 1, root 1.

    Attributes
    ----------
    boxes
        (node, end, axis) in mm. The last half of the nodes are leaves of LEAF cells in turn; a
        leaf without cells has a box that lies infinitely far away.
    cells
        (n, 3).
    """

    boxes: np.ndarray
    cells: np.ndarray


def fill_open(
    distances: np.ndarray,
    codes: np.ndarray,
    others: np.ndarray,
    spacing_mm: Spacing,
    table: SurfaceElements,
) -> None:
    """Fill in the distances that are open, negative, with the distance in mm to the surface in `others`.

    Parameters
    ----------
    distances
        (n,), of the polygons of `table` in the crossed cells `codes`, in the order of the
        array; changed in place.
    codes, others
        Uint8 (i, j, k), the cells that distances are measured from and to.
    spacing_mm
        Voxel size along i, j, k, in mm.
    table
        The surface in a cell of each code.
    """
    _fill_open(distances, codes, others, spacing_mm, table, _tree_of(others, spacing_mm, table))


def with_vertices(
    most: float,
    distances: np.ndarray,
    codes: np.ndarray,
    others: np.ndarray,
    spacing_mm: Spacing,
    table: SurfaceElements,
) -> float:
    """Return the larger of `most` and the greatest distance in mm from a vertex to the surface in `others`.

    Parameters
    ----------
    most
        A distance in mm.
    distances
        (n,), of the polygons of `table` in the crossed cells `codes`, none open, in the order
        of the array.
    codes, others
        Uint8 (i, j, k).
    spacing_mm
        Voxel size along i, j, k, in mm.
    table
        The surface in a cell of each code.
    """
    if distances.max() + table.from_centre.max() <= most:
        return most
    places, bounds = _vertices_beyond(most, distances, codes, others, spacing_mm, table)
    if not len(places):
        return most
    # What is nearest to any of them lies in this part of the grid, with a little room for rounding.
    reach = 1.001 * bounds.max()
    first = np.maximum((places.min(axis=0) - reach) // spacing_mm, 0).astype(int)
    last = ((places.max(axis=0) + reach) // spacing_mm).astype(int)
    part = np.ascontiguousarray(others[tuple(map(slice, first, last + 1))])
    order = np.argsort(-bounds, kind="stable")
    return _farthest(
        most,
        (places - first * spacing_mm)[order],
        bounds[order],
        part,
        spacing_mm,
        table,
        _tree_of(part, spacing_mm, table),
    )


def _tree_of(codes: np.ndarray, spacing_mm: Spacing, table: SurfaceElements) -> Tree:
    """Build the tree over the crossed cells."""
    return _tree(np.sort(_morton(codes)), codes, np.asarray(spacing_mm), table)


@njit(cache=True, nogil=True)
def _morton(codes):
    """Return the places of the crossed cells along a Morton curve, in which neighbours stay near: int64 (n,)."""
    number = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            for code in codes[i, j]:
                number += crossed(code)
    places = np.empty(number, np.int64)
    n = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            row = codes[i, j]
            if any_crossed(row):
                for k in range(len(row)):
                    if crossed(row[k]):
                        places[n] = _spread(i) << 2 | _spread(j) << 1 | _spread(k)
                        n += 1
    return places


@njit(cache=True, nogil=True, inline="always")
def _spread(number):
    """Move bit n of a number of up to 21 bits to bit 3n."""
    number = (number | number << 32) & 0x1F00000000FFFF
    number = (number | number << 16) & 0x1F0000FF0000FF
    number = (number | number << 8) & 0x100F00F00F00F00F
    number = (number | number << 4) & 0x10C30C30C30C30C3
    return (number | number << 2) & 0x1249249249249249


@njit(cache=True, nogil=True, inline="always")
def _gather(number):
    """Reverse `_spread`."""
    number &= 0x1249249249249249
    number = (number | number >> 2) & 0x10C30C30C30C30C3
    number = (number | number >> 4) & 0x100F00F00F00F00F
    number = (number | number >> 8) & 0x1F0000FF0000FF
    number = (number | number >> 16) & 0x1F00000000FFFF
    return (number | number >> 32) & 0x1FFFFF


@njit(cache=True, nogil=True)
def _tree(places, codes, spacing_mm, table):
    """Build the tree over the crossed cells, whose places along the curve are given in their order."""
    leaves = 1
    while leaves * LEAF < len(places):
        leaves *= 2
    boxes = np.empty((2 * leaves, 2, 3))
    boxes[:, 0] = np.inf
    boxes[:, 1] = -np.inf
    cells = np.empty((len(places), 3), np.int32)
    for n in range(len(places)):
        cell = cells[n]
        cell[0], cell[1], cell[2] = (
            _gather(places[n] >> 2),
            _gather(places[n] >> 1),
            _gather(places[n]),
        )
        code = codes[cell[0], cell[1], cell[2]]
        box = boxes[leaves + n // LEAF]
        for polygon in range(table.begin[code], table.begin[code + 1]):
            for axis in range(3):
                corner = cell[axis] * spacing_mm[axis]
                box[0, axis] = min(box[0, axis], corner + table.boxes[polygon, 0, axis])
                box[1, axis] = max(box[1, axis], corner + table.boxes[polygon, 1, axis])
    for node in range(leaves - 1, 0, -1):
        for axis in range(3):
            boxes[node, 0, axis] = min(boxes[2 * node, 0, axis], boxes[2 * node + 1, 0, axis])
            boxes[node, 1, axis] = max(boxes[2 * node, 1, axis], boxes[2 * node + 1, 1, axis])
    return Tree(boxes, cells)


@njit(cache=True, nogil=True)
def _fill_open(distances, codes, others, spacing_mm, table, tree):
    step_i, step_j, step_k = spacing_mm
    stack, ahead = np.empty(64, np.int64), np.empty(64)
    nearest = 0
    sample = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            row = codes[i, j]
            if not any_crossed(row):
                continue
            for k in range(len(row)):
                for polygon in range(table.begin[row[k]], table.begin[row[k] + 1]):
                    sample += 1
                    if distances[sample - 1] >= 0:
                        continue
                    x = table.centres[polygon, 0] + i * step_i
                    y = table.centres[polygon, 1] + j * step_j
                    z = table.centres[polygon, 2] + k * step_k
                    best, nearest = _search(
                        (x, y, z), 0.0, nearest, others, spacing_mm, table, (tree, stack, ahead)
                    )
                    # On the surface itself only rounding is left, of which no metric is to speak.
                    distances[sample - 1] = np.sqrt(best) if best > ROUNDING else 0.0


@njit(cache=True, nogil=True)
def _vertices_beyond(most, distances, codes, others, spacing_mm, table):
    """List the vertices that may be further away than `most`: places in mm (n, 3), and how far at most (n,)."""
    step_i, step_j, step_k = spacing_mm
    limit = most - table.from_centre.max()
    most_vertices = np.diff(table.vertex_begin).max()
    places = np.empty((most_vertices * (distances > limit).sum(), 3))
    bounds = np.empty(len(places))
    number = sample = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            row = codes[i, j]
            if not any_crossed(row):
                continue
            for k in range(len(row)):
                for polygon in range(table.begin[row[k]], table.begin[row[k] + 1]):
                    sample += 1
                    # The same surface in the same cell: its vertices lie on the other one.
                    if distances[sample - 1] <= limit or row[k] == others[i, j, k]:
                        continue
                    for n in range(table.vertex_begin[polygon], table.vertex_begin[polygon + 1]):
                        bound = distances[sample - 1] + table.from_centre[n]
                        if bound > most:
                            places[number, 0] = table.vertices[n, 0] + i * step_i
                            places[number, 1] = table.vertices[n, 1] + j * step_j
                            places[number, 2] = table.vertices[n, 2] + k * step_k
                            bounds[number] = bound
                            number += 1
    return places[:number], bounds[:number]


@njit(cache=True, nogil=True)
def _farthest(most, places, bounds, others, spacing_mm, table, tree):
    stack, ahead = np.empty(64, np.int64), np.empty(64)
    nearest = 0
    for n in range(len(places)):
        if bounds[n] <= most:
            break
        x, y, z = places[n]
        # What is further away by rounding alone is not looked into, and changes nothing.
        enough = most * most * (1 + ROUNDED)
        best, nearest = _search(
            (x, y, z), enough, nearest, others, spacing_mm, table, (tree, stack, ahead)
        )
        if best > enough:
            most = np.sqrt(best)
    return most


@njit(cache=True, nogil=True, inline="always")
def _search(point, enough, nearest, others, spacing_mm, table, waiting):
    """Square the distance in mm from a point to the surface, and return the number of the nearest cell.

    The search ends at a distance whose square is not above `enough`. point: x, y, z in mm from the
    first corner of the grid. nearest: of the cells, the first guess; that of the point before is a
    good one. waiting: the tree, and room for nodes that wait and for how far away they are.
    """
    x, y, z = point
    tree, stack, ahead = waiting
    step_i, step_j, step_k = spacing_mm
    boxes, cells = tree.boxes, tree.cells
    leaves = len(boxes) // 2
    best = np.inf
    first, last = nearest, nearest + 1
    stack[0], ahead[0] = 1, 0.0
    depth = 1
    while first >= 0:
        for n in range(first, last):
            cell = cells[n]
            # `squared_distance_to_cell` takes a point from the first corner of a cell.
            square = squared_distance_to_cell(
                x - cell[0] * step_i,
                y - cell[1] * step_j,
                z - cell[2] * step_k,
                others[cell[0], cell[1], cell[2]],
                best,
                table,
            )
            if square < best:
                best, nearest = square, n
        # Down to the next leaf that may hold anything nearer.
        first = last = -1
        while depth > 0 and first < 0 and best > enough:
            depth -= 1
            if ahead[depth] >= best:
                continue
            node = stack[depth]
            if node >= leaves:
                first = (node - leaves) * LEAF
                last = min(first + LEAF, len(cells))
                continue
            left = squared_distance_to_box(x, y, z, boxes[2 * node])
            right = squared_distance_to_box(x, y, z, boxes[2 * node + 1])
            # The nearer child goes on top of the stack.
            nearer = 2 * node + (right <= left)
            stack[depth], ahead[depth] = nearer ^ 1, max(left, right)
            stack[depth + 1], ahead[depth + 1] = nearer, min(left, right)
            depth += 2
    return best, nearest
