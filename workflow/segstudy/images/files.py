"""Reading and writing images: arrays with axes (i, j, k) as stored, and the affine that places them.

NIfTI goes through nibabel, which keeps the stored axis order; everything else that SimpleITK
reads (NRRD, MetaImage, ...) is brought to the same form.
"""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from segstudy.errors import InputError
from segstudy.files import writing
from segstudy.images.names import NIFTI, OTHER, is_image, times
from segstudy.log import log

GZIP_RATIO = 1032
"""Bytes that one byte of a gzip stream can stand for at most (deflate's limit)."""
AFTER_VOXELS = 1_000_000
"""Bytes after the voxels that are let pass."""


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: shape (i, j, k) and the 4x4 affine from voxel indices to RAS millimetres."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k in mm."""
        return tuple(float(size) for size in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def orientation(self) -> str:
        """Where the axes i, j, k point to, e.g. `LPS`."""
        return "".join(nibabel.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Image:
    """An array on a grid: (i, j, k) for a label, (channel, i, j, k) for an image."""

    array: np.ndarray
    affine: np.ndarray

    @property
    def grid(self) -> Grid:
        return Grid(tuple(self.array.shape[-3:]), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return self.grid.spacing_mm


def read_image(paths: Path | str | Sequence[Path | str], channels: int = 1) -> Image:
    """Read an image as float32 with axes (channel, i, j, k).

    paths: one file for all channels (its fourth axis is the channel), or one file a channel.
    Raises InputError for a file that is no image, has other channels than asked, or whose
    channels lie on different grids.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(paths) == 1:
        array, affine = _read(paths[0])
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim != 4 or array.shape[3] != channels:
            raise InputError(
                f"{paths[0]}: shape {_shape(array)}; expected {channels} "
                f"channel{'s' if channels > 1 else ''} (i, j, k{', channel' if channels > 1 else ''})"
            )
        return Image(np.ascontiguousarray(np.moveaxis(_real(array), 3, 0)), affine)
    if len(paths) != channels:
        raise InputError(f"{paths[0]} and others: {len(paths)} files, expected {channels} channels")
    images = [read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        difference = compare_grids(images[0].grid, image.grid)
        if difference:
            raise InputError(f"{path}: other grid than {paths[0]}: {difference}")
    return Image(np.concatenate([image.array for image in images]), images[0].affine)


def read_label(path: Path | str) -> Image:
    """Read a label map as integers with axes (i, j, k).

    Raises InputError for a file that is no image, is not 3D, or holds values that are no whole numbers.
    """
    array, affine = _read(path)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InputError(f"{path}: shape {_shape(array)}; expected a 3D label map")
    if array.dtype.kind not in "iu":
        array = _real(array)
        if not np.isfinite(array).all():
            raise InputError(f"{path}: a label map with non-finite values; expected whole numbers")
        whole = np.rint(array)
        if not np.array_equal(whole, array):
            odd = float(array[whole != array].flat[0])
            raise InputError(f"{path}: value {odd:g}; expected whole numbers in a label map")
        array = whole
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > 65535:
        raise InputError(f"{path}: label values from {low} to {high}; expected 0 to 65535")
    return Image(np.ascontiguousarray(array.astype(np.uint8 if high < 256 else np.uint16)), affine)


def read_grid(path: Path | str) -> Grid:
    """The grid of an image file, from its header where the format allows."""
    if not str(path).endswith(NIFTI):
        array, affine = _read(path)
        return Grid(tuple(array.shape[:3]), affine)
    image = _open(path)
    return Grid(tuple((*image.shape, 1, 1, 1)[:3]), np.asarray(image.affine, float))


def write_label(path: Path | str, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a label map (i, j, k) as compressed NIfTI with the smallest unsigned type.

    The same values give the same bytes: the gzip header carries no time and no name.
    """
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"label values from {low} to {high}; expected 0 to 65535")
    dtype = np.uint8 if high < 256 else np.uint16
    write_nifti(path, array.astype(dtype), affine)


def write_nifti(path: Path | str, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array (i, j, k[, channel]) as NIfTI; `.nii.gz` is compressed."""
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    content = image.to_bytes()
    if str(path).endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with writing(path) as temporary:
        temporary.write_bytes(content)


def compare_grids(one: Grid, other: Grid, tolerance_mm: float = 1e-2) -> str:
    """What differs between two grids, in words; empty if nothing does.

    Compares shape, spacing, origin and direction, in this order; positions of the corner voxels
    may differ by `tolerance_mm`.
    """
    if one.shape != other.shape:
        return f"shape {times(one.shape)} against {times(other.shape)} voxels"
    if not np.allclose(one.spacing_mm, other.spacing_mm, atol=1e-4, rtol=1e-3):
        return f"spacing {times(one.spacing_mm)} against {times(other.spacing_mm)} mm"
    if one.orientation != other.orientation:
        return f"orientation {one.orientation} against {other.orientation}"
    if not np.allclose(one.affine[:3, 3], other.affine[:3, 3], atol=max(tolerance_mm, 1e-2)):
        origins = [tuple(np.round(grid.affine[:3, 3], 3).tolist()) for grid in (one, other)]
        return f"origin {origins[0]} against {origins[1]} mm"
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in one.shape])).reshape(3, -1)
    apart = np.abs((one.affine - other.affine)[:3, :3] @ corners).max()
    if apart > max(tolerance_mm, 1e-2):
        return f"direction: corners lie up to {apart:.3g} mm apart"
    return ""


# What nibabel raises for bytes that are no NIfTI, or that end early.
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    TypeError,
    ValueError,
    zlib.error,
)


def _open(path: Path | str) -> nibabel.Nifti1Image:
    """The header of a NIfTI file, checked; voxels are read when they are asked for."""
    try:
        image = nibabel.load(path)
        shape, affine = image.shape, np.asarray(image.affine, float)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except _UNREADABLE as error:
        raise InputError(f"{path}: not readable as an image ({_line(error)})") from None
    _check_grid(path, shape, affine)
    return image


def _check_grid(path: Path | str, shape: Sequence[int], affine: np.ndarray) -> None:
    """Refuse a header from which no voxel's place can be told."""
    if not len(shape) or min(shape) < 1:
        raise InputError(f"{path}: shape {times(shape)}; expected at least one voxel")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        # Of the size of one voxel: microscopy has determinants of 1e-10 that are sound.
        volume = abs(np.linalg.det(affine[:3, :3])) / np.prod(sizes) if sizes.all() else 0.0
    if not np.isfinite(affine).all() or not volume > 1e-3:
        raise InputError(
            f"{path}: the affine in the header is not finite or cannot be inverted; expected axes that "
            "span three dimensions. Mend the header (qform and sform) or leave the case out"
        )


def _read(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Array (i, j, k[, channel]) in the stored axis order, and affine to RAS mm."""
    if not is_image(path):
        raise InputError(f"{path}: expected an image file ({', '.join(NIFTI + OTHER)})")
    if not str(path).endswith(NIFTI):
        return _read_other(path)
    image = _open(path)
    _check_type(image.get_data_dtype(), path)
    size = _promised(path, image)
    try:
        if str(path).endswith(".gz"):
            image = type(image).from_bytes(_decompressed(path, size + AFTER_VOXELS))
        slope, intercept = image.header.get_slope_inter()
        if slope in (None, 1) and intercept in (None, 0):
            array = np.asarray(image.dataobj)
        else:
            array = image.get_fdata(dtype=np.float32, caching="unchanged")
    except _UNREADABLE as error:
        raise InputError(f"{path}: the file ends early or is damaged ({_line(error)})") from None
    while array.ndim > 4 and array.shape[3] == 1:
        array = array[:, :, :, 0]  # nnU-Net and ITK write channels in the fifth axis
    if array.ndim < 3:
        raise InputError(f"{path}: shape {_shape(array)}; expected a 3D image")
    return array, np.asarray(image.affine, float)


def _promised(path: Path | str, image: nibabel.Nifti1Image) -> int:
    """Bytes that a header promises, header included, before any voxel is read.

    Refuses a promise that no file of this size can keep: memory for it would be asked for.
    """
    voxels = math.prod(int(length) for length in image.shape)
    size = int(image.dataobj.offset) + voxels * image.get_data_dtype().itemsize
    held = Path(path).stat().st_size
    if size > held * (GZIP_RATIO if str(path).endswith(".gz") else 1):
        raise InputError(
            f"{path}: the file ends early or is damaged ({times(image.shape)} voxels are {size:,} "
            f"bytes, the file has {held:,})"
        )
    return size


def _decompressed(path: Path | str, most: int) -> bytes:
    """The content of a gzip file, checked to its end; refused where it is more than `most` bytes.

    nibabel stops at the last voxel and so never meets the checksum that follows it: a damaged
    file would pass.
    """
    rest = Path(path).read_bytes()
    parts = []
    while rest:
        member = zlib.decompressobj(wbits=31)
        if parts and not rest.startswith(b"\x1f\x8b"):
            if rest.strip(b"\0"):
                log.warning("%s: %d bytes after its end; left out", path, len(rest))
            break
        parts.append(member.decompress(rest, most + 1))
        most -= len(parts[-1])
        if most < 0:
            raise OverflowError("it unpacks to more bytes than the header promises")
        if not member.eof:
            raise EOFError("the compressed stream ends early")
        rest = member.unused_data
    return b"".join(parts) if len(parts) != 1 else parts[0]


def _read_other(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    import SimpleITK

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: not readable as an image ({_line(error)})") from None
    if image.GetDimension() != 3:
        raise InputError(f"{path}: {image.GetDimension()} axes; expected a 3D image")
    array = SimpleITK.GetArrayFromImage(image)
    array = np.moveaxis(array, [0, 1, 2], [2, 1, 0])
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's axes point left, back, head
    _check_type(array.dtype, path)
    _check_grid(path, array.shape, affine)
    return array, affine


def _check_type(dtype: np.dtype, path: Path | str) -> None:
    if dtype.kind not in "iufb":
        kind = "complex" if dtype.kind == "c" else "RGB" if dtype.fields else str(dtype)
        raise InputError(f"{path}: {kind} voxels; expected one real number a voxel")


def _real(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond float32: infinite, which the audit refuses
        return array.astype(np.float32)


def _shape(array: np.ndarray) -> str:
    return times(array.shape)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
