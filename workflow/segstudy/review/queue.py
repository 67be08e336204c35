"""The order in which labels are worth a look: scores of all cases, made comparable, put into one rank, with reasons in words.

Each score is set against the same score of the same structure in the other cases: its distance from the median, in robust SDs
(1.4826 times the median absolute deviation, or what the upper tail is worth, at least a floor that stands for what no reader would
call a fault). So an easy structure, whose Dice hardly varies, does not drown a hard one, nor the other way round.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from segstudy.quality.shape import MAD_TO_SD, deviations, feature_of, fit_ranges
from segstudy.review.scores import CaseScores, StructureScores, Voxel

MOST = 20.0
"""Robust SDs above which a score counts as this."""
CLEAR = 3.0
"""Robust SDs from which a score is a reason."""
AUDITED = 3.0
"""Robust SDs that a finding of the audit adds."""
KNOWN_DICE = 0.5
"""Median Dice of a structure's labels to the consensus from which models know it; below, what they say of it counts less, in proportion."""
TAIL = 0.85
"""Quantile that tells the spread where most cases have the same score and some, which are sound, a higher one. Faults are fewer than the rest."""
TAIL_SDS = 1.036
"""Standard deviations at which it lies in a normal distribution."""
CLEAR_GAIN = 0.15
"""Dice that other names, or another place, gain at least where this is the reason."""
SHAPES = ("volume_ml", "surface_to_volume_per_mm", "extent_x_mm", "extent_y_mm", "extent_z_mm")
"""What of a label's shape is set against the cohort's; place and brightness are the consensus' matter."""

FINDINGS = {
    "swapped": "names exchanged",
    "shifted": "all of the label lies elsewhere",
    "other_scan": "fits no structure",
    "missing_part": "a part is missing",
    "extra_part": "a part too much",
    "too_wide": "boundary too wide",
    "too_narrow": "boundary too narrow",
    "out_of_range": "volume or shape out of range",
    "disagreement": "disagrees with the models",
    "nothing": "nothing stands out",
}
"""Kinds of finding, in words."""


@dataclass(frozen=True)
class Suspicion:
    """Hold what speaks against a case's label.

    Parameters
    ----------
    score
        Robust SDs, those of the audit added; what cases are ranked by.
    finding
        One of `FINDINGS`.
    structures
        The structure that stands out most; several where the finding is theirs together, the worst first.
    reason
        In a sentence.
    voxel
        Where to look (i, j, k), as stored.
    by_structure
        Structure -> its robust SDs.
    """

    score: float
    finding: str
    structures: tuple[str, ...]
    reason: str
    voxel: Voxel
    by_structure: Mapping[str, float] = field(default_factory=dict)

    @property
    def structure(self) -> str:
        """Return the structures as tables have them, joined by `+`."""
        return "+".join(self.structures)


@dataclass(frozen=True)
class Scale:
    """Hold what is usual for a score of a structure.

    Parameters
    ----------
    centre
        Median over the cohort.
    spread
        Robust SD, at least the score's floor.
    """

    centre: float
    spread: float

    def above(self, value: float) -> float:
        """Return by how many SDs a value lies above the centre, up to `MOST`; 0 for one below, or where there is none."""
        return (
            0.0 if math.isnan(value) else min(max((value - self.centre) / self.spread, 0.0), MOST)
        )

    def apart(self, value: float) -> float:
        """Return by how many SDs, up to `MOST`, a value lies from the centre; below it, the number is below 0."""
        apart = 0.0 if math.isnan(value) else (value - self.centre) / self.spread
        return min(max(apart, -MOST), MOST)


def scale(values: Iterable[float], floor: float) -> Scale:
    """Return median and robust SD of the values that are there; of the two that median and upper tail tell, the larger."""
    there = np.array([value for value in values if not math.isnan(value)])
    if not there.size:
        return Scale(0.0, floor)
    centre = float(np.median(there))
    spread = MAD_TO_SD * float(np.median(np.abs(there - centre)))
    tail = (float(np.quantile(there, TAIL, method="lower")) - centre) / TAIL_SDS
    return Scale(centre, max(spread, tail, floor))


