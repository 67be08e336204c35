"""Cases as an nnU-Net raw dataset: hard links where a file already is what it expects."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from segstudy.cases import Labelled
from segstudy.errors import InputError
from segstudy.files import write_json
from segstudy.images.files import (
    compare_grids,
    read_grid,
    read_image,
    read_label,
    write_label,
    write_nifti,
)
from segstudy.images.headers import open_nifti

ENDING = ".nii.gz"
IGNORE = "ignore"
"""The name that says to nnU-Net what is no class; its value has to be the highest."""


def raw_name(case: Labelled) -> str:
    """Return a case's name for nnU-Net; no dataset has a hyphen, so no two are alike."""
    return f"{case.dataset}-{case.case.case}"


def write_raw(
    target: Path,
    cases: Sequence[Labelled],
    structures: Sequence[str],
    channels: Sequence[str],
    modality: str,
    ignores: bool = False,
    part: Literal["Tr", "Ts"] = "Tr",
) -> dict[str, int]:
    """Write cases into the folder of a dataset, with the `dataset.json` that describes those to train on.

    target: the folder, with no such cases in it yet.
    structures: names in the order of the classes 1, 2, ...; labels are written with these classes.
    modality: nnU-Net normalises `CT` by the cohort's intensities, anything else image by image.
    ignores: whether voxels may be ignored, which get nnU-Net's label `ignore`, one above the last class.
    part: `Tr`: cases to train on; `Ts`: others, which are tested.

    Returns how many files were `linked` (hard links) and how many `written`.
    Raises InputError for an unreadable file, and for a label on another grid than its image.
    """
    images, labels = (target / f"{what}{part}" for what in ("images", "labels"))
    for folder in (images, labels):
        folder.mkdir(parents=True)
    count = {"linked": 0, "written": 0}
    for case in cases:
        _write_images(images, case, len(channels), count)
        _write_label(labels, case, structures, count)
    if part == "Tr":
        described = description(len(cases), structures, channels, modality, ignores)
        write_json(target / "dataset.json", described)
    return count


def description(
    cases: int,
    structures: Sequence[str],
    channels: Sequence[str],
    modality: str,
    ignores: bool = False,
) -> dict:
    """Return nnU-Net's `dataset.json`. Its names of channels choose the normalisation, and so are not ours."""
    scheme = "CT" if modality == "CT" else "zscore"
    return {
        "channel_names": {str(number): scheme for number in range(len(channels))},
        "labels": {
            "background": 0,
            **{name: n for n, name in enumerate(structures, 1)},
            **({IGNORE: len(structures) + 1} if ignores else {}),
        },
        "numTraining": cases,
        "file_ending": ENDING,
        # As this project reads: through nibabel. The arrays are those of nnU-Net's default, SimpleITK,
        # which however refuses files whose axes are not quite at right angles.
        "overwrite_image_reader_writer": "NibabelIO",
    }


def _write_images(folder: Path, case: Labelled, channels: int, count: dict[str, int]) -> None:
    paths = case.case.images
    names = [f"{raw_name(case)}_{number:04d}{ENDING}" for number in range(channels)]
    if len(paths) == channels and all(_is_plain(path) for path in paths):
        for path, name in zip(paths, names, strict=True):
            _link(path, folder / name, count)
        return
    image = read_image(paths, channels)
    for array, name in zip(image.array, names, strict=True):
        write_nifti(folder / name, array, image.affine)
        count["written"] += 1


def _write_label(
    folder: Path, case: Labelled, structures: Sequence[str], count: dict[str, int]
) -> None:
    path = case.case.label
    label = read_label(path)
    difference = compare_grids(read_grid(case.case.images[0]), label.grid)
    if difference:
        raise InputError(f"{path}: case {case.name}: other grid than its image: {difference}")
    values = [case.structures[name] for name in structures]
    top = max(int(label.array.max(initial=0)), *values, *case.ignore)
    indices = np.zeros(top + 1, np.uint8)
    indices[values] = np.arange(1, len(values) + 1)
    indices[list(case.ignore)] = len(values) + 1
    classes = indices[label.array]
    name = f"{raw_name(case)}{ENDING}"
    # nnU-Net cuts off what follows the point: 0.9999999 would be background.
    if _is_plain(path) and not label.integer_deviation and np.array_equal(classes, label.array):
        _link(path, folder / name, count)
    else:
        write_label(folder / name, classes, label.affine)
        count["written"] += 1


def _is_plain(path: Path) -> bool:
    """Tell whether nnU-Net reads from this file what segstudy does: compressed NIfTI, 3D, one spacing."""
    if not str(path).endswith(ENDING):
        return False
    image = open_nifti(path)
    if len(image.shape) != 3:
        return False
    sizes = read_grid(path).spacing_mm  # in mm, where the header may have another unit
    return bool(np.allclose(image.header.get_zooms(), sizes, rtol=1e-4, atol=0))


def _link(path: Path, target: Path, count: dict[str, int]) -> None:
    source = path.resolve()
    try:
        os.link(source, target)
        count["linked"] += 1
    except OSError:  # another file system, or one without links, or a file of somebody else's
        shutil.copyfile(source, target)
        count["written"] += 1
