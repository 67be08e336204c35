"""The images that a person names on the command line: files, channels with commas between, folders."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.names import SLICER, ending, safe_name, stem
from segstudy.images.unreadable import EXPECTED, cases_in, is_series

TABLES = (".tsv", ".csv")


def named_images(
    texts: Iterable[str], output: Path, suffix: str = ".nii.gz", channels: Sequence[str] = ()
) -> dict[str, tuple[Path, ...]]:
    """Collect the images of a command line, by the names of their label files.

    A folder of DICOM files is one image. Any other stands for the images right in it: files, and folders of DICOM
    files. Where all are named as nnU-Net names channels (`case_0000.nii.gz`, `case_0001.nii.gz`), those of a
    case are one image of that name. Segmentations of 3D Slicer (`.seg.nrrd`) are no images. A table (`.tsv`, `.csv`) stands
    for the images that it lists, with columns `case` and `image`, or `image_<channel>` for each channel.

    Parameters
    ----------
    texts
        Words of the command line.
    output
        The folder that labels will be written to.
    suffix
        Of their files.
    channels
        Names of the channels, in order, by which the columns of a table go.

    Returns
    -------
    dict
        Name -> one file for all channels, or one a channel.

    Raises
    ------
    InputError
        For a file that would be overwritten in `output`, and for words that name no images.
    """
    images: dict[str, tuple[Path, ...]] = {}
    for name, paths in (image for text in texts for image in _images(text, channels)):
        if name in images:
            raise InputError(
                f"{paths[0]} and {images[name][0]}: both would be written to {name}{suffix}; "
                "predict them into two folders"
            )
        images[name] = paths
    of_labels = {(output / f"{name}{suffix}").resolve(): name for name in images}
    for name, paths in images.items():
        for path in paths:
            other = of_labels.get(path.resolve())
            if other is not None:
                whose = "its label" if other == name else f"the label of {other}"
                raise InputError(f"{path}: {whose} would overwrite it; choose another --output")
    return images


def _images(text: str, channels: Sequence[str]) -> list[tuple[str, tuple[Path, ...]]]:
    """Return name and files of the images that one word of the command line stands for."""
    if Path(text).suffix.lower() in TABLES and Path(text).is_file():
        return _in_table(Path(text), channels)
    if Path(text).is_dir():
        return _in_folder(Path(text))
    paths = [Path(part) for part in (text.split(",") if not Path(text).exists() else [text])]
    return [(paths[0].name if paths[0].is_dir() else stem(paths[0]), tuple(paths))]


def _in_folder(folder: Path) -> list[tuple[str, tuple[Path, ...]]]:
    if is_series(folder):
        return [(folder.resolve().name, (folder,))]
    named = [
        (name, path)
        for name, paths in cases_in(folder).items()
        for path in paths
        if ending(path) != SLICER
    ]
    if not named:
        raise InputError(f"{folder}: no image file in it; {EXPECTED}")
    channels = [re.fullmatch(r"(.+)_(\d{4})", name) for name, _ in named]
    if not all(channels):
        return [(name, (path,)) for name, path in named]
    cases: dict[str, dict[int, Path]] = {}
    for (_, path), match in zip(named, channels, strict=True):
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


def _in_table(table: Path, channels: Sequence[str]) -> list[tuple[str, tuple[Path, ...]]]:
    """Return name and files of the images of a table; paths are taken from its folder."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="," if table.suffix.lower() == ".csv" else "\t")
            cells, header = list(rows), rows.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not readable as a table ({error})") from None
    each = [f"image_{channel}" for channel in channels]
    columns = each if "image" not in header and {*each} & {*header} else ["image"]
    missing = [name for name in ("case", *columns) if name not in header]
    if missing:
        wanted = f", or {', '.join(each)}," if len(each) > 1 else ""
        raise InputError(
            f"{table}: no column {missing[0]!r}; expected `case` and `image`{wanted} with "
            f"{'commas' if table.suffix.lower() == '.csv' else 'tabs'} between them; found {', '.join(header) or 'nothing'}"
        )
    if not cells:
        raise InputError(f"{table}: no row below the header; expected one an image")
    images = []
    for number, row in enumerate(cells, 2):
        empty = [name for name in ("case", *columns) if not (row[name] or "").strip()]
        if empty:
            raise InputError(f"{table}: row {number}, column {empty[0]}: empty; expected a value")
        files = tuple(table.parent / row[name].strip() for name in columns)
        images.append((safe_name(row["case"].strip()), files))
    return images