def disagreement(one: StructureScores) -> float:
    """Return minus the logarithm of Dice to the consensus, which weighs a loss at 0.5 as it does one at 0.9; NaN where both are empty."""
    return -math.log(max(one.dice, 0.01)) if not math.isnan(one.dice) else math.nan


VOXEL = "of a voxel"
SCORES = {
    "disagreement": (disagreement, 0.03, ""),
    "boundary": (lambda one: one.boundary_mm, 0.25, VOXEL),
    "p95": (lambda one: one.p95_mm, 0.5, VOXEL),
    "missing_part": (lambda one: one.missing_share, 0.02, ""),
    "extra_part": (lambda one: one.extra_share, 0.02, ""),
    "apart": (lambda one: one.apart_share, 0.004, ""),
    "volume": (lambda one: one.log_volume, 0.06, ""),
    "models": (lambda one: 1 - one.models_dice, 0.03, ""),
}
"""Scores of a structure: how it is taken from its scores, the floor of its spread, and whether that is in voxels."""


def rank(
    cases: Mapping[str, CaseScores], audited: Mapping[str, Sequence[tuple[str, str]]] | None = None
) -> dict[str, Suspicion]:
    """Judge each case of a cohort by what is usual in it.

    Parameters
    ----------
    cases
        Name -> its scores; all have the same structures.
    audited
        Name -> what the audit found: structure (empty: the whole label) and evidence.

    Returns
    -------
    dict
        Name -> its suspicion, the most suspicious first; between equals by name.
    """
    if not cases:
        return {}
    usual = _usual(cases.values())
    found = {
        name: _judge(case, usual, (audited or {}).get(name, ())) for name, case in cases.items()
    }
    return dict(sorted(found.items(), key=lambda one: (-one[1].score, one[0])))


@dataclass(frozen=True)
class _Usual:
    """What is usual: of each structure's scores and shape, and of the gains of a case."""

    structures: Mapping[str, Mapping[str, Scale]]
    shapes: Mapping[str, Mapping]
    known: Mapping[str, float]
    swap: Scale
    shift: Scale


def usual_dice(cases: Iterable[CaseScores], structure: str) -> float:
    """Return the median Dice of a structure's labels to the consensus; 1 where no case has it in either."""
    there = [case.structures[structure].dice for case in cases]
    there = [dice for dice in there if not math.isnan(dice)]
    return float(np.median(there)) if there else 1.0


def _usual(cases: Iterable[CaseScores]) -> _Usual:
    cases = list(cases)
    voxel = float(np.median([case.spacing_mm for case in cases]))
    structures, shapes = {}, {}
    for name in cases[0].structures:
        own = [case.structures[name] for case in cases]
        structures[name] = {
            score: scale(map(take, own), floor * voxel if unit == VOXEL else floor)
            for score, (take, floor, unit) in SCORES.items()
        }
        described = [one.label_shape for one in own if one.label_shape]
        ranges = fit_ranges(described) if described else {}
        shapes[name] = {key: ranges[key] for key in SHAPES if key in ranges}
    return _Usual(
        structures,
        shapes,
        {name: min(1.0, usual_dice(cases, name) / KNOWN_DICE) for name in structures},
        scale([case.swap_gain for case in cases], 0.03),
        scale([case.shift_gain for case in cases], 0.03),
    )


@dataclass(frozen=True)
class _Judged:
    """A structure's scores in robust SDs; `doubt` divides what they add up to."""

    scores: Mapping[str, float]
    shape: tuple[float, str]
    doubt: float

    @property
    def total(self) -> float:
        """Return the root mean square of the scores' best three, which no single odd number makes and no usual ones dilute."""
        return _together([*map(abs, self.scores.values()), self.shape[0]]) / self.doubt


