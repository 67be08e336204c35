"""The files that a model of `trainer: predictions` consists of, found by their pattern; light, since the workflow imports it."""

from collections.abc import Mapping
from pathlib import Path

from segstudy.errors import InputError
from segstudy.file_patterns import Folder, Pattern
from segstudy.images.names import safe_name
from segstudy.study import PredictionsModel

Files = dict[str, dict[str, Path]]
"""Case, as results call it -> structure's name in the files ('' where one file has all of them) -> file."""


def pattern(model: PredictionsModel, fold: int, seed: int) -> str:
    """Return the model's pattern with fold and seed filled in."""
    return model.files.replace("{fold}", str(fold)).replace("{seed}", str(seed))


def names(model: PredictionsModel, structures: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Return the names that each structure's files have, where each has files of its own."""
    return model.labels or {structure: (structure,) for structure in structures}


def found(model: PredictionsModel, structures: Mapping[str, int], fold: int, seed: int) -> Files:
    """Find the files of a fold and seed.

    Parameters
    ----------
    model
        The model.
    structures
        The dataset's, whose names files of single structures have where the model names no other.
    fold, seed
        What is filled in for `{fold}` and `{seed}`.

    Raises
    ------
    InputError
        Where two files would be one case's.
    """
    text = pattern(model, fold, seed)
    root, slash, _ = text[: text.index("{")].rpartition("/")
    folder, below = Folder(root or slash), text[len(root + slash) :]
    wanted = [name for held in names(model, structures).values() for name in held]
    files: Files = {}
    for structure in wanted if model.has_structure_files else [""]:
        for path, values in folder.found(Pattern(below.replace("{structure}", structure))).items():
            case = safe_name(values["case"])
            of_case = files.setdefault(case, {})
            if structure in of_case:
                raise InputError(
                    f"{folder.root / path}: would be case {case}, as {of_case[structure]} is; expected a file a case (names "
                    "are compared in letters, digits, '.', '_' and '-'): rename one"
                )
            of_case[structure] = folder.root / path
    return files


def listed(
    model: PredictionsModel, structures: Mapping[str, int], fold: int, seed: int
) -> list[Path]:
    """Return all files of a fold and seed; see `found`."""
    files = found(model, structures, fold, seed)
    return [path for of_case in files.values() for path in of_case.values()]
