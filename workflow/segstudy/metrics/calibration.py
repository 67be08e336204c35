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
SUM_SLACK = 1e-3
"""How far from 1 the sum of a voxel's classes may lie: what half precision makes of it."""
BINS = 10
"""Bins of equal width, from 0 to 1, of the calibration error."""


def read_probabilities(path: Path, label: np.ndarray, classes: Sequence[int] = ()) -> np.ndarray:
    """Read the class probabilities (class, i, j, k) of an image, as nnU-Net writes them: `.npz`, (class, k, j, i).

    Parameters
    ----------
    path
        The file.
    label
        The predicted label map (i, j, k), in its own values.
    classes
        Label values of the predictions that are measured.

    Raises
    ------
    InputError
        Where it is no such file, has another shape, holds what are no probabilities of classes that exclude each
        other, or lacks a class.
    """
    shape = label.shape
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
    sums = found.sum(axis=0, dtype=np.float32)
    apart = np.abs(sums - 1)
    if apart.max() > SUM_SLACK:
        raise InputError(
            f"{path}: the {len(found)} classes of a voxel add up to {sums.ravel()[apart.argmax()]:g}; expected 1, to "
            f"{SUM_SLACK:g}: the probabilities of a softmax, background first. Those of region-based training (a sigmoid a "
            "region, which may overlap) are none of classes and cannot be measured: leave out --probabilities"
        )
    largest = max(int(label.max(initial=0)), *classes, 0)
    if largest >= len(found):
        raise InputError(
            f"{path}: {len(found)} classes, numbers 0 to {len(found) - 1}; expected one of number {largest}, a value of the "
            "predicted label maps: classes go by the predictions' label values (in the settings, prediction_labels)"
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
    probabilities: np.ndarray,
    reference: np.ndarray,
    structures: Mapping[str, Sequence[int]],
    predicted_as: Mapping[int, Sequence[int]],
    ignored: np.ndarray | None,
) -> list[Measures]:
    """Return the measures of a case with those of its probabilities; undefined where the reference lacks a structure.

    Parameters
    ----------
    measures
        Of each structure.
    probabilities
        Of `read_probabilities`, whose classes are the predictions' label values.
    reference
        Label map (i, j, k).
    structures
        Name -> label values of the reference; probabilities of merged ones are added up.
    predicted_as
        Label value of the reference -> those of the predictions, where they differ.
    ignored
        Voxels that nobody has labelled, bool (i, j, k), which are left out; None where there is none.
    """
    known = slice(None) if ignored is None else ~ignored
    found = []
    for one in measures:
        values = dict.fromkeys(OF_PROBABILITIES, UNDEFINED)
        if one.n_reference_voxels:
            merged = structures[one.structure]
            classes = [own for value in merged for own in predicted_as.get(value, (value,))]
            probability = np.minimum(probabilities[classes].sum(axis=0, dtype=float), 1)
            probability = probability[known].ravel()
            values = calibration(probability, np.isin(reference, merged)[known].ravel())
        found.append(replace(one, values=one.values | values))
    return found
