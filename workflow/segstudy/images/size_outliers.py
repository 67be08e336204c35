"""Voxel sizes and image sizes that are out of all proportion to the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segstudy.images.geometry import ras_grid
from segstudy.images.grids import Grid
from segstudy.images.names import times

OVERALL, ONE_AXIS = 8.0, 20.0
"""Factors by which voxel and image may both differ, in the geometric mean of the axes and along one.

A wrong unit changes both by 10 (cm), 25.4 (inch) or 1000. Sound cohorts change one of them or
little: voxels of 0.45 to 6 mm in one direction are 2.4 in the mean, a PET of 5.3 x 5.3 x 3.3 mm
beside a CT of 0.7 x 0.7 x 1 mm is 5.7 at the same size of the body; a crop has the same voxels.
"""
MINORITY = 1 / 3
"""The share of a cohort up to which outliers are wrong, and the rest right."""
NAMED = 5
"""Cases that a message names."""


@dataclass(frozen=True)
class Size:
    """Hold voxel size and image size along right, front, head, in mm."""

    spacing_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]

    def __str__(self) -> str:
        """Describe the size in words."""
        return (
            f"voxels of {times(self.spacing_mm)} mm, {times(np.round(self.extent_mm, 3))} mm in all"
        )


def image_size(grid: Grid) -> Size:
    """Compute the size of an image along right, front and head."""
    reoriented = ras_grid(grid)
    return Size(
        reoriented.spacing_mm,
        tuple(np.multiply(reoriented.shape, reoriented.spacing_mm).astype(float)),
    )


def is_size_outlier(size: Size, usual: Size) -> bool:
    """Tell whether voxel and image are both far larger, or both far smaller, than is usual."""
    return bool(_are_outliers(_logs([size])[0], _logs([usual]))[0])


def outlier_text(size: Size, usual: Size, whose: str) -> str:
    """Describe in words that a size is out of proportion to the usual one; empty where it is not.

    Parameters
    ----------
    size, usual
        Sizes that are compared.
    whose
        Whose size is usual, such as `the other cases`.
    """
    if not is_size_outlier(size, usual):
        return ""
    return (
        f"{size}; {whose}: {usual}. Both are out of proportion, as with a wrong unit: correct the "
        "voxel size in the header; if it is right, resample the image to voxels like those"
    )


def find_size_outliers(sizes: Mapping[str, Size]) -> dict[str, str]:
    """Find the cases of a cohort whose size is out of proportion to the others.

    Usual is the size of the case with which the most others are in proportion. Where more than
    `MINORITY` of the cases are out of proportion, the wrong ones cannot be told: every case is
    named, with both groups.

    Returns
    -------
    dict
        Case -> reason, for outliers.
    """
    if len(sizes) < 2:
        return {}
    names, logs = list(sizes), _logs(list(sizes.values()))
    apart = _outliers_of_most(logs)
    odd = [name for name, far in zip(names, apart, strict=True) if far]
    like = [name for name in names if name not in set(odd)]
    centre = names[_centre(logs, ~apart)]
    usual = sizes[centre]
    if len(odd) <= MINORITY * len(names):
        whose = f"{len(like)} of {len(names)} cases, e.g. {centre}"
        return {name: outlier_text(sizes[name], usual, whose) for name in odd}
    other = sizes[names[_centre(logs, apart)]]
    groups = f"{_listed(like)} ({usual}) and {_listed(odd)} ({other})"
    text = (
        f"the cases fall into two sizes that are out of proportion, as with a wrong unit: {groups}; "
        "which is right cannot be told. Correct the voxel size in the headers; if all are right, "
        "resample to like voxels, or make them two datasets"
    )
    return dict.fromkeys(names, text)


def _logs(sizes: Sequence[Size]) -> np.ndarray:
    """Return logarithms of voxel and image (case, 2, 4): the three axes and their mean."""
    logs = np.log([[size.spacing_mm, size.extent_mm] for size in sizes])
    return np.concatenate([logs, logs.mean(axis=2, keepdims=True)], axis=2)


def _are_outliers(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell whether a size (2, 4) and others (case, 2, 4) are out of proportion (case,)."""
    factors = others - one
    limits = np.log([ONE_AXIS, ONE_AXIS, ONE_AXIS, OVERALL])
    return ((factors > limits).all(axis=1) | (factors < -limits).all(axis=1)).any(axis=1)


def _outliers_of_most(logs: np.ndarray) -> np.ndarray:
    """Mark the cases (case,) out of proportion to the case that most are in proportion with."""
    counts = [int(_are_outliers(one, logs).sum()) for one in logs]
    best = np.flatnonzero(np.equal(counts, min(counts)))
    chosen = np.zeros(len(logs), bool)
    chosen[best] = True
    return _are_outliers(logs[_centre(logs, chosen)], logs)


def _centre(logs: np.ndarray, chosen: np.ndarray) -> int:
    """Find the chosen case that is nearest to the median of the chosen."""
    middle = np.median(logs[chosen], axis=0)
    far = np.abs(logs - middle).sum(axis=(1, 2))
    return int(np.argmin(np.where(chosen, far, np.inf)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
