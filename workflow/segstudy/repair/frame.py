"""Choice of the frame, voxel indices or millimetres, in which all cases share the corruption.

On the reference case both can explain the same pair of labels. On a case with other voxel sizes
or another origin they send the structure to different places, and only one of them lies on the
edges of that case's image.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import read_grid
from segstudy.images.rigid import move_structure
from segstudy.log import log, progress
from segstudy.repair.evidence import gain, measure
from segstudy.repair.model import Estimate
from segstudy.repair.pair import read_pair
from segstudy.study import RepairedCohort

#: Cases that are looked at: those on which the frames differ most.
CASES = 8
#: Frames that nowhere differ by more than this are the same.
SAME_VOXELS = 0.5
#: Least mean difference of evidence that decides, in natural logarithms: about 5 %.
CLEAR = 0.05


def choose_frame(
    estimates: Mapping[str, Estimate], cases: Sequence[Case], settings: RepairedCohort
) -> tuple[str, dict[str, float]]:
    """Choose the frame that suits the images of the cohort best.

    The evidence is the mean over the cases of log(gradient across the surface after the repair)
    minus before.

    Parameters
    ----------
    estimates
        Frame -> estimate.
    cases
        The cohort; the reference case has no say.
    settings
        The cohort's settings.

    Returns
    -------
    frame : str
        `voxel` or `physical`.
    evidence : dict
        Frame -> mean evidence; empty where the images were not needed.

    Raises
    ------
    InputError
        Where the frames differ and the images do not tell them apart.
    """
    if len(estimates) == 1:
        [frame] = estimates
        log.info("frame: only %s explains the reference case", frame)
        return frame, {}
    reference = next(iter(estimates.values())).reference_case
    apart = {
        case.case: _apart(list(estimates.values()), case)
        for case in cases
        if case.case != reference
    }
    most = sorted(apart, key=lambda name: (-apart[name], name))[:CASES]
    if not most or apart[most[0]] < SAME_VOXELS:
        log.info("frame: both send every case to the same place; voxel it is")
        return "voxel", {}
    named = {case.case: case for case in cases}
    scores: dict[str, list[float]] = {frame: [] for frame in estimates}
    for name in progress(most, "cases that tell the frames apart"):
        for frame, score in _scores(estimates, named[name], settings).items():
            scores[frame].append(score)
    if not all(scores.values()):
        raise InputError(
            f"repair.frame: auto: none of {', '.join(most)} holds {settings.repair.structure}; set "
            "frame: voxel or frame: physical"
        )
    evidence = {frame: sum(each) / len(each) for frame, each in scores.items()}
    best, other = sorted(evidence, key=lambda frame: -evidence[frame])
    log.info("frame: %s", ", ".join(f"{name} {mean:+.3f}" for name, mean in evidence.items()))
    if evidence[best] - evidence[other] < CLEAR:
        raise InputError(
            "repair.frame: auto: the images do not tell voxel from physical "
            f"({', '.join(f'{name} {mean:+.3f}' for name, mean in evidence.items())} over "
            f"{len(most)} cases); look at a case and set frame: voxel or frame: physical"
        )
    return best, evidence


def _apart(estimates: list[Estimate], case: Case) -> float:
    """Compute how far apart two estimates send the middle of a case's grid, in voxels."""
    grid = read_grid(case.label)
    middle = np.append((np.array(grid.shape) - 1) / 2, 1.0)
    one, other = (estimate.on(grid) @ middle for estimate in estimates)
    return float(np.linalg.norm(one - other))


def _scores(
    estimates: Mapping[str, Estimate], case: Case, settings: RepairedCohort
) -> dict[str, float]:
    value = settings.structures[settings.repair.structure]
    label, image = read_pair(case, settings)
    delivered = label.array == value
    if not delivered.any():
        return {}
    before = measure(image.array, delivered, label.spacing_mm)
    scores = {}
    for frame, estimate in estimates.items():
        landed = move_structure(label.array, value, np.linalg.inv(estimate.on(label.grid))) == value
        if np.count_nonzero(landed) < 0.5 * np.count_nonzero(delivered):
            scores[frame] = -math.log(
                10.0
            )  # it would leave the grid: as bad as a tenth of the gradient
        else:
            scores[frame] = gain(
                before.gradient, measure(image.array, landed, label.spacing_mm).gradient
            )
    return scores
