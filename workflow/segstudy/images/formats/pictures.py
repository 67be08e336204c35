"""Pictures (PNG, TIFF): one is an image of one slice; a folder of them, or a TIFF of several pages, a stack of slices.

A picture's column runs along the first axis and its row along the second, towards left and back as a
radiologist sees it. Files do not say how large a pixel is: what some hold is the resolution of a print.
"""

from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.images.formats.stored import Stored, check_type
from segstudy.images.grids import Grid
from segstudy.images.names import by_numbers, is_picture, slice_numbers, times

UNIT_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Of voxels whose size is not known."""


def read(path: Path) -> Stored:
    """Read a picture or a stack as (column, row, slice[, colour]); its voxels have no size.

    A folder's pictures are refused where the numbers in their names skip one: a slice is missing.
    """
    files = pictures_in(path) if path.is_dir() else [path]
    numbers = slice_numbers(files, str(path)) if path.is_dir() else []
    files = [file for _, file in sorted(zip(numbers, files, strict=True))] if numbers else files
    slices = [(file, page) for file in files for page in _pages(file)]
    shape = slices[0][1].shape
    for file, page in slices:
        check_type(file, page.dtype)
        if page.shape != shape:
            raise InputError(
                f"{path}: {file.name} has {times(page.shape)} pixels, {files[0].name} {times(shape)}; expected "
                "slices of one size"
            )
    array = np.stack([page.swapaxes(0, 1) for _, page in slices], axis=2)
    is_counted = array.shape[2] == len(numbers)
    counted = tuple(sorted(numbers)) if is_counted else ()
    return Stored(array, UNIT_AFFINE, has_spacing=False, slice_numbers=counted)


def read_grid(path: Path) -> Grid:
    """Read the grid of a picture or a stack, with voxels of 1 mm for want of a size."""
    return read(path).grid


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures right in a folder by the numbers in their names: `2.png` before `10.png`."""
    files = [one for one in folder.iterdir() if is_picture(one) and not one.name.startswith(".")]
    return sorted(files, key=by_numbers)


def _pages(file: Path) -> list[np.ndarray]:
    """Read the pages of a picture (row, column[, colour]); a palette's indices are the values."""
    from PIL import Image, ImageSequence

    try:
        with Image.open(file, formats=["PNG", "TIFF"]) as picture:
            pages = [np.array(page) for page in ImageSequence.Iterator(picture)]
            has_alpha = "A" in picture.mode
    except Exception:  # of many kinds, by what is damaged
        raise InputError(f"{file}: not readable as a PNG or TIFF picture") from None
    if has_alpha:
        raise InputError(f"{file}: a picture with transparency; save it without an alpha channel")
    return pages
