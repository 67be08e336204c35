"""How two label maps overlap: all counts and bounding boxes in one pass over the voxels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from segstudy.boxes import Box


@dataclass(frozen=True)
class Overlap:
    """What a structure, or several merged, has in common in two label maps.

    reference, prediction, common: voxels in the one, the other, both. box: first and last voxel
    along each axis of what either holds, int (3, 2); None where both are empty.
    """

    reference: int
    prediction: int
    common: int
    box: Box | None

    @property
    def dice(self) -> float:
        return _share(2 * self.common, self.reference + self.prediction)

    @property
    def iou(self) -> float:
        return _share(self.common, self.reference + self.prediction - self.common)

    @property
    def precision(self) -> float:
        return _share(self.common, self.prediction)

    @property
    def recall(self) -> float:
        return _share(self.common, self.reference)

    @property
    def relative_volume_error(self) -> float:
        """Signed: 0.1 where the prediction is a tenth too large."""
        return _share(self.prediction - self.reference, self.reference)


@dataclass(frozen=True)
class Confusion:
    """Where the voxels of one label map lie in another.

    values: the label values looked at, in the order of the positions from 1; position 0 is all other
    values, the background. counts: voxels by position in reference and prediction. boxes: of each
    position, as `_count` gives them.
    """

    values: tuple[int, ...]
    counts: np.ndarray
    boxes: np.ndarray

    def voxels(self, reference: int, prediction: int) -> int:
        """Voxels with one value in the reference and the other in the prediction; 0 is background."""
        return int(self.counts[self._position(reference), self._position(prediction)])

    def overlap(self, merged: Sequence[int]) -> Overlap:
        """What the values, merged, have in common in the two."""
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
    """Count two label maps (i, j, k) of the same shape; values not given are background.

    ignored: bool (i, j, k), voxels that are not counted; both maps are 0 there.
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
    return Confusion(known, counts, boxes[:, ::-1] if turned else boxes)


def overlaps(
    reference: np.ndarray, prediction: np.ndarray, structures: Mapping[str, Sequence[int]]
) -> dict[str, Overlap]:
    """Compare two label maps (i, j, k) of the same shape.

    structures: name -> its label value, or the values that are merged in it. Structures may
    share values. All other values are background.
    """
    values = [value for merged in structures.values() for value in merged]
    counted = confusion(reference, prediction, values)
    return {name: counted.overlap(merged) for name, merged in structures.items()}


def _positions(values: Sequence[int], highest: int) -> np.ndarray:
    """Label value -> its position in `values` from 1, or 0: int64 (highest + 1,)."""
    table = np.zeros(highest + 1, np.int64)
    for number, value in enumerate(values, start=1):
        if value <= highest:
            table[value] = number
    return table


@njit(cache=True, nogil=True)
def _count(reference, prediction, reference_positions, prediction_positions, number):
    """Voxels by position in the one and the other, (number, number), and the box of each position.

    Boxes are first and last voxel, (number, 3, 2), of what either map holds; first > last if none.
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
                here = (
                    reference_positions[reference_row[k]],
                    prediction_positions[prediction_row[k]],
                )
                counts[here] += 1
                for position in here:
                    box = boxes[position]
                    box[0, 0], box[0, 1] = min(box[0, 0], i), max(box[0, 1], i)
                    box[1, 0], box[1, 1] = min(box[1, 0], j), max(box[1, 1], j)
                    box[2, 0], box[2, 1] = min(box[2, 0], k), max(box[2, 1], k)
    counts[0, 0] += background
    return counts, boxes


def _share(part: int, whole: int) -> float:
    """Undefined (NaN) where there is nothing to take a share of."""
    return part / whole if whole else float("nan")
