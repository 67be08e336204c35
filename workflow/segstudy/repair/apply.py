"""Moving the structure of each case back, with a verdict on how far each result can be trusted.

The repair works on the grid as stored, by nearest neighbour, before any reorientation or
resampling, and moves the one structure only. Two losses of the corruption stay: other structures
that the moved one overwrote, and the part that left the grid.
"""

from dataclasses import asdict, dataclass, fields

import numpy as np
from scipy import ndimage

from segstudy.boxes import bounding_box
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import Image, compare_grids, read_label
from segstudy.images.rigid import move_structure
from segstudy.repair.evidence import Evidence, gain, measure
from segstudy.repair.model import Estimate
from segstudy.repair.pair import read_pair
from segstudy.repair.sweep import superior_axis
from segstudy.study import RepairedCohort

#: A measure counts as better or worse where it changed by more than this share.
CLEAR_SHARE = 0.05
#: Share of the structure that may overwrite others, or fall outside, without casting doubt.
FITS_SHARE = 0.02
#: Share of the structure on the border of the grid above which the corruption has cut some of it off.
CUT_SHARE = 0.005


@dataclass(frozen=True)
class Verdict:
    """Report what was done to one case, and why; a row of verdicts.csv.

    Parameters
    ----------
    case
        Its name.
    verdict
        `repaired`; `left` where the image says that the structure was right as delivered; `review`
        where the evidence contradicts itself or something was lost.
    label
        The label that was written: `moved`, `delivered` or `reference`.
    voxels_moved
        Of the structure as delivered.
    voxels_lost_outside
        Of these, the voxels that fall outside the grid when moved back.
    voxels_overwritten
        Of other structures, where the structure lands.
    voxels_at_border
        Of the structure as delivered, on the grid's border: the part pushed further is lost.
    voxels_vacated_near_others
        Of the place that the structure leaves, nearer to another structure than to background:
        probably overwritten by the corruption.
    voxels_filled
        Of these, the voxels given to the nearest structure (`fill_holes: nearest`).
    gradient_before, gradient_after
        Image gradient across the structure's surface (`evidence.Evidence`), a mm.
    spread_before, spread_after
        Mean absolute deviation of the intensity within the structure.
    smoothness_before, smoothness_after
        Mean Dice of neighbouring slices.
    remark
        The reasons, in words.
    """

    case: str
    verdict: str
    label: str
    voxels_moved: int = 0
    voxels_lost_outside: int = 0
    voxels_overwritten: int = 0
    voxels_at_border: int = 0
    voxels_vacated_near_others: int = 0
    voxels_filled: int = 0
    gradient_before: float | None = None
    gradient_after: float | None = None
    spread_before: float | None = None
    spread_after: float | None = None
    smoothness_before: float | None = None
    smoothness_after: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Reverted:
    """Hold a label with one structure moved back, and the losses, in voxels."""

    label: np.ndarray
    moved: int
    lost_outside: int
    overwritten: int
    at_border: int


def revert(label: np.ndarray, value: int, corruption: np.ndarray) -> Reverted:
    """Move a structure back by the inverse of the corruption.

    The structure's old place is left 0. Where it lands it overwrites others.

    Parameters
    ----------
    label
        (i, j, k), unsigned integers.
    value
        The structure's value.
    corruption
        4x4, output to input on voxel indices.
    """
    mask = label == value
    voxels = np.argwhere(mask)
    # The repair maps output to input by the inverse of the corruption; a voxel itself goes by the corruption.
    goes_to = np.floor(voxels @ corruption[:3, :3].T + corruption[:3, 3] + 0.5)
    outside = ((goes_to < 0) | (goes_to >= label.shape)).any(axis=1)
    at_border = ((voxels == 0) | (voxels == np.array(label.shape) - 1)).any(axis=1)
    moved = move_structure(label, value, np.linalg.inv(corruption))
    return Reverted(
        label=moved,
        moved=len(voxels),
        lost_outside=int(outside.sum()),
        overwritten=int(np.count_nonzero((moved == value) & ~mask & (label != 0))),
        at_border=int(at_border.sum()),
    )


