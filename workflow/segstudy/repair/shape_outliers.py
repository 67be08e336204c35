"""Structures that are out of their cohort's form: a part missing, an outline too wide or narrow, size.

The cohort itself teaches the form of label errors: errors are simulated in its own labels
(`morphology.simulate_corruptions`), and linear discriminants between labels as they are and each
kind of simulated error, fitted to the other cases, give a case's log odds. So no wrong example is
needed, and a structure that differs much from case to case, or has no edge in the image, is judged
by the measures that tell there. Measures are robust z-scores, by the medians of the other cases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segstudy.repair.case_features import CaseFeatures
from segstudy.repair.discriminants import log_likelihood, log_odds, median
from segstudy.repair.findings import LabelFinding
from segstudy.repair.morphology import DIRECTIONAL, DIRECTIONS, GLOBAL, KINDS, Morphology

#: Cases with a structure below which nothing is said of its form.
SMALLEST_COHORT = 12
#: Of them, those that must be without an error.
FEWEST_USUAL = 8
#: Log odds that name an error in a large cohort; in a small one, where they are less sure, more is asked: this times
#: 1 + FEW / cases.
CLEAR_ODDS = 4.0
FEW = 20
#: Robust z-score of volume, or of its ratio to another structure's, that is a finding by itself.
CLEAR_Z = 6.0
#: Cases are judged by the others: one is left out at a time, or one group of this many.
GROUPS = 24
#: Simulated errors of a kind below which the kind is not looked for: a thin structure is never narrower.
FEWEST_PLANTED = 6
#: Times that outliers are taken out of the cohort's norm.
ROUNDS = 3
#: A robust z-score is taken for no more than this.
LARGEST_Z = 8.0
#: The least spread that a cohort is granted, of overall and directional measures; of lengths
#: in voxels.
LEAST_SPREAD = {"once": 0.05, "width": 0.03, "cap": 0.05, "contrast": 0.1, "facing": 0.01}
LEAST_VOXELS = 1.0
VOLUME, RATIO = 0, -1
#: The measure in each column of a row.
COLUMNS = np.array([*GLOBAL, *(word for word in DIRECTIONAL for _ in DIRECTIONS), "ratio"])
REACH, ROOM = (np.flatnonzero(word == COLUMNS) for word in ("reach", "room"))
#: Columns that say nothing of the form of a structure that lies elsewhere.
OF_PLACE = np.flatnonzero(
    np.isin(COLUMNS, ("spread", "edge", "outer", "inner", "rim", "contrast", "reach", "room"))
)
FAULT = {"part": "missing_part", "wide": "outline", "narrow": "outline", "extra": "size"}
#: Robust z-score from which a measure is told as evidence.
CLEAR_EVIDENCE = 2.0


@dataclass(frozen=True)
class CohortMeasures:
    """Hold measures of one structure through a cohort, and those of its simulated errors.

    Parameters
    ----------
    cases
        Names, (n,).
    delivered
        (n, m), columns as in COLUMNS.
    simulated
        (k, m).
    kind
        (k,), an index of KINDS for each row of `simulated`.
    case_index
        (k,), an index of `cases` for each row of `simulated`.
    least
        (m,), the least spread that is granted.
    open
        (n,), whether the field of view cuts the structure.
    elsewhere
        (n,), whether the structure lies elsewhere than in the others, so that the image tells
        nothing of its form.
    cropped
        (n,), whether the field of view cuts more than usual.
    """

    cases: tuple[str, ...]
    delivered: np.ndarray
    simulated: np.ndarray
    kind: np.ndarray
    case_index: np.ndarray
    least: np.ndarray
    open: np.ndarray
    elsewhere: np.ndarray
    cropped: np.ndarray

    @property
    def odd(self) -> np.ndarray:
        """Mark the cases that cannot tell what is usual (n,)."""
        return self.elsewhere | self.cropped


@dataclass(frozen=True)
class ShapeVerdict:
    """Hold the verdict on one structure of one case.

    Parameters
    ----------
    odds
        (len(KINDS),), log odds of an error of each kind.
    kind
        The likeliest kind.
    least
        The log odds from which there is an error.
    z, measured, usual
        (m,), robust z-scores of the measures, themselves, and their medians.
    """

    odds: np.ndarray
    kind: str
    least: float
    z: np.ndarray
    measured: np.ndarray
    usual: np.ndarray

    @property
    def explained(self) -> bool:
        """Tell whether a kind of error explains the structure."""
        return self.odds.max() >= self.least

    @property
    def is_outlier(self) -> bool:
        """Tell whether the structure is a finding: of a kind, or by its volume alone."""
        return self.explained or abs(self.z[VOLUME]) >= CLEAR_Z

    @property
    def clarity(self) -> float:
        """Return the clarity of the finding: log odds, or the z-score of the volume."""
        return float(max(self.odds.max(), abs(self.z[VOLUME])))


Cases = Mapping[str, frozenset[str]]


def find_shape_outliers(
    cases: Sequence[CaseFeatures], left_out: Cases, elsewhere: Cases, cropped: Cases
) -> list[LabelFinding]:
    """Find structures whose form does not fit their cohort.

    Parameters
    ----------
    cases
        Features of the cohort.
    left_out
        Structure -> cases in which another error explains its form.
    elsewhere
        Structure -> cases in which it seems to lie elsewhere.
    cropped
        Structure -> cases in which the field of view cuts more of it than is usual.
    """
    nobody: frozenset[str] = frozenset()
    taken = nobody.union(*cropped.values())
    judged: dict[str, dict[str, ShapeVerdict]] = {}
    gathered = {}
    for name in cases[0].shapes:
        asked = [there.get(name, nobody) for there in (left_out, elsewhere, cropped)]
        rows, _ = gathered[name] = collect_measures(cases, name, *asked)
        if len(rows.cases) >= SMALLEST_COHORT and np.count_nonzero(~rows.odd) >= FEWEST_USUAL:
            # A structure that the field of view cuts is no measure for its neighbours.
            partial = np.array([case in taken for case in rows.cases])
            rows.delivered[np.ix_(partial, [RATIO, *REACH])] = np.nan
            judged[name] = judge(rows)
    for name, verdicts in judged.items():
        # Which of two structures is out of their ratio? The one that is odder otherwise.
        rows, partner = gathered[name]
        other = judged.get(partner, {})
        blamed = [
            case
            for case, verdict in verdicts.items()
            if verdict.is_outlier and case in other and other[case].clarity > verdict.clarity
        ]
        if blamed:
            at = [rows.cases.index(case) for case in blamed]
            rows.delivered[np.ix_(at, [RATIO, *REACH])] = np.nan
            verdicts |= {
                case: verdict_again for case, verdict_again in judge(rows).items() if case in blamed
            }
    findings = []
    for name, verdicts in judged.items():
        voxels = {case.case: case.shapes[name].voxels for case in cases if case.shapes[name]}
        for case, verdict in verdicts.items():
            if verdict.is_outlier:
                kind = verdict.kind if verdict.explained else "extra"
                text = f"{voxels[case]} voxels, {evidence_text(kind, verdict)}"
                findings.append(LabelFinding(case, name, FAULT[kind], text, verdict.clarity))
        odd = [left_out.get(name, nobody), elsewhere.get(name, nobody), taken]
        rest = [case for case in cases if not any(case.case in there for there in odd)]
        findings += _specks(rest, name, verdicts)
    return findings


def _specks(
    cases: Sequence[CaseFeatures], name: str, verdicts: Mapping[str, ShapeVerdict]
) -> list[LabelFinding]:
    """Find structures of too few voxels to have a form, though the cohort's have one."""
    findings = []
    usual = float(np.median([np.exp(verdict.measured[VOLUME]) for verdict in verdicts.values()]))
    for case in cases:
        shape = case.shapes[name]
        if shape and not case.morphologies[name] and shape.volume_ml < usual / 4:
            ratio = shape.volume_ml / usual
            text = f"{shape.voxels} voxels, {ratio:.2g} times the usual volume"
            findings.append(LabelFinding(case.case, name, "size", text, float(-np.log(ratio))))
    return findings


