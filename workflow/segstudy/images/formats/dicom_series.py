"""A folder of DICOM files as an image: one series of parallel, evenly spaced slices, by pydicom.

Slices are sorted by their positions. A series from which no volume at right angles can be made
without resampling or choosing is refused by name. Values are rescaled as each slice says: CT is in
Hounsfield units. PET is refused: standardised uptake values (SUV) are not computed here.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.images.formats.dicom_files import damaged_told, files_in, library
from segstudy.images.formats.stored import Stored, check_grid
from segstudy.images.grids import Grid
from segstudy.images.names import slice_numbers

UNEVEN = 0.1
"""How far a slice may lie from its even place, as a share of the spacing: positions are rounded in files."""
SAID = 0.01
"""From this share on it is told."""
PARALLEL = 1e-3
"""Largest difference of two slices' direction cosines."""
SAME_MM = 1e-3
"""Slices nearer to each other are at one position."""
BLOCK = 16
"""Slices that are put into the volume together: a line of the cache holds 16 voxels."""
_SHARED = {
    "PatientID": "patients",
    "StudyInstanceUID": "studies",
    "FrameOfReferenceUID": "frames of reference",
    "RescaleType": "units",
}
"""What all slices of a series have in common; the values themselves are in no message."""
_VARYING = {
    "TemporalPositionIdentifier": "temporal phases",
    "TriggerTime": "phases of the heart",
    "NominalPercentageOfCardiacPhase": "phases of the heart",
    "EchoTime": "echoes",
    "DiffusionBValue": "b-values",
    "ImageType": "kinds of image",
    "AcquisitionNumber": "acquisitions",
    "ContentTime": "times",
}


def read(path: Path) -> Stored:
    """Read a series as float32 (i, j, k): columns, rows, slices.

    Parameters
    ----------
    path
        Folder of one series, or a file of several frames.

    Raises
    ------
    InputError
        For other than one series of images, and for slices that make no even volume.
    """
    pydicom = library("pydicom", path)
    with damaged_told(path):
        slices = []
        for file in files_in(path):
            with damaged_told(path, f"{file.name}: not readable as DICOM"):
                slices.append(pydicom.dcmread(file))
        slices = [one for one in slices if "Rows" in one and one.Modality != "SEG"]
        _check_series(path, slices)
        for one in slices:
            if "PixelData" not in one:
                raise InputError(
                    f"{path}: {Path(one.filename).name}: a slice without voxels (PixelData); export the series again"
                )
        if "NumberOfFrames" in slices[0] and "SharedFunctionalGroupsSequence" in slices[0]:
            return _read_frames(path, slices)
        slices, affine, notes = _sorted(path, slices)
        shape = (slices[0].Columns, slices[0].Rows, len(slices))
        check_grid(path, shape, affine)
        return Stored(_voxels(path, slices, shape), affine, notes)


def sorted_headers(path: Path) -> list:
    """Read the slices of a series without their voxels, in the order in which `read` stacks them."""
    pydicom = library("pydicom", path)
    with damaged_told(path):
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files_in(path)]
        headers = [one for one in headers if "Rows" in one and one.Modality != "SEG"]
        _check_series(path, headers)
        if "SharedFunctionalGroupsSequence" in headers[0]:
            raise InputError(f"{path}: a file of several frames; expected a series of slices")
        return _sorted(path, headers)[0]


def places_by_name(path: Path) -> list[int]:
    """Return the place that each slice, as `read` stacks them, has by the numbers in the names of the files.

    Raises
    ------
    InputError
        Where the names do not count the slices without a gap.
    """
    files = [Path(one.filename) for one in sorted_headers(path)]
    numbers = slice_numbers(files, str(path))
    by_name = sorted(numbers)
    return [by_name.index(number) for number in numbers]


