"""nnU-Net's `splits_final.json`, or a file like it: which cases each fold was trained on, and what they are called there."""

from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.file_patterns import Pattern
from segstudy.files import read_json
from segstudy.images.names import ending, safe_name

SHAPE = (
    "a list of {train: [case, ...], val: [case, ...]}, a fold each, as nnU-Net's splits_final.json"
)

LEAK_CHECK = "leak_check.json"
"""File beside predictions: how many cases the check by these splits could match."""


def read_folds(file: Path, where: str = "") -> list[dict[str, list[str]]]:
    """Read the folds, each with the names under `train` and `val`.

    Parameters
    ----------
    file
        The file.
    where
        What names it, for the message.

    Raises
    ------
    InputError
        Where it is missing or is none.
    """
    told = f"{where}: {file}" if where else str(file)
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise InputError(f"{told}: found {_shown(content)}; expected {SHAPE}")
    for number, fold in enumerate(content):
        if not isinstance(fold, dict):
            raise InputError(f"{told}: fold {number}: found {_shown(fold)}; expected {SHAPE}")
        for key in ("train", "val"):
            names = fold.get(key)
            if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
                raise InputError(
                    f"{told}: fold {number}: {key}: found {_shown(names)}; expected a list of cases' names: {SHAPE}"
                )
    return content


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def cases_named(name: str, pattern: str) -> set[str]:
    """Return what a name of the file may be a case's name of, as results call it: itself, or what `{case}` stands for.

    The file has the names that files had where a program was trained, such as `Hip-hip_001`, of which a pattern of
    predictions, `Hip-{case}.nii.gz`, tells the case.

    Parameters
    ----------
    name
        As it stands in the file.
    pattern
        Of a model's files.
    """
    parts = (part for part in pattern.split("/") if "{case}" in part)
    found = (Pattern(part[: len(part) - len(ending(part))]).match(name) for part in parts)
    return {safe_name(name), *(safe_name(values["case"]) for values in found if values)}
