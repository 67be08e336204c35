"""Conversion of a dataset's files: volumes from slices, label maps from masks, labels in the study's values."""

import filecmp
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segstudy.cases import Case
from segstudy.download.file_layout import Masks
from segstudy.download.label_names import value_map
from segstudy.download.layouts import Listing
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.images import headers
from segstudy.images.files import (
    Image,
    other_numbers,
    read_grid,
    read_image,
    read_label,
    within_memory,
    write_label,
    write_nifti,
)
from segstudy.images.fitting import on_grid, slice_by_slice
from segstudy.images.formats import dicom_series, format_of, pictures
from segstudy.images.grids import Grid
from segstudy.images.headers import one_line, open_nifti
from segstudy.images.integer_labels import to_integers
from segstudy.images.names import is_nifti, times
from segstudy.images.segments import (
    apply_value_map,
    is_name,
    named_segments,
    replace_values,
)
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
    if is_nifti(file):
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


def merge_masks(
    listing: Listing,
    structures: Mapping[str, int],
    threads: int = 1,
    resample: bool = False,
    spacing_mm: Sequence[float] = (),
) -> Listing:
    """Write the label maps that a listing makes of masks; cases whose masks do not fit are refused.

    A voxel is a structure's where a mask of it is not 0, or a probability above its threshold. Where masks of several structures overlap, the
    first structure has the voxel, and a warning counts them. Of a file that names its segments, the one that is called
    as the structure is the mask.

    Parameters
    ----------
    listing
        With `masks`.
    structures
        Structure -> its value in the label maps.
    threads
        Cases that are read at a time.
    resample
        Whether masks on another grid than their image are resampled to it.
    spacing_mm
        Voxel size of pictures, which do not tell it.

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
                on_image = OnImage.of(masks.image, resample, spacing_mm)
                label = _merged(masks, structures, on_image, note)
            _write(case.label, label, on_image.grid.affine, like=masks.image)
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


@dataclass(frozen=True)
class OnImage:
    """Bring masks to the grid of their image.

    Parameters
    ----------
    image
        Its file.
    grid
        Of the image.
    resample
        Whether masks on other grids are resampled.
    spacing_mm
        Voxel size of pictures.
    slice_numbers
        Of the image, where it is a stack of pictures.
    """

    image: Path
    grid: Grid
    resample: bool
    spacing_mm: Sequence[float]
    slice_numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, image: Path, resample: bool, spacing_mm: Sequence[float]) -> "OnImage":
        """Read the grid of an image; that of pictures has voxels of the size given."""
        grid = read_grid(image)
        if format_of(image).read is not pictures.read:
            return cls(image, grid, resample, spacing_mm)
        stored = pictures.read(image)
        if spacing_mm:
            grid = Grid(grid.shape, grid.affine @ np.diag([*spacing_mm, 1.0]))
        return cls(image, grid, resample, spacing_mm, stored.slice_numbers)

    def region(self, file: Path, mask: Image, note: Callable[[Path, str], None]) -> np.ndarray:
        """Return where a mask is not 0, on the image's grid; what was changed is noted."""
        text = other_numbers(self.slice_numbers, mask.slice_numbers)
        if text:
            raise InputError(f"{file}: {text} of its image")
        try:
            if not mask.has_spacing and format_of(self.image).read is dicom_series.read:
                mask = slice_by_slice(mask, self.image, self.grid)
            elif self.spacing_mm:
                mask = mask.with_spacing(self.spacing_mm)
            found = on_grid(mask, self.grid, self.resample)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        for text in found.notes:
            note(file, text)
        return found.array != 0


def _merged(
    masks: Masks,
    structures: Mapping[str, int],
    on_image: OnImage,
    note: Callable[[Path, str], None],
) -> np.ndarray:
    """Merge masks of structures, in order of precedence, to a label map (i, j, k) on the grid of their image."""
    label = np.zeros(on_image.grid.shape, np.uint16)
    names = {value: name for name, value in structures.items()}
    for structure, files in masks.structures.items():
        region = np.zeros(label.shape, bool)
        for file in files:
            if file in masks.thresholds:
                region |= on_image.region(file, _probable(file, masks.thresholds[file]), note)
            else:
                mask = _masked(file, structure, on_image.grid, note)
                region |= on_image.region(file, mask, note)
            for text in headers.warnings(file):
                note(file, text)
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


