"""Paths as people write them, and the files that a path stands for; light, since the workflow imports it."""

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from segstudy.errors import InputError
from segstudy.file_patterns import matching_files
from segstudy.files import REMARK, write_text
from segstudy.images.data_files import voxel_files
from segstudy.images.names import composed
from segstudy.log import log
from segstudy.tables import FILE_COLUMNS, read_rows

LABEL_TABLES = ("*dseg.tsv", "dataset.json")
"""Names of files that name the values of labels."""


def expanded(text: str, where: str) -> str:
    """Expand `~` and variables (`$DATA`, `${DATA}`) in a path.

    Parameters
    ----------
    text
        The path.
    where
        File or key, for the error.

    Raises
    ------
    InputError
        For an empty path, for a variable that is not set, and for remaining braces, which Snakemake
        takes for wildcards.
    """
    path = os.path.expanduser(os.path.expandvars(text))
    if not path.strip():
        raise InputError(f"{where}: {text!r}: empty; expected a path")
    unset = re.search(r"\$(?:\w+|\{\w+\})", path)
    if unset:
        raise InputError(
            f"{where}: {text}: the variable {unset[0]} is not set; set it (export), or write the path out"
        )
    if path.startswith("~"):
        raise InputError(f"{where}: {text}: no such user; write the path out")
    return refuse_braces(path, where)


def refuse_braces(path: str, where: str) -> str:
    """Return the path; InputError for braces, as Snakemake would take `{site}` for a wildcard."""
    if "{" in path or "}" in path:
        raise InputError(
            f"{where}: {path}: braces stand for wildcards in Snakemake, and one source is one path; "
            "write the path out, or rename what has braces in its name"
        )
    return path


def from_study_file(text: str, file: Path, where: str) -> str:
    """Resolve a path of a study file: an absolute one as it is, a relative one as `named_by` does.

    Below the working directory the path is given relative to that, so that no result names the
    machine. Until the next version a path that exists from the working directory alone is taken,
    with a note.

    Parameters
    ----------
    text
        The path.
    file
        The study file.
    where
        The key, for the error.

    Raises
    ------
    InputError
        As `expanded` does.
    """
    text = expanded(text, where)
    if os.path.isabs(text):
        return spelt_as_stored(text)
    beside, here = named_by(file.absolute(), text), as_stored(Path(text).absolute())
    other = as_stored(file.resolve().parent / text)
    if file.is_symlink() and other.exists() and not other.samefile(beside):
        log.warning(
            "%s: %s is taken from the folder of the link to the study file (%s), not from the study file's own (%s), "
            "which has one too",
            where,
            text,
            os.path.normpath(beside),
            os.path.normpath(other),
        )
    if here.exists() and not beside.exists():
        log.warning(
            "%s: %s is taken from the working directory; the next version takes it from the study "
            "file's folder: write %s",
            where,
            text,
            os.path.relpath(here, file.absolute().parent),
        )
        return os.path.relpath(here)
    # Every working directory has a folder `.`.
    if os.path.normpath(text) != "." and here.exists() and not here.samefile(beside):
        log.warning(
            "%s: %s is taken from the study file's folder (%s), not from the working directory, which has one too",
            where,
            text,
            os.path.normpath(beside),
        )
    normal = Path(os.path.normpath(beside))
    # Below a linked folder, `..` leads out of the folder that the link stands for.
    astray = beside.exists() and not (normal.exists() and normal.samefile(beside))
    beside = beside.resolve() if astray else normal
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def cell_path(table: Path, text: str, where: str) -> Path:
    """Resolve a file that a case table names: `~` and variables expanded, then as `named_by` does."""
    return named_by(table, expanded(text.strip(), where))


def named_by(file: Path, text: str) -> Path:
    """Return where a path leads that a file names: from the file's folder, spelt as on the disk.

    Of a link, what is not in the link's folder is taken from that of the file it stands for.
    """
    path = as_stored(file.parent / text)
    if not file.is_symlink() or path.exists():
        return path
    other = as_stored(file.resolve().parent / text)
    return other if other.exists() else path


