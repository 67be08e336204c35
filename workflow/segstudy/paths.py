"""Paths as people write them, and which files a name stands for; light, since the workflow itself uses them."""

import csv
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from segstudy.errors import InputError
from segstudy.log import log

_HEADER_BYTES = 1 << 16
_DETACHED = {
    ".mhd": rb"^ElementDataFile[ \t]*=[ \t]*(\S.*?)[ \t\r]*$",
    ".nrrd": rb"^data ?file:[ \t]*(\S.*?)[ \t\r]*$",
}


def expanded(text: str, where: str) -> str:
    """A path with `~` and variables (`$DATA`, `${DATA}`) put in.

    Raises InputError, begun with `where`, for no path at all, for a variable that is not set and for
    braces that are left, which Snakemake takes for wildcards.
    """
    found = os.path.expanduser(os.path.expandvars(text))
    if not found.strip():
        raise InputError(f"{where}: {text!r}: empty; expected a path")
    unset = re.search(r"\$(?:\w+|\{\w+\})", found)
    if unset:
        raise InputError(
            f"{where}: {text}: the variable {unset[0]} is not set; set it (export), or write the path out"
        )
    if found.startswith("~"):
        raise InputError(f"{where}: {text}: no such user; write the path out")
    return refuse_braces(found, where)


def refuse_braces(path: str, where: str) -> str:
    """The path; InputError where it has braces, as Snakemake would take `{site}` for a wildcard."""
    if "{" in path or "}" in path:
        raise InputError(
            f"{where}: {path}: braces stand for wildcards in Snakemake, and one source is one path; "
            "write the path out, or rename what has braces in its name"
        )
    return path


def from_study_file(text: str, file: Path, where: str) -> str:
    """A path of a study file: absolute as it is, relative from the study file's folder.

    Below the working directory it is given relative to that, so that no result names the machine.
    Until the next version a path that exists from the working directory alone is taken, with a note.
    Raises InputError as `expanded` does, and where both exist and differ.
    """
    text = expanded(text, where)
    if os.path.isabs(text):
        return text
    beside, here = file.absolute().parent / text, Path(text).absolute()
    if here.exists() and not beside.exists():
        log.warning(
            "%s: %s is taken from the working directory; the next version takes it from the study "
            "file's folder: write %s",
            where,
            text,
            os.path.relpath(here, file.absolute().parent),
        )
        return text
    if here.exists() and not here.samefile(beside):
        raise InputError(
            f"{where}: {text} is there twice, from the study file's folder ({beside}) and from the "
            f"working directory ({here}); write an absolute path"
        )
    beside = Path(os.path.normpath(beside))
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def cell_path(folder: Path, text: str, where: str) -> Path:
    """A file that a case table names: from the table's folder, `~` and variables put in."""
    return folder / expanded(text.strip(), where)


def listed_files(table: Path) -> list[str]:
    """Files that a user's case table names, as far as they exist; the audit says what is missing."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    named = set()
    for column, value in (cell for row in rows for cell in row.items()):
        files = str(column).strip().startswith(("image", "label", "reference_label"))
        if files and isinstance(value, str) and value.strip():
            with suppress(InputError):
                named.add(cell_path(table.parent, value, str(table)))
    return followed(path for path in named if path.is_file())


def followed(paths: Iterable[Path | str]) -> list[str]:
    """Files, sorted, and with each header those that hold its voxels: a change of either is one of the image."""
    found = {str(path) for path in paths}
    found |= {str(data) for path in found if (data := data_file(path)) and data.is_file()}
    return sorted(refuse_braces(path, "file") for path in found)


def data_file(path: Path | str) -> Path | None:
    """The file beside a MetaImage or NRRD header that holds its voxels; None where they follow the header."""
    pattern = _DETACHED.get(Path(path).suffix)
    if pattern is None:
        return None
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError:
        return None
    head = head.partition(b"\n\n")[0] if str(path).endswith(".nrrd") else head
    found = re.search(pattern, head, re.MULTILINE)
    name = found[1].decode("utf-8", "replace") if found else "LOCAL"
    several = name.split()[0] in ("LOCAL", "LIST") or "%" in name
    return None if several else Path(path).parent / name


def state_of(*groups: Iterable[Path | str]) -> str:
    """A text that changes when a file is replaced, be it by one with an older time, which Snakemake passes over.

    It is a digest of the files' names below their common folder, sizes, and times in whole seconds, which a copy
    keeps (`cp -p`, `rsync -a`, `tar`). Folders, and what is not there, do not count.
    """
    paths = sorted({os.path.abspath(path) for files in groups for path in files})
    found = []
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                found.append((path, status.st_size, int(status.st_mtime)))
    top = os.path.commonpath([os.path.dirname(path) for path, *_ in found]) if found else ""
    named = [(os.path.relpath(path, top), *state) for path, *state in found]
    return hashlib.sha256(repr(named).encode()).hexdigest()[:16]
