"""Labels that lie elsewhere, or with other axes or numbers, than in the rest of their cohort.

Each structure is described by its position, shape, neighbours and image evidence, and each
feature is compared with the cohort's median in units of its spread. For a label map that
stands out, corrections of every kind are tried (48 orientations, swapped numbers, shifts),
and the one after which the label looks like the others names the error.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segstudy.repair.case_features import CaseFeatures
from segstudy.repair.findings import SMALLEST_COHORT, LabelFinding
from segstudy.repair.points import evidence

#: The six different parts of a symmetric 3x3 matrix.
UPPER = np.triu_indices(3)
#: A robust z-score is taken for no more than this, so that one odd measure does not decide alone.
LARGEST_Z = 8.0
#: Gain, in units of half a squared z-score, that names an error. The greatest of any shift of 208
#: hippocampi as delivered, where the image agrees, is 17.
CLEAR_GAIN = 20.0
#: The share of a case's cost that its explanation may leave; beyond, something else is wrong.
MOST_LEFT = 1 / 3
#: Shifts below this many voxels are within what annotators differ by.
LEAST_SHIFT_VOXELS = 2.0


@dataclass(frozen=True)
class Correction:
    """Describe a correction that is tried.

    Parameters
    ----------
    rotation
        3x3 on right, front, head, about the middle of the grid.
    shift
        (3,) mm, of some structures.
    stands_for
        Structure -> the structure whose label it takes.
    """

    rotation: np.ndarray
    shift: np.ndarray
    stands_for: Mapping[str, str]


def placement_features(
    case: CaseFeatures, name: str, correction: Correction, moved: frozenset[str]
) -> np.ndarray | None:
    """Compute the features of a structure after a correction.

    The order is: log volume; position (3 mm); position relative to each other structure (3 mm each,
    NaN where that is empty); log of its spread (6); by channel: log gradient across its surface,
    mean and log spread of the intensity inside.

    Parameters
    ----------
    case
        Features of the case.
    name
        The structure.
    correction
        The correction.
    moved
        Structures that the correction shifts.

    Returns
    -------
    numpy.ndarray or None
        (m,); None where the structure is empty.
    """
    shape = case.shapes[correction.stands_for.get(name, name)]
    if shape is None:
        return None

    def position(of: str) -> np.ndarray | None:
        there = case.shapes[correction.stands_for.get(of, of)]
        if there is None:
            return None
        return correction.rotation @ there.centroid + (correction.shift if of in moved else 0.0)

    centroid = position(name)
    beside = [
        np.full(3, np.nan) if (other := position(of)) is None else centroid - other
        for of in case.shapes
        if of != name
    ]
    values, vectors = np.linalg.eigh(correction.rotation @ shape.spread @ correction.rotation.T)
    log_spread = (vectors * np.log(np.maximum(values, 1e-6))) @ vectors.T / 2
    shift = correction.shift if name in moved else np.zeros(3)
    across, mean, spread = evidence(shape.points, case.image, correction.rotation, shift)
    return np.concatenate(
        [
            [np.log(shape.volume_ml)],
            centroid,
            *beside,
            log_spread[UPPER],
            np.log(across + 1e-4),
            mean,
            np.log(spread + 1e-3),
        ]
    )


def least_spread(structures: int, channels: int, voxel_mm: float) -> np.ndarray:
    """Return the least spread that a cohort is granted, in the order of `placement_features`."""
    position = [voxel_mm] * 3
    return np.array(
        [0.1, *position, *position * (structures - 1), *[0.05] * 6]
        + [0.1] * channels
        + [0.02] * channels
        + [0.1] * channels
    )


@dataclass(frozen=True)
class Norm:
    """Hold what is usual for a structure.

    Parameters
    ----------
    median, sd
        (m,), median and robust standard deviation of each feature.
    cost
        Half the sum of squared z-scores of a case in the middle of the cohort.
    """

    median: np.ndarray
    sd: np.ndarray
    cost: float = 0.0

    def z(self, features: np.ndarray) -> np.ndarray:
        """Compute robust z-scores, within +-LARGEST_Z; 0 for unknown features."""
        z = (features - self.median) / self.sd
        return np.nan_to_num(z, nan=0.0).clip(-LARGEST_Z, LARGEST_Z)


def cohort_norms(cases: Sequence[CaseFeatures]) -> dict[str, Norm]:
    """Compute the norm of each structure that enough cases have."""
    unchanged = Correction(np.eye(3), np.zeros(3), {})
    voxel_mm = float(np.median([case.voxel_mm for case in cases]))
    norms = {}
    for name in cases[0].shapes:
        rows = [placement_features(case, name, unchanged, frozenset()) for case in cases]
        rows = [row for row in rows if row is not None]
        if len(rows) < SMALLEST_COHORT:
            continue
        table = np.array(rows)
        channels = len(cases[0].image.intensity)
        with np.errstate(all="ignore"):
            median = np.nanmedian(table, axis=0)
            sd = 1.4826 * np.nanmedian(np.abs(table - median), axis=0)
        floor = least_spread(len(cases[0].shapes), channels, voxel_mm)
        norm = Norm(median, np.fmax(sd, floor))
        norms[name] = replace(norm, cost=float(np.median((norm.z(table) ** 2).sum(axis=1) / 2)))
    return norms


# --- corrections of a case that stands out ----------------------------------------------------------

UNCHANGED = Correction(np.eye(3), np.zeros(3), {})


def misorientations() -> dict[str, tuple[str, np.ndarray]]:
    """List the 47 wrong orientations of a label: name -> (fault, 3x3 on right, front, head)."""
    rotations = {}
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            changed = [axis for axis in range(3) if order[axis] != axis]
            name = " ".join(
                f"{'-' if sign < 0 else '+'}{'RFH'[axis]}"
                for axis, sign in zip(order, signs, strict=True)
            )
            if not changed and signs == (1, 1, 1):
                continue
            if not changed and signs == (-1, 1, 1):
                fault = "flipped"
            elif len(changed) == 2 and np.linalg.det(matrix) > 0 and matrix.trace() == 1:
                fault = "rotated"
            else:
                fault = "orientation"
            rotations[name] = fault, matrix
    return rotations


def misplacement_cost(
    case: CaseFeatures, usual: Mapping[str, Norm], correction: Correction, moved: frozenset[str]
) -> tuple[float, float]:
    """Compute how unusual a case is after a correction: half the sum of squared z-scores.

    Returns
    -------
    total, image : float
        Of all features, and of those that the image gives.
    """
    total = image = 0.0
    for name, norm in usual.items():
        features = placement_features(case, name, correction, moved)
        if features is None:
            continue
        squares = norm.z(features) ** 2 / 2
        total += float(squares.sum())
        image += float(squares[-3 * len(case.image.intensity) :].sum())
    return total, image


def explain_misplacement(case: CaseFeatures, usual: Mapping[str, Norm]) -> list[LabelFinding]:
    """Find the correction that explains best why a case stands out, as findings.

    A gain is the fall of `misplacement_cost` by the correction: a log odds, as far as features are
    normal and independent, which they are not quite. A correction that leaves the case unusual
    explains nothing: something else is wrong. Rotated labels are exempt, since voxels that are not
    cubic stretch them, and a part may have left the grid.

    Parameters
    ----------
    case
        Features of the case.
    usual
        Structure -> norm.
    """
    present = [name for name in usual if case.shapes[name] is not None]
    if not present:
        return []
    nobody: frozenset[str] = frozenset()
    before, _ = misplacement_cost(case, usual, UNCHANGED, nobody)
    if before < CLEAR_GAIN:
        return []  # no explanation can gain enough
    explanations: list[LabelFinding] = []
    whole = "+".join(present)
    for name, (fault, rotation) in misorientations().items():
        gain = (
            before
            - misplacement_cost(case, usual, Correction(rotation, np.zeros(3), {}), nobody)[0]
        )
        if gain >= CLEAR_GAIN:
            text = f"fits with its axes (right, front, head) read as {name}"
            explanations.append(LabelFinding(case.case, whole, fault, text, gain))
    for first, second in itertools.combinations(present, 2):
        correction = Correction(np.eye(3), np.zeros(3), {first: second, second: first})
        gain = before - misplacement_cost(case, usual, correction, nobody)[0]
        if gain >= CLEAR_GAIN:
            text = f"fits with {first} and {second} exchanged"
            explanations.append(LabelFinding(case.case, f"{first}+{second}", "swapped", text, gain))
    groups = [frozenset(present), *(frozenset([name]) for name in present if len(present) > 1)]
    for group in groups:
        shift, gain = best_shift(case, usual, group)
        if shift is not None:
            parts = ", ".join(f"{-part:+.0f}" for part in shift)
            text = f"lies ({parts}) mm to the right, front, head of where it fits"
            names = "+".join(name for name in present if name in group)
            explanations.append(LabelFinding(case.case, names, "shifted", text, gain))
    if not explanations:
        return []
    best = max(explanations, key=lambda finding: finding.score)
    reported = [
        finding
        for finding in explanations
        if best.fault == finding.fault == "shifted"
        and "+" not in best.structure + finding.structure
    ] or [best]
    if best.fault not in ("shifted", "swapped"):
        return reported
    unusual = before - sum(usual[name].cost for name in present)
    return (
        reported
        if unusual - sum(finding.score for finding in reported) <= MOST_LEFT * unusual
        else []
    )


def best_shift(
    case: CaseFeatures, usual: Mapping[str, Norm], group: frozenset[str]
) -> tuple[np.ndarray | None, float]:
    """Search for the shift of some structures that makes a case most usual.

    The search starts at the cohort's position and goes by ever smaller steps.

    Parameters
    ----------
    case
        Features of the case.
    usual
        Structure -> norm.
    group
        Structures that are shifted together.

    Returns
    -------
    shift : numpy.ndarray or None
        (3,) mm; None where the gain is not clear, the image speaks against the shift, or annotators
        differ by as much.
    gain : float
        The fall of `misplacement_cost`.
    """
    before, image_before = misplacement_cost(case, usual, UNCHANGED, group)

    def tried(shift: np.ndarray) -> float:
        return misplacement_cost(case, usual, Correction(np.eye(3), shift, {}), group)[0]

    expected = np.mean(
        [usual[name].median[1:4] - case.shapes[name].centroid for name in group], axis=0
    )
    best, least = expected, tried(expected)
    if before - least < 0:  # where it is, it looks better than where the cohort has it
        best, least = np.zeros(3), before
    step = 4 * case.voxel_mm
    while step > case.voxel_mm / 2:
        around = [best + step * np.array(move) for move in itertools.product((-1, 0, 1), repeat=3)]
        costs = [tried(shift) for shift in around]
        if min(costs) < least:
            best, least = around[int(np.argmin(costs))], min(costs)
        else:
            step /= 2
    _, image_after = misplacement_cost(case, usual, Correction(np.eye(3), best, {}), group)
    gain = before - least
    clear = gain >= CLEAR_GAIN and image_after < image_before
    if not clear or np.linalg.norm(best) < LEAST_SHIFT_VOXELS * case.voxel_mm:
        return None, gain
    return best, gain
