"""A network whose answer is known, in a real weights file, and images to give it."""

from pathlib import Path

import numpy as np
import pytest

import known_network
from segstudy.images.files import write_nifti


@pytest.fixture(scope="session")
def write_weights():
    return known_network.write_weights


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
