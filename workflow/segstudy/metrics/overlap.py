"""How two label maps overlap: all counts and bounding boxes in one pass over the voxels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Overlap:
    """What a structure, or several merged, has in common in two label maps.

    reference, prediction, common: voxels in the one, the other, both. box: first and last voxel
    along each axis of what either holds, int (3, 2); None where both are empty.
    """

    reference: int
    prediction: int
    common: int
    box: np.ndarray | None

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


def overlaps(
    reference: np.ndarray, prediction: np.ndarray, structures: Mapping[str, Sequence[int]]
) -> dict[str, Overlap]:
    """Compare two label maps (i, j, k) of the same shape.

    structures: name -> its label value, or the values that are merged in it. Structures may
    share values. All other values are background.
    """
    values = sorted({value for merged in structures.values() for value in merged})
    position = {value: number for number, value in enumerate(values, start=1)}
    # Files hold the first axis fastest; nothing need be copied where both maps agree in that.
    turned = reference.flags.f_contiguous and prediction.flags.f_contiguous
    maps = [array.T if turned else array for array in (reference, prediction)]
    counts, boxes = _count(
        *(np.ascontiguousarray(array) for array in maps),
        *(_positions(values, int(array.max(initial=0))) for array in maps),
        len(values) + 1,
    )
    if turned:
        boxes = boxes[:, ::-1]
    return {
        name: _overlap(counts, boxes, [position[value] for value in merged])
        for name, merged in structures.items()
    }


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
            one, other = reference[i, j], prediction[i, j]
            # Most rows of a scan are empty, which shows many voxels at a time.
            any_value = one[0] | other[0]
            for k in range(len(one)):
                any_value |= one[k] | other[k]
            if any_value == 0:
                background += len(one)
                continue
            for k in range(len(one)):
                if one[k] == 0 and other[k] == 0:
                    background += 1
                    continue
                here = (reference_positions[one[k]], prediction_positions[other[k]])
                counts[here] += 1
                for position in here:
                    box = boxes[position]
                    box[0, 0], box[0, 1] = min(box[0, 0], i), max(box[0, 1], i)
                    box[1, 0], box[1, 1] = min(box[1, 0], j), max(box[1, 1], j)
                    box[2, 0], box[2, 1] = min(box[2, 0], k), max(box[2, 1], k)
    counts[0, 0] += background
    return counts, boxes


def _overlap(counts: np.ndarray, boxes: np.ndarray, positions: list[int]) -> Overlap:
    first, last = boxes[positions, :, 0].min(axis=0), boxes[positions, :, 1].max(axis=0)
    return Overlap(
        reference=int(counts[positions].sum()),
        prediction=int(counts[:, positions].sum()),
        common=int(counts[np.ix_(positions, positions)].sum()),
        box=np.stack([first, last], axis=1) if last[0] >= 0 else None,
    )


def _share(part: int, whole: int) -> float:
    """Undefined (NaN) where there is nothing to take a share of."""
    return part / whole if whole else float("nan")
