"""Names of label values in an image file's header, and the study's values that they stand for.

3D Slicer writes a segment's name and value into the header of a `.seg.nrrd`, in the order in which
they were drawn: the values of two patients often differ. TotalSegmentator and others write a table
of labels into the header extension of NIfTI (the XML of GIFTI and CIFTI).
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from segstudy.errors import InputError
from segstudy.images.formats import format_of
from segstudy.images.headers import open_nifti
from segstudy.images.names import is_nifti

NEAR = 0.85
"""Likeness of two words (`difflib`), from which one may be another spelling of the other."""
SHORT = 4
"""Letters of a word so short that another spelling is another word: `left`, `L4`, `xii`."""


# --- what headers say ---------------------------------------------------------------------------


def named_segments(path: Path | str) -> list[tuple[str, int]]:
    """Read the name and value of each segment that a label file names itself, in order; empty for other files.

    Such files are those of 3D Slicer, DICOM-SEG and RTSTRUCT.
    """
    return format_of(Path(path)).names(Path(path))


def nifti_names(path: Path | str) -> dict[int, str]:
    """Read the label table in a NIfTI file's header, value -> name; empty without one."""
    if not is_nifti(path):
        return {}
    try:
        extensions = open_nifti(path).header.extensions
    except InputError:
        return {}  # the reader of the file says why
    for extension in extensions:
        content = extension.get_content()
        if not isinstance(content, bytes) or b"<LabelTable>" not in content:
            continue
        try:
            table = ElementTree.fromstring(content.rstrip(b"\0 \n").decode("utf-8"))
        except (ElementTree.ParseError, UnicodeDecodeError):
            continue
        labels = [(label.get("Key", ""), label.text or "") for label in table.iter("Label")]
        values = [(label_value(key), name.strip()) for key, name in labels]
        return {value: name for value, name in values if value is not None}
    return {}


