"""Label maps on another grid than their image: fitted to it without loss, or resampled on request.

A grid is compatible with an image's where each of its voxels is one of the image's, whatever the
order of the axes and the extents.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.images.files import Image
from segstudy.images.formats import dicom_series
from segstudy.images.grids import Grid, compare_grids
from segstudy.images.names import times

TOLERANCE_VOXELS = 0.01
"""How far a voxel's centre may lie from that of an image's voxel and be taken for it."""
CHANGED = 0.05
"""Share of a structure's volume from which on resampling tells its change."""
SLIGHT = 1e-3
"""Part of a voxel that rounding in headers may add to its extents."""


def fitted(label: Image, grid: Grid) -> Image:
    """Bring a label map to an image's grid: axes reordered, missing extents padded with background.

    Nothing is interpolated and no labelled voxel is lost. What was changed is told in the notes.

    Parameters
    ----------
    label
        (i, j, k).
    grid
        Of the image.

    Raises
    ------
    InputError
        With the difference, where the grids are not compatible: centres of voxels more than 1 % of a
        voxel apart, labelled voxels outside of the image, and other extents from the same first voxel,
        which is more likely the label of another image than a crop.
    """
    difference = compare_grids(grid, label.grid)
    if not difference:
        return label
    axes, signs, first, deviation = _aligned(label.grid, grid)
    if not deviation <= TOLERANCE_VOXELS:
        raise InputError(
            f"{difference}; expected voxels that are the image's own, to {TOLERANCE_VOXELS:.0%} of a voxel"
            + (f", and centres lie {deviation:.3g} voxels apart" if deviation < 1 else "")
        )
    array = _oriented(label.array, axes, signs)
    last = first + array.shape
    is_inside = (first >= 0).all() and (last <= grid.shape).all()
    is_around = (first <= 0).all() and (last >= grid.shape).all()
    if not (is_inside or is_around):
        raise InputError(
            f"{difference}; expected the image's extents, or a part of them: the label begins at voxel "
            f"{first.tolist()} of the image and ends before {last.tolist()} of {list(grid.shape)}"
        )
    same_first = np.allclose(grid.affine[:3, 3], label.affine[:3, 3], atol=1e-2)
    if array.shape != grid.shape and same_first and not label.is_part:
        raise InputError(
            f"{difference}, from the same first voxel: the label of another image? Pad or crop the label "
            "to its image's extents"
        )
    placed = _placed(array, first, grid.shape)
    lost = np.count_nonzero(array) - np.count_nonzero(placed)
    if lost:
        raise InputError(
            f"{difference}; {lost} labelled voxels lie outside of the image, where none is expected"
        )
    note = _note(label.grid, grid, array.shape, first)
    return replace(label, array=placed, affine=grid.affine, notes=(*label.notes, note))


def fitted_probabilities(probabilities: np.ndarray, own: Grid, grid: Grid) -> np.ndarray:
    """Bring class probabilities to the grid to which `fitted` brings their label map; voxels beyond are background.

    Parameters
    ----------
    probabilities
        (class, i, j, k), background first, each voxel one of `grid`'s (`has_same_voxels`).
    own
        Their grid.
    grid
        Of the reference.
    """
    if not compare_grids(grid, own):
        return probabilities
    axes, signs, first, _ = _aligned(own, grid)
    found = np.empty((len(probabilities), *grid.shape), probabilities.dtype)
    for number, one in enumerate(probabilities):
        found[number] = _placed(_oriented(one, axes, signs), first, grid.shape, float(number == 0))
    return found


def on_grid(label: Image, grid: Grid, resample: bool | None) -> Image:
    """Bring a label map to its image's grid: `fitted`, or resampled where that is asked for.

    Parameters
    ----------
    label
        (i, j, k).
    grid
        Of the image.
    resample
        Whether labels on grids that are not compatible are resampled; None: whatever is set, they are not.

    Raises
    ------
    InputError
        Where the grids are not compatible, and where resampling would lose labelled voxels: with their count.
    """
    try:
        return fitted(label, grid)
    except InputError as error:
        if not resample:
            setting = (
                ""
                if resample is None
                else ", or set datasets.<name>.on_other_grid: resample_label in the study file"
            )
            raise InputError(
                f"other grid than its image (named first): {error}. Export the label on its image's grid{setting}"
            ) from None
    outside = _count_outside(label, grid)
    if outside:
        raise InputError(
            f"{outside} of {np.count_nonzero(label.array)} labelled voxels lie outside of the image, where resampling would "
            "lose them; expected none. Name the image that the label belongs to, or crop the label to it"
        )
    found = resampled(label, grid)
    gone = np.setdiff1d(np.unique(label.array), np.unique(found.array))
    if gone.size:
        counts = ", ".join(f"{value} ({np.count_nonzero(label.array == value)})" for value in gone)
        raise InputError(
            f"no voxel is left of values (voxels) {counts} once resampled to the image's grid, which is too coarse for "
            "them; expected some. Export the label on its image's grid"
        )
    return found


