"""Faults planted in labels, and where they stand in the queue of `segstudy review`, beside cleanlab's scores of the same probabilities.

Six kinds of fault (a boundary two voxels too wide, a part missing, an extra blob, two structures swapped, all labels shifted, the
label of the neighbour's scan) are planted in 10 % of a cohort's cases. Two seeds a fold of a small 3D U-Net are trained on these
labels, the faulty ones among them, with `segstudy train`; each case is predicted by the two networks that have not seen it. One
cohort holds too few faults of a kind, so that this is repeated with other faults and networks of their own: twice for 208 real
hippocampus cases, three times for a phantom thorax of 100 patients. Recall and precision are over the queues of all repetitions.

cleanlab scores slices (N, H, W); a case has the lowest, or the mean, score of its slices, or its number of pixels with an issue.

Needs the real cases in SEGSTUDY_DATA and, for its column, cleanlab (`pip install cleanlab`); without either, that part is left out.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import quality
import torch
from scipy import ndimage

from segstudy.cases import Case, read_splits, tested
from segstudy.files import writing
from segstudy.images.files import Image, read_label, write_label
from segstudy.infer.batch import predict_each
from segstudy.infer.ensemble import ensemble
from segstudy.infer.image import to_class_indices
from segstudy.networks.weights import load_weights
from segstudy.review.queue import rank
from segstudy.review.scores import score_case

KINDS = ("wide", "missing", "extra", "swapped", "shifted", "neighbour")
FAULTY = 0.1
"""Share of the cases that get a fault."""
REPETITIONS = {"hippocampus": 2, "phantom": 3}
STEPS = {"hippocampus": 240, "phantom": 480}
"""Of each network: enough that it knows most structures, the thorax' small ones too."""
PATIENTS = 100
SEED = 25


# --- planting ---------------------------------------------------------------------------------------


def wide(label: np.ndarray, value: int, _draw: np.random.Generator) -> np.ndarray:
    """Draw the boundary of a structure two voxels too wide, into the background."""
    near = ndimage.distance_transform_edt(label != value) <= 2
    return np.where(near & (label == 0), value, label)


def missing(label: np.ndarray, value: int, draw: np.random.Generator) -> np.ndarray:
    """Take 30 to 50 % of a structure away, by a plane."""
    places = np.argwhere(label == value)
    depth = places @ draw.normal(size=3)
    lost = places[depth <= np.quantile(depth, draw.uniform(0.3, 0.5))]
    kept = label.copy()
    kept[tuple(lost.T)] = 0
    return kept


def extra(label: np.ndarray, value: int, draw: np.random.Generator) -> np.ndarray:
    """Add a ball of a radius of two to three voxels, apart from all labels but within eight voxels of them."""
    radius = draw.uniform(2, 3)
    apart = ndimage.distance_transform_edt(label == 0)
    inside = np.ones(label.shape, bool)
    inside[3:-3, 3:-3, 3:-3] = False
    room = ~inside & (apart > radius + 2) & (apart < radius + 8)
    centre = draw.permutation(np.argwhere(room))[0]
    grid = np.indices(label.shape).reshape(3, -1).T - centre
    ball = ((grid**2).sum(axis=1) <= radius**2).reshape(label.shape)
    return np.where(ball, value, label)


def swapped(label: np.ndarray, value: int, _draw: np.random.Generator) -> np.ndarray:
    """Give a structure and the next one each other's name."""
    other = value % int(label.max()) + 1
    return np.where(label == value, other, np.where(label == other, value, label))


def shifted(label: np.ndarray, _value: int, draw: np.random.Generator) -> np.ndarray:
    """Move all labels by four to six voxels along an axis."""
    shift = np.zeros(3, int)
    shift[draw.integers(3)] = draw.choice([-1, 1]) * draw.integers(4, 7)
    return ndimage.shift(label, shift, order=0)


