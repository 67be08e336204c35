"""What learning from synthetic images buys: Dice away from the contrast that another arm was trained on.

Eight brain label maps train the same network twice, in as many steps: once on T1-like images drawn
from the maps, with segstudy's usual augmentation, and once with `trainer: synth`, on the maps
alone. Both predict the two other subjects, drawn in T1-, T2-, FLAIR- and PD-like contrast by a
painter of this script that shares no code with the generator, and a real T1. Dice is taken on the
native grid of 1 mm.

Data: `brain_label_maps` and `brain_freesurfer` in the folder that SEGSTUDY_DATA names. Brains only:
labels outside the brain are left out.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from scipy import ndimage

from segstudy import cli
from segstudy.cases import Case, Split, write_splits
from segstudy.files import write_json
from segstudy.images.arrays import open_tissues
from segstudy.images.files import Image, read_label, write_label, write_nifti
from segstudy.images.overlap import dice
from segstudy.images.prepare import Plan
from segstudy.infer.image import predict_image, with_classes
from segstudy.networks.weights import load_weights
from segstudy.preprocess.resample import resample_shard
from segstudy.preprocess.tissues import tissues_shard
from segstudy.study import ResampleSettings, TissueSettings

SPACING_MM = (3.0, 3.0, 3.0)
STRUCTURES = {
    "left_white_matter": 2, "right_white_matter": 41,
    "left_cortex": 3, "right_cortex": 42,
    "left_ventricle": 4, "right_ventricle": 43,
    "left_thalamus": 10, "right_thalamus": 49,
    "left_caudate": 11, "right_caudate": 50,
    "left_putamen": 12, "right_putamen": 51,
    "left_hippocampus": 17, "right_hippocampus": 53,
}  # fmt: skip
PAIRS = tuple(zip(list(STRUCTURES)[::2], list(STRUCTURES)[1::2], strict=True))
SAME_SIDES = {"cerebellum_white": (7, 46), "cerebellum_cortex": (8, 47), "pallidum": (13, 52),
              "amygdala": (18, 54), "accumbens": (26, 58), "ventral_dc": (28, 60),
              "inferior_ventricle": (5, 44)}  # fmt: skip
OUTSIDE = 500
"""FreeSurfer numbers from here on lie outside the brain."""

TISSUES = {
    "white": (2, 41, 7, 46, 16, 28, 60, 77, 85, *range(251, 256)),
    "grey": (3, 42, 8, 47),
    "deep": (10, 49, 11, 50, 12, 51, 17, 53, 18, 54, 26, 58),
    "pallidum": (13, 52),
    "fluid": (4, 43, 5, 44, 14, 15, 24, 30, 62, 31, 63, 72),
}
CONTRASTS = {
    "T1": {"white": 0.80, "grey": 0.50, "deep": 0.60, "pallidum": 0.72, "fluid": 0.15},
    "T2": {"white": 0.35, "grey": 0.60, "deep": 0.50, "pallidum": 0.30, "fluid": 0.95},
    "FLAIR": {"white": 0.45, "grey": 0.65, "deep": 0.60, "pallidum": 0.50, "fluid": 0.10},
    "PD": {"white": 0.50, "grey": 0.70, "deep": 0.62, "pallidum": 0.50, "fluid": 0.80},
}
NETWORK = {
    "network": "unet",
    "channels": [12, 24, 48, 96],
    "batch_size": 1,
    "validation_share": 0.0,
    "foreground_share": 0.0,
    "device": "cpu",
    "optimizer": {"lr": 2e-3},
}
ASKED_AWAY, ASKED_T1 = 0.2, 0.7
"""The synthetic arm's lead in mean Dice in contrasts that the other has not seen; its Dice of the real T1."""


# --- data -----------------------------------------------------------------------------------------


def brain(label: Image) -> Image:
    """What lies in the brain, cropped to it."""
    inside = np.where(label.array < OUTSIDE, label.array, 0).astype(np.uint16)
    box = tuple(
        slice(max(0, part.start - 5), part.stop + 5)
        for part in ndimage.find_objects((inside > 0).astype(np.uint8))[0]
    )
    affine = label.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Image(inside[box], affine)


