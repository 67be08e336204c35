"""Make what `make evaluate` reads: 12 cases with labels, and what three programs might have predicted for them.

`fine` lacks a case, `values` has label values of its own, `sides` takes left for right in some cases.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from segstudy.images.files import write_label, write_nifti

SHAPE, SPACING_MM = (72, 56, 40), (3.0, 3.0, 4.0)
STRUCTURES = {"liver": 1, "left_kidney": 2, "right_kidney": 3}
BRIGHTNESS = {"liver": 110.0, "left_kidney": 170.0, "right_kidney": 170.0}
OTHER_VALUES = {1: 5, 2: 3, 3: 2}
LACKING, SWAPPED = 4, (2, 7, 9)
# Middle and half axes of each structure, as shares of the grid; the first axis runs to the right.
ELLIPSOIDS = {
    "liver": ((0.68, 0.52, 0.62), (0.19, 0.27, 0.22)),
    "left_kidney": ((0.30, 0.36, 0.42), (0.075, 0.10, 0.17)),
    "right_kidney": ((0.66, 0.36, 0.34), (0.075, 0.10, 0.17)),
}


def label_of(random: np.random.Generator, spread: float, like: dict | None = None) -> tuple:
    """Draw a label map (i, j, k); with `like`, ellipsoids that are off by `spread` from those."""
    grid = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in SHAPE], indexing="ij"), axis=-1)
    label, drawn = np.zeros(SHAPE, np.uint8), {}
    for name, value in STRUCTURES.items():
        middle, axes = (like or ELLIPSOIDS)[name]
        middle = np.add(middle, random.normal(0, 0.03 * spread, 3))
        axes = np.multiply(axes, np.exp(random.normal(0, 0.2 * spread, 3)))
        drawn[name] = middle, axes
        label[(((grid - middle) / axes) ** 2).sum(axis=-1) < 1] = value
    return label, drawn


def main(folder: Path) -> None:
    """Write the study file, images, labels and predictions into the folder."""
    random = np.random.default_rng(21)
    affine = np.diag([*SPACING_MM, 1.0])
    for part in ("images", "labels", "fine", "values", "sides"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = ["case\timage\tlabel"]
    for number in range(12):
        name = f"case_{number:02d}.nii.gz"
        truth, drawn = label_of(random, 0.6)
        image = random.normal(40, 12, SHAPE)
        for structure, value in STRUCTURES.items():
            image[truth == value] += BRIGHTNESS[structure] - 40
        write_nifti(folder / "images" / name, image.astype(np.int16), affine)
        write_label(folder / "labels" / name, truth, affine)
        fine, values, sides = (label_of(random, spread, drawn)[0] for spread in (0.2, 0.35, 0.3))
        if number in SWAPPED:
            sides = np.array([0, 1, 3, 2], np.uint8)[sides]
        if number != LACKING:
            write_label(folder / "fine" / name, fine, affine)
        others = np.array([0, *(OTHER_VALUES[value] for value in (1, 2, 3))], np.uint8)
        write_label(folder / "values" / name, others[values], affine)
        write_label(folder / "sides" / name, sides, affine)
        rows.append(f"case_{number:02d}\timages/{name}\tlabels/{name}")
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("evaluate.yaml"), folder / "evaluate.yaml")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