def fitted(label: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Crop or pad a label map about its centre."""
    for axis, size in enumerate(shape):
        more = size - label.shape[axis]
        if more < 0:
            start = -more // 2
            label = label[tuple(slice(start, start + size) if one == axis else slice(None) for one in range(3))]  # fmt: skip
        else:
            label = np.pad(label, [(more // 2, more - more // 2) if one == axis else (0, 0) for one in range(3)])  # fmt: skip
    return label


PLANTED = {"wide": wide, "missing": missing, "extra": extra, "swapped": swapped, "shifted": shifted}


@dataclass(frozen=True)
class Repetition:
    """Cases with planted faults, and which have one.

    Parameters
    ----------
    folder
        Where all of it lies.
    cases
        With their labels, the faulty ones among them.
    faults
        Case -> kind of fault.
    """

    folder: Path
    cases: Sequence[Case]
    faults: Mapping[str, str]


def plant(folder: Path, name: str, cases: Sequence[Case], number: int) -> Repetition:
    """Plant faults in 10 % of the cases; each kind in turn, in each structure in turn."""
    values = sorted(quality.COHORTS[name]["structures"].values())
    count = round(FAULTY * len(cases))
    draw = np.random.default_rng([SEED, number])
    chosen = draw.permutation(len(cases))[:count]
    faults, planted = {}, list(cases)
    for turn, index in enumerate(chosen, number * count):
        case, kind = cases[index], KINDS[turn % len(KINDS)]
        label = read_label(case.label)
        array = label.array.astype(np.uint8)
        if kind == "neighbour":
            other = read_label(cases[(index + 1) % len(cases)].label).array
            array = fitted(other.astype(np.uint8), array.shape)
        else:
            value = values[turn // len(KINDS) % len(values)]
            array = PLANTED[kind](array, value, draw).astype(np.uint8)
        file = folder / "labels" / f"{case.case}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_label(file, array, label.affine)
        faults[case.case], planted[index] = kind, replace(case, label=file)
    return Repetition(folder, planted, faults)


# --- prediction ---------------------------------------------------------------------------------------


def predict(repetition: Repetition, name: str) -> None:
    """Write what each case's two networks, which have not seen it, say: `votes` (network, i, j, k), `probabilities`, their mean."""
    target = repetition.folder / "predictions"
    target.mkdir(exist_ok=True)
    splits = read_splits(repetition.folder / "splits.tsv")
    images = {case.case: case.images for case in repetition.cases}
    for fold in range(quality.FOLDS):
        names = [one for one in tested(splits, fold, name) if not (target / f"{one}.npz").exists()]
        if not names:
            continue
        members = []
        for seed in quality.SEEDS:
            file = repetition.folder / f"fold-{fold}/seed-{seed}/weights.pt"
            network = ensemble([load_weights(file)], [str(file)])
            members.append(
                predict_each(
                    network,
                    {one: images[one] for one in names},
                    quality.CPU,
                    lambda _, found: (found.classes.array, found.probabilities),
                    probabilities=True,
                )
            )
        for one in names:
            classes, chances = zip(*(member[one] for member in members), strict=True)
            with writing(target / f"{one}.npz") as file, file.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    votes=np.stack(classes).astype(np.uint8),
                    probabilities=np.mean(chances, axis=0).astype(np.float16),
                )


# --- queues -------------------------------------------------------------------------------------------

KIND_OF = {
    **{"too_wide": "wide", "missing_part": "missing", "extra_part": "extra", "swapped": "swapped"},
    **{"shifted": "shifted", "other_scan": "neighbour"},
}
"""Finding of the queue -> kind of planted fault."""
OURS = "queue"
ASKED = 0.9
"""Recall within the first 20 % of the queue."""


@dataclass(frozen=True)
class Queues:
    """Cases in the order of review, by each way to order them; and what our queue says of each.

    Parameters
    ----------
    orders
        Way -> names, the most suspicious first.
    named
        Case -> kind of fault that our queue names; empty for none of them.
    faults
        Case -> kind planted.
    """

    orders: Mapping[str, Sequence[str]]
    named: Mapping[str, str]
    faults: Mapping[str, str]


def queues(repetition: Repetition, name: str, cleanlab) -> Queues:
    """Order the cases of a repetition by our queue and, where it is installed, by cleanlab's scores."""
    structures = quality.COHORTS[name]["structures"]
    values = list(structures.values())
    scores, others = {}, {}
    for case in repetition.cases:
        stored = read_label(case.label)
        label = Image(to_class_indices(stored.array, values), stored.affine)
        with np.load(repetition.folder / "predictions" / f"{case.case}.npz") as found:
            votes, chances = list(found["votes"]), found["probabilities"].astype(np.float32)
        scores[case.case] = score_case(label, votes, list(structures))
        if cleanlab:
            others[case.case] = by_slices(label.array, chances, cleanlab)
    found = rank(scores)
    orders = {OURS: list(found)}
    for number, way in enumerate(CLEANLAB if cleanlab else ()):
        orders[way] = sorted(others, key=lambda one: (others[one][number], one))
    named = {case: KIND_OF.get(one.finding, "") for case, one in found.items()}
    return Queues(orders, named, repetition.faults)


CLEANLAB = ("cleanlab, lowest slice", "cleanlab, mean slice", "cleanlab, pixels with an issue")


def by_slices(label: np.ndarray, chances: np.ndarray, cleanlab) -> tuple[float, float, float]:
    """Score a case by cleanlab, its slices along the last axis as images: the lower, the more suspicious.

    Parameters
    ----------
    label
        Class indices (i, j, k).
    chances
        (class, i, j, k).
    cleanlab
        `cleanlab.segmentation`.
    """
    slices = np.moveaxis(label, 2, 0).astype(int)
    chances = np.clip(np.moveaxis(chances, 3, 0), 1e-6, None)
    chances /= chances.sum(axis=1, keepdims=True)
    image_scores, _ = cleanlab.rank.get_label_quality_scores(
        slices, chances, method="softmin", n_jobs=1, verbose=False
    )
    issues = cleanlab.filter.find_label_issues(slices, chances, n_jobs=1, verbose=False)
    return float(image_scores.min()), float(image_scores.mean()), -float(issues.sum())


