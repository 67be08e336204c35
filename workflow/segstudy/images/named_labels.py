"""Label maps whose files may name their segments, in the values that somebody gives these names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segstudy.images.files import Image, read_label
from segstudy.images.grids import Grid
from segstudy.images.segments import (
    apply_value_map,
    table_contradictions,
    value_map,
    wanted_segments,
)


def read_named(
    path: Path,
    named: Mapping[str, Sequence[int]],
    others: bool = False,
    further: Collection[int] = (),
    grid: Grid | None = None,
) -> Image:
    """Read a label map; where the file names its segments, they have the values of these names. Doubts are in the notes.

    Parameters
    ----------
    path
        The file.
    named
        Name -> its values; empty: values are taken as they are.
    others
        Whether segments of other names are background.
    further
        Values beside those of names that keep their voxels where segments overlap.
    grid
        For contours, which have none of their own.

    Raises
    ------
    InputError
        As `read_label` and `value_map` do.
    """
    if not named:
        return read_label(path, grid)
    values = {value for of_name in named.values() for value in of_name} | set(further)

    def wanted(file: Path) -> set[int] | None:
        return wanted_segments(file, value_map(file, named, rest_is_background=others)[0], values)

    label = read_label(path, grid, wanted)  # first: it tells why a file is not readable
    moved, doubts = value_map(path, named, rest_is_background=others)
    told = (*label.notes, *doubts, *table_contradictions(path, named))
    return replace(label, array=apply_value_map(label.array, moved, path), notes=told)
