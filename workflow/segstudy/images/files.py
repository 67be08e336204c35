"""Reading and writing images: arrays with axes (i, j, k) as stored, and the affine that places them.

What a format is, and how its files are read, stands in `formats`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from segstudy.errors import InputError
from segstudy.files import writing
from segstudy.images.formats import format_of
from segstudy.images.formats.stored import Stored, too_large
from segstudy.images.grids import Grid, compare_grids
from segstudy.images.headers import copy_placement, open_nifti
from segstudy.images.integer_labels import to_integers
from segstudy.images.names import PAIR, ending, is_nifti, times
from segstudy.images.unreadable import why_unreadable

GZIP_LEVEL = 2
"""Of ISA-L's 0 to 3: images are as small as zlib's, label maps up to twice as large, in a twentieth of the time."""


@dataclass(frozen=True)
class Image:
    """Hold an array and the affine that places it.

    Parameters
    ----------
    array
        (i, j, k) of a label map, (channel, i, j, k) of an image.
    affine
        4x4, from voxel indices to RAS mm.
    integer_deviation
        Largest distance of a label map's stored numbers from the whole numbers they are rounded to.
    notes
        What a person should know of how it was read.
    is_part
        Whether the file itself says that it covers a part of its image.
    has_spacing
        Whether the file tells the size of a voxel; without one, a voxel is 1 mm.
    slice_numbers
        Of the slices of a stack of pictures, by the names of the files; empty for others.
    """

    array: np.ndarray
    affine: np.ndarray
    integer_deviation: float = 0.0
    notes: tuple[str, ...] = ()
    is_part: bool = False
    has_spacing: bool = True
    slice_numbers: tuple[int, ...] = ()

    def with_spacing(self, spacing_mm: Sequence[float]) -> "Image":
        """Return the image with voxels of this size along i, j, k, where its file tells none."""
        if self.has_spacing:
            return self
        return replace(self, affine=self.affine @ np.diag([*spacing_mm, 1.0]), has_spacing=True)

    @property
    def grid(self) -> Grid:
        """Return the grid of the last three axes."""
        return Grid(tuple(self.array.shape[-3:]), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the voxel size along i, j, k."""
        return self.grid.spacing_mm


def read_image(paths: Path | str | Sequence[Path | str], channels: int = 1) -> Image:
    """Read an image as float32 with axes (channel, i, j, k).

    Parameters
    ----------
    paths
        One file for all channels (its fourth axis is the channel), or one file a channel.
    channels
        The number of channels that the image must have.

    Raises
    ------
    InputError
        For a file that is no image, another number of channels, and channels on different grids.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(paths) == 1:
        stored = _read(paths[0])
        array = stored.array
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim != 4 or array.shape[3] != channels:
            raise InputError(
                f"{paths[0]}: shape {_shape(array)}; expected {channels} "
                f"channel{'s' if channels > 1 else ''} (i, j, k{', channel' if channels > 1 else ''})"
            )
        array = _real(np.moveaxis(array, 3, 0))
        return Image(array, stored.affine, **stored.told)
    if len(paths) != channels:
        raise InputError(f"{paths[0]} and others: {len(paths)} files, expected {channels} channels")
    images = [read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        difference = compare_grids(images[0].grid, image.grid)
        if difference:
            raise InputError(f"{path}: other grid than {paths[0]}: {difference}")
        if text := other_numbers(images[0].slice_numbers, image.slice_numbers):
            raise InputError(f"{path}: {text} of {paths[0]}")
    notes = tuple(dict.fromkeys(note for image in images for note in image.notes))
    array = np.concatenate([image.array for image in images])
    has_spacing = all(image.has_spacing for image in images)
    return replace(images[0], array=array, notes=notes, has_spacing=has_spacing)


LIKE_IMAGE = 100
"""Values that lie further apart than this, some of them below 0, are those of an image, and no label map's."""


def read_label(
    path: Path | str,
    grid: Grid | None = None,
    wanted: Callable[[Path], Collection[int] | None] = lambda path: None,
) -> Image:
    """Read a label map as integers with axes (i, j, k): uint8, or uint16 for values above 255.

    Parameters
    ----------
    path
        The file.
    grid
        Of the image; contours (RTSTRUCT), which have none of their own, are filled in there.
    wanted
        Given the file, returns the values of its segments that are asked for, which others of its segments take no
        voxel from; None: all.

    Raises
    ------
    InputError
        For a file that is no image, is not 3D, or holds values outside 0 .. 65535 or further than
        1e-3 from a whole number.
    """
    stored = _read(path, grid, wanted)
    array = stored.array
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InputError(f"{path}: shape {_shape(array)}; expected a 3D label map")
    off = 0.0
    if array.dtype.kind not in "iu":
        array = _real(array)
        if not np.isfinite(array).all():
            raise InputError(f"{path}: a label map with non-finite values; expected whole numbers")
        array, off = to_integers(array, path, _scale(path))
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > 65535:
        image = "; it looks like an image: name the label map" if high - low > LIKE_IMAGE else ""
        raise InputError(f"{path}: label values from {low} to {high}; expected 0 to 65535{image}")
    dtype = np.uint8 if high < 256 else np.uint16
    array = np.ascontiguousarray(array.astype(dtype))
    return Image(array, stored.affine, off, **stored.told)


