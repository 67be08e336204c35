"""Which predictions not to trust: coverage of the intervals, risk against coverage, and planted failures that are flagged.

Two seeds a fold of a small 3D U-Net are trained on half of a cohort each, with `segstudy train`: 208 real hippocampus
cases and a phantom. Each fold's two networks predict the cases that neither has seen. Half of the subjects, drawn again
and again, calibrate; of the other half it is counted how often real Dice and volume lie in their 90 % intervals. Held-out
hippocampus cases are then spoiled in five ways and predicted again. A failure is a spoiled case whose Dice, the mean of
the two structures, fell below the limit; of an image of another body part it is 0.

The part `hippocampus` needs the real cases in SEGSTUDY_DATA; the part `phantom` needs nothing. With `--folder` what is trained and
predicted is kept there, and a run that was stopped goes on from it.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from segstudy import cli
from segstudy.cases import Case, Split, read_splits, tested, write_splits
from segstudy.download.phantom import patient
from segstudy.files import write_json, write_text
from segstudy.images.arrays import open_arrays
from segstudy.images.files import Image, read_image, read_label, write_label, write_nifti
from segstudy.images.overlap import dice
from segstudy.images.plan import Plan
from segstudy.infer.batch import predict_each
from segstudy.infer.ensemble import ensemble
from segstudy.infer.image import to_class_indices
from segstudy.infer.uncertainty import sampled
from segstudy.networks.weights import load_weights
from segstudy.preprocess.resample import resample_shard
from segstudy.quality.agreement import pairwise_dice
from segstudy.quality.calibration import (
    Described,
    HeldOut,
    calibrate,
    distance,
    judge,
    training_ranges,
)
from segstudy.quality.risk import aurc
from segstudy.quality.shape import describe
from segstudy.study import ResampleSettings

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGSTUDY_DATA", REPOSITORY.parent / "shared" / "data"))
CPU = torch.device("cpu")
FOLDS, SEEDS = 2, (0, 1)
NETWORK = {
    "network": "unet",
    "dims": 3,
    "channels": [8, 16, 32],
    "batch_size": 2,
    "foreground_fraction": 0.67,
    "optimizer": {"name": "adamw", "lr": 0.004},
    "schedule": {"name": "linear"},
    "validation_fraction": 0,
    "infer": {"overlap": 0.25},
    "device": "cpu",
    "threads": 1,
}
COHORTS = {
    "hippocampus": {
        "structures": {"anterior": 1, "posterior": 2},
        "spacing_mm": (1.5, 1.5, 1.5),
        "patch_size": [24, 40, 24],
    },
    "phantom": {
        "structures": {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4},
        "spacing_mm": (6.0, 6.0, 8.0),
        "patch_size": [32, 32, 16],
    },
}
STEPS = {"hippocampus": 160, "phantom": 480}
"""Of each network: enough that it knows most structures, the thorax' small ones too."""
PATIENTS = 58
"""Of the phantom: of half of them, 29, the conformal quantile is the 27th of 30, which is 90 % and no more."""
TIMED = 20
"""Cases that are predicted once more by the ensemble alone, to tell what its quality costs."""
LIMIT = 0.5
"""Mean Dice below which a spoiled case is a failure."""
COVERAGE = (0.88, 0.92)
FLAGGED, FALSE_ALARMS = 0.95, 0.05


# --- spoiling ---------------------------------------------------------------------------------------


def other_contrast(image: np.ndarray, label: np.ndarray, draw: np.random.Generator):
    """Turn grey values round and bend them, as T2 is to T1."""
    low, high = np.percentile(image, [0.5, 99.5])
    scaled = np.clip((image - low) / (high - low), 0, 1)
    return (1 - scaled) ** draw.uniform(0.5, 2) * (high - low) + low, label


def cropped_field(image: np.ndarray, label: np.ndarray, draw: np.random.Generator):
    """Cut away 40 to 65 % of the image along one axis; Dice is taken on what is left."""
    axis, share = draw.integers(3), draw.uniform(0.4, 0.65)
    cut = round(share * image.shape[axis])
    kept = slice(cut, None) if draw.random() < 0.5 else slice(None, image.shape[axis] - cut)
    box = tuple(kept if number == axis else slice(None) for number in range(3))
    return image[box], label[box]


