"""Reading and writing images: arrays with axes (i, j, k) as stored, and the affine that places them.

NIfTI goes through nibabel, which keeps the stored axis order; everything else that SimpleITK
reads (NRRD, MetaImage, ...) is brought to the same form.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip, isal_zlib

from segstudy.errors import InputError
from segstudy.files import writing
from segstudy.images.data_files import NRRD, voxel_files
from segstudy.images.grids import Grid, compare_grids, unusable
from segstudy.images.headers import (
    copy_placement,
    nifti_affine,
    one_line,
    open_nifti,
    text_scale,
)
from segstudy.images.integer_labels import to_integers
from segstudy.images.names import NIFTI, times
from segstudy.images.unreadable import why_unreadable
from segstudy.log import log

GZIP_RATIO = 1032
"""Bytes that one byte of a gzip stream can stand for at most (deflate's limit)."""
GZIP_LEVEL = 2
"""Of ISA-L's 0 to 3: images are as small as zlib's, label maps up to twice as large, in a twentieth of the time."""
AFTER_VOXELS = 1_000_000
"""Bytes after the voxels that are let pass."""


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
    """

    array: np.ndarray
    affine: np.ndarray
    integer_deviation: float = 0.0

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
    """Read a label map as integers with axes (i, j, k): uint8, or uint16 for values above 255.

    Raises
    ------
    InputError
        For a file that is no image, is not 3D, or holds values outside 0 .. 65535 or further than
        1e-3 from a whole number.
    """
    array, affine = _read(path)
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
        raise InputError(f"{path}: label values from {low} to {high}; expected 0 to 65535")
    dtype = np.uint8 if high < 256 else np.uint16
    return Image(np.ascontiguousarray(array.astype(dtype)), affine, off)


def _scale(path: Path | str) -> float:
    """Read the factor that a NIfTI header applies to the stored numbers; 1 without one."""
    slope = open_nifti(path).dataobj.slope if str(path).endswith(NIFTI) else 1.0
    return float(slope)


def read_grid(path: Path | str) -> Grid:
    """Read the grid of an image file, from its header where the format allows."""
    if not str(path).endswith(NIFTI):
        array, affine = _read(path)
        return Grid(tuple(array.shape[:3]), affine)
    image = open_nifti(path)
    _check_shape(path, image.shape)
    return Grid(tuple((*image.shape, 1, 1, 1)[:3]), _placed(path, image))


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


def _placed(path: Path | str, image: nibabel.Nifti1Image) -> np.ndarray:
    """Return the affine to RAS mm of a NIfTI file; InputError where the grid is unusable."""
    affine = nifti_affine(path, image)
    _check_grid(path, image.shape, affine)
    return affine


def _check_shape(path: Path | str, shape: Sequence[int]) -> None:
    if not len(shape) or min(shape) < 1:
        raise InputError(f"{path}: shape {times(shape)}; expected at least one voxel")


def _check_grid(path: Path | str, shape: Sequence[int], affine: np.ndarray) -> None:
    """Refuse a header from which no voxel's position can be told, or no distance."""
    problem = unusable((*shape, 1, 1, 1)[:3], affine)
    if problem:
        raise InputError(f"{path}: {problem}")


def _read(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Read an array (i, j, k[, channel]) in the stored axis order, and its affine to RAS mm."""
    reason = why_unreadable(path)
    if reason:
        raise InputError(f"{path}: {reason}")
    if not str(path).endswith(NIFTI):
        return _read_other(path)
    image = open_nifti(path)
    _check_shape(path, image.shape)
    _check_type(image.get_data_dtype(), path)
    size = _promised(path, image)
    affine = _placed(path, image)
    try:
        if str(path).endswith(".gz"):
            image = type(image).from_bytes(_decompressed(path, size + AFTER_VOXELS))
        slope, intercept = image.header.get_slope_inter()
        if slope in (None, 1) and intercept in (None, 0):
            array = np.asarray(image.dataobj)
        else:
            array = image.get_fdata(dtype=np.float32, caching="unchanged")
    except MemoryError:
        raise InputError(_too_large(path, image.shape)) from None
    except Exception as error:  # of a dozen kinds, by what is damaged
        raise InputError(f"{path}: the file ends early or is damaged ({one_line(error)})") from None
    while array.ndim > 4 and array.shape[3] == 1:
        array = array[:, :, :, 0]  # nnU-Net and ITK write channels in the fifth axis
    if array.ndim < 3:
        raise InputError(f"{path}: shape {_shape(array)}; expected a 3D image")
    return array, affine


def _promised(path: Path | str, image: nibabel.Nifti1Image) -> int:
    """Compute the bytes that a header promises, header included, before any voxel is read.

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
    """Decompress a gzip file and check it to its end; refuse more than `most` bytes.

    nibabel stops at the last voxel and so never meets the checksum that follows it: a damaged
    file would pass.
    """
    rest = Path(path).read_bytes()
    parts = []
    while rest:
        member = isal_zlib.decompressobj(wbits=31)
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

    _check_voxel_files(path)
    # By its format's own reader: others would be tried by content, and some follow further files.
    reader = "NrrdImageIO" if Path(path).suffix in NRRD else "MetaImageIO"
    try:
        image = SimpleITK.ReadImage(str(path), imageIO=reader)
    except MemoryError:
        raise InputError(_too_large(path)) from None
    except Exception as error:
        raise InputError(f"{path}: not readable as an image ({one_line(error)})") from None
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[..., 0]  # an axis of time or channels, of length one
    if image.GetDimension() != 3:
        raise InputError(
            f"{path}: {image.GetDimension()} axes ({times(image.GetSize())}); expected a 3D image"
        )
    array = SimpleITK.GetArrayFromImage(image)
    array = np.moveaxis(array, [0, 1, 2], [2, 1, 0])
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's axes point left, back, head
    affine[:3] *= text_scale(path)
    _check_type(array.dtype, path)
    _check_shape(path, array.shape)
    _check_grid(path, array.shape, affine)
    return array, affine


def _check_voxel_files(path: Path | str) -> None:
    """Refuse a header whose voxels lie in another file that is not there, or that is not beside it."""
    for file in voxel_files(path):
        if not file.is_file():
            raise InputError(
                f"{path}: its voxels are expected in {file.name} beside it: no such file"
            )


def _check_type(dtype: np.dtype, path: Path | str) -> None:
    if dtype.kind not in "iufb":
        kind = "complex" if dtype.kind == "c" else "RGB" if dtype.fields else str(dtype)
        raise InputError(f"{path}: {kind} voxels; expected one real number a voxel")


def _real(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond float32: infinite, which the audit refuses
        return array.astype(np.float32)


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
        raise InputError(_too_large(f"{path}: case {case}", shape, error)) from None


def _too_large(
    what: Path | str, shape: Sequence[int] = (), error: BaseException | None = None
) -> str:
    size = f" for {times(shape)} voxels" if len(shape) else ""
    more = f" ({one_line(error)})" if error is not None and str(error) else ""
    return (
        f"{what}: not enough memory{size}{more}; see whether shape and voxel size are right, or use a "
        "machine with more memory, or fewer threads"
    )
