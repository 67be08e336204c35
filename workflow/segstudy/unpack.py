"""Unpacking tar and zip archives from elsewhere: nothing outside the folder, nothing half."""

import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from segstudy.errors import InputError
from segstudy.log import progress

MAXIMUM_RATIO = 1000
"""Bytes that a byte of an archive may stand for; gzip and zip reach 1032, on zeros alone, and images stay far below."""
SMALL_BYTES = 100_000_000
"""What may be unpacked of however few bytes."""
_UNSAFE = "the archive is not safe to unpack"
_BY_HAND = "unpack it by hand, look at what it holds, and set source.path"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into an empty folder.

    If all content lies in one top folder, that folder's content is put into `folder`. Only regular
    files and folders are written, without rights, owners or times of the archive's.

    Parameters
    ----------
    archive
        The file.
    folder
        An empty folder.

    Raises
    ------
    InputError
        For a file that is no archive, that is damaged or ends early, that names files outside the
        folder, holds links or devices, and for one whose content does not fit on the disk or is
        suspiciously large for its size.
    """
    try:
        if tarfile.is_tarfile(archive):
            _watch(_tar(archive, folder), archive, folder)
        elif zipfile.is_zipfile(archive):
            _watch(_zip(archive, folder), archive, folder)
        else:
            with archive.open("rb") as content:
                start = content.read(16)
            raise InputError(
                f"neither a tar nor a zip archive, or one that is cut off (it begins with {start!r})"
            )
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        NotImplementedError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:  # the last three: numbers and chains of headers that no program writes
        raise InputError(f"the archive is damaged or ends early ({error})") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report damage so
            raise InputError(f"the archive is damaged or ends early ({error})") from None
        raise InputError(f"the archive cannot be unpacked ({error.strerror})") from None
    _lift_top_folder(folder)


def most_unpacked(packed: int) -> int:
    """Return how many bytes an archive of so many may unpack to; what unpacks to more is a bomb."""
    return max(SMALL_BYTES, MAXIMUM_RATIO * packed)


def _watch(members: Iterator[int], archive: Path, folder: Path) -> None:
    """Run through the members, which yield their size before they are unpacked."""
    packed, total = archive.stat().st_size, 0
    for size in progress(members, "unpacking"):
        total += size
        if size > shutil.disk_usage(folder).free:
            raise InputError(
                f"the archive does not fit on the disk: the next file needs {size} bytes, "
                f"{shutil.disk_usage(folder).free} are free"
            )
        if total > most_unpacked(packed):
            raise InputError(
                f"the archive grows to more than {total} bytes from {packed}; it was not unpacked "
                "further. If it is right, unpack it by hand and set source.path"
            )


def _tar(archive: Path, folder: Path) -> Iterator[int]:
    with tarfile.open(archive) as content:
        for member in content:
            target = _place(folder, member.name)
            if not (member.isreg() or member.isdir()):
                kind = "a link" if member.islnk() or member.issym() else "a device or a pipe"
                raise InputError(f"{_UNSAFE}: {member.name!r} is {kind}; {_BY_HAND}")
            if member.size < 0:
                raise tarfile.ReadError(f"{member.name!r} has {member.size} bytes")
            yield max(member.size, tarfile.BLOCKSIZE)
            _write(target, content.extractfile(member), member.size)
        # tarfile stops without a word at a damaged header and at the end of the file.
        content.fileobj.seek(content.offset)
        if content.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end mark is missing")
        while content.fileobj.read(1 << 20):
            pass  # the checksum of a compressed stream stands at its end


def _zip(archive: Path, folder: Path) -> Iterator[int]:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            target = _place(folder, member.filename.replace("\\", "/"))
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                named = "a link" if kind == stat.S_IFLNK else "a device or a pipe"
                raise InputError(f"{_UNSAFE}: {member.filename!r} is {named}; {_BY_HAND}")
            if member.flag_bits & 1:
                raise InputError(f"the archive is encrypted ({member.filename!r})")
            yield max(member.file_size, tarfile.BLOCKSIZE)
            if member.is_dir():
                _write(target, None, 0)
            else:
                with content.open(member) as source:
                    _write(target, source, member.file_size)


def _place(folder: Path, name: str) -> Path:
    """Where a member goes: below the folder. Raises InputError for a name that leads elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InputError(f"{_UNSAFE}: {name!r} lies outside the folder; {_BY_HAND}")
    target = folder / path
    if not target.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{_UNSAFE}: {name!r} leads out of the folder; {_BY_HAND}")
    return target


def _write(target: Path, source: IO[bytes] | None, size: int) -> None:
    """Write a member's content, of `size` bytes; without a source it is a folder.

    Only new files and folders are made, with this machine's own rights: no link is followed.
    """
    if source is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a later member of the same name counts
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        if file.tell() != size:
            raise tarfile.ReadError(f"{target.name!r} ends early")


def _lift_top_folder(folder: Path) -> None:
    """Move the content of the only top folder up; files of macOS beside it don't count."""
    aside = [
        path for path in folder.iterdir() if path.name.startswith("._") or path.name == "__MACOSX"
    ]
    tops = [path for path in folder.iterdir() if path not in aside]
    if not tops:
        raise InputError("the archive is empty")
    if len(tops) > 1 or not tops[0].is_dir():
        return
    for path in aside:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    name = ".top"
    while (tops[0] / name).exists():
        name += "_"
    top = tops[0].rename(folder / name)
    for path in list(top.iterdir()):
        path.rename(folder / path.name)
    top.rmdir()
