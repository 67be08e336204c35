"""The content of image files, also where a header and its voxels are two files."""

import hashlib
import re
from pathlib import Path

from segstudy.errors import InputError

HEADERS = (".mhd", ".nrrd", ".nhdr")
_HEAD_BYTES = 1 << 16
_NAMED = re.compile(r"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.*)$", re.MULTILINE)


def content_digest(path: Path, what: str) -> str:
    """SHA-256 of an image file, and of the files with its voxels where the header names others.

    what: whose file it is, for the error. Raises InputError where one of them cannot be read.
    """
    found = hashlib.sha256()
    for part in (path, *voxel_files(path)):
        try:
            with part.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{part}: {what}: cannot be read: {error.strerror}") from None
    return found.hexdigest()


def voxel_files(path: Path) -> list[Path]:
    """The files beside a MetaImage's or NRRD's header that hold its voxels; none where it holds them itself."""
    if path.suffix not in HEADERS or not path.is_file():
        return []
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).partition(b"\n\n")[0].decode("latin-1")
    named = _NAMED.search(head)
    if named is None or named[1].strip().upper() == "LOCAL":
        return []
    value = named[1].strip()
    if value.startswith("LIST"):
        names = [line.strip() for line in head[named.end() :].splitlines() if line.strip()]
    elif "%" in value:
        # A printf pattern with the first and last number: `slice%03d.raw 1 40 1`.
        pattern = re.sub(r"%\d*d", "*", value.split()[0])
        return sorted(path.parent.glob(pattern))
    else:
        names = [value]
    return [path.parent / name for name in names]