def collect_measures(
    cases: Sequence[CaseFeatures],
    name: str,
    left_out: frozenset[str],
    elsewhere: frozenset[str],
    cropped: frozenset[str],
) -> tuple[CohortMeasures, str | None]:
    """Collect the measures of a structure through a cohort.

    Parameters
    ----------
    cases
        Features of the cohort.
    name
        The structure.
    left_out, elsewhere, cropped
        Cases, as in `find_shape_outliers`.

    Returns
    -------
    measures : CohortMeasures
        Of the cases that have the structure.
    partner : str or None
        The structure that its volume is compared with.
    """
    there = [case for case in cases if case.morphologies.get(name) and case.case not in left_out]
    if np.mean([case.morphologies[name].delivered.open.any() for case in there] or 0) < 0.5:
        # Moved to the edge of the grid, a structure has lost a part by that.
        there = [
            case
            for case in there
            if not (case.morphologies[name].delivered.open.any() and case.case in elsewhere)
        ]
    partner = _partner(there, name)
    delivered, simulated, kind, of = [], [], [], []
    for index, case in enumerate(there):
        measured = case.morphologies[name]
        other = case.morphologies.get(partner) if partner else None
        against = other.delivered.overall[VOLUME] if other else np.nan
        others = [shape.centroid for it, shape in case.shapes.items() if shape and it != name]
        middle_of_others = np.median(others, axis=0) if others else np.full(3, np.nan)
        delivered.append(_row(measured.delivered, against, middle_of_others))
        for number, word in enumerate(KINDS):
            for morphology in measured.simulated[word]:
                simulated.append(_row(morphology, against, middle_of_others))
                kind.append(number)
                of.append(index)
    rows = CohortMeasures(
        tuple(case.case for case in there),
        np.array(delivered),
        np.array(simulated).reshape(len(simulated), -1),
        np.array(kind, int),
        np.array(of, int),
        _least_spread(float(np.median([case.voxel_mm for case in cases]))),
        np.array([case.morphologies[name].delivered.open.any() for case in there], bool),
        np.array([case.case in elsewhere for case in there], bool),
        np.array([case.case in cropped for case in there], bool),
    )
    return rows, partner


