"""Conversion of a dataset's files: volumes from slices, label maps from masks, labels in the study's values."""

import filecmp
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.cases import Case
from segstudy.download.label_names import value_map
from segstudy.download.layouts import Listing
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.images import headers
from segstudy.images.files import (
    Image,
    compare_grids,
    read_grid,
    read_label,
    within_memory,
    write_label,
    write_nifti,
)
from segstudy.images.grids import Grid
from segstudy.images.headers import one_line, open_nifti
from segstudy.images.integer_labels import to_integers
from segstudy.images.names import NIFTI, times
from segstudy.images.segments import apply_value_map, replace_values
from segstudy.images.value_checks import REFUSED, WARNING
from segstudy.log import log, progress
from segstudy.study import Dataset


def stack_slices(listing: Listing, pixel_mm: float, slice_mm: float) -> Listing:
    """Write the volumes that a listing stacks from slices; cases whose slices do not fit are refused.

    A pixel's column runs along the first axis and its row along the second, towards left and back
    as in a radiologist's picture; slices run along the third. A slice of NIfTI keeps its axes.

    Parameters
    ----------
    listing
        With `stacks`.
    pixel_mm, slice_mm
        Voxel size in the slice, and across it.

    Returns
    -------
    Listing
        Without `stacks`.
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
    """Stack slices (i, j) to a volume (i, j, slice)."""
    slices = [read_slice(file) for file in files]
    for file, pixels in zip(files, slices, strict=True):
        if pixels.shape != slices[0].shape:
            raise InputError(
                f"{file}: {times(pixels.shape)} pixels; expected {times(slices[0].shape)}, as in "
                f"{files[0].name}"
            )
    if is_label:
        slices = [to_integers(pixels, file)[0] for file, pixels in zip(files, slices, strict=True)]
    for file, pixels in zip(files, slices, strict=True):
        if is_label and not 0 <= pixels.min() <= pixels.max() <= 65535:
            raise InputError(
                f"{file}: values from {pixels.min():g} to {pixels.max():g}; expected whole numbers from 0 to "
                "65535 in a label"
            )
    volume = np.stack(slices, axis=2)
    if is_label:
        return volume.astype(np.uint16 if volume.max() > 255 else np.uint8)
    return volume if volume.dtype == np.uint8 else volume.astype(np.float32)


def read_slice(file: Path) -> np.ndarray:
    """Read a gray picture as (column, row), or a NIfTI slice as (i, j).

    Raises
    ------
    InputError
        For a file that cannot be read, is coloured or is no single slice.
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


def merge_masks(listing: Listing, structures: Mapping[str, int], threads: int = 1) -> Listing:
    """Write the label maps that a listing makes of masks; cases whose masks do not fit are refused.

    A voxel is a structure's where a mask of it is not 0. Where masks of several structures overlap, the
    first structure has the voxel, and a warning counts them.

    Parameters
    ----------
    listing
        With `masks`.
    structures
        Structure -> its value in the label maps.
    threads
        Cases that are read at a time.

    Returns
    -------
    Listing
        Without `masks`.
    """

    def merge(case: Case) -> list[Problem]:
        problems: list[Problem] = []
        masks = listing.masks[case.label]

        def note(file: Path, text: str, verdict: str = WARNING) -> None:
            name = file.relative_to(listing.root).as_posix()
            problems.append(Problem(case.case, name, text, verdict))

        try:
            with within_memory(case.case, masks.image):
                grid = read_grid(masks.image)
                label = _merged(masks.structures, structures, grid, note)
            _write(case.label, label, grid.affine, like=masks.image)
        except InputError as error:
            file, _, text = str(error).partition(": ")
            problems.append(Problem(case.case, file.removeprefix(f"{listing.root}/"), text))
        return problems

    with ThreadPoolExecutor(max_workers=max(threads, 1)) as pool:
        running = [pool.submit(merge, case) for case in listing.cases]
        found = [task.result() for task in progress(running, "merge masks")]
    good = [
        case
        for case, problems in zip(listing.cases, found, strict=True)
        if not any(problem.verdict == REFUSED for problem in problems)
    ]
    problems = [*listing.problems, *(problem for own in found for problem in own)]
    return replace(listing, cases=good, problems=problems, masks={})


def _merged(
    masks: Mapping[str, Sequence[Path]],
    structures: Mapping[str, int],
    grid: Grid,
    note: Callable[[Path, str], None],
) -> np.ndarray:
    """Merge masks of structures, in order of precedence, to a label map (i, j, k) on the grid of their image."""
    label = np.zeros(grid.shape, np.uint16)
    names = {value: name for name, value in structures.items()}
    for structure, files in masks.items():
        region = np.zeros(grid.shape, bool)
        for file in files:
            mask = read_label(file)
            difference = compare_grids(grid, mask.grid)
            if difference:
                raise InputError(f"{file}: other grid than its image (named first): {difference}")
            held = [str(value) for value in np.unique(mask.array[mask.array != 0])]
            if len(held) > 1:
                shown = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
                note(file, f"a mask with several values ({shown}): all are taken for {structure}")
            if mask.integer_deviation:
                note(file, f"numbers up to {mask.integer_deviation:.3g} off whole ones are rounded")
            for text in headers.warnings(file):
                note(file, text)
            region |= mask.array != 0
        counts = np.bincount(label[region])
        for value in np.flatnonzero(counts):
            if value:
                first = names[int(value)]
                text = (
                    f"the masks of {first} and {structure} overlap; the {counts[value]} voxels that both have are {first}, "
                    "which stands first in source.masks"
                )
                note(files[0], text)
        label[region & (label == 0)] = structures[structure]
    return label.astype(np.uint16 if label.max(initial=0) > 255 else np.uint8)


def in_study_values(
    label: np.ndarray, path: Path, dataset: Dataset
) -> tuple[np.ndarray, list[str]]:
    """Convert a label map to the values of the study.

    Names in the header of a file of 3D Slicer decide first (`label_names.value_map`), then the
    values of each structure become one.

    Returns
    -------
    label : numpy.ndarray
        (i, j, k).
    doubts : list of str
        Warnings.

    Raises
    ------
    InputError
        Where the names contradict the study.
    """
    moved, doubts = value_map(path, dataset)
    return replace_values(apply_value_map(label, moved, path), dataset.merged_labels), doubts


def write_converted(
    case: Case, labels: Mapping[Path, Image], dataset: Dataset, derived: Path
) -> None:
    """Write a case's labels to `derived`, as far as they were converted to the study's values.

    Parameters
    ----------
    case
        As delivered.
    labels
        Label file of the case -> its label map in the study's values, as `in_study_values` returned it.
    dataset
        The dataset's settings.
    derived
        The folder.
    """
    converted = converted_case(case, dataset, derived)
    for file, new in (
        (case.label, converted.label),
        (case.reference_label, converted.reference_label),
    ):
        if new != file:
            _write(new, labels[file].array, labels[file].affine, like=file)


def converted_case(case: Case, dataset: Dataset, derived: Path) -> Case:
    """Replace labels of a case by those that `write_converted` writes.

    A label is converted where a structure has several values, and where names in a header say other
    ones; all others stay as delivered.
    """
    folders = {"label": "merged_labels", "reference_label": "merged_reference_labels"}
    files = {
        field: derived / folder / f"{case.case}.nii.gz"
        for field, folder in folders.items()
        if (file := getattr(case, field)) is not None
        and (dataset.merged_labels or value_map(file, dataset)[0])
    }
    return replace(case, **files)


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
