"""Names of cases, image files and target grids, and seeds from names; light, since the workflow imports it."""

import hashlib
import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from segstudy.errors import InputError

NIFTI = (".nii", ".nii.gz")
PAIR = ".hdr"
"""The header of a NIfTI pair, whose voxels lie in the `.img` beside it."""
FREESURFER = (".mgz", ".mgh")
SLICER = ".seg.nrrd"
META, NRRD = (".mha", ".mhd"), (".nrrd", ".nhdr")
DICOM = ".dcm"
OTHER = (PAIR, *FREESURFER, *NRRD, *META, DICOM)
PICTURES = (".png", ".tif", ".tiff")
_ENDINGS = sorted((*NIFTI, *OTHER, SLICER), key=len, reverse=True)


SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SPELT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ø": "o", "Ø": "O",
     "æ": "ae", "Æ": "Ae", "å": "a", "Å": "A", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)  # fmt: skip


def ending(path: Path | str) -> str:
    """Return the ending of an image file's name in small letters, such as `.nii.gz`; empty for other files."""
    name = Path(path).name
    known = next((known for known in _ENDINGS if name.lower().endswith(known)), "")
    parts = name[len(name) - len(known) :].split(".")[1:]
    # nibabel finds `.NII.gz`, and not `.Nii`.
    return known if all(part in (part.lower(), part.upper()) for part in parts) else ""


def is_image(path: Path | str) -> bool:
    """Tell whether a name ends as that of a volume or a DICOM file does, in small letters or capitals."""
    return bool(ending(path))


def by_numbers(path: Path | str) -> list[tuple[int, str]]:
    """Return what sorts names by the numbers in them: `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", Path(path).name)
    return [(int(part), part) if number % 2 else (0, part) for number, part in enumerate(parts)]


def slice_numbers(files: Sequence[Path], what: str) -> list[int]:
    """Read the number of each file of a stack: the one number that differs in their names.

    Parameters
    ----------
    files
        Of one folder.
    what
        The stack, for the error.

    Raises
    ------
    InputError
        Where the names do not count the slices, by equal steps.
    """
    if len(files) < 2:
        return [int(part) for part in re.findall(r"\d+", _untyped(files[0]))[-1:]] if files else []
    parts = [re.split(r"(\d+)", _untyped(file)) for file in files]
    if len({tuple(part.casefold() for part in one[::2]) for one in parts}) > 1:
        differing = []
    else:
        columns = zip(*(map(int, one[1::2]) for one in parts), strict=True)
        differing = [column for column in columns if len(set(column)) > 1]
    shown = f"{files[0].name}, {files[1].name}"
    if len(differing) != 1:
        raise InputError(
            f"{what}: names that do not count the slices, e.g. {shown}; expected names that differ in one number "
            "alone, that of the slice"
        )
    (numbers,) = differing
    ordered = sorted(numbers)
    steps = [after - before for before, after in itertools.pairwise(ordered)]
    step = sorted(steps)[len(steps) // 2]
    if min(steps) == 0:
        twice = ordered[steps.index(0)]
        raise InputError(f"{what}: two slices of number {twice}; expected one of each number")
    if set(steps) != {step}:
        step = min(steps)
        place = next(n for n, one in enumerate(steps) if one != step)
        raise InputError(
            f"{what}: after slice {ordered[place]} comes {ordered[place + 1]}; expected {ordered[place] + step}: numbers "
            "in the names without a gap. Add the missing slice, or number the slices anew if none is missing"
        )
    return list(numbers)


def _untyped(file: Path) -> str:
    """Return a file's name without what tells its type; a last part without a letter is none, as in `1.2.840.17`."""
    return file.stem if re.search("[A-Za-z]", file.suffix) else file.name


def is_picture(path: Path | str) -> bool:
    """Tell whether a name ends as that of a picture does: PNG, TIFF."""
    return Path(path).suffix.lower() in PICTURES


def is_nifti(path: Path | str) -> bool:
    """Tell whether a name ends as that of a NIfTI file does: `.nii`, `.nii.gz`."""
    return ending(path) in NIFTI


def composed(name: str) -> str:
    """Return a name with each accented letter as one sign (NFC); some systems write it as two (NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stem(path: Path | str) -> str:
    """Return the file's name without its image suffix, `composed`: `a.nii.gz` gives `a`."""
    name, known = composed(Path(path).name), ending(path)
    return name[: -len(known)] if known else Path(name).stem


def times(numbers: Sequence[float]) -> str:
    """Write sizes as people do: `512x512x180`."""
    return "x".join(f"{number:.6g}" for number in numbers)


def grid_name(spacing_mm: Sequence[float]) -> str:
    """Name the folder of a target spacing in mm, to six decimals: `0.977x0.977x2.5`."""
    return "x".join(f"{size:.6f}".rstrip("0").rstrip(".") for size in spacing_mm)


def parse_grid(name: str) -> tuple[float, float, float]:
    """Read the spacing in mm from a name that `grid_name` made; InputError for any other name."""
    try:
        spacing = tuple(float(size) for size in name.split("x"))
    except ValueError:
        spacing = ()
    if len(spacing) != 3 or not all(0 < size < math.inf for size in spacing):
        raise InputError(f"grid {name!r}: expected three voxel sizes in mm, as in 1x1x2.5")
    return spacing


def seed_of(*names: str) -> int:
    """Compute a seed that depends on nothing but names."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:8], "big")


def safe_name(name: str) -> str:
    """Return a name of letters, digits, '.', '_' and '-' alone, a letter or digit first.

    A name that is so already stays. Umlauts are spelt out, accents left away; where letters of other scripts are
    left away, a digest of the whole name stands behind what is left, so that two names stay two.
    """
    if SAFE_NAME.fullmatch(name):
        return name
    spelt = composed(name).translate(_SPELT)
    plain = unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()
    found = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")
    lost = any(letter.isalnum() and not _is_plain(letter) for letter in spelt)
    if found and not lost:
        return found
    return f"{found or 'case'}_{hashlib.sha256(composed(name).encode()).hexdigest()[:8]}"


def _is_plain(letter: str) -> bool:
    """Tell whether something is left of a letter without its accents."""
    return bool(unicodedata.normalize("NFKD", letter).encode("ascii", "ignore"))


def named_alike(cases: Iterable[str]) -> list[list[str]]:
    """Return the names that time points of one person have, a list a person; none where all names begin alike.

    Such are names that begin alike, up to their last part, in a text with a number that other cases do not
    begin with: `P01_early` and `P01_late`, beside `P02_early`.
    """
    begins: dict[str, list[str]] = {}
    for case in cases:
        if match := re.fullmatch(r"(.*\d.*)[-_. ][^-_. ]+", case):
            begins.setdefault(match[1], []).append(case)
    return [sorted(names) for names in begins.values() if len(names) > 1] if len(begins) > 1 else []
