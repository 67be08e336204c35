"""Pairs of label maps with lesions, made anew wherever they are asked for: the inputs of `unit/metrics/lesion_peers.json`."""

import numpy as np

SPACINGS_MM = ((1.0, 1.0, 1.0), (0.8, 1.0, 2.5))


def ball(shape, centre, radius):
    """The voxels of a ball, bool."""
    places = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return (places**2).sum(axis=0) <= radius**2


def scan(shape, number, seed):
    """A reference and a prediction, uint8: balls found well, found in part, missed, split, joined, and false ones."""
    random = np.random.default_rng(seed)
    reference, prediction = np.zeros((2, *shape), np.uint8)
    for n in range(number):
        radius = float(random.uniform(1.5, min(shape) / 12 + 2))
        margin = int(radius) + 3
        centre = np.array([random.integers(margin, size - margin) for size in shape])
        moved = centre + random.integers(-1, 2, 3)
        kind = n % 6
        if kind != 5:  # else false
            place, mask = placed(centre, radius)
            reference[place] |= mask
        if kind != 4:  # else missed
            place, mask = placed(moved if kind else centre, radius * (0.7 if kind == 2 else 1))
            if kind == 3:  # split by a gap
                mask[len(mask) // 2] = 0
            prediction[place] |= mask
    return reference, prediction


def placed(centre, radius):
    """The box around a ball, and the ball in it, uint8."""
    reach = int(radius) + 1
    place = tuple(slice(int(c) - reach, int(c) + reach + 1) for c in centre)
    return place, ball((2 * reach + 1,) * 3, (reach,) * 3, radius).astype(np.uint8)


def pairs():
    """Name -> reference, prediction and spacing in mm."""
    made = {
        f"{number} balls, seed {seed}": (*scan((40, 36, 32), number, seed), SPACINGS_MM[seed % 2])
        for seed, number in enumerate((3, 6, 9, 12))
    }
    single = np.zeros((20, 20, 20), np.uint8)
    single[5:11, 5:11, 5:11] = 1
    made["the same"] = (single, single.copy(), SPACINGS_MM[0])
    made["moved"] = (single, np.roll(single, 2, axis=0), SPACINGS_MM[1])
    made["apart"] = (single, np.roll(single, 8, axis=2), SPACINGS_MM[0])
    return made
