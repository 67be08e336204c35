"""The files that hold an image: its own, and the data files that a detached header names."""

import hashlib
import re
from pathlib import Path, PurePath

from segstudy.errors import InputError
from segstudy.images.names import META, NRRD, PAIR, ending

_HEAD_BYTES = 1 << 20
# Readers are more generous than the formats: other case, `:` for `=`. Each spelling that a reader may take is checked.
_NAMED = {
    META: re.compile(r"\s*ElementDataFile\s*[:=]+(.*)", re.IGNORECASE),
    NRRD: re.compile(r"\s*data\s*file\s*:(?!=)(.*)", re.IGNORECASE),
}
_NUMBERED = re.compile(r"[^%]*%0?\d?d[^%]*")


def content_digest(path: Path, what: str) -> str:
    """Compute the SHA-256 of an image file, and of the data files that its header names.

    Parameters
    ----------
    path
        The image file.
    what
        Whose file it is, for the error.

    Raises
    ------
    InputError
        Where one of the files cannot be read.
    """
    digest = hashlib.sha256()
    for part in (path, *voxel_files(path)):
        try:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{part}: {what}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def voxel_files(path: Path | str) -> list[Path]:
    """List the data files beside a MetaImage, NRRD or NIfTI header; none where the header file holds the voxels.

    Files that a header names count even where they are missing.

    Raises
    ------
    InputError
        Where the header names a file in another folder: the header of a downloaded dataset could
        otherwise name any file of this machine.
    """
    path = Path(path)
    if ending(path) == PAIR:
        return [path.with_suffix(".IMG" if path.suffix.isupper() else ".img")]
    kind = next((kind for kind in _NAMED if path.suffix.lower() in kind), None)
    if kind is None or not path.is_file():
        return []
    lines = _header(path, kind)
    lines_named = [number for number, line in enumerate(lines) if _NAMED[kind].match(line)]
    if not lines_named:
        if kind is META:
            raise InputError(
                f"{path}: no `ElementDataFile = ...` in its header; expected MetaImage"
            )
        return []
    if kind is META:
        lines_named = lines_named[:1]  # the header ends there
        _check_end(path, lines, lines_named[0])
    if len(lines_named) > 1:
        raise InputError(f"{path}: its header says {len(lines_named)} times where its voxels are")
    value = _NAMED[kind].match(lines[lines_named[0]])[1].strip()
    words = value.split() or [""]
    if kind is META and words[0].upper() == "LOCAL":
        return []
    if words[0].upper() == "LIST":
        names = [line.strip() for line in lines[lines_named[0] + 1 :] if line.strip()]
    elif "%" in value:
        if not _NUMBERED.fullmatch(words[0]) or not all(word.isdecimal() for word in words[1:]):
            raise InputError(
                f"{path}: its voxels are expected in {value!r}; expected a name with one number, such as "
                "slice%03d.raw 1 40 1"
            )
        pattern = re.sub(r"%0?\d?d", "*", re.sub(r"([*?\[])", r"[\1]", words[0]))
        _beside(path, words[0])
        names = sorted(file.name for file in path.parent.glob(pattern))
    else:
        names = [value]
    return [_beside(path, name) for name in names]


def _header(path: Path, kind: tuple[str, ...]) -> list[str]:
    """Read the lines of an NRRD header, or all lines of a MetaImage, whose header ends by its content."""
    try:
        with path.open("rb") as file:
            content = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    lines = [line.removesuffix("\r") for line in content.decode("utf-8", "replace").split("\n")]
    if kind is META:
        return lines
    if "" in lines:
        return lines[: lines.index("")]
    if len(content) == _HEAD_BYTES:
        raise InputError(f"{path}: its header has no end in the first {_HEAD_BYTES:,} bytes")
    return lines


def _check_end(path: Path, lines: list[str], number: int) -> None:
    """Refuse a line that one reader takes for the end of a MetaImage's header and another does not."""
    before = re.search(r"[=:]\s*\S", lines[number - 1]) if number else True
    if not lines[number].startswith("ElementDataFile") or not before:
        raise InputError(
            f"{path}: its header is not written as MetaImage is, around {lines[number][:80]!r}; expected "
            "`name = value` in each line, and `ElementDataFile = ...` in the last"
        )


def _beside(path: Path, name: str) -> Path:
    """Return the path of the file of this name beside the header; InputError for any other folder."""
    file = path.parent / name
    plain = len(PurePath(name).parts) == 1 and not re.search(r"[\\:\0]|^~|^\.\.$", name)
    if plain and file.resolve().parent == path.parent.resolve():
        return file
    raise InputError(
        f"{path}: its voxels are expected in {name!r}; expected a file beside the header, in the same folder "
        "and no link out of it: put it there, and its name into the header"
    )
