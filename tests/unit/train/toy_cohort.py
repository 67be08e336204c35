"""Small cohorts of prepared cases, with structures that a network learns in seconds."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segstudy.boxes import Box
from segstudy.cases import Split, write_splits
from segstudy.files import write_json
from segstudy.images.arrays import write_arrays
from segstudy.images.files import Grid
from segstudy.images.plan import Plan, Restore

SHAPE = (24, 20, 16)
SPACING_MM = (1.0, 1.0, 2.0)
STRUCTURES = ("ball", "rod")


def volume(number: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An image (1, x, y, z) with noise and a label with a bright ball and a brighter rod."""
    draw = np.random.default_rng(number)
    places = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))

    def inside(centre, radii):
        offset = (places - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
        return (offset**2).sum(0) < 1

    size = np.array(shape)
    shift = draw.uniform(-0.06, 0.06, 3) * size
    label = np.zeros(shape, np.uint8)
    label[inside(size * 0.35 + shift, size * 0.22)] = 1
    label[inside(size * 0.7 - shift, size * (0.13, 0.13, 2))] = 2
    image = np.array([0, 100, 200])[label] + draw.normal(0, 15, shape)
    return image[None].astype(np.float32), label


@dataclass(frozen=True)
class Cohort:
    folder: Path
    plan: Plan

    @property
    def shards(self) -> list[Path]:
        return sorted((self.folder / "arrays").iterdir())

    def words(
        self, output: Path, model: dict, fold: int = 0, seed: int = 0, **further: object
    ) -> list[str]:
        """The command line of a training. further: settings beside the model's."""
        settings = {
            "model": model,
            "structures": STRUCTURES,
            "channels": ["image"],
            "modality": "CT",
            **further,
        }
        return [
            "train",
            *["--arrays", *map(str, self.shards)],
            *[
                "--splits",
                str(self.folder / "splits.tsv"),
                "--plan",
                str(self.folder / "plan.json"),
            ],
            *["--fold", str(fold), "--seed", str(seed), "--threads", "1"],
            *["--settings", json.dumps(settings), "--output", str(output)],
        ]


def write_case(
    folder: Path,
    number: int,
    shape: tuple[int, ...],
    look: int,
    changed: Callable[[np.ndarray], np.ndarray] = lambda label: label,
) -> None:
    """Case `number`, in one of two shards, that looks as the seed `look` says. changed: its label."""
    image, label = volume(look, shape)
    label = changed(label)
    grid = Grid(shape, np.diag([*SPACING_MM, 1.0]))
    shard = folder / "arrays" / f"{number % 2:03d}-of-002"
    shard.mkdir(parents=True, exist_ok=True)
    restore = Restore(grid, Box((0, 0, 0), shape), shape, None)
    write_arrays(shard, "toy", f"case_{number}", image, label, restore)


def write_cohort(folder: Path, count: int = 6, shape: tuple[int, ...] = SHAPE) -> Cohort:
    """Cases 0, 2, 4 are tested in fold 0, the others in fold 1; one shard each."""
    for number in range(count):
        write_case(folder, number, shape, look=number)
    write_splits(
        folder / "splits.tsv",
        [Split("toy", f"case_{n}", f"subject_{n}", n % 2) for n in range(count)],
    )
    plan = Plan(
        SPACING_MM,
        crop="none",
        margin_mm=0.0,
        normalise="ct",
        anisotropy_threshold=3.0,
        intensities=({"low": -50.0, "high": 250.0, "mean": 50.0, "sd": 70.0},),
        median_shape=shape,
    )
    write_json(folder / "plan.json", plan.to_dict())
    return Cohort(folder, plan)
