"""A cohort of labels that differ a little from what models see, and faults to plant in one of them."""

import numpy as np
from scipy import ndimage

SHAPE = (44, 34, 26)
HEART, AORTA = 1, 2


def truth(index: int) -> np.ndarray:
    """Heart and aorta of a patient: two ellipsoids whose sizes and places differ from patient to patient."""
    draw = np.random.default_rng(index)
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0)
    label = np.zeros(SHAPE, np.uint8)
    for value, centre, radii in (
        (HEART, (14, 16, 12), (7, 6, 6)),
        (AORTA, (31, 14, 12), (4, 4, 7)),
    ):
        middle = centre + draw.uniform(-1.5, 1.5, 3)
        size = radii * draw.uniform(0.9, 1.1, 3)
        label[(((grid - middle) / size) ** 2).sum(axis=-1) < 1] = value
    return label


def seen(label: np.ndarray, draw: np.random.Generator, roughness: float = 0.12) -> np.ndarray:
    """What a model makes of it: the outline moved by a smooth random field."""
    chances = [ndimage.gaussian_filter((label == value).astype(float), 1.0) for value in range(3)]
    for value in (HEART, AORTA):
        field = ndimage.gaussian_filter(draw.normal(size=label.shape), 2)
        chances[value] += roughness * field / field.std() * (chances[value] > 0.02)
    return np.argmax(chances, axis=0).astype(np.uint8)


def too_wide(label: np.ndarray) -> np.ndarray:
    near = ndimage.distance_transform_edt(label != HEART) <= 2
    return np.where(near & (label == 0), HEART, label)


def without_a_part(label: np.ndarray) -> np.ndarray:
    places = np.argwhere(label == HEART)
    kept = label.copy()
    kept[tuple(places[places[:, 0] > np.quantile(places[:, 0], 0.6)].T)] = 0
    return kept


def with_a_blob(label: np.ndarray) -> np.ndarray:
    more = label.copy()
    more[38:42, 27:31, 4:8] = AORTA
    return more


def exchanged(label: np.ndarray) -> np.ndarray:
    return np.array([0, AORTA, HEART], np.uint8)[label]


def moved(label: np.ndarray) -> np.ndarray:
    return ndimage.shift(label, (0, 5, 0), order=0)


def of_another(label: np.ndarray) -> np.ndarray:
    """Each structure elsewhere, so that no one shift brings both back."""
    other = np.zeros_like(label)
    for value, shift in ((HEART, (6, 0, 4)), (AORTA, (-6, 0, -4))):
        other[ndimage.shift((label == value).astype(np.uint8), shift, order=0) > 0] = value
    return other


PLANTED = {
    "too_wide": too_wide,
    "missing_part": without_a_part,
    "extra_part": with_a_blob,
    "swapped": exchanged,
    "shifted": moved,
    "other_scan": of_another,
}
"""Finding -> fault."""
