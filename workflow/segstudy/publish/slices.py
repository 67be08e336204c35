"""One slice of a case as it is shown: image, reference and predictions, the right way up.

Only the slice that is shown is taken from a volume. Display follows the radiological convention:
axial as seen from the feet and coronal as seen from the front, so that the patient's right is
on the left; sagittal with the front on the left; head or front up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel import orientations

from segstudy.boxes import Box, bounding_box, whole
from segstudy.errors import InputError
from segstudy.images.files import Grid, Image, compare_grids, read_image
from segstudy.images.headers import nifti_affine, one_line, open_nifti
from segstudy.images.names import is_nifti
from segstudy.planes import NORMAL_AXIS, PLANE_ACROSS

# RAS axis shown across and RAS axis shown upwards; letters of left, right, top, bottom.
_ACROSS_UP = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}
EDGES = {"sagittal": "APSI", "coronal": "RLSI", "axial": "RLAP"}


@dataclass(frozen=True)
class Cut:
    """A slice's place in the stored array, and how the slice is turned to be shown.

    Attributes
    ----------
    plane
        Its name.
    axis
        Native array axis that it cuts.
    index
        Along that axis.
    transpose, flip_rows, flip_columns
        Turns of the slice.
    pixel_mm
        (height, width) of a pixel as displayed.
    """

    plane: str
    axis: int
    index: int
    transpose: bool
    flip_rows: bool
    flip_columns: bool
    pixel_mm: tuple[float, float]

    def take(self, array: np.ndarray) -> np.ndarray:
        """Cut the slice out of an array (i, j, k), rows from top to bottom and columns from left to right."""
        return self.turn(array[(*[slice(None)] * self.axis, self.index)])

    def turn(self, flat: np.ndarray) -> np.ndarray:
        """Turn a slice of the stored array the right way up, (row, column)."""
        flat = flat.T if self.transpose else flat
        flat = flat[::-1] if self.flip_rows else flat
        return np.ascontiguousarray(flat[:, ::-1] if self.flip_columns else flat)


def cut(grid: Grid, plane: str, index: int) -> Cut:
    """Return the slice number `index` (along the native axis) of a grid in the given plane."""
    turn = orientations.io_orientation(grid.affine)
    native = {int(ras): (axis, flip > 0) for axis, (ras, flip) in enumerate(turn)}
    across, up = _ACROSS_UP[plane]
    (across_axis, across_grows), (up_axis, up_grows) = native[across], native[up]
    # RAS x and y grow to the patient's right and front, and both of these are shown on the left.
    return Cut(
        plane=plane,
        axis=native[NORMAL_AXIS[plane]][0],
        index=index,
        transpose=across_axis < up_axis,
        flip_rows=up_grows,
        flip_columns=across_grows,
        pixel_mm=(grid.spacing_mm[up_axis], grid.spacing_mm[across_axis]),
    )


def best_plane(grid: Grid) -> str:
    """Return the plane with the finest pixels: across the axis with clearly the coarsest voxels, else axial."""
    turn = orientations.io_orientation(grid.affine)[:, 0].astype(int)
    spacing = np.empty(3)
    spacing[turn] = grid.spacing_mm
    shape = np.empty(3, int)
    shape[turn] = grid.shape
    if shape.min() == 1:
        return PLANE_ACROSS[int(shape.argmin())]
    coarsest = int(spacing.argmax())
    others = np.delete(spacing, coarsest)
    return PLANE_ACROSS[coarsest] if spacing[coarsest] > 1.5 * others.max() else "axial"


def per_slice(mask: np.ndarray, grid: Grid, plane: str) -> np.ndarray:
    """Count a mask's voxels in each slice of the plane, in the order of the native axis that it cuts."""
    axis = cut(grid, plane, 0).axis
    return mask.sum(axis=tuple(other for other in range(3) if other != axis))


