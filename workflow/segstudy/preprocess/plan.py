"""Fit a plan on a fold's training cases: target spacing, intensities, median shape."""

import math
from collections.abc import Collection, Sequence

import numpy as np

from segstudy.boxes import Box
from segstudy.cases import Split, training_side
from segstudy.errors import InputError
from segstudy.images.crop import widened
from segstudy.images.names import grid_name, parse_grid
from segstudy.images.plan import Plan
from segstudy.images.resample import resampled_shape
from segstudy.preprocess.fingerprint import Fingerprint, Intensities
from segstudy.preprocess.plan_geometry import plan_geometry
from segstudy.study import Preprocess


def training_cases(
    fingerprints: Sequence[Fingerprint],
    splits: Sequence[Split],
    fold: int | str,
    datasets: Collection[str] | None = None,
) -> list[Fingerprint]:
    """Select the fingerprints of a fold's training cases, in the order of the splits.

    Parameters
    ----------
    fingerprints
        Of all cases.
    splits
        The table of splits.
    fold
        The fold, counted from 0.
    datasets
        Datasets whose cases count; None: all.

    Raises
    ------
    InputError
        Where a training case has no fingerprint, or the fold has no training case.
    """
    known = {(fingerprint.dataset, fingerprint.case): fingerprint for fingerprint in fingerprints}
    training = training_side(splits, fold, datasets)
    if not training:
        raise InputError(f"fold {fold}: no case to train on; see the table of splits")
    missing = [split for split in training if (split.dataset, split.case) not in known]
    if missing:
        raise InputError(
            f"fold {fold}: no fingerprint of case {missing[0].case} of {missing[0].dataset}; run "
            "`segstudy preprocess fingerprint` on it"
        )
    return [known[split.dataset, split.case] for split in training]


def fit(
    cases: Sequence[Fingerprint],
    settings: Preprocess,
    modality: str,
    channels: Sequence[str] = (),
) -> Plan:
    """Fit a plan on the training cases of a fold.

    `ct` normalisation clips to percentiles of the foreground and uses its mean and SD; for the
    spacing see `target_spacing`.

    Parameters
    ----------
    cases
        Fingerprints of training cases only.
    settings
        The plan, as in the study file.
    modality
        `CT`, `MR` or `other`.
    channels
        Names of the images' channels, needed where the plan selects some of them.

    References
    ----------
    Isensee et al. 2021, doi:10.1038/s41592-020-01008-z
    """
    shape = {}
    basis = plan_geometry(settings, modality, (1.0, 1.0, 1.0), channels)
    for case in cases:
        box = widened(Box(*case.boxes[basis.crop]), case.shape, case.spacing_mm, basis.margin_mm)
        shape[case.dataset, case.case] = box.shape
    spacing = (
        target_spacing(
            [case.spacing_mm for case in cases], list(shape.values()), settings.anisotropy_threshold
        )
        if settings.spacing_mm == "auto"
        else parse_grid(grid_name(settings.spacing_mm))  # as the arrays' folder is named
    )
    shapes = [
        resampled_shape(shape[case.dataset, case.case], case.spacing_mm, spacing) for case in cases
    ]
    fitted = plan_geometry(settings, modality, spacing, channels)
    intensities = ()
    if fitted.normalise == "ct":
        pooled = list(zip(*(case.channels for case in cases), strict=True))
        kept = range(len(pooled)) if fitted.channels is None else fitted.channels
        intensities = tuple(
            fit_intensities(pooled[index], settings.clip_percentiles) for index in kept
        )
    return Plan(
        **vars(fitted),
        intensities=intensities,
        median_shape=tuple(int(size) for size in np.median(shapes, axis=0).round()),
    )


def target_spacing(
    spacings_mm: Sequence[Sequence[float]],
    shapes: Sequence[Sequence[int]],
    threshold: float,
) -> tuple[float, float, float]:
    """Compute the target spacing of a cohort: the median along each axis, in mm.

    Where the median is so anisotropic that the coarsest axis is more than `threshold` times
    coarser than the others, and has that many times fewer voxels, its 10th percentile is taken
    instead, though not below the other axes: with the median, half of the cohort would lose
    slices, and small structures with them (nnU-Net's rule).

    Parameters
    ----------
    spacings_mm
        Voxel size of each case along right, front, head.
    shapes
        Voxels of each case along these axes.
    threshold
        Ratio of spacings.
    """
    spacing = np.median(spacings_mm, axis=0)
    voxels = np.median(
        [
            resampled_shape(shape, spacing_of_case, spacing)
            for shape, spacing_of_case in zip(shapes, spacings_mm, strict=True)
        ],
        axis=0,
    )
    coarse = int(np.argmax(spacing))
    others = [axis for axis in range(3) if axis != coarse]
    finest = spacing[others].max()
    if spacing[coarse] > threshold * finest and voxels[coarse] * threshold < voxels[others].min():
        low = np.percentile([spacing_of_case[coarse] for spacing_of_case in spacings_mm], 10)
        spacing[coarse] = max(low, finest)
    return tuple(rounded(size) for size in spacing)


def rounded(size_mm: float) -> float:
    """Round a voxel size in mm to three decimals (three digits below 0.1 mm), as it names a folder."""
    decimals = 3 if size_mm >= 0.1 else 2 - math.floor(math.log10(size_mm))
    return round(float(size_mm), min(decimals, 6))


def fit_intensities(
    channels: Sequence[Intensities], percentiles: tuple[float, float]
) -> dict[str, float]:
    """Compute percentiles, mean and SD of the pooled foreground of one channel.

    Mean and SD are exact. Percentiles come from the samples, each weighted by the voxels that
    it stands for.

    Parameters
    ----------
    channels
        The channel's intensities in each case.
    percentiles
        Lower and upper percentile, 0 to 100.

    Returns
    -------
    dict
        `low`, `high`, `mean`, `sd`.

    Raises
    ------
    InputError
        Where there is no foreground.
    """
    channels = [channel for channel in channels if channel.voxels]
    if not channels:
        raise InputError(
            "no foreground in any training case, so there are no intensities to normalise by; "
            "check the labels, or set normalise: zscore"
        )
    voxels = np.array([channel.voxels for channel in channels], float)
    means = np.array([channel.mean for channel in channels])
    mean = float(np.average(means, weights=voxels))
    squares = sum(channel.sum_of_squares for channel in channels)
    squares += float(voxels @ np.square(means - mean))
    values = np.concatenate([channel.sample for channel in channels])
    weights = np.concatenate(
        [np.full(len(channel.sample), channel.voxels / len(channel.sample)) for channel in channels]
    )
    low, high = np.quantile(
        values, np.array(percentiles) / 100, weights=weights, method="inverted_cdf"
    )
    return {
        "low": float(low),
        "high": float(high),
        "mean": mean,
        "sd": float(np.sqrt(squares / voxels.sum())),
    }