def _together(scores: Iterable[float]) -> float:
    best = sorted(scores, reverse=True)[:3]
    return math.sqrt(sum(one**2 for one in best) / 3)


def _judge(case: CaseScores, usual: _Usual, audited: Sequence[tuple[str, str]]) -> Suspicion:
    judged = {
        name: _judge_structure(one, usual.structures[name], usual.shapes[name], usual.known[name])
        for name, one in case.structures.items()
    }
    totals = {name: one.total for name, one in judged.items()}
    doubt = float(np.median([one.doubt for one in judged.values()]))
    whole = max(usual.swap.above(case.swap_gain), usual.shift.above(case.shift_gain)) / doubt
    named = [name for name, _ in audited]
    score = max(*totals.values(), whole) + AUDITED * bool(audited)
    finding, structures, words = _explain(case, judged, usual)
    worst = structures[0]
    if audited:
        words += "; the audit found: " + "; ".join(
            f"{name}: {evidence}" if name else evidence for name, evidence in audited
        )
        if finding == "nothing":
            finding = "out_of_range"
            worst = next((name for name in named if name in totals), worst)
            structures = [worst]
    return Suspicion(score, finding, tuple(structures), words, _place(case, worst, finding), totals)


def _judge_structure(
    one: StructureScores, usual: Mapping[str, Scale], ranges: Mapping, known: float
) -> _Judged:
    """Judge one structure. known: 0 to 1, how far models know it; where they do not, the cohort's shapes are left."""
    scores = {
        name: known
        * (
            usual[name].apart(take(one))
            if name in ("boundary", "volume")
            else usual[name].above(take(one))
        )
        for name, (take, _, _) in SCORES.items()
        if name != "models"
    }
    shape = (0.0, "")
    if one.label_shape and one.label_shape.get("volume_ml"):
        own = deviations(one.label_shape, ranges)
        # A large patient is large in the consensus too, and no fault.
        agreed = deviations(one.consensus_shape, ranges) if one.consensus_shape else {}
        shape = max(((own[key] - known * agreed.get(key, 0.0), key) for key in own), default=shape)
        shape = (min(max(shape[0], 0.0), MOST), shape[1])
    models = 1 - one.models_dice if not math.isnan(one.models_dice) else math.nan
    return _Judged(scores, shape, 1 + usual["models"].above(models) / CLEAR)


def _explain(
    case: CaseScores, judged: Mapping[str, _Judged], usual: _Usual
) -> tuple[str, list[str], str]:
    """Return the finding, the structures that it is about, the worst first, and the reason in words."""
    order = sorted(judged, key=lambda name: (-judged[name].total, name))
    renamed = list(case.renamed)
    if case.swap_gain >= CLEAR_GAIN and usual.swap.above(case.swap_gain) >= CLEAR:
        pairs = ", ".join(f"{one} fits {other}" for one, other in case.renamed.items())
        return "swapped", renamed, f"{pairs}: with these names Dice is {case.swap_gain:.2f} higher"
    if case.shift_gain >= CLEAR_GAIN and usual.shift.above(case.shift_gain) >= CLEAR:
        far = math.hypot(*case.shift_mm)
        along = max(range(3), key=lambda axis: abs(case.shift_mm[axis]))
        text = (
            f"all of the label lies {far:.1f} mm off, most of it along {'ijk'[along]}: moved back, Dice is "
            f"{case.shift_gain:.2f} higher"
        )
        return "shifted", order, text
    if all(one.scores["disagreement"] >= CLEAR for one in judged.values()) and len(judged) > 1:
        dices = ", ".join(f"{name} {case.structures[name].dice:.2f}" for name in case.structures)
        text = f"no structure fits what models see (Dice {dices}): another scan's label, or another place"
        return "other_scan", order, text
    worst = order[0]
    finding, text = _explain_structure(
        worst, case.structures[worst], judged[worst], usual.structures[worst]
    )
    return finding, [worst], text


