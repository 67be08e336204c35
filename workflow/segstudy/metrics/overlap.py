"""Overlap of two label maps: all counts and bounding boxes in one pass over the voxels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from segstudy.boxes import Box


@dataclass(frozen=True)
class Overlap:
    """Overlap of a structure, or of several merged, in two label maps.

    Attributes
    ----------
    reference, prediction, common
        Voxels in the one, the other, both.
    box
        The voxels that either holds; None where both are empty.
    """

    reference: int
    prediction: int
    common: int
    box: Box | None

    @property
    def dice(self) -> float:
        """Return twice the overlap over the sum of both volumes; NaN where both are empty."""
        return _share(2 * self.common, self.reference + self.prediction)

    @property
    def iou(self) -> float:
        """Return the overlap over the union of both volumes; NaN where both are empty."""
        return _share(self.common, self.reference + self.prediction - self.common)

    @property
    def precision(self) -> float:
        """Return the share of the predicted volume that lies in the reference; NaN where nothing is predicted."""
        return _share(self.common, self.prediction)

    @property
    def recall(self) -> float:
        """Return the share of the reference volume that is predicted; NaN where the reference is empty."""
        return _share(self.common, self.reference)

    @property
    def relative_volume_error(self) -> float:
        """Return predicted minus reference volume over the reference volume: 0.1 where the prediction is a tenth too large."""
        return _share(self.prediction - self.reference, self.reference)


@dataclass(frozen=True)
class Confusion:
    """Voxels of two label maps, counted by their values in both.

    Attributes
    ----------
    values
        The label values looked at, in the order of the positions from 1; position 0 is all
        other values, the background.
    counts
        Voxels by position in reference and prediction.
    boxes
        Of each position, as `_count` gives them.
    ignored
        Bool (i, j, k), voxels that are not counted; None where there is none.
    """

    values: tuple[int, ...]
    counts: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray | None = None

    def voxels(self, reference: int, prediction: int) -> int:
        """Count the voxels with one value in the reference and another in the prediction; 0 is background."""
        return int(self.counts[self._position(reference), self._position(prediction)])

    def overlap(self, merged: Sequence[int]) -> Overlap:
        """Return the overlap of the two label maps in some values, merged."""
        positions = [self._position(value) for value in merged]
        first = self.boxes[positions, :, 0].min(axis=0)
        last = self.boxes[positions, :, 1].max(axis=0)
        return Overlap(
            reference=int(self.counts[positions].sum()),
            prediction=int(self.counts[:, positions].sum()),
            common=int(self.counts[np.ix_(positions, positions)].sum()),
            box=Box(tuple(first.tolist()), tuple((last + 1).tolist())) if last[0] >= 0 else None,
        )

    def _position(self, value: int) -> int:
        return self.values.index(value) + 1 if value else 0


def confusion(
    reference: np.ndarray,
    prediction: np.ndarray,
    values: Iterable[int],
    ignored: np.ndarray | None = None,
) -> Confusion:
    """Count the voxels of two label maps (i, j, k) of the same shape by their values in both.

    Parameters
    ----------
    reference, prediction
        Label maps, unsigned integers.
    values
        The label values to tell apart; others count as background.
    ignored
        Bool (i, j, k), voxels that are not counted; both maps are 0 there.
    """
    known = tuple(sorted(set(values)))
    # Files hold the first axis fastest; nothing need be copied where both maps agree in that.
    turned = reference.flags.f_contiguous and prediction.flags.f_contiguous
    maps = [array.T if turned else array for array in (reference, prediction)]
    counts, boxes = _count(
        *(np.ascontiguousarray(array) for array in maps),
        *(_positions(known, int(array.max(initial=0))) for array in maps),
        len(known) + 1,
    )
    if ignored is not None:
        counts[0, 0] -= np.count_nonzero(ignored)
    return Confusion(known, counts, boxes[:, ::-1] if turned else boxes, ignored)


def overlaps(
    reference: np.ndarray, prediction: np.ndarray, structures: Mapping[str, Sequence[int]]
) -> dict[str, Overlap]:
    """Compare two label maps (i, j, k) of the same shape, structure by structure.

    Structures may share values. All other values are background.

    Parameters
    ----------
    reference, prediction
        Label maps, unsigned integers.
    structures
        Name -> its label values, merged where several; structures may share values, and all
        other values are background.
    """
    values = [value for merged in structures.values() for value in merged]
    counted = confusion(reference, prediction, values)
    return {name: counted.overlap(merged) for name, merged in structures.items()}


def _positions(values: Sequence[int], highest: int) -> np.ndarray:
    """Map a label value to its position in `values` from 1, or to 0: int64 (highest + 1,)."""
    table = np.zeros(highest + 1, np.int64)
    for number, value in enumerate(values, start=1):
        if value <= highest:
            table[value] = number
    return table


@njit(cache=True, nogil=True)
def _count(reference, prediction, reference_positions, prediction_positions, number):
    """Count voxels by position in the two maps, (number, number), and bound each position by a box.

    Boxes are the first and last voxel of either map, (number, 3, 2); first > last where there is
    none.
    """
    counts = np.zeros((number, number), np.int64)
    boxes = np.empty((number, 3, 2), np.int64)
    boxes[:, :, 0] = np.iinfo(np.int64).max
    boxes[:, :, 1] = -1
    background = 0
    for i in range(reference.shape[0]):
        for j in range(reference.shape[1]):
            reference_row, prediction_row = reference[i, j], prediction[i, j]
            # Most rows of a scan are empty, which shows many voxels at a time.
            any_value = reference_row[0] | prediction_row[0]
            for k in range(len(reference_row)):
                any_value |= reference_row[k] | prediction_row[k]
            if any_value == 0:
                background += len(reference_row)
                continue
            for k in range(len(reference_row)):
                if reference_row[k] == 0 and prediction_row[k] == 0:
                    background += 1
                    continue
                positions = (
                    reference_positions[reference_row[k]],
                    prediction_positions[prediction_row[k]],
                )
                counts[positions] += 1
                for position in positions:
                    box = boxes[position]
                    box[0, 0], box[0, 1] = min(box[0, 0], i), max(box[0, 1], i)
                    box[1, 0], box[1, 1] = min(box[1, 0], j), max(box[1, 1], j)
                    box[2, 0], box[2, 1] = min(box[2, 0], k), max(box[2, 1], k)
    counts[0, 0] += background
    return counts, boxes


def _share(part: int, whole: int) -> float:
    """Divide a part by a whole; NaN where the whole is empty."""
    return part / whole if whole else float("nan")