def read_grid(path: Path) -> Grid:
    """Read the grid of a series without its voxels."""
    pydicom = library("pydicom", path)
    with damaged_told(path):
        files = files_in(path)
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        headers = [one for one in headers if "Rows" in one and one.Modality != "SEG"]
        _check_series(path, headers)
        if "SharedFunctionalGroupsSequence" in headers[0]:
            return read(path).grid
        headers, affine, _ = _sorted(path, headers)
    grid = Grid((headers[0].Columns, headers[0].Rows, len(headers)), affine)
    check_grid(path, grid.shape, affine)
    return grid


def _check_series(path: Path, slices: Sequence) -> None:
    """Refuse what is not one series of gray slices of one size."""
    if not slices:
        raise InputError(f"{path}: no DICOM image in it; expected the slices of one series")
    series = Counter(
        (one.get("SeriesInstanceUID", ""), one.Modality, one.get("SeriesNumber")) for one in slices
    )
    if len(series) > 1:
        listed = ", ".join(
            f"number {number} ({modality}, {count} files)"
            for (_, modality, number), count in sorted(series.items(), key=lambda item: str(item))
        )
        raise InputError(
            f"{path}: {len(series)} series: {listed}; expected one. Put each into a folder of its own"
        )
    if slices[0].Modality == "PT":
        raise InputError(
            f"{path}: a PET series; standardised uptake values (SUV) are not computed here. Convert it to "
            "NIfTI in SUV, and name that"
        )
    for name, what in _SHARED.items():
        values = {str(value) for one in slices if (value := one.get(name))}
        if len(values) > 1:
            raise InputError(
                f"{path}: slices of {len(values)} {what} ({name}), though of one series; expected one. Put the files of "
                "each into a folder of its own"
            )
    _check_rescaling(path, slices)
    for what, values in {
        "voxels of several colours": {one.SamplesPerPixel for one in slices} - {1},
        "sizes": {f"{one.Columns}x{one.Rows}" for one in slices},
    }.items():
        if what == "sizes" and len(values) > 1:
            raise InputError(
                f"{path}: slices of {len(values)} sizes ({', '.join(sorted(values)[:3])}); expected one size: "
                "put a scout image (localiser) into another folder"
            )
        if what != "sizes" and values:
            raise InputError(f"{path}: {what}; expected one gray value a voxel")


def _check_rescaling(path: Path, slices: Sequence) -> None:
    """Refuse slices that do not say how their values are rescaled beside those that do, and a slope of 0."""
    for name in ("RescaleSlope", "RescaleIntercept"):
        lacking = [one for one in slices if one.get(name) is None]
        if 0 < len(lacking) < len(slices):
            raise InputError(
                f"{path}: {len(lacking)} of {len(slices)} slices have no {name}, the first in "
                f"{Path(lacking[0].filename).name}; expected it in all of a series, or in none. Export the series again"
            )
    flat = [one for one in slices if one.get("RescaleSlope") == 0]
    if flat:
        raise InputError(
            f"{path}: {len(flat)} of {len(slices)} slices have a RescaleSlope of 0, the first in "
            f"{Path(flat[0].filename).name}; expected another number. Export the series again"
        )


def _sorted(path: Path, slices: Sequence) -> tuple[list, np.ndarray, tuple[str, ...]]:
    """Sort slices along their normal.

    Returns
    -------
    slices : list
        In ascending order.
    affine : numpy.ndarray
        4x4, to RAS mm.
    notes : tuple of str
    """
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        lacking = sum(not one.get(name) for one in slices)
        if lacking:
            raise InputError(
                f"{path}: {lacking} of {len(slices)} slices have no {name}; expected slices whose place in the "
                "patient the files tell, as those of CT and MR"
            )
    by_uid = {str(one.SOPInstanceUID): one for one in slices}
    copies = len(slices) - len(by_uid)
    notes = (
        [f"{copies} of the files hold a slice that another one holds, too: left out"]
        if copies
        else []
    )
    slices = list(by_uid.values())
    directions = np.array([one.ImageOrientationPatient for one in slices], float)
    sizes = np.array([one.PixelSpacing for one in slices], float)
    if np.abs(directions - directions[0]).max() > PARALLEL:
        raise InputError(
            f"{path}: slices that are not parallel; expected one stack: put a scout image (localiser), or each "
            "plane, into a folder of its own"
        )
    if not np.allclose(sizes, sizes[0], rtol=1e-4):
        raise InputError(f"{path}: slices of different pixel sizes; expected one (PixelSpacing)")
    along_row, along_column = directions[0, :3], directions[0, 3:]
    places = np.array([one.ImagePositionPatient for one in slices], float)
    heights = places @ np.cross(along_row, along_column)
    order = np.argsort(heights, kind="stable")
    slices, places, heights = [slices[n] for n in order], places[order], heights[order]
    step, uneven = _step(path, slices, places, heights)
    notes += uneven
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * sizes[0, 1], along_column * sizes[0, 0]
    affine[:3, 2], affine[:3, 3] = step, places[0]
    return slices, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, tuple(notes)