def _explain_structure(
    name: str, one: StructureScores, judged: _Judged, usual: Mapping[str, Scale]
) -> tuple[str, str]:
    """Return the finding of a structure and its reason, by the score that stands out most."""
    scores = judged.scores
    wide = "too_wide" if scores["boundary"] > 0 else "too_narrow"
    # What tells what to do comes before what tells that something is wrong.
    specific = {
        "missing_part": scores["missing_part"],
        "extra_part": max(scores["extra_part"], scores["apart"]),
        wide: abs(scores["boundary"]),
    }
    general = {
        "out_of_range": judged.shape[0],
        "disagreement": max(scores["disagreement"], scores["p95"], abs(scores["volume"])),
    }
    for candidates in (specific, general):
        finding = max(candidates, key=lambda kind: candidates[kind])
        if candidates[finding] >= CLEAR:
            break
    else:
        return "nothing", (
            f"nothing stands out; {name} differs most, Dice {one.dice:.2f} (usual "
            f"{math.exp(-usual['disagreement'].centre):.2f})"
        )
    usual_mm = usual["boundary"].centre
    texts = {
        "missing_part": f"{name}: a part is missing, {100 * one.missing_share:.0f} % of what models see in one piece",
        "extra_part": f"{name}: {_extra(one)} that models do not see",
        "too_wide": f"{name}: the boundary lies {one.boundary_mm:.1f} mm further out than models have it (usual {usual_mm:.1f} mm)",
        "too_narrow": f"{name}: the boundary lies {-one.boundary_mm:.1f} mm further in than models have it (usual {-usual_mm:.1f} mm)",
        "out_of_range": f"{name}: {_shape(judged.shape[1])} is {judged.shape[0]:.0f} robust SDs further from the cohort than what "
        "models see of this case",
        "disagreement": f"{name}: Dice to what models see is {one.dice:.2f} (usual {math.exp(-usual['disagreement'].centre):.2f}), "
        f"95 % of the outlines lie within {one.p95_mm:.1f} mm (usual {usual['p95'].centre:.1f} mm)",
    }
    return finding, texts[finding]


def _extra(one: StructureScores) -> str:
    if one.consensus_ml == 0:
        return f"{one.label_ml:.2g} mL"
    if one.apart_share > 0:
        return f"a part of its own, {100 * one.apart_share:.1f} % of the label,"
    return f"a piece of {100 * one.extra_share:.0f} %"


def _shape(feature: str) -> str:
    return feature_of(feature).words if feature else "the shape"


def _place(case: CaseScores, name: str, finding: str) -> Voxel:
    """Return where to look: the middle of what the finding is about, else of what differs, in this structure or another."""
    for one in (name, *case.structures):
        places = case.structures[one].places
        for kind in (finding, "difference"):
            if kind in places:
                return places[kind]
    return (0, 0, 0)


def draw_controls(names: Iterable[str], number: int, seed: int) -> list[str]:
    """Draw cases at random, without replacement; sorted by name. All of them where there are fewer.

    Parameters
    ----------
    names
        Those that the queue does not pick.
    number, seed
        How many; the same names, number and seed give the same cases.
    """
    names = sorted(names)
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(names), min(number, len(names)), replace=False) if names else []
    return sorted(names[index] for index in chosen)


def review_order(ranked: Sequence[str], controls: Sequence[str], seed: int) -> list[str]:
    """Return the picked cases in the order of review: the queue by its rank, controls at random places among it.

    Parameters
    ----------
    ranked
        The queue's cases, the most suspicious first.
    controls
        Cases drawn at random.
    seed
        Of the places.
    """
    draw = np.random.default_rng([seed, 1])
    total = len(ranked) + len(controls)
    at = set(draw.choice(total, len(controls), replace=False).tolist()) if total else set()
    mixed = iter(draw.permutation(sorted(controls)).tolist())
    queue = iter(ranked)
    return [next(mixed) if place in at else next(queue) for place in range(total)]
