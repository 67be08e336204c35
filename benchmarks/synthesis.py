"""Training images drawn from label maps: volumes a second, beside TorchIO's transforms chained to the same end.

Both are given a crop of a brain label map of some 50 labels in memory and make an image and its
deformed labels: affine and elastic deformation, a Gaussian a label, bias field, gamma, loss of
resolution. One process, two threads, in turn, so that a busy machine slows both; the least time of
the rounds counts.

Label maps: `brain_label_maps` in the folder that SEGSTUDY_DATA names; without it, maps made of as
many random bodies. TorchIO is no dependency of segstudy: install it where Python finds it, e.g.
`pip install torchio` into another folder that PYTHONPATH names. Left out where it is not there.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

# Read when the libraries are imported.
os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "2"

import numpy as np
import torch
from scipy import ndimage

from segstudy.images.files import read_label
from segstudy.study import Synthesis
from segstudy.train.draw import Draw
from segstudy.train.spatial import PatchGeometry
from segstudy.train.synth import source_size, synthesise

SIZES = (96, 160)
ROUNDS = 5
ASKED = 5.0


def real_map(folder: Path) -> np.ndarray:
    """The first of the maps as numbers 0, 1, 2, ... of its labels."""
    label = read_label(sorted(folder.glob("*.nii.gz"))[0]).array
    return np.searchsorted(np.unique(label), label).astype(np.uint8)


def made_map(size: int, labels: int = 50) -> np.ndarray:
    """A ball of random bodies: each voxel belongs to the nearest of some points."""
    draw = np.random.default_rng(0)
    points = np.zeros((size,) * 3, np.uint8)
    points[tuple(draw.integers(0, size, (3, labels)))] = np.arange(1, labels + 1)
    nearest = ndimage.distance_transform_edt(
        points == 0, return_distances=False, return_indices=True
    )
    places = np.indices(points.shape) - (size - 1) / 2
    return points[tuple(nearest)] * ((places**2).sum(0) < (0.45 * size) ** 2)


def cut(label: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The middle of a map; what lies outside is background."""
    widths = [(max(want - have, 0) // 2,) * 2 for want, have in zip(size, label.shape, strict=True)]
    label = np.pad(label, widths)
    starts = [(have - want) // 2 for have, want in zip(label.shape, size, strict=True)]
    return label[tuple(slice(s, s + want) for s, want in zip(starts, size, strict=True))].copy()


def ours(label: np.ndarray, size: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """A call that draws an image and its labels; room for the deformation is read, as in training."""
    settings = Synthesis(low_resolution_probability=1)
    source = source_size((size,) * 3, settings, (1.0, 1.0, 1.0), 3.0)
    tissues = torch.from_numpy(cut(label, source))[None]
    generator = torch.Generator().manual_seed(0)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        return synthesise(
            tissues,
            tissues,
            settings,
            channels=1,
            geometry=PatchGeometry((size,) * 3, torch.ones(1, 3), torch.tensor([[0, 1, 2]]), 3.0),
            pairs=(),
            draw=Draw(generator, 1),
        )

    return draw


def torchio_chain(label: np.ndarray, size: int) -> Callable | None:
    """The same of TorchIO; None where it is not installed."""
    try:
        import torchio
    except ImportError:
        return None
    settings = Synthesis()
    chain = torchio.Compose(
        [
            torchio.RandomAffine(scales=(0.8, 1.2), degrees=settings.rotation_deg, isotropic=True),
            torchio.RandomElasticDeformation(num_control_points=7, max_displacement=7.5),
            torchio.RandomLabelsToImage(
                label_key="label",
                default_mean=settings.mean,
                default_std=settings.sd,
            ),
            torchio.RandomBiasField(coefficients=0.5),
            torchio.RandomGamma(log_gamma=(-0.4, 0.4)),
            torchio.RandomAnisotropy(downsampling=(1.5, 5)),
        ]
    )
    tensor = torch.from_numpy(cut(label, (size,) * 3))[None]

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        subject = chain(torchio.Subject(label=torchio.LabelMap(tensor=tensor)))
        return subject["image_from_labels"].data, subject["label"].data

    return draw


def measured(draws: dict[str, Callable], rounds: int) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds a volume, the least of the rounds; tools take turns."""
    best = dict.fromkeys(draws, (np.inf, np.inf))
    for _ in range(rounds):
        for name, draw in draws.items():
            wall, cpu = time.perf_counter(), time.process_time()
            image, labels = draw()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            assert image.shape[-3:] == labels.shape[-3:] and bool(image.isfinite().all())
            best[name] = (min(best[name][0], wall), min(best[name][1], cpu))
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small made-up map: a smoke run")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    folder = Path(os.environ.get("SEGSTUDY_DATA", "shared/data")) / "brain_label_maps"
    real = folder.is_dir() and not quick
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    try:
        versions.append(f"torchio {importlib.metadata.version('torchio')}")
    except importlib.metadata.PackageNotFoundError:
        print("torchio is not installed, and is left out (pip install torchio)")
    print(", ".join(versions) + ", two threads")
    print(
        "\n| size | labels | tool | wall (s) | CPU (s) | volumes a second |\n|---|---|---|---|---|---|"
    )
    reached, lines = True, []
    for size in (32,) if quick else SIZES:
        label = real_map(folder) if real else made_map(size)
        draws = {"segstudy": ours(label, size), "TorchIO": torchio_chain(label, size)}
        draws = {name: draw for name, draw in draws.items() if draw}
        found = measured(draws, 1 if quick else ROUNDS)
        count = len(np.unique(cut(label, (size,) * 3)))
        for name, (wall, cpu) in found.items():
            print(f"| {size}^3 | {count} | {name} | {wall:.3f} | {cpu:.3f} | {1 / wall:.2f} |")
        if "TorchIO" in found and not quick:
            ratio = found["TorchIO"][0] / found["segstudy"][0]
            reached &= ratio >= ASKED
            verdict = "ok" if ratio >= ASKED else "short"
            lines.append(
                f"target {size}^3: times as many volumes a second as TorchIO: {ratio:.1f} "
                f"(asked at least {ASKED:g}) {verdict}"
            )
    print("\n" + "\n".join(lines))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