def extended(reference: Image, other: Image) -> Image:
    """Extend a label map by background, so that it covers what another one holds.

    Parameters
    ----------
    reference
        (i, j, k).
    other
        On any grid.

    Raises
    ------
    InputError
        Where the two grids have no place in common.
    """
    whole = _extents(np.zeros(3), np.subtract(other.array.shape, 1), other, reference)
    if (whole[1] < -0.5).any() or (whole[0] > np.subtract(reference.array.shape, 0.5)).any():
        raise InputError(
            "the two grids have no place in common; expected two label maps of one scan: name the pair's own files"
        )
    held = np.nonzero(other.array)
    if not held[0].size:
        return reference
    low, high = _extents(*np.array([[n.min(), n.max()] for n in held]).T, other, reference)
    first = np.minimum(np.floor(low + 0.5 + SLIGHT), 0).astype(int)
    last = np.maximum(
        np.ceil(high - 0.5 - SLIGHT).astype(int), np.subtract(reference.array.shape, 1)
    )
    shape = tuple((last - first + 1).tolist())
    if shape == reference.array.shape:
        return reference
    note = (
        f"{_count_outside(other, reference.grid)} labelled voxels of the prediction lie outside of the reference's extents "
        f"({times(reference.array.shape)} voxels), where background is taken for its label: they are false positives"
    )
    affine = reference.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    array = _placed(reference.array, -first, shape)
    return replace(reference, array=array, affine=affine, notes=(*reference.notes, note))


def has_same_voxels(one: Grid, other: Grid) -> bool:
    """Tell whether voxels of two grids are the same, whatever their extents and the order of the axes."""
    return _aligned(one, other)[3] <= TOLERANCE_VOXELS


def _extents(
    first: np.ndarray, last: np.ndarray, one: Image, other: Image
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest index in `other` (3,) of the box from voxel `first` to `last` of `one`."""
    corners = np.array(np.meshgrid(*zip(first - 0.5, last + 0.5, strict=True))).reshape(3, -1)
    between = np.linalg.inv(other.affine) @ one.affine
    places = between[:3, :3] @ corners + between[:3, 3:]
    return places.min(axis=1), places.max(axis=1)


def _count_outside(label: Image, grid: Grid) -> int:
    """Count the labelled voxels whose centres lie outside of a grid's extents."""
    between = np.linalg.inv(grid.affine) @ label.affine
    places = np.argwhere(label.array) @ between[:3, :3].T + between[:3, 3]
    inside = (places > -0.5 - SLIGHT) & (places < np.subtract(grid.shape, 0.5) + SLIGHT)
    return int(np.count_nonzero(~inside.all(axis=1)))


def slice_by_slice(label: Image, series: Path, grid: Grid) -> Image:
    """Take pictures, which tell neither place nor size, for the labels of a DICOM series' slices.

    The pictures and the series' files belong together in the order of the numbers in their names.

    Parameters
    ----------
    label
        (column, row, slice).
    series
        The image.
    grid
        Of the image.

    Raises
    ------
    InputError
        Where the numbers of slices or their sizes differ.
    """
    if label.array.shape != grid.shape:
        raise InputError(
            f"{times(label.array.shape)} pixels and pictures; expected a picture for each slice of the series {series}: "
            f"{times(grid.shape)}"
        )
    note = "pictures were paired with the files of the series by the numbers in their names: look at an overlay"
    array = label.array[:, :, dicom_series.places_by_name(series)]
    return replace(
        label, array=array, affine=grid.affine, has_spacing=True, notes=(*label.notes, note)
    )


def _aligned(one: Grid, other: Grid) -> tuple[list[int], list[int], np.ndarray, float]:
    """Align the axes of a grid with those of another.

    Returns
    -------
    axes, signs : list of int
        Which axis of `one` runs along each axis of `other`, and in which direction.
    first : numpy.ndarray
        Index in `other` of the first voxel, once axes are reordered and turned (3,).
    deviation : float
        The largest distance of a corner's centre from that of a voxel of `other`, along an axis, in
        voxels of `other`; infinite where axes or voxel sizes differ.
    """
    between = np.linalg.inv(other.affine) @ one.affine
    turn = np.rint(between[:3, :3])
    if not np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) or abs(np.linalg.det(turn)) != 1:
        return [0, 1, 2], [1, 1, 1], np.zeros(3, int), np.inf
    axes = [int(np.flatnonzero(row)[0]) for row in turn]
    signs = [int(row.sum()) for row in turn]
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in one.shape])).reshape(3, -1)
    exact = between[:3, :3] @ corners + between[:3, 3:]
    straight = turn @ corners
    shift = np.rint((exact - straight).mean(axis=1))
    deviation = float(np.abs(exact - straight - shift[:, None]).max())
    return axes, signs, (straight.min(axis=1) + shift).astype(int), deviation


