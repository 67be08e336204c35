"""The images that a person names on the command line: files, channels with commas between, folders."""

import re
from collections.abc import Iterable
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.names import is_image, stem
from segstudy.images.unreadable import EXPECTED, holds_dicom, why_unreadable


def named_images(texts: Iterable[str], output: Path) -> dict[str, tuple[Path, ...]]:
    """Collect the images of a command line, by the names of their label files.

    A folder stands for the image files right in it. Where all are named as nnU-Net names channels
    (`case_0000.nii.gz`, `case_0001.nii.gz`), those of a case are one image of that name.

    Parameters
    ----------
    texts
        Words of the command line.
    output
        The folder that labels will be written to.

    Returns
    -------
    dict
        Name -> one file for all channels, or one a channel.

    Raises
    ------
    InputError
        For a file that is no image, and for one that would be overwritten in `output`.
    """
    images: dict[str, tuple[Path, ...]] = {}
    for name, paths in (image for text in texts for image in _images(text)):
        if name in images:
            raise InputError(
                f"{paths[0]} and {images[name][0]}: both would be written to {name}.nii.gz; "
                "predict them into two folders"
            )
        for path in paths:
            reason = why_unreadable(path)
            if reason:
                raise InputError(f"{path}: {reason}")
            if path.resolve() == (output / f"{name}.nii.gz").resolve():
                raise InputError(f"{path}: its label would overwrite it; choose another --output")
        images[name] = paths
    return images


def _images(text: str) -> list[tuple[str, tuple[Path, ...]]]:
    """Return name and files of the images that one word of the command line stands for."""
    if Path(text).is_dir():
        return _in_folder(Path(text))
    paths = [Path(part) for part in (text.split(",") if not Path(text).exists() else [text])]
    return [(stem(paths[0]), tuple(paths))]


def _in_folder(folder: Path) -> list[tuple[str, tuple[Path, ...]]]:
    files = sorted(
        path for path in folder.iterdir() if is_image(path.name) and not path.name.startswith(".")
    )
    if not files:
        what = why_unreadable(folder) if holds_dicom(folder) else f"no image file in it; {EXPECTED}"
        raise InputError(f"{folder}: {what}")
    channels = [re.fullmatch(r"(.+)_(\d{4})", stem(path)) for path in files]
    if not all(channels):
        return [(stem(path), (path,)) for path in files]
    cases: dict[str, dict[int, Path]] = {}
    for path, match in zip(files, channels, strict=True):
        cases.setdefault(match[1], {})[int(match[2])] = path
    for case, channel_files in cases.items():
        if sorted(channel_files) != list(range(len(channel_files))):
            numbers = ", ".join(f"{number:04d}" for number in sorted(channel_files))
            raise InputError(
                f"{folder}: case {case}: found channels {numbers}; expected 0000 to {len(channel_files) - 1:04d}"
            )
    return [
        (case, tuple(channel_files[number] for number in sorted(channel_files)))
        for case, channel_files in cases.items()
    ]
