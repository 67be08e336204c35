"""The files that a program's command names: the program, scripts, weights, folders of models."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.data_files import content_digest
from segstudy.log import log
from segstudy.paths import state_of

MOST_FILES = 20_000
"""A folder of more is not looked into."""
MOST_BYTES = 4_000_000_000
"""Of a folder that holds more, sizes and times of the files stand for their contents."""
MADE_BY_PYTHON = "__pycache__"

Stamp = tuple[int, int]
"""Size in bytes, and time of the last change in ns."""


def stamps(command: Sequence[str], apart: Collection[Path] = ()) -> list[dict[Path, Stamp] | None]:
    """Return size and time of the program's file, and of the files of all that its command names.

    A path may be a whole word, or stand in one beside `=`, `,` or `:`, as in `--weights=FILE`,
    `a.pt,b.pt`, `-v DIR:/model`. Of a folder all files count but those that Python makes, in the
    order of their names.

    Parameters
    ----------
    command
        The words of the command.
    apart
        Images and output; a folder that holds one of them is no model, and is left out.

    Returns
    -------
    list
        For each path a dict file -> stamp; None for a folder of more than `MOST_FILES`.
    """
    program = shutil.which(command[0]) or command[0]
    parts = [part for word in command[1:] for part in dict.fromkeys([word, *_parts(word)])]
    given = {Path(os.path.realpath(path)) for path in apart}
    around = given | {parent for path in given for parent in path.parents}
    file_stamps: list[dict[Path, Stamp] | None] = []
    for path in dict.fromkeys(Path(part) for part in [program, *parts] if part):
        # Of `os`, which takes a word that is too long for a name for none.
        if os.path.isfile(path):
            file_stamps.append(_stamped([path]))
        elif os.path.isdir(path) and Path(os.path.realpath(path)) not in around:
            files = list(islice(_files(path), MOST_FILES + 1))
            file_stamps.append(_stamped(sorted(files)) if len(files) <= MOST_FILES else None)
    return file_stamps


def contents(named: Sequence[dict[Path, Stamp] | None]) -> list[str]:
    """Compute a digest of each entry of `stamps`: names below a folder and contents, wherever it lies.

    A folder of too many files gets a digest that never repeats, with a warning.
    """
    folder_digests = []
    for files in named:
        if files is None:
            log.warning(
                "the command names a folder of more than %d files, which are not looked into: what was "
                "predicted before is not taken",
                MOST_FILES,
            )
            folder_digests.append(secrets.token_hex(16))
            continue
        large = len(files) > 1 and sum(size for size, _ in files.values()) > MOST_BYTES
        top = os.path.commonpath([path.parent for path in files]) if files else ""
        if large:
            log.info("%s: large, so sizes and times of its files stand for their contents", top)
        digests = [
            (os.path.relpath(path, top), list(stamp) if large else _content(path, stamp))
            for path, stamp in files.items()
        ]
        folder_digests.append(hashlib.sha256(repr(digests).encode()).hexdigest())
    return folder_digests


def state(command: Sequence[str]) -> str:
    """Return a text that changes where a file that a command names is replaced, by its size and time."""
    return " ".join(state_of(files or ()) for files in stamps(command))


def _parts(word: str) -> list[str]:
    """Return possible paths in a word, longest first: after an `=`, or between `=`, `,` and `:`."""
    return [word.partition("=")[2], *re.split("[=,:]", word)]


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != MADE_BY_PYTHON]
        yield from (Path(place, name) for name in names)


def _stamped(files: Sequence[Path]) -> dict[Path, Stamp]:
    file_stamps = {}
    for path in files:
        try:
            status = path.stat()
        except OSError:  # a link to nothing, or removed meanwhile
            file_stamps[path] = (-1, -1)
        else:
            file_stamps[path] = (status.st_size, status.st_mtime_ns)
    return file_stamps


def _content(path: Path, stamp: Stamp) -> str:
    """Compute the digest of a file's content; of one that cannot be read, size and time."""
    try:
        return content_digest(path, "named in the command")
    except InputError:
        return repr(stamp)
