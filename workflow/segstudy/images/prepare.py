"""Preparation of an image as stored for a network, and the way back.

`prepare` reorients to RAS, crops, and resamples to the plan's spacing. Normalisation follows
(`normalise`), with numbers fitted on training cases, so that one set of arrays serves every fold
of the same spacing. `restore` brings probabilities back to the stored grid, voxel for voxel.
"""

import math
from collections.abc import Sequence

import numpy as np
import psutil

from segstudy.errors import InputError
from segstudy.images import resample as resampling
from segstudy.images.crop import crop_box, widened
from segstudy.images.files import Grid, Image
from segstudy.images.geometry import from_ras, to_ras
from segstudy.images.names import times
from segstudy.images.normalise import measured
from segstudy.images.plan import Geometry, Restore
from segstudy.images.resample_classes import interpolate, most_likely, resample_label

# Hounsfield units of air to those of the densest bone; beyond lies metal, and what scanners write
# outside their field of view. SegTHOR holds values up to 31743, which would ring when interpolated.
CT_RANGE_HU = (-1024.0, 3071.0)

IGNORED = 255
"""In prepared labels: a voxel that nobody has labelled, and that is to count as nothing."""


def prepare(
    image: Image, geometry: Geometry, name: str = "the image"
) -> tuple[np.ndarray, Restore]:
    """Reorient an image to RAS, crop it, select the plan's channels and resample them.

    An axis with far coarser spacing than the others is resampled by nearest neighbour
    (`resample.coarse_axis`), the others by cubic splines. CT values are clipped to -1024..3071 HU
    first. A zero background stays exactly 0.

    Parameters
    ----------
    image
        (channel, i, j, k).
    geometry
        Target spacing, crop, normalisation and channels.
    name
        Whose image it is, for errors.

    Returns
    -------
    array : numpy.ndarray
        float32 (channel, x, y, z), not normalised.
    restore : Restore
        The way back.

    Raises
    ------
    InputError
        For a value that is not finite, and as `check_size` does.
    """
    if not np.isfinite(image.array).all():
        raise InputError(
            f"{name}: voxels that are not finite (NaN or infinite); expected numbers. Mend the file "
            "or leave the case out"
        )
    reoriented = to_ras(image)
    restore = target_grid(reoriented, image.grid, geometry, name)
    # The crop is that of all channels, so that plans with fewer of them have the same voxels.
    kept = slice(None) if geometry.channels is None else list(geometry.channels)
    array = reoriented.array[(slice(None), *restore.box.slices)][kept]
    if geometry.normalise == "ct":
        array = np.clip(array, *CT_RANGE_HU)
    shape, coarse = restore.shape, restore.coarse
    result = resampling.resample(array, shape, resampling.orders(resampling.CUBIC, coarse))
    inside = measured(array) if geometry.normalise == "zscore" and not restore.unchanged else None
    if inside is not None:
        measurable = resampling.resample(
            inside[None], shape, resampling.orders(resampling.LINEAR, coarse), antialias=False
        )
        result[:, measurable[0] < 0.5] = 0
    return np.ascontiguousarray(result), restore


def check_size(restore: Restore, arrays: int, target_mm: Sequence[float], name: str) -> None:
    """Refuse a prepared grid that is too large for the machine's memory, or that is a single voxel.

    Both come of a voxel size in the header that is wrong by a factor.

    Parameters
    ----------
    restore
        Holds the prepared grid.
    arrays
        The number of float32 arrays that must fit into memory.
    target_mm
        Target spacing (x, y, z), for the error.
    name
        Whose image it is, for the error.

    Raises
    ------
    InputError
        With the memory needed, and the machine's.
    """
    voxels = math.prod(restore.shape)
    needed, there = 4 * arrays * voxels, psutil.virtual_memory().total
    if needed <= there and (voxels > 1 or math.prod(restore.box.shape) == 1):
        return
    memory = f": {needed / 2**30:.4g} GiB, and the machine has {there / 2**30:.4g}"
    raise InputError(
        f"{name}: {times(restore.box.shape)} voxels of {times(restore.ras.spacing_mm)} mm would become "
        f"{times(restore.shape)} of {times(target_mm)} mm{memory if voxels > 1 else ''}. Correct the "
        "voxel size in the header, or choose another spacing_mm"
    )


