"""NIfTI (one file, or a pair of header and voxels) and FreeSurfer's MGH, by nibabel, in the stored axis order."""

import math
from pathlib import Path

import nibabel
import numpy as np
from isal import isal_zlib

from segstudy.errors import InputError
from segstudy.images.data_files import voxel_files
from segstudy.images.formats.stored import (
    Stored,
    check_grid,
    check_shape,
    check_type,
    check_voxel_files,
    too_large,
)
from segstudy.images.grids import Grid
from segstudy.images.headers import nifti_affine, one_line, open_nifti
from segstudy.images.names import FREESURFER, ending, times
from segstudy.images.signatures import AFTER_VOXELS, GZIP
from segstudy.images.unreadable import why_unreadable
from segstudy.log import log

GZIP_RATIO = 1032
"""Bytes that one byte of a gzip stream can stand for at most (deflate's limit)."""

Volume = nibabel.Nifti1Image | nibabel.MGHImage


def read(path: Path) -> Stored:
    """Read a file's voxels, scaled as its header says; InputError for a damaged file."""
    image = _open(path)
    check_shape(path, image.shape)
    check_type(path, image.get_data_dtype())
    size = _promised(path, image)
    affine = _placed(path, image)
    try:
        if _is_zipped(path):
            image = type(image).from_bytes(_decompressed(path, size + AFTER_VOXELS))
        slope, intercept = image.header.get_slope_inter()
        if slope in (None, 1) and intercept in (None, 0):
            array = np.asarray(image.dataobj)
        else:
            array = image.get_fdata(dtype=np.float32, caching="unchanged")
    except MemoryError:
        raise InputError(too_large(path, image.shape)) from None
    except Exception as error:  # of a dozen kinds, by what is damaged
        raise InputError(f"{path}: the file ends early or is damaged ({one_line(error)})") from None
    while array.ndim > 4 and array.shape[3] == 1:
        array = array[:, :, :, 0]  # nnU-Net and ITK write channels in the fifth axis
    if array.ndim < 3:
        raise InputError(f"{path}: shape {times(array.shape)}; expected a 3D image")
    return Stored(array, affine)


def read_grid(path: Path) -> Grid:
    """Read the grid from the header alone."""
    image = _open(path)
    check_shape(path, image.shape)
    return Grid(tuple((*image.shape, 1, 1, 1)[:3]), _placed(path, image))


def _open(path: Path) -> Volume:
    if ending(path) not in FREESURFER:
        check_voxel_files(path)
        return open_nifti(path)
    try:
        return nibabel.MGHImage.from_filename(path)
    except Exception as error:  # nibabel's own errors are of a dozen kinds
        reason = why_unreadable(path) or f"not readable as an image ({one_line(error)})"
        raise InputError(f"{path}: {reason}") from None


def _placed(path: Path, image: Volume) -> np.ndarray:
    """Return the affine to RAS mm; InputError where the grid is unusable."""
    is_mgh = isinstance(image, nibabel.MGHImage)
    affine = np.asarray(image.affine, float) if is_mgh else nifti_affine(path, image)
    check_grid(path, image.shape, affine)
    return affine


def _is_zipped(path: Path) -> bool:
    return ending(path) in (".nii.gz", ".mgz")


def _promised(path: Path, image: Volume) -> int:
    """Compute the bytes that a header promises, header included, before any voxel is read.

    Refuses a promise that no file of this size can keep: memory for it would be asked for.
    """
    voxels = math.prod(int(length) for length in image.shape)
    size = int(image.dataobj.offset) + voxels * image.get_data_dtype().itemsize
    held = (*voxel_files(path), path)[0].stat().st_size
    if size > held * (GZIP_RATIO if _is_zipped(path) else 1):
        raise InputError(
            f"{path}: the file ends early or is damaged ({times(image.shape)} voxels are {size:,} "
            f"bytes, the file has {held:,})"
        )
    return size


def _decompressed(path: Path, most: int) -> bytes:
    """Decompress a gzip file and check it to its end; refuse more than `most` bytes.

    nibabel stops at the last voxel and so never meets the checksum that follows it: a damaged
    file would pass.
    """
    rest = path.read_bytes()
    parts = []
    while rest:
        member = isal_zlib.decompressobj(wbits=31)
        if parts and not rest.startswith(GZIP):
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