def motion(image: np.ndarray, label: np.ndarray, draw: np.random.Generator):
    """Move the head between lines of k-space along one axis: two to six poses, 2 to 8 voxels apart."""
    axis = int(draw.integers(3))
    size = image.shape[axis]
    lines = np.fft.fft(image, axis=axis)
    poses = int(draw.integers(2, 7))
    starts = [0, *sorted(draw.choice(np.arange(1, size), poses - 1, replace=False)), size]
    for first, last in itertools.pairwise(starts[1:]):
        shift = [
            0 if number == axis else draw.uniform(2, 8) * draw.choice([-1, 1])
            for number in range(3)
        ]
        moved = np.roll(image, [round(one) for one in shift], range(3))
        part = np.fft.fft(moved, axis=axis)
        rows = [slice(None)] * 3
        rows[axis] = slice(first, last)
        lines[tuple(rows)] = part[tuple(rows)]
    return np.abs(np.fft.ifft(lines, axis=axis)), label


def flipped_axis(image: np.ndarray, label: np.ndarray, draw: np.random.Generator):
    """Turn image and label along one axis, whatever the header says; left and right, which look alike, stay."""
    axis = int(draw.integers(1, 3))
    return np.flip(image, axis), np.flip(label, axis)


def other_body_part(image: np.ndarray, label: np.ndarray, draw: np.random.Generator):
    """Take a piece of a thorax CT of the image's shape."""
    thorax = read_image([DATA / "thorax_ct" / "ct_cropped.nii.gz"]).array[0]
    corner = [
        draw.integers(0, have - want) for have, want in zip(thorax.shape, image.shape, strict=True)
    ]
    box = tuple(slice(one, one + size) for one, size in zip(corner, image.shape, strict=True))
    return thorax[box], np.zeros_like(label)


SPOILED: dict[str, Callable] = {
    "other contrast": other_contrast,
    "cropped field of view": cropped_field,
    "motion": motion,
    "flipped axis": flipped_axis,
    "other body part": other_body_part,
}


# --- training and prediction --------------------------------------------------------------------------


def prepare(folder: Path, name: str, quick: bool) -> list[Case]:
    """Write what the cohort's networks train on to `folder`; its cases."""
    cases = phantoms(folder, 20 if quick else PATIENTS) if name == "phantom" else hippocampi(quick)
    write_training_data(folder, name, cases)
    return cases


def write_training_data(folder: Path, name: str, cases: Sequence[Case]) -> None:
    """Write what networks train on, as a study does: arrays, plan, folds."""
    cohort = COHORTS[name]
    settings = {
        "plan": {"margin_mm": 0.0, "crop": "none", "normalise": "zscore"},
        "dataset": {"modality": "MR", "structures": cohort["structures"]},
        "structures": list(cohort["structures"]),
    }
    settings = ResampleSettings.model_validate(settings)
    if (folder / "splits.tsv").exists():
        return cases
    resample_shard(name, cases, cohort["spacing_mm"], settings, folder / "arrays")
    shapes = [found.image.shape[1:] for found in open_arrays([folder / "arrays"]).values()]
    plan = Plan(
        cohort["spacing_mm"], "none", 0.0, "zscore", 3.0,
        median_shape=tuple(int(size) for size in np.median(shapes, axis=0)),
    )  # fmt: skip
    write_json(folder / "plan.json", plan.to_dict())
    order = np.random.default_rng(20).permutation(len(cases))
    splits = [
        Split(name, case.case, case.subject, int(place % FOLDS))
        for case, place in zip(cases, order, strict=True)
    ]
    write_splits(folder / "splits.tsv", splits)


def hippocampi(quick: bool) -> list[Case]:
    source = DATA / "Task04_Hippocampus"
    labels = sorted((source / "labelsTr").glob("hippocampus_*.nii.gz"))[: 40 if quick else None]
    return [
        Case(name, name, (source / "imagesTr" / label.name,), label)
        for label in labels
        for name in [label.name.removesuffix(".nii.gz")]
    ]


def phantoms(folder: Path, patients: int) -> list[Case]:
    cases = []
    for number in range(patients):
        image, label, affine = patient(2026, number, (64, 64, 36))
        files = folder / f"patient_{number}.nii", folder / f"label_{number}.nii"
        write_nifti(files[0], image.astype(np.float32), affine)
        write_label(files[1], label, affine)
        cases.append(Case(f"patient_{number}", f"patient_{number}", (files[0],), files[1]))
    return cases