def _step(
    path: Path, slices: Sequence, places: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Compute the way from slice to slice in mm (3,), and notes; InputError for uneven slices."""
    if len(slices) == 1:
        thickness = slices[0].get("SpacingBetweenSlices") or slices[0].get("SliceThickness")
        if not thickness:
            raise InputError(f"{path}: one slice, whose thickness the file does not tell")
        row, column = np.reshape(np.array(slices[0].ImageOrientationPatient, float), (2, 3))
        return np.cross(row, column) * float(thickness), []
    gaps = np.diff(heights)
    if gaps.min() < SAME_MM:
        raise InputError(f"{path}: {_several(slices, heights)}")
    step = (places[-1] - places[0]) / (len(places) - 1)
    off = np.linalg.norm(places - places[0] - np.outer(np.arange(len(places)), step), axis=1)
    spacing = float(np.median(gaps))
    if off.max() <= UNEVEN * spacing:
        text = f"slices lie up to {off.max():.3g} mm off their even places, of a spacing of {spacing:.4g} mm"
        return step, [text] if off.max() > SAID * spacing else []
    wide = [n for n, gap in enumerate(gaps) if gap > (1 + UNEVEN) * spacing]
    missing = [n for n in wide if abs(gaps[n] / spacing - np.rint(gaps[n] / spacing)) < UNEVEN]
    if missing and len(missing) == len(wide) and gaps.min() > (1 - UNEVEN) * spacing:
        count = int(sum(np.rint(gaps[n] / spacing) - 1 for n in missing))
        raise InputError(
            f"{path}: {count} slice{'s' * (count > 1)} missing, the first at {heights[missing[0]] + spacing:.6g} mm along the "
            f"normal, of {len(slices) + count} with a spacing of {spacing:.4g} mm; export the series again"
        )
    along = np.abs(
        heights
        - heights[0]
        - np.arange(len(places)) * (heights[-1] - heights[0]) / (len(places) - 1)
    )
    if along.max() <= UNEVEN * spacing:
        beside = Path(slices[int(np.argmax(off))].filename).name
        raise InputError(
            f"{path}: slices are shifted in their plane: {beside} lies {off.max():.4g} mm beside the line of the others; expected "
            f"a straight stack, to {UNEVEN:.0%} of the spacing of {spacing:.4g} mm: export the series again, or resample it"
        )
    raise InputError(
        f"{path}: uneven slices: from {gaps.min():.4g} to {gaps.max():.4g} mm apart; expected one spacing, to "
        f"{UNEVEN:.0%}. Resample the series to even slices, as dcm2niix does (its file named _Eq)"
    )


def _several(slices: Sequence, heights: np.ndarray) -> str:
    """Say what differs between slices at one position."""
    count = int(np.max(np.unique(np.round(heights / SAME_MM), return_counts=True)[1]))
    first = [
        one for one, height in zip(slices, heights, strict=True) if height - heights[0] < SAME_MM
    ]
    varying = [
        f"{len(values)} {what} ({name})"
        for name, what in _VARYING.items()
        if len(values := {str(one.get(name)) for one in first}) > 1
    ]
    found = varying[0] if varying else "they differ in no field that is looked at"
    return (
        f"up to {count} slices at one position: {found}; expected one. Put each volume into a folder of its own, as "
        "a channel or a case"
    )


def _voxels(path: Path, slices: list, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode and rescale slices (i, j, k), which are taken out of the list to free their memory."""
    volume = np.empty(shape, np.float32)
    block = np.empty((BLOCK, shape[1], shape[0]), np.float32)
    for start in range(0, shape[2], BLOCK):
        count = min(BLOCK, shape[2] - start)
        for n in range(count):
            with damaged_told(
                path, f"{Path(slices[start + n].filename).name}: not readable as DICOM"
            ):
                block[n] = _rescaled(path, slices[start + n])
            slices[start + n] = None
        volume[:, :, start : start + count] = block[:count].T
    return volume


def _rescaled(path: Path, one) -> np.ndarray:
    """Return the values of a slice (row, column); what pydicom cannot decompress, the GDCM in SimpleITK does."""
    try:
        stored = one.pixel_array
    except (RuntimeError, NotImplementedError):
        return _by_gdcm(path, one)
    slope, intercept = one.get("RescaleSlope"), one.get("RescaleIntercept")
    values = np.float32(1 if slope is None else slope) * stored
    values += np.float32(0 if intercept is None else intercept)
    return values


def _by_gdcm(path: Path, one) -> np.ndarray:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(one.filename), imageIO="GDCMImageIO")
    except RuntimeError:
        raise InputError(
            f"{path}: {Path(one.filename).name}: damaged, or compressed as cannot be read "
            f"({one.file_meta.TransferSyntaxUID.name}); export the series uncompressed"
        ) from None
    return SimpleITK.GetArrayFromImage(image)[0]


