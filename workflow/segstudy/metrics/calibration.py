"""Calibration of predicted probabilities, where a program has written them beside its label maps."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.metric import OF_PROBABILITIES
from segstudy.metrics.measure import UNDEFINED, Measures

KEY = "probabilities"
BINS = 10
"""Bins of equal width, from 0 to 1, of the calibration error."""


def read_probabilities(path: Path, shape: Sequence[int]) -> np.ndarray:
    """Read the class probabilities (class, i, j, k) of an image, as nnU-Net writes them: `.npz`, (class, k, j, i).

    Parameters
    ----------
    path
        The file.
    shape
        Of the label map (i, j, k).

    Raises
    ------
    InputError
        Where it is no such file, has another shape, or holds what is no probability.
    """
    try:
        with np.load(path) as content:
            found = content[KEY]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not readable ({error}); expected a .npz file with {KEY!r}, as nnU-Net writes with "
            "--save_probabilities"
        ) from None
    if found.ndim != 4 or found.shape[1:] != tuple(shape)[::-1]:
        raise InputError(
            f"{path}: {KEY} of shape {found.shape}; expected (classes, {', '.join(map(str, shape[::-1]))}), as the label map"
        )
    if not (found.min() >= -1e-3 and found.max() <= 1 + 1e-3):  # not so for NaN either
        raise InputError(
            f"{path}: {KEY} from {found.min():g} to {found.max():g}; expected 0 to 1, after softmax"
        )
    return found.transpose(0, 3, 2, 1)


def calibration(probability: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return Brier score and expected calibration error of a structure's probability, over all voxels given.

    Parameters
    ----------
    probability
        Of the structure (n,).
    mask
        Whether the reference holds it there (n,), bool.
    """
    bins = np.minimum((probability * BINS).astype(np.intp).clip(0), BINS - 1)
    expected, held = (np.bincount(bins, values, BINS) for values in (probability, mask))
    brier = float(np.mean((probability - mask) ** 2, dtype=float))
    error = float(np.abs(expected - held).sum() / len(mask))
    return dict(zip(OF_PROBABILITIES, (brier, error), strict=True))


def with_calibration(
    measures: Sequence[Measures],
    path: Path,
    reference: np.ndarray,
    structures: Mapping[str, Sequence[int]],
    ignored: np.ndarray | None,
) -> list[Measures]:
    """Return the measures of a case with those of its probabilities; undefined where the reference lacks a structure.

    Parameters
    ----------
    measures
        Of each structure.
    path
        File of the probabilities, whose classes are the label values.
    reference
        Label map (i, j, k).
    structures
        Name -> label values; probabilities of merged ones are added up.
    ignored
        Voxels that nobody has labelled, bool (i, j, k), which are left out; None where there is none.
    """
    probabilities = read_probabilities(path, reference.shape)
    known = slice(None) if ignored is None else ~ignored
    found = []
    for one in measures:
        values = dict.fromkeys(OF_PROBABILITIES, UNDEFINED)
        classes = list(structures[one.structure])
        if max(classes) >= len(probabilities):
            raise InputError(
                f"{path}: {len(probabilities)} classes; expected one of number {max(classes)}, the value of {one.structure}"
            )
        if one.n_reference_voxels:
            probability = probabilities[classes].sum(axis=0)[known].ravel()
            values = calibration(probability, np.isin(reference, classes)[known].ravel())
        found.append(replace(one, values=one.values | values))
    return found