def train(folder: Path, name: str, steps: int) -> None:
    """Train two seeds a fold, in epochs of 40 steps."""
    cohort = COHORTS[name]
    epochs = max(1, steps // 40)
    length = {"epochs": epochs, "steps_per_epoch": steps // epochs}
    settings = {
        "model": {**NETWORK, **length, "patch_size": cohort["patch_size"]},
        "structures": list(cohort["structures"]),
        "channels": ["image"],
        "modality": "MR",
    }
    for fold in range(FOLDS):
        for seed in SEEDS:
            output = folder / f"fold-{fold}" / f"seed-{seed}"
            if (output / "weights.pt").exists():  # with --folder
                continue
            failed = cli.main(
                ["train", "--arrays", str(folder / "arrays"), "--plan", str(folder / "plan.json"),
                 "--splits", str(folder / "splits.tsv"), "--fold", str(fold), "--seed", str(seed),
                 "--threads", "1", "--settings", json.dumps(settings),
                 "--output", str(output)]
            )  # fmt: skip
            if failed:
                raise SystemExit(f"segstudy train of fold {fold}, seed {seed} ended with {failed}")


@dataclass
class Found:
    """What was predicted of a cohort: held-out scans, and spoiled ones by kind; the features of the labels by subject."""

    scans: list[HeldOut] = field(default_factory=list)
    spoiled: dict[str, list[HeldOut]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    timed: int = 0


def read_held_out(record: Mapping) -> HeldOut:
    """Return a scan that was kept as JSON."""
    structures = {name: Described(**one) for name, one in record["structures"].items()}
    return HeldOut(**{**record, "structures": structures})


def predict(folder: Path, name: str, known: Sequence[Case], spoil: int) -> Found:
    """Predict each fold's tested cases by its networks, and `spoil` of all of them spoiled in each way."""
    structures = COHORTS[name]["structures"]
    values, found = list(structures.values()), Found()
    cases = {case.case: case for case in known}
    splits = read_splits(folder / "splits.tsv")
    for fold in range(FOLDS):
        files = [folder / f"fold-{fold}" / f"seed-{seed}/weights.pt" for seed in SEEDS]
        together = ensemble([load_weights(file) for file in files], list(map(str, files)))
        several = sampled(together, quality=True)
        names = tested(splits, fold, name)
        paths = {one: cases[one].images for one in names}
        truth = {one: read_label(cases[one].label) for one in names}
        truth = {
            one: Image(to_class_indices(label.array, values), label.affine)
            for one, label in truth.items()
        }
        subjects = {one: cases[one].subject for one in names}
        timed = {one: paths[one] for one in names[: TIMED // FOLDS]}
        began = time.process_time()
        predict_each(together, timed, CPU, lambda *_: None)
        found.seconds["the ensemble alone"] += time.process_time() - began
        began = time.process_time()
        held_out(several, timed, truth, subjects, list(structures))
        found.seconds["with its quality"] += time.process_time() - began
        found.timed += len(timed)

        def predicted(what: str, *given, fold: int = fold, several=several, subjects=subjects):
            file = folder / f"fold-{fold}" / f"{what.replace(' ', '_')}.json"
            if not file.exists():
                made = held_out(several, *given, subjects, list(structures))
                write_text(file, json.dumps(list(map(asdict, made))))
            return [read_held_out(one) for one in json.loads(file.read_text())]

        found.scans += predicted("as it is", paths, truth)
        for one in names:
            features = describe(truth[one], read_image(cases[one].images), len(values) + 1)
            found.labels[one] = dict(zip(structures, features, strict=True))
        for number, (kind, change) in enumerate(SPOILED.items() if spoil else ()):
            made, seen = {}, {}
            for one in names[: spoil // FOLDS]:
                draw = np.random.default_rng([number, *map(ord, one)])
                image = read_image(cases[one].images)
                array, label = change(image.array[0], truth[one].array, draw)
                path = folder / f"{kind.replace(' ', '_')}_{one}.nii"
                write_nifti(path, np.ascontiguousarray(array, np.float32), image.affine)
                made[one], seen[one] = (path,), Image(np.ascontiguousarray(label), image.affine)
            found.spoiled[kind] += predicted(kind, made, seen)
            for (path,) in made.values():
                path.unlink()
    return found


def held_out(
    several,
    paths: Mapping[str, Sequence[Path]],
    truth: Mapping[str, Image],
    subjects: Mapping[str, str],
    names: Sequence[str],
) -> list[HeldOut]:
    """Predict images, and compare with what is there."""
    classes = len(names) + 1

    def compare(case: str, spread) -> HeldOut:
        agreement = pairwise_dice(spread.members, classes)
        features = describe(spread.classes, read_image(paths[case]), classes)
        real = truth[case].array
        sizes = [
            (np.count_nonzero(real == one), np.count_nonzero(spread.classes.array == one))
            for one in range(1, classes)
        ]
        # What a structure that is not there is given for is wrong.
        scores = np.nan_to_num(dice(real, spread.classes.array, classes))
        described = map(Described, map(float, agreement), features)
        return HeldOut(
            case,
            subjects[case],
            dict(zip(names, described, strict=True)),
            dict(zip(names, map(float, scores), strict=True)),
            dict(zip(names, (ratio(*size) for size in sizes), strict=True)),
        )

    return list(predict_each(several, paths, CPU, compare, probabilities=True).values())


def ratio(real: int, predicted: int) -> float:
    if predicted == 0:
        return float("nan") if real == 0 else float("inf")
    return real / predicted


# --- what comes out -------------------------------------------------------------------------------------


def mean_dice(scan: HeldOut) -> float:
    return float(np.mean(list(scan.dice.values())))


def measure(found: Found, structures: Sequence[str], repeats: int) -> dict[str, list]:
    """Calibrate on half of the subjects and look at the other, again and again."""
    rows = defaultdict(list)
    subjects = sorted({scan.subject for scan in found.scans})
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(subjects)
        known = set(order[: len(order) // 2])
        fitted = [scan for scan in found.scans if scan.subject in known]
        labels = {one: [found.labels[scan.case][one] for scan in fitted] for one in structures}
        calibration = calibrate("unet", "seeds", training_ranges(labels), fitted)
        for kind, scans in {"as it is": found.scans, **found.spoiled}.items():
            for scan in scans:
                if scan.subject in known:
                    continue
                judged = judge(scan.structures, calibration, "seeds")
                rows["flags"].append((kind, mean_dice(scan) < LIMIT, judged[0].flagged))
                if kind == "as it is":
                    rows["inside"] += [
                        (one.structure, *covered(scan, one, calibration)) for one in judged
                    ]
                rows["trust"].append(
                    (repeat, kind, 1 - mean_dice(scan), *trusts(scan, calibration))
                )
    return rows


def covered(scan: HeldOut, judged, calibration) -> tuple[bool, bool, bool, float]:
    """Whether Dice and volume lie in their intervals, the flag, and the width of Dice's; a flag withholds nothing here."""
    known, name = calibration.structures[judged.structure], judged.structure
    low, high = known.dice.interval(scan.structures[name].agreement)
    error = abs(np.log(max(scan.volume_ratio[name], 1e-9)))
    return (
        low <= scan.dice[name] <= high,
        error <= known.log_volume,
        judged.flagged,
        min(high, 1) - max(low, 0),
    )


def trusts(scan: HeldOut, calibration) -> tuple[float, float, float]:
    """Three orders of trust: pairwise Dice, predicted Dice, and predicted Dice where scans apart come last."""
    agreements = [one.agreement for one in scan.structures.values()]
    pairwise = float(np.mean(np.nan_to_num(agreements)))
    predicted = float(np.mean([
        calibration.structures[name].dice.fit.at(np.nan_to_num(one.agreement))
        for name, one in scan.structures.items()
    ]))  # fmt: skip
    far = distance(scan.structures, calibration) / (calibration.limit or 1)
    return pairwise, predicted, predicted - max(0.0, min(far, 1e6) - 1)


def report(name: str, found: Found, rows: Mapping[str, list]) -> bool:
    """Print tables and targets; whether all were reached."""
    structures = COHORTS[name]["structures"]
    held = np.array([mean_dice(scan) for scan in found.scans])
    print(f"\n### {name}: {len(found.scans)} held-out cases, mean Dice {held.mean():.3f} "
          f"({held.min():.3f} to {held.max():.3f})\n")  # fmt: skip
    print(
        "| structure | Dice in its interval | volume in its interval | of scans not flagged: Dice | width of Dice's |"
    )
    print("|---|---|---|---|---|")
    inside = defaultdict(list)
    for structure, dice_in, volume_in, flagged, width in rows["inside"]:
        inside[structure].append((dice_in, volume_in, flagged, width))
    for structure in structures:
        dice_in, volume_in, flagged, width = np.array(inside[structure], float).T
        print(f"| {structure} | {dice_in.mean():.3f} | {volume_in.mean():.3f} | "
              f"{dice_in[flagged == 0].mean():.3f} | {np.median(width):.3f} |")  # fmt: skip
    every = np.array([row for part in inside.values() for row in part], float)
    print(
        "\n| predictions | pairwise Dice (baseline) | predicted Dice | predicted Dice, scans apart last | best possible |"
    )
    print("|---|---|---|---|---|")
    areas = {"as they are": of_kinds(rows["trust"], {"as it is"})}
    if found.spoiled:
        areas["with spoiled ones"] = of_kinds(rows["trust"], None)
    for what, columns in areas.items():
        print(f"| {what} | {' | '.join(f'{value:.4f}' for value in columns)} |")
    print(f"\nCPU seconds of {found.timed} cases: "
          + ", ".join(f"{what} {spent:.1f}" for what, spent in found.seconds.items()))  # fmt: skip
    reached = [
        within(f"{name}: real Dice in its 90 % interval", every[:, 0].mean()),
        within(f"{name}: real volume in its 90 % interval", every[:, 1].mean()),
    ]
    return all([*reached, *(flags(rows["flags"]) if found.spoiled else [])])


def of_kinds(rows: Sequence[tuple], kinds: set[str] | None) -> list[float]:
    """Mean area under the risk-coverage curve, over the repeated splits, of each order of trust and of the real one."""
    areas = []
    for repeat in sorted({row[0] for row in rows}):
        risk, *orders = np.array(
            [row[2:] for row in rows if row[0] == repeat and (kinds is None or row[1] in kinds)]
        ).T
        areas.append([aurc(risk, order) for order in (*orders, -risk)])
    return np.mean(areas, axis=0).tolist()


def flags(rows: Sequence[tuple[str, bool, bool]]) -> list[bool]:
    """Print flags by kind, and the targets."""
    print("\n| scans | failures | of them flagged | others | of them flagged |")
    print("|---|---|---|---|---|")
    cells = {kind: ([], []) for kind, *_ in rows}
    for kind, failed, flagged in rows:
        cells[kind][not failed].append(flagged)
    for kind, (failures, others) in cells.items():
        shares = [f"{np.mean(part):.3f}" if part else "" for part in (failures, others)]
        print(f"| {kind} | {len(failures)} | {shares[0]} | {len(others)} | {shares[1]} |")
    planted = [
        one for kind, (failures, _) in cells.items() if kind != "as it is" for one in failures
    ]
    clean = cells["as it is"][1] or cells["as it is"][0]
    print()
    found, alarms = float(np.mean(planted)), float(np.mean(clean))
    print(
        f"target planted failures flagged: {found:.3f} (asked at least {FLAGGED}) {'ok' if found >= FLAGGED else 'short'}"
    )
    print(f"target false alarms, scans as they are: {alarms:.3f} (asked at most {FALSE_ALARMS}) "
          f"{'ok' if alarms <= FALSE_ALARMS else 'short'}")  # fmt: skip
    return [found >= FLAGGED, alarms <= FALSE_ALARMS]


def within(what: str, share: float) -> bool:
    low, high = COVERAGE
    reached = low <= share <= high
    print(f"target {what}: {share:.3f} (asked {low} to {high}) {'ok' if reached else 'short'}")
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: a few cases, two steps")
    parser.add_argument("--part", choices=list(COHORTS), help="one cohort alone (default: both)")
    parser.add_argument(
        "--steps", type=int, help="training steps of each network (default: 160; phantom: 480)"
    )
    parser.add_argument("--repeats", type=int, default=40, help="splits into halves")
    parser.add_argument("--spoil", type=int, default=60, help="cases spoiled in each way")
    parser.add_argument(
        "--folder",
        type=Path,
        help="to work in and keep, where a stopped run goes on; else a temporary one",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohorts = [options.part] if options.part else list(COHORTS)
    if "hippocampus" in cohorts and not (DATA / "Task04_Hippocampus").is_dir():
        print(f"no Task04_Hippocampus in {DATA}: set SEGSTUDY_DATA; the hippocampus is left out")
        cohorts.remove("hippocampus")
    reached = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in cohorts:
            steps = 1 if options.quick else options.steps or STEPS[name]
            spoil = (8 if options.quick else options.spoil) if name == "hippocampus" else 0
            # Runs of other lengths share nothing.
            own = folder / f"{name}{'-quick' * options.quick}-{steps}-{spoil}"
            own.mkdir(exist_ok=True)
            cases = prepare(own, name, options.quick)
            train(own, name, steps)
            found = predict(own, name, cases, spoil)
            repeats = 2 if options.quick else options.repeats
            rows = measure(found, list(COHORTS[name]["structures"]), repeats)
            reached.append(report(name, found, rows))
    return 0 if options.quick or all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
