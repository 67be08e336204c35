"""Simulated corruptions of label files, so that a repair can be compared with a known answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from segstudy.errors import InputError
from segstudy.files import parse_json
from segstudy.images.files import read_grid, read_label, write_label
from segstudy.images.names import is_image, stem
from segstudy.images.rigid import move_structure, segthor_corruption
from segstudy.log import log


def label_files(paths: Sequence[Path]) -> dict[Path, Path]:
    """List label files below the paths, each with the name of its copy below the output folder.

    Raises
    ------
    InputError
        For a folder without label files, and for two files of one name.
    """
    names_of: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and is_image(file))
            if not files:
                raise InputError(f"{path}: no label file in this folder")
            for file in files:
                names_of[file] = file.relative_to(path).with_name(f"{stem(file)}.nii.gz")
        else:
            names_of[path] = Path(f"{stem(path)}.nii.gz")
    names = list(names_of.values())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{twice}: two of the files would be written under this name")
    return names_of


def read_matrix(text: str | None, files: Sequence[Path]) -> np.ndarray:
    """Read the 4x4 corruption, output to input on voxel indices, from JSON.

    Parameters
    ----------
    text
        JSON; None: SegTHOR's corruption, scaled to the mean shape of the files.
    files
        The label files.

    Raises
    ------
    InputError
        For anything but a 4x4 matrix that can be inverted.
    """
    if text is None:
        return segthor_corruption(np.mean([read_grid(file).shape for file in files], axis=0))
    try:
        matrix = np.array(parse_json(text, "--matrix"), float)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--matrix: not a matrix in JSON ({error}); expected 4 rows of 4"
        ) from None
    if matrix.shape != (4, 4) or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise InputError(f"--matrix: shape {matrix.shape}; expected 4x4 with last row 0 0 0 1")
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError("--matrix: cannot be inverted; expected a matrix that keeps volume")
    return matrix


def corrupt_file(file: Path, value: int, matrix: np.ndarray, output: Path) -> None:
    """Write a copy of a label file with one structure moved.

    Parameters
    ----------
    file
        The label file.
    value
        The structure's value.
    matrix
        4x4, output to input on voxel indices.
    output
        The copy, `.nii.gz`.

    Raises
    ------
    InputError
        Where the label lacks the structure, and where the copy would overwrite it.
    """
    if output.resolve() == file.resolve():
        raise InputError(
            f"{output}: would overwrite the label it is made from; choose another folder"
        )
    label = read_label(file)
    before = int(np.count_nonzero(label.array == value))
    if before == 0:
        raise InputError(f"{file}: no voxel of value {value}; expected the structure to move")
    moved = move_structure(label.array, value, matrix)
    write_label(output, moved, label.affine, like=file)
    log.info("%s: %d voxels, %d after", file.name, before, np.count_nonzero(moved == value))


# --- corruptions of other kinds, to test the audit with ----------------------------------------------------


def rotate_label(label: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotate a label map about the middle of its grid, by nearest neighbour; parts outside are lost.

    Parameters
    ----------
    label
        (i, j, k).
    rotation
        3x3 on voxel indices, output to input.
    """
    middle = (np.array(label.shape) - 1) / 2
    return ndimage.affine_transform(label, rotation, middle - rotation @ middle, order=0, cval=0)


def swap_labels(label: np.ndarray, one: int, other: int) -> np.ndarray:
    """Exchange two values of a label map."""
    swapped = label.copy()
    swapped[label == one], swapped[label == other] = other, one
    return swapped


def add_component(label: np.ndarray, value: int, radius: float) -> np.ndarray:
    """Add a ball to a structure, in the background as far from all labels as there is room.

    Parameters
    ----------
    label
        (i, j, k).
    value
        The structure's value.
    radius
        In voxels.
    """
    room = ndimage.distance_transform_edt(
        np.pad(label == 0, 1, constant_values=True)[1:-1, 1:-1, 1:-1]
    )
    margin = int(np.ceil(radius))
    inner = np.zeros(label.shape, bool)
    inner[tuple(slice(margin, size - margin) for size in label.shape)] = True
    centre = np.unravel_index(np.argmax(np.where(inner, room, -1)), label.shape)
    return np.where(_ball(label.shape, centre, radius) & (label == 0), value, label).astype(
        label.dtype
    )


def add_hole(label: np.ndarray, value: int, radius: float) -> np.ndarray:
    """Remove a ball from the thickest part of a structure, which goes on enclosing it.

    Parameters
    ----------
    label
        (i, j, k).
    value
        The structure's value.
    radius
        In voxels, at most.
    """
    depth = ndimage.distance_transform_edt(np.pad(label == value, 1))[1:-1, 1:-1, 1:-1]
    centre = np.unravel_index(np.argmax(depth), label.shape)
    hole = _ball(label.shape, centre, min(radius, depth[centre] - 1.5)) & (label == value)
    return np.where(hole, 0, label).astype(label.dtype)


def _ball(shape: tuple[int, ...], centre, radius: float) -> np.ndarray:
    indices = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum((axis - at) ** 2 for axis, at in zip(indices, centre, strict=True)) <= radius**2
