"""The distance from points to the nearest of many triangles, exact, without a grid of distances.

A tree of boxes over the triangles in Morton order: far predictions cost little more than near
ones, and memory grows with the surface, not with the volume.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

LEAF = 4
"""Triangles a leaf."""

ROUNDING = 1e-20
"""Squared distance in mm² below which a point lies on the triangle."""


def order(points: np.ndarray, step_mm: Sequence[float]) -> np.ndarray:
    """Indices that sort points (n, 3), not negative, along a Morton curve: neighbours stay near.

    step_mm: the size of the curve's smallest cells.
    """
    return np.argsort(_morton(points, np.asarray(step_mm, float)), kind="stable")


@njit(cache=True, nogil=True)
def _morton(points, step):
    codes = np.empty(len(points), np.int64)
    for n in range(len(points)):
        code = 0
        for axis in range(3):
            place = np.int64(points[n, axis] / step[axis])
            for bit in range(20):
                code |= ((place >> bit) & 1) << (3 * bit + axis)
        codes[n] = code
    return codes


def distances(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Distance from each point (n, 3) to the nearest triangle of (m, 3 corners, 3), m > 0.

    Both in the same unit, float64, and in Morton order for speed. A triangle whose corners
    coincide is a point.
    """
    return _distances(points, triangles, _boxes(triangles))


@njit(cache=True, nogil=True)
def _boxes(triangles):
    """A complete binary tree of bounding boxes: node n has the children 2n and 2n + 1, root 1.

    The last half of the nodes are leaves of LEAF triangles in turn; a leaf without triangles has
    a box that lies infinitely far away.
    """
    leaves = 1
    while leaves * LEAF < len(triangles):
        leaves *= 2
    boxes = np.empty((2 * leaves, 2, 3))
    boxes[:, 0] = np.inf
    boxes[:, 1] = -np.inf
    for t in range(len(triangles)):
        node = leaves + t // LEAF
        for corner in range(3):
            for axis in range(3):
                x = triangles[t, corner, axis]
                boxes[node, 0, axis] = min(boxes[node, 0, axis], x)
                boxes[node, 1, axis] = max(boxes[node, 1, axis], x)
    for node in range(leaves - 1, 0, -1):
        for axis in range(3):
            boxes[node, 0, axis] = min(boxes[2 * node, 0, axis], boxes[2 * node + 1, 0, axis])
            boxes[node, 1, axis] = max(boxes[2 * node, 1, axis], boxes[2 * node + 1, 1, axis])
    return boxes


@njit(cache=True, nogil=True)
def _distances(points, triangles, boxes):
    leaves = len(boxes) // 2
    found = np.empty(len(points))
    stack = np.empty(64, np.int64)
    ahead = np.empty(64)
    nearest = 0
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        # The triangle nearest to the point before is a good first guess.
        best = to_triangle(x, y, z, triangles[nearest])
        stack[0], ahead[0] = 1, to_box(x, y, z, boxes[1])
        depth = 1
        while depth > 0:
            depth -= 1
            if ahead[depth] >= best:
                continue
            node = stack[depth]
            if node >= leaves:
                first = (node - leaves) * LEAF
                for t in range(first, min(first + LEAF, len(triangles))):
                    square = to_triangle(x, y, z, triangles[t])
                    if square < best:
                        best, nearest = square, t
                continue
            left = to_box(x, y, z, boxes[2 * node])
            right = to_box(x, y, z, boxes[2 * node + 1])
            # The nearer child goes on top of the stack.
            if left < right:
                stack[depth], ahead[depth] = 2 * node + 1, right
                stack[depth + 1], ahead[depth + 1] = 2 * node, left
            else:
                stack[depth], ahead[depth] = 2 * node, left
                stack[depth + 1], ahead[depth + 1] = 2 * node + 1, right
            depth += 2
        # On the surface itself only rounding is left, of which no metric is to speak.
        found[n] = np.sqrt(best) if best > ROUNDING else 0.0
    return found


@njit(cache=True, nogil=True, inline="always")
def to_box(x, y, z, box):
    """Squared distance from a point to a box."""
    dx = max(box[0, 0] - x, 0.0, x - box[1, 0])
    dy = max(box[0, 1] - y, 0.0, y - box[1, 1])
    dz = max(box[0, 2] - z, 0.0, z - box[1, 2])
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def to_triangle(x, y, z, triangle):
    """Squared distance from a point to a triangle (Ericson 2005, Real-Time Collision Detection, 5.1.5)."""
    abx, aby, abz = (
        triangle[1, 0] - triangle[0, 0],
        triangle[1, 1] - triangle[0, 1],
        triangle[1, 2] - triangle[0, 2],
    )
    acx, acy, acz = (
        triangle[2, 0] - triangle[0, 0],
        triangle[2, 1] - triangle[0, 1],
        triangle[2, 2] - triangle[0, 2],
    )
    px, py, pz = x - triangle[0, 0], y - triangle[0, 1], z - triangle[0, 2]
    d1 = abx * px + aby * py + abz * pz
    d2 = acx * px + acy * py + acz * pz
    if d1 <= 0.0 and d2 <= 0.0:
        return px * px + py * py + pz * pz
    bx, by, bz = px - abx, py - aby, pz - abz
    d3 = abx * bx + aby * by + abz * bz
    d4 = acx * bx + acy * by + acz * bz
    if d3 >= 0.0 and d4 <= d3:
        return bx * bx + by * by + bz * bz
    vc = d1 * d4 - d3 * d2
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        v, w = d1 / (d1 - d3), 0.0
    else:
        cx, cy, cz = px - acx, py - acy, pz - acz
        d5 = abx * cx + aby * cy + abz * cz
        d6 = acx * cx + acy * cy + acz * cz
        if d6 >= 0.0 and d5 <= d6:
            return cx * cx + cy * cy + cz * cz
        vb = d5 * d2 - d1 * d6
        va = d3 * d6 - d5 * d4
        if vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
            v, w = 0.0, d2 / (d2 - d6)
        elif va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
            w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
            v = 1.0 - w
        else:
            v, w = vb / (va + vb + vc), vc / (va + vb + vc)
    rx, ry, rz = px - v * abx - w * acx, py - v * aby - w * acy, pz - v * abz - w * acz
    return rx * rx + ry * ry + rz * rz