def target_grid(
    reoriented: Image, native: Grid, geometry: Geometry, name: str = "the image"
) -> Restore:
    """Compute the target grid of an image.

    Parameters
    ----------
    reoriented
        The image (channel, x, y, z) in RAS.
    native
        The grid that the image is stored on.
    geometry
        Target spacing, crop and margin.
    name
        Whose image it is, for errors.

    Raises
    ------
    InputError
        As `check_size` does.
    """
    spacing = reoriented.spacing_mm
    box = crop_box(reoriented.array, spacing, geometry.crop)
    box = widened(box, reoriented.grid.shape, spacing, geometry.margin_mm)
    shape = resampling.resampled_shape(box.shape, spacing, geometry.spacing_mm)
    coarse = resampling.coarse_axis(spacing, geometry.spacing_mm, geometry.anisotropy_threshold)
    restore = Restore(native, box, shape, coarse)
    check_size(restore, len(reoriented.array), geometry.spacing_mm, name)
    return restore


def prepare_label(
    label: Image, restore: Restore, values: Sequence[int], ignore: Sequence[int] = ()
) -> np.ndarray:
    """Bring a label map to the grid that its image was prepared on.

    Each class, the background and the ignored among them, is interpolated (nearest neighbour along
    a coarse axis) and the highest one wins (`resample_classes`): borders stay smooth where nearest
    neighbour would leave steps, and structures keep place and volume on average.

    Parameters
    ----------
    label
        (i, j, k) on the image's stored grid.
    restore
        As `prepare` returned it.
    values
        Label value of each structure, in the order of the classes.
    ignore
        Values of voxels that nobody has labelled. All other values become background.

    Returns
    -------
    numpy.ndarray
        uint8 (x, y, z): class indices 1 .. n, 0 for the background, IGNORED.

    Raises
    ------
    InputError
        Where the label's shape is not the image's, and for more than 254 structures.
    """
    if label.grid.shape != restore.native.shape:
        raise InputError(
            f"a label of shape {label.grid.shape} for an image of shape {restore.native.shape}; "
            "expected the same"
        )
    if len(values) >= IGNORED:
        raise InputError(
            f"{len(values)} structures; expected at most {IGNORED - 1}, as many as a byte tells apart"
        )
    unknown = len(values) + 1
    indices = np.zeros(max(int(label.array.max(initial=0)), *values, *ignore, 0) + 1, np.uint8)
    indices[list(values)] = np.arange(1, unknown)
    indices[list(ignore)] = unknown
    # By the image's affine: the label's may differ by rounding.
    cropped = to_ras(Image(label.array, restore.native.affine)).array[restore.box.slices]
    classes = indices[cropped]
    if not restore.unchanged:
        classes = resample_label(classes, restore.shape, restore.coarse)
    if ignore:
        classes = np.where(classes == unknown, np.uint8(IGNORED), classes)
    return np.ascontiguousarray(classes)


def restore(probabilities: np.ndarray, way: Restore) -> np.ndarray:
    """Bring class probabilities back to the stored grid, as class indices.

    Probabilities are interpolated by cubic convolution (nearest neighbour along a coarse axis) to
    the stored voxels, and the highest class wins (`resample_classes`). Voxels outside the crop
    become 0. Beside the probabilities, memory is a few label maps.

    Parameters
    ----------
    probabilities
        (class, x, y, z) on the prepared grid; logits serve as well.
    way
        As `prepare` returned it.

    Returns
    -------
    numpy.ndarray
        Class indices (i, j, k).

    Raises
    ------
    ValueError
        Where the probabilities have another shape than the prepared grid.
    """
    if probabilities.shape[1:] != tuple(way.shape):
        raise ValueError(
            f"probabilities of shape {probabilities.shape}, expected (class, {way.shape})"
        )
    cropped = most_likely(probabilities, way.box.shape, way.coarse)
    full = np.zeros(way.ras.shape, cropped.dtype)
    full[way.box.slices] = cropped
    return from_ras(full, way.native)


def add_restored(
    total: np.ndarray, probabilities: np.ndarray, way: Restore, share: float = 1.0
) -> None:
    """Add class probabilities, brought back to the stored grid, to the sums of several.

    They are interpolated as for `restore`, a class at a time; outside the crop all is background. Cubic convolution
    overshoots a little, so that `as_probabilities` has to follow.

    Parameters
    ----------
    total
        float32 (class, i, j, k) on the stored grid; changed in place.
    probabilities
        (class, x, y, z) on the prepared grid; a voxel's add up to `share`.
    way
        As `prepare` returned it.
    share
        What is added to the background outside the crop.
    """
    full = np.empty(way.ras.shape, np.float32)
    for index, values in enumerate(probabilities):
        full[...] = 0 if index else share
        full[way.box.slices] = interpolate(values, way.box.shape, way.coarse)
        total[index] += from_ras(full, way.native)


def as_probabilities(total: np.ndarray) -> np.ndarray:
    """Cut off what is below 0 and have the classes of each voxel (class, i, j, k) add up to 1, in place."""
    for plane in range(total.shape[1]):
        part = total[:, plane]
        np.maximum(part, 0, out=part)
        part /= part.sum(axis=0)
    return total
