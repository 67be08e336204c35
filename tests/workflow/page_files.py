"""Files that the commands of the pages name: weights, folders of predictions, a finished tree of nnU-Net, a calibration."""

import json
import math
from pathlib import Path

import numpy as np
import torch

from builders import AFFINE, chest
from segstudy.files import write_json
from segstudy.images.files import write_label, write_nifti
from segstudy.images.plan import Plan
from segstudy.networks import build
from segstudy.networks.weights import Trained, save_weights
from segstudy.quality import shape
from segstudy.quality.calibration import (
    Described,
    HeldOut,
    calibrate,
    to_record,
    training_ranges,
)
from segstudy.study import PluginModel, UnetModel

FOLDERS = ("labels", "nnunet", "totalsegmentator", "totalseg", "monai")
"""Labels, and predictions of other programs, by the names that the pages give them."""


def write_weights(
    path: Path,
    structures: list[str],
    channels: list[str],
    plugin: Path | None = None,
    seed: int = 0,
) -> None:
    """An untrained network that claims to have learned from case b of dataset NAME in fold 0; maybe of a plug-in."""
    model = UnetModel(network="unet", channels=(4, 8), patch_size=(16, 16, 8), device="cpu")
    if plugin:
        own = {"network": "plugin", "network_plugin": str(plugin), "patch_size": (16, 16, 8)}
        model = PluginModel(**own, device="cpu")
    plan = Plan(
        spacing_mm=(6.0, 6.0, 5.0),
        crop="none",
        margin_mm=0,
        normalise="zscore",
        anisotropy_threshold=3,
        median_shape=(24, 22, 16),
    )
    torch.manual_seed(seed)
    network = build(model, len(channels), 1 + len(structures), model.patch_size, plan.spacing_mm)
    provenance = {"fold": 0, "training": ["NAME/b"], "validation": []}
    names, patch = (tuple(structures), tuple(channels)), model.patch_size
    save_weights(path, Trained(network, model, *names, plan.to_dict(), patch, provenance))


def write_predictions(folder: Path) -> None:
    """Write a finished nnU-Net tree of one configuration and two folds, its raw data, and other programs' folders."""
    cases = [f"c{number}" for number in range(6)]
    folds = [{"train": cases[3:], "val": cases[:3]}, {"train": cases[:3], "val": cases[3:]}]
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "heart": 1, "lung": 2}}
    described |= {"numTraining": 6, "file_ending": ".nii.gz"}
    name = "Dataset004_Hippocampus"
    raw = folder / "nnUNet_raw" / name
    model = folder / "nnUNet_results" / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    preprocessed = folder / "nnUNet_preprocessed" / name
    for place in (raw, model, preprocessed):
        place.mkdir(parents=True)
    for place in (raw, model):
        (place / "dataset.json").write_text(json.dumps(described))
    (preprocessed / "splits_final.json").write_text(json.dumps(folds))
    for number, case in enumerate(cases):
        image, label = chest(number)
        fold = model / f"fold_{number // 3}" / "validation"
        for place in (raw / "imagesTr", raw / "labelsTr", fold, *(folder / one for one in FOLDERS)):
            place.mkdir(parents=True, exist_ok=True)
        write_nifti(raw / "imagesTr" / f"{case}_0000.nii.gz", image, AFFINE)
        for shift, place in enumerate((raw / "labelsTr", fold, *(folder / one for one in FOLDERS))):
            moved = np.roll(label, shift if shift < 3 else 0, axis=0)
            write_label(place / f"{case}.nii.gz", moved, AFFINE)
        (folder / "images").mkdir(exist_ok=True)
        write_nifti(folder / "images" / f"{case}.nii.gz", image, AFFINE)


def write_raw(raw: Path) -> None:
    """Write a dataset of two cases as nnU-Net has them."""
    for number in range(2):
        image, label = chest(number)
        for kind in ("imagesTr", "labelsTr"):
            (raw / kind).mkdir(parents=True, exist_ok=True)
        write_nifti(raw / "imagesTr" / f"liver_{number}_0000.nii.gz", image, AFFINE)
        write_label(raw / "labelsTr" / f"liver_{number}.nii.gz", label, AFFINE)
    told = {"channel_names": {"0": "CT"}, "numTraining": 2, "file_ending": ".nii.gz"}
    told["labels"] = {"background": 0, "heart": 1, "aorta": 2}
    (raw / "dataset.json").write_text(json.dumps(told))


def write_calibration(path: Path) -> None:
    """A calibration of 30 made scans, whose one structure, the heart, is a ball of 100 mL or so."""
    draw = np.random.default_rng(0)
    usual = {"volume_ml": 100.0, "components": 1.0}

    def varied() -> dict[str, float]:
        return {
            name: value * math.exp(draw.normal(0, 0.2) * shape.FEATURES[name].ratio)
            for name, value in usual.items()
        }

    scans = []
    for number in range(30):
        agreement = draw.uniform(0.8, 1)
        described = {"heart": Described(agreement, varied())}
        dice, ratio = {"heart": agreement - 0.05}, {"heart": math.exp(draw.normal(0, 0.05))}
        scans.append(HeldOut(f"c{number}", f"s{number}", described, dice, ratio))
    ranges = training_ranges({"heart": [varied() for _ in range(30)]})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, to_record(calibrate("unet", "seeds", ranges, scans)))
