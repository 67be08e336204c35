"""The 256 ways in which a surface can cross a cell, which is a cube between eight voxel centres.

A cell's code has one bit a corner, set where the corner lies in the mask; the first corner
(0, 0, 0) has the highest bit and the last axis runs fastest. Both tables are derived here and
not copied from anywhere. Marching cubes: Lorensen and Cline 1987.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from skimage.measure import marching_cubes

CORNERS = np.array(list(product((0, 1), repeat=3)))
"""Corner -> its place (i, j, k) in the cell, in the order of the bits of a code."""

EDGES = [
    (start, end)
    for start, end in product(range(8), repeat=2)
    if start < end and np.abs(CORNERS[start] - CORNERS[end]).sum() == 1
]
"""The twelve edges of a cell, as pairs of corners."""

FACES = [
    [corner for corner in range(8) if CORNERS[corner][axis] == side]
    for axis, side in product(range(3), (0, 1))
]
"""The six faces of a cell, as four corners."""


def inside(code: int) -> np.ndarray:
    """Tell which corners of the cell lie in the mask: bool (8,)."""
    return np.array([code >> (7 - corner) & 1 for corner in range(8)], bool)


def polygons(code: int) -> list[list[int]]:
    """Return the closed lines in which the surface crosses the cell's faces, as lists of edges.

    The surface passes through the middle of each edge that leaves the mask. Where a face has two
    opposite corners in the mask, the surface keeps them apart: voxels that share only an edge or a
    corner are not connected. Since this follows from the face alone, neighbouring cells agree and
    the surface is closed.
    """
    full = inside(code)
    links: dict[int, list[int]] = {}
    for face in FACES:
        crossed = [
            number
            for number, (start_corner, other) in enumerate(EDGES)
            if start_corner in face and other in face and full[start_corner] != full[other]
        ]
        if len(crossed) == 2:
            pairs = [crossed]
        else:
            pairs = [
                [crossing for crossing in crossed if corner in EDGES[crossing]]
                for corner in face
                if full[corner] and crossed
            ]
        for start_corner, other in pairs:
            links.setdefault(start_corner, []).append(other)
            links.setdefault(other, []).append(start_corner)
    lines = []
    while links:
        start = min(links)
        line, previous, edge = [], None, start
        while edge != start or not line:
            line.append(edge)
            ahead = links.pop(edge)
            previous, edge = edge, ahead[1] if ahead[0] == previous else ahead[0]
        lines.append(line)
    return lines


@dataclass(frozen=True)
class Shapes:
    """The surface in the cells of every code, in voxels from the cell's first corner.

    Code c has the polygons polygon_begin[c]:polygon_begin[c + 1], each with a centre (polygon,
    axis), and the triangles triangle_begin[c]:triangle_begin[c + 1] with the corners (triangle,
    corner, axis). A triangle is a part of the polygon `polygon_of[triangle]`.

    Up to four cells share a vertex of the surface; it is listed once, in the cell that has it on an
    edge from its first corner: polygon p has vertices[vertex_begin[p]:vertex_begin[p + 1]].
    """

    centres: np.ndarray
    polygon_begin: np.ndarray
    triangles: np.ndarray
    triangle_begin: np.ndarray
    polygon_of: np.ndarray
    vertices: np.ndarray
    vertex_begin: np.ndarray

    def areas(self, spacing_mm: Sequence[float]) -> np.ndarray:
        """Return the area of each polygon in mm²."""
        areas = _areas(self.triangles * np.asarray(spacing_mm, float))
        return np.bincount(self.polygon_of, areas, minlength=len(self.centres))


@cache
def shapes(in_parts: bool = False) -> Shapes:
    """Return the surface in the cells of every code as triangles.

    Three or four points lie in a plane. More are closed with a fan about their centre, which
    favours no diagonal, so that the surface does not depend on the order of the axes.

    Parameters
    ----------
    in_parts
        Whether a vertex is listed in every cell that has it, as some of these cells may be left
        out.
    """
    middle = np.array([(CORNERS[start] + CORNERS[end]) / 2 for start, end in EDGES])
    centres, polygon_begin = [], [0]
    triangles, triangle_begin, polygon_of = [], [0], []
    vertices, vertex_begin = [], [0]
    for code in range(256):
        for polygon in polygons(code):
            points = middle[polygon]
            centre = points.mean(axis=0)
            if len(points) <= 4:
                parts = [points[[0, n, n + 1]] for n in range(1, len(points) - 1)]
            else:
                after = np.roll(points, -1, axis=0)
                parts = [np.array([centre, *pair]) for pair in zip(points, after, strict=True)]
            triangles += parts
            polygon_of += [len(centres)] * len(parts)
            centres.append(centre)
            vertices += [middle[edge] for edge in polygon if in_parts or EDGES[edge][0] == 0]
            vertex_begin.append(len(vertices))
        polygon_begin.append(len(centres))
        triangle_begin.append(len(triangles))
    return Shapes(
        *(
            np.array(part)
            for part in (
                *(centres, polygon_begin, triangles, triangle_begin, polygon_of),
                *(vertices, vertex_begin),
            )
        )
    )


@cache
def surfel_areas(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return the area of the surface in a cell of each code, in mm² (256,), as surface-distance counts it.

    A code and its complement share the smaller of their areas by the table of Lorensen and Cline,
    which joins and parts corners differently in the two; so no turn and no mirror changes an area.
    """
    areas = np.zeros(256)
    for code in range(1, 255):
        points, faces, _, _ = marching_cubes(
            inside(code).reshape(2, 2, 2).astype(np.float32), 0.5, method="lorensen"
        )
        areas[code] = _areas(points[faces].astype(float) * np.asarray(spacing_mm, float)).sum()
    return np.minimum(areas, areas[::-1])


def _areas(triangles: np.ndarray) -> np.ndarray:
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.linalg.norm(np.cross(first, second), axis=1) / 2