def label_value(text: str) -> int | None:
    """Read a label's value in a header or table; None for text that is no whole number from 0 on."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None


# --- which values names stand for ---------------------------------------------------------------


def is_name(said: str, structure: str) -> bool:
    """Tell whether two names are equal but for case, separators and the order of words."""
    one, other = _words(said), _words(structure)
    return "".join(one) == "".join(other) or sorted(one) == sorted(other)


def _words(name: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", parted.casefold())


def _may_be(name: str, structure: str) -> bool:
    """Tell whether a segment's name is Slicer's own (Segment_1), or another spelling of the structure's.

    Other numbers, and other short words such as sides and levels, are other structures.
    """
    return _says_nothing(name) or _nearly(name, structure)


def _says_nothing(name: str) -> bool:
    return bool(re.fullmatch(r"(segment|label)?[ _-]*\d*", name.strip().lower()))


def _nearly(name: str, structure: str) -> bool:
    numbers, others = (re.findall(r"\d+", text) for text in (name, structure))
    if numbers and others and sorted(numbers) != sorted(others):
        return False
    one, other = sorted(_words(name)), sorted(_words(structure))
    return len(one) == len(other) and all(map(_spelled_alike, one, other))


def _spelled_alike(one: str, other: str) -> bool:
    if min(len(one), len(other)) <= SHORT:
        return one == other
    return difflib.SequenceMatcher(None, one, other).ratio() >= NEAR


def value_map(
    path: Path | str,
    structures: Mapping[str, Sequence[int]],
    further: Mapping[str, int] | None = None,
    rest_is_background: bool = False,
) -> tuple[dict[int, int], list[str]]:
    """Map the values of a file that names its segments to those of the study, by these names.

    Parameters
    ----------
    path
        The label file.
    structures
        Name -> its values.
    further
        Other names of values.
    rest_is_background
        Whether a segment with another name than its value's structure becomes background; otherwise
        the file is refused.

    Returns
    -------
    values : dict
        Value in the file -> value in the study, where they differ. Empty where no segment has a
        structure's name: values are then taken as they are.
    doubts : list of str
        Warnings.

    Raises
    ------
    InputError
        Where a name contradicts the structures and leaves the meaning of a value open, and where only
        names tell (DICOM) and none is a structure's.
    """
    segments = named_segments(path)
    if not segments:
        return {}, []
    names = [*((name, list(values)) for name, values in structures.items())]
    names += [(name, [value]) for name, value in (further or {}).items()]
    meant = [
        (name, value, next((values for other, values in names if is_name(name, other)), None))
        for name, value in segments
    ]
    listed = ", ".join(f"{name!r} {value}" for name, value in segments)
    only_by_name = format_of(Path(path)).by_name
    taken = {value for *_, values in meant for value in values or ()}
    for structure in structures:
        alike = {value for name, value in segments if is_name(name, structure)}
        if len(alike) > 1:
            raise InputError(
                f"{path}: segments in the header are {listed}: {len(alike)} are called as {structure}; expected one. Merge them, "
                "or give each a name of its own"
            )
    for name, value, values in meant:
        near = [
            structure
            for structure, its in structures.items()
            if values is None
            and not taken.intersection(its)
            and (only_by_name or value not in its)
            and not _says_nothing(name)
            and _nearly(name, structure)
        ]
        if near:
            raise InputError(
                f"{path}: segments in the header are {listed}: {name!r} is nearly called as {near[0]}, whose value is "
                f"{structures[near[0]][0]}, not {value}; call the segment as the structure, or the structure as the segment"
            )
    if all(values is None for *_, values in meant):
        if only_by_name:
            raise InputError(
                f"{path}: segments are {listed}: none is called as a structure ({', '.join(structures)}); call "
                "the structures in the study file as the segments are called"
            )
        return {}, [
            f"segments in the header are {listed}: none is called as a structure ({', '.join(structures)}), "
            "so the values decide"
        ]
    known = {value: name for name, values in structures.items() for value in values}
    moved, warnings = {}, []
    for name, value, values in meant:
        if values is not None:
            target = value if value in values else values[0]
            if moved.setdefault(value, target) != target:
                raise InputError(
                    f"{path}: segments in the header are {listed}: value {value} has two names"
                )
        elif value in known:
            if value not in taken and not only_by_name and _may_be(name, known[value]):
                warnings.append(
                    f"segment {name!r} of the header has no structure's name; taken for {known[value]} by its "
                    f"value {value}"
                )
                moved[value] = value
            elif rest_is_background or only_by_name or (value in taken and not _says_nothing(name)):
                moved[value] = 0
            else:
                raise InputError(
                    f"{path}: segments in the header are {listed}: value {value} is {name!r}, expected "
                    f"{known[value]}. In files of 3D Slicer the name decides: rename the segment, or "
                    "remove it"
                )
        elif only_by_name:
            moved[value] = 0
    moved = {value: target for value, target in moved.items() if value != target}
    if moved:
        changes = ", ".join(
            f"{name!r} {value} -> {moved[value]}" for name, value, _ in meant if value in moved
        )
        warnings.append(f"values in the file by the names in its header: {changes}")
    return moved, warnings


def wanted_segments(
    path: Path | str, moved: Mapping[int, int], values: Collection[int]
) -> set[int] | None:
    """Return the values of a file's segments that stand for values of the study; None for a file without segments.

    Parameters
    ----------
    path
        The label file.
    moved
        Value in the file -> value in the study, as `value_map` returned it.
    values
        What the study asks for.
    """
    segments = named_segments(path)
    return {value for _, value in segments if moved.get(value, value) in values} or None


def apply_value_map(label: np.ndarray, moved: Mapping[int, int], path: Path | str) -> np.ndarray:
    """Replace the values of a label map by those that `value_map` returned.

    Parameters
    ----------
    label
        (i, j, k).
    moved
        Value in the file -> value in the study.
    path
        The file, for the error.

    Raises
    ------
    InputError
        Where a value without a name in the header would be taken for a structure.
    """
    if not moved:
        return label
    present = np.flatnonzero(np.bincount(label.ravel())).tolist()
    clash = sorted((set(present) - moved.keys() - {0}) & set(moved.values()))
    if clash:
        raise InputError(
            f"{path}: value {clash[0]} has no name in the header, and another one has that of its structure; "
            "name its segment, or remove it"
        )
    return replace_values(label, moved)


def replace_values(label: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Replace each key of `values` in a label map by its value."""
    if not values:
        return label
    top = max(int(label.max(initial=0)), *values, *values.values())
    table = np.arange(top + 1, dtype=np.uint16)
    table[list(values)] = list(values.values())
    result = table[label]
    return result.astype(np.uint8) if result.max(initial=0) < 256 else result


def table_contradictions(path: Path | str, structures: Mapping[str, Sequence[int]]) -> list[str]:
    """Describe where the label table of a NIfTI header names another structure than the study does."""
    known = {value: name for name, values in structures.items() for value in values}
    return [
        f"the table in the header calls value {value} {said!r}, but it is taken for {known[value]}"
        for value, said in nifti_names(path).items()
        if value in known
        and not is_name(said, known[value])
        and any(is_name(said, name) for name in structures)
    ]


def check_segment_names(files: Iterable[Path]) -> None:
    """Refuse files of 3D Slicer that call one value by different names, or one name by different values.

    Slicer's own names (Segment_1) say nothing.

    Raises
    ------
    InputError
        With the first two files that differ.
    """
    seen: dict[tuple[str, int], Path] = {}
    for path in files:
        for name, value in named_segments(path):
            if (name, value) in seen or _may_be(name, ""):
                continue
            for (other, its), where in seen.items():
                if is_name(name, other) and value != its and where == path:
                    raise InputError(
                        f"{path}: two segments are called {name!r}, of the values {its} and {value}; expected one. Merge them, "
                        "or give each a name of its own"
                    )
                if is_name(name, other) != (value == its):
                    raise InputError(
                        f"{path}: value {value} is called {name!r} in the header, but in that of {where} {other!r} is "
                        f'{its}. Name the structures in the settings, "structures": {{"NAME": VALUE}}: then the '
                        "names decide"
                    )
            seen[name, value] = path
