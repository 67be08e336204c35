"""What learning from synthetic images buys: Dice away from the contrast that another arm was trained on.

Eight brain label maps train the same network twice, in as many steps: once on T1-like images drawn
from the maps, with segstudy's usual augmentation, and once with `trainer: synth`, on the maps
alone. Both predict the two other subjects, drawn in T1-, T2-, FLAIR- and PD-like contrast by a
painter that shares no code with the generator, and a real T1. Dice is taken on the native grid of
1 mm.

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

from segstudy.images.overlap import dice

PAIRS = _brains.names(("left", "right"))
SYNTHESIS = {"zero_background_probability": 1.0}
"""Maps and tests are brains without skulls."""
ARMS = {
    "T1 alone": _brains.Arm(_brains.NETWORK, PAIRS),
    "synthetic": _brains.Arm(
        {**_brains.NETWORK, "trainer": "synth", "synthesis": SYNTHESIS}, PAIRS
    ),
}
ASKED_AWAY, ASKED_T1 = 0.2, 0.7
"""The synthetic arm's lead in mean Dice in contrasts that the other has not seen; its Dice of the real T1."""

Tests = dict[str, list[tuple[Path, np.ndarray]]]
"""Contrast -> image files, and classes on their grids."""


def scores(folder: Path, arm: str, tests: Tests) -> dict[str, np.ndarray]:
    """Dice (class,) of an arm by contrast, the mean over the subjects."""
    return {
        contrast: np.mean(
            [
                dice(truth, _brains.predicted(folder, arm, image), len(_brains.VALUES) + 1)
                for image, truth in images
            ],
            axis=0,
        )
        for contrast, images in tests.items()
    }


def table(found: dict[str, dict[str, np.ndarray]]) -> None:
    """Print Dice by contrast and arm, sides averaged."""
    print(f"\n| contrast | trained on | {' | '.join(_brains.SIDED)} | mean |")
    print("|---|---|" + "---|" * (len(_brains.SIDED) + 1))
    for contrast in found["synthetic"]:
        for arm, values in found.items():
            sides = values[contrast].reshape(-1, 2).mean(1)
            cells = " | ".join(f"{value:.3f}" for value in sides)
            print(f"| {contrast} | {arm} | {cells} | {sides.mean():.3f} |")


def targets(found: dict[str, dict[str, np.ndarray]]) -> bool:
    """Print a line a target; whether all were reached."""
    means = {
        arm: {contrast: float(values.mean()) for contrast, values in by_contrast.items()}
        for arm, by_contrast in found.items()
    }
    reached = [
        _brains.target(
            f"{contrast}: lead of the synthetic arm in mean Dice",
            means["synthetic"][contrast] - means["T1 alone"][contrast],
            ASKED_AWAY,
        )
        for contrast in ("T2", "FLAIR", "PD")
    ]
    what = "real T1: mean Dice of the synthetic arm"
    return all([*reached, _brains.target(what, means["synthetic"]["real T1"], ASKED_T1)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="made-up maps, two steps: a smoke run")
    parser.add_argument("--steps", type=int, default=1200, help="training steps of each arm")
    parser.add_argument("--keep", type=Path, help="folder for what is made; left out: removed")
    options = parser.parse_args()
    steps = 2 if options.quick else options.steps
    brains = _brains.label_maps(options.quick)
    if not brains:
        print("no brain_label_maps in the folder of SEGSTUDY_DATA: nothing measured")
        return 0
    apart = dict(list(brains.items())[-2:])
    learned = {name: label for name, label in brains.items() if name not in apart}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _brains.prepare(folder, learned, PAIRS)
        tests: Tests = {
            contrast: list(_brains.painted_tests(folder, apart, contrast))
            for contrast in _brains.CONTRASTS
        }
        if not options.quick:
            tests["real T1"] = [_brains.real_t1(folder)]
        seconds = _brains.train(folder, ARMS, steps, PAIRS)
        results = {arm: scores(folder, arm, tests) for arm in ARMS}
    print(
        f"{len(learned)} maps to train on, {len(apart)} to test; {steps} steps at "
        f"{_brains.SPACING_MM[0]:g} mm; "
        + ", ".join(f"{arm}: {spent / 60:.1f} CPU minutes" for arm, spent in seconds.items())
    )
    table(results)
    print()
    return 0 if options.quick or targets(results) else 1


if __name__ == "__main__":
    sys.exit(main())