def _read_frames(path: Path, slices: Sequence) -> Stored:
    """Read a file of several frames (enhanced CT or MR) by highdicom, which checks that they are even."""
    highdicom = library("highdicom", path)
    if len(slices) > 1:
        raise InputError(f"{path}: {len(slices)} files of several frames; expected one, or slices")
    image = highdicom.Image.from_dataset(slices[0], copy=False)
    try:
        volume = image.get_volume(dtype=np.float32)
    except (RuntimeError, ValueError):  # whose words may hold values of fields
        # These name what is wrong of the frames' places.
        frames, affine, _ = _sorted(path, _frames(slices[0]))
        check_grid(path, (slices[0].Columns, slices[0].Rows, len(frames)), affine)
        raise InputError(
            f"{path}: its {image.number_of_frames} frames make no volume; expected one stack of parallel, evenly "
            "spaced frames: export each stack as a file or series of its own"
        ) from None
    # highdicom has slices, rows, columns, in whichever direction; here slices ascend along rows x columns.
    array, affine = volume.array.transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]]
    if np.linalg.det(affine[:3, :3]) < 0:
        array = array[:, :, ::-1]
        affine[:3, 3] += affine[:3, 2] * (array.shape[2] - 1)
        affine[:3, 2] *= -1
    array, affine = np.ascontiguousarray(array), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    check_grid(path, array.shape, affine)
    return Stored(array, affine)


_OF_FRAMES = (
    ("PlanePositionSequence", "ImagePositionPatient", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing", "PixelSpacing"),
    ("PixelMeasuresSequence", "SliceThickness", "SliceThickness"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    (
        "CardiacSynchronizationSequence",
        "NominalPercentageOfCardiacPhase",
        "NominalPercentageOfCardiacPhase",
    ),
)
"""Functional group and field of a frame, and the field of a slice that says the same."""


def _frames(content) -> list:
    """Return the frames of a file as slices that tell their places, without voxels."""
    shared = content.SharedFunctionalGroupsSequence
    frames = []
    for number, own in enumerate(content.PerFrameFunctionalGroupsSequence, start=1):
        frame = type(own)()
        frame.SOPInstanceUID, frame.filename = f"1.{number}", f"frame {number}"
        for group, field, name in _OF_FRAMES:
            items = own.get(group) or next((one.get(group) for one in shared), None)
            if items and items[0].get(field) is not None:
                setattr(frame, name, items[0].get(field))
        frames.append(frame)
    return frames
