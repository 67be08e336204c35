"""Label maps to the grid of a plan and back: segstudy's way beside nnU-Net's.

The same label maps, six ellipsoids of 3 to 12 mm radius at random places, are stored in each of the
48 orientations of the axes at 20 pairs of voxel sizes. Each tool brings them to the target voxel
size, and the one-hot map there back to the stored grid: a perfect prediction. Told are the mean
shift of a structure along the axis where it is largest, and the mean of its volume before and
after, by groups of pairs. nnU-Net's own calls with its defaults: labels of order 1, probabilities of
order 1, of order 0 along an axis that is more than three times coarser.

Needs nnunetv2 (`make nnunet`).
"""

import argparse
import importlib.util
import itertools
import os
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")

import numpy as np
import scipy

from segstudy.images.files import Grid, Image
from segstudy.images.geometry import from_ras, to_ras
from segstudy.images.plan import Geometry
from segstudy.images.prepare import prepare, prepare_label, restore

PAIRS = {
    "halved": [((1, 1, 1), (2, 2, 2)), ((0.8, 0.8, 1.5), (1.6, 1.6, 3)), ((1, 1, 2), (2, 2, 2))],
    "coarser": [
        ((1, 1, 1), (1.5, 1.5, 1.5)),
        ((1, 1, 1), (1.3, 1.3, 1.3)),
        ((0.9, 0.9, 1.2), (1.2, 1.2, 1.5)),
        ((0.7, 0.7, 1.25), (1, 1, 2)),
        ((1, 1, 1.5), (1.2, 1.2, 2)),
    ],
    "finer": [
        ((2, 2, 2), (1, 1, 1)),
        ((1.5, 1.5, 1.5), (1, 1, 1)),
        ((1.3, 1.3, 2), (1, 1, 1.5)),
        ((1.2, 1.2, 2), (0.9, 0.9, 0.9)),
    ],
    "coarse axis, halved": [
        ((1, 1, 2.5), (1, 1, 5)),
        ((1.2, 1.2, 2.5), (1.5, 1.5, 5)),
        ((1, 1, 4), (1, 1, 8)),
    ],
    "coarse axis, other": [
        ((1, 1, 5), (1, 1, 2.5)),
        ((1, 1, 5), (1, 1, 1)),
        ((1, 1, 5), (1.5, 1.5, 6)),
        ((0.8, 0.8, 3), (0.8, 0.8, 4.5)),
        ((1, 1, 4), (1, 1, 3)),
    ],
}
TURNS = [
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
EXTENT_MM, STRUCTURES = 60.0, 6
MOST_SHIFT_VOXELS, MOST_BIAS = 0.05, 0.02


def label_map(draw: np.random.Generator, spacing_mm, turn: np.ndarray) -> Image:
    """Ellipsoids in RAS (6 structures), stored with turned axes."""
    shape = tuple(int(EXTENT_MM / size) + int(draw.integers(0, 2)) for size in spacing_mm)
    places = np.ogrid[tuple(slice(size) for size in shape)]
    places = [(place + 0.5) * size for place, size in zip(places, spacing_mm, strict=True)]
    label = np.zeros(shape, np.uint8)
    for index in range(1, STRUCTURES + 1):
        radii = draw.uniform(3, 12, 3)
        centre = draw.uniform(14, EXTENT_MM - 14, 3)
        parts = zip(places, centre, radii, strict=True)
        label[sum(((place - c) / r) ** 2 for place, c, r in parts) <= 1] = index
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(np.abs(turn.T) @ np.array(spacing_mm))
    stored = Grid(tuple(int(size) for size in np.abs(turn.T) @ shape), affine)
    return Image(from_ras(label, stored), affine)


def segstudy(label: Image, target_mm) -> np.ndarray:
    image = Image(np.ones((1, *label.array.shape), np.float32), label.affine)
    _, way = prepare(image, Geometry(target_mm, "none", 0.0, "other", 3.0))
    found = prepare_label(label, way, range(1, STRUCTURES + 1))
    return restore(one_hot(found), way)


def nnunet(label: Image, target_mm) -> np.ndarray:
    """Its axes are (z, y, x); turned to RAS first, so that both have the same target."""
    from nnunetv2.preprocessing.resampling.default_resampling import (
        compute_new_shape,
        resample_data_or_seg_to_shape,
    )

    turned = to_ras(label)
    array, old, new = turned.array.transpose(2, 1, 0), turned.spacing_mm[::-1], target_mm[::-1]
    shape = compute_new_shape(array.shape, old, new)
    there = resample_data_or_seg_to_shape(
        array[None], shape, old, new, is_seg=True, order=1, order_z=0, force_separate_z=None
    )
    back = resample_data_or_seg_to_shape(
        one_hot(there[0]), array.shape, new, old, order=1, order_z=0, force_separate_z=None
    )
    found = back.argmax(axis=0).astype(np.uint8).transpose(2, 1, 0)
    return from_ras(found, Grid(label.array.shape, label.affine))


def one_hot(classes: np.ndarray) -> np.ndarray:
    return np.stack([(classes == index) for index in range(STRUCTURES + 1)]).astype(np.float32)


def compared(label: np.ndarray, found: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Shift in stored voxels (3,) and volume ratio of each structure that is there."""
    result = []
    for index in range(1, STRUCTURES + 1):
        before, after = np.argwhere(label == index), np.argwhere(found == index)
        if len(before):
            shift = after.mean(axis=0) - before.mean(axis=0) if len(after) else np.full(3, np.nan)
            result.append((shift, len(after) / len(before)))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few orientations: a smoke run")
    options = parser.parse_args()
    tools = {"segstudy": segstudy}
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    if importlib.util.find_spec("nnunetv2") is not None:
        from importlib.metadata import version

        tools["nnU-Net"] = nnunet
        versions += f", nnunetv2 {version('nnunetv2')}"
    turns = TURNS[::24] if options.quick else TURNS
    print(f"{len(turns)} orientations x {sum(map(len, PAIRS.values()))} pairs; {versions}\n")
    print("| pairs | tool | structures | mean shift (voxels) | volume ratio | lost | seconds |")
    print("|---|---|---|---|---|---|---|")
    pooled: dict[str, list] = {name: [] for name in tools}
    worst = 0.0
    for group, pairs in PAIRS.items():
        for name, tool in tools.items():
            draw = np.random.default_rng(7)
            rows, spent = [], 0.0
            for (spacing_mm, target_mm), turn in itertools.product(pairs, turns):
                label = label_map(draw, spacing_mm, turn)
                start = time.process_time()
                found = tool(label, target_mm)
                spent += time.process_time() - start
                # Shifts along right, front, head, whatever the order in which axes are stored.
                rows += [(turn @ shift, ratio) for shift, ratio in compared(label.array, found)]
            pooled[name] += rows
            shift = told(group, name, rows, spent)
            if name == "segstudy":
                worst = max(worst, shift)
    for name, rows in pooled.items():
        told("all", name, rows, None)
    ratio = np.mean([ratio for _, ratio in pooled["segstudy"]])
    checks = [
        ("largest mean shift of a group (voxels)", worst, f"at most {MOST_SHIFT_VOXELS}")
        + (worst <= MOST_SHIFT_VOXELS,),
        ("mean volume ratio there and back", ratio, f"within {MOST_BIAS} of 1")
        + (abs(ratio - 1) <= MOST_BIAS,),
    ]
    print()
    for what, value, asked, met in checks:
        print(f"target {what}: {value:.3f} (asked {asked}) {'ok' if met else 'short'}")
    return 0 if options.quick or all(met for *_, met in checks) else 1


def told(group: str, name: str, rows: list, spent: float | None) -> float:
    """Print a row; the largest mean shift along an axis, in voxels."""
    shifts = np.nanmean([shift for shift, _ in rows], axis=0)
    largest = shifts[np.argmax(np.abs(shifts))]
    lost = sum(ratio == 0 for _, ratio in rows)
    print(
        f"| {group} | {name} | {len(rows)} | {largest:+.3f} | {np.mean([r for _, r in rows]):.3f} | "
        f"{lost} | {'' if spent is None else f'{spent:.0f}'} |",
        flush=True,
    )
    return abs(float(largest))


if __name__ == "__main__":
    sys.exit(main())
