"""Predicting whole images with the same network: segstudy's windows beside nnU-Net's predictor.

A 3D U-Net is trained for a short while by segstudy, and nnU-Net plans the same cohort. Both
predictors then run that one network (nnU-Net's turns its axes (z, y, x) for it) on the same files,
with the same spacing, patch and overlap of windows (half a patch), without mirroring, on two
threads; reading, preparing and the export to the native grid are counted, imports are not.
nnU-Net's is run with worker processes and without, and the faster of the two is compared.

Needs nnunetv2 (`make nnunet`); the hippocampus cases need SEGSTUDY_DATA.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="2", OMP_WAIT_POLICY="passive")

import nibabel
import numpy as np
import psutil
import yaml

from segstudy.download.phantom import STRUCTURES, patient
from segstudy.images.files import write_label, write_nifti
from segstudy.images.overlap import dice

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGSTUDY_DATA", REPOSITORY.parent / "shared" / "data"))
THREADS = 2
UNET = {
    "network": "unet",
    "channels": [16, 32, 64, 128],
    "optimizer": {"name": "adamw", "lr": 0.004},
    "schedule": {"name": "linear"},
    "foreground_fraction": 0.67,
    "validation_fraction": 0,
    "device": "cpu",
    "threads": THREADS,
    "infer": {"overlap": 0.5, "keep_largest_component": "never"},
}
NNUNET = {
    "trainer": "nnunet",
    "gpu_memory_gb": 1.5,
    "epochs": 1,
    "steps_per_epoch": 1,
    "validation_steps_per_epoch": 1,
    "device": "cpu",
    "threads": THREADS,
}
MODES = {
    "segstudy": "segstudy",
    "segstudy, float32": "segstudy, amp: false",
    "nnunet": "nnU-Net's predictor, worker processes",
    "nnunet sequential": "nnU-Net's predictor, one process",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images: a smoke run")
    parser.add_argument("--only", choices=["hippocampus", "ct"], help="one of the two cohorts")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(json.loads(options.worker))
    if importlib.util.find_spec("nnunetv2") is None:
        print("nnunetv2 is not installed (make nnunet): nothing measured")
        return 0
    targets: list[tuple[str, float]] = []
    print(
        "| cohort | predictor | images | seconds | cases a minute | peak memory (MB) | mean Dice |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        if options.only != "ct":
            if (DATA / "Task04_Hippocampus").is_dir():
                cohort = hippocampus(Path(name) / "hippocampus", options.quick)
                targets += compare(Path(name), "hippocampus", *cohort, list(MODES))
            else:
                print(
                    f"| hippocampus | no Task04_Hippocampus in {DATA}: set SEGSTUDY_DATA | | | | | |"
                )
        if options.only != "hippocampus":
            cohort = phantom(Path(name) / "ct", options.quick)
            targets += compare(Path(name), "ct", *cohort, list(MODES))
    print()
    for what, found, asked, met in targets:
        print(f"target {what}: {found} (asked {asked}) {'ok' if met else 'short'}")
    return 0 if all(met for *_, met in targets) else 1


# --- cohorts: a study's settings, and the images to predict with their labels ---------------------


def hippocampus(folder: Path, quick: bool) -> tuple[dict, list[tuple[Path, Path]]]:
    source = DATA / "Task04_Hippocampus"
    labels = sorted((source / "labelsTr").glob("hippocampus_*.nii.gz"))
    pairs = [(source / "imagesTr" / label.name, label) for label in labels]
    train, test = (pairs[:8], pairs[8:11]) if quick else (pairs[:100], pairs[100:140])
    study = dataset(folder, train, "MR", {"anterior": 1, "posterior": 2})
    study["models"] = {
        "unet": {**UNET, "batch_size": 2, "epochs": 1 if quick else 6},
        "nnunet": NNUNET,
    }
    return study, test


def phantom(folder: Path, quick: bool) -> tuple[dict, list[tuple[Path, Path]]]:
    """Thorax CT phantoms: small ones to train on, one of 512x512x180 to predict; 5 classes.

    The large one has each voxel of a phantom of half its size cut into eight, since a phantom is
    painted much finer than it is given out, which at this size would take 48 GB.
    """
    pairs = []
    small = (64, 64, 32) if quick else (160, 160, 64)
    large = (48, 48, 22) if quick else (256, 256, 90)
    for number, size in enumerate([small] * 4 + [large]):
        image, label, affine = patient(2026, number, size)
        if size == large:
            image, label = (halved(array) for array in (image, label))
            affine = affine @ np.array(
                [[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]
            )
        paths = folder / f"p{number}.nii.gz", folder / f"p{number}_label.nii.gz"
        write_nifti(paths[0], image, affine)
        write_label(paths[1], label, affine)
        pairs.append(paths)
        spacing_mm = nibabel.affines.voxel_sizes(affine)
    study = dataset(folder, pairs[:4], "CT", STRUCTURES)
    # Twice the large image's voxels in plane, a usual choice for thoracic CT.
    target = (spacing_mm * (1 if quick else 2, 1 if quick else 2, 1)).round(2)
    study["preprocess"] = {"default": {"spacing_mm": [float(size) for size in target]}}
    patch = [32, 32, 16] if quick else [96, 96, 64]
    unet = {**UNET, "patch_size": patch, "epochs": 2 if quick else 30}
    study["models"] = {"unet": {**unet, "steps_per_epoch": 4}, "nnunet": NNUNET}
    return study, pairs[4:]


def halved(array: np.ndarray) -> np.ndarray:
    """The array with each voxel cut into eight."""
    for axis in range(3):
        array = array.repeat(2, axis)
    return array


def dataset(folder: Path, pairs: list, modality: str, structures: dict) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["case\tsubject\timage\tlabel"]
    rows += [f"c{n:03d}\tc{n:03d}\t{image}\t{label}" for n, (image, label) in enumerate(pairs)]
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    source = {"layout": "table", "path": str(folder / "cases.tsv")}
    return {
        "datasets": {"cohort": {"source": source, "modality": modality, "structures": structures}},
        "splits": {"folds": 2, "run_folds": [0]},
    }


# --- the comparison -------------------------------------------------------------------------------


def compare(folder: Path, name: str, study: dict, test: list, modes: list[str]) -> list:
    """Train, plan, then predict with each; prints a row each, returns the targets."""
    weights = train(folder / name, study)
    structures = study["datasets"]["cohort"]["structures"]
    found: dict[str, tuple[float, float, float]] = {}
    for mode in modes:
        output = folder / name / mode.replace(", ", "-").replace(" ", "-")
        spec = {
            "mode": mode,
            "weights": {key: str(path) for key, path in weights.items()},
            "images": [str(image) for image, _ in test],
            "output": str(output),
            "structures": structures,
        }
        seconds, peak_mb = measured(spec)
        scores = []
        for image, label in test:
            predicted = output / image.name
            scores.append(
                dice(
                    np.asarray(nibabel.load(label).dataobj),
                    np.asarray(nibabel.load(predicted).dataobj),
                    len(structures) + 1,
                )
            )
        found[mode] = seconds, peak_mb, float(np.nanmean(scores))
        print(
            f"| {name} | {MODES[mode]} | {len(test)} | {seconds:.1f} | {60 * len(test) / seconds:.1f} "
            f"| {peak_mb:.0f} | {found[mode][2]:.4f} |",
            flush=True,
        )
    peer = min(("nnunet", "nnunet sequential"), key=lambda mode: found[mode][0])
    times = found[peer][0] / found["segstudy"][0]
    worse = found[peer][2] - found["segstudy"][2]
    return [
        (
            f"{name}: times faster than nnU-Net's predictor",
            f"{times:.1f}",
            "at least 2",
            times >= 2,
        ),
        (f"{name}: Dice below nnU-Net's", f"{worse:+.4f}", "at most 0.005", worse <= 0.005),
        (
            f"{name}: peak memory",
            f"{found['segstudy'][1]:.0f} MB",
            f"at most {found[peer][1]:.0f} MB",
            found["segstudy"][1] <= found[peer][1],
        ),
    ]


def train(folder: Path, study: dict) -> dict[str, Path]:
    """Weights of both arms, by the workflow."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    weights = {
        name: folder / "results/study/train" / name / "fold-0/seed-0/weights.pt"
        for name in study["models"]
    }
    run = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--cores", str(THREADS), "--quiet", "all"),
            *("--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)),
            *("--configfile", str(REPOSITORY / "config" / "config.yaml")),
            *("--config", f"study={file}", f"results={folder / 'results'}"),
            *("--", *map(str, weights.values())),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(run.stdout[-3000:] + run.stderr[-3000:])
    return weights


def measured(spec: dict) -> tuple[float, float]:
    """Seconds of a worker's predictions, and the most memory that it and its processes held, in MB."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--worker", json.dumps(spec)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak = 0

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            try:
                for member in [root, *root.children(recursive=True)]:
                    total += member.memory_full_info().pss
            except psutil.Error:
                pass
            peak = max(peak, total)
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(out[-3000:] + err[-3000:])
    return float(out.strip().splitlines()[-1]), peak / 2**20


# --- in the worker --------------------------------------------------------------------------------


def work(spec: dict) -> int:
    import torch

    from segstudy.infer import postprocess
    from segstudy.infer.outside import predict_images
    from segstudy.networks.nnunet import prepare
    from segstudy.networks.weights import load_weights

    torch.set_num_threads(THREADS)
    prepare(Path(os.devnull), THREADS)
    ours = load_weights(spec["weights"]["unet"])
    output = Path(spec["output"])
    if spec["mode"].startswith("segstudy"):
        if spec["mode"].endswith("float32"):
            from dataclasses import replace

            ours = replace(ours, model=ours.model.model_copy(update={"amp": False}))
        images = {Path(path).name.removesuffix(".nii.gz"): [Path(path)] for path in spec["images"]}
        choices = {name: postprocess.Choice(False) for name in ours.structures}
        began = time.perf_counter()
        predict_images(ours, images, spec["structures"], choices, torch.device("cpu"), output)
        print(time.perf_counter() - began)
        return 0
    predictor = nnunet_predictor(
        ours, load_weights(spec["weights"]["nnunet"]).plan, spec["images"][0]
    )
    output.mkdir(parents=True)
    files = [[path] for path in spec["images"]]
    names = [str(output / Path(path).name.removesuffix(".nii.gz")) for path in spec["images"]]
    began = time.perf_counter()
    if spec["mode"].endswith("sequential"):
        predictor.predict_from_files_sequential(files, names, False, True)
    else:
        predictor.predict_from_files(
            files,
            names,
            num_processes_preprocessing=THREADS,
            num_processes_segmentation_export=THREADS,
        )
    print(time.perf_counter() - began)
    return 0


def nnunet_predictor(ours, plan: dict, image: str):
    """nnU-Net's predictor with our network, our spacing and patch; what else it plans is its own."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from segstudy.networks.nnunet import managers

    affine = nibabel.load(image).affine
    codes = nibabel.aff2axcodes(affine)
    if any(code not in pair for code, pair in zip(codes, ("RL", "AP", "SI"), strict=True)):
        raise SystemExit(f"{image}: axes {codes}; expected right-left, front-back, foot-head")
    turned = [4 - axis for axis, code in enumerate(codes) if code not in "RAS"]

    class Turned(torch.nn.Module):
        """Our network, on arrays (z, y, x) as stored in place of (x, y, z) in RAS."""

        def __init__(self) -> None:
            super().__init__()
            self.network = ours.network

        def forward(self, images):
            logits = self.network(images.flip(turned).permute(0, 1, 4, 3, 2))
            return logits.permute(0, 1, 4, 3, 2).flip(turned)

    plans = json.loads(json.dumps(plan["plans"]))
    configuration = plans["configurations"]["3d_fullres"]
    configuration["spacing"] = [float(size) for size in ours.plan["spacing_mm"][::-1]]
    configuration["patch_size"] = list(ours.patch_size[::-1])
    # As NIfTI images are read; and arrays in the order of the file.
    plans["transpose_forward"] = plans["transpose_backward"] = [0, 1, 2]
    manager, found = managers({"plans": plans, "configuration": "3d_fullres"})
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        verbose=False,
        allow_tqdm=False,
    )
    network = Turned()
    predictor.manual_initialization(
        network, manager, found, [network.state_dict()], plan["dataset"], "nnUNetTrainer", None
    )
    return predictor


if __name__ == "__main__":
    raise SystemExit(main())
