"""The placement of an image by its header, and doubts about it.

NIfTI: the sform places an image where its code is above 0, else the qform, else the voxel sizes
(pixdim) alone, about the centre, with the first axis to the left; as in nibabel. Other programs
choose otherwise (ITK takes voxel sizes from pixdim), so a warning names each disagreement.

Lengths are millimetres. Where a header names another unit, programs differ (ITK converts, nibabel
and FSL do not), and the unit is often wrong. So the length of the image decides: by the unit 1 mm
to 3 m, as millimetres 5 mm to 3 m are taken for real. Where one reading is left, it is taken with
a warning; otherwise the file is refused with both readings. An unknown unit is refused.

Headers refused here and in `grids.unusable` are refused wherever a file is read; `warnings` are
logged by audit, infer and metrics.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np

from segstudy.errors import InputError
from segstudy.images.grids import (
    LEAST_MM,
    LONGEST_MM,
    SHORTEST_MM,
    Grid,
    compare_grids,
    longest_mm,
)
from segstudy.images.names import (
    FREESURFER,
    NIFTI,
    NRRD,
    PAIR,
    SLICER,
    ending,
    is_nifti,
    times,
)
from segstudy.images.unreadable import why_unreadable
from segstudy.log import log

PLACEMENT_TOLERANCE_MM = 0.1  # between the header's two placements; quaternions are inexact
PIXDIM_TOLERANCE = 1e-3  # between voxel sizes by sform and by pixdim, as between two grids
UNITS_MM = {
    **{"meter": 1000.0, "inch": 25.4, "centimeter": 10.0, "mm": 1.0},
    **{"micron": 1e-3, "nanometer": 1e-6},
}
_UNIT_NAMES = {
    **dict.fromkeys(("m", "metre"), "meter"),
    **dict.fromkeys(("in", "inches", '"'), "inch"),
    **dict.fromkeys(("cm", "centimetre"), "centimeter"),
    **dict.fromkeys(("", "?", "millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("um", "µm", "μm", "micrometer", "micrometre"), "micron"),
    **dict.fromkeys(("nm", "nanometre"), "nanometer"),
}
_NIFTI_UNITS = {0: "mm", 1: "meter", 2: "mm", 3: "micron"}
_PLACEMENT_FIELDS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
_TEXT_HEADER_BYTES = 1 << 20
# nibabel says that it takes 1 mm for 0, which is not so here: such a file is refused, or `warnings` tell.
logging.getLogger("nibabel.global").addFilter(
    lambda record: "pixdim[1,2,3]" not in record.getMessage()
)


def say_warnings(paths: Sequence[Path | str], case: str = "") -> None:
    """Log the doubts about the placement of image files."""
    for path in paths:
        for text in warnings(path):
            log.warning("%s%s: %s", f"case {case}: " if case else "", path, text)


def warnings(path: Path | str) -> list[str]:
    """List the doubts about a header's placement or lengths; empty for a file that cannot be read.

    Reading the image raises the reason.
    """
    known = ending(path)
    if not known:
        return []
    try:
        if known in FREESURFER:
            return _mgh_warnings(path)
        return _nifti_warnings(path) if known in (*NIFTI, PAIR) else _text_warnings(path)
    except InputError:
        return []


def _nifti_warnings(path: Path | str) -> list[str]:
    image = open_nifti(path)
    header, shape = image.header, _three(image.shape)
    try:
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
        stored = stored_sizes(path, image)
    except Exception as error:  # whatever nibabel makes of a damaged header
        return [f"the header's qform or sform cannot be read ({one_line(error)[:120]})"]
    texts = []
    if not sform_code and not qform_code:
        texts.append(
            "the header places the image by neither qform nor sform: which side is left is a guess"
        )
    elif sform_code:
        difference = ""
        if qform_code:
            difference = compare_grids(
                Grid(shape, qform), Grid(shape, sform), PLACEMENT_TOLERANCE_MM
            )
        if difference:
            texts.append(f"qform and sform disagree: {difference}; the sform is used")
        sform_sizes = Grid(shape, sform).spacing_mm
        sizes = np.abs(stored)
        if not np.allclose(sform_sizes[: len(sizes)], sizes, rtol=PIXDIM_TOLERANCE, atol=0):
            texts.append(
                f"voxels are {times(sform_sizes)} mm by the sform and {times(sizes)} mm by pixdim; the sform is "
                "used, while ITK-based programs use pixdim"
                + (", and 1 mm for 0" * (not sizes.all()))
            )
    if (stored < 0).any():
        texts.append(
            f"pixdim gives negative voxel sizes, {times(stored)} mm: taken as positive, while ITK-based "
            "programs mirror the image there; correct pixdim in the header"
        )
    return [*texts, *_length_warnings(_nifti_unit(header), longest_mm(shape, image.affine))]


def _mgh_warnings(path: Path | str) -> list[str]:
    try:
        with nibabel.openers.ImageOpener(path) as file:
            placed = any(file.read(30)[28:])  # goodRASFlag, which nibabel mends in silence
    except Exception:  # the reader says why
        return []
    text = (
        "the header does not say where the image lies: FreeSurfer's default is taken, coronal slices of "
        "1 mm; which side is left is a guess"
    )
    return [] if placed else [text]


def _text_warnings(path: Path | str) -> list[str]:
    fields = text_header(path)
    texts = []
    if not _has_sizes(fields):
        return []
    if not {"space", "transformmatrix", "orientation", "rotation"} & set(fields):
        texts.append(
            "the header does not say which way the axes point: which side is left is a guess"
        )
    return [*texts, *_length_warnings(_text_unit(fields), _text_length(fields))]


# --- NIfTI --------------------------------------------------------------------------------------


def open_nifti(path: Path | str) -> nibabel.Nifti1Image:
    """Open the header of a NIfTI file; voxels are read when they are used.

    Raises
    ------
    InputError
        For a file that cannot be read or holds no volume (CIFTI), and for a header without a voxel
        size or with an infinite scale, which nibabel mends in silence.
    """
    try:
        image = nibabel.load(path)
        if isinstance(image, nibabel.Nifti1Pair):
            image.shape, image.affine, image.header.get_data_dtype()
            as_stored = _as_stored(path, image)
    except Exception as error:  # nibabel's own errors are of a dozen kinds
        reason = why_unreadable(path) or f"not readable as an image ({one_line(error)})"
        raise InputError(f"{path}: {reason}") from None
    if not isinstance(image, nibabel.Nifti1Pair):
        kind = type(image).__name__.removesuffix("Image")
        raise InputError(f"{path}: a {kind} file; expected a NIfTI volume")
    _check_stored(path, as_stored)
    return image


def _as_stored(path: Path | str, image: nibabel.Nifti1Image) -> nibabel.Nifti1Header:
    """Read the header as it stands in the file: nibabel's own has pixdim and scale mended."""
    with nibabel.openers.ImageOpener(path) as file:
        return image.header_class.from_fileobj(file, check=False)


