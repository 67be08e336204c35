"""Segments that may overlap, combined into one label map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SegmentMask:
    """Hold a segment: its name, the value that it gets, and its voxels (i, j, k)."""

    name: str
    value: int
    mask: np.ndarray


def combine(
    segments: Sequence[SegmentMask], shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Paint segments into a label map, the largest first: a tumour stays visible in its organ.

    Parameters
    ----------
    segments
        Of different values.
    shape
        Of the label map.

    Returns
    -------
    label : numpy.ndarray
        (i, j, k), 0 where no segment is.
    notes : tuple of str
        For each two segments that overlap, the voxels that they share.
    """
    top = max((one.value for one in segments), default=0)
    label = np.zeros(shape, np.uint8 if top < 256 else np.uint16)
    names = {one.value: one.name for one in segments}
    notes = []
    for one in sorted(segments, key=lambda one: -np.count_nonzero(one.mask)):
        under = np.bincount(label[one.mask], minlength=1)
        notes += [
            f"{under[value]} voxels are of {names[value]!r} and of {one.name!r}: they count as the latter, "
            "the smaller segment"
            for value in np.flatnonzero(under).tolist()
            if value
        ]
        label[one.mask] = one.value
    return label, tuple(notes)