def made_brain(seed: int) -> Image:
    """Nested bodies with all structures, for a smoke run without data: 3 mm, some 40 voxels wide."""
    draw = np.random.default_rng(seed)
    shape = (40, 44, 40)
    places = (np.indices(shape) - np.reshape(shape, (3, 1, 1, 1)) / 2 + 0.5) / 20
    label = np.zeros(shape, np.uint16)
    sided = places[0] < 0  # the patient's left, in an array that runs from left to right
    for radius, left in ((0.9, 3), (0.75, 2)):
        label[(places**2).sum(0) < (radius * draw.uniform(0.95, 1.05)) ** 2] = left
    for left, height in ((4, 0.4), (10, 0.1), (11, 0.25), (12, -0.1), (17, -0.35)):
        away = (np.abs(places[0]) - 0.25) ** 2 + places[1] ** 2 + (places[2] - height) ** 2
        label[away < 0.12**2] = left
    right = {STRUCTURES[one]: STRUCTURES[other] for one, other in PAIRS}
    for left, other in right.items():
        label[(label == left) & ~sided] = other
    return Image(label, np.diag([3.0, 3.0, 3.0, 1.0]))


def painted(label: np.ndarray, contrast: Mapping[str, float], seed: int) -> np.ndarray:
    """An image of a label map: a mean a tissue, blurred by half a voxel, uneven, noisy; 0 outside."""
    draw = np.random.default_rng(seed)
    means = np.full(int(label.max()) + 1, contrast["grey"])
    for tissue, values in TISSUES.items():
        known = [value for value in values if value < len(means)]
        means[known] = contrast[tissue]
    means += draw.normal(0, 0.02, len(means))
    means[0] = 0
    image = ndimage.gaussian_filter(means[label].astype(np.float32), 0.6)
    uneven = ndimage.zoom(draw.normal(0, 0.15, (4, 4, 4)), np.divide(label.shape, 4), order=3)
    image *= np.exp(uneven[tuple(map(slice, label.shape))])
    image += draw.normal(0, 0.02, label.shape)
    image[label == 0] = 0
    return image.astype(np.float32)


