"""A network whose answer is known, in a real weights file, and images to give it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segstudy.images.files import write_nifti
from segstudy.images.plan import Plan
from segstudy.networks import build, patch_spacing
from segstudy.networks.weights import Trained, save_weights
from segstudy.study import UnetModel

LEVELS = (0.25, 0.75)
"""Share of full brightness above which a voxel is of class 1, and of class 2."""


def _write_weights(
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


@pytest.fixture(scope="session")
def write_weights():
    return _write_weights


# Axes (i, j, k) that run to the head, the left and the back, a little oblique, of three spacings.
AFFINE = np.eye(4)
AFFINE[:3, :3] = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]) * [2.5, 0.9, 1.3]
_turn = np.deg2rad(7)
AFFINE[:3, :3] = (
    np.array([[np.cos(_turn), -np.sin(_turn), 0], [np.sin(_turn), np.cos(_turn), 0], [0, 0, 1]])
    @ AFFINE[:3, :3]
)
AFFINE[:3, 3] = (31.5, 40.25, -27.75)
SHAPE = (26, 70, 55)


def _ball(centre_voxel, radius_mm: float, affine=AFFINE, shape=SHAPE) -> np.ndarray:
    """Signed distance (mm) to a ball's surface, positive inside, at each voxel (i, j, k)."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    centre = affine[:3, :3] @ centre_voxel + affine[:3, 3]
    return radius_mm - np.linalg.norm(places - centre, axis=-1)


@pytest.fixture(scope="session")
def oblique():
    """(image, truth, affine): a shell and core off centre in an anisotropic, oblique image."""
    inside = _ball((9, 42, 20), 17.0)
    # brightness falls over 1.5 mm at each surface, as partial volume makes it
    image = 500 * np.clip(0.5 + inside / 1.5, 0, 1) + 500 * np.clip(0.5 + (inside - 8) / 1.5, 0, 1)
    truth = (inside > 0).astype(np.uint8) + (inside > 8)
    return image.astype(np.float32), truth, AFFINE


@pytest.fixture(scope="session")
def ball():
    return _ball


@pytest.fixture
def write_image():
    def write(path: Path, array: np.ndarray, affine=AFFINE) -> Path:
        write_nifti(path, array.astype(np.float32), affine)
        return path

    return write
