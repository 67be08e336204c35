"""Tiny cohorts with known truth, written to disk for the tests of the workflow."""

from collections import Counter
from pathlib import Path

import numpy as np

from segstudy.images import files
from segstudy.images.files import write_label, write_nifti
from segstudy.images.rigid import move_structure, segthor_corruption

SHAPE = (48, 44, 16)
HEART, AORTA = 1, 2
AFFINE = np.diag([-3.0, -3.0, 5.0, 1.0])


def chest(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image in HU and label (i, j, k) of a patient: a body with a heart that is not round, and an aorta."""
    draw = np.random.default_rng(index)
    i, j, k = np.meshgrid(*[np.arange(size) for size in SHAPE], indexing="ij")

    def ellipsoid(centre, radii):
        distances = zip((i, j, k), centre, radii, strict=True)
        return sum(((axis - c) / r) ** 2 for axis, c, r in distances) < 1

    shift = draw.uniform(-1.5, 1.5, 3) * (1, 1, 0.4)
    heart = ellipsoid(np.add((25, 19, 7), shift), (7, 4.5, 3.5 + draw.uniform(0, 1)))
    heart |= ellipsoid(np.add((30, 23, 7), shift), (3, 5, 2.5))
    aorta = ellipsoid(np.add((22, 31, 8), shift), (2.4, 2.4, 40))
    label = np.zeros(SHAPE, np.uint8)
    label[heart] = HEART
    label[aorta] = AORTA
    image = np.where(ellipsoid((24, 22, 8), (21, 19, 60)), -50.0, -1000.0)
    image[heart], image[aorta] = 90, 160
    return (image + draw.normal(0, 15, SHAPE)).astype(np.int16), label


def write_case(folder: Path, index: int, *, moved: bool) -> None:
    """`p<index>.nii.gz`, its label, and for patient 0 of a moved cohort the right label too."""
    image, label = chest(index)
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(folder / f"p{index}.nii.gz", image, AFFINE)
    faulty = move_structure(label, HEART, segthor_corruption(SHAPE)) if moved else label
    write_label(folder / f"p{index}_label.nii.gz", faulty, AFFINE)
    if moved and index == 0:
        write_label(folder / f"p{index}_right.nii.gz", label, AFFINE)


def write_table(folder: Path, count: int, *, moved: bool) -> Path:
    rows = ["case\tsubject\timage\tlabel" + ("\treference_label" if moved else "")]
    for index in range(count):
        row = f"p{index}\tsubject{index}\tp{index}.nii.gz\tp{index}_label.nii.gz"
        if moved:
            row += f"\tp{index}_right.nii.gz" if index == 0 else "\t"
        rows.append(row)
    table = folder / "cohort.tsv"
    table.write_text("\n".join(rows) + "\n")
    return table


def write_cohort(folder: Path, count: int = 6, *, moved: bool = True) -> Path:
    """A cohort as a user's own files with a case table; returns the table."""
    for index in range(count):
        write_case(folder, index, moved=moved)
    return write_table(folder, count, moved=moved)


def tiny_study(table: Path, *, moved: bool = True) -> dict:
    """A study of that cohort that trains for seconds."""
    dataset = {
        "source": {"layout": "table", "path": str(table)},
        "modality": "CT",
        "structures": {"heart": HEART, "aorta": AORTA},
        "cases_per_job": 2,
    }
    if moved:
        dataset["repair"] = {"structure": "heart", "reference_case": "p0", "methods": ["sweep"]}
    tiny = {
        "channels": [4, 8],
        "batch_size": 2,
        "epochs": 1,
        "steps_per_epoch": 2,
        "threads": 1,
        "device": "cpu",
        "memory_mb": 1500,
        "runtime_min": 30,
    }
    return {
        "datasets": {"chest": dataset},
        "splits": {"folds": 2},
        "models": {
            "flat": {"network": "unet", "dims": 2, "patch_size": [32, 32], **tiny},
            "deep": {"network": "unet", "dims": 3, "patch_size": [32, 32, 16], **tiny},
        },
        "publish": {"metrics": ["dice"]},
    }


def count_reads(monkeypatch) -> Counter[Path]:
    """How often the voxels of each image file are read from here on."""
    reads: Counter[Path] = Counter()
    read = files._read

    def counted(path, *grid):
        reads[Path(path)] += 1
        return read(path, *grid)

    monkeypatch.setattr(files, "_read", counted)
    return reads
