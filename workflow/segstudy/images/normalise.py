"""Normalisation of intensities."""

from collections.abc import Sequence

import numpy as np

from segstudy.images.plan import Plan

# From this share of zero voxels on, zero is taken for "nothing measured here" (a brain without
# its skull), and is left out of an image's mean and SD.
ZERO_BACKGROUND_SHARE = 0.1


def measured(array: np.ndarray) -> np.ndarray | None:
    """Mark the voxels of an image that hold more than a zero background.

    Parameters
    ----------
    array
        (channel, x, y, z).

    Returns
    -------
    numpy.ndarray or None
        bool (x, y, z); None where the image has no zero background, so that all voxels count.
    """
    inside = (array != 0).any(axis=0)
    if inside.all() or not inside.any() or 1 - inside.mean() < ZERO_BACKGROUND_SHARE:
        return None
    return inside


def moments(array: np.ndarray) -> list[dict[str, float]]:
    """Compute mean and SD of each channel, as `zscore` normalisation uses them.

    Parameters
    ----------
    array
        (channel, x, y, z).

    Returns
    -------
    list of dict
        For each channel `mean` and `sd` over the voxels that hold more than a zero background, and
        `zero_background`, whether the image has one.
    """
    inside = measured(array)
    values = array.reshape(len(array), -1) if inside is None else array[:, inside]
    return [{**_mean_and_sd(channel), "zero_background": inside is not None} for channel in values]


def _mean_and_sd(values: np.ndarray) -> dict[str, float]:
    """Compute mean and SD in double precision, a million values at a time: a CT in doubles is 400 MB."""
    mean = float(values.mean(dtype=np.float64))
    parts = range(0, values.size, 1 << 20)
    squares = sum(
        float(np.square(values[at : at + (1 << 20)] - mean, dtype=np.float64).sum()) for at in parts
    )
    return {"mean": mean, "sd": float(np.sqrt(squares / values.size))}


def normalise(
    array: np.ndarray, plan: Plan, image_moments: Sequence[dict[str, float]] | None = None
) -> np.ndarray:
    """Normalise a prepared image, or a patch of one, to float32.

    `ct`: clip to the plan's `low` and `high`, subtract its `mean`, divide by its `sd`, all fitted
    on training cases. `zscore`: subtract the image's own mean and divide by its own SD, channel by
    channel; a zero background is left out of both and stays 0, the value that patches are padded
    with (as in nnU-Net). A constant channel (SD 0) becomes 0.

    Parameters
    ----------
    array
        (channel, x, y, z).
    plan
        Names the normalisation, and holds the fitted values.
    image_moments
        `moments` of the whole image (`CaseArrays.moments`), needed for `zscore` where `array` is a
        patch; None: computed from `array`.
    """
    result = np.array(array, np.float32)
    if plan.normalise == "ct":
        for channel, fitted in zip(result, plan.intensities, strict=True):
            np.clip(channel, fitted["low"], fitted["high"], out=channel)
            _standardise(channel, fitted["mean"], fitted["sd"])
        return result
    channel_moments = moments(array) if image_moments is None else image_moments
    for channel, fitted in zip(result, channel_moments, strict=True):
        _standardise(channel, fitted["mean"], fitted["sd"])
    if channel_moments[0]["zero_background"]:
        result[:, (array == 0).all(axis=0)] = 0
    return result


def _standardise(channel: np.ndarray, mean: float, sd: float) -> None:
    """Subtract the mean and divide by the SD, in place."""
    channel -= np.float32(mean)
    # float32 sums leave a constant channel with an SD of rounding noise, not of 0.
    if sd > 1e-6 * max(abs(mean), 1e-6):
        channel /= np.float32(sd)
    else:
        channel[...] = 0
