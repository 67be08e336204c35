"""Trainers of the user's own: what a plug-in's class is given, and the file that holds what it has learned.

A class is made with the model's `options`. Its `fit(cases, validation_cases, folder, settings)` learns and leaves files in
`folder`; its `predict(case, folder)` gives a label from them. Neither knows of the other's process.
"""

import io
import json
import random
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from segstudy import plugins
from segstudy.cases import Labelled
from segstudy.errors import InputError
from segstudy.files import parse_json, writing
from segstudy.unpack import unpack

DEFAULT = "Trainer"
TRAINED = "trained.tar"
"""What a training leaves: `segstudy.json`, and the plug-in's own files under `files/`."""
FORMAT = "segstudy trainer 1"
_RECORD, _FILES = "segstudy.json", "files"
_KINDS = {
    **{"fold": int, "training": list, "validation": list, "structures": list},
    **{"model": dict, "plugins": dict},
}


@dataclass(frozen=True)
class Case:
    """Hold a case as a trainer of the user's own sees it.

    Parameters
    ----------
    name
        `dataset/case`.
    subject
        Its subject; empty where it is not known.
    images
        Absolute paths, in the order of the channels: a file each, or one with all in its fourth axis.
    label
        Absolute path of its label on the image's own grid, repaired where the study repairs; None in prediction.
    structures
        Structure -> its value in this label file, and in what is predicted for the case.
    ignore
        Values of voxels that nobody has labelled.
    """

    name: str
    subject: str
    images: tuple[Path, ...]
    label: Path | None
    structures: Mapping[str, int]
    ignore: tuple[int, ...] = ()


def case_of(labelled: Labelled) -> Case:
    """Return a case to learn from."""
    case = labelled.case
    return Case(
        labelled.name,
        case.subject,
        tuple(path.resolve() for path in case.images),
        case.label.resolve(),
        dict(labelled.structures),
        tuple(labelled.ignore),
    )


def built(text: str, options: Mapping[str, Any]) -> Any:
    """Make a trainer.

    Parameters
    ----------
    text
        The plug-in's reference.
    options
        Keyword arguments of its class.

    Raises
    ------
    InputError
        Where its code fails, or where it lacks `fit` or `predict`, or they take other arguments.
    """
    kind, label = plugins.load(text, DEFAULT), plugins.reference(text).label
    if not callable(kind):
        raise InputError(f"plug-in {label}: a {type(kind).__name__}; expected a class")
    _check_call(kind, (), options, f"{label}: {DEFAULT}")
    with plugins.telling(text):
        trainer = kind(**options)
    for method, names in (
        ("fit", ("cases", "validation_cases", "folder", "settings")),
        ("predict", ("case", "folder")),
    ):
        function = getattr(trainer, method, None)
        if not callable(function):
            raise InputError(f"plug-in {label}: no {method}({', '.join(names)}) in its class")
        _check_call(function, names, {}, f"{label}: {method}")
    return trainer


def _check_call(function: Any, values: Sequence, options: Mapping[str, Any], what: str) -> None:
    misfit = plugins.misfit(function, values, options)
    if misfit:
        signature, error = misfit
        called = ", ".join([*map(str, values), *(f"{name}=..." for name in options)])
        raise InputError(
            f"plug-in {what} takes {signature}, and is called with ({called}): {error}"
        )


def seed_all(seed: int) -> None:
    """Seed the generators of Python and of numpy, which a plug-in may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


# --- the file of what was learned ---------------------------------------------------------------


def pack(folder: Path, record: Mapping[str, Any], path: Path) -> None:
    """Write a folder and a record into one file, atomically; equal contents give equal bytes.

    Parameters
    ----------
    folder
        What the plug-in's `fit` left.
    record
        Plain values: fold, seed, training, validation, plugins, options, structures, channels, ...
    path
        The file.

    Raises
    ------
    InputError
        Where the folder is empty, or holds a link or something else that is neither file nor folder.
    """
    paths = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts)
    if not any(path.is_file() for path in paths):
        raise InputError(
            f"{folder}: fit left no file in its folder, from which predict would have to predict"
        )
    odd = [path for path in paths if path.is_symlink() or not (path.is_file() or path.is_dir())]
    if odd:
        raise InputError(f"{odd[0]}: a link or a device; fit is to leave files and folders")
    content = json.dumps({"format": FORMAT, **record}, indent=1).encode()
    with writing(path) as temporary, tarfile.TarFile(temporary, "w") as archive:
        entry = tarfile.TarInfo(_RECORD)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        for file in paths:
            # Neither owner nor time nor mode, so that the bytes are those of the content alone.
            entry = tarfile.TarInfo(f"{_FILES}/{file.relative_to(folder).as_posix()}")
            if file.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                entry.size = file.stat().st_size
                with file.open("rb") as stream:
                    archive.addfile(entry, stream)


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give the folder that a training left, in a place of its own, and its record.

    Raises
    ------
    InputError
        Where the file is missing, damaged, or of something else.
    """
    with TemporaryDirectory(prefix="segstudy-trained-") as place:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            unpack(path, Path(place))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        held = Path(place) / _RECORD
        if not held.is_file():
            raise InputError(f"{path}: holds no {_RECORD}; expected the {TRAINED} of a training")
        record = parse_json(held.read_text(encoding="utf-8"), f"{path}: {_RECORD}")
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise InputError(f"{path}: expected a {FORMAT!r} file")
        for key, kind in _KINDS.items():
            if not isinstance(record.get(key), kind):
                raise InputError(f"{path}: {key} is missing or damaged; train again")
        if "trainer" not in record["plugins"] or "options" not in record["model"]:
            raise InputError(f"{path}: does not tell what trained it; train again")
        yield Path(place) / _FILES, record
