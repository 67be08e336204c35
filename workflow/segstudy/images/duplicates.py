"""Images that were saved twice: in another type, orientation or format, or with rescaled numbers.

Such a copy has, voxel by voxel, the numbers of the other image up to a factor (also below 0), an
offset and the rounding of both. Images are compared by some thousand voxels, at positions that
follow from the shape alone, once both are reoriented to RAS. Numbers at an image's ends, such as
air, a background set to zero and clipped values, say nothing and are left out.

A copy with unchanged numbers is also recognised where its header has lost the orientation, or
where rows of background were added or cut away: by the sums of all numbers above the lowest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segstudy.images.files import Image
from segstudy.images.geometry import to_ras
from segstudy.images.names import seed_of, times

POINTS = 8192
"""Voxels that are compared."""
ALIKE_POINTS, ALIKE = 1024, 0.98
"""Voxels and least correlation that make two images worth comparing; rounding to bytes leaves 0.99."""
FIRST_POINTS = 512
LEAST_POINTS, LEAST_VALUES = 64, 16
"""Voxels, and different numbers among them, below which nothing is said."""
RELATIVE = 3e-4
"""Rounding of 16-bit floats, as a share of the range."""
SLACK = 0.65
"""How many steps a rounded number may lie off the line; more than a half, since the line is fitted."""
AGREE = 0.999
"""The least share of voxels that agree."""


@dataclass(frozen=True)
class ImageSignature:
    """Hold the values by which an image is recognised.

    Parameters
    ----------
    shape
        In RAS.
    values
        float32 (n,), the numbers at positions that follow from the shape.
    sums
        Of the numbers above the lowest, counted from the lowest: how many, their sum and the sum of
        their squares (nine digits); None where `values` has too few different numbers.
    """

    shape: tuple[int, int, int]
    values: np.ndarray
    sums: tuple[int, str, str] | None = None


def signature(image: Image) -> ImageSignature:
    """Compute the signature of an image (channel, i, j, k), from its first channel."""
    reoriented = to_ras(Image(image.array[:1], image.affine)).array[0]
    flat = reoriented.ravel()
    if flat.size > POINTS:
        draw = np.random.default_rng(seed_of("look", times(reoriented.shape)))
        flat = flat[draw.integers(0, flat.size, POINTS)]
    distinctive = len(np.unique(flat)) >= LEAST_VALUES
    return ImageSignature(
        reoriented.shape, flat.astype(np.float32), _sums(reoriented) if distinctive else None
    )


def _sums(array: np.ndarray) -> tuple[int, str, str]:
    lowest = array.min()
    number, total, squares = 0, 0.0, 0.0
    for part in array:  # float64 of a part only
        above = part[part > lowest].astype(float) - float(lowest)
        number, total, squares = number + above.size, total + above.sum(), squares + above @ above
    return number, f"{total:.8e}", f"{squares:.8e}"


def duplicate_pairs(signatures: Mapping[str, ImageSignature]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names whose images are the same, in the order of the mapping."""
    seen = set()
    for first, second in _by_shape(signatures):
        seen.add((first, second))
        yield first, second
    whole: dict[tuple[int, str, str], str] = {}
    for name, image in signatures.items():
        first = whole.setdefault(image.sums, name) if image.sums else name
        if first != name and (first, name) not in seen:
            yield first, name


def _by_shape(signatures: Mapping[str, ImageSignature]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names whose images agree voxel by voxel."""
    shapes: dict[tuple[int, int, int], list[str]] = {}
    for name, image in signatures.items():
        shapes.setdefault(image.shape, []).append(name)
    for names in shapes.values():
        for first, second in _alike([signatures[name].values for name in names]):
            if is_rescaled(signatures[names[first]].values, signatures[names[second]].values):
                yield names[first], names[second]


def _alike(values: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Pairs of arrays (n,) that correlate, up to the sign, where both are `_inside`."""
    if len(values) < 2:
        return
    some = np.array([sample[:ALIKE_POINTS] for sample in values], float)
    inside = np.array([_inside(sample) for sample in some], float)
    some = np.clip(some, *np.percentile(some, [1, 99], axis=1, keepdims=True))
    some = (some - some.mean(axis=1, keepdims=True)) * inside
    squares = some**2
    for first in range(len(some) - 1):
        rest = slice(first + 1, None)
        number = np.maximum(inside[rest] @ inside[first], 1)
        mean, other = some[rest] @ inside[first] / number, inside[rest] @ some[first] / number
        spread = squares[rest] @ inside[first] / number - mean**2
        spread *= inside[rest] @ squares[first] / number - other**2
        product = np.abs(some[rest] @ some[first] / number - mean * other)
        for second in np.flatnonzero((spread > 0) & (product >= ALIKE * np.sqrt(abs(spread)))):
            yield first, first + 1 + int(second)


def is_rescaled(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two arrays (n,) hold the same numbers, up to a factor, an offset and rounding.

    The rounding of an array is the smallest step between its numbers.
    """
    # Where some say no, all need not be looked at; fewer have larger steps, and so say no less often.
    if _agree(one[:FIRST_POINTS], other[:FIRST_POINTS]) is False:
        return False
    return bool(_agree(one, other))


def _agree(one: np.ndarray, other: np.ndarray) -> bool | None:
    """Compare as `is_rescaled` does; None where there is too little to tell by."""
    inside = [_inside(array) for array in (one, other)]
    both = inside[0] & inside[1]
    if both.sum() < max(LEAST_POINTS, 0.5 * min(part.sum() for part in inside)):
        return None
    fine, coarse = (np.asarray(array[both], float) for array in (one, other))
    if _step(fine) * np.ptp(coarse) > _step(coarse) * np.ptp(fine):
        fine, coarse = coarse, fine
    levels, place, count = np.unique(coarse, return_inverse=True, return_counts=True)
    if min(len(levels), len(np.unique(fine))) < LEAST_VALUES:
        return None
    # An even background, of which each voxel is rounded alike, would draw the line to itself.
    weights = np.minimum(count, np.median(count))
    slope, offset = _line(np.bincount(place, fine) / count, levels, weights)
    difference = np.abs(coarse - offset - slope * fine)
    rounding = SLACK * (_step(coarse) + abs(slope) * _step(fine)) + RELATIVE * np.ptp(coarse)
    return bool((difference <= rounding).mean() >= AGREE)


def _inside(array: np.ndarray) -> np.ndarray:
    """Where an array (n,) has neither its lowest nor its highest number, nor the most frequent one: bool (n,)."""
    levels, count = np.unique(array, return_counts=True)
    return (array > levels[0]) & (array < levels[-1]) & (array != levels[count.argmax()])


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the line that fits weighted points best by their squares."""
    middle = np.average(x, weights=weights)
    off = (x - middle) * weights
    slope = float(off @ y / (off @ (x - middle))) if off.any() else 0.0
    return slope, float(np.average(y, weights=weights) - slope * middle)


def _step(values: np.ndarray) -> float:
    """Compute the smallest distance between different numbers; 0 for an array of one number."""
    steps = np.diff(np.unique(values))
    return float(steps.min(initial=np.ptp(values)))
