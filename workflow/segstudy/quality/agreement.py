"""Agreement of several label maps of one image, the strongest single score of a failed segmentation in Zenk et al. (2025).

Zenk, Zimmerer, Isensee, Traub, Norajitra, Jäger & Maier-Hein (2025): Comparative benchmarking of failure detection
methods in medical image segmentation: unveiling the role of confidence aggregation. Medical Image Analysis 101, 103392.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from segstudy.images.overlap import confusion


def symmetric_dice(one: np.ndarray, other: np.ndarray, classes: int) -> np.ndarray:
    """Compute Dice of each class 1 .. classes-1 between two predictions, neither of which is the reference.

    Parameters
    ----------
    one, other
        Class indices of the same shape.
    classes
        The number of classes, the background among them.

    Returns
    -------
    numpy.ndarray
        float64 (classes - 1,); NaN where both lack the class, 0 where one does.
    """
    counts = confusion(one, other, classes)
    both = 2.0 * np.diagonal(counts)[1:]
    sizes = (counts.sum(axis=0) + counts.sum(axis=1))[1:]
    return np.divide(both, sizes, out=np.full(len(both), np.nan), where=sizes > 0)


def pairwise_dice(members: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Compute the mean Dice of all pairs of label maps, a class at a time.

    Parameters
    ----------
    members
        Class indices of the same shape, of two or more members.
    classes
        The number of classes, the background among them.

    Returns
    -------
    numpy.ndarray
        float64 (classes - 1,): mean over the pairs of which at least one has the class; NaN where no member has it.
    """
    pairs = itertools.combinations(members, 2)
    return _mean_of_defined([symmetric_dice(one, other, classes) for one, other in pairs])


def dice_with_others(one: np.ndarray, others: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Compute the mean Dice of a label map with each of the others, as `pairwise_dice` does."""
    return _mean_of_defined([symmetric_dice(one, other, classes) for other in others])


def _mean_of_defined(rows: Sequence[np.ndarray]) -> np.ndarray:
    table = np.array(rows)
    defined = np.isfinite(table).sum(axis=0)
    total = np.nansum(table, axis=0)
    return np.divide(total, defined, out=np.full(table.shape[1], np.nan), where=defined > 0)
