"""Reasons why a path holds no readable image, by its name and first bytes, and the remedy."""

import os
from pathlib import Path

from segstudy.images.names import NIFTI, OTHER, is_image, stem

EXPECTED = f"expected an image file ({', '.join(NIFTI + OTHER)})"
_HEAD_BYTES = 512
_GZIP = b"\x1f\x8b"
_NIFTI_SIZES = tuple(
    size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")
)  # a NIfTI file begins with its header's size
_CONVERTED_BY = {
    ".mgz": "mri_convert (FreeSurfer)",
    ".mgh": "mri_convert (FreeSurfer)",
    ".dcm": "dcm2niix",
    ".ima": "dcm2niix",
    ".hdr": "nibabel or ITK-SNAP",
    ".img": "nibabel or ITK-SNAP",
}


def why_unreadable(path: Path | str) -> str:
    """Explain why no image can be read from a path, and the remedy; empty where nothing speaks against it.

    Recognised are missing files (with the file that may be meant), links whose target is missing
    (git-annex, DataLad), pointers of Git LFS and git-annex, folders (of DICOM files), empty files,
    web pages, DICOM files, other endings, and endings that disagree with the content.
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
            return file.read(132)[128:] == b"DICM"
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


def _git_annex_text() -> str:
    return (
        "the content is not here, only git-annex's (DataLad's) link to it: get it by `datalad get` "
        "or `git annex get`"
    )


def _why_folder(path: Path) -> str:
    if holds_dicom(path):
        return (
            f"a folder of DICOM files; {EXPECTED}. Convert each series to one file, such as by "
            "`dcm2niix -z y -o OUT FOLDER`"
        )
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
    if head[128:132] == b"DICM":
        return (
            f"a DICOM file; {EXPECTED}. Convert its series to one file, such as by "
            "`dcm2niix -z y -o OUT FOLDER`"
        )
    return ""


def _why_ending(path: Path, head: bytes) -> str:
    """Explain an ending that is no image's, or that disagrees with the content."""
    if not is_image(path):
        lower = path.name.lower()
        if is_image(lower):
            return f"{EXPECTED}, in lower case: rename it to {lower}"
        tool = _CONVERTED_BY.get(path.suffix.lower(), "")
        return EXPECTED + (f"; convert it to .nii.gz, such as by {tool}" if tool else "")
    if path.name.endswith(".nii.gz") and head.startswith(_NIFTI_SIZES):
        return f"not compressed, although its name ends in .gz; rename it to {path.name[:-3]}"
    if path.name.endswith(".nii") and head.startswith(_GZIP):
        return f"compressed, although its name does not say so; rename it to {path.name}.gz"
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