def fullest(label: Image, plane: str, values: list[int], most: bool = False) -> int:
    """Return the index along the cut axis of the slice with the most voxels of the given values; the middle if none.

    Parameters
    ----------
    label
        To look through.
    plane
        Of the slices.
    values
        Label values.
    most
        Whether, of the slices that hold the most of the values, the one with the most voxels is
        taken.
    """
    if most:
        by_value = np.array(
            [per_slice(label.array == value, label.grid, plane) for value in values]
        )
        counts = by_value.sum(axis=0) + (by_value > 0).sum(axis=0) * (label.array.size + 1)
    else:
        counts = per_slice(np.isin(label.array, values), label.grid, plane)
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def read_slice(paths: tuple[Path, ...], where: Cut, grid: Grid) -> np.ndarray:
    """Read the slice of an image's first channel, as displayed; float32.

    Of a NIfTI file only that slice is decoded.

    Raises
    ------
    InputError
        Where the image lies on another grid than its label.
    """
    index: list = [slice(None)] * 3
    index[where.axis] = where.index
    return where.turn(np.asarray(_read(paths, grid, index), np.float32))


def read_volume(paths: Sequence[Path], grid: Grid) -> np.ndarray:
    """Read an image's first channel (i, j, k), of the type in the file.

    Raises
    ------
    InputError
        As `read_slice` does.
    """
    return _read(paths, grid, [slice(None)] * 3)


def _read(paths: Sequence[Path], grid: Grid, index: list) -> np.ndarray:
    """Read part of an image's first channel, black of a case without image; of a NIfTI file only that part is decoded."""
    if not paths:
        return np.zeros(grid.shape, np.uint8)[tuple(index)]
    path = paths[0]
    if not is_nifti(path):
        image = read_image(list(paths[:1]))
        _same_grid(path, image.grid, grid)
        return image.array[0][tuple(index)]
    image = open_nifti(path)
    _same_grid(path, Grid(tuple((*image.shape, 1, 1)[:3]), nifti_affine(path, image)), grid)
    try:
        return np.asarray(image.dataobj[tuple(index + [0] * (len(image.shape) - 3))])
    except Exception as error:  # whatever nibabel and zlib make of a damaged file
        raise InputError(f"{path}: not readable as an image ({one_line(error)})") from None


def read_label_slice(path: Path, where: Cut, grid: Grid) -> np.ndarray:
    """Read the slice of a label map, as displayed."""
    return np.rint(read_slice((path,), where, grid)).astype(np.int32)


def _same_grid(path: Path, grid: Grid, expected: Grid) -> None:
    difference = compare_grids(expected, grid)
    if difference:
        raise InputError(f"{path}: lies on another grid than the reference label: {difference}")


def grey(flat: np.ndarray, window: tuple[float, float] | None, modality: str) -> np.ndarray:
    """Map intensities to brightness in [0, 1].

    Parameters
    ----------
    flat
        Intensities (row, column).
    window
        Intensities shown black and white; None: -160 to 240 HU for CT, otherwise the 1st to
        99.5th percentile of the slice's voxels that are not 0.
    modality
        Of the image.
    """
    if window is None and modality == "CT":
        window = (-160.0, 240.0)
    if window is None:
        inside = flat[np.isfinite(flat) & (flat != 0)]
        window = tuple(np.percentile(inside, [1, 99.5])) if inside.size else (0.0, 1.0)
    low, high = window
    return np.clip((np.nan_to_num(flat) - low) / max(high - low, 1e-9), 0, 1)


def around(
    mask: np.ndarray, pixel_mm: tuple[float, float], aspect: float = 1.0, margin: float = 0.18
) -> Box:
    """Return the part of a slice that shows a mask with a margin.

    Parameters
    ----------
    mask
        Bool (row, column).
    pixel_mm
        Height and width of a pixel.
    aspect
        Width over height of the part, in mm.
    margin
        Share of the mask's extent added on each side; where the slice ends, the box ends.
    """
    box = bounding_box(mask)
    if box is None:
        return whole(mask.shape)
    middle = np.add(box.start, box.stop) / 2
    extent = np.array(box.size_mm(pixel_mm))
    extent *= 1 + 2 * margin
    height = max(extent[0], extent[1] / aspect)
    half = np.array([height, height * aspect]) / 2 / pixel_mm
    # Move the box inside the slice before cutting it, so that panels keep their shape.
    size = np.array(mask.shape)
    half = np.minimum(half, size / 2)
    middle = np.clip(middle, half, size - half)
    low = np.floor(middle - half + 1e-6).astype(int)
    high = np.ceil(middle + half - 1e-6).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, size)
    return Box(tuple(low.tolist()), tuple(high.tolist()))
