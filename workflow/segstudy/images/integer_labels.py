"""Labels are whole numbers; files keep them in floats, scaled, or interpolated, and so only nearly."""

from pathlib import Path

import numpy as np

from segstudy.errors import InputError

NEAR = 1e-3
"""How far from a whole number a label may lie and be rounded; what rounding and scaling leave is far less."""
SHOWN = 3


def to_integers(
    array: np.ndarray, path: Path | str, scale: float = 1.0
) -> tuple[np.ndarray, float]:
    """Round labels that lie within 1e-3 of whole numbers.

    Parameters
    ----------
    array
        Of any shape and type, finite.
    path
        The file, for the error.
    scale
        The factor by which the header multiplies the stored numbers, for the likely cause.

    Returns
    -------
    array : numpy.ndarray
        Whole numbers.
    deviation : float
        The largest distance of a label from its whole number.

    Raises
    ------
    InputError
        For numbers further off, with some of them and the likely cause.
    """
    if array.dtype.kind in "iu":
        return array, 0.0
    whole = np.rint(array)
    distance = np.abs(array - whole)
    furthest = float(distance.max(initial=0))
    if furthest <= NEAR:
        return whole, furthest
    odd = array[distance > NEAR]
    values, counts = np.unique(odd, return_counts=True)
    shown = ", ".join(f"{value:.9g}" for value in values[np.argsort(-counts)][:SHOWN])
    more = f" and {len(values) - SHOWN} other values" if len(values) > SHOWN else ""
    raise InputError(
        f"{path}: value {shown}{more} in {len(odd)} of {array.size} voxels; expected whole numbers in a "
        f"label map (up to {NEAR:g} off is rounded). {_cause(scale)}"
    )


def _cause(scale: float) -> str:
    if scale != 1:
        return (
            f"Likely cause: the header multiplies the stored numbers by {scale:.6g} (scl_slope), as a label "
            "saved from floats as integers has it; save it as integers, without a scale"
        )
    return (
        "Likely cause: resampled with interpolation; resample labels by nearest neighbour, and save "
        "them as integers"
    )
