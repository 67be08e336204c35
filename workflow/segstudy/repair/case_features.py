"""Features of a case for the label audit: position, components and form of structures, and the image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segstudy.boxes import bounding_box
from segstudy.images.files import Image
from segstudy.images.geometry import to_ras
from segstudy.repair.morphology import GAP_VOXELS, MorphologySet, morphology_set
from segstudy.repair.points import Points, Scene, middle_of, sample, scene


@dataclass(frozen=True)
class Shape:
    """Hold the position and the components of a structure, in RAS mm from the middle of the grid.

    Parameters
    ----------
    voxels, volume_ml
        Size.
    centroid
        (3,).
    spread
        3x3 covariance of the voxels' positions.
    stray
        Voxels of each component but the largest, greatest first; components lie GAP_VOXELS apart.
    holes
        Background voxels that the structure encloses.
    border
        The structure's voxels on the face of the grid that has most of them.
    points
        Points for look-ups in the image.
    """

    voxels: int
    volume_ml: float
    centroid: np.ndarray
    spread: np.ndarray
    stray: tuple[int, ...]
    holes: int
    border: int
    points: Points


@dataclass(frozen=True)
class CaseFeatures:
    """Hold the features of a case.

    Parameters
    ----------
    case
        Its name.
    shapes
        Structure -> position and components; None where it is empty.
    image
        The image, for look-ups.
    morphologies
        Structure -> form; None also where the structure has too few voxels.
    voxel_mm
        Edge of a cube of the volume of a voxel of `image`.
    """

    case: str
    shapes: Mapping[str, Shape | None]
    image: Scene
    morphologies: Mapping[str, MorphologySet | None]
    voxel_mm: float  # size of a voxel of the scene


def extract_features(
    case: str, image: Image, label: Image, structures: Mapping[str, int], simulate: bool = True
) -> CaseFeatures:
    """Extract the features of a case.

    Parameters
    ----------
    case
        Its name.
    image
        (channel, i, j, k), finite.
    label
        (i, j, k) on the same grid.
    structures
        Name -> label value.
    simulate
        Whether label errors are simulated in its structures, for the audit to learn from.
    """
    ras = to_ras(label)
    shapes = {name: _shape(ras, value) for name, value in structures.items()}
    looked_up = scene(image)
    morphologies = {
        name: shapes[name] and morphology_set(ras.array, value, looked_up, simulate)
        for name, value in structures.items()
    }
    voxel_mm = float(np.prod(looked_up.spacing_mm) ** (1 / 3))
    return CaseFeatures(case, shapes, looked_up, morphologies, voxel_mm)


def _shape(label: Image, value: int) -> Shape | None:
    mask = label.array == value
    box = bounding_box(mask)
    if box is None:
        return None
    spacing = np.array(label.spacing_mm)
    crop = box.of(mask)
    indices = np.argwhere(crop)
    origin = np.array(box.start) - middle_of(mask.shape)
    centred = (indices - indices.mean(axis=0)) * spacing
    joined = ndimage.binary_dilation(crop, np.ones((3, 3, 3)), GAP_VOXELS // 2)
    pieces, _ = ndimage.label(joined, np.ones((3, 3, 3)))
    sizes = sorted(np.bincount(pieces[crop])[1:].tolist(), reverse=True)
    # Enclosed voxels lie in the box; a face of the box is open towards the rest of the grid.
    enclosed = ndimage.binary_fill_holes(crop) & ~crop
    background = box.of(label.array) == 0
    faces = [np.take(mask, index, axis) for axis in range(3) for index in (0, -1)]
    return Shape(
        voxels=len(indices),
        volume_ml=float(len(indices) * spacing.prod() / 1000),
        centroid=(indices.mean(axis=0) + origin) * spacing,
        # The voxels themselves spread by a twelfth of their size squared.
        spread=centred.T @ centred / len(indices) + np.diag(spacing**2 / 12),
        stray=tuple(sizes[1:]),
        holes=int(np.count_nonzero(enclosed & background)),
        border=max(int(np.count_nonzero(face)) for face in faces),
        points=sample(mask, label.spacing_mm),
    )
