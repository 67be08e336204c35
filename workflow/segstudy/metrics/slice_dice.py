"""Dice slice by slice, as studies of 2D networks report it."""

from collections.abc import Mapping, Sequence

import numpy as np
from nibabel import orientations

from segstudy.planes import NORMAL_AXIS

NAMES = ("slice_dice", "slices_undefined")


def stored_axis(affine: np.ndarray, plane: str) -> int:
    """Return the axis of the stored array (0, 1, 2) along which slices of a plane follow each other."""
    turn = orientations.io_orientation(affine)
    return int(np.flatnonzero(turn[:, 0] == NORMAL_AXIS[plane])[0])


def dice_by_slice(
    reference: np.ndarray,
    prediction: np.ndarray,
    structures: Mapping[str, Sequence[int]],
    axis: int,
) -> dict[str, dict[str, float]]:
    """Return for each structure the mean Dice of the slices in which it is defined, and the number of other slices.

    Dice of a slice that is empty in both maps is undefined: such slices are left out of the mean
    and counted. A slice that only one map fills counts with Dice 0. Without any slice to take a
    mean of, it is NaN.

    Parameters
    ----------
    reference, prediction
        Label maps (i, j, k).
    structures
        Name -> label values, merged where several.
    axis
        Of the array, across the slices.
    """
    others = tuple(in_prediction for in_prediction in range(3) if in_prediction != axis)
    top = max(int(reference.max(initial=0)), int(prediction.max(initial=0)))
    measures = {}
    for name, values in structures.items():
        inside = np.zeros(top + 1, bool)
        inside[[value for value in values if value <= top]] = True
        in_reference, in_prediction = inside[reference], inside[prediction]
        size = np.count_nonzero(in_reference, axis=others) + np.count_nonzero(
            in_prediction, axis=others
        )
        common = np.count_nonzero(in_reference & in_prediction, axis=others)
        defined = size > 0
        dice = float(np.mean(2 * common[defined] / size[defined])) if defined.any() else np.nan
        measures[name] = dict(zip(NAMES, (dice, float(np.sum(~defined))), strict=True))
    return measures
