"""Formats of images and label maps: a module each, whose readers return `Stored`.

`Format` holds what can be asked of a file; `format_of` finds it by the file's name, and where that tells nothing, by
its content.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segstudy.images.formats import (
    dicom_files,
    dicom_labels,
    dicom_series,
    itk_files,
    nibabel_files,
    pictures,
)
from segstudy.images.formats.stored import Stored
from segstudy.images.grids import Grid
from segstudy.images.names import FREESURFER, META, NIFTI, NRRD, PAIR, SLICER, ending, is_picture

Names = list[tuple[str, int]]
"""Name and value of each segment."""


def _no_names(path: Path) -> Names:
    return []


@dataclass(frozen=True)
class Format:
    """Hold how files of a format are read.

    Parameters
    ----------
    read
        Reads voxels and place; contours are given the grid of their image.
    read_grid
        Reads the grid alone, from headers where that is possible.
    names
        Reads the names that a label file itself gives its values.
    is_volume
        Whether a file is a volume that any stage can read as it is. Of others the audit makes one.
    has_grid
        Whether a file has voxels at all.
    by_name
        Whether values are places in a list, so that only names tell which structure a segment is.
    patient
        Returns a digest of who the patient is, to compare and never to write; empty where a file does not tell.
    """

    read: Callable[..., Stored]
    read_grid: Callable[[Path], Grid]
    names: Callable[[Path], Names] = _no_names
    is_volume: bool = True
    has_grid: bool = True
    by_name: bool = False
    patient: Callable[[Path], str] = lambda path: ""

    @property
    def has_segments(self) -> bool:
        """Tell whether files may hold named segments, some of which `read` can be asked for (`wanted`)."""
        return self.names is not _no_names


def _no_grid(path: Path) -> Grid:
    return dicom_labels.read_contours(path, None).grid


_NIBABEL = Format(nibabel_files.read, nibabel_files.read_grid)
_META = Format(itk_files.read, lambda path: itk_files.read(path).grid)
_NRRD = Format(itk_files.read, lambda path: itk_files.read(path).grid, itk_files.names)
_SERIES = Format(
    dicom_series.read, dicom_series.read_grid, is_volume=False, patient=dicom_files.patient
)
_PICTURES = Format(pictures.read, pictures.read_grid, is_volume=False)
_SEGMENTATION = Format(
    dicom_labels.read_segmentation,
    lambda path: dicom_labels.read_segmentation(path).grid,
    dicom_labels.segmentation_names,
    is_volume=False,
    by_name=True,
)
_CONTOURS = Format(
    dicom_labels.read_contours,
    _no_grid,
    dicom_labels.contour_names,
    is_volume=False,
    has_grid=False,
    by_name=True,
)
_BY_ENDING = {
    **dict.fromkeys((*NIFTI, PAIR, *FREESURFER), _NIBABEL),
    **dict.fromkeys((SLICER, *NRRD), _NRRD),
    **dict.fromkeys(META, _META),
}


def format_of(path: Path) -> Format:
    """Return the format of a file that `unreadable.why_unreadable` has nothing against."""
    known = ending(path)
    if known in _BY_ENDING and not path.is_dir():
        return _BY_ENDING[known]
    if is_picture(path) or (path.is_dir() and pictures.pictures_in(path)):
        return _PICTURES
    if path.is_file() or path.is_dir():
        kind = dicom_files.object_class(path)
        if kind in dicom_files.SEGMENTATION:
            return _SEGMENTATION
        if kind == dicom_files.CONTOURS:
            return _CONTOURS
    return _SERIES
