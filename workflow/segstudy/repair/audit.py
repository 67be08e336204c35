"""Labels that do not fit the rest of their cohort, found without any reference.

Each structure is described by its place, shape, neighbours and image evidence, and each
description is held against the cohort's median in units of its spread. For a label map that
stands out, every fault of a kind is undone in thought (48 orientations, swapped numbers, shifts),
and the one after which it looks like the others is the fault that is named. Holes, stray pieces,
empty structures and cut ones are counted, and held against what is usual in the cohort.

A fault that most of the cohort shares is the cohort's norm and is not seen here.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy import ndimage

from segstudy.cases import read_cases, repaired_labels
from segstudy.errors import InputError
from segstudy.images.files import Image, compare_grids, read_image, read_label
from segstudy.images.geometry import to_ras
from segstudy.images.moving import bounding_box
from segstudy.images.names import is_image, stem
from segstudy.log import log, progress
from segstudy.repair.points import Points, Scene, evidence, middle_of, sample, scene
from segstudy.study import Cohort, from_json

FAULTS = (
    "empty",
    "flipped",
    "rotated",
    "orientation",
    "swapped",
    "shifted",
    "stray",
    "holes",
    "cut",
    "unreadable",
)
#: Cases below which there is no cohort to be compared with: only what can be counted is told.
SMALLEST_COHORT = 5
#: A robust z-score is taken for no more than this, so that one odd measure does not decide alone.
LARGEST_Z = 8.0
#: Gain, in units of half a squared z-score, that names a fault. The greatest of any shift of 208
#: hippocampi as delivered, where the image agrees, is 17.
CLEAR_GAIN = 20.0
#: Gap, in voxels, over which pieces still count as one: a thin structure breaks without fault.
GAP_VOXELS = 4
#: Share of the cohort that must have a structure for its absence to be a fault.
USUAL_SHARE = 0.5


@dataclass(frozen=True)
class Finding:
    """One suspected fault. A row of faults.csv.

    structure: its name, or several joined by `+` where the fault is of the label map.
    fault: one of FAULTS.
    evidence: what was seen, in words.
    score: how clear it is: the gain of the explanation, or the robust z-score of the count.
    """

    case: str
    structure: str
    fault: str
    evidence: str
    score: float


@dataclass(frozen=True)
class Shape:
    """A structure of one case, in RAS mm from the middle of the grid.

    voxels, volume_ml: its size. centroid: (3,). spread: 3x3 covariance of its voxels.
    stray: voxels of each piece but the largest, greatest first; pieces lie GAP_VOXELS apart.
    holes: background voxels that it encloses. border: its voxels on the face of the grid that has most of them.
    points: for look-ups in the image.
    """

    voxels: int
    volume_ml: float
    centroid: np.ndarray
    spread: np.ndarray
    stray: tuple[int, ...]
    holes: int
    border: int
    points: Points


@dataclass(frozen=True)
class Described:
    """A case as the audit sees it: its structures (None where empty) and its image."""

    case: str
    shapes: Mapping[str, Shape | None]
    image: Scene
    voxel_mm: float  # size of a voxel of the scene


def describe(case: str, image: Image, label: Image, structures: Mapping[str, int]) -> Described:
    """Measure one case.

    image: (channel, i, j, k), finite. label: (i, j, k) on the same grid.
    structures: name to value.
    """
    ras = to_ras(label)
    shapes = {name: _shape(ras, value) for name, value in structures.items()}
    looked_up = scene(image)
    return Described(case, shapes, looked_up, float(np.prod(looked_up.spacing_mm) ** (1 / 3)))


def _shape(label: Image, value: int) -> Shape | None:
    mask = label.array == value
    box = bounding_box(mask)
    if box is None:
        return None
    spacing = np.array(label.spacing_mm)
    crop = mask[tuple(slice(low, high) for low, high in box)]
    places = np.argwhere(crop)
    origin = np.array([low for low, _ in box]) - middle_of(mask.shape)
    centred = (places - places.mean(axis=0)) * spacing
    joined = ndimage.binary_dilation(crop, np.ones((3, 3, 3)), GAP_VOXELS // 2)
    pieces, _ = ndimage.label(joined, np.ones((3, 3, 3)))
    sizes = sorted(np.bincount(pieces[crop])[1:].tolist(), reverse=True)
    # What it encloses lies in its box; a face of the box is open towards the rest of the grid.
    enclosed = ndimage.binary_fill_holes(crop) & ~crop
    background = label.array[tuple(slice(low, high) for low, high in box)] == 0
    faces = [np.take(mask, index, axis) for axis in range(3) for index in (0, -1)]
    return Shape(
        voxels=len(places),
        volume_ml=float(len(places) * spacing.prod() / 1000),
        centroid=(places.mean(axis=0) + origin) * spacing,
        # The voxels themselves spread by a twelfth of their size squared.
        spread=centred.T @ centred / len(places) + np.diag(spacing**2 / 12),
        stray=tuple(sizes[1:]),
        holes=int(np.count_nonzero(enclosed & background)),
        border=max(int(np.count_nonzero(face)) for face in faces),
        points=sample(mask, label.spacing_mm),
    )


# --- features and the cohort ------------------------------------------------------------------------


@dataclass(frozen=True)
class Undo:
    """What is undone in thought: a turn about the middle of the grid, a shift of some structures,
    and which structure's label stands for which."""

    turn: np.ndarray
    shift: np.ndarray
    stands_for: Mapping[str, str]


