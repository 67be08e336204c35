"""Checks of an image's values, the same in the audit and before a prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

REFUSED, WARNING = "refused", "warning"
"""Verdicts: a file that cannot be used, and one that can, but look."""

FEW_VALUES, SOME_VALUES, EVEN = 40, 256, 0.6
"""An image has more different values than `FEW_VALUES`; a label map of whole bodies or brains may, too,
up to `SOME_VALUES`, but most voxels of its structures have the value of the next one: 0.82 or more of
them in real label maps of 42 to 62 values, 0.34 or less in real images of 8 bits."""
LOOKED_AT = 100_000
"""Voxels that are looked at before all are."""


def image_problems(
    array: np.ndarray, paths: Sequence[Path], channels: Sequence[str], ct: bool
) -> list[tuple[Path, str, str]]:
    """List the problems of an image's values.

    Parameters
    ----------
    array
        (channel, i, j, k).
    paths
        One file for all channels, or one a channel.
    channels
        Names of the channels.
    ct
        Whether the image should be in Hounsfield units.

    Returns
    -------
    list
        (file, problem, verdict), the verdict `REFUSED` or `WARNING`.
    """
    problems = []
    for number, (name, values) in enumerate(zip(channels, array, strict=True)):
        path = paths[number] if len(paths) > 1 else paths[0]
        which = f"channel {name}: " if len(channels) > 1 else ""
        problems += [(path, which + text, verdict) for text, verdict in _of_channel(values, ct)]
    return problems


def _of_channel(values: np.ndarray, ct: bool) -> list[tuple[str, str]]:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        return [(f"{bad} of {values.size} voxels are not finite (NaN or infinite)", REFUSED)]
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [(f"constant: every voxel is {low:g}", REFUSED)]
    doubts = []
    if ct and low >= 0:
        doubts.append(
            f"intensities from {low:g} to {high:g}, none below 0; a CT in Hounsfield units has air "
            "near -1000"
        )
    count = count_label_values(values)
    if count:
        doubts.append(
            f"only {count} different values, all whole numbers from 0 on: a label map in the place of "
            "an image?"
        )
    return [(text, WARNING) for text in doubts]


def count_label_values(values: np.ndarray) -> int:
    """Count the values of an array (i, j, k) that looks like a label map; 0 for any other array.

    An array looks like one where a few whole numbers, none below 0, have 25 or more voxels each on
    average; with up to 256 values, most voxels above 0 must equal their neighbour as well.
    """
    flat = values.ravel()
    some = np.unique(flat[:: max(1, flat.size // LOOKED_AT)])
    if len(some) > SOME_VALUES or some[0] < 0 or not np.array_equal(some, np.rint(some)):
        return 0
    if flat.min() < 0 or flat.max() > 65535 or not np.array_equal(flat, np.rint(flat)):
        return 0
    count = int(np.count_nonzero(np.bincount(flat.astype(np.uint16))))
    if count > SOME_VALUES or 25 * count > flat.size:
        return 0
    return count if count <= FEW_VALUES or _evenness(values) > EVEN else 0


def _evenness(values: np.ndarray) -> float:
    """Compute the share of voxels above 0 that equal their neighbour along the first axis."""
    one, other = values[:-1], values[1:]
    inside = (one > 0) | (other > 0)
    return float(np.mean(one[inside] == other[inside])) if inside.any() else 0.0
