"""What a file holds, as its format's reader returns it, and the checks that readers share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.errors import InputError
from segstudy.images.data_files import voxel_files
from segstudy.images.grids import Grid, unusable
from segstudy.images.headers import one_line
from segstudy.images.names import times


@dataclass(frozen=True)
class Stored:
    """Hold the voxels of a file and their place.

    Parameters
    ----------
    array
        (i, j, k) or (i, j, k, channel), in the stored axis order.
    affine
        4x4, from voxel indices to RAS mm.
    notes
        What a person should know of how the file was read.
    is_part
        Whether the file itself says that it covers a part of its image.
    has_spacing
        Whether the file tells the size of a voxel.
    slice_numbers
        Of the slices of a stack of pictures, by the names of the files; empty for others.
    """

    array: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()
    is_part: bool = False
    has_spacing: bool = True
    slice_numbers: tuple[int, ...] = ()

    @property
    def told(self) -> dict[str, Any]:
        """Return what the file tells beside voxels and place."""
        names = ("notes", "is_part", "has_spacing", "slice_numbers")
        return {name: getattr(self, name) for name in names}

    @property
    def grid(self) -> Grid:
        """Return the grid of the first three axes."""
        return Grid(tuple(self.array.shape[:3]), self.affine)


def check_shape(path: Path | str, shape: Sequence[int]) -> None:
    """Refuse an image without a voxel."""
    if not len(shape) or min(shape) < 1:
        raise InputError(f"{path}: shape {times(shape)}; expected at least one voxel")


def check_grid(path: Path | str, shape: Sequence[int], affine: np.ndarray) -> None:
    """Refuse a header from which no voxel's position can be told, or no distance."""
    problem = unusable((*shape, 1, 1, 1)[:3], affine)
    if problem:
        raise InputError(f"{path}: {problem}")


def check_type(path: Path | str, dtype: np.dtype) -> None:
    """Refuse voxels that are no real numbers."""
    if dtype.kind not in "iufb":
        kind = "complex" if dtype.kind == "c" else "RGB" if dtype.fields else str(dtype)
        raise InputError(f"{path}: {kind} voxels; expected one real number a voxel")


def check_voxel_files(path: Path | str) -> None:
    """Refuse a header whose voxels lie in another file that is not there, or that is not beside it."""
    for file in voxel_files(path):
        if not file.is_file():
            raise InputError(
                f"{path}: its voxels are expected in {file.name} beside it: no such file"
            )


def too_large(
    what: Path | str, shape: Sequence[int] = (), error: BaseException | None = None
) -> str:
    """Return the message of a lack of memory: what was read, its shape, the remedy."""
    size = f" for {times(shape)} voxels" if len(shape) else ""
    more = f" ({one_line(error)})" if error is not None and str(error) else ""
    return (
        f"{what}: not enough memory{size}{more}; see whether shape and voxel size are right, or use a "
        "machine with more memory, or fewer threads"
    )