def features(case: Described, name: str, undo: Undo, moved: frozenset[str]) -> np.ndarray | None:
    """The description of a structure, with a fault undone; None where it is empty.

    Order: log volume; place (3 mm); place beside each other structure (3 mm each, NaN where that
    is empty); log of its spread (6); by channel: log gradient across its surface, mean and log
    spread of the intensity inside.
    """
    shape = case.shapes[undo.stands_for.get(name, name)]
    if shape is None:
        return None

    def place(of: str) -> np.ndarray | None:
        there = case.shapes[undo.stands_for.get(of, of)]
        if there is None:
            return None
        return undo.turn @ there.centroid + (undo.shift if of in moved else 0.0)

    own = place(name)
    beside = [
        np.full(3, np.nan) if (other := place(of)) is None else own - other
        for of in case.shapes
        if of != name
    ]
    values, vectors = np.linalg.eigh(undo.turn @ shape.spread @ undo.turn.T)
    log_spread = (vectors * np.log(np.maximum(values, 1e-6))) @ vectors.T / 2
    shift = undo.shift if name in moved else np.zeros(3)
    across, mean, spread = evidence(shape.points, case.image, undo.turn, shift)
    return np.concatenate(
        [
            [np.log(shape.volume_ml)],
            own,
            *beside,
            log_spread[np.triu_indices(3)],
            np.log(across + 1e-4),
            mean,
            np.log(spread + 1e-3),
        ]
    )


def least_spread(structures: int, channels: int, voxel_mm: float) -> np.ndarray:
    """The least spread that a cohort is granted, feature by feature, in the order of `features`."""
    place = [voxel_mm] * 3
    return np.array(
        [0.1, *place, *place * (structures - 1), *[0.05] * 6]
        + [0.1] * channels
        + [0.02] * channels
        + [0.1] * channels
    )


@dataclass(frozen=True)
class Norm:
    """What is usual for a structure: median and robust standard deviation of each feature."""

    median: np.ndarray
    sd: np.ndarray

    def z(self, found: np.ndarray) -> np.ndarray:
        """Robust z-scores, within +-LARGEST_Z; 0 for what is not known."""
        z = (found - self.median) / self.sd
        return np.nan_to_num(z, nan=0.0).clip(-LARGEST_Z, LARGEST_Z)


def norms(cases: Sequence[Described]) -> dict[str, Norm]:
    """What is usual for each structure that enough cases have."""
    as_is = Undo(np.eye(3), np.zeros(3), {})
    voxel_mm = float(np.median([case.voxel_mm for case in cases]))
    found = {}
    for name in cases[0].shapes:
        rows = [features(case, name, as_is, frozenset()) for case in cases]
        rows = [row for row in rows if row is not None]
        if len(rows) < SMALLEST_COHORT:
            continue
        table = np.array(rows)
        channels = len(cases[0].image.intensity)
        with np.errstate(all="ignore"):
            median = np.nanmedian(table, axis=0)
            sd = 1.4826 * np.nanmedian(np.abs(table - median), axis=0)
        floor = least_spread(len(cases[0].shapes), channels, voxel_mm)
        found[name] = Norm(median, np.fmax(sd, floor))
    return found


# --- what explains a case that stands out -----------------------------------------------------------

AS_IT_IS = Undo(np.eye(3), np.zeros(3), {})
#: Shifts below this many voxels are within what annotators differ by.
LEAST_SHIFT_VOXELS = 2.0
#: Robust z-score from which a count is reported.
CLEAR_Z = 5.0


def turns() -> dict[str, tuple[str, np.ndarray]]:
    """The 47 ways to lay a label wrongly on its image: name to (fault, 3x3 on right, front, head)."""
    found = {}
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
            found[name] = fault, matrix
    return found


