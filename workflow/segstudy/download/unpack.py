"""Unpacking tar and zip archives from elsewhere: nothing outside the folder, nothing half."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from segstudy.errors import InputError
from segstudy.log import progress

# gzip and zip reach 1032 at most, on zeros alone; label maps stay far below.
MAXIMUM_RATIO = 1000
SMALL_BYTES = 100_000_000


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into an empty folder.

    If all of it lies in one top folder, that folder's content is what comes into `folder`.

    Raises InputError for a file that is no archive, that is damaged or ends early, that names
    files outside the folder, devices or links that lead out of it, and for one whose content
    does not fit on the disk or is suspiciously large for its size.
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
    except tarfile.FilterError as error:
        raise InputError(f"the archive is not safe to unpack: {error}") from None
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
    ) as error:
        raise InputError(f"the archive is damaged or ends early ({error})") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report damage so
            raise InputError(f"the archive is damaged or ends early ({error})") from None
        raise InputError(f"the archive cannot be unpacked ({error.strerror})") from None
    _lift_top_folder(folder)


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
        if total > max(SMALL_BYTES, MAXIMUM_RATIO * packed):
            raise InputError(
                f"the archive grows to more than {total} bytes from {packed}; it was not unpacked "
                "further. If it is right, unpack it by hand and set source.path"
            )


def _tar(archive: Path, folder: Path) -> Iterator[int]:
    if not hasattr(tarfile, "data_filter"):
        raise InputError("this Python cannot unpack tar archives safely; use 3.11.4 or newer")
    with tarfile.open(archive) as content:
        for member in content:
            yield member.size
            content.extract(member, folder, filter="data")
        # tarfile stops without a word at a damaged header and at the end of the file.
        content.fileobj.seek(content.offset)
        if content.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end mark is missing")
        while content.fileobj.read(1 << 20):
            pass  # the checksum of a compressed stream stands at its end


def _zip(archive: Path, folder: Path) -> Iterator[int]:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts:
                raise InputError(
                    f"the archive is not safe to unpack: {member.filename!r} lies outside the folder"
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(
                    f"the archive is not safe to unpack: {member.filename!r} is a link"
                )
            if member.flag_bits & 1:
                raise InputError(f"the archive is encrypted ({member.filename!r})")
            yield member.file_size
            content.extract(member, folder)


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