def _oriented(array: np.ndarray, axes: list[int], signs: list[int]) -> np.ndarray:
    """Reorder and turn the axes of an array (i, j, k), as `_aligned` says."""
    return array.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]


def _placed(
    array: np.ndarray, first: np.ndarray, shape: tuple[int, ...], beyond: float = 0
) -> np.ndarray:
    """Put an array into one of this shape, its first voxel at the index `first`; other voxels are `beyond`."""
    placed = np.full(shape, beyond, array.dtype)
    starts = np.maximum(first, 0)
    stops = np.maximum(np.minimum(first + array.shape, shape), starts)
    inside = tuple(map(slice, starts, stops))
    placed[inside] = array[tuple(map(slice, starts - first, stops - first))]
    return placed


def _note(one: Grid, grid: Grid, shape: tuple[int, ...], first: np.ndarray) -> str:
    """Say what was changed."""
    texts = []
    if one.orientation != grid.orientation:
        texts.append(
            f"axes pointed to {one.orientation}, the image's to {grid.orientation}: reordered"
        )
    if shape != grid.shape:
        texts.append(
            f"it covers {times(shape)} voxels from {first.tolist()} of the image's {times(grid.shape)}: the rest "
            "is taken for background"
        )
    if not texts:
        texts.append("its place differs by less than 1 % of a voxel: taken for the image's")
    return f"lies on a compatible grid; {'; '.join(texts)}"


def resampled(label: Image, grid: Grid) -> Image:
    """Resample a label map to another grid: in each voxel the value of the most weight by linear interpolation.

    Parameters
    ----------
    label
        (i, j, k).
    grid
        The new one.
    """
    import SimpleITK

    moving = itk_image(label.array, label.affine)
    fixed = itk_image(np.zeros(grid.shape, np.uint8), grid.affine)
    found = SimpleITK.Resample(
        moving, fixed, SimpleITK.Transform(), SimpleITK.sitkLabelLinear, 0, moving.GetPixelID()
    )
    array = np.ascontiguousarray(SimpleITK.GetArrayFromImage(found).transpose(2, 1, 0))
    note = (
        f"resampled from another grid ({compare_grids(label.grid, grid)}), as on_other_grid allows: "
        "borders are as sharp as the coarser of both"
    )
    before, after = _volumes(label.array, label.affine), _volumes(array, grid.affine)
    changed = [
        f"{value} from {volume:.4g} to {after.get(value, 0.0):.4g} mm3"
        for value, volume in before.items()
        if abs(after.get(value, 0.0) - volume) > CHANGED * volume
    ]
    if changed:
        note += f"; volumes of values that changed by more than {CHANGED:.0%}: {', '.join(changed)}"
    return replace(label, array=array, affine=grid.affine, notes=(*label.notes, note))


def _volumes(array: np.ndarray, affine: np.ndarray) -> dict[int, float]:
    """Return value -> volume in mm3 of each label of a label map (i, j, k)."""
    counts = np.bincount(array.ravel())
    voxel = abs(np.linalg.det(affine[:3, :3]))
    return {int(value): float(counts[value] * voxel) for value in np.flatnonzero(counts) if value}


def itk_image(array: np.ndarray, affine: np.ndarray):
    """Return an array (i, j, k) with its affine to RAS mm as a SimpleITK image."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    lps = np.diag([-1.0, -1.0, 1.0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((lps @ affine[:3, 3]).tolist())
    return image
