"""Estimating the corruption of a cohort from its images alone, where no case has a right label.

All cases share one corruption. A candidate is reverted in every case at once, and the images say
how well the structure then lies: on edges, within one kind of tissue, and beside the other
structures instead of over them. A single image is often mistaken, all together seldom. Searched
are a rotation about the foot-head axis, on the full circle, and a shift by up to a fifth of the
grid.

The search works for a compact structure that differs from its surroundings, from three cases on:
the heart of the phantom to a tenth of a degree and half a voxel. It fails for thin tubes (aorta,
esophagus), which lie as well elsewhere along themselves, where another edge of the image is far
stronger than the structure's own (skin in air), and for a corruption that keeps a structure on its
own outline, such as the rotation of a round one. benchmarks/README.md has measurements. Unclear
results are refused, or called `ambiguous`, never guessed.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.images.files import Grid, Image
from segstudy.images.geometry import to_ras
from segstudy.images.rigid import rotation, translation
from segstudy.log import log, progress
from segstudy.repair.estimate import estimate, unchecked_estimate
from segstudy.repair.model import EstimateReport
from segstudy.repair.pair import read_pair, reference_pair
from segstudy.repair.points import POINTS, Points, Scene, evidence, middle_of, sample, scene
from segstudy.repair.sweep import superior_axis
from segstudy.study import RepairedCohort

#: Cases that are looked at, spread over the cohort.
CASES = 12
#: Cases below which the images are not asked.
LEAST_CASES = 3
#: First candidates: degrees, and steps each way, in plane and along the axis.
ANGLE_STEP_DEG = 20.0
STEPS = (3, 2)
#: A step as a share of the mean grid: in plane and along the axis.
STEP_SHARE = (0.075, 0.0375)
#: Starts, each at another angle, that are followed to the end.
STARTS = 6
#: Points for the last steps, where small differences count.
FINE_POINTS = 5 * POINTS
#: Mean difference over its standard error from which one candidate is better than another.
CLEAR_T = 3.0
#: Least gain over the labels as delivered, in natural logarithms, and least mean way of the structure
#: in voxels, below which there is nothing to repair.
LEAST_GAIN, LEAST_WAY = 0.1, 1.0
#: Weight of what overlaps other structures or leaves the grid (share of the voxels) beside the logarithms.
WEIGHT_MISFIT = 2.0

#: Degrees, then shifts along the frame's three axes.
Candidate = tuple[float, float, float, float]


@dataclass(frozen=True)
class CaseView:
    """Hold a case as the search sees it.

    Parameters
    ----------
    points, fine
        Points of the structure as delivered; more of them.
    image, others
        The case's image and its other structures, for look-ups.
    grid
        Of the label as stored.
    middle
        Of the structure, in voxel indices.
    to_mm
        4x4 from the frame's coordinates (voxel indices or RAS mm) to those of the points.
    centroid, size
        Of the structure, and the grid's extent, in the frame's coordinates.
    """

    points: Points
    fine: Points
    image: Scene
    others: Scene
    grid: Grid
    middle: np.ndarray
    to_mm: np.ndarray
    centroid: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class SharedCorruption:
    """Hold the corruption that the images agree on.

    Parameters
    ----------
    matrix
        4x4, output to input, in the frame's coordinates.
    angle_deg
        Its rotation.
    scores
        (case,), how well the structure lies once the corruption is reverted.
    gain
        Mean of the scores above that as delivered.
    t
        The gain over its standard error.
    rotation
        `determined`, or `ambiguous` where another angle suits as well.
    rival_deg
        That other angle.
    angles_deg, curve
        Mean score over the angle, at the shift found.
    """

    matrix: np.ndarray
    angle_deg: float
    scores: np.ndarray
    gain: float
    t: float
    rotation: str
    rival_deg: float | None
    angles_deg: np.ndarray
    curve: np.ndarray


def estimate_from_images(cases: Sequence[Case], settings: RepairedCohort) -> EstimateReport:
    """Estimate the corruption of a cohort from its images, in the settings' frame or in the better one.

    Where the settings name a reference case, the result is compared with that pair too.

    Raises
    ------
    InputError
        Where the images do not tell.
    """
    repair = settings.repair
    value = settings.structures[repair.structure]
    chosen = _spread(sorted(cases, key=lambda case: case.case), CASES)
    seen, first_label = [], None
    for case in progress(chosen, "cases looked at"):
        label, image = read_pair(case, settings)
        first_label = first_label or label
        view = view_case(image, label, value)
        seen += [] if view is None else [view]
    frames = ("voxel", "physical") if repair.frame == "auto" else (repair.frame,)
    agreed, refused = {}, []
    for frame in frames:
        try:
            agreed[frame] = find_shared_corruption(
                [in_frame(view_of_case, frame) for view_of_case in seen], _axis(seen, frame)
            )
        except InputError as error:
            refused.append(f"frame {frame}: {error}")
    if not agreed:
        raise InputError("\n".join(refused))
    frame, scores = _better_frame(agreed, seen)
    best = agreed[frame]

    # From here on it is a transform that is given, in its frame.
    known = repair.model_copy(update={"frame": frame, "transform": best.matrix.tolist()})
    if repair.reference_case is None:
        held, affine = unchecked_estimate(first_label, known, value), first_label.affine
    else:
        right, wrong, grid = reference_pair(cases, repair.structure, value, repair.reference_case)
        held, affine = estimate(right, wrong, grid.affine, known), grid.affine
    # Angles are told in array axes. In some arrays a rotation in RAS goes the other way round.
    mirrored = np.linalg.det(affine[:3, :3]) * affine[2, superior_axis(affine)] < 0
    sign = -1 if frame == "physical" and mirrored else 1
    return EstimateReport(
        replace(
            held.estimate,
            method="images",
            rotation=best.rotation,
            rival_deg=None if best.rival_deg is None else sign * best.rival_deg,
            frame_evidence=scores,
            image_evidence={"cases": len(best.scores), "gain": best.gain, "t": best.t},
        ),
        [replace(held.attempts[0], method="images")],
        None,
        held.repaired,
        evidence_curve=(sign * best.angles_deg, best.curve),
    )


def view_case(image: Image, label: Image, value: int) -> CaseView | None:
    """Prepare a case for the search, in frame `voxel`; None without the structure.

    Parameters
    ----------
    image
        (channel, i, j, k), finite.
    label
        (i, j, k).
    value
        The structure's value.
    """
    ras = to_ras(label)
    mask = ras.array == value
    if not mask.any():
        return None
    grid = ras.grid
    spread_out = np.diag([*grid.spacing_mm, 1.0])
    from_world = spread_out @ translation(-middle_of(grid.shape)) @ np.linalg.inv(grid.affine)
    middle = np.argwhere(label.array == value).mean(axis=0)
    others = ((label.array != 0) & (label.array != value))[None].astype(np.float32)
    return CaseView(
        points=sample(mask, ras.spacing_mm),
        fine=sample(mask, ras.spacing_mm, FINE_POINTS),
        image=scene(image),
        others=scene(Image(others, label.affine)),
        grid=label.grid,
        middle=middle,
        to_mm=from_world @ label.affine,
        centroid=middle,
        size=np.array(label.array.shape, float),
    )


def in_frame(case: CaseView, frame: str) -> CaseView:
    """Convert a case that `view_case` prepared to a frame's coordinates."""
    if frame == "voxel":
        return case
    affine = case.grid.affine
    return replace(
        case,
        to_mm=case.to_mm @ np.linalg.inv(affine),
        centroid=(affine @ np.append(case.middle, 1.0))[:3],
        size=np.abs(affine[:3, :3]) @ case.size,
    )


