"""Files that are made of a dataset's own, which stay as they are: volumes of slices, labels with merged values.

A file whose content would not change is left alone, with its time: what was computed from it is
not computed again.
"""

import filecmp
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.cases import Case
from segstudy.download.label_names import value_map
from segstudy.download.layouts import Listing
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.images.files import read_label, write_label, write_nifti
from segstudy.images.headers import one_line, open_nifti
from segstudy.images.integer_labels import to_integers
from segstudy.images.names import NIFTI, times
from segstudy.images.segments import apply_value_map, replace_values
from segstudy.log import log, progress
from segstudy.study import Dataset


def stack_slices(listing: Listing, pixel_mm: float, slice_mm: float) -> Listing:
    """Write the volumes that a listing wants of slices; cases whose slices do not fit are refused.

    A pixel's column runs along the first axis and its row along the second, towards left and back
    as in a radiologist's picture; slices run along the third. A slice of NIfTI keeps its axes.
    """
    affine = np.diag([-pixel_mm, -pixel_mm, slice_mm, 1.0])
    good, problems = [], list(listing.problems)
    for case in progress(listing.cases, "stack slices"):
        try:
            image, label = (
                _stack([*listing.stacks[file]], file == case.label)
                for file in (case.images[0], case.label)
            )
        except InputError as error:
            file, _, text = str(error).partition(": ")
            problems.append(Problem(case.case, file.removeprefix(f"{listing.root}/"), text))
            continue
        _write(case.images[0], image, affine)
        _write(case.label, label, affine)
        good.append(case)
    return replace(listing, cases=good, problems=problems, stacks={})


def _stack(files: Sequence[Path], is_label: bool) -> np.ndarray:
    """Slices (i, j) as a volume (i, j, slice)."""
    slices = [read_slice(file) for file in files]
    for file, one in zip(files, slices, strict=True):
        if one.shape != slices[0].shape:
            raise InputError(
                f"{file}: {times(one.shape)} pixels; expected {times(slices[0].shape)}, as in "
                f"{files[0].name}"
            )
    if is_label:
        slices = [to_integers(one, file)[0] for file, one in zip(files, slices, strict=True)]
    for file, one in zip(files, slices, strict=True):
        if is_label and not 0 <= one.min() <= one.max() <= 65535:
            raise InputError(
                f"{file}: values from {one.min():g} to {one.max():g}; expected whole numbers from 0 to "
                "65535 in a label"
            )
    volume = np.stack(slices, axis=2)
    if is_label:
        return volume.astype(np.uint16 if volume.max() > 255 else np.uint8)
    return volume if volume.dtype == np.uint8 else volume.astype(np.float32)


def read_slice(file: Path) -> np.ndarray:
    """A gray picture as (column, row), or a NIfTI slice as (i, j).

    Raises InputError for a file that cannot be read, is coloured or is no single slice.
    """
    if file.name.endswith(NIFTI):
        try:
            array = np.asarray(open_nifti(file).dataobj)
        except InputError:
            raise
        except Exception as error:  # of a dozen kinds, by what is damaged
            raise InputError(f"{file}: not readable as an image ({one_line(error)})") from None
        array = array.squeeze()
        if array.ndim != 2 or array.dtype.kind not in "iuf":
            raise InputError(f"{file}: {times(array.shape)} {array.dtype}; expected a gray slice")
        return array
    import SimpleITK

    try:
        picture = SimpleITK.ReadImage(str(file), imageIO="PNGImageIO")
    except Exception:
        raise InputError(f"{file}: not readable as a PNG picture") from None
    if picture.GetDimension() != 2 or picture.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{file}: a coloured picture; expected one gray value a pixel")
    return SimpleITK.GetArrayFromImage(picture).T


def in_study_values(
    label: np.ndarray, path: Path, dataset: Dataset
) -> tuple[np.ndarray, list[str]]:
    """A label map with the values of the study, and what is doubtful about them.

    Names in the header of a file of 3D Slicer decide first (`label_names.value_map`), then the values
    of each structure become one. Raises InputError where the names contradict the study.
    """
    moved, doubts = value_map(path, dataset)
    return replace_values(apply_value_map(label, moved, path), dataset.merged_labels), doubts


def write_merged(cases: Sequence[Case], dataset: Dataset, derived: Path) -> list[Case]:
    """The cases with labels in the study's values: written to `derived` where they are not so already.

    That is where a structure has several values, and where names in a header say other ones.
    """
    found = []
    for case in progress(cases, "merge labels") if dataset.merged_labels else cases:
        files = {"merged_labels": case.label, "merged_reference_labels": case.reference_label}
        new = dict(files)
        for folder, file in files.items():
            if file is not None and (dataset.merged_labels or value_map(file, dataset)[0]):
                label = read_label(file)
                new[folder] = derived / folder / f"{case.case}.nii.gz"
                array, _ = in_study_values(label.array, file, dataset)
                _write(new[folder], array, label.affine, like=file)
        label, reference = new.values()
        found.append(replace(case, label=label, reference_label=reference))
    return found


def remove_others(derived: Path, cases: Sequence[Case]) -> None:
    """Remove derived files that no case has any more."""
    wanted = {path.resolve() for case in cases for path in case.files}
    for path in sorted(derived.glob("*/*.nii.gz")):
        if path.resolve() not in wanted:
            log.info("removed %s: no case has it any more", path)
            path.unlink()


def _write(path: Path, array: np.ndarray, affine: np.ndarray, like: Path | None = None) -> None:
    fresh = path.with_name(f".fresh-{path.name}")
    try:
        if array.dtype.kind == "u":
            write_label(fresh, array, affine, like)
        else:
            write_nifti(fresh, array, affine, like)
        if path.exists() and filecmp.cmp(fresh, path, shallow=False):
            return
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