def _check_stored(path: Path | str, header: nibabel.Nifti1Header) -> None:
    scale = [float(header[name]) for name in ("scl_slope", "scl_inter")]
    if np.isinf(scale[0]) or (np.isfinite(scale[0]) and scale[0] and not np.isfinite(scale[1])):
        raise InputError(
            f"{path}: values are scaled by {scale[0]:g} and shifted by {scale[1]:g} (scl_slope, scl_inter); "
            "expected finite numbers. Correct them in the header, or export the image again"
        )
    sizes = _pixdim(header)
    if not header["sform_code"] > 0 and not (np.isfinite(sizes) & (sizes != 0)).all():
        raise InputError(
            f"{path}: the header gives no voxel size: pixdim is {times(sizes)} mm, and there is no sform "
            "that tells it. Write the right voxel sizes to the header, or export the image again"
        )


def stored_sizes(path: Path | str, image: nibabel.Nifti1Image) -> np.ndarray:
    """Read up to three voxel sizes of pixdim as they stand in the file, 0 and negative ones too."""
    return _pixdim(_as_stored(path, image))


def _pixdim(header: nibabel.Nifti1Header) -> np.ndarray:
    return np.asarray(header["pixdim"][1 : 1 + min(int(header["dim"][0]), 3)], float)