def placement_score(case: CaseView, corruption: np.ndarray) -> float:
    """Score how well a structure lies with a corruption reverted: log gradient minus log spread.

    Overlap with other structures and voxels outside the grid lower the score.

    Parameters
    ----------
    case
        In the frame of the corruption.
    corruption
        4x4, output to input, in the frame's coordinates.
    """
    moved = case.to_mm @ corruption @ np.linalg.inv(case.to_mm)
    turn, shift = np.ascontiguousarray(moved[:3, :3]), moved[:3, 3]
    across, _, spread = evidence(case.points, case.image, turn, shift)
    _, over, _ = evidence(case.points, case.others, turn, shift)
    edges = np.log(across + 1e-3) - np.log(spread + 1e-2)
    # Without this, a few points left on the grid would be the most homogeneous of structures.
    there = np.abs(case.points.inside @ turn.T + shift)
    outside = float((there > case.image.size_mm / 2).any(axis=1).mean())
    return float(edges.mean() - WEIGHT_MISFIT * (over[0] + outside))


def find_shared_corruption(cases: Sequence[CaseView], axis: int) -> SharedCorruption:
    """Search for the corruption that all cases share.

    Parameters
    ----------
    cases
        In one frame.
    axis
        Foot-head axis in the frame's coordinates.

    Raises
    ------
    InputError
        Where there are too few cases, or where no candidate is clearly better than the labels as
        delivered and than all candidates at other positions.
    """
    if len(cases) < LEAST_CASES:
        raise InputError(
            f"repair.estimate_from: images: {len(cases)} cases hold the structure; expected "
            f"{LEAST_CASES} or more. {ELSE}"
        )
    centre = np.mean([case.centroid for case in cases], axis=0)
    extent = np.mean([case.size for case in cases], axis=0)
    along = np.arange(3) == axis
    step = extent * np.where(along, STEP_SHARE[1], STEP_SHARE[0])

    def corruption(candidate: Sequence[float]) -> np.ndarray:
        return (
            translation(centre + candidate[1:])
            @ rotation(axis, candidate[0])
            @ translation(-centre)
        )

    def score(candidate: Sequence[float], among: Sequence[CaseView]) -> float:
        return float(np.mean([placement_score(case, corruption(candidate)) for case in among]))

    sparse = [_with(case, _every_third(case.points)) for case in cases]
    fine = [_with(case, case.fine) for case in cases]
    shifts = [
        np.arange(-ways, ways + 1) * length
        for ways, length in zip(np.where(along, STEPS[1], STEPS[0]), step, strict=True)
    ]
    starts = []
    for angle in np.arange(-180.0, 180.0, ANGLE_STEP_DEG):
        candidates = [(float(angle), *map(float, shift)) for shift in itertools.product(*shifts)]
        scores = [score(candidate, sparse) for candidate in candidates]
        best = int(np.argmax(scores))
        starts.append((scores[best], candidates[best]))
    starts.sort(reverse=True)
    first = np.array([ANGLE_STEP_DEG, *step]) / 2
    ends = [
        _climb(lambda candidate: score(candidate, cases), start, first)[1]
        for _, start in starts[:STARTS]
    ]
    ends = sorted(
        (_climb(lambda candidate: score(candidate, fine), end, first / 16) for end in ends),
        reverse=True,
    )
    best = np.array(ends[0][1])
    at_best = np.array([placement_score(case, corruption(best)) for case in fine])
    gained = at_best - [placement_score(case, np.eye(4)) for case in fine]
    t = _t(gained)
    log.info(
        "images: gain of %.2f at the best candidate, %.1f deg (t %.1f over %d cases)",
        gained.mean(), best[0], t, len(cases),
    )  # fmt: skip
    way = float(np.mean([_way(case, corruption(best)) for case in cases]))
    if way < LEAST_WAY or gained.mean() < LEAST_GAIN or t < CLEAR_T:
        raise InputError(
            "repair.estimate_from: images: nothing to repair that the images show: the best fault that "
            f"the cases could share moves the structure by {way:.1f} voxels on average and fits the images "
            f"better by {gained.mean():.2f} (t {t:.1f} over {len(cases)} cases; asked {LEAST_WAY:g} voxel, "
            f"{LEAST_GAIN:g} and t {CLEAR_T:g}). Leave the repair section out. If labels are wrong "
            f"nonetheless: {ELSE[0].lower()}{ELSE[1:]}"
        )
    rival_deg = None
    for _, end in ends[1:]:
        turned = _wrap(end[0] - best[0])
        away = np.abs((np.array(end[1:]) - best[1:]) / step).max()
        if abs(turned) < ANGLE_STEP_DEG / 2 and away < 1:
            continue  # the same optimum
        if _t(at_best - [placement_score(case, corruption(end)) for case in fine]) >= CLEAR_T:
            continue
        if away >= 1:
            raise InputError(
                "repair.estimate_from: images: no clear optimum: the images suit two places about as well, "
                f"shifts of {np.round(best[1:], 1).tolist()} and {np.round(end[1:], 1).tolist()}. {ELSE}"
            )
        rival_deg = _wrap(end[0]) if rival_deg is None else rival_deg
    angles = np.arange(-180.0, 180.0)
    return SharedCorruption(
        matrix=corruption(best),
        angle_deg=_wrap(best[0]),
        scores=at_best,
        gain=float(gained.mean()),
        t=t,
        rotation="determined" if rival_deg is None else "ambiguous",
        rival_deg=rival_deg,
        angles_deg=angles,
        curve=np.array([score((angle, *best[1:]), cases) for angle in angles]),
    )


