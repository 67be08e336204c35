"""Reasons why a path holds no readable image, by its name and first bytes, and the remedy."""

import os
from pathlib import Path

from segstudy.images import signatures
from segstudy.images.names import (
    DICOM,
    NIFTI,
    OTHER,
    PAIR,
    composed,
    ending,
    is_image,
    is_picture,
    stem,
)

EXPECTED = f"expected an image file ({', '.join(NIFTI + OTHER)}) or the folder of a DICOM series"
_HEAD_BYTES = 512
_ZIPPED = {".nii": ".nii.gz", ".mgh": ".mgz"}
_CONVERTED_BY = {
    ".ima": "dcm2niix",
    ".mnc": "mnc2nii (MINC)",
}


def why_unreadable(path: Path | str) -> str:
    """Explain why no image can be read from a path, and the remedy; empty where nothing speaks against it.

    Recognised are missing files (with the file that may be meant), links whose target is missing
    (git-annex, DataLad), pointers of Git LFS and git-annex, folders without DICOM files, empty files,
    web pages, other endings, and endings that disagree with the content.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        return (
            _git_annex_text()
            if "annex/objects/" in target
            else f"a link to {target}, which is not there"
        )
    if not path.exists():
        return "no such file" + _near_name(path)
    if path.is_dir():
        return _why_folder(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return _why_content(head) or _why_ending(path, head)


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return signatures.is_dicom(file.read(_HEAD_BYTES))
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Tell whether the first files of a folder, or of the folders in it, are DICOM files."""
    inside = sorted(folder.iterdir())[:20]
    files = [path for path in inside if path.is_file()][:3]
    deeper = [path for path in inside if path.is_dir()][:3]
    return any(map(is_dicom, files)) or any(
        is_dicom(path) for sub in deeper for path in sorted(sub.iterdir())[:3] if path.is_file()
    )


def is_series(folder: Path) -> bool:
    """Tell whether the first files right in a folder are DICOM files."""
    files = [path for path in sorted(folder.iterdir())[:20] if path.is_file()][:3]
    return any(map(is_dicom, files))


def cases_in(folder: Path) -> dict[str, list[Path]]:
    """List what stands for a case in a folder, by name: image files and folders of DICOM files, or pictures and their folders."""
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    volumes = [path for path in inside if (holds_dicom(path) if path.is_dir() else is_image(path))]
    found: dict[str, list[Path]] = {}
    # Beside volumes, a picture is a preview of one.
    for path in volumes or filter(_is_of_pictures, inside):
        name = composed(path.name) if path.is_dir() else stem(path)
        found.setdefault(name, []).append(path)
    return found


def _is_of_pictures(path: Path) -> bool:
    return any(map(is_picture, path.iterdir())) if path.is_dir() else is_picture(path)


def _git_annex_text() -> str:
    return (
        "the content is not here, only git-annex's (DataLad's) link to it: get it by `datalad get` "
        "or `git annex get`"
    )


def _why_folder(path: Path) -> str:
    if holds_dicom(path) or any(map(is_picture, path.iterdir())):
        return ""
    images = sorted(file.name for file in path.iterdir() if is_image(file))
    return f"a folder; {EXPECTED}" + (f"; did you mean {path / images[0]}?" if images else "")


def _why_content(head: bytes) -> str:
    """Explain by its first bytes why a file is no image, whatever its name says."""
    if not head:
        return "an empty file (0 bytes); copy or download it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "the content is not here, only Git LFS's pointer to it: get it by `git lfs pull`"
    if head.startswith(b"/annex/objects/"):
        return _git_annex_text()
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return (
            "a web page, such as a server answers in place of a file that needs a login; download "
            "the file again"
        )
    return ""


def _why_ending(path: Path, head: bytes) -> str:
    """Explain an ending that is no image's, or that disagrees with the content."""
    known, of_dicom = ending(path), signatures.is_dicom(head)
    if of_dicom and known not in ("", DICOM):
        return f"a DICOM file, although its name ends in {known}; rename it to {stem(path)}.dcm"
    if of_dicom:
        return ""
    if known == DICOM:
        return "no DICOM file, although its name ends so (128 bytes, then DICM); export it again"
    if is_picture(path):
        return ""
    if not known:
        header = path.with_suffix(PAIR)
        if path.suffix.lower() == ".img" and header.exists():
            return f"the voxels of a pair; name its header, {header.name}"
        tool = _CONVERTED_BY.get(path.suffix.lower(), "")
        return EXPECTED + (f"; convert it to .nii.gz, such as by {tool}" if tool else "")
    if known == ".nii.gz" and signatures.is_nifti(head):
        return f"not compressed, although its name ends in .gz; rename it to {path.name[:-3]}"
    if known == ".mgz" and not head.startswith(signatures.GZIP):
        return f"not compressed, although its name ends in .mgz; rename it to {path.stem}.mgh"
    if known in (".nii", ".mgh") and head.startswith(signatures.GZIP):
        return f"compressed, although its name does not say so; rename it to {path.stem}{_ZIPPED[known]}"
    return ""


def _near_name(path: Path) -> str:
    """Name the file beside a missing one that has its name and another ending."""
    try:
        near = sorted(
            file.name
            for file in path.parent.iterdir()
            if stem(file) == stem(path) and file.is_file() and file.name[0] != "."
        )
    except FileNotFoundError:
        return f"; its folder {path.parent} is not there either"
    except OSError:
        return ""
    return f"; there is {near[0]}" if near else ""
