"""Distances between the surfaces of two whole masks, for tests of the metrics."""

from collections.abc import Sequence

import numpy as np

from segstudy.boxes import bounding_box
from segstudy.metrics.surface import (
    Definition,
    Distances,
    flat_axes,
    framed,
    framed_distances,
    surroundings,
)


def surface_distances(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    definition: Definition = "mesh",
    ignored: np.ndarray | None = None,
) -> Distances | float:
    """Measure the distances between the surfaces of two masks, which must not be empty.

    Parameters
    ----------
    reference, prediction
        Bool or integer (i, j, k), not 0 in the mask, on the same grid.
    spacing_mm
        Voxel size along i, j, k.
    definition
        Of the surface, see the module.
    ignored
        Bool (i, j, k), voxels that belong to neither mask.

    Returns
    -------
    Distances | float
        A number where voxels are ignored and no surface is left, as `framed_distances` does.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"shape {reference.shape} against {prediction.shape}")
    masks = [
        mask != 0 if ignored is None else (mask != 0) & ~ignored for mask in (reference, prediction)
    ]
    box = bounding_box(masks[0] | masks[1])
    return framed_distances(
        *(framed(mask, (True,), box) for mask in masks),
        spacing_mm,
        flat_axes(reference.shape),
        definition,
        None if ignored is None else surroundings(ignored, box),
    )
