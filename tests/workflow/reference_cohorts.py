"""Tiny cohorts in the layouts of the reference studies: folders as they are given out, phantoms inside."""

import json
from pathlib import Path

import numpy as np

from builders import AFFINE, chest
from segstudy.images.files import write_label, write_nifti
from segstudy.images.rigid import move_structure, segthor_corruption

GRID = np.diag([-2.0, -2.0, 2.0, 1.0])


def segthor(folder: Path, patients=(1, 2, 27, 28)) -> Path:
    """Chests whose heart was moved in each; Patient_27 has the right label too."""
    for number in patients:
        image, plain = chest(number)
        label = np.select([plain == 1, plain == 2], [2, 4], 0).astype(np.uint8)
        label[8:12, 30:34, 2:14], label[14:18, 30:34, 2:14] = 1, 3
        patient = folder / "train" / f"Patient_{number:02d}"
        write_nifti(patient / f"{patient.name}.nii.gz", image, AFFINE)
        moved = move_structure(label, 2, segthor_corruption(label.shape))
        write_label(patient / "GT.nii.gz", moved, AFFINE)
        if number == 27:
            write_label(patient / "GT2.nii.gz", label, AFFINE)
    return folder


def ball(shape, centre, radius) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < radius**2


def brain(seed: int, values, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A head with a ball of each value; values in pairs lie left and right of the middle."""
    shape = (40, 32, 28)
    draw = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint16)
    for rank, value in enumerate(values):
        height = 5 + 5 * (rank // 2) % 20
        centre = (12 if rank % 2 else 28, 10 + 3 * (rank // 4), height) + draw.normal(0, 0.5, 3)
        label[ball(shape, centre, 3)] = value
    head = ball(shape, (20, 16, 14), 19)
    image = np.stack(
        [
            np.where(head | (label > 0), 40 + 5.0 * np.searchsorted(sorted(values), label), 0)
            + (head | (label > 0)) * draw.normal(0, 1 + channel, shape)
            for channel in range(channels)
        ],
        axis=-1,
    ).astype(np.float32)
    return (image if channels > 1 else image[..., 0]), label


def tumours(folder: Path, cases: int = 6) -> Path:
    """Decathlon Task01: four channels in the fourth axis; every third tumour does not enhance."""
    entries = []
    for number in range(cases):
        image, label = brain(number, (1, 2) if number % 3 == 0 else (1, 2, 3), channels=4)
        name = f"BRATS_{number:03d}.nii.gz"
        write_nifti(folder / "imagesTr" / name, image, GRID)
        write_label(folder / "labelsTr" / name, label, GRID)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    names = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    description = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {str(value): name for value, name in enumerate(names)},
        "training": entries,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def hippocampus(folder: Path, cases: int = 4) -> Path:
    """Decathlon Task04."""
    entries = []
    for number in range(cases):
        image, label = brain(number, (1, 2))
        name = f"hippocampus_{number:03d}.nii.gz"
        write_nifti(folder / "imagesTr" / name, image, GRID)
        write_label(folder / "labelsTr" / name, label, GRID)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    description = {"modality": {"0": "MRI"}, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def slices(folder: Path, subjects: int = 12, size: int = 32) -> Path:
    """OASIS slices as PNG: subjects in train, validate and test, the first slice of each empty."""
    import SimpleITK

    parts = {"train": range(1, subjects - 1), "validate": (402, 403), "test": (441, 442)}
    row, column = np.mgrid[:size, :size]
    for part, numbers in parts.items():
        for subject in numbers:
            draw = np.random.default_rng(subject)
            centre = draw.uniform(-1.5, 1.5, 2) + size / 2
            distance = np.hypot(row - centre[0], column - centre[1])
            for number in range(4):
                label = np.zeros((size, size), np.uint8)
                for gray, radius in ((85, 0.4), (170, 0.3), (255, 0.18)):
                    label[distance < size * radius * min(number, 2) / 2] = gray
                image = (label // 2 + draw.integers(20, 40, label.shape)).astype(np.uint8)
                for kind, name, array in (("", "case", image), ("seg_", "seg", label)):
                    path = folder / f"keras_png_slices_{kind}{part}"
                    path.mkdir(parents=True, exist_ok=True)
                    file = path / f"{name}_{subject:03d}_slice_{number}.nii.png"
                    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(file))
    return folder


SEG35 = (7, 26, 8, 27, 9, 28, 10, 29, 14, 30, 15, 31, 16, 32)
ASEG = (10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58)


def two_sites(folder: Path, scans: int = 4) -> dict[str, str]:
    """neurite-OASIS, and another site in BIDS under FreeSurfer's numbers."""
    for number in range(scans):
        image, label = brain(number, SEG35)
        path = folder / "oasis" / f"OASIS_OAS1_{number + 1:04d}_MR1"
        write_nifti(path / "aligned_norm.nii.gz", image, GRID)
        write_label(path / "aligned_seg35.nii.gz", label, GRID)
    site = folder / "adni"
    for number in range(2):
        image, label = brain(90 + number, ASEG)
        label[0, 0, :4] = 41  # white matter: named by the table, background here
        key = f"sub-{number}/ses-M000/anat"
        name = f"sub-{number}_ses-M000"
        write_nifti(site / key / f"{name}_T1w.nii.gz", image, GRID)
        labels = site / "derivatives" / "freesurfer" / key
        write_label(labels / f"{name}_desc-aseg_dseg.nii.gz", label, GRID)
    return {"oasis": str(folder / "oasis"), "adni": str(site)}


def label_maps(folder: Path, maps: int = 4) -> Path:
    """SynthSeg's training data: label maps in FreeSurfer's numbers with a value outside the brain, no image."""
    for number in range(maps):
        _, label = brain(50 + number, ASEG)
        shell = ball(label.shape, (20, 16, 14), 19) & (label == 0)
        label[shell] = 24
        label[~shell & (label == 0) & ball(label.shape, (20, 16, 14), 21)] = 506
        write_label(folder / f"training_seg_{number + 1:02d}.nii.gz", label, GRID)
    return folder
