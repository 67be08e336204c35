"""The study that a folder of results belongs to, so that another of the same name overwrites nothing.

`results/<study>/study.json` names the study file and holds a checksum of each dataset and the version of
the keys of study files. A study file is the same as before where its path is, or where results and study
file have moved together. Another study file is taken for a copy where the first one is gone, or has the
same content, and the data are the same.
"""

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from segstudy import __version__
from segstudy.errors import InputError
from segstudy.files import read_json, write_json
from segstudy.study.study import SCHEMA_VERSION

FILE, LOCK = "study.json", ".lock"
BEGUN = ("preprocess", "train", "infer")
"""Folders of stages that no study's results are without, once it has begun."""
LOOKED_INTO, PIECE_BYTES = 100, 1 << 16
"""Files of a dataset that are read, and bytes of each, at its start, middle and end."""


def data_checksum(source: str, files: Iterable[Path | str] | None) -> str:
    """Compute a checksum that tells one dataset from another, wherever it lies.

    Parameters
    ----------
    source
        Settings of a dataset that is fetched or simulated, which decide its content; `files` is
        None.
    files
        Those of a dataset on disk. Names below their common folder and sizes count of all, and
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
        for offset in (0, size // 2, max(0, size - PIECE_BYTES)):
            file.seek(offset)
            pieces += file.read(PIECE_BYTES)
    return hashlib.sha256(pieces).digest()


def claim(
    results: Path | str, study: Path | str, data: Callable[[], Mapping[str, str]]
) -> str | None:
    """Check that a study may write its results into a folder.

    Parameters
    ----------
    results
        `results/<study>`.
    study
        The study file.
    data
        Returns dataset -> `data_checksum`; called only where needed.

    Returns
    -------
    str or None
        None where the folder is new, or this study file's own. A note where no owner is recorded,
        and where the study was moved or copied: another file with the same data, the first one gone
        or of the same content.

    Raises
    ------
    InputError
        For any other study file, and for a damaged record.
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
        version = int(known.get("schema_version", SCHEMA_VERSION))
        if version > SCHEMA_VERSION:
            raise _Newer(version)
        if here["file"] == known["file"] or here["from_results"] == known["from_results"]:
            return None
        owner, recorded = known["file"], dict(known["data"])
        copied = not os.path.isfile(owner) or _content(owner) == _content(study)
    except _Newer as newer:
        raise InputError(
            f"{results / FILE}: schema_version: {newer}: these results are of a newer segstudy; this one, "
            f"{__version__}, knows versions up to {SCHEMA_VERSION}. Install the newer one, or give another "
            "folder (--config results=DIR)"
        ) from None
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
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


class _Newer(Exception):
    """Results of a version that is not known yet."""


def hold(results: Path | str) -> IO:
    """Hold a folder of results for this process, until the file that is returned is closed or the process ends.

    Snakemake's own locks are of the working directory, and every run that ends there removes all of them.

    Raises
    ------
    InputError
        Where another process holds the folder.
    """
    path = Path(results) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise InputError(
            f"{results}: another run is at work there ({file.read().strip() or 'just begun'}); wait for it, or end it"
        ) from None
    except OSError:  # a file system without locks
        return file
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


def _content(path: Path | str) -> bytes | None:
    """Read a file's content; None where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def record(
    results: Path | str,
    study: Path | str,
    data: Mapping[str, str],
    plugins: Mapping[str, str] | None = None,
) -> None:
    """Record the study that a folder of results belongs to.

    Parameters
    ----------
    results, study
        As `claim` has them.
    data
        Dataset -> `data_checksum`.
    plugins
        Key of the study file -> label and digest of the plug-in that stands there.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        **_described(Path(results), study),
        "data": dict(data),
        **({"plugins": dict(plugins)} if plugins else {}),
    }
    path = Path(results) / FILE
    if (
        not path.is_file()
        or path.read_text() != json.dumps(content, indent=1, sort_keys=True) + "\n"
    ):
        write_json(path, content)


def _described(results: Path, study: Path | str) -> dict[str, str]:
    file = os.path.realpath(study)
    return {"file": file, "from_results": os.path.relpath(file, os.path.realpath(results))}