ELSE = "Give a reference_case with a right label, or the transform"


def _better_frame(
    agreed: dict[str, SharedCorruption], seen: Sequence[CaseView]
) -> tuple[str, dict[str, float] | None]:
    """Choose the frame in which the cases agree better, with the mean scores; InputError where unclear."""
    if len(agreed) == 1:
        return next(iter(agreed)), None
    scores = {frame: float(one.scores.mean()) for frame, one in agreed.items()}
    middles = [
        case.grid.affine @ agreed["voxel"].matrix @ np.append(case.middle, 1.0)
        - agreed["physical"].matrix @ case.grid.affine @ np.append(case.middle, 1.0)
        for case in seen
    ]
    apart = [
        np.linalg.norm(one[:3]) / min(case.grid.spacing_mm)
        for one, case in zip(middles, seen, strict=True)
    ]
    if max(apart) < LEAST_WAY:
        log.info("frame: both send every case to the same place; voxel it is")
        return "voxel", scores
    best, other = sorted(scores, key=lambda frame: -scores[frame])
    t = _t(agreed[best].scores - agreed[other].scores)
    log.info(
        "frame: %s (t %.1f)", ", ".join(f"{name} {one:+.3f}" for name, one in scores.items()), t
    )
    if t < CLEAR_T:
        raise InputError(
            f"repair.frame: auto: the images do not tell voxel from physical (t {t:.1f}, asked "
            f"{CLEAR_T:g}); look at a case and set frame: voxel or frame: physical"
        )
    return best, scores


