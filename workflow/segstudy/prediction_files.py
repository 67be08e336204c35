"""The files that a model of `trainer: predictions` consists of, found by their pattern; light, since the workflow imports it."""

import glob
import re
from collections.abc import Mapping
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.names import safe_name
from segstudy.study import PredictionsModel

PLACEHOLDER = re.compile(r"\{(case|structure)\}")

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
    wanted = [name for held in names(model, structures).values() for name in held]
    sought = {
        "case": "[^/]+",
        "structure": "|".join(map(re.escape, wanted)) if model.has_structure_files else "",
    }
    globbed, matched = "", ""
    for place, part in enumerate(PLACEHOLDER.split(text)):
        if place % 2 == 0:
            globbed, matched = globbed + glob.escape(part), matched + re.escape(part)
            continue
        globbed += "*"
        again = f"(?P<{part}>" in matched
        matched += f"(?P={part})" if again else f"(?P<{part}>{sought[part]})"
    files: Files = {}
    for path in sorted(glob.glob(globbed)):
        match = re.fullmatch(matched, path)
        if not match:
            continue
        of_case = files.setdefault(safe_name(match["case"]), {})
        structure = match["structure"] if model.has_structure_files else ""
        if structure in of_case:
            raise InputError(
                f"{path}: would be case {safe_name(match['case'])}, as {of_case[structure]} is; expected a file a case "
                "(names are compared in letters, digits, '.', '_' and '-'): rename one"
            )
        of_case[structure] = Path(path)
    return files


def listed(
    model: PredictionsModel, structures: Mapping[str, int], fold: int, seed: int
) -> list[Path]:
    """Return all files of a fold and seed; see `found`."""
    files = found(model, structures, fold, seed)
    return [path for of_case in files.values() for path in of_case.values()]
