"""What is wrong with the values of an image, whatever is to be done with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

REFUSED, WARNING = "refused", "warning"
"""Verdicts: a file that cannot be used, and one that can, but look."""

FEW_VALUES = 40
"""An image has more different values than this; a label map of a study seldom has."""
LOOKED_AT = 100_000
"""Voxels that are looked at before all are."""


def image_problems(
    array: np.ndarray, paths: Sequence[Path], channels: Sequence[str], ct: bool
) -> list[tuple[Path, str, str]]:
    """What is wrong with an image (channel, i, j, k): file, problem, verdict.

    paths: a file for all channels, or one a channel. ct: whether it should be in Hounsfield units.
    """
    found = []
    for number, (name, values) in enumerate(zip(channels, array, strict=True)):
        path = paths[number] if len(paths) > 1 else paths[0]
        which = f"channel {name}: " if len(channels) > 1 else ""
        found += [(path, which + text, verdict) for text, verdict in _of_channel(values, ct)]
    return found


def _of_channel(values: np.ndarray, ct: bool) -> list[tuple[str, str]]:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        return [(f"{bad} of {values.size} voxels are not finite (NaN or infinite)", REFUSED)]
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [(f"constant: every voxel is {low:g}", REFUSED)]
    found = []
    if ct and low >= 0:
        found.append(
            f"intensities from {low:g} to {high:g}, none below 0; a CT in Hounsfield units has air "
            "near -1000"
        )
    count = label_values(values)
    if count:
        found.append(
            f"only {count} different values, all whole numbers from 0 on: a label map in the place of "
            "an image?"
        )
    return [(text, WARNING) for text in found]


def label_values(values: np.ndarray) -> int:
    """How many values an array holds that looks like a label map; 0 where it does not.

    It does where at most `FEW_VALUES` whole numbers, none below 0, stand for 25 or more voxels
    each in the mean.
    """
    flat = values.ravel()
    few = np.unique(flat[:: max(1, flat.size // LOOKED_AT)])
    if len(few) > FEW_VALUES or few[0] < 0 or not np.array_equal(few, np.rint(few)):
        return 0
    if flat.min() < 0 or flat.max() > 65535 or not np.array_equal(flat, np.rint(flat)):
        return 0
    count = int(np.count_nonzero(np.bincount(flat.astype(np.uint16))))
    return count if count <= FEW_VALUES and 25 * count <= flat.size else 0
