"""Labels in DICOM: segmentations (DICOM-SEG) by highdicom, contours (RTSTRUCT) by pydicom and scikit-image.

A segment's name decides which structure it is; its value is its number, from 1. Never through ITK,
which takes a segment's frames for slices.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.images.formats.dicom_files import damaged_told, library, only_file
from segstudy.images.formats.segment_masks import SegmentMask, combine
from segstudy.images.formats.stored import Stored, check_grid
from segstudy.images.grids import Grid

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Types of contours that have an inside."""
BETWEEN = 0.25
"""How far a contour may lie from the plane of a slice, in slices."""


def read_segmentation(path: Path, wanted: Collection[int] | None = None) -> Stored:
    """Read a DICOM-SEG: each voxel has the number of its segment, of those that are wanted (None: of all).

    Frames that are empty need not be stored: the volume covers those that are.
    """
    segmentation = _segmentation(path)
    with damaged_told(path):
        masks, affine = [], None
        numbers = segmentation.segment_numbers
        for number in (one for one in numbers if wanted is None or one in wanted):
            # Each by itself: where two overlap, highdicom's combination ends in an error.
            volume = segmentation.get_volume(segment_numbers=[number], dtype=np.float32)
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
            mask = volume.array.reshape(volume.array.shape[:3])
            masks.append(SegmentMask(_label_of(segmentation, number), int(number), mask > 0.5))
        if affine is None:
            raise InputError(f"{path}: a segmentation without segments")
        is_fractional = segmentation.SegmentationType == "FRACTIONAL"
    array, notes = combine(masks, masks[0].mask.shape)
    check_grid(path, array.shape, affine)
    if is_fractional:
        notes = (
            *notes,
            "fractional segments: a voxel of more than 0.5 counts as one of the segment",
        )
    return Stored(array, affine, notes, is_part=True)


def segmentation_names(path: Path) -> list[tuple[str, int]]:
    """Read name and number of each segment of a DICOM-SEG."""
    segmentation = _segmentation(path)
    with damaged_told(path):
        numbers = segmentation.segment_numbers
        return [(_label_of(segmentation, number), int(number)) for number in numbers]


def _segmentation(path: Path):
    highdicom = library("highdicom.seg", path)
    with damaged_told(path):
        return highdicom.segread(only_file(path))


def _label_of(segmentation, number: int) -> str:
    return str(segmentation.get_segment_description(number).segment_label)


def contour_names(path: Path) -> list[tuple[str, int]]:
    """Read the name of each structure of an RTSTRUCT, and its place from 1, which is its value."""
    return [(name, value) for value, (name, *_) in enumerate(_contours(path), start=1)]


def read_contours(path: Path, grid: Grid | None, wanted: Collection[int] | None = None) -> Stored:
    """Fill the contours of an RTSTRUCT in on the grid of its image.

    A voxel is inside where its centre is. Contours in one slice exclude each other where they overlap, which makes
    holes.

    Parameters
    ----------
    path
        The file.
    grid
        Of the image; contours have none.
    wanted
        Values of the structures that are filled in; None: all.

    Raises
    ------
    InputError
        Without a grid, for contours that do not lie in its slices, and for a wanted structure that has contours, none
        of them closed.
    """
    if grid is None:
        raise InputError(
            f"{path}: contours (RTSTRUCT) have no voxels; expected a label map beside them, or an image, whose "
            "grid they are filled in on"
        )
    masks, notes = [], []
    for value, (name, contours, unread) in enumerate(_contours(path), start=1):
        if wanted is not None and value not in wanted:
            continue
        if unread:
            listed = ", ".join(f"{count} {kind}" for kind, count in sorted(unread.items()))
            text = f"contours of {name!r} that have no inside: {listed}; {len(contours)} closed ones are read"
            if wanted is not None and not contours:
                raise InputError(
                    f"{path}: {text}; expected CLOSED_PLANAR or CLOSEDPLANAR_XOR. Export it with closed contours"
                )
            notes.append(text)
        masks.append(SegmentMask(name, value, _filled(path, name, contours, grid)))
    array, overlaps = combine(masks, grid.shape)
    return Stored(array, grid.affine, (*notes, *overlaps))


def _contours(path: Path) -> list[tuple[str, list[np.ndarray], Counter]]:
    """Read the name of each structure, its closed contours (points in RAS mm, (point, 3)), and how many of which other types."""
    pydicom = library("pydicom", path)
    with damaged_told(path):
        content = pydicom.dcmread(only_file(path))
        names = {one.ROINumber: str(one.ROIName) for one in content.StructureSetROISequence}
        found = []
        for one in content.get("ROIContourSequence", ()):
            contours = one.get("ContourSequence", ())
            closed = [
                np.reshape(np.array(contour.ContourData, float), (-1, 3)) * (-1, -1, 1)
                for contour in contours
                if contour.ContourGeometricType in CLOSED
            ]
            kinds = Counter(str(contour.ContourGeometricType) for contour in contours)
            unread = Counter({kind: n for kind, n in kinds.items() if kind not in CLOSED})
            found.append((names[one.ReferencedROINumber], closed, unread))
    return found


def _filled(path: Path, name: str, contours: list[np.ndarray], grid: Grid) -> np.ndarray:
    """Return the voxels (i, j, k) inside of closed contours."""
    from skimage.draw import polygon2mask

    mask = np.zeros(grid.shape, bool)
    to_index = np.linalg.inv(grid.affine)
    places = [points @ to_index[:3, :3].T + to_index[:3, 3] for points in contours]
    if not places:
        return mask
    across = int(np.argmin(np.max([np.ptp(points, axis=0) for points in places], axis=0)))
    heights = np.array([points[:, across].mean() for points in places])
    slices = np.rint(heights).astype(int)
    off = max(np.abs(points[:, across] - n).max() for points, n in zip(places, slices, strict=True))
    if off > BETWEEN:
        raise InputError(
            f"{path}: contours of {name!r} lie up to {off:.2g} slices off those of the image; expected them in its "
            "slices, to a quarter: name the image that they were drawn on"
        )
    steps = np.diff(np.unique(slices))
    if len(steps) > 1 and np.median(steps) > 1:
        raise InputError(
            f"{path}: contours of {name!r} are in one of {np.median(steps):g} slices of the image; expected them in "
            "each: name the image that they were drawn on"
        )
    outside = [n for n in slices if not 0 <= n < grid.shape[across]]
    if outside:
        raise InputError(f"{path}: {len(outside)} contours of {name!r} lie outside of the image")
    planes = np.moveaxis(mask, across, 0)
    for points, number in zip(places, slices, strict=True):
        flat = np.delete(points, across, axis=1)
        planes[number] ^= polygon2mask(planes.shape[1:], flat)
    return mask
