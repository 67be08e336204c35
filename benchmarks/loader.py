"""Patches of 128 voxels a side cut for training, beside nnU-Net's loader, in patches a second of one core.

Both cut the same number of patches from two volumes of 256 x 256 x 200 voxels of noise on smooth structures, half of them about a
structure, wide enough for the same rotation and scale; nothing is deformed yet. Ours knows what a patch will be turned
into, and reads the box that it needs alone. Both read blosc2 files as they write them; ours holds volumes in memory
where it can. Times are of the CPU, since both work in one thread here and the machine may do other things.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.update(OMP_WAIT_POLICY="passive", OMP_NUM_THREADS="1")

import numpy as np
import torch
from scipy import ndimage

from segstudy.boxes import Box
from segstudy.images.arrays import open_arrays, write_arrays
from segstudy.images.files import Grid
from segstudy.images.plan import Plan, Restore
from segstudy.study import Augmentation
from segstudy.train.augment import place
from segstudy.train.draw import draw_of_step
from segstudy.train.from_images import _load_case
from segstudy.train.sampling import Sampler
from segstudy.train.spatial import PatchGeometry, source_size

CHANGE = Augmentation()
BATCH = 2
TARGETS = {"memory": 35.0, "disk": 25.0}
"""Patches a second of a core that are asked for."""


def volumes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image like CT after resampling, which noise makes hard to compress, and a label."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 300, [-(-size // 16) + 1 for size in shape])
    smooth = ndimage.zoom(coarse, 16, order=1)[tuple(slice(0, size) for size in shape)]
    image = np.float32(smooth + random.normal(0, 20, shape))
    return image[None], np.uint8(smooth > 400)


def ours(folder: Path, image: np.ndarray, label: np.ndarray, size: tuple[int, ...], held: bool):
    """Return a call that cuts a batch as a training does."""
    shape = label.shape
    if not any(folder.iterdir()):
        for name in ("a", "b"):
            restore = Restore(Grid(shape, np.eye(4)), Box((0, 0, 0), shape), shape, None)
            write_arrays(folder, "toy", name, image, label, restore)
    intensities = ({"low": -500.0, "high": 500.0, "mean": 0.0, "sd": 200.0},)
    plan = Plan(
        (1.0,) * 3,
        crop="none",
        margin_mm=0.0,
        normalise="ct",
        anisotropy_threshold=3.0,
        intensities=intensities,
        median_shape=shape,
    )
    cases = [_load_case(case, plan, held) for case in open_arrays([folder]).values()]
    source = source_size(size, CHANGE, (1.0,) * 3, 3.0)

    def reach(step: int, spacing_mm: torch.Tensor, axes: torch.Tensor) -> list:
        geometry = PatchGeometry(size, spacing_mm, axes, 3.0)
        return place(CHANGE, geometry, draw_of_step(0, step, BATCH)).reach(source, size)

    sampler = Sampler(cases, size, source, ("axial",), BATCH, 0.5, 0, reach=reach)
    steps = iter(range(10**9))
    return lambda: sampler.batch(next(steps))


def peer(folder: Path, image: np.ndarray, label: np.ndarray, size: tuple[int, ...]) -> Callable:
    """Return a call that cuts a batch as nnU-Net's trainer does, before its transforms."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    blocks, chunks = comp_blosc2_params(image.shape, size, image.itemsize)
    labels = label[None].astype(np.int16)
    places = {1: np.argwhere(labels == 1)[::50]}
    for name in ("a", "b"):
        nnUNetDatasetBlosc2.save_case(
            image / 200, labels, {"class_locations": places}, str(folder / name), chunks, blocks
        )
    turned = np.deg2rad(CHANGE.rotation_deg)
    wide = get_patch_size(size, *[(-turned, turned)] * 3, CHANGE.scale)
    names = LabelManager({"background": 0, "structure": 1}, None)
    loader = nnUNetDataLoader(nnUNetDatasetBlosc2(str(folder)), BATCH, wide, size, names, 0.5)
    return loader.generate_train_batch


def rate(cut: Callable[[], object], seconds: float) -> float:
    """Return patches a second of CPU time."""
    cut()
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds or count < 2:
        cut()
        count += BATCH
    return count / (time.process_time() - began)


def main() -> int:
    """Print the table and the targets; return 1 where one is short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small patches: a smoke run")
    options = parser.parse_args()
    side, shape, seconds = (32, (64, 64, 50), 0.1) if options.quick else (128, (256, 256, 200), 8.0)
    size = (side,) * 3
    torch.set_num_threads(1)
    image, label = volumes(shape)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        own, other = Path(name, "own"), Path(name, "other")
        own.mkdir()
        other.mkdir()
        calls = {
            "memory": partial(ours, own, image, label, size, True),
            "disk": partial(ours, own, image, label, size, False),
        }
        for where, call in calls.items():
            found[where] = rate(call(), seconds)
        print("| patch | program | from | patches/s a core |\n|---|---|---|---|")
        for where, value in found.items():
            print(f"| {side}^3 | segstudy | {where} | {value:.1f} |")
        try:
            import nnunetv2  # noqa: F401
        except ImportError:
            print("nnU-Net is not installed (make nnunet): not measured")
        else:
            from importlib.metadata import version

            value = rate(peer(other, image, label, size), seconds)
            print(f"| {side}^3 | nnU-Net {version('nnunetv2')} | disk | {value:.1f} |")
    if options.quick:
        return 0
    short = 0
    for where, asked in TARGETS.items():
        fine = found[where] >= asked
        short += not fine
        print(
            f"target patches/s a core from {where}: {found[where]:.1f} (asked {asked:g}) "
            + ("ok" if fine else "short")
        )
    return int(short > 0)


if __name__ == "__main__":
    sys.exit(main())