def _row(morphology: Morphology, against: float, middle_of_others: np.ndarray) -> np.ndarray:
    """Make a row of measures; reach is counted from the middle of the other structures, (3,) mm."""
    row = np.concatenate(
        [
            morphology.overall,
            morphology.directional.ravel(),
            [morphology.overall[VOLUME] - against],
        ]
    )
    row[REACH] -= DIRECTIONS @ middle_of_others
    return row


def _least_spread(voxel_mm: float) -> np.ndarray:
    """Return the least spread that a cohort is granted, by column."""
    length = LEAST_VOXELS * voxel_mm
    least = LEAST_SPREAD | {"ratio": LEAST_SPREAD["once"], "reach": length, "room": length}
    return np.array([least.get(word, least["once"]) for word in COLUMNS])


def _partner(cases: Sequence[CaseFeatures], name: str) -> str | None:
    """Find the structure whose volume follows this one's best: the least spread of their ratio."""
    spreads = []
    for other in cases[0].shapes if cases else ():
        if other == name:
            continue
        ratios = [
            case.morphologies[name].delivered.overall[VOLUME]
            - case.morphologies[other].delivered.overall[VOLUME]
            for case in cases
            if case.morphologies.get(other)
        ]
        if len(ratios) >= max(SMALLEST_COHORT, 0.8 * len(cases)):
            spreads.append((np.median(np.abs(ratios - np.median(ratios))), other))
    return min(spreads)[1] if spreads else None


def judge(rows: CohortMeasures) -> dict[str, ShapeVerdict]:
    """Judge each case by the others, again without those found faulty until none is added."""
    number = len(rows.cases)
    sound = np.ones(number, bool)
    for _ in range(ROUNDS):
        verdicts = [None] * number
        groups = min(number, GROUPS)
        for group in range(groups):
            out = np.arange(number) % groups == group
            for blind in (False, True):
                asked = np.flatnonzero(out & (rows.elsewhere == blind))
                if len(asked):
                    learnt = sound & ~out & ~rows.odd
                    for index, verdict in zip(
                        asked, _judge(rows, learnt, asked, blind), strict=True
                    ):
                        verdicts[index] = verdict
        kept = np.array([not case_verdict.explained for case_verdict in verdicts])
        if np.array_equal(kept, sound) or (kept & ~rows.odd).sum() < FEWEST_USUAL:
            break
        sound = kept
    return dict(zip(rows.cases, verdicts, strict=True))


def _judge(
    rows: CohortMeasures, learnt: np.ndarray, asked: np.ndarray, blind: bool
) -> list[ShapeVerdict]:
    """Judge some cases (indices) by others (n, bool), without the image's measures if `blind`."""
    usual, spread = _usual(rows.delivered[learnt], rows.least)
    # A part outside the field of view is no error.
    shrunk = rows.cropped | (rows.open & (rows.open[learnt].mean() < 0.5))

    def seen(measures: np.ndarray, of: np.ndarray) -> np.ndarray:
        z = np.nan_to_num((measures - usual) / spread).clip(-LARGEST_Z, LARGEST_Z)
        z[:, ROOM] = z[:, ROOM].clip(0)  # a smaller grid leaves less room to all
        for column in (VOLUME, RATIO):
            z[shrunk[of], column] = z[shrunk[of], column].clip(0)
        return z

    scores = seen(rows.delivered[asked], asked)
    mine = discriminant_features(scores, blind)
    right = discriminant_features(seen(rows.delivered[learnt], np.flatnonzero(learnt)), blind)
    use = learnt[rows.case_index]
    wrong = discriminant_features(seen(rows.simulated[use], rows.case_index[use]), blind)
    by_kind = [wrong[rows.kind[use] == number] for number in range(len(KINDS))]
    odds, likelihood = np.full((2, len(asked), len(KINDS)), -np.inf)
    for number, there in enumerate(by_kind):
        if len(there) >= FEWEST_PLANTED:
            odds[:, number] = log_odds(mine, right, there)
            likelihood[:, number] = log_likelihood(mine, there)
    # A small structure has gained nothing, and a large one has lost nothing.
    less, more = (
        [KINDS.index(kind) for kind in two] for two in (("part", "narrow"), ("wide", "extra"))
    )
    size = scores[:, [VOLUME, RATIO]]
    for table in (odds, likelihood):
        table[np.ix_(size.min(axis=1) >= 0, less)] = -np.inf
        table[np.ix_(size.max(axis=1) <= 0, more)] = -np.inf
    clear = CLEAR_ODDS * (1 + FEW / np.count_nonzero(learnt))
    least = 0.0 if blind else clear  # that something is wrong with it is known already
    return [
        ShapeVerdict(odds_of_case, KINDS[kind], least, z, measured, usual)
        for odds_of_case, kind, z, measured in zip(
            odds, likelihood.argmax(axis=1), scores, rows.delivered[asked], strict=True
        )
    ]


