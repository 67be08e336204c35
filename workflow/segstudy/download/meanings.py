"""What a dataset itself calls its label values, held against the study's structures.

Names stand in `dataset.json`, in `dseg.tsv` tables of BIDS and in headers of label files. Those of
3D Slicer decide which value is which structure; the others are compared, and what they contradict
is a warning.
"""

import csv
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.contents import WARNING
from segstudy.images.segments import label_value, slicer_segments
from segstudy.labels import read_table
from segstudy.study import Dataset

NEAR = 0.8
"""Likeness of two spellings (`difflib`), from which a name may be meant for another one."""


def compare_names(names: Mapping[int, str], file: str, dataset: Dataset) -> list[Problem]:
    """Warnings where the dataset's own names of its label values are not the study's."""
    return [Problem("", file, text, WARNING) for text in contradictions(names, dataset)]


def contradictions(names: Mapping[int, str], dataset: Dataset) -> list[str]:
    """In words, where names of values (value -> name) are not those that the study gives."""
    found = []
    for structure, value in dataset.structures.items() if names else ():
        said = names.get(value)
        others = [other for other in dataset.structures if other != structure]
        if said is None:
            found.append(
                f"labels: no value {value}, which the study file calls {structure}; "
                f"known: {', '.join(map(str, sorted(names)))}"
            )
        elif not is_name(said, structure) and any(is_name(said, other) for other in others):
            found.append(
                f"labels: value {value} is called {said!r}, the study file calls it {structure}"
            )
    return found


def is_name(said: str, structure: str) -> bool:
    """Whether two names are one but for case, separators and the order of words."""
    one, other = (re.findall(r"[a-z0-9]+", name.lower()) for name in (said, structure))
    return "".join(one) == "".join(other) or sorted(one) == sorted(other)


# --- 3D Slicer ----------------------------------------------------------------------------------


def by_name(path: Path | str, dataset: Dataset) -> tuple[dict[int, int], list[str]]:
    """Which values of a Slicer file stand for other ones of the study, and what is doubtful.

    Returns a map of value -> the study's value, of those that differ, and warnings. Where no name
    is one of the study's, values are taken as they are, with a warning.
    Raises InputError where a name contradicts the study and leaves open what the value is.
    """
    segments = slicer_segments(path)
    if not segments:
        return {}, []
    meant = [(name, value, _named(name, dataset)) for name, value in segments]
    listed = ", ".join(f"{name!r} {value}" for name, value in segments)
    if all(target is None for *_, target in meant):
        structures = ", ".join(dataset.structures)
        return {}, [
            f"segments in the header are {listed}: none is called as a structure ({structures}), so the "
            "values decide"
        ]
    taken = {target for *_, target in meant if target is not None}
    known = {value: name for name, value in dataset.structures.items()}
    moved, warnings = {}, []
    for name, value, target in meant:
        if target is not None:
            if moved.setdefault(value, target) != target:
                raise InputError(
                    f"{path}: segments in the header are {listed}: value {value} has two names"
                )
        elif value in known:
            if value in taken or not _may_be(name, known[value]):
                raise InputError(
                    f"{path}: segments in the header are {listed}: value {value} is {name!r}, the study file calls "
                    f"it {known[value]}. In files of 3D Slicer the name decides: rename the segment, or "
                    "remove it"
                )
            warnings.append(
                f"segment {name!r} of the header has no structure's name; taken for {known[value]} by its "
                f"value {value}"
            )
            moved[value] = value
    moved = {value: target for value, target in moved.items() if value != target}
    if moved:
        changes = ", ".join(
            f"{name!r} {value} -> {moved[value]}" for name, value, _ in meant if value in moved
        )
        warnings.append(f"values in the file by the names in its header: {changes}")
    return moved, warnings


def renamed(present: Iterable[int], moved: Mapping[int, int], path: Path | str) -> None:
    """Raise InputError where a value without a name in the header would be taken for a structure.

    present: values in the label map. moved: as `by_name` gives it.
    """
    clash = sorted((set(present) - moved.keys() - {0}) & set(moved.values()))
    if clash:
        raise InputError(
            f"{path}: value {clash[0]} has no name in the header, and another one has that of its structure; "
            "name its segment, or remove it"
        )


def _named(name: str, dataset: Dataset) -> int | None:
    """The study's value for a segment's name: of its structures, or of its label table."""
    for structure, value in dataset.structures.items():
        if is_name(name, structure):
            return value
    table = read_table(dataset.label_table) if dataset.label_table else {}
    return next((row.value for row in table.values() if is_name(name, row.name)), None)


def _may_be(name: str, structure: str) -> bool:
    """Whether a segment's name is Slicer's own (Segment_1), or another spelling of the structure's."""
    if re.fullmatch(r"(segment|label)?[ _-]*\d*", name.strip().lower()):
        return True
    return difflib.SequenceMatcher(None, name.lower(), structure.lower()).ratio() >= NEAR


# --- files beside the labels --------------------------------------------------------------------


def beside(labels: Iterable[Path], root: Path, dataset: Dataset, described: bool) -> list[Problem]:
    """What `dataset.json` and `dseg.tsv` tables beside the label files, or above, say otherwise.

    root: no table above it is looked for, nor above the folder over a label's own. described: whether
    the layout has read `dataset.json` already. A table holds for the files whose entities
    (`sub-01`) it does not contradict; the nearest is taken, as BIDS has it.
    """
    tables: dict[Path, None] = {}
    for label in labels:
        folders = [label.parent, *label.parent.parents]
        inside = [folder for folder in folders if folder == root or folder.is_relative_to(root)]
        folders = inside or folders[:2]
        for folder in folders:
            own = [path for path in _tables(folder) if _entities(path) <= _entities(label)]
            if own:
                tables[max(own, key=lambda path: (len(_entities(path)), path.name))] = None
                break
        if not described:
            tables |= dict.fromkeys(folder / "dataset.json" for folder in folders[:2])
    problems = []
    for path in tables:
        names = dseg_names(path) if path.suffix == ".tsv" else _json_names(path)
        place = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        problems += compare_names(names, place, dataset)
    return problems


def _tables(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*dseg.tsv")) if not path.name.startswith(".")]


def _entities(path: Path) -> set[str]:
    """`sub-01`, `desc-aseg` of a file name."""
    return {part for part in path.name.split(".")[0].split("_") if "-" in part}


def dseg_names(table: Path) -> dict[int, str]:
    """Value -> name of a BIDS label table (columns index and name)."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (KeyError, ValueError, AttributeError, TypeError, csv.Error):
        raise InputError(
            f"{table}: expected a table of labels with the columns index (whole numbers) and name"
        ) from None


def label_names(labels: Any) -> dict[int, str]:
    """Value -> name, from `{"1": "heart"}` (Decathlon) or `{"heart": 1}` (nnU-Net); regions left out."""
    if not isinstance(labels, dict):
        return {}
    names = {}
    for key, other in labels.items():
        if isinstance(other, int):
            names[other] = str(key)
        elif isinstance(other, str) and (value := label_value(str(key))) is not None:
            names[value] = other
    return names


def _json_names(file: Path) -> dict[int, str]:
    """The names of a `dataset.json` that no layout needs; empty where it has none."""
    try:
        content = read_json(file)
    except InputError:
        return {}
    return label_names(content.get("labels")) if isinstance(content, dict) else {}