def real_t1(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label and affine. The file has no affine; its anatomy lies left, down, front."""
    with np.load(folder / "brain_freesurfer" / "test_scan.npz") as file:
        image, label = file["vol"].astype(np.float32), file["seg"].astype(np.uint16)
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    return image, label, affine


# --- training and prediction ----------------------------------------------------------------------


def prepare(folder: Path, brains: Mapping[str, Image]) -> None:
    """What both arms train on: T1-like images as arrays, and label maps; split and plan."""
    cases = []
    for number, (name, label) in enumerate(brains.items()):
        paths = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
        write_nifti(paths[0], painted(label.array, CONTRASTS["T1"], number), label.affine)
        write_label(paths[1], label.array, label.affine)
        cases.append(Case(name, name, (paths[0],), paths[1]))
    settings = {
        "plan": {"margin_mm": 0.0},
        "dataset": {"modality": "MR", "structures": STRUCTURES},
        "structures": list(STRUCTURES),
    }
    resample_shard(
        "brains", cases, SPACING_MM, ResampleSettings.model_validate(settings), folder / "arrays"
    )
    further = {"left_right_pairs": PAIRS, "tissues": SAME_SIDES}
    tissues_shard(
        "brains",
        cases,
        SPACING_MM,
        TissueSettings.model_validate({**settings, **further}),
        folder / "tissues",
    )
    shapes = [found.parts.shape for found in open_tissues([folder / "tissues"]).values()]
    plan = Plan(
        SPACING_MM, "nonzero", 0.0, "zscore", 3.0,
        median_shape=tuple(int(size) for size in np.median(shapes, axis=0)),
    )  # fmt: skip
    write_json(folder / "plan.json", plan.to_dict())
    write_splits(folder / "splits.tsv", [Split("brains", name, name, 1) for name in brains])


def train(folder: Path, arm: str, steps: int, threads: int) -> float:
    """Train an arm with `segstudy train`; processor seconds."""
    # In epochs of 100 steps, so that the log tells how far it is.
    epochs = max(1, steps // 100)
    model = {**NETWORK, "epochs": epochs, "steps_per_epoch": steps // epochs}
    data = "arrays"
    if arm == "synthetic":
        model, data = {**model, "trainer": "synth"}, "tissues"
    settings = {
        "model": model,
        "structures": list(STRUCTURES),
        "channels": ["image"],
        "modality": "MR",
        "left_right_pairs": PAIRS,
    }
    began = time.process_time()
    failed = cli.main(
        ["train", f"--{data}", str(folder / data), "--plan", str(folder / "plan.json"),
         "--splits", str(folder / "splits.tsv"), "--fold", "0", "--threads", str(threads),
         "--settings", json.dumps(settings), "--output", str(folder / arm)]
    )  # fmt: skip
    if failed:
        raise SystemExit(failed)
    return time.process_time() - began


def tests(
    folder: Path, brains: Mapping[str, Image], real: tuple | None
) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Contrast, image file and label of each test."""
    for contrast, means in CONTRASTS.items():
        for number, (name, label) in enumerate(brains.items()):
            path = folder / f"test_{contrast}_{name}.nii.gz"
            write_nifti(path, painted(label.array, means, 100 + number), label.affine)
            yield contrast, path, label.array
    if real is not None:
        image, label, affine = real
        path = folder / "test_real.nii.gz"
        write_nifti(path, image, affine)
        yield "real T1", path, label


def scores(
    folder: Path, arm: str, found: list[tuple[str, Path, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Dice (structure,) of an arm by contrast, the mean over the subjects."""
    trained = load_weights(folder / arm / "weights.pt")
    by_contrast: dict[str, list] = {}
    for contrast, path, label in found:
        predicted = predict_image(trained, [path], torch.device("cpu")).array
        reference = with_classes(label, list(STRUCTURES.values()))
        by_contrast.setdefault(contrast, []).append(
            dice(reference, predicted.astype(np.uint8), len(STRUCTURES) + 1)
        )
    return {contrast: np.mean(values, axis=0) for contrast, values in by_contrast.items()}


# --- report ---------------------------------------------------------------------------------------


def table(found: dict[str, dict[str, np.ndarray]]) -> None:
    """Print Dice by contrast and arm, sides averaged."""
    names = [left.removeprefix("left_").replace("_", " ") for left, _ in PAIRS]
    print(f"\n| contrast | trained on | {' | '.join(names)} | mean |")
    print("|---|---|" + "---|" * (len(names) + 1))
    for contrast in found["synthetic"]:
        for arm, values in found.items():
            sides = values[contrast].reshape(-1, 2).mean(1)
            cells = " | ".join(f"{value:.3f}" for value in sides)
            print(f"| {contrast} | {arm} | {cells} | {sides.mean():.3f} |")


def targets(found: dict[str, dict[str, np.ndarray]]) -> bool:
    """Print a line a target; whether all were reached."""
    reached = True

    def target(what: str, figure: float, asked: float) -> None:
        nonlocal reached
        reached &= figure >= asked
        verdict = "ok" if figure >= asked else "short"
        print(f"target {what}: {figure:.3f} (asked at least {asked:g}) {verdict}")

    for contrast in ("T2", "FLAIR", "PD"):
        lead = found["synthetic"][contrast].mean() - found["T1 alone"][contrast].mean()
        target(f"{contrast}: lead of the synthetic arm in mean Dice", lead, ASKED_AWAY)
    if "real T1" in found["synthetic"]:
        target(
            "real T1: mean Dice of the synthetic arm",
            found["synthetic"]["real T1"].mean(),
            ASKED_T1,
        )
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="made-up maps, two steps: a smoke run")
    parser.add_argument("--steps", type=int, default=3000, help="training steps of each arm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for what is made; left out: removed")
    options = parser.parse_args()
    data = Path(os.environ.get("SEGSTUDY_DATA", "shared/data"))
    if options.quick:
        brains, real = {f"made_{seed}": made_brain(seed) for seed in range(4)}, None
        options.steps = 2
    elif (data / "brain_label_maps").is_dir():
        maps = sorted((data / "brain_label_maps").glob("*.nii.gz"))
        brains = {path.name.removesuffix(".nii.gz"): brain(read_label(path)) for path in maps}
        real = real_t1(data)
    else:
        print(f"{data}: no brain_label_maps (set SEGSTUDY_DATA): nothing measured")
        return 0
    apart = dict(list(brains.items())[-2:])
    learned = {name: label for name, label in brains.items() if name not in apart}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder, learned)
        found = list(tests(folder, apart, real))
        results, seconds = {}, {}
        for arm in ("T1 alone", "synthetic"):
            seconds[arm] = train(folder, arm, options.steps, options.threads)
            results[arm] = scores(folder, arm, found)
    print(
        f"{len(learned)} maps to train on, {len(apart)} to test; {options.steps} steps at "
        f"{SPACING_MM[0]:g} mm; "
        + ", ".join(f"{arm}: {spent / 60:.1f} CPU minutes" for arm, spent in seconds.items())
    )
    table(results)
    print()
    return 0 if options.quick or targets(results) else 1


if __name__ == "__main__":
    sys.exit(main())
