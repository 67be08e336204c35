"""How much memory a training needs, estimated from its data and its patches."""

import math
from collections.abc import Collection

from segstudy.study import Model

PATCH_VOXELS = {"cpu": {2: 192**2, 3: 2**17}, "cuda": {2: 512**2, 3: 2**21}}
"""Voxels of an `auto` patch, by device and dimensions: what a step of seconds, or a GPU, can hold."""

OWN_WIDTH = 32
"""Features at the finest level that a network of the user's own is taken to have."""

LARGEST_HELD_MB = 32_000
"""Training cases that take more than this are left on disk, and read patch by patch."""


def training_memory_mb(
    model: Model, voxels: Collection[float], channels: int, classes: int
) -> float:
    """Estimate the memory of a training for `memory_mb: auto`, in MB; about twice what was measured.

    voxels: of each training case on the grid of the model's plan; classes: the background counted.
    Cases are held where half of the memory holds them, once for all processes (`gpus`). Following the training predicts whole cases,
    with three numbers a voxel and class. On a CPU comes what the layers keep for the way back,
    which a GPU keeps to itself: some 12 times the first level's features of a batch.
    """
    held_mb = (4 * channels + 1) * sum(voxels) / 1e6
    if held_mb > LARGEST_HELD_MB:
        held_mb = 0.0
    followed_mb = (
        4 * 5 * classes * max(voxels, default=0) / 1e6 if model.validation_fraction else 0.0
    )
    if model.device != "cpu":
        return 2 * held_mb + model.gpus * (4000 + followed_mb)
    patch = (
        max(PATCH_VOXELS["cpu"][model.dims], _least_side(model) ** model.dims)
        if model.patch_size == "auto"
        else math.prod(model.patch_size)
    )
    batch_mb = 4 * 24 * model.batch_size * patch * width(model) / 1e6
    return 1500 + 2 * held_mb + followed_mb + batch_mb


def _least_side(model: Model) -> int:
    """Return the voxels along an axis of the smallest patch that a U-Net's levels can halve: 4 are left at the last."""
    features = getattr(model, "channels", 1)
    return 1 if isinstance(features, int) else 4 * 2 ** (len(features) - 1)


def width(model: Model) -> int:
    """Return how many features a network has for each voxel of a patch, at its finest level."""
    features = getattr(model, "channels", None) or getattr(model, "feature_size", OWN_WIDTH)
    return features if isinstance(features, int) else features[0]