def first(order: Sequence[str], share: float) -> set[str]:
    """Return the cases of the first part of a queue."""
    return set(order[: int(np.ceil(share * len(order)))])


def recall(found: Sequence[Queues], way: str, share: float, kind: str | None = None) -> float:
    """Return which share of the planted faults, of a kind or of all, is within the first part of the queues."""
    hits = [
        case in first(one.orders[way], share)
        for one in found
        for case, planted in one.faults.items()
        if kind in (None, planted)
    ]
    return float(np.mean(hits)) if hits else float("nan")


def precision(found: Sequence[Queues], way: str, count: int) -> float:
    """Return the mean share of faulty cases among the first `count` of the queues."""
    return float(
        np.mean(
            [np.mean([case in one.faults for case in one.orders[way][:count]]) for one in found]
        )
    )


def report(name: str, found: Sequence[Queues]) -> bool:
    """Print tables and targets; whether all were reached."""
    ways = list(found[0].orders)
    cases, faulty = (sum(len(part) for part in parts) for parts in zip(*((one.orders[OURS], one.faults) for one in found), strict=True))  # fmt: skip
    print(f"\n### {name}: {faulty} faults in {cases} cases, {len(found)} repetitions\n")
    print(f"| fault | planted | named | {' | '.join(f'{way}: first 10 %, 20 %' for way in ways)} |")
    print("|---|---|---|" + "---|" * len(ways))
    for kind in (*KINDS, None):
        there = [(one, case) for one in found for case, planted in one.faults.items() if kind in (None, planted)]  # fmt: skip
        named = sum(one.named[case] == one.faults[case] for one, case in there)
        cells = [" ".join(f"{recall(found, way, share, kind):.2f}" for share in (0.1, 0.2)) for way in ways]  # fmt: skip
        print(f"| {kind or 'all'} | {len(there)} | {named} | {' | '.join(cells)} |")
    print(f"\n| first cases of the queue | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
    most = round(FAULTY * len(found[0].orders[OURS]))
    for count in sorted({5, 10, most, 2 * most} if most > 5 else {most, 2 * most}):
        cells = [f"{precision(found, way, count):.2f}" for way in ways]
        print(f"| precision at {count} | {' | '.join(cells)} |")
    print()
    reached = recall(found, OURS, 0.2)
    aim = recall(found, OURS, 0.1)
    print(f"target {name}: recall in the first 20 %: {reached:.3f} (asked at least {ASKED}) {'ok' if reached >= ASKED else 'short'}")  # fmt: skip
    print(f"aim {name}: recall in the first 10 %: {aim:.3f} (aimed at {ASKED}) {'ok' if aim >= ASKED else 'short'}")  # fmt: skip
    return reached >= ASKED


def installed():
    """Return `cleanlab.segmentation`, or None where it is not installed; print which."""
    try:
        import cleanlab
        import cleanlab.segmentation.filter
        import cleanlab.segmentation.rank
    except ImportError as missing:
        print(f"cleanlab is not there ({missing}): its columns are left out; pip install cleanlab")
        return None
    print(f"cleanlab {cleanlab.__version__}")
    return cleanlab.segmentation


def cohort(folder: Path, name: str, quick: bool) -> list[Case]:
    """Return the sound cases of a cohort."""
    if name == "hippocampus":
        return quality.hippocampi(quick)
    folder.mkdir(parents=True, exist_ok=True)
    return quality.phantoms(folder, 20 if quick else PATIENTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: few cases, one step")
    parser.add_argument(
        "--cohorts", nargs="+", choices=list(REPETITIONS), default=list(REPETITIONS)
    )
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="number of the first repetition: others have other faults and networks",
    )
    parser.add_argument("--folder", type=Path, help="work here, leave it, and go on with it later")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohorts = list(options.cohorts)
    if "hippocampus" in cohorts and not (quality.DATA / "Task04_Hippocampus").is_dir():
        print(f"no Task04_Hippocampus in {quality.DATA}: set SEGSTUDY_DATA; it is left out")
        cohorts.remove("hippocampus")
    cleanlab, reached = installed(), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        for name in cohorts:
            cases, found = (
                cohort(folder / name / f"{'quick-' * options.quick}images", name, options.quick),
                [],
            )
            for number in range(
                options.first, options.first + (1 if options.quick else REPETITIONS[name])
            ):
                steps = 1 if options.quick else STEPS[name]
                # Runs of other lengths share nothing.
                own = folder / name / f"{'quick-' * options.quick}{steps}-steps-{number}"
                own.mkdir(parents=True, exist_ok=True)
                repetition = plant(own, name, cases, number)
                if not (own / "splits.tsv").exists():
                    quality.write_training_data(own, name, repetition.cases)
                quality.train(own, name, steps)
                predict(repetition, name)
                found.append(queues(repetition, name, cleanlab))
            reached.append(report(name, found))
    return 0 if options.quick or all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
