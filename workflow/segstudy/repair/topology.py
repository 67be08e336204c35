"""Findings that can be counted: empty structures, stray components, holes and cuts at the border."""

from collections.abc import Mapping, Sequence

import numpy as np

from segstudy.repair.case_features import CaseFeatures
from segstudy.repair.findings import SMALLEST_COHORT, LabelFinding

#: Share of the cohort that must have a structure for its absence to be an error.
USUAL_SHARE = 0.5
#: Robust z-score from which a count is reported.
CLEAR_Z = 5.0


def topology_findings(cases: Sequence[CaseFeatures]) -> list[LabelFinding]:
    """Find empty structures, stray components, holes and cut structures, where unusual in the cohort."""
    findings = []
    for name in cases[0].shapes:
        shapes = {case.case: case.shapes[name] for case in cases}
        there = {case: shape for case, shape in shapes.items() if shape is not None}
        if len(there) >= USUAL_SHARE * len(cases):
            text = f"no voxel; {len(there)} of {len(cases)} cases have it"
            score = len(there) / len(cases)
            findings += [
                LabelFinding(case, name, "empty", text, score)
                for case, shape in shapes.items()
                if shape is None
            ]
        if not there:
            continue
        # A structure may come in several pieces everywhere, as an aorta cut by the field of view.
        pieces = round(float(np.median([len(shape.stray) for shape in there.values()])))
        stray = {case: sum(shape.stray[pieces:]) for case, shape in there.items()}
        holes = {case: shape.holes for case, shape in there.items()}
        for fault, numbers, words in (
            ("stray", stray, "voxels in pieces apart"),
            ("holes", holes, "background voxels enclosed"),
        ):
            scores = _scores({case: np.log1p(number) for case, number in numbers.items()}, 0.3)
            findings += [
                LabelFinding(
                    case, name, fault, f"{numbers[case]} {words}, of {shape.voxels}", score
                )
                for case, shape in there.items()
                if (score := scores[case]) >= CLEAR_Z
            ]
        # Of the structure's own size, as an area.
        scores = _scores(
            {c: shape.border / shape.voxels ** (2 / 3) for c, shape in there.items()}, 0.03
        )
        findings += [
            LabelFinding(
                case, name, "cut", f"{shape.border} voxels on a face of the grid's border", score
            )
            for case, shape in there.items()
            if (score := scores[case]) >= CLEAR_Z
        ]
    return findings


def _scores(measured: Mapping[str, float], least_sd: float) -> dict[str, float]:
    """Compute robust z-scores by case; in a cohort too small for that, 0 is usual."""
    values = np.array(list(measured.values()))
    middle, sd = 0.0, least_sd
    if len(values) >= SMALLEST_COHORT:
        middle = float(np.median(values))
        sd = max(1.4826 * float(np.median(np.abs(values - middle))), least_sd)
    return {case: float((value - middle) / sd) for case, value in measured.items()}
