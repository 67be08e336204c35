"""Names that a dataset itself gives its label values, compared with the study's structures.

Names stand in `dataset.json`, in `dseg.tsv` tables of BIDS and in headers of label files. Those of
3D Slicer decide which value is which structure; the others are compared, and contradictions are
warnings.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segstudy import bids
from segstudy.download.problems import Problem
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images import segments
from segstudy.images.segments import is_name, label_value
from segstudy.images.value_checks import WARNING
from segstudy.labels import read_table
from segstudy.paths import described_in
from segstudy.study import Dataset


def compare_names(names: Mapping[int, str], file: str, dataset: Dataset) -> list[Problem]:
    """Compare the dataset's own names of its label values with the study's, as warnings."""
    return [Problem("", file, text, WARNING) for text in contradictions(names, dataset)]


def contradictions(names: Mapping[int, str], dataset: Dataset) -> list[str]:
    """Describe where names of values (value -> name) contradict those of the study."""
    texts = []
    for structure, value in dataset.structures.items() if names else ():
        said = names.get(value)
        others = [other for other in dataset.structures if other != structure]
        if said is None:
            texts.append(
                f"labels: no value {value}, which the study file calls {structure}; "
                f"known: {', '.join(map(str, sorted(names)))}"
            )
        elif not is_name(said, structure) and any(is_name(said, other) for other in others):
            texts.append(
                f"labels: value {value} is called {said!r}, the study file calls it {structure}"
            )
    return texts


# --- 3D Slicer ----------------------------------------------------------------------------------


def value_map(path: Path | str, dataset: Dataset) -> tuple[dict[int, int], list[str]]:
    """Map the values of a Slicer file to those of the study, with doubts, as `segments.value_map` does."""
    structures = _values_of(dataset)
    table = read_table(dataset.label_table) if dataset.label_table else {}
    return segments.value_map(path, structures, {row.name: row.value for row in table.values()})


def wanted_segments(path: Path | str, dataset: Dataset) -> set[int] | None:
    """Return the values of a file's segments that the study asks for, or ignores; None for a file without segments."""
    values = {value for values in _values_of(dataset).values() for value in values}
    return segments.wanted_segments(path, value_map(path, dataset)[0], {*values, *dataset.ignore})


def has_other_segments(path: Path | str, dataset: Dataset) -> bool:
    """Tell whether a file has segments that the study does not ask for."""
    wanted = wanted_segments(path, dataset)
    return wanted is not None and not wanted.issuperset(
        value for _, value in segments.named_segments(path)
    )


def _values_of(dataset: Dataset) -> dict[str, list[int]]:
    """Return each structure's values in the files, that of the study first."""
    return {
        name: [value, *(merged for merged, into in dataset.merged_labels.items() if into == value)]
        for name, value in dataset.structures.items()
    }


# --- files beside the labels --------------------------------------------------------------------


def compare_tables(
    labels: Iterable[Path], root: Path, dataset: Dataset, described: bool
) -> list[Problem]:
    """Compare `dataset.json` and `dseg.tsv` tables beside the label files, or above, with the study.

    A table holds for the files whose entities (`sub-01`) it does not contradict; the nearest is
    taken, as BIDS has it.

    Parameters
    ----------
    labels
        The label files.
    root
        No table above it is looked for, nor above the folder over a label's own.
    dataset
        The dataset's settings.
    described
        Whether the layout has read `dataset.json` already.
    """
    tables: dict[Path, None] = {}
    for label in labels:
        if table := bids.nearest_table(label, root):
            tables[table] = None
        if not described:
            tables |= dict.fromkeys(
                folder / "dataset.json" for folder in described_in(label, root)[:2]
            )
    problems = []
    for path in tables:
        names = bids.read_table(path) if path.suffix == ".tsv" else _json_names(path)
        file = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        problems += compare_names(names, file, dataset)
    return problems


def label_names(labels: Any) -> dict[int, str]:
    """Read value -> name from `{"1": "heart"}` (Decathlon) or `{"heart": 1}` (nnU-Net), without regions."""
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
    """Read the names of a `dataset.json` that no layout needs; empty where it has none."""
    try:
        content = read_json(file)
    except InputError:
        return {}
    return label_names(content.get("labels")) if isinstance(content, dict) else {}
