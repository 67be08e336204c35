"""Paths as people write them, and which files a name stands for; light, since the workflow itself uses them."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from segstudy.errors import InputError
from segstudy.files import REMARK, write_text
from segstudy.images.parts import voxel_files
from segstudy.log import log
from segstudy.tables import FILE_COLUMNS, read_rows

LABEL_TABLES = ("*dseg.tsv", "dataset.json")
"""Names of files that say what the values of labels mean."""


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
    """Return the files that a user's case table names and the label tables beside them, as far as they exist.

    What is wrong with the table, or missing, is said by the audit.
    """
    try:
        (_, header), *rows = read_rows(table)
    except InputError:
        return []
    files = [place for place, name in enumerate(header) if name.startswith(FILE_COLUMNS)]
    named, labels = set(), set()
    for _, row in rows:
        for place in files:
            if place < len(row) and row[place]:
                with suppress(InputError):
                    path = cell_path(table.parent, row[place], str(table))
                    (labels if header[place] == "label" else named).add(path)
    named |= labels | label_tables(labels, table.parent)
    return followed(path for path in named if path.is_file())


def described_in(label: Path, root: Path) -> list[Path]:
    """Return the folders where a table may describe a label, nearest first: its own, and those above up to a root.

    Of a label that is not below the root, its folder and the one above count.
    """
    above = [label.parent, *label.parent.parents]
    inside = [folder for folder in above if folder == root or folder.is_relative_to(root)]
    return inside or above[:2]


def label_tables(labels: Iterable[Path], root: Path) -> set[Path]:
    """Return the files that may say what the values of labels mean."""
    folders = {folder for label in labels for folder in described_in(label, root)}
    return {path for folder in folders for name in LABEL_TABLES for path in folder.glob(name)}


def delivered_files(path: str, is_table: bool) -> list[str]:
    """Return every file of a dataset that the user has: a case table and its files, or all of a folder.

    Hidden files do not count. Raises InputError for a name with braces.
    """
    if is_table:
        return [path, *listed_files(Path(path))]
    return followed(
        file for file in Path(path).rglob("*") if file.is_file() and not file.name.startswith(".")
    )


def followed(paths: Iterable[Path | str]) -> list[str]:
    """Files, sorted, and with each header those that hold its voxels: a change of either is one of the image."""
    found = {str(path) for path in paths}
    for path in tuple(found):
        with suppress(InputError):  # the audit says what is wrong with it, and of which case
            found |= {str(data) for data in voxel_files(path) if data.is_file()}
    return sorted(refuse_braces(path, "file") for path in found)


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


def write_list(path: Path | str, listed: Iterable[Path | str]) -> None:
    """Write files or folders into a list, one a line, below a digest of the state of what they hold.

    Snakemake takes a small file of the same bytes for unchanged, however new it is. Without the digest, a
    job that depends on the list would not see a replaced file where the list was written by an earlier run.
    """
    listed = list(listed)
    held = [
        file
        for one in map(Path, listed)
        for file in (one.rglob("*") if one.is_dir() else followed([one]))
    ]
    lines = [f"{REMARK} state {state_of(held)}", *map(str, listed)]
    write_text(path, "".join(f"{line}\n" for line in lines))