def _scale(path: Path | str) -> float:
    """Read the factor that a NIfTI header applies to the stored numbers; 1 without one."""
    of_nifti = is_nifti(path) or ending(path) == PAIR
    return float(open_nifti(path).dataobj.slope) if of_nifti else 1.0


def read_grid(path: Path | str) -> Grid:
    """Read the grid of an image file, from its header where the format allows."""
    file = _readable(path)
    return format_of(file).read_grid(file)


def write_label(
    path: Path | str, array: np.ndarray, affine: np.ndarray, like: Path | str | None = None
) -> None:
    """Write a label map as compressed NIfTI with the smallest unsigned type.

    The same values give the same bytes: the gzip header carries no time and no name.

    Parameters
    ----------
    path
        Ends in `.nii.gz`.
    array
        (i, j, k), whole numbers from 0 to 65535.
    affine
        4x4, to RAS mm.
    like
        The image on whose grid the label map lies; see `write_nifti`.

    Raises
    ------
    ValueError
        For values outside 0 .. 65535.
    """
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"label values from {low} to {high}; expected 0 to 65535")
    dtype = np.uint8 if high < 256 else np.uint16
    write_nifti(path, array.astype(dtype), affine, like)


def write_nifti(
    path: Path | str, array: np.ndarray, affine: np.ndarray, like: Path | str | None = None
) -> None:
    """Write an array as NIfTI, compressed where the name ends in `.gz`.

    Parameters
    ----------
    path
        Ends in `.nii` or `.nii.gz`.
    array
        (i, j, k) or (i, j, k, channel).
    affine
        4x4, to RAS mm; becomes qform and sform, with code 1.
    like
        The image on whose grid the array lies. Where this is NIfTI, its own qform, sform, codes,
        voxel sizes and unit are kept, so that every program sees both in one place.
    """
    image = nibabel.Nifti1Image(array, None)
    if like is None or not copy_placement(like, image.header):
        image = nibabel.Nifti1Image(array, affine)
        image.header.set_xyzt_units("mm")
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
    content = image.to_bytes()
    if str(path).endswith(".gz"):
        content = igzip.compress(content, compresslevel=GZIP_LEVEL, mtime=0)
    with writing(path) as temporary:
        temporary.write_bytes(content)


def has_grid(path: Path | str) -> bool:
    """Tell whether a file has voxels, as all have but contours (RTSTRUCT)."""
    return format_of(_readable(path)).has_grid


def _read(
    path: Path | str,
    grid: Grid | None = None,
    wanted: Callable[[Path], Collection[int] | None] = lambda path: None,
) -> Stored:
    """Read a file by its format; InputError where it is no image."""
    form = format_of(file := _readable(path))
    given = (file,) if form.has_grid else (file, grid)
    return form.read(*given, wanted=wanted(file)) if form.has_segments else form.read(*given)


def other_numbers(expected: Sequence[int], found: Sequence[int]) -> str:
    """Say how the numbers of two stacks of pictures differ; empty where they agree, or one has none."""
    if not expected or not found or tuple(expected) == tuple(found):
        return ""
    return (
        f"pictures numbered {found[0]} to {found[-1]}, {len(found)} of them; expected the numbers {expected[0]} to "
        f"{expected[-1]}, {len(expected)} of them, as in the names"
    )


def _readable(path: Path | str) -> Path:
    reason = why_unreadable(path)
    if reason:
        raise InputError(f"{path}: {reason}")
    return Path(path)


def _real(array: np.ndarray) -> np.ndarray:
    """Return an array as float32 in the order of its axes, copied at most once: images are large."""
    with np.errstate(over="ignore"):  # beyond float32: infinite, which the audit refuses
        return np.asarray(array, np.float32, order="C")


def _shape(array: np.ndarray) -> str:
    return times(array.shape)


@contextmanager
def within_memory(case: str, path: Path | str) -> Iterator[None]:
    """Turn a lack of memory into an InputError of one line: file, case, shape and remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise  # torch says it by a RuntimeError
        try:
            shape = read_grid(path).shape
        except (InputError, MemoryError):
            shape = ()
        raise InputError(too_large(f"{path}: case {case}", shape, error)) from None
