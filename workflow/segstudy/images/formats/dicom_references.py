"""What a DICOM object takes over from the series that it refers to: fields that may be empty, and UIDs that may not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.images.formats.dicom_files import damaged_told, library
from segstudy.images.formats.dicom_series import sorted_headers

MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Fields of type 2: of an object that lacks one, it is taken as empty."""
UIDS = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""Fields of type 1, without which nothing can refer to a series."""
_SEXES = ("", "M", "F", "O")


def referred_to(path: Path) -> tuple[list, tuple[str, ...]]:
    """Read the slices of a series without their voxels, with all fields that an object which refers to them needs.

    Parameters
    ----------
    path
        Folder of the series.

    Returns
    -------
    slices : list of pydicom.Dataset
        In the order in which the series is stacked. A field that may be empty and is missing, or holds no
        date, time or sex as DICOM writes them, is empty.
    notes : tuple of str
        Which fields are empty for what they hold, without what that is.

    Raises
    ------
    InputError
        Where a UID is missing that may not be empty, and as `sorted_headers` does.
    """
    valuerep = library("pydicom.valuerep", path)
    slices = sorted_headers(path)
    with damaged_told(path):
        lacking = {name: sum(not one.get(name) for one in slices) for name in UIDS}
        listed = [f"{name} ({count})" for name, count in lacking.items() if count]
        if listed:
            raise InputError(
                f"{path}: of {len(slices)} slices lack: {', '.join(listed)}; expected these fields in each, "
                "without which no DICOM-SEG can refer to the series: export it again, or write nifti or seg.nrrd"
            )
        tests = {
            "PatientBirthDate": valuerep.DA,
            "StudyDate": valuerep.DA,
            "StudyTime": valuerep.TM,
            "PatientSex": _SEXES.index,
        }
        odd = [name for name, test in tests.items() if _is_odd(slices, name, test)]
        for one in slices:
            for name in MAY_BE_EMPTY:
                if name in odd or one.get(name) is None:
                    setattr(one, name, "")
    return slices, tuple(
        f"{name} is not as DICOM writes it, and is left empty in the DICOM-SEG" for name in odd
    )


def _is_odd(slices: Sequence, name: str, test: Any) -> bool:
    try:
        for value in {str(one.get(name) or "") for one in slices}:
            test(value)
    except ValueError:
        return True
    return False