def _axis(seen: Sequence[CaseView], frame: str) -> int:
    """Return the foot-head axis in a frame's coordinates."""
    if frame == "physical":
        return 2
    axes = {superior_axis(case.grid.affine) for case in seen}
    if len(axes) > 1:
        raise InputError(
            "repair.frame: voxel: the cases are stored with different axes from foot to head; one "
            "rotation on voxel indices cannot be looked for. Set frame: physical"
        )
    return axes.pop() if axes else 2


def _spread(cases: Sequence[Case], most: int) -> list[Case]:
    if len(cases) <= most:
        return list(cases)
    return [cases[index] for index in np.linspace(0, len(cases) - 1, most).astype(int)]


def _with(case: CaseView, points: Points) -> CaseView:
    return replace(case, points=points)


def _every_third(points: Points) -> Points:
    return Points(points.surface[::3], points.normal[::3], points.inside[::3])


def _way(case: CaseView, corruption: np.ndarray) -> float:
    """Compute how far a corruption moves the structure's points on average, in voxels of the scene."""
    moved = case.to_mm @ corruption @ np.linalg.inv(case.to_mm)
    points = case.points.inside
    there = points @ moved[:3, :3].T + moved[:3, 3]
    return float(np.linalg.norm((there - points) / case.image.spacing_mm, axis=1).mean())


def _climb(
    score: Callable[[Candidate], float], start: Candidate, steps: np.ndarray
) -> tuple[float, Candidate]:
    """Pattern search along angle and shifts, until the angle's step is below a tenth of a degree."""
    best_candidate, best = np.array(start, float), score(start)
    while steps[0] > 0.05:
        around = [
            best_candidate + sign * np.eye(4)[way] * steps for way in range(4) for sign in (-1, 1)
        ]
        scores = [score(candidate) for candidate in around]
        if max(scores) > best:
            best, best_candidate = max(scores), around[int(np.argmax(scores))]
        else:
            steps = steps / 2
    return best, tuple(best_candidate.tolist())


def _t(differences: np.ndarray) -> float:
    """Mean over standard error."""
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return float(np.mean(differences)) / max(error, 1e-6)


def _wrap(angle_deg: float) -> float:
    return float((angle_deg + 180.0) % 360.0 - 180.0)
