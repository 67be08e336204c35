"""Small datasets on disk for the tests of the download stage."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np

from segstudy.images.files import write_label, write_nifti
from segstudy.study import Dataset

AFFINE = np.diag([-1.0, -1.0, 2.5, 1.0])
SHAPE = (6, 7, 5)


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 300, SHAPE).astype(np.int16)


def mask(values=(1, 2)) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    for number, value in enumerate(values):
        label[1 + number, 2:5, 1:4] = value
    return label


def write_pair(image: Path, label: Path, seed: int = 0) -> None:
    write_nifti(image, voxels(seed), AFFINE)
    write_label(label, mask(), AFFINE)


def decathlon(folder: Path, cases: int = 3) -> Path:
    """A dataset in the Decathlon's layout, with the hidden files that macOS leaves in archives."""
    entries = []
    for number in range(cases):
        name = f"case_{number:03d}.nii.gz"
        write_pair(folder / "imagesTr" / name, folder / "labelsTr" / name, number)
        (folder / "imagesTr" / f"._{name}").write_bytes(b"Mac OS X")
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    description = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "heart", "2": "aorta"},
        "training": entries,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def describe(folder: Path, **changes) -> None:
    """Change entries of dataset.json."""
    file = folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def settings(layout: str, path: Path | None = None, **changes) -> Dataset:
    source = {"layout": layout} | ({"path": str(path)} if path is not None else {})
    entry = {"source": source, "modality": "CT", "structures": {"heart": 1, "aorta": 2}}
    return Dataset.model_validate(entry | changes)


def tar_of(folder: Path, top: str = "Task", mode: str = "w") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        archive.add(folder, arcname=top)
    return content.getvalue()
