"""NRRD, with the segmentations of 3D Slicer, and MetaImage, by SimpleITK, brought to nibabel's conventions."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.images.formats.segment_masks import SegmentMask, combine
from segstudy.images.formats.stored import (
    Stored,
    check_grid,
    check_shape,
    check_type,
    check_voxel_files,
    too_large,
)
from segstudy.images.headers import one_line, text_header, text_scale
from segstudy.images.names import NRRD, SLICER, ending, times
from segstudy.images.slicer_header import SlicerSegment, segments_of


def read(path: Path, wanted: Collection[int] | None = None) -> Stored:
    """Read a file's voxels; the layers of a segmentation of 3D Slicer become one label map, wanted segments on top."""
    stored = _read(path)
    fields = text_header(path) if ending(path) in (SLICER, *NRRD) else {}
    segments = segments_of(fields)
    if not segments:
        return stored
    offset = fields.get("segmentation_referenceimageextentoffset", "")
    return replace(_flattened(path, stored, segments, wanted), is_part=bool(offset))


def names(path: Path) -> list[tuple[str, int]]:
    """Read name and value of each segment of a segmentation of 3D Slicer, in order; empty for other files."""
    return [(one.name, one.value) for one in segments_of(text_header(path))]


def _read(path: Path) -> Stored:
    import SimpleITK

    check_voxel_files(path)
    # By its format's own reader: others would be tried by content, and some follow further files.
    reader = "NrrdImageIO" if ending(path) in (SLICER, *NRRD) else "MetaImageIO"
    try:
        image = SimpleITK.ReadImage(str(path), imageIO=reader)
    except MemoryError:
        raise InputError(too_large(path)) from None
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
    check_type(path, array.dtype)
    check_shape(path, array.shape)
    check_grid(path, array.shape, affine)
    return Stored(array, affine)


def _flattened(
    path: Path, stored: Stored, segments: list[SlicerSegment], wanted: Collection[int] | None
) -> Stored:
    """Merge the layers (i, j, k, layer) of a segmentation into one label map, with the values of `segments`."""
    layers = stored.array[..., None] if stored.array.ndim == 3 else stored.array
    if layers.shape[3] == 1 and all(one.value == one.stored_value for one in segments):
        return Stored(layers[..., 0], stored.affine)
    last = max(one.layer for one in segments)
    if last >= layers.shape[3]:
        raise InputError(
            f"{path}: the header puts a segment into layer {last}, counted from 0, and the file has "
            f"{layers.shape[3]}; save the segmentation again"
        )
    known = np.zeros(layers.shape[3], int)
    masks = []
    for one in segments:
        mask = layers[..., one.layer] == one.stored_value
        known[one.layer] += np.count_nonzero(mask)
        masks.append(SegmentMask(one.name, one.value, mask))
    for layer, count in enumerate(known):
        if np.count_nonzero(layers[..., layer]) != count:
            raise InputError(
                f"{path}: layer {layer} holds values that no segment in the header has, or two have; "
                "save the segmentation again"
            )
    array, notes = combine(masks, layers.shape[:3], wanted)
    return Stored(array, stored.affine, notes)
