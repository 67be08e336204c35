"""Why networks mix up left and right: plain mirroring against flips that know of sides.

Brain label maps, drawn as T1-like images, train the same network in as many steps with plain
mirroring across the sagittal plane (half of the patches, and an average over both images in
prediction, as nnU-Net does by default), and with the same flips of a study that declares its
`left_right_pairs`: labels swap sides with the image. Each predicts the other maps, drawn likewise,
and a real T1.

segstudy refuses plain mirroring where structures are named left and right and no pairs are
declared. The structures of both arms are therefore named neutrally here: `1_thalamus` and
`2_thalamus` are as good as two organs.

Data: `brain_label_maps` and `brain_freesurfer` in the folder that SEGSTUDY_DATA names.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import _brains
import numpy as np

from segstudy.images.overlap import confusion, dice

FLIPS = {
    "augmentation": {"flip_axes": ["right_left"]},
    "infer": {"mirror_axes": ["right_left"]},
}
PAIRS = _brains.names(("1", "2"))
ARMS = {
    "plain mirroring": _brains.Arm({**_brains.NETWORK, **FLIPS}, ()),
    "side-aware flips": _brains.Arm({**_brains.NETWORK, **FLIPS}, PAIRS),
}
ASKED_SWAPPED, ASKED_DICE = 0.1, 0.1
"""Plain mirroring's share of swapped voxels less that of side-aware flips; the latter's lead in Dice."""


def figures(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Dice with and without sides, and the share of voxels on the wrong side, of class indices.

    The share is of all voxels predicted as a sided structure: those that lie in the same structure
    of the other side.
    """
    count = len(_brains.VALUES) + 1
    counts = confusion(truth, found, count)
    left = np.arange(1, count, 2)
    swapped = counts[left, left + 1].sum() + counts[left + 1, left].sum()
    merged = (truth + 1) // 2, (found + 1) // 2
    return {
        "Dice": float(np.nanmean(dice(truth, found, count))),
        "Dice, sides merged": float(np.nanmean(dice(*merged, len(_brains.SIDED) + 1))),
        "swapped voxels": float(swapped / max(counts[:, 1:].sum(), 1)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="made-up maps, two steps: a smoke run")
    parser.add_argument("--steps", type=int, default=400, help="training steps of each arm")
    parser.add_argument("--keep", type=Path, help="folder for what is made; left out: removed")
    options = parser.parse_args()
    steps = 2 if options.quick else options.steps
    brains = _brains.label_maps(options.quick)
    if not brains:
        print("no brain_label_maps in the folder of SEGSTUDY_DATA: nothing measured")
        return 0
    apart = dict(list(brains.items())[-2 if options.quick else -4 :])
    learned = {name: label for name, label in brains.items() if name not in apart}
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _brains.prepare(folder, learned, PAIRS)
        tests = {"painted T1": list(_brains.painted_tests(folder, apart, "T1"))}
        if not options.quick:
            tests["real T1"] = [_brains.real_t1(folder)]
        seconds = _brains.train(folder, ARMS, steps, PAIRS)
        for name, images in tests.items():
            for arm in ARMS:
                found = [
                    figures(truth, _brains.predicted(folder, arm, image)) for image, truth in images
                ]
                rows[name, arm] = {
                    key: float(np.mean([one[key] for one in found])) for key in found[0]
                } | {"n": len(found)}
    print(
        f"{len(learned)} maps to train on; {steps} steps an arm at {_brains.SPACING_MM[0]:g} mm; "
        f"{sum(seconds.values()) / 60:.1f} CPU minutes\n"
    )
    print("| images | trained with | Dice | Dice, sides merged | swapped voxels | n |")
    print("|---|---|---|---|---|---|")
    for (name, arm), row in rows.items():
        print(
            f"| {name} | {arm} | {row['Dice']:.3f} | {row['Dice, sides merged']:.3f} | "
            f"{row['swapped voxels']:.1%} | {row['n']} |"
        )
    print()
    reached = []
    for name in dict.fromkeys(name for name, _ in rows):
        aware, plain = rows[name, "side-aware flips"], rows[name, "plain mirroring"]
        reached += [
            _brains.target(
                f"{name}: share of swapped voxels that side-aware flips spare",
                plain["swapped voxels"] - aware["swapped voxels"],
                ASKED_SWAPPED,
            ),
            _brains.target(
                f"{name}: lead of side-aware flips in mean Dice",
                aware["Dice"] - plain["Dice"],
                ASKED_DICE,
            ),
        ]
    return 0 if options.quick or all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
