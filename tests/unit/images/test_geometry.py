"""Orientation: no voxel moves in the patient, and the way back is exact."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings

from orientations import TURNS, affine_of, affines, world
from segstudy.images.files import Grid, Image
from segstudy.images.geometry import from_ras, ras_grid, reorient, to_ras

SHAPE = (4, 5, 6)


@pytest.mark.parametrize("turn", TURNS)
def test_every_orientation_comes_to_ras_and_back(turn):
    affine = affine_of(turn, (0.5, 1.0, 2.0))
    array = np.arange(120).reshape(SHAPE)
    turned = to_ras(Image(array, affine))
    assert turned.grid.orientation == "RAS"
    np.testing.assert_array_equal(from_ras(turned.array, Grid(SHAPE, affine)), array)


@settings(max_examples=60, deadline=None)
@given(affines())
def test_voxels_keep_their_place_in_the_patient(affine):
    # Each voxel holds its own position: three channels with x, y, z in mm.
    places = world(affine, SHAPE)
    turned = to_ras(Image(places, affine))
    np.testing.assert_allclose(turned.array, world(turned.affine, turned.grid.shape), atol=1e-9)
    native = Grid(SHAPE, affine)
    np.testing.assert_array_equal(from_ras(turned.array, native), places)
    assert ras_grid(native).shape == turned.grid.shape
    assert ras_grid(native).spacing_mm == pytest.approx(turned.spacing_mm)


@settings(max_examples=30, deadline=None)
@given(affines())
def test_agrees_with_nibabels_own_reorientation(affine):
    array = np.arange(120, dtype=np.int16).reshape(SHAPE)
    peer = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    ours = to_ras(Image(array, affine))
    np.testing.assert_array_equal(ours.array, np.asarray(peer.dataobj))
    np.testing.assert_allclose(ours.affine, peer.affine, atol=1e-9)


def test_spacing_follows_the_axes():
    # Stored as (head, right, front), with 3 mm from foot to head.
    affine = np.array([[0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]], float)
    assert ras_grid(Grid(SHAPE, affine)).spacing_mm == (1, 2, 3)
    assert ras_grid(Grid(SHAPE, affine)).shape == (5, 6, 4)


@pytest.mark.parametrize("turn", TURNS[::5])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_turned_to_an_orientation_every_voxel_keeps_its_place(turn, orientation):
    array = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    image = Image(array, affine_of(turn, (0.5, 1.5, 4.0)))
    found = reorient(image, orientation)
    assert found.grid.orientation == orientation
    index = np.array([1, 3, 2])
    place = image.affine @ [*index, 1]
    there = np.rint(np.linalg.solve(found.affine, place))[:3].astype(int)
    np.testing.assert_array_equal(found.array[:, *there], array[:, *index])
    back = reorient(found, image.grid.orientation)
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-9)