def cost(
    case: Described, usual: Mapping[str, Norm], undo: Undo, moved: frozenset[str]
) -> tuple[float, float]:
    """How unusual a case is with a fault undone, half the sum of squared z-scores: all of it, and
    the part of it that the image gives."""
    total = image = 0.0
    for name, norm in usual.items():
        found = features(case, name, undo, moved)
        if found is None:
            continue
        squares = norm.z(found) ** 2 / 2
        total += float(squares.sum())
        image += float(squares[-3 * len(case.image.intensity) :].sum())
    return total, image


def explain(case: Described, usual: Mapping[str, Norm]) -> list[Finding]:
    """The fault of the label map, or of structures that lie elsewhere, that explains a case best.

    A gain is the fall of `cost` when the fault is undone: a log odds, as far as features are
    normal and independent, which they are not quite.
    """
    present = [name for name in usual if case.shapes[name] is not None]
    if not present:
        return []
    nobody: frozenset[str] = frozenset()
    before, _ = cost(case, usual, AS_IT_IS, nobody)
    if before < CLEAR_GAIN:
        return []  # no explanation can gain enough
    found: list[Finding] = []
    whole = "+".join(present)
    for name, (fault, turn) in turns().items():
        gain = before - cost(case, usual, Undo(turn, np.zeros(3), {}), nobody)[0]
        if gain >= CLEAR_GAIN:
            text = f"fits with its axes (right, front, head) read as {name}"
            found.append(Finding(case.case, whole, fault, text, gain))
    for one, other in itertools.combinations(present, 2):
        undo = Undo(np.eye(3), np.zeros(3), {one: other, other: one})
        gain = before - cost(case, usual, undo, nobody)[0]
        if gain >= CLEAR_GAIN:
            text = f"fits with {one} and {other} exchanged"
            found.append(Finding(case.case, f"{one}+{other}", "swapped", text, gain))
    groups = [frozenset(present), *(frozenset([name]) for name in present if len(present) > 1)]
    for group in groups:
        shift, gain = best_shift(case, usual, group)
        if shift is not None:
            parts = ", ".join(f"{-part:+.0f}" for part in shift)
            text = f"lies ({parts}) mm to the right, front, head of where it fits"
            names = "+".join(name for name in present if name in group)
            found.append(Finding(case.case, names, "shifted", text, gain))
    if not found:
        return []
    best = max(found, key=lambda one: one.score)
    others = [
        one
        for one in found
        if best.fault == one.fault == "shifted" and "+" not in best.structure + one.structure
    ]
    return others or [best]


def best_shift(
    case: Described, usual: Mapping[str, Norm], group: frozenset[str]
) -> tuple[np.ndarray | None, float]:
    """The shift of some structures that makes a case look most usual, in mm, and its gain.

    The search starts where the cohort would have them and goes by ever smaller steps. None where
    the gain is not clear, the image speaks against it, or annotators differ by as much.
    """
    before, image_before = cost(case, usual, AS_IT_IS, group)

    def tried(shift: np.ndarray) -> float:
        return cost(case, usual, Undo(np.eye(3), shift, {}), group)[0]

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
    _, image_after = cost(case, usual, Undo(np.eye(3), best, {}), group)
    gain = before - least
    clear = gain >= CLEAR_GAIN and image_after < image_before
    if not clear or np.linalg.norm(best) < LEAST_SHIFT_VOXELS * case.voxel_mm:
        return None, gain
    return best, gain


# --- what can be counted ----------------------------------------------------------------------------