def fill_vacated(
    label: np.ndarray, vacated: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Fill the place that a structure left with the nearest value outside it.

    Background counts as a value, so that only voxels nearer to a structure than to background are
    given to one.

    Parameters
    ----------
    label
        (i, j, k).
    vacated
        bool (i, j, k).
    spacing_mm
        Voxel size along i, j, k.

    Returns
    -------
    numpy.ndarray
        A label map (i, j, k).
    """
    box = bounding_box(vacated)
    if box is None:
        return label
    room = box.widened(2, label.shape).slices
    nearest = ndimage.distance_transform_edt(
        vacated[room], sampling=spacing_mm, return_distances=False, return_indices=True
    )
    filled = label.copy()
    filled[room] = label[room][tuple(nearest)]
    return filled


def judge(before: Evidence, after: Evidence, reverted: Reverted) -> tuple[str, bool, str]:
    """Judge the evidence before and after the move.

    Both measures of the image better, and the structure fits and is no more ragged through slices:
    `repaired`. Both worse, or one worse and the structure does not fit: `left`. Anything else is
    for review; such a structure is moved unless more speaks against the move than for it, since the
    cohort is known to be corrupted. Smoothness cannot speak for the move: a corruption that turns
    all slices alike leaves it unchanged.

    Parameters
    ----------
    before, after
        Evidence for the structure as delivered, and as moved back.
    reverted
        The losses of the move.

    Returns
    -------
    verdict : str
        `repaired`, `left` or `review`.
    move : bool
        Whether the moved label is to be written.
    reasons : str
        In words.
    """
    reasons, votes = [], []
    for name, change in (
        ("gradient across the surface", gain(before.gradient, after.gradient)),
        ("homogeneity inside", -gain(before.spread, after.spread)),
    ):
        votes.append(_vote(change))
        reasons.append(f"{name} {('worse', 'unchanged', 'better')[votes[-1] + 1]}")
    fits = reverted.lost_outside + reverted.overwritten <= FITS_SHARE * reverted.moved
    if not fits:
        reasons.append("would overwrite other structures or leave the grid")
    total = sum(votes) - (not fits)
    ragged = gain((before.smoothness,), (after.smoothness,)) < -CLEAR_SHARE
    if ragged:
        reasons.append("smoothness through slices worse")
    if votes == [1, 1] and fits:
        if ragged:
            return "review", True, "; ".join(reasons)
        if reverted.at_border > CUT_SHARE * reverted.moved:
            reasons.append("cut off by the border of the grid as delivered: part is lost for good")
            return "review", True, "; ".join(reasons)
        return "repaired", True, "; ".join(reasons)
    if max(votes) <= 0 and total <= -2:
        return "left", False, "; ".join(reasons)
    return "review", total >= 0, "; ".join(reasons)


def _vote(change: float) -> int:
    return int(change > CLEAR_SHARE) - int(change < -CLEAR_SHARE)


def repair_case(case: Case, estimate: Estimate, settings: RepairedCohort) -> tuple[Image, Verdict]:
    """Return the label to write for a case, on its stored grid, and the verdict.

    Raises
    ------
    InputError
        Where the case's files cannot be read, or differ in their grid.
    """
    repair = settings.repair
    value = settings.structures[repair.structure]
    label, image = read_pair(case, settings)
    delivered = label.array == value
    if not delivered.any():
        return label, Verdict(
            case.case, "review", "delivered", remark=f"no voxel of {repair.structure}"
        )
    if case.case == estimate.reference_case and case.reference_label is not None:
        return _reference(case, label, image, value)
    reverted = revert(label.array, value, estimate.on(label.grid))
    landed = reverted.label == value
    counts = {
        "voxels_moved": reverted.moved,
        "voxels_lost_outside": reverted.lost_outside,
        "voxels_overwritten": reverted.overwritten,
        "voxels_at_border": reverted.at_border,
    }
    if not landed.any():
        return label, Verdict(
            case.case, "review", "delivered", **counts, remark="would leave the grid altogether"
        )
    axis = superior_axis(label.affine)
    before = measure(image.array, delivered, label.spacing_mm, axis)
    after = measure(image.array, landed, label.spacing_mm, axis)
    verdict, move, remark = judge(before, after, reverted)
    if estimate.rotation in ("ambiguous", "undetermined") and verdict == "repaired":
        verdict, remark = "review", f"{remark}; the estimated rotation is {estimate.rotation}"
    array = label.array
    if move:
        vacated = delivered & ~landed
        filled = fill_vacated(reverted.label, vacated, label.spacing_mm)
        filled[vacated & (filled == value)] = 0  # its own neighbour is no hole in another
        near = int(np.count_nonzero(vacated & (filled != 0)))
        counts["voxels_vacated_near_others"] = near
        array = reverted.label
        if repair.fill_holes == "nearest":
            array = filled
            counts["voxels_filled"] = near
    return Image(array, label.affine), Verdict(
        case.case,
        verdict,
        "moved" if move else "delivered",
        **counts,
        **_columns(before, after),
        remark=remark,
    )


def _reference(case: Case, label: Image, image: Image, value: int) -> tuple[Image, Verdict]:
    """Return the right label of the reference case, with the evidence for it."""
    right = read_label(case.reference_label)
    difference = compare_grids(label.grid, right.grid)
    if difference:
        raise InputError(
            f"{case.reference_label}: case {case.case}: other grid than {case.label}: {difference}"
        )
    mask = right.array == value
    if not mask.any():
        raise InputError(f"{case.reference_label}: case {case.case}: no voxel of value {value}")
    delivered = label.array == value
    array = right.array
    if not ((array != 0) & ~mask).any():
        # It holds this structure only: the others come from the delivered label.
        array = label.array.copy()
        array[delivered] = 0
        array[mask] = value
    axis = superior_axis(label.affine)
    before = measure(image.array, delivered, label.spacing_mm, axis)
    after = measure(image.array, mask, label.spacing_mm, axis)
    return Image(array, label.affine), Verdict(
        case.case,
        "repaired",
        "reference",
        voxels_moved=int(delivered.sum()),
        **_columns(before, after),
        remark="the right label was delivered",
    )


def _columns(before: Evidence, after: Evidence) -> dict[str, float]:
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {
        "gradient_before": mean(before.gradient),
        "gradient_after": mean(after.gradient),
        "spread_before": mean(before.spread),
        "spread_after": mean(after.spread),
        "smoothness_before": before.smoothness,
        "smoothness_after": after.smoothness,
    }


def verdict_table(verdicts: list[Verdict]):
    """Return the verdicts as a pandas table, in the order of the cases' names."""
    import pandas as pd

    columns = [field.name for field in fields(Verdict)]
    rows = [asdict(verdict) for verdict in sorted(verdicts, key=lambda verdict: verdict.case)]
    return pd.DataFrame(rows, columns=columns).round(4)
