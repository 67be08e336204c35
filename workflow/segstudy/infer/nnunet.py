"""Prediction of one image by nnU-Net's own preprocessing, predictor and export, in the steps of `image`.

Arrays are in nnU-Net's axes (z, y, x), those of a NIfTI file in reverse; nnU-Net never looks at
directions. So an image whose axes point elsewhere than those of all training images is reoriented
to theirs, and its labels are reoriented back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstudy.images.files import Grid, Image
from segstudy.images.geometry import reorient
from segstudy.infer.checks import read_checked, refuse_not_finite
from segstudy.log import log
from segstudy.networks.nnunet import managers
from segstudy.networks.weights import Trained


@dataclass(frozen=True)
class Way:
    """Hold the way back.

    Parameters
    ----------
    trained
        The weights with their settings.
    properties
        nnU-Net's notes on the image.
    seen, native
        The image's grid, as the network saw it and as stored.
    """

    trained: Trained
    properties: dict[str, Any]
    seen: Grid
    native: Grid


def read(
    trained: Trained, paths: Sequence[Path], spacing_mm: Sequence[float] = ()
) -> tuple[np.ndarray, Way]:
    """Read an image as nnU-Net's network sees it; spacing_mm: voxel size of pictures.

    Returns
    -------
    array : numpy.ndarray
        float32 (channel, z, y, x).
    way : Way
        The way back.
    """
    return prepare(trained, read_checked([trained], paths, spacing_mm))


def prepare(trained: Trained, stored: Image) -> tuple[np.ndarray, Way]:
    """Return an image (channel, i, j, k) as nnU-Net's network sees it, and the way back, as `read` does."""
    image = as_trained(stored, trained.plan.get("orientations") or ())
    plans, configuration = managers(trained.plan)
    properties = {"spacing": [float(size) for size in image.spacing_mm[::-1]]}
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
        image.array.transpose(0, 3, 2, 1),
        None,
        properties,
        plans,
        configuration,
        trained.plan["dataset"],
    )
    return data, Way(trained, properties, image.grid, stored.grid)


def as_trained(image: Image, known: Sequence[str]) -> Image:
    """Reorient an image to the first of the known orientations, where its own is none of them."""
    stored = image.grid.orientation
    if not known or stored in known:
        return image
    log.info(
        "axes point to %s, those of the training images to %s: turned, since nnU-Net does not look at directions",
        stored,
        known[0],
    )
    return reorient(image, known[0])


def probabilities(trained: Trained, array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Predict logits (class, z, y, x) of an image that `read` returned, by nnU-Net's sliding windows."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans, configuration = managers(trained.plan)
    settings = trained.model.infer
    predictor = nnUNetPredictor(
        tile_step_size=1 - settings.overlap,
        use_mirroring=settings.mirroring,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trained.network,
        plans,
        configuration,
        [trained.network.state_dict()],
        trained.plan["dataset"],
        "nnUNetTrainer",
        trained.plan["mirroring_axes"],
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(array))
    refuse_not_finite(trained, logits)
    return logits


def restore(logits: torch.Tensor, way: Way) -> Image:
    """Return class indices (i, j, k) on the image's own grid, as nnU-Net exports them."""
    classes = _exported(logits, way, with_probabilities=False)
    return as_stored(classes.transpose(2, 1, 0), way.seen, way.native)


def restore_probabilities(logits: torch.Tensor, way: Way) -> np.ndarray:
    """Return the class probabilities (class, i, j, k) on the image's own grid, as nnU-Net exports them."""
    _, probabilities = _exported(logits, way, with_probabilities=True)
    classes = probabilities.transpose(0, 3, 2, 1)
    return np.stack([as_stored(one, way.seen, way.native).array for one in classes])


def _exported(logits: torch.Tensor, way: Way, with_probabilities: bool):
    """Return classes (z, y, x), and probabilities (class, z, y, x) where asked for, on the grid that was seen."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as convert,
    )

    plans, configuration = managers(way.trained.plan)
    labels = plans.get_label_manager(way.trained.plan["dataset"])
    return convert(
        logits,
        plans,
        configuration,
        labels,
        way.properties,
        return_probabilities=with_probabilities,
        num_threads_torch=torch.get_num_threads(),
    )


def as_stored(classes: np.ndarray, seen: Grid, native: Grid) -> Image:
    """Reorient classes (i, j, k) from the grid that the network saw to that of the image's file."""
    if seen.orientation != native.orientation:
        classes = reorient(Image(classes, seen.affine), native.orientation).array
    return Image(np.ascontiguousarray(classes), native.affine)
