"""Reading the files that a repair works on: image and label of a case, and the reference pair."""

from collections.abc import Sequence

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import Grid, Image, compare_grids, read_image, read_label
from segstudy.study import Repair, RepairedCohort


def read_pair(case: Case, settings: RepairedCohort) -> tuple[Image, Image]:
    """Read label and image of a case.

    Returns
    -------
    label : Image
        (i, j, k).
    image : Image
        (channel, i, j, k), finite, on the same grid.

    Raises
    ------
    InputError
        For different grids, and for voxels that are not finite.
    """
    label = read_label(case.label)
    image = read_image(case.images, len(settings.channels))
    difference = compare_grids(image.grid, label.grid)
    if difference:
        raise InputError(
            f"{case.label}: case {case.case}: other grid than {case.images[0]}: {difference}"
        )
    bad = int(image.array.size - np.count_nonzero(np.isfinite(image.array)))
    if bad:
        raise InputError(
            f"{case.images[0]}: case {case.case}: {bad} voxels are not finite; the verdict of the "
            "repair rests on the image. Mend the file, or leave the case out"
        )
    return label, image


def reference_pair(
    cases: Sequence[Case], structure: str, value: int, reference_case: str
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Read the right and the wrong mask of the reference case, and their grid.

    Parameters
    ----------
    cases
        The cohort.
    structure, value
        Name and label value.
    reference_case
        Its name.

    Returns
    -------
    right, wrong : numpy.ndarray
        bool (i, j, k).
    grid : Grid
        Of both.

    Raises
    ------
    InputError
        Where there is no such pair, or a mask has fewer than two voxels.
    """
    named = {case.case: case for case in cases}
    if reference_case not in named:
        raise InputError(
            f"repair.reference_case: {reference_case!r} is not in the case table; "
            f"expected one of {_some(sorted(named))}"
        )
    case = named[reference_case]
    if case.reference_label is None:
        raise InputError(
            f"repair.reference_case: {reference_case} has no reference_label; repair needs one "
            "case with both the delivered label and the right one"
        )
    right, wrong = read_label(case.reference_label), read_label(case.label)
    difference = compare_grids(right.grid, wrong.grid)
    if difference:
        raise InputError(
            f"{case.reference_label}: other grid than {case.label} of the same case "
            f"{reference_case}: {difference}; repair compares them voxel by voxel"
        )
    masks = right.array == value, wrong.array == value
    for mask, path in zip(masks, (case.reference_label, case.label), strict=True):
        count = int(np.count_nonzero(mask))
        if count < 2:
            raise InputError(
                f"{path}: case {reference_case}: {'no voxel' if count == 0 else 'one voxel'} of "
                f"{structure} (value {value}); expected the whole structure in the delivered and "
                "in the right label"
            )
    return *masks, right.grid


def needs_repair(settings: RepairedCohort) -> Repair:
    """Return the dataset's repair section, or raise InputError."""
    if settings.repair is None:
        raise InputError("--settings: repair: this dataset has no repair section; nothing to do")
    return settings.repair


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