def nifti_affine(path: Path | str, image: nibabel.Nifti1Image) -> np.ndarray:
    """Compute the affine to RAS mm of a NIfTI header.

    Raises
    ------
    InputError
        Where the unit of lengths cannot be told.
    """
    affine = np.asarray(image.affine, float)
    factor = _in_mm(path, _nifti_unit(image.header), longest_mm(_three(image.shape), affine))
    return affine * [[factor], [factor], [factor], [1.0]]


def copy_placement(path: Path | str, header: nibabel.Nifti1Header) -> bool:
    """Copy the placement of a NIfTI file into a header: qform, sform, codes, voxel sizes, unit.

    Every reader then sees both images in one place, whichever of these it goes by. Voxel sizes of
    pixdim that are not above 0, which programs read differently, are replaced by those of the
    affine.

    Returns
    -------
    bool
        False for a file of another format, which leaves the header as it is.
    """
    if not is_nifti(path):
        return False
    image = open_nifti(path)
    source = image.header
    for field in _PLACEMENT_FIELDS:
        header[field] = source[field]
    header["pixdim"][:4] = source["pixdim"][:4]
    if not (stored_sizes(path, image) > 0).all():
        header["pixdim"][1:4] = np.linalg.norm(image.affine[:3, :3], axis=0)
    header["xyzt_units"] = int(source["xyzt_units"]) & 7  # the bits of the unit of length
    return True


def _nifti_unit(header: nibabel.Nifti1Header) -> str:
    code = int(header["xyzt_units"]) & 7
    return _NIFTI_UNITS.get(code, f"code {code}")


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    return tuple((*shape, 1, 1, 1)[:3])


# --- NRRD and MetaImage -------------------------------------------------------------------------


def text_header(path: Path | str) -> dict[str, str]:
    """Read the fields of an NRRD or MetaImage header, by their names in lower case."""
    fields: dict[str, str] = {}
    try:
        with Path(path).open("rb") as file:
            content = file.read(_TEXT_HEADER_BYTES)
    except OSError:
        return {}
    separator = ":" if ending(path) in (SLICER, *NRRD) else "="
    for line in content.decode("utf-8", "replace").splitlines():
        key, separated, value = line.partition(separator)
        if not line.strip() or key.strip() == "ElementDataFile":
            break
        if separated and not line.startswith("#"):
            fields.setdefault(key.strip().lower(), value.removeprefix("=").strip())
    return fields


def text_scale(path: Path | str) -> float:
    """Compute the millimetres a unit of length of an NRRD or MetaImage header.

    Raises
    ------
    InputError
        For a header without a voxel size, where ITK takes 1 mm, and for a unit that cannot be
        right.
    """
    fields = text_header(path)
    if not _has_sizes(fields):
        wanted = (
            "`space directions` or `spacings`"
            if ending(path) in (SLICER, *NRRD)
            else "`ElementSpacing`"
        )
        raise InputError(
            f"{path}: the header gives no voxel size; expected {wanted}, in mm. Add it to the header, "
            "or export the image again"
        )
    return _in_mm(path, _text_unit(fields), _text_length(fields))


def _has_sizes(fields: Mapping[str, str]) -> bool:
    """Tell whether each of three axes has a size; `none`, nan and 0, which ITK reads as 1 mm, are none."""
    return len([step for step in _text_steps(fields) if step]) >= 3


def _text_steps(fields: Mapping[str, str]) -> list[float]:
    """Read the voxel sizes along the axes in the header's own unit, 0 for a missing one."""
    if "space directions" in fields:
        words = re.findall(r"\(([^)]*)\)", fields["space directions"])
        vectors = [(_numbers(word), word.count(",") + 1) for word in words]
        return [math.hypot(*vector) if len(vector) == n else 0.0 for vector, n in vectors]
    for name in ("spacings", "elementspacing", "elementsize"):
        if name in fields:
            return [abs(step) for step in _numbers(fields[name])][-3:]
    return []


