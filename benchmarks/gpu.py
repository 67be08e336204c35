"""segstudy's training on a GPU beside nnU-Net's trainer, then our network, loss and window beside MONAI's.

nnU-Net plans for phantoms of bright balls and rods in noise, and trains; then our U-Net takes its features, patch and
batch, and as many steps with the same optimizer on the same cases, by the functions that a study's jobs call. Patches a second
are those of the fastest epoch, which for nnU-Net holds one batch of validation and for ours no validation. The busy
share is what `nvidia-smi` says of the whole training, start and validation too. Dice is that of validation cases: of
their patches for nnU-Net, of whole volumes for ours. Takes 8 minutes at most.

Without a GPU there is nothing to measure; `--device cpu --quick` is a smoke run of the same code. Needs nnU-Net
(`make nnunet`), without which ours is measured alone.
"""

import argparse
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

os.environ.update(OMP_WAIT_POLICY="passive")

import numpy as np
import pandas
import torch
from scipy import ndimage

from segstudy.boxes import Box
from segstudy.cases import Case, Labelled
from segstudy.files import read_json
from segstudy.images.arrays import open_arrays, write_arrays
from segstudy.images.files import Grid, write_label, write_nifti
from segstudy.images.plan import Plan, Restore
from segstudy.study import NnunetModel, TrainSettings, UnetModel
from segstudy.train.fit import fit
from segstudy.train.from_images import Patches
from segstudy.train.resolve import resolve
from segstudy.train.run import Run
from segstudy.train.trainer import prepare_torch

STRUCTURES = {"ball": 1, "rod": 2}
CASES, VALIDATED = 8, 2
WANTED_DICE = 0.8
OURS, PEER = "segstudy", "nnU-Net"


