"""Prediction of one image, in three steps: read, probabilities, restore.

`read` and `restore` keep a CPU busy, `probabilities` a GPU: apart, they can overlap.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from segstudy import networks
from segstudy.images import prepare as preparing
from segstudy.images.files import Image
from segstudy.images.normalise import normalise
from segstudy.images.plan import Plan, Restore
from segstudy.infer.checks import read_checked, refuse_not_finite
from segstudy.networks.weights import Trained
from segstudy.networks.window import SlidingWindow, predict_volume
from segstudy.sides import class_pairs


def predict_image(trained: Trained, paths: Sequence[Path], device: torch.device) -> Image:
    """Predict the most likely class of each voxel of an image.

    Parameters
    ----------
    trained
        The weights with their settings.
    paths
        One file for all channels, or one a channel, in the order of `trained.channels`.
    device
        Where the network runs.

    Returns
    -------
    Image
        Class indices (i, j, k), 0 for the background, on the image's own grid.

    Raises
    ------
    InputError
        As `checks.read_checked` does.
    """
    array, way = read(trained, paths)
    return restore(probabilities(trained, array, device), way)


def read(
    trained: Trained, paths: Sequence[Path], spacing_mm: Sequence[float] = ()
) -> tuple[np.ndarray, Restore]:
    """Read, prepare and normalise an image; spacing_mm: voxel size of pictures.

    Returns
    -------
    array : numpy.ndarray
        float32 (channel, x, y, z).
    way : Restore
        The way back to the image's own grid.
    """
    plan = Plan.from_dict(trained.plan)
    name = ", ".join(str(path) for path in paths)
    image = read_checked([trained], paths, spacing_mm)
    array, way = preparing.prepare(image, plan, name)
    preparing.check_size(way, len(trained.structures) + 1, plan.spacing_mm, name)
    del image  # a big CT image takes as much memory as the probabilities of a class
    return normalise(array, plan), way


def probabilities(trained: Trained, array: np.ndarray, device: torch.device) -> np.ndarray:
    """Predict class probabilities (class, x, y, z) of an image that `read` returned; class 0 is background.

    Raises InputError where the code of a network of the user's own fails, and where any network gives no finite logits.
    """
    with networks.telling(trained.model):
        predicted = predict_volume(
            trained.network,
            array,
            len(trained.structures) + 1,
            window_of(trained),
            device,
            trained.model.amp,
        )
    refuse_not_finite(trained, predicted)
    return predicted


def window_of(trained: Trained, order: Sequence[int] | None = None) -> SlidingWindow:
    """Return how windows cover a volume, as the weights' settings say; order: the network's class of each given out."""
    return SlidingWindow(
        patch_size=trained.patch_size,
        dims=trained.model.dims,
        planes=trained.model.planes,
        overlap=trained.model.infer.overlap,
        mirror_axes=trained.model.infer.mirror_axes,
        pairs=class_pairs(trained.structures, trained.left_right_pairs),
        order=order,
    )


def restore(probabilities: np.ndarray, way: Restore) -> Image:
    """Return class indices (i, j, k) on the image's own grid: argmax of the resampled probabilities."""
    return Image(preparing.restore(probabilities, way), way.native.affine)


def restore_probabilities(probabilities: np.ndarray, way: Restore) -> np.ndarray:
    """Return the class probabilities (class, i, j, k) on the image's own grid, float32; a voxel's add up to 1."""
    native = np.zeros((len(probabilities), *way.native.shape), np.float32)
    preparing.add_restored(native, probabilities, way)
    return preparing.as_probabilities(native)


def to_label_values(classes: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Replace class indices by label values: class 1 by `values[0]`, and so on; 0 stays 0."""
    kind = np.uint8 if max(values) < 256 else np.uint16
    return np.array([0, *values], kind)[classes]


def to_class_indices(label: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Replace label values by class indices: `values[0]` by 1, and so on; other values become 0."""
    indices = np.zeros(max(int(label.max(initial=0)), *values) + 1, np.uint8)
    indices[list(values)] = np.arange(1, len(values) + 1)
    return indices[label]
