"""Folders of small images under the names of public data sets, each with what is in its labels."""

import json
from pathlib import Path

import numpy as np
import SimpleITK
from download_builders import AFFINE, SHAPE, voxels
from PIL import Image as Picture
from pydicom import dcmread

from dicom_series import write_series
from segstudy.images.files import write_label, write_nifti

CASES = 3


def height(case: int, rank: int) -> int:
    """Rows of a structure in a case: different in each, so that a swapped file or value is seen."""
    return 1 + (case + rank) % 4


def label_of(case: int, values) -> np.ndarray:
    """A label map with `3 * height` voxels of each value."""
    label = np.zeros(SHAPE, np.uint16)
    for rank, value in enumerate(values):
        label[1 + rank, 1 : 1 + height(case, rank), 1:4] = value
    return label


def image(path: Path, seed: int) -> None:
    write_nifti(path, voxels(seed), AFFINE)


def label(path: Path, case: int, values=(1, 2, 3)) -> None:
    write_label(path, label_of(case, values), AFFINE)


def itk(path: Path, array: np.ndarray, **texts) -> None:
    """Write an array (i, j, k) as SimpleITK does, with texts in the header."""
    picture = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    picture.SetSpacing((1.0, 1.0, 2.5))
    for key, text in texts.items():
        picture.SetMetaData(key, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(picture, str(path))


def acdc(root: Path) -> None:
    for k in range(CASES):
        for frame in (1, 12):
            stem = f"ACDC/training/patient{k:03d}/patient{k:03d}_frame{frame:02d}"
            image(root / f"{stem}.nii.gz", 10 * k + frame)
            label(root / f"{stem}_gt.nii.gz", k)
        series = np.stack([voxels(10 * k + frame) for frame in (1, 12)], -1)
        write_nifti(root / f"ACDC/training/patient{k:03d}/patient{k:03d}_4d.nii.gz", series, AFFINE)
        (root / f"ACDC/training/patient{k:03d}/Info.cfg").write_text("ED: 1\nES: 12\n")


def amos(root: Path) -> None:
    for k in range(CASES):
        part = "Va" if k else "Tr"
        image(root / f"AMOS/images{part}/amos_{k:04d}.nii.gz", k)
        label(root / f"AMOS/labels{part}/amos_{k:04d}.nii.gz", k)
    names = {"0": "background", "1": "spleen", "2": "right kidney", "3": "left kidney"}
    (root / "AMOS/dataset.json").write_text(json.dumps({"labels": names}))


def brats21(root: Path) -> None:
    for k in range(CASES):
        stem = f"BraTS2021/BraTS2021_{k:05d}/BraTS2021_{k:05d}"
        for number, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            image(root / f"{stem}_{kind}.nii.gz", 10 * k + number)
        label(root / f"{stem}_seg.nii.gz", k, (1, 2, 4))


def brats23(root: Path) -> None:
    for k in range(CASES):
        name = f"BraTS-GLI-{k // 2:05d}-{k % 2:03d}"
        for number, kind in enumerate(("t2f", "t1n", "t1c", "t2w")):
            image(root / f"BraTS2023/{name}/{name}-{kind}.nii.gz", 10 * k + number)
        label(root / f"BraTS2023/{name}/{name}-seg.nii.gz", k)


def btcv(root: Path) -> None:
    for k in range(CASES):
        image(root / f"BTCV/Training/img/img{k:04d}.nii.gz", k)
        label(root / f"BTCV/Training/label/label{k:04d}.nii.gz", k)


def chaos(root: Path) -> None:
    for k in range(CASES):
        folder = root / f"CHAOS/Train_Sets/CT/{k + 1}"
        write_series(folder / "DICOM_anon", voxels(k), AFFINE)
        (folder / "Ground").mkdir()
        # As in the archive, files are numbered from the head, and so are the pictures.
        places = sorted(
            (folder / "DICOM_anon").iterdir(), key=lambda one: dcmread(one).InstanceNumber
        )
        for place, file in enumerate(places):
            number = len(places) - 1 - place
            file.rename(folder / "DICOM_anon" / f"i{number:04d},0000b.dcm")
            picture = label_of(k, (255,))[:, :, place].T.astype(np.uint8)
            Picture.fromarray(picture).save(folder / "Ground" / f"liver_GT_{number:03d}.png")


def covid20(root: Path) -> None:
    """Infection lies within the lungs, which have two values: left and right."""
    for k in range(CASES):
        name = f"coronacases_{k:03d}.nii.gz"
        image(root / "COVID20/COVID-19-CT-Seg_20cases" / name, k)
        drawn = label_of(k, (1, 2))
        lungs = np.where(drawn > 0, drawn, 0)
        write_label(root / "COVID20/Lung_Mask" / name, lungs, AFFINE)
        write_label(root / "COVID20/Infection_Mask" / name, (drawn == 1).astype(np.uint8), AFFINE)


def flare22(root: Path) -> None:
    for k in range(CASES):
        image(root / f"FLARE22/imagesTr/FLARE22_Tr_{k:04d}_0000.nii.gz", k)
        label(root / f"FLARE22/labelsTr/FLARE22_Tr_{k:04d}.nii.gz", k)


def fmriprep(root: Path) -> None:
    for k in range(CASES):
        anat = root / f"study/derivatives/fmriprep/sub-{k:02d}/anat"
        image(root / f"study/sub-{k:02d}/anat/sub-{k:02d}_T1w.nii.gz", 10 * k)
        image(anat / f"sub-{k:02d}_desc-preproc_T1w.nii.gz", k)
        image(anat / f"sub-{k:02d}_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz", 10 * k + 1)
        label(anat / f"sub-{k:02d}_desc-aseg_dseg.nii.gz", k, (17, 53, 41))
        label(anat / f"sub-{k:02d}_dseg.nii.gz", k)


def isles22(root: Path) -> None:
    for k in range(CASES):
        name, session = f"sub-strokecase{k:04d}", "ses-0001"
        for number, (folder, kind) in enumerate(
            (("dwi", "dwi"), ("dwi", "adc"), ("anat", "FLAIR"))
        ):
            file = f"{name}/{session}/{folder}/{name}_{session}_{kind}.nii.gz"
            image(root / "ISLES22" / file, 10 * k + number)
        label(root / f"ISLES22/derivatives/{name}/{session}/{name}_{session}_msk.nii.gz", k, (1,))


def kits(root: Path) -> None:
    for k in range(CASES):
        image(root / f"KiTS/dataset/case_{k:05d}/imaging.nii.gz", k)
        label(root / f"KiTS/dataset/case_{k:05d}/segmentation.nii.gz", k)


def lits(root: Path) -> None:
    for k in range(CASES):
        image(root / f"LiTS/Training Batch {1 + k // 2}/volume-{k}.nii", k)
        label(root / f"LiTS/Training Batch {1 + k // 2}/segmentation-{k}.nii", k, (1, 2))


def mmwhs(root: Path) -> None:
    for k in range(CASES):
        image(root / f"MMWHS/ct_train/ct_train_{1001 + k}_image.nii.gz", k)
        label(root / f"MMWHS/ct_train/ct_train_{1001 + k}_label.nii.gz", k, (500, 600, 420, 550))


def promise12(root: Path) -> None:
    for k in range(CASES):
        itk(root / f"PROMISE12/Case{k:02d}.mhd", voxels(k))
        drawn = label_of(k, (1,)).astype(np.uint8)
        itk(root / f"PROMISE12/Case{k:02d}_segmentation.mhd", drawn)


def total(root: Path) -> None:
    names = ("spleen", "kidney_left", "kidney_right", "gallbladder")
    for k in range(CASES):
        folder = root / f"TotalSegmentator/s{k:04d}"
        image(folder / "ct.nii.gz", k)
        drawn = label_of(k, (1, 2, 3, 4))
        for value, name in enumerate(names, start=1):
            mask = (drawn == value).astype(np.uint8)
            write_label(folder / f"segmentations/{name}.nii.gz", mask, AFFINE)
        write_label(folder / "segmentations/liver.nii.gz", mask, AFFINE)


def verse(root: Path) -> None:
    for k in range(CASES):
        name = f"sub-verse{k:03d}"
        image(root / f"VerSe/rawdata/{name}/{name}_ct.nii.gz", k)
        label(root / f"VerSe/derivatives/{name}/{name}_seg-vert_msk.nii.gz", k, (20, 21, 22))


def wmh(root: Path) -> None:
    for k in range(CASES):
        folder = root / f"WMH/{'Utrecht' if k else 'Singapore'}/{k}"
        for number, kind in enumerate(("FLAIR", "T1")):
            image(folder / f"pre/{kind}.nii.gz", 10 * k + number)
            image(folder / f"orig/{kind}.nii.gz", 10 * k + number + 5)
        write_nifti(folder / "wmh.nii.gz", label_of(k, (1, 2)).astype(np.float32), AFFINE)


def slicer(root: Path) -> None:
    """The values of the names differ from case to case, as segments were drawn in another order."""
    for k in range(CASES):
        itk(root / f"Slicer/case{k}.nrrd", voxels(k))
        names = ["spleen", "right kidney", "left kidney"]
        values = (1, 2, 3) if k % 2 else (2, 1, 3)
        texts = {}
        for number, (name, value) in enumerate(zip(names, values, strict=True)):
            own = {"ID": f"Segment_{value}", "Name": name, "LabelValue": str(value), "Layer": "0"}
            texts |= {f"Segment{number}_{key}": text for key, text in own.items()}
        itk(root / f"Slicer/case{k}.seg.nrrd", label_of(k, values).astype(np.uint8), **texts)
