"""From an image as stored to the array a network sees, and back.

prepare: reorient to RAS, crop, resample to the plan's spacing. `normalise` follows, with numbers
fitted on training cases, so that one set of arrays serves every fold whose spacing is the same.
restore: the way back to the stored grid, voxel for voxel.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil

from segstudy.errors import InputError
from segstudy.images import resample as resampling
from segstudy.images.crop import Box, crop_box, widened
from segstudy.images.files import Grid, Image
from segstudy.images.geometry import from_ras, ras_grid, to_ras
from segstudy.images.names import grid_name, parse_grid, times
from segstudy.images.normalise import measured
from segstudy.images.resample_classes import most_likely, resample_label

__all__ = [
    "Geometry",
    "Plan",
    "Restore",
    "grid_name",
    "parse_grid",
    "prepare",
    "prepare_label",
    "restore",
]

# Hounsfield units of air to those of the densest bone; beyond lies metal, and what scanners write
# outside their field of view. SegTHOR holds values up to 31743, which would ring when interpolated.
CT_RANGE_HU = (-1024.0, 3071.0)

IGNORED = 255
"""In prepared labels: a voxel that nobody has labelled, and that is to count as nothing."""


@dataclass(frozen=True)
class Geometry:
    """How images are brought to a common grid.

    spacing_mm: voxel size along right, front, head in mm.
    crop: `body` (CT), `nonzero` or `none`; margin_mm is kept around it.
    normalise: `ct` or `zscore`; decides what is done before interpolation.
    anisotropy_threshold: see `resample.coarse_axis`.
    channels: indices of the image's channels that are kept, in this order; None: all.
    """

    spacing_mm: tuple[float, float, float]
    crop: str
    margin_mm: float
    normalise: str
    anisotropy_threshold: float
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Plan(Geometry):
    """A geometry with what was fitted on the training cases of a fold.

    intensities: for `ct`, a dict of `low`, `high`, `mean`, `sd` a channel; empty for `zscore`.
    median_shape: median shape (right, front, head) of the training cases on the plan's grid.
    """

    intensities: tuple[dict[str, float], ...] = ()
    median_shape: tuple[int, int, int] = (1, 1, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Plan":
        try:
            return cls(
                spacing_mm=tuple(float(size) for size in values["spacing_mm"]),
                crop=str(values["crop"]),
                margin_mm=float(values["margin_mm"]),
                normalise=str(values["normalise"]),
                anisotropy_threshold=float(values["anisotropy_threshold"]),
                channels=None
                if values.get("channels") is None
                else tuple(int(index) for index in values["channels"]),
                intensities=tuple(dict(channel) for channel in values["intensities"]),
                median_shape=tuple(int(size) for size in values["median_shape"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(
                f"a plan with a missing or unusable entry ({error}); run `segstudy preprocess plan` again"
            ) from None


@dataclass(frozen=True)
class Restore:
    """What is needed to bring an array from the prepared grid back to the stored one.

    native: the stored grid. box: what was kept of it, in voxels of the grid turned to RAS.
    shape: the prepared grid's shape. coarse: the axis (0, 1, 2 in RAS) resampled by nearest
    neighbour, or None.
    """

    native: Grid
    box: Box
    shape: tuple[int, int, int]
    coarse: int | None

    @property
    def unchanged(self) -> bool:
        """Whether the spacing was kept, so that nothing is interpolated in either direction."""
        return self.shape == self.box.shape

    @property
    def ras(self) -> Grid:
        """The stored grid turned to RAS, before cropping."""
        return ras_grid(self.native)

    @property
    def grid(self) -> Grid:
        """The prepared grid: its shape, and the affine that places its voxels in the patient.

        Its spacing differs from the plan's by the rounding of the shape to whole voxels.
        """
        step = np.array(self.box.shape) / self.shape
        affine = self.ras.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ (np.array(self.box.start) + 0.5 * step - 0.5)
        affine[:3, :3] *= step
        return Grid(self.shape, affine)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "native_shape": list(self.native.shape),
            "native_affine": self.native.affine.tolist(),
            "start": list(self.box.start),
            "stop": list(self.box.stop),
            "shape": list(self.shape),
            "coarse": self.coarse,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Restore":
        return cls(
            native=Grid(tuple(values["native_shape"]), np.array(values["native_affine"], float)),
            box=Box(tuple(values["start"]), tuple(values["stop"])),
            shape=tuple(values["shape"]),
            coarse=values["coarse"],
        )


def prepare(
    image: Image, geometry: Geometry, name: str = "the image"
) -> tuple[np.ndarray, Restore]:
    """Reorient an image (channel, i, j, k) to RAS, crop it, keep the geometry's channels and resample them.

    Returns float32 (channel, x, y, z), not normalised, and the way back. Axes with spacing far
    coarser than the others are resampled apart (`resample.coarse_axis`): by nearest neighbour,
    the others by cubic splines; else all by cubic splines. CT values are clipped to
    -1024..3071 HU first. A zero background stays exactly 0.

    Raises InputError for a value that is not finite, and for a grid that is larger than the
    machine's memory, or a single voxel; `name` says whose.
    """
    if not np.isfinite(image.array).all():
        raise InputError(
            f"{name}: voxels that are not finite (NaN or infinite); expected numbers. Mend the file "
            "or leave the case out"
        )
    turned = to_ras(image)
    restore = laid_out(turned, image.grid, geometry, name)
    # The crop is that of all channels, so that plans with fewer of them have the same voxels.
    kept = slice(None) if geometry.channels is None else list(geometry.channels)
    array = turned.array[(slice(None), *restore.box.slices)][kept]
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
    """Raise InputError where so many float32 arrays on the prepared grid are more than the machine's memory.

    And where an image of several voxels becomes a single one. Both come of a voxel size in the
    header that is wrong by a factor; `name` says whose.
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


