"""Whose results a folder holds, so that another study of the same name does not overwrite them.

`results/<study>/study.json` names the study file and has a checksum of each dataset. A study file is
the same as before where its path is, or where results and study file have moved together. Another one
takes its place where that one is gone, or has the same content, and the data are the same.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from segstudy.errors import InputError
from segstudy.files import read_json, write_json

FILE = "study.json"
BEGUN = ("preprocess", "train", "infer")
"""Folders of stages that no study's results are without, once it has begun."""
LOOKED_INTO, PIECE_BYTES = 100, 1 << 16
"""Files of a dataset that are looked into, and what is read of one: at its start, middle and end."""


def data_checksum(source: str, files: Iterable[Path | str] | None) -> str:
    """A checksum that tells one dataset from another, wherever it lies.

    source: settings of a dataset that is fetched or made, which decide its content; `files` is None.
    files: those of a dataset on disk. Names below their common folder and sizes count of all, and
    pieces of the contents of at most a hundred, so that a large cohort takes seconds.
    """
    if files is None:
        return hashlib.sha256(source.encode()).hexdigest()
    paths = sorted(os.path.abspath(file) for file in files if os.path.isfile(file))
    top = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{os.path.relpath(path, top)} {os.path.getsize(path)}\n".encode())
    for path in paths[:: -(-len(paths) // LOOKED_INTO) or 1]:
        digest.update(_pieces(path))
    return digest.hexdigest()


def _pieces(path: str) -> bytes:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        pieces = b""
        for place in (0, size // 2, max(0, size - PIECE_BYTES)):
            file.seek(place)
            pieces += file.read(PIECE_BYTES)
    return hashlib.sha256(pieces).digest()


def claim(
    results: Path | str, study: Path | str, data: Callable[[], Mapping[str, str]]
) -> str | None:
    """Whether a study may write its results into a folder.

    results: `results/<study>`. study: the study file. data: gives dataset -> `data_checksum`; called
    only where that is needed.

    Returns None where the folder is new, or this study file's own, and a note where nothing says whose
    it is, or where the file is another one with the same data, and the one before is gone or has the
    same content: the study was moved or copied. Raises InputError for any other study file.
    """
    results = Path(results)
    if not (results / FILE).is_file():
        if not any((results / stage).is_dir() for stage in BEGUN):
            return None
        return (
            f"{results}: holds results, but no {FILE}, which says whose they are (a version before it "
            f"left none): taken for those of {study}"
        )
    here = _described(results, study)
    try:
        known = read_json(results / FILE)
        if here["file"] == known["file"] or here["from_results"] == known["from_results"]:
            return None
        owner, recorded = known["file"], dict(known["data"])
        copied = not os.path.isfile(owner) or _content(owner) == _content(study)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{results / FILE}: damaged record of whose results these are ({type(error).__name__}: {error}); if "
            f"they are of {study}, remove that file, and it is written anew; if not, see `name` and --config results=DIR"
        ) from None
    same = dict(data()) == recorded
    if same and copied:
        return (
            f"{results} holds the results of {owner}; {study} has the same name and the same data: it is taken "
            "for the same study, and what its settings change runs again"
        )
    what = "other settings" if same else "other data"
    raise InputError(
        f"{results}: holds the results of {owner} (datasets: {', '.join(recorded)}), and {study} has the same name "
        f"and {what}: it would overwrite them. Give it a name of its own (`name: ...` in the study "
        "file), or another folder (--config results=DIR); or, if it is to take that study's place, "
        "--config adopt=true"
    )


def _content(path: Path | str) -> bytes | None:
    """What a file holds; None where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def record(results: Path | str, study: Path | str, data: Mapping[str, str]) -> None:
    """Write down whose results a folder holds."""
    content = {**_described(Path(results), study), "data": dict(data)}
    path = Path(results) / FILE
    if (
        not path.is_file()
        or path.read_text() != json.dumps(content, indent=1, sort_keys=True) + "\n"
    ):
        write_json(path, content)


def _described(results: Path, study: Path | str) -> dict[str, str]:
    file = os.path.realpath(study)
    return {"file": file, "from_results": os.path.relpath(file, os.path.realpath(results))}