def count(cases: Sequence[Described]) -> list[Finding]:
    """Empty structures, stray pieces, holes and cut structures, where unusual in the cohort."""
    found = []
    for name in cases[0].shapes:
        shapes = {case.case: case.shapes[name] for case in cases}
        there = {case: shape for case, shape in shapes.items() if shape is not None}
        if len(there) >= USUAL_SHARE * len(cases):
            text = f"no voxel; {len(there)} of {len(cases)} cases have it"
            score = len(there) / len(cases)
            found += [
                Finding(case, name, "empty", text, score)
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
            found += [
                Finding(case, name, fault, f"{numbers[case]} {words}, of {shape.voxels}", score)
                for case, shape in there.items()
                if (score := scores[case]) >= CLEAR_Z
            ]
        # Of the structure's own size, as an area.
        scores = _scores(
            {c: shape.border / shape.voxels ** (2 / 3) for c, shape in there.items()}, 0.03
        )
        found += [
            Finding(
                case, name, "cut", f"{shape.border} voxels on a face of the grid's border", score
            )
            for case, shape in there.items()
            if (score := scores[case]) >= CLEAR_Z
        ]
    return found


def _scores(measured: Mapping[str, float], least_sd: float) -> dict[str, float]:
    """Robust z-scores by case. In a cohort too small for that, 0 is what is usual."""
    values = np.array(list(measured.values()))
    middle, sd = 0.0, least_sd
    if len(values) >= SMALLEST_COHORT:
        middle = float(np.median(values))
        sd = max(1.4826 * float(np.median(np.abs(values - middle))), least_sd)
    return {case: float((value - middle) / sd) for case, value in measured.items()}


def audit(cases: Iterable[Described]) -> list[Finding]:
    """All findings of a cohort, by case; the clearest first within a case.

    What follows from a fault that explains the case is not told again: a structure moved to the
    border is cut there, and one under another's number has the other's pieces and holes.
    """
    cases = list(cases)
    if not cases:
        return []
    found = count(cases)
    usual = norms(cases)
    for case in cases:
        explained = explain(case, usual)
        follows = {
            (name, fault)
            for one in explained
            for name in one.structure.split("+")
            for fault in (("cut", "stray", "holes") if one.fault == "swapped" else ("cut",))
        }
        found = [
            one
            for one in found
            if one.case != case.case or (one.structure, one.fault) not in follows
        ]
        found += explained
    return sorted(found, key=lambda one: (one.case, -one.score, one.structure, one.fault))


# --- files --------------------------------------------------------------------------------------------

Pairs = dict[str, tuple[tuple[Path, ...], Path]]


def table_pairs(
    cases: Path, labels: Path | None, settings: str
) -> tuple[Pairs, dict[str, int], int]:
    """Images and label of each case of a table; structures; channels.

    labels: folder of repaired labels in shards, in place of those delivered. settings: Cohort, as JSON.
    """
    cohort = from_json(Cohort, settings)
    chosen = repaired_labels(read_cases(cases), labels)
    pairs = {case.case: (case.images, case.label) for case in chosen}
    return pairs, dict(cohort.structures), len(cohort.channels)


def folder_pairs(images: Path, labels: Path, structures: str) -> tuple[Pairs, dict[str, int], int]:
    """The same for a folder of images of one channel and one of labels that bear the same names.

    structures: JSON {name: value}. Raises InputError for a file without its other half.
    """
    try:
        values = {str(name): int(value) for name, value in json.loads(structures).items()}
    except (ValueError, TypeError, AttributeError):
        values = {}
    if not values or min(values.values()) < 1:
        raise InputError(
            f"--structures: found {structures!r}; expected JSON {{name: value}}, values above 0"
        )
    found = {}
    for folder in (images, labels):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and is_image(path)]
        found[folder] = {stem(path): path for path in files}
    alone = sorted(found[images].keys() ^ found[labels].keys())
    if alone:
        missing = labels if alone[0] in found[images] else images
        raise InputError(
            f"{missing}: no file {alone[0]}; expected images and labels of equal names"
        )
    if not found[images]:
        raise InputError(f"{images}: no image file in this folder")
    return (
        {name: ((found[images][name],), found[labels][name]) for name in found[images]},
        values,
        1,
    )


def audit_files(pairs: Pairs, structures: Mapping[str, int], channels: int) -> list[Finding]:
    """Audit files. What cannot be read, or lies on other grids, is a finding too."""
    described, unreadable = [], []
    for case, (images, label_file) in progress(sorted(pairs.items()), "cases described"):
        try:
            label, image = read_label(label_file), read_image(images, channels)
            difference = compare_grids(image.grid, label.grid)
            if difference:
                raise InputError(
                    f"{label_file.name}: other grid than {images[0].name}: {difference}"
                )
            if not np.isfinite(image.array).all():
                raise InputError(f"{images[0].name}: voxels that are not finite")
        except InputError as error:
            unreadable.append(
                Finding(
                    case, "", "unreadable", _without_folder(str(error), *images, label_file), 1.0
                )
            )
        else:
            described.append(describe(case, image, label, structures))
    if len(described) < SMALLEST_COHORT:
        log.warning(
            "%d cases: too few to say what is usual (%d are needed); only empty structures, pieces, "
            "holes and cuts are looked for",
            len(described),
            SMALLEST_COHORT,
        )
    found = sorted(unreadable + audit(described), key=lambda one: (one.case, -one.score))
    for one in found:
        log.info("%s: %s %s: %s", one.case, one.structure, one.fault, one.evidence)
    cases = len({one.case for one in found})
    log.info("%d of %d cases have findings, %d in all", cases, len(pairs), len(found))
    return found


def _without_folder(text: str, *files: Path) -> str:
    """A message with the names of its files only: a result names no folder of this machine."""
    for file in files:
        text = text.replace(str(file), file.name)
    return text


def fault_table(found: Sequence[Finding]):
    """The findings as a table."""
    import pandas as pd

    columns = [field.name for field in fields(Finding)]
    return pd.DataFrame([asdict(one) for one in found], columns=columns).round(2)