def laid_out(turned: Image, native: Grid, geometry: Geometry, name: str = "the image") -> Restore:
    """Where the prepared grid of an image (channel, x, y, z) lies that is turned to RAS.

    native: the grid that it is stored on. Raises InputError as `check_size` does.
    """
    spacing = turned.spacing_mm
    box = crop_box(turned.array, spacing, geometry.crop)
    box = widened(box, turned.grid.shape, spacing, geometry.margin_mm)
    shape = resampling.resampled_shape(box.shape, spacing, geometry.spacing_mm)
    coarse = resampling.coarse_axis(spacing, geometry.spacing_mm, geometry.anisotropy_threshold)
    restore = Restore(native, box, shape, coarse)
    check_size(restore, len(turned.array), geometry.spacing_mm, name)
    return restore


def prepare_label(
    label: Image, restore: Restore, values: Sequence[int], ignore: Sequence[int] = ()
) -> np.ndarray:
    """Bring a label map (i, j, k) to the grid that its image was prepared on.

    values: value of each structure in the label map, in the order of the classes. ignore: values of
    voxels that nobody has labelled; all others become background. Returns uint8 (x, y, z), class
    indices 1 .. n, and IGNORED. Each class, the background and the ignored too, is interpolated
    (nearest neighbour along a coarse axis) and the highest one wins, so that borders stay smooth
    where nearest neighbour would leave steps, and structures keep place and volume on average
    (`resample_classes`).

    Raises InputError where the label's shape is not the image's, or for more than 254 structures.
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
    """Bring class probabilities (class, x, y, z) back to the stored grid, as class indices (i, j, k).

    Probabilities are interpolated by cubic convolution (nearest neighbour along a coarse axis) to
    the stored voxels and the highest class wins (`resample_classes`); outside the crop: 0. Logits
    serve as well. Beside the probabilities, memory is a few label maps.
    """
    if probabilities.shape[1:] != tuple(way.shape):
        raise ValueError(
            f"probabilities of shape {probabilities.shape}, expected (class, {way.shape})"
        )
    cropped = most_likely(probabilities, way.box.shape, way.coarse)
    full = np.zeros(way.ras.shape, cropped.dtype)
    full[way.box.slices] = cropped
    return from_ras(full, way.native)