def spelt_as_stored(text: str) -> str:
    """Return a path as text as `as_stored` does; one that is there as it is written."""
    return text if text.isascii() else str(as_stored(Path(text)))


def as_stored(path: Path) -> Path:
    """Return the path in the disk's own spelling, where letters with accents are one sign or two there.

    A path that is there is returned as it is, and so is one that is not there in any spelling.
    """
    if str(path).isascii() or path.exists():
        return path
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        names = [part]
        if not part.isascii() and not (found / part).exists():
            with suppress(OSError):
                names = [n for n in os.listdir(found) if composed(n) == composed(part)] or names
        found /= min(names)
    return found if found.exists() else path


def listed_files(table: Path) -> list[str]:
    """Return the files that a user's case table names and the label tables beside them, as far as they exist.

    The audit names the errors of a table, and missing files.
    """
    try:
        (_, header), *rows = read_rows(table)
    except InputError:
        return []
    files = [column for column, name in enumerate(header) if name.startswith(FILE_COLUMNS)]
    named, labels = set(), set()
    for _, row in rows:
        for column in files:
            if column < len(row) and row[column]:
                with suppress(InputError):
                    path = cell_path(table, row[column], str(table))
                    (labels if header[column] == "label" else named).add(path)
    named |= labels | label_tables(labels, table.parent)
    held = (file for path in named for file in (path.rglob("*") if path.is_dir() else [path]))
    return followed(file for file in held if file.is_file() and not file.name.startswith("."))


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


def delivered_files(path: str, is_table: bool, patterns: Collection[str] = ()) -> list[str]:
    """Return every file of a dataset that the user has.

    Hidden files do not count.

    Parameters
    ----------
    path
        A case table, whose files are returned with it, or a folder.
    is_table
        Which of the two.
    patterns
        Of the folder's files that count, with tables beside and above them that name label values;
        none: all do.

    Raises
    ------
    InputError
        For a name with braces.
    """
    if is_table:
        return [path, *listed_files(Path(path))]
    if patterns:
        files = matching_files(path, patterns)
        one_a_folder = {file.parent: file for file in files}.values()
        return followed([*files, *label_tables(one_a_folder, Path(path))])
    return followed(
        file for file in Path(path).rglob("*") if file.is_file() and not file.name.startswith(".")
    )


def followed(paths: Iterable[Path | str]) -> list[str]:
    """Sort the files and add the data files of detached headers, a change of which changes the image."""
    files = {str(path) for path in paths}
    for path in tuple(files):
        with suppress(InputError):  # the audit says what is wrong with it, and of which case
            files |= {str(data) for data in voxel_files(path) if data.is_file()}
    return sorted(refuse_braces(path, "file") for path in files)


def state_of(*groups: Iterable[Path | str]) -> str:
    """Compute a text that changes when a file is replaced, also by an older one, unlike Snakemake's check.

    The text is a digest of the files' names below their common folder, sizes, and times in whole
    seconds, which a copy keeps (`cp -p`, `rsync -a`, `tar`). Folders and missing files do not
    count.
    """
    paths = sorted({os.path.abspath(path) for files in groups for path in files})
    states = []
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                states.append((path, status.st_size, int(status.st_mtime)))
    top = os.path.commonpath([os.path.dirname(path) for path, *_ in states]) if states else ""
    named = [(os.path.relpath(path, top), *state) for path, *state in states]
    return hashlib.sha256(repr(named).encode()).hexdigest()[:16]


def write_list(path: Path | str, listed: Iterable[Path | str]) -> None:
    """Write files or folders into a list, one a line, below a digest of the state of what they hold.

    Where Snakemake compares checksums (`--max-checksum-file-size`, which our profile sets to 0), it takes a small
    file of the same bytes for unchanged, however new it is. Without the digest, a job that depends on the list
    would not see a replaced file where the list was written by an earlier run.
    """
    listed = list(listed)
    held = [
        file
        for one in map(Path, listed)
        for file in (one.rglob("*") if one.is_dir() else followed([one]))
    ]
    lines = [f"{REMARK} state {state_of(held)}", *map(str, listed)]
    write_text(path, "".join(f"{line}\n" for line in lines))
