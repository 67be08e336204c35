"""Volume, simple shape and brightness of a predicted structure, and how far they lie from the training cases' labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segstudy.images.files import Image
from segstudy.images.geometry import to_ras

MAD_TO_SD = 1.4826
"""From the median absolute deviation to the SD, for a normal distribution."""


@dataclass(frozen=True)
class Feature:
    """Describe a feature.

    Parameters
    ----------
    words
        What it is, for a reason.
    unit
        Empty for a number without one.
    ratio
        Whether its logarithm is compared: twice as much is as far as half.
    least_scale
        Least SD, of the logarithm where `ratio`, that deviations are divided by: training labels may be all alike.
    """

    words: str
    unit: str
    ratio: bool
    least_scale: float


FEATURES = {
    "volume_ml": Feature("volume", "mL", True, 0.05),
    "components": Feature("number of connected parts", "", True, 0.35),
    "surface_to_volume_per_mm": Feature("surface by volume", "1/mm", True, 0.05),
    **{
        f"extent_{axis}_mm": Feature(f"extent {along}", "mm", True, 0.05)
        for axis, along in (
            ("x", "from left to right"),
            ("y", "from back to front"),
            ("z", "from foot to head"),
        )
    },
    **{
        f"position_{axis}": Feature(f"place in the image {along}", "", False, 0.02)
        for axis, along in (
            ("x", "from left to right"),
            ("y", "from back to front"),
            ("z", "from foot to head"),
        )
    },
    "at_border": Feature("share at the image's border", "", False, 0.02),
    "brightness": Feature("brightness, as a rank in the image", "", False, 0.02),
}
"""Names of features, units in the name; `brightness` is that of the first channel."""


def describe(label: Image, image: Image | None, classes: int) -> list[dict[str, float]]:
    """Measure each structure of a label map.

    Parameters
    ----------
    label
        Class indices (i, j, k).
    image
        (channel, i, j, k) on the same grid; None: brightness is not measured.
    classes
        Number of classes, the background counted.

    Returns
    -------
    list of dict
        Of each class 1, 2, ...: the volume alone, 0, where it has no voxel; else all of `FEATURES`, where there are several
        channels `brightness_<number>` for those after the first.
    """
    from scipy import ndimage

    ras = to_ras(label)
    channels = [] if image is None else list(to_ras(image).array)
    spacing = np.array(ras.spacing_mm)
    boxes = ndimage.find_objects(ras.array.astype(np.int32), classes - 1)
    found = []
    for index, box in enumerate(boxes, 1):
        if box is None:
            found.append({"volume_ml": 0.0})
            continue
        inside = ras.array[box] == index
        start = np.array([part.start for part in box])
        features = _measured(inside, start, spacing, np.array(ras.array.shape))
        for number, channel in enumerate(channels):
            name = f"brightness_{number}" if number else "brightness"
            features[name] = _rank(channel, np.median(channel[box][inside]))
        found.append(features)
    return found


def _measured(
    inside: np.ndarray, start: np.ndarray, spacing: np.ndarray, shape: np.ndarray
) -> dict[str, float]:
    """Measure a mask in its box, which begins at voxel `start` of an image of `shape`."""
    from scipy import ndimage

    voxels = int(inside.sum())
    volume_mm3 = voxels * spacing.prod()
    faces = np.pad(inside, 1).astype(np.int8)
    surface_mm2 = sum(
        np.count_nonzero(np.diff(faces, axis=axis)) * spacing.prod() / spacing[axis]
        for axis in range(3)
    )
    places = np.argwhere(inside) + start
    at_border = ((places == 0) | (places == shape - 1)).any(axis=1).mean()
    position = (places.mean(axis=0) + 0.5) / shape
    return {
        "volume_ml": volume_mm3 / 1000,
        "components": float(ndimage.label(inside, np.ones((3, 3, 3)))[1]),
        "surface_to_volume_per_mm": surface_mm2 / volume_mm3,
        **{
            f"extent_{axis}_mm": float(s)
            for axis, s in zip("xyz", inside.shape * spacing, strict=True)
        },
        **{f"position_{axis}": float(p) for axis, p in zip("xyz", position, strict=True)},
        "at_border": float(at_border),
    }


def _rank(values: np.ndarray, value: float) -> float:
    """Return the share of values below one, those equal to it counted half; no change of contrast that keeps order alters it."""
    return float((np.mean(values < value) + np.mean(values <= value)) / 2)


@dataclass(frozen=True)
class Range:
    """Hold centre and scale of a feature, transformed: a robust mean and SD.

    Parameters
    ----------
    centre
        The median.
    scale
        1.4826 times the median absolute deviation, at least the feature's `least_scale`.
    """

    centre: float
    scale: float

    def deviation(self, value: float) -> float:
        """Return how many scales a transformed value lies from the centre."""
        return abs(value - self.centre) / self.scale


def feature_of(name: str) -> Feature:
    """Return the description of a feature; of brightness in a further channel, that of brightness."""
    return FEATURES["brightness" if name.startswith("brightness") else name]


def transformed(name: str, value: float) -> float:
    """Return a feature's value on the scale on which it is compared."""
    return float(np.log(value)) if feature_of(name).ratio else value


def fit_ranges(described: Sequence[Mapping[str, float]]) -> dict[str, Range]:
    """Take the range of each feature over labels that have the structure; none where no label has it.

    Parameters
    ----------
    described
        Features of one structure, a mapping a label.
    """
    present = [one for one in described if one["volume_ml"] > 0]
    ranges = {}
    for name in present[0] if present else ():
        values = np.array([transformed(name, one[name]) for one in present])
        centre = float(np.median(values))
        mad = float(np.median(np.abs(values - centre)))
        ranges[name] = Range(centre, max(MAD_TO_SD * mad, feature_of(name).least_scale))
    return ranges


def deviations(described: Mapping[str, float], ranges: Mapping[str, Range]) -> dict[str, float]:
    """Return the robust z of each feature that has a range; nothing for a structure without a voxel."""
    if described["volume_ml"] == 0:
        return {}
    return {
        name: ranges[name].deviation(transformed(name, value))
        for name, value in described.items()
        if name in ranges
    }
