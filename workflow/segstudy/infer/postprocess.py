"""Keeping only the largest component of a structure, where that was seen to help.

Whether it helps is measured on cases of the training side alone (`predict.choice_cases`).
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

    dice_all, dice_largest: mean Dice without and with the reduction over `cases`, those whose
    reference has the structure; None where nothing was measured.
    """

    keep_largest: bool
    dice_all: float | None = None
    dice_largest: float | None = None
    cases: tuple[str, ...] = ()


def keep_largest(classes: np.ndarray, reduced: Iterable[int]) -> np.ndarray:
    """Return the class array (i, j, k) in which each class of `reduced` has kept its largest component.

    What is taken away becomes background (0). Of two components of equal size the one that comes
    first in the array stays. The array given is not changed.
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
    """Compute Dice of each class 1 .. classes-1 as predicted, and with its largest component alone.

    ignored: bool, voxels that nobody has labelled. They are not counted, but what is predicted there
    may join parts to a component.
    """
    largest = keep_largest(prediction, range(1, classes))
    known = slice(None) if ignored is None else ~ignored
    return tuple(
        dice(reference[known], classes_of[known], classes) for classes_of in (prediction, largest)
    )


def choose(
    compared: Mapping[str, tuple[np.ndarray, np.ndarray]], structures: Sequence[str]
) -> dict[str, Choice]:
    """Choose for each structure whether to keep the largest component: where that raises the mean Dice.

    compared: case -> what `compare` gave for it, in the order of the structures.

    A structure is reduced only where its mean Dice rises; a tie leaves it as predicted.
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
    """Return the content of `postprocessing.json`: per structure the choice and what it rests on."""
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
