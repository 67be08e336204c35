"""A network whose answer is known, in a real weights file."""

from pathlib import Path

import torch

from segstudy.images.plan import Plan
from segstudy.networks import build, patch_spacing
from segstudy.networks.weights import Trained, save_weights
from segstudy.study import UnetModel

LEVELS = (0.25, 0.75)
"""Share of full brightness above which a voxel is of class 1, and of class 2."""


def write_weights(
    path: Path, *, channel: int = 0, channels: int = 1, seen=((), ()), fold: int = 0, **settings
):
    """A U-Net that only compares one channel with two levels; all else in it is 0.

    Classes: `shell` above a quarter of full brightness (1000), `core` above three quarters.
    seen: the cases that it claims to have been trained on, and those kept apart.
    """
    settings = {"dims": 3, "patch_size": (32, 24, 32), "infer": {}} | settings
    settings["infer"] = {"keep_largest_component": "never"} | settings["infer"]
    if settings["dims"] == 2 and len(settings["patch_size"]) == 3:
        settings["patch_size"] = (32, 24)
    model = UnetModel(
        network="unet",
        channels=(4, 8),
        normalisation="batch",
        activation="relu",
        deep_supervision=False,
        device="cpu",
        **settings,
    )
    plan = Plan(
        spacing_mm=(1.5, 1.5, 1.5),
        crop="none",
        margin_mm=0,
        normalise="ct",
        anisotropy_threshold=3,
        intensities=({"low": 0, "high": 1000, "mean": 0, "sd": 1000},) * channels,
        median_shape=(40, 40, 40),
    )
    spacing = patch_spacing(plan.spacing_mm, model.dims, model.planes)
    network = build(model, channels, 3, model.patch_size, spacing)
    middle = (1,) * model.dims
    with torch.no_grad():
        for name, values in network.named_parameters():
            # batch normalisation with fresh statistics and weight 1 changes nothing
            if values.ndim > 1 or name.endswith("bias"):
                values.zero_()
        network.encoder[0][0].weight[(0, channel, *middle)] = 1
        network.encoder[0][3].weight[(0, 0, *middle)] = 1
        network.decoder[0][0].weight[(0, 4, *middle)] = 1  # 4: after what comes from below
        network.decoder[0][3].weight[(0, 0, *middle)] = 1
        head = network.heads[0]
        # lines that cross at the two levels: 0, 20 (x - 0.25), 40 (x - 0.5)
        head.weight[1, 0], head.bias[1] = 20, -20 * LEVELS[0]
        head.weight[2, 0], head.bias[2] = 40, -20 * (LEVELS[0] + LEVELS[1])
    provenance = {"fold": fold, "training": list(seen[0]), "validation": list(seen[1])}
    names = tuple(f"c{number}" for number in range(channels))
    structures, patch = ("shell", "core"), model.patch_size
    save_weights(
        path, Trained(network, model, structures, names, plan.to_dict(), patch, provenance)
    )
    return path