def _text_unit(fields: Mapping[str, str]) -> str:
    """Read the unit of length; the names of all units where axes differ."""
    text = next(
        (fields[name] for name in ("space units", "units", "distanceunits") if name in fields), ""
    )
    named = (re.findall(r'"([^"]*)"', text) if '"' in text else text.split())[-3:]
    units = {_unit_named(name) for name in named}
    return " and ".join(sorted(units)) or "mm"


def _unit_named(name: str) -> str:
    name = name.strip().lower().removeprefix("met_distance_units_")
    for spelling in (name, name.removesuffix("s")):
        if spelling in _UNIT_NAMES or spelling in UNITS_MM:
            return _UNIT_NAMES.get(spelling, spelling)
    return name


def _text_length(fields: Mapping[str, str]) -> float:
    """Compute the length of the longest side in the header's own unit; 0 where it cannot be told."""
    sizes = _numbers(fields.get("sizes", "") or fields.get("dimsize", ""))[-3:]
    steps = _text_steps(fields)
    return max((n * step for n, step in zip(sizes, steps, strict=False) if n > 1), default=0.0)


def _numbers(text: str) -> list[float]:
    numbers = []
    for word in text.replace(",", " ").split():
        try:
            numbers.append(float(word))
        except ValueError:
            continue
    return [number for number in numbers if math.isfinite(number)]


# --- units --------------------------------------------------------------------------------------


def _in_mm(path: Path | str, unit: str, length: float) -> float:
    if unit not in UNITS_MM:
        raise InputError(
            f"{path}: the header gives lengths in {unit}; expected one unit for all axes, of "
            f"{', '.join(UNITS_MM)}. Correct the unit, or voxel size and unit, in the header"
        )
    factor, _ = _judged(unit, length)
    if not factor:
        raise InputError(
            f"{path}: the header gives lengths in {unit}: the image would be "
            f"{length * UNITS_MM[unit]:.6g} mm long, or {length:.6g} mm were they millimetres; expected "
            f"one of both within {SHORTEST_MM:g} to {LONGEST_MM:g} mm. Correct voxel size and unit"
        )
    return factor


def _judged(unit: str, length: float) -> tuple[float, str]:
    """Return the millimetres a unit and a warning; 0 where both readings of the unit are likely, or none."""
    if unit == "mm":
        return 1.0, ""
    stated = length * UNITS_MM[unit]
    likely = [LEAST_MM <= stated <= LONGEST_MM, SHORTEST_MM <= length <= LONGEST_MM]
    if likely == [True, False]:
        return UNITS_MM[unit], (
            f"the header gives lengths in {unit}: converted to mm, which makes the image {stated:.6g} mm "
            "long; some programs take them as mm"
        )
    if likely == [False, True]:
        return 1.0, (
            f"the header gives lengths in {unit}, which would make the image {stated:.6g} mm long: "
            "they are taken as millimetres; correct the unit in the header"
        )
    return 0.0, ""


def _length_warnings(unit: str, length: float) -> list[str]:
    if unit not in UNITS_MM:
        return []  # the file is refused
    factor, text = _judged(unit, length)
    if 0 < factor * length < LEAST_MM:
        text = (
            f"the image is {length:.6g} mm long, shorter than any scanner of patients makes it: is the "
            "voxel size in mm?"
        )
    return [text] if text else []


# --- what readers say ---------------------------------------------------------------------------


def one_line(error: BaseException) -> str:
    """Reduce a reader's message to one line, without addresses in memory and places in source code."""
    text = str(error).strip()
    if "[nrrd]" in text:
        text = re.sub(r"^\[nrrd\] \w+: ", "", text.splitlines()[-1])
    elif "File cannot be read" in text:  # MetaImage, which adds the reason of some earlier error
        text = "fields of its header are missing or damaged, or voxels are"
    elif "ITK" in text or "itk" in text:
        text = re.sub(r"^.*?(?:ERROR:\s*)", "", text, flags=re.DOTALL)
    text = re.sub(
        r"\w*\(0x[0-9a-f]+\):? ?|\b0x[0-9a-f]{6,}\b|\S*/\S+\.(?:cxx|h|hxx|cpp|txx):\d+:?", "", text
    )
    return " ".join(text.split())[:200] or type(error).__name__
