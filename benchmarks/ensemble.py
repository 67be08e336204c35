"""An ensemble of five beside one of its members: time and memory of `segstudy infer`, and a bundle from an empty folder.

A CT of 256x256x150 voxels (an ellipsoid of soft tissue with balls in it) is predicted by one network, by five with the preprocessing of five folds (one grid,
each its own intensities), and by a bundle of these five in a folder that holds nothing else. Networks are small and untrained, since
neither time nor memory hangs on what they have learned. Each runs in a process of its own, on two threads; counted are the user
CPU time of the whole process, which other load on the machine hardly changes, and its largest resident memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="2", OMP_WAIT_POLICY="passive")

import numpy as np
import torch

from segstudy.images.files import write_nifti
from segstudy.images.plan import Plan
from segstudy.networks import build
from segstudy.networks.weights import Trained, save_weights
from segstudy.study import UnetModel

MEMBERS = 5
STRUCTURES = ("esophagus", "heart", "trachea", "aorta")
SPACING_MM = (1.5, 1.5, 2.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small image: a smoke run")
    options = parser.parse_args()
    size = (48, 48, 24) if options.quick else (256, 256, 150)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_nifti(folder / "ct.nii.gz", body(size), np.diag([*SPACING_MM, 1]))
        weights = [write_member(folder / f"fold-{number}.pt", number) for number in range(MEMBERS)]
        empty = folder / "empty"
        empty.mkdir()
        segstudy(folder, "bundle", "--weights", *weights, "--output", "empty/model.bundle")
        runs = {
            "one member": (folder, [weights[0]]),
            f"{MEMBERS} members": (folder, weights),
            f"a bundle of the {MEMBERS}": (empty, ["model.bundle"]),
        }
        print("| predicted by | user CPU (s) | peak memory (MB) |\n|---|---|---|")
        found = {}
        for what, (place, words) in runs.items():
            output = folder / what.replace(" ", "-")
            command = ["infer", "--weights", *words, "--output", output, "--threads", "2"]
            found[what] = segstudy(place, *command, folder / "ct.nii.gz")
            print(f"| {what} | {found[what][0]:.1f} | {found[what][1]:.0f} |", flush=True)
        labels = [path.read_bytes() for path in sorted(folder.glob("*5*/ct.nii.gz"))]
    one, five, bundle = found.values()
    targets = [
        ("memory of five beside one", five[1] / one[1], 1.1),
        ("memory of the bundle beside one", bundle[1] / one[1], 1.15),
        ("time of five beside one", five[0] / one[0], 5.5),
    ]
    print()
    met = [ratio <= asked for _, ratio, asked in targets]
    for (what, ratio, asked), good in zip(targets, met, strict=True):
        print(f"target {what}: {ratio:.2f} (asked {asked:g} at most) {'ok' if good else 'short'}")
    same = len(labels) == 2 and labels[0] == labels[1]
    print(
        f"target the bundle's label file is that of the five: {same} (asked True) {'ok' if same else 'short'}"
    )
    # On a small image all is start and reading: the smoke run holds no target but that of the bytes.
    return 0 if same and (options.quick or all(met)) else 1


def body(size: tuple[int, int, int]) -> np.ndarray:
    """Hounsfield units (i, j, k) of an ellipsoid in air, with balls of contrast in it."""
    grids = np.ogrid[tuple(slice(-1, 1, complex(0, number)) for number in size)]
    x, y, z = (grid.astype(np.float32) for grid in grids)
    image = np.where(x**2 + y**2 / 0.6 + z**2 < 0.8, 40, -1000).astype(np.int16)
    for place in (-0.4, 0, 0.4):
        image[(x - place) ** 2 + y**2 + (z + place) ** 2 < 0.02] = 250
    return image


def write_member(path: Path, number: int) -> Path:
    """Write a 3D U-Net with fresh weights, as a fold's training would."""
    torch.manual_seed(number)
    model = UnetModel(
        network="unet", channels=(4, 8, 16), patch_size=(96, 96, 48), device="cpu",
        infer={"keep_largest_component": "never", "overlap": 0.25},
    )  # fmt: skip
    intensities = ({"low": -900.0 + number, "high": 900.0, "mean": float(number), "sd": 300.0},)
    plan = Plan(SPACING_MM, "none", 0, "ct", 3, None, intensities, (256, 256, 150))
    network = build(model, 1, 1 + len(STRUCTURES), model.patch_size, plan.spacing_mm)
    provenance = {"fold": number, "seed": 0, "training": [], "validation": []}
    trained = Trained(
        network, model, STRUCTURES, ("ct",), plan.to_dict(), model.patch_size, provenance
    )
    save_weights(path, trained)
    return path


def segstudy(folder: Path, *words) -> tuple[float, float]:
    """Run a command in a folder; return its user CPU time in seconds and its largest memory in MB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "segstudy", *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(told[-3000:])
    return used.ru_utime, used.ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