def _usual(table: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute median and robust SD of each column, at least the one granted; without NaN."""
    usual = median(table)
    return usual, np.fmax(1.4826 * median(np.abs(table - usual)), least)


def discriminant_features(z: np.ndarray, blind: bool) -> np.ndarray:
    """Compute the input of the discriminants: z-scores of single measures, and summaries over directions.

    Parameters
    ----------
    z
        (n, m), columns as in COLUMNS.
    blind
        Whether the image's measures are left out.
    """
    if blind:
        z = z.copy()
        z[:, OF_PLACE] = 0
    directional = z[:, len(GLOBAL) : RATIO].reshape(len(z), len(DIRECTIONAL), -1)
    width, cap, contrast = np.moveaxis(directional, 1, 0)[:3]
    # A cut: a large end, that reaches less far, at which the image has less of an edge.
    cut = (cap.clip(-2) - width.clip(max=2) - contrast.clip(max=2)).max(axis=1)
    least = [np.sort(values, axis=1)[:, :6].mean(axis=1) for values in (width, contrast)]
    summaries = [
        values
        for way in np.moveaxis(directional, 1, 0)
        for values in (way.min(axis=1), way.max(axis=1), way.mean(axis=1))
    ]
    return np.column_stack([z[:, : len(GLOBAL)], z[:, RATIO], *summaries, *least, cut])


def evidence_text(kind: str, verdict: ShapeVerdict) -> str:
    """Describe the evidence for a kind of error, in words."""
    change = np.exp(verdict.measured - verdict.usual)
    z = dict(zip(GLOBAL, verdict.z[: len(GLOBAL)], strict=True))
    said = [f"{change[VOLUME]:.2f} times the usual volume"]
    if kind == "part":
        width, cap, contrast, *_ = verdict.z[len(GLOBAL) : RATIO].reshape(len(DIRECTIONAL), -1)
        at = int(np.argmax(cap.clip(-2) - width.clip(max=2) - contrast.clip(max=2)))
        said.append(
            f"ends early or flat towards {_side(DIRECTIONS[at])}, {change[len(GLOBAL) + at]:.2f} times the "
            "usual extent that way"
        )
        if contrast[at] < -CLEAR_EVIDENCE:
            said.append("and the image goes on beyond that end with less of an edge than usual")
    elif kind in ("wide", "narrow"):
        volume, area = (
            np.array([np.exp(row[VOLUME]) * 1000 for row in (verdict.measured, verdict.usual)]),
            np.array([np.exp(row[:2].sum()) * 1000 for row in (verdict.measured, verdict.usual)]),
        )
        off = abs(volume[0] - volume[1]) / area.mean()
        said.append(f"its outline about {off:.1f} mm too {kind}")
        if z["inner" if kind == "wide" else "outer"] > CLEAR_EVIDENCE:
            said.append(f"the image's edge lies further {'in' if kind == 'wide' else 'out'}")
        elif z["edge"] < -CLEAR_EVIDENCE:
            said.append("less of an edge than usual in the image along it")
    elif abs(verdict.z[RATIO]) > CLEAR_EVIDENCE:
        said.append(f"{change[RATIO]:.2f} times the usual ratio to another structure's")
    return ", ".join(said).replace(", and", " and")


def _side(direction: np.ndarray) -> str:
    """Describe a direction on right, front, head in words."""
    pairs = (("left", "right"), ("back", "front"), ("feet", "head"))
    return " ".join(
        pair[int(part > 0)] for pair, part in zip(pairs, direction, strict=True) if abs(part) > 0.1
    )
