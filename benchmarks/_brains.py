"""Brains for the benchmarks; no benchmark itself.

Real label maps, images painted from them, a real T1; training and prediction as a study does them.
The maps are `brain_label_maps` and the T1 `brain_freesurfer` in the folder that SEGSTUDY_DATA names.
Labels outside the brain are left out. The painter shares no code with the generator of
`trainer: synth`.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from segstudy import cli
from segstudy.cases import Case, Split, write_splits
from segstudy.files import write_json
from segstudy.images.arrays import open_tissues
from segstudy.images.files import Image, read_label, write_label, write_nifti
from segstudy.images.plan import Plan
from segstudy.infer.image import predict_image, to_class_indices
from segstudy.networks.weights import load_weights
from segstudy.preprocess.resample import resample_shard
from segstudy.preprocess.tissues import tissues_shard
from segstudy.study import ResampleSettings, TissueSettings

SPACING_MM = (3.0, 3.0, 3.0)
NETWORK = {
    "network": "unet",
    "channels": [16, 32, 64, 128],
    "batch_size": 1,
    "validation_fraction": 0.0,
    "foreground_fraction": 0.0,
    "device": "cpu",
    "loss": {"dice": 1.0, "cross_entropy": 0.0},
    "optimizer": {"lr": 1.5e-2},
}
SIDED = {
    "white matter": (2, 41),
    "cortex": (3, 42),
    "ventricle": (4, 43),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "hippocampus": (17, 53),
}
"""FreeSurfer's numbers of the left and the right one of each structure that is learned."""
VALUES = [value for both in SIDED.values() for value in both]
FURTHER_SIDED = {"cerebellum_white": (7, 46), "cerebellum_cortex": (8, 47), "pallidum": (13, 52),
                 "amygdala": (18, 54), "accumbens": (26, 58), "ventral_dc": (28, 60),
                 "inferior_ventricle": (5, 44)}  # fmt: skip
"""Numbers whose two sides look alike, and that are not learned."""
OUTSIDE = 500
"""FreeSurfer's numbers from here on lie outside the brain."""

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


# --- maps and images ------------------------------------------------------------------------------


def label_maps(quick: bool) -> dict[str, Image]:
    """The ten maps by name, or four made-up ones for a smoke run; none where the data are not there."""
    if quick:
        return {f"made_{seed}": made_brain(seed) for seed in range(4)}
    paths = sorted((_data() / "brain_label_maps").glob("*.nii.gz"))
    return {path.name.removesuffix(".nii.gz"): brain(read_label(path)) for path in paths}


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
    for left, right in SIDED.values():
        label[(label == left) & ~sided] = right
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


def painted_tests(
    folder: Path, brains: Mapping[str, Image], contrast: str
) -> Iterator[tuple[Path, np.ndarray]]:
    """Image file, and classes on its grid, of each brain in a contrast; no training image looks the same."""
    for number, (name, label) in enumerate(brains.items()):
        path = folder / f"test_{contrast}_{name}.nii"
        write_nifti(path, painted(label.array, CONTRASTS[contrast], 100 + number), label.affine)
        yield path, to_class_indices(label.array, VALUES)


def real_t1(folder: Path) -> tuple[Path, np.ndarray]:
    """File of the real T1, written to `folder`, and classes on its grid.

    It comes without affine; its anatomy lies left, down, front.
    """
    with np.load(_data() / "brain_freesurfer" / "test_scan.npz") as file:
        image, label = file["vol"].astype(np.float32), file["seg"].astype(np.uint16)
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    path = folder / "test_real.nii"
    write_nifti(path, image, affine)
    return path, to_class_indices(label, VALUES)


def _data() -> Path:
    return Path(os.environ.get("SEGSTUDY_DATA", "shared/data"))


# --- training and prediction ----------------------------------------------------------------------


def names(sides: tuple[str, str]) -> list[tuple[str, str]]:
    """The two names of each structure, as `names(("left", "right"))` gives them."""
    return [tuple(f"{side}_{structure.replace(' ', '_')}" for side in sides) for structure in SIDED]


def prepare(folder: Path, brains: Mapping[str, Image], pairs: Sequence[tuple[str, str]]) -> None:
    """What an arm trains on: T1-like images as arrays, and label maps; split and plan.

    pairs: the two names of each structure.
    """
    cases = []
    for number, (name, label) in enumerate(brains.items()):
        paths = folder / f"{name}.nii", folder / f"{name}_label.nii.gz"
        write_nifti(paths[0], painted(label.array, CONTRASTS["T1"], number), label.affine)
        write_label(paths[1], label.array, label.affine)
        cases.append(Case(name, name, (paths[0],), paths[1]))
    structures = [name for pair in pairs for name in pair]
    values = dict(zip(structures, VALUES, strict=True))
    settings = {
        "plan": {"margin_mm": 0.0},
        "dataset": {"modality": "MR", "structures": values},
        "structures": structures,
    }
    resample_shard(
        "brains", cases, SPACING_MM, ResampleSettings.model_validate(settings), folder / "arrays"
    )
    further = {"left_right_pairs": pairs, "tissues": FURTHER_SIDED}
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


@dataclass(frozen=True)
class Arm:
    """What is compared: a model's settings, and the pairs that its study declares."""

    model: Mapping
    declared: Sequence[tuple[str, str]]


def train(
    folder: Path, arms: Mapping[str, Arm], steps: int, pairs: Sequence[tuple[str, str]]
) -> dict[str, float]:
    """Train all arms at once with `segstudy train`, a thread each; their processor seconds.

    folder, pairs: as given to `prepare`.
    """
    structures = [name for pair in pairs for name in pair]
    # Not forked: torch has threads by now.
    with ProcessPoolExecutor(len(arms), multiprocessing.get_context("spawn")) as processes:
        running = {
            name: processes.submit(_train, folder, name, arm, steps, structures)
            for name, arm in arms.items()
        }
        return {name: job.result() for name, job in running.items()}


def _train(folder: Path, name: str, arm: Arm, steps: int, structures: Sequence[str]) -> float:
    # In epochs of 100 steps, so that the log tells how far it is.
    epochs = max(1, steps // 100)
    data = "tissues" if arm.model.get("trainer") == "synth" else "arrays"
    settings = {
        "model": {**arm.model, "epochs": epochs, "steps_per_epoch": steps // epochs},
        "structures": structures,
        "channels": ["image"],
        "modality": "MR",
        "left_right_pairs": arm.declared,
    }
    began = time.process_time()
    failed = cli.main(
        ["train", f"--{data}", str(folder / data), "--plan", str(folder / "plan.json"),
         "--splits", str(folder / "splits.tsv"), "--fold", "0", "--threads", "1",
         "--settings", json.dumps(settings), "--output", str(folder / name)]
    )  # fmt: skip
    if failed:
        raise RuntimeError(f"segstudy train of {name} ended with {failed}")
    return time.process_time() - began


def predicted(folder: Path, arm: str, image: Path) -> np.ndarray:
    """Classes that a trained arm gives the voxels of an image, on the image's own grid."""
    trained = load_weights(folder / arm / "weights.pt")
    return predict_image(trained, [image], torch.device("cpu")).array.astype(np.uint8)


# --- report ---------------------------------------------------------------------------------------


def target(what: str, figure: float, asked: float) -> bool:
    """Print a target's line; whether it was reached."""
    reached = figure >= asked
    verdict = "ok" if reached else "short"
    print(f"target {what}: {figure:.3f} (asked at least {asked:g}) {verdict}")
    return reached
