"""Voxel grids in every orientation, for tests of geometry."""

import itertools

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

TURNS = [
    np.diag(signs) @ np.eye(3)[list(order)]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
"""The 48 ways in which three axes can point right, left, front, back, head and foot."""


def affine_of(turn, spacing_mm, tilt_deg=(0.0, 0.0, 0.0), origin=(10.0, -20.0, 30.0)):
    """Affine to RAS mm of a grid with these axes, tilted, with this voxel size along i, j, k."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", tilt_deg, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ turn @ np.diag(spacing_mm)
    affine[:3, 3] = origin
    return affine


def affines(tilt_deg=20.0, low_mm=0.4, high_mm=4.0):
    """Strategy: any axis order, oblique by up to `tilt_deg` about each axis."""
    return st.builds(
        affine_of,
        st.sampled_from(TURNS),
        st.tuples(*[st.floats(low_mm, high_mm)] * 3),
        st.tuples(*[st.floats(-tilt_deg, tilt_deg)] * 3),
    )


def world(affine, shape):
    """Place of each voxel's centre in RAS mm, (3, *shape)."""
    indices = np.indices(shape, float)
    return np.tensordot(affine[:3, :3], indices, 1) + affine[:3, 3].reshape(3, 1, 1, 1)
