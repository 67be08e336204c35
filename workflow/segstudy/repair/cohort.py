"""Estimating the corruption of a cohort, by the way that the settings name."""

from collections.abc import Sequence
from dataclasses import replace

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import read_label
from segstudy.log import log
from segstudy.repair.estimate import estimate, unchecked_estimate
from segstudy.repair.frame import choose_frame
from segstudy.repair.from_images import estimate_from_images
from segstudy.repair.model import EstimateReport
from segstudy.repair.pair import needs_repair, reference_pair
from segstudy.study import RepairedCohort


def estimate_cohort(cases: Sequence[Case], settings: RepairedCohort) -> EstimateReport:
    """Estimate how a structure was moved in a cohort.

    The corruption is stated in the settings, or found from the reference pair or from the images.
    With `frame: auto` the frame that suits the images better is taken.

    Raises
    ------
    InputError
        Where no method explains the reference pair, or the images do not tell.
    """
    repair = needs_repair(settings)
    value = settings.structures[repair.structure]
    if repair.estimate_from == "images":
        return estimate_from_images(cases, settings)
    if repair.reference_case is None:
        log.warning(
            "%s: the given transform is taken as it is: there is no reference_case to check it on",
            repair.structure,
        )
        first = min(cases, key=lambda case: case.case)
        return unchecked_estimate(read_label(first.label), repair, value)
    right, wrong, grid = reference_pair(cases, repair.structure, value, repair.reference_case)
    if repair.frame != "auto":
        return estimate(right, wrong, grid.affine, repair)
    reports, refused = {}, []
    for frame in ("voxel", "physical"):
        log.info("frame %s:", frame)
        try:
            settings_in_frame = repair.model_copy(update={"frame": frame})
            reports[frame] = estimate(right, wrong, grid.affine, settings_in_frame)
        except InputError as error:
            refused.append(str(error))
    if not reports:
        raise InputError("\n".join(refused))
    frame, evidence = choose_frame(
        {name: report.estimate for name, report in reports.items()}, cases, settings
    )
    chosen = reports[frame]
    return replace(
        chosen,
        estimate=replace(chosen.estimate, frame_evidence=evidence),
        attempts=[attempt for report in reports.values() for attempt in report.attempts],
    )
