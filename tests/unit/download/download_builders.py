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


# --- the layouts of the reference studies -------------------------------------------------------


def segthor(folder: Path, patients: int = 3) -> Path:
    """SegTHOR's folders; the last patient has GT2 too."""
    for number in range(1, patients + 1):
        patient = folder / "train" / f"Patient_{number:02d}"
        write_pair(patient / f"{patient.name}.nii.gz", patient / "GT.nii.gz", number)
    write_label(patient / "GT2.nii.gz", mask(), AFFINE)
    return folder


GRAYS = (0, 85, 170, 255)


def slice_pair(subject: int, number: int, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """A gray picture (row, column) and its labels: nested discs, none in the first slice."""
    draw = np.random.default_rng([subject, number])
    row, column = np.mgrid[:size, :size]
    distance = np.hypot(row - size * 0.45, column - size * 0.6)
    label = np.zeros((size, size), np.uint8)
    for rank, radius in enumerate((0.35, 0.25, 0.12), start=1):
        label[distance < size * radius * min(number, 3) / 3] = GRAYS[rank]
    return (label * 0.6 + draw.integers(1, 40, label.shape)).astype(np.uint8), label


def oasis_slices(folder: Path, parts=None, slices: int = 4, kind: str = "png", size=256) -> Path:
    """OASIS slices as the archive names them; parts: part -> numbers of its subjects."""
    import SimpleITK

    for part, subjects in (parts or {"train": (1, 2), "validate": (402,), "test": (441,)}).items():
        png = "_png" if kind == "png" else ""
        images, labels = (folder / f"keras{png}_slices_{seg}{part}" for seg in ("", "seg_"))
        for path in (images, labels):
            path.mkdir(parents=True)
        for subject in subjects:
            for number in range(slices):
                pair = slice_pair(subject, number, size)
                for path, name, array in zip((images, labels), ("case", "seg"), pair, strict=True):
                    file = path / f"{name}_{subject:03d}_slice_{number}.nii"
                    if kind == "png":
                        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), f"{file}.png")
                    else:
                        write_nifti(file.with_suffix(".nii.gz"), array.T, np.eye(4))
    return folder


def neurite(folder: Path, scans=("0001_MR1", "0002_MR1", "0002_MR2"), values=(14, 30, 20)) -> Path:
    """neurite-OASIS with its colour table."""
    for number, scan in enumerate(scans):
        path = folder / f"OASIS_OAS1_{scan}"
        write_nifti(path / "aligned_norm.nii.gz", np.abs(voxels(number)) / 1000, AFFINE)
        write_label(path / "aligned_seg35.nii.gz", mask(values), AFFINE)
        write_label(path / "aligned_seg4.nii.gz", mask((1, 2, 3)), AFFINE)
    lines = ["14  Left-Hippocampus  220 216 20 0", "30  Right-Hippocampus  220 216 20 0"]
    (folder / "seg35_labels.txt").write_text("#No. Label\n" + "\n".join(lines) + "\n")
    return folder


def bids(folder: Path, values=(17, 53, 41), sessions: bool = True) -> Path:
    """Raw T1w images of two subjects, one with two sessions, and FreeSurfer's labels as derivatives."""
    for number, key in enumerate(
        ("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a") if sessions else ("sub-01", "sub-02")
    ):
        name = key.replace("/", "_")
        write_nifti(folder / key / "anat" / f"{name}_T1w.nii.gz", voxels(number), AFFINE)
        labels = folder / "derivatives" / "freesurfer" / key / "anat"
        write_label(labels / f"{name}_desc-aseg_dseg.nii.gz", mask(values), AFFINE)
    table = "index\tname\n17\tLeft-Hippocampus\n53\tRight-Hippocampus\n41\tRight-Cerebral-White-Matter\n"
    (folder / "derivatives" / "freesurfer" / "dseg.tsv").write_text(table)
    return folder


def label_maps(folder: Path, names=("sub-01_ses-a_seg", "sub-01_ses-b_seg", "training_07")) -> Path:
    """Label maps alone, in FreeSurfer's numbers: left and right hippocampus and white matter."""
    for number, name in enumerate(names):
        label = mask((17, 53, 41)).astype(np.uint16)
        label[5, 0, : number + 1] = 2
        write_label(folder / f"{name}.nii.gz", label, AFFINE)
    return folder