def _masked(file: Path, structure: str, grid: Grid, note: Callable[[Path, str], None]) -> Image:
    """Read a mask: 1 where the structure is; contours are filled in on the grid of the image."""
    mask = read_label(file, grid, lambda path: _segments_of(path, structure))
    wanted = _segments_of(file, structure)
    if wanted is not None:
        return replace(mask, array=np.isin(mask.array, list(wanted)).astype(np.uint8))
    held = [str(value) for value in np.unique(mask.array[mask.array != 0])]
    if len(held) > 1:
        shown = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
        note(file, f"a mask with several values ({shown}): all are taken for {structure}")
    if mask.integer_deviation:
        note(file, f"numbers up to {mask.integer_deviation:.3g} off whole ones are rounded")
    return replace(mask, array=(mask.array != 0).astype(np.uint8))


def _segments_of(file: Path, structure: str) -> set[int] | None:
    """Return the values of the segments that are a structure's mask; None for a file that names none.

    Raises
    ------
    InputError
        Where there are several, none of which is called as the structure.
    """
    segments = named_segments(file)
    found = {value for name, value in segments if is_name(name, structure)}
    if not found and len(segments) > 1:
        listed = ", ".join(repr(name) for name, _ in segments)
        raise InputError(
            f"{file}: a mask with the segments {listed}; expected one that is called {structure}, or one alone. Call the "
            "structure in the study file as its segment is called"
        )
    return found or {value for _, value in segments} or None


def _probable(file: Path, threshold: float) -> Image:
    """Read probabilities as a mask: 1 where they are above a threshold. Raises InputError for what are none."""
    image = read_image(file)
    low, high = float(image.array.min()), float(image.array.max())
    if (
        not -1e-3 <= low <= high <= 1 + 1e-3
    ):  # resampling may overshoot a little; nan is refused too
        raise InputError(f"{file}: values from {low:g} to {high:g}; expected probabilities, 0 to 1")
    return replace(image, array=(image.array[0] > threshold).astype(np.uint8))


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


@dataclass(frozen=True)
class Derived:
    """Hold what takes the place of a delivered file.

    Parameters
    ----------
    array
        (i, j, k) of a label map or a channel, (i, j, k, channel) of an image.
    affine
        4x4, to RAS mm.
    like
        The file whose grid it keeps.
    """

    array: np.ndarray
    affine: np.ndarray
    like: Path | None = None


def derived_files(
    case: Case, image: Image | None, labels: Mapping[Path, tuple[Image, Image]]
) -> dict[Path, Derived]:
    """Return what later stages read in place of a case's delivered files.

    An image that is no volume, such as a DICOM series, becomes one. So does such a label, and one whose
    values or grid changed. All others stay as delivered.

    Parameters
    ----------
    case
        As delivered.
    image
        The case's image (channel, i, j, k), if any.
    labels
        Label file of the case -> its label map as read, and as the study has it.
    """
    found = {}
    for number, path in enumerate(case.images):
        if not format_of(path).is_volume:
            one_of_all = len(case.images) > 1 or len(image.array) == 1
            array = image.array[number] if one_of_all else np.moveaxis(image.array, 0, -1)
            found[path] = Derived(_as_integers(array), image.affine)
    for path, (read, now) in labels.items():
        if now.array is not read.array or not format_of(path).is_volume:
            like = path if now.affine is read.affine else case.images[0]
            found[path] = Derived(now.array, now.affine, like)
    return found


def write_derived(case: Case, derived: Mapping[Path, Derived], folder: Path) -> Case:
    """Write what `derived_files` returned, and return the case with these files in place of its own."""
    names = {
        case.delivered_label: "merged_delivered_labels/{}",
        case.reference_label: "merged_reference_labels/{}",
        case.label: "merged_labels/{}",
    }
    several = len(case.images) > 1
    names |= {
        path: f"images/{{}}_{number:04d}" if several else "images/{}"
        for number, path in enumerate(case.images)
    }
    files = {path: path for path in names}
    for path, new in derived.items():
        files[path] = folder / f"{names[path].format(case.case)}.nii.gz"
        _write(files[path], new.array, new.affine, new.like)
    return replace(
        case,
        images=tuple(files[path] for path in case.images),
        label=files[case.label],
        reference_label=files.get(case.reference_label),
        delivered_label=files.get(case.delivered_label),
    )


def _as_integers(array: np.ndarray) -> np.ndarray:
    """Return whole numbers of 16 bits as such, which take half the room."""
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    fits = low <= array.min() and array.max() <= high  # false for nan
    return array.astype(np.int16) if fits and np.array_equal(array, np.rint(array)) else array


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
