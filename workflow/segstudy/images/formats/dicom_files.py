"""What all readers of DICOM share: the files of a folder, the libraries, and words without names of patients.

A message names files, numbers and geometry, never a field that may tell of a patient.
"""

import hashlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from segstudy.errors import InputError
from segstudy.images.unreadable import is_dicom

SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of DICOM-SEG: frames a segment, and label maps."""
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP class of RTSTRUCT."""


def library(name: str, path: Path) -> ModuleType:
    """Import pydicom, highdicom or a module of theirs; InputError that names the extra to install.

    What they would warn of and log holds values of fields, so they are not asked to check them, and are silent.
    """
    try:
        module, config = importlib.import_module(name), importlib.import_module("pydicom.config")
        config.settings.reading_validation_mode = config.IGNORE
        config.settings.writing_validation_mode = config.IGNORE
        for chatty in ("pydicom", "highdicom"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
            warnings.filterwarnings("ignore", module=rf"{chatty}(\.|$)")
        return module
    except ImportError:
        raise InputError(
            f"{path}: reading and writing DICOM needs {name.partition('.')[0]}; install it: "
            "pip install 'segstudy[dicom]'"
        ) from None


@contextmanager
def damaged_told(path: Path, what: str = "not readable as DICOM") -> Iterator[None]:
    """Turn what pydicom and highdicom raise for a file into an InputError, without their words, which hold values of fields.

    what: the message's first words.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of many kinds, by what is damaged
        raise InputError(
            f"{path}: {what} ({type(error).__name__}): damaged, or a field that it needs is missing "
            "or odd; export it again"
        ) from None


def files_in(path: Path) -> list[Path]:
    """List the DICOM files of a series: a file itself, or those right in a folder or in its only one with any."""
    if not path.is_dir():
        return [path]
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    files = [one for one in inside if one.is_file() and is_dicom(one)]
    folders = [found for one in inside if one.is_dir() and (found := files_in(one))]
    if not files and len(folders) > 1:
        raise InputError(
            f"{path}: {len(folders)} folders of DICOM files in it; expected one series: name its folder"
        )
    return files or (folders[0] if folders else [])


def only_file(path: Path) -> Path:
    """Return the one DICOM file that a path stands for: itself, or the only one in a folder."""
    files = files_in(path)
    if len(files) != 1:
        raise InputError(f"{path}: {len(files)} DICOM files; expected one")
    return files[0]


def object_class(path: Path) -> str:
    """Read the UID of the SOP class of a file, or of the only one in a folder; empty for several files."""
    files = files_in(path)
    if len(files) != 1 or not is_dicom(files[0]):
        return ""
    pydicom = library("pydicom", path)
    with damaged_told(path):
        header = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return str(header.get("SOPClassUID", ""))


def patient(path: Path) -> str:
    """Return, for a DICOM file or series, a digest that two DICOM objects share where their PatientID is the same; empty without one.

    It serves to compare files and is written nowhere: whoever knows the form of a hospital's
    numbers can find the number from its digest.
    """
    pydicom = library("pydicom", path)
    file = files_in(path)[0]
    with damaged_told(path):
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"])
        name = str(header.get("PatientID", "") or "").strip()
    return hashlib.sha256(name.encode()).hexdigest() if name else ""
