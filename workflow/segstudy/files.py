"""Reading and writing files, so that a written file is either whole or absent."""

import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from segstudy.errors import InputError

UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
"""Answers of the system for a place at which the user can write nothing."""


LONGEST_NUMBER = 30
"""Digits of the longest whole number that is read: Python itself refuses to print very long ones."""
DEEPEST = 100
"""How many lists and objects may lie in one another: Python's own functions follow some hundred."""


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to it when the block ends well, else removed.

    The temporary name keeps the suffixes of `path`, for writers that choose a format by suffix
    (`.nii.gz`).
    """
    path = Path(path)
    check_file_name(path)
    with _told(path):
        handle, name = tempfile.mkstemp(**_temporary(path))
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner reads; results are to be shared.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which replaces `path` when the block ends well."""
    path = Path(path)
    check_folder_name(path)
    with _told(path):
        temporary = Path(tempfile.mkdtemp(**_temporary(path)))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_file_name(path: Path | str) -> None:
    """Raise InputError where a folder has the name of a file that is to be written."""
    if Path(path).is_dir():
        raise InputError(f"{path}: a folder; expected the name of a file, which is written there")


def check_folder_name(path: Path | str) -> None:
    """Raise InputError where a file has the name of a folder that is to be written."""
    if Path(path).exists() and not Path(path).is_dir():
        raise InputError(f"{path}: a file; expected the name of a folder, which is written there")


def make_folder(path: Path | str) -> None:
    """Make a folder, and those above it, unless it is there. Raises InputError where it cannot be made."""
    with _told(Path(path)):
        Path(path).mkdir(parents=True, exist_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Answer by InputError where nothing can be written beside `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise InputError(
            f"{path}: cannot be written there ({error.strerror}: {error.filename}); give another place"
        ) from None


def _temporary(path: Path) -> dict[str, Any]:
    """Return the parts of a temporary name beside `path`: machine and process tell who writes there.

    Leftovers of a killed process of this machine are removed; another machine's stay, since its
    process may still be at work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    host = platform.node()
    for left in path.parent.glob(f".writing-{glob.escape(f'{host}.')}*-{glob.escape(path.name)}"):
        process = left.name.removeprefix(f".writing-{host}.").partition("-")[0]
        if process.isdigit() and not _lives(int(process)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return {
        "prefix": f".writing-{host}.{os.getpid()}-",
        "suffix": f"-{path.name}",
        "dir": path.parent,
    }


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # It is another user's.
        pass
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys, so that the same values give the same bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file, in which NaN and Infinity may stand, as Python writes them.

    Raises InputError where it is missing or is no JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_json(text, str(path), allow_nan=True)


def read_mapping(path: Path | str) -> dict[str, Any]:
    """Read a JSON file that holds names and values.

    Raises InputError where it is missing, is no JSON, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        kind = {list: "a list", str: "a text"}.get(type(content), repr(content))
        raise InputError(f"{path}: found {kind}; expected names and values, {{...}}")
    return content


def parse_json(text: str, where: str, allow_nan: bool = False) -> Any:
    """Parse JSON that others may have written.

    Parameters
    ----------
    text
        The JSON.
    where
        The file or option, for the error.
    allow_nan
        Whether NaN and Infinity are numbers, which JSON itself does not know.

    Raises
    ------
    InputError
        For text that is no JSON, for values nested more than 100 deep, for whole numbers of
        more than 30 digits, and for a key that stands twice in an object with two values.
    """
    constant = {} if allow_nan else {"parse_constant": _no_constant}
    try:
        value = json.loads(text, parse_int=_whole, object_pairs_hook=_once, **constant)
        _check_depth(value)
    except RecursionError:
        raise InputError(f"{where}: not readable as JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{where}: not readable as JSON ({error})") from None
    return value


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its keys and values. Raises ValueError for a key with two values."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(
                f"the key {key!r} stands twice, with two values; leave one of them out"
            )
        found[key] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON; expected a finite one, or null for none")


def _check_depth(value: Any) -> None:
    """Raise RecursionError for values that are nested deeper than later steps can follow."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list)
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits):,} digits")
    return int(digits)


REMARK = "#"


def listed(paths: Iterable[Path | str]) -> list[Path]:
    """Expand lists of paths: a `.txt` file stands for those in it, one a line that does not begin with `#`.

    A command line holds some 2,000 paths, a study more shards than that.
    """
    all_paths: list[Path] = []
    for path in map(Path, paths):
        if path.suffix != ".txt":
            all_paths.append(path)
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as a list of paths ({error})") from None
        all_paths += [Path(line) for line in lines if line.strip() and not line.startswith(REMARK)]
    return all_paths


def file_checksum(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; InputError where it cannot be read."""
    try:
        status = os.stat(path)
        return _checksum(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


@cache
def _checksum(path: str, size: int, modified_ns: int) -> str:
    """Return the checksum of a file of this size and time, once for all who ask in this process."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(path: Path | str, table: Any) -> None:
    """Write a pandas table; `.tsv` with tabs, anything else with commas. Infinity is written `inf`."""
    separator = "\t" if str(path).endswith(".tsv") else ","
    with writing(path) as temporary:
        table.to_csv(temporary, sep=separator, index=False, lineterminator="\n")
