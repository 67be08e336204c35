"""Keeping only the largest component of a structure, where a measurement shows that to help.

The measurement uses cases of the training side alone (`predict.choice_names`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from segstudy.errors import InputError
from segstudy.images.overlap import dice

NEIGHBOURS = np.ones((3, 3, 3), bool)
"""Voxels that share a corner belong together (26 neighbours), as in nnU-Net."""


@dataclass(frozen=True)
class Choice:
    """Record whether a structure is reduced to its largest component, and why.

    Parameters
    ----------
    keep_largest
        The choice.
    dice_all, dice_largest
        Mean Dice without and with the reduction; None where nothing was measured.
    cases
        The cases that were measured: those whose reference has the structure.
    """

    keep_largest: bool
    dice_all: float | None = None
    dice_largest: float | None = None
    cases: tuple[str, ...] = ()


def keep_largest(classes: np.ndarray, reduced: Iterable[int]) -> np.ndarray:
    """Keep only the largest component of some classes; the rest of them becomes background (0).

    Of two components of equal size the first in the array stays.

    Parameters
    ----------
    classes
        Class indices (i, j, k); not changed.
    reduced
        Classes that are reduced.

    Returns
    -------
    numpy.ndarray
        (i, j, k).
    """
    result = classes.copy()
    boxes = ndimage.find_objects(classes)
    for number in reduced:
        box = boxes[number - 1] if number <= len(boxes) else None
        if box is None:
            continue
        components, count = ndimage.label(classes[box] == number, NEIGHBOURS)
        if count > 1:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            result[box][(components > 0) & (components != sizes.argmax())] = 0
    return result


def compare(
    reference: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    ignored: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute Dice of each class, as predicted and with its largest component alone.

    Parameters
    ----------
    reference, prediction
        Class indices (i, j, k).
    classes
        The number of classes, the background among them.
    ignored
        bool (i, j, k), voxels that nobody has labelled. They are not counted, but a prediction
        there may join parts to a component.

    Returns
    -------
    as_predicted, largest : numpy.ndarray
        (classes - 1,) each.
    """
    largest = keep_largest(prediction, range(1, classes))
    known = slice(None) if ignored is None else ~ignored
    return tuple(
        dice(reference[known], classes_of[known], classes) for classes_of in (prediction, largest)
    )


def choose(
    compared: Mapping[str, tuple[np.ndarray, np.ndarray]], structures: Sequence[str]
) -> dict[str, Choice]:
    """Choose for each structure whether to keep its largest component: where that raises the mean Dice.

    A tie leaves the structure as predicted.

    Parameters
    ----------
    compared
        Case -> result of `compare`, in the order of the structures.
    structures
        Names of the classes 1, 2, ...
    """
    choices = {}
    for column, structure in enumerate(structures):
        scores = {
            case: (before[column], after[column])
            for case, (before, after) in compared.items()
            if np.isfinite(before[column])
        }
        if scores:
            dice_all, dice_largest = np.mean(list(scores.values()), axis=0).tolist()
            choices[structure] = Choice(
                dice_largest > dice_all, dice_all, dice_largest, tuple(scores)
            )
        else:
            choices[structure] = Choice(False)
    return choices


def apply(
    classes: np.ndarray, choices: Mapping[str, Choice], structures: Sequence[str]
) -> np.ndarray:
    """Reduce the chosen structures of a class array to their largest component."""
    reduced = [number for number, name in enumerate(structures, 1) if choices[name].keep_largest]
    return keep_largest(classes, reduced) if reduced else classes


def to_record(choices: Mapping[str, Choice]) -> dict:
    """Return the content of `postprocessing.json`: for each structure the choice and its measurements."""
    return {name: asdict(choice) for name, choice in choices.items()}


def from_record(record: object, structures: Sequence[str], file: str) -> dict[str, Choice]:
    """Return the choices of a `postprocessing.json`; InputError where one is missing or unusable."""
    choices = {}
    for name in structures:
        entry = record.get(name) if isinstance(record, dict) else None
        keep = entry.get("keep_largest") if isinstance(entry, dict) else None
        if not isinstance(keep, bool):
            raise InputError(
                f"{file}: {name}: found {entry!r}; expected the post-processing of these weights: "
                f'{{"keep_largest": true or false, ...}} for each of {", ".join(structures)}'
            )
        choices[name] = Choice(
            keep, entry.get("dice_all"), entry.get("dice_largest"), tuple(entry.get("cases", ()))
        )
    return choices