def phantom(number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a label (x, y, z) of a ball and a rod, hardly brighter than what is around them."""
    draw = np.random.default_rng(number)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    away = places - draw.uniform(-0.3, 0.3, (2, 3))[:, :, None, None, None]
    label = np.zeros((size,) * 3, np.uint8)
    label[(away[0] ** 2).sum(0) < 0.3**2] = 1
    label[(away[1, :2] ** 2).sum(0) < 0.1**2] = 2
    image = ndimage.gaussian_filter(draw.normal(size=label.shape), 2) * 8 + label
    return image.astype(np.float32), label


def write_cohort(folder: Path, size: int) -> list[Labelled]:
    """Write phantoms as files for nnU-Net, and as prepared arrays for ours, voxels of 1 mm."""
    (folder / "arrays").mkdir()
    cases = []
    for number in range(CASES):
        name, affine = f"case{number}", np.eye(4)
        image, label = phantom(number, size)
        paths = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
        write_nifti(paths[0], image, affine)
        write_label(paths[1], label, affine)
        whole = Box((0, 0, 0), label.shape)
        restore = Restore(Grid(label.shape, affine), whole, label.shape, None)
        write_arrays(folder / "arrays", "phantoms", name, image[None], label, restore)
        cases.append(
            Labelled("phantoms", Case(name, name, (paths[0],), paths[1]), dict(STRUCTURES))
        )
    return cases


def settings_of(model: NnunetModel | UnetModel) -> TrainSettings:
    """Return the settings of a training on the phantoms."""
    return TrainSettings(
        model=model, structures=tuple(STRUCTURES), channels=("image",), modality="MR"
    )


def train_peer(cases: list[Labelled], run: Run, length: Mapping[str, int]) -> None:
    """Train nnU-Net, with its own plans."""
    from segstudy.train import nnunet
    from segstudy.train.fold import Fold

    model = NnunetModel(network="nnunet", validation_steps_per_epoch=1, **length)
    training, validation = cases[VALIDATED:], cases[:VALIDATED]
    with redirect_stdout(sys.stderr):  # its remarks are no part of the table
        nnunet.fit(Fold(settings_of(model), training, validation, 0, 0), run)


def planned(settings: Path) -> dict:
    """Return the keys of our U-Net that make it the network, the patch and the batch of nnU-Net's plans."""
    told = read_json(settings)
    plan = told["plans"]["configurations"][told["configuration"]]
    return {
        "channels": plan["architecture"]["arch_kwargs"]["features_per_stage"],
        "patch_size": told["patch_size"][::-1],  # its axes are z, y, x
        "batch_size": told["batch_size"],
    }


def train_ours(folder: Path, run: Run, model: UnetModel) -> None:
    """Train our U-Net from prepared arrays."""
    prepare_torch(run.device, max(1, run.threads - run.workers))
    opened = list(open_arrays([folder / "arrays"]).values())
    shape = opened[0].shape
    plan = Plan((1.0,) * 3, "none", 0.0, "zscore", 3.0, (), median_shape=shape)
    source = Patches(opened[VALIDATED:], opened[:VALIDATED])
    resolved = resolve(settings_of(model), plan, source, fold=0, seed=0, device=run.device.type)
    fit(resolved, source, run)


def watched(device: torch.device, call: Callable[[], None]) -> float:
    """Call, and return the share of the time in which the GPU was busy, as nvidia-smi says; NaN without it."""
    words = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 200 -i"
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    samples: list[int] = []
    try:
        if device.type != "cuda":
            raise FileNotFoundError
        asked = subprocess.Popen([*words.split(), shown], stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        call()
        return math.nan
    # Of a part of a card (MIG) it says [N/A].
    lines = (line.strip() for line in asked.stdout)
    listener = threading.Thread(
        target=lambda: samples.extend(int(line) for line in lines if line.isdecimal())
    )
    listener.start()
    try:
        call()
    finally:
        asked.terminate()
        listener.join()
    return float(np.mean(samples)) / 100 if samples else math.nan


def measured(name: str, device: torch.device, output: Path, call: Callable[[], None]) -> list:
    """Train, and return a row of the table."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    busy = watched(device, call)
    told, history = read_json(output / "settings.json"), pandas.read_csv(output / "history.csv")
    memory = history["gpu_memory_mb"].max() if "gpu_memory_mb" in history else math.nan
    if device.type == "cuda" and math.isnan(memory):
        memory = torch.cuda.max_memory_allocated() / 1e6
    patches = told["batch_size"] * told["steps_per_epoch"] if name == PEER else (
        told["model"]["batch_size"] * told["steps_per_epoch"]
    )  # fmt: skip
    waited = (
        history["waited_seconds"].sum() / history["seconds"].sum() if name == OURS else math.nan
    )
    reached = history["validation_dice_mean"] >= WANTED_DICE
    seconds = history["seconds"].cumsum()[reached].min()
    return [
        name,
        f"{told['parameters']:,}",
        told["precision"],
        *(f"{value:.3g}" for value in (patches / history["seconds"].min(), waited, busy, memory)),
        *(f"{value:.3g}" for value in (seconds, history["validation_dice_mean"].dropna().iloc[-1])),
    ]


def main() -> int:
    """Print the tables; return 1 where our results and MONAI's differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images, few steps: a smoke run")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU: nothing measured (--device cpu --quick runs the code on a CPU)")
        return 0
    size, epochs, steps = (32, 2, 2) if options.quick else (160, 12, 50)
    length = {"epochs": epochs, "steps_per_epoch": steps}
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else "CPU: a smoke run, no measurement"
    print(f"{name}, torch {torch.__version__}, {options.threads} threads, {epochs * steps} steps\n")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cases = write_cohort(folder, size)
        same = {"channels": (32, 64, 128), "patch_size": (size,) * 3, "batch_size": 2}

        def run(name: str, workers: int = 0) -> Run:
            memory_mb = 10**6
            return Run(folder / name, device, options.threads, "benchmark", memory_mb, workers)

        if importlib.util.find_spec("nnunetv2") is None:
            print("nnU-Net is not installed (make nnunet): not measured")
        else:
            peer = run("peer")
            train = partial(train_peer, cases, peer, length)
            rows.append(measured(PEER, device, peer.output, train))
            same = planned(peer.output / "settings.json")
        sgd = {"name": "sgd", "lr": 0.01, "momentum": 0.99, "weight_decay": 3e-5}
        model = UnetModel(
            **{"network": "unet", "optimizer": sgd, "schedule": {"name": "poly"}, **same, **length},
            foreground_fraction=0.33,
            validate_every_epochs=2,
        )
        ours = run("ours", workers=options.threads - 1 if on_gpu else 0)
        rows.append(measured(OURS, device, ours.output, partial(train_ours, folder, ours, model)))
    print(
        "| program | parameters | precision | patches/s | waited for patches | busy | GPU memory (MB) "
        f"| seconds to Dice {WANTED_DICE} | last Dice |\n|---|---|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()
    import against_monai

    return against_monai.compare(device, options.quick, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
