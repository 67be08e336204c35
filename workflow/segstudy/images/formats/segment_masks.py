"""Segments that may overlap, combined into one label map."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SegmentMask:
    """Hold a segment: its name, the value that it gets, and its voxels (i, j, k)."""

    name: str
    value: int
    mask: np.ndarray


def combine(
    segments: Sequence[SegmentMask],
    shape: tuple[int, int, int],
    wanted: Collection[int] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Paint segments into a label map, the largest first: a tumour stays visible in its organ.

    Parameters
    ----------
    segments
        Of different values.
    shape
        Of the label map.
    wanted
        Values of the segments that the study asks for: the others are painted beneath them and take no voxel from
        them. None: all.

    Returns
    -------
    label : numpy.ndarray
        (i, j, k), 0 where no segment is.
    notes : tuple of str
        For each two wanted segments that overlap, the voxels that they share.
    """
    top = max((one.value for one in segments), default=0)
    label = np.zeros(shape, np.uint8 if top < 256 else np.uint16)
    names = {one.value: one.name for one in segments if wanted is None or one.value in wanted}
    notes = []
    for one in sorted(segments, key=lambda one: (one.value in names, -np.count_nonzero(one.mask))):
        under = np.bincount(label[one.mask], minlength=1)
        notes += [
            f"{under[value]} voxels are of {names[value]!r} and of {one.name!r}: they count as the latter, "
            "the smaller segment"
            for value in np.flatnonzero(under).tolist()
            if value in names and one.value in names
        ]
        label[one.mask] = one.value
    return label, tuple(notes)
