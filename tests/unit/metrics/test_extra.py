"""Metrics that are measured where they are named: closed forms, and the values of panoptica and gudhi."""

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.morphology import skeletonize

from lesion_pairs import ball, pairs
from segstudy.metric import EXTRA, find
from segstudy.metrics.extra import MEASURES, betti_numbers, centre_line
from segstudy.metrics.measure import measure, metric_names, missing
from segstudy.metrics.surface import Distances
from segstudy.study import Metrics

PEERS = json.loads((Path(__file__).parent / "lesion_peers.json").read_text())
PAIRS = pairs()


def one(reference, prediction, spacing_mm=(1, 1, 1), **settings):
    """The values of the extra metrics of a structure."""
    asked = Metrics.model_validate({"extra": EXTRA, **settings})
    (found,) = measure(
        reference.astype(np.uint8), prediction.astype(np.uint8), spacing_mm, {"a": (1,)}, asked
    )
    return found.values


def box(shape, *ranges):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*ends) for ends in ranges)] = 1
    return mask


def test_each_is_known_and_has_a_function():
    assert tuple(MEASURES) == EXTRA
    assert [find(name).name for name in EXTRA] == list(EXTRA)
    assert not set(metric_names(Metrics())) & set(EXTRA)


def test_each_has_a_value_that_is_known_otherwise():
    text = Path(__file__).read_text(encoding="utf-8")
    assert [
        name for name in EXTRA if text.count(f'"{name}"') < 2
    ] == []  # one is in NOTHING_PREDICTED


def test_masd_is_the_mean_of_two_means_and_assd_one_mean():
    ones = np.ones(4)
    found = Distances(np.array([0.0, 0, 0, 4]), ones, np.array([4.0]), ones[:1], 4.0, "voxel")
    assert found.directed_mean_mm() == (1 + 4) / 2
    assert found.mean_mm() == 8 / 5


@pytest.mark.parametrize(("surface", "apart"), [("mesh", 0.2), ("surfel", 0.45), ("voxel", 0.3)])
@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1, 0.5, 1)])
def test_signed_surface_distance_of_two_balls(surface, apart, spacing_mm):
    """A ball whose radius is 2 mm larger is 2 mm outside, or less by what a surface of voxels is rough."""
    shape = [round(30 / step) for step in spacing_mm]
    places = [np.arange(size) * step - 14.6 for size, step in zip(shape, spacing_mm, strict=True)]
    square = sum(axis**2 for axis in np.meshgrid(*places, indexing="ij", sparse=True))
    small, large = square <= 9**2, square <= 11**2
    name = "signed_surface_distance_mm"
    assert one(small, large, spacing_mm, surface=surface)[name] == pytest.approx(2, abs=apart)
    assert one(large, small, spacing_mm, surface=surface)[name] == pytest.approx(-2, abs=apart)
    assert one(large, large, spacing_mm, surface=surface)[name] == 0


def test_signed_surface_distance_in_a_plane():
    reference, prediction = (box((30, 30, 1), ends, (5, 25), (0, 1)) for ends in ((5, 25), (5, 27)))
    # One of four sides lies 2 mm outside, two of them in part.
    value = one(reference, prediction, (1, 1, 5))["signed_surface_distance_mm"]
    assert 0.4 < value < 0.6


def test_bands_of_two_squares():
    """Squares of 4 x 4, one beside the other: bands of 12 voxels each, 6 in common."""
    reference = box((9, 9, 1), (1, 5), (1, 5), (0, 1))
    prediction = box((9, 9, 1), (2, 6), (1, 5), (0, 1))
    assert one(reference, prediction)["boundary_iou"] == pytest.approx(6 / 18)
    # 2 mm from the outside are all voxels of a square of 4 mm, and IoU is that of the squares.
    wide = one(reference, prediction, boundary_mm=2)
    assert wide["boundary_iou"] == pytest.approx(wide["iou"])


def test_half_a_line():
    reference = box((24, 5, 5), (2, 22), (2, 3), (2, 3))
    prediction = box((24, 5, 5), (2, 12), (2, 3), (2, 3))
    assert one(reference, prediction)["cldice"] == pytest.approx(2 / 3)
    assert one(reference, reference)["cldice"] == 1
    assert one(reference, np.roll(reference, 2, axis=1))["cldice"] == 0


@pytest.mark.parametrize("side", [2, 4, 6, 8])
def test_a_cube_of_an_even_side_has_a_centre(side):
    """scikit-image thins it to nothing; its line is one voxel thick, as that of a cube one voxel shorter."""
    cube = box((24, 12, 12), (2, 2 + side), (2, 2 + side), (2, 2 + side))
    assert not skeletonize(cube > 0).any()
    found = np.argwhere(centre_line(cube > 0))
    assert len(found) == 2 and np.abs(found - (1.5 + side / 2)).max() <= 1.5
    assert one(cube, cube)["cldice"] == 1
    both = cube | box((24, 12, 12), (12, 22), (4, 5), (4, 5))
    assert centre_line(both > 0).sum() == 2 + 10


@pytest.mark.parametrize("sides", [(2, 2, 18), (2, 4, 18), (4, 4, 18), (6, 6, 18)])
def test_a_bar_of_even_sides_has_one_voxel_a_step(sides):
    """As a bar of odd sides has, that scikit-image thins to a line."""
    bar = np.pad(np.ones(sides), 1)
    line = np.argwhere(centre_line(bar > 0))
    assert len(line) == len(set(line[:, 2])) >= 18 - 4
    assert np.ptp(line[:, :2], axis=0).tolist() == [0, 0]


def test_a_blob_does_not_outweigh_a_tube():
    """Shit et al.'s code has no line of the blob at all, and a clDice of 1; 8 voxels of it would make 0.86."""
    tube = box((30, 30, 30), (14, 17), (14, 17), (2, 28))
    blob = tube | box((30, 30, 30), (4, 6), (4, 6), (4, 6))
    assert (centre_line(tube > 0) == (skeletonize(tube > 0) > 0)).all()
    length = centre_line(tube > 0).sum()
    assert length == 24
    precise = length / (length + 2)
    assert one(tube, blob)["cldice"] == pytest.approx(2 * precise / (1 + precise))


RING = box((9, 9, 5), (2, 7), (2, 7), (2, 3)) - box((9, 9, 5), (3, 6), (3, 6), (2, 3))
SHELL = box((9, 9, 9), (2, 7), (2, 7), (2, 7)) - box((9, 9, 9), (3, 6), (3, 6), (3, 6))


def test_betti_numbers():
    assert betti_numbers(RING > 0) == (1, 1, 0)
    assert betti_numbers(SHELL > 0) == (1, 0, 1)
    assert betti_numbers(RING[:, :, 2] > 0) == (1, 1)
    apart = box((9, 9, 9), (1, 2), (1, 2), (1, 2)) + box((9, 9, 9), (4, 6), (4, 6), (4, 6))
    assert betti_numbers(apart > 0) == (2, 0, 0)
    assert one(SHELL, apart)["betti_error"] == 2
    assert one(RING[:, :, 2:3], RING[:, :, 2:3])["betti_error"] == 0


def test_volumes_counted_by_hand():
    """8 voxels against 12 of 2 mm³ each, 4 in common, in an image of 1000."""
    reference = box((10, 10, 10), (1, 3), (1, 3), (1, 3))
    prediction = box((10, 10, 10), (2, 5), (1, 3), (1, 3))
    found = one(reference, prediction, (1, 1, 2))
    assert found["volume_difference_ml"] == pytest.approx(4 * 2e-3)
    assert one(prediction, reference, (1, 1, 2))["volume_difference_ml"] == pytest.approx(-8e-3)
    assert found["absolute_volume_difference_ml"] == pytest.approx(8e-3)
    assert found["absolute_relative_volume_error"] == pytest.approx(0.5)
    assert found["volumetric_similarity"] == pytest.approx(1 - 4 / 20)
    assert found["specificity"] == pytest.approx(1 - 8 / 992)


NOTHING_PREDICTED = {
    "masd_mm": np.inf,
    "signed_surface_distance_mm": -np.inf,  # too little was predicted, not too much
    "boundary_iou": 0,
    "cldice": 0,
    "betti_error": 1,
    "volume_difference_ml": -8e-3,
    "absolute_volume_difference_ml": 8e-3,
    "absolute_relative_volume_error": 1,
    "volumetric_similarity": 0,
    "specificity": 1,
}
"""Values of a structure of 8 voxels of 1 mm³ where nothing was predicted."""


def test_without_a_prediction_and_without_a_reference():
    held, empty = box((6, 6, 6), (2, 4), (2, 4), (2, 4)), np.zeros((6, 6, 6), np.uint8)
    found = one(held, empty)
    assert found.keys() >= set(EXTRA)
    assert {name: found[name] for name in EXTRA} == NOTHING_PREDICTED
    assert np.isnan([one(empty, held)[name] for name in EXTRA]).all()
    (lost,) = missing(held, (1, 1, 1), {"a": (1,)}, Metrics(extra=EXTRA))
    assert np.isnan([lost.values[name] for name in EXTRA]).all()


def test_a_tolerance_of_its_own():
    reference, prediction = PAIRS["moved"][:2]
    asked = {"nsd_tolerance_mm": [0.5], "nsd_tolerance_of": {"a": 0.5, "b": 3}}
    found = one(reference, prediction, (0.8, 1, 2.5), **asked)
    assert found["nsd_by_structure"] == found["nsd_0.5mm"] < 1
    assert "nsd_by_structure" not in one(reference, prediction, nsd_tolerance_of={"b": 3})


@pytest.mark.parametrize("name", PAIRS)
def test_as_the_peers(name):
    reference, prediction, spacing_mm = PAIRS[name]
    peer = PEERS["values"][name]["masks"]
    found = one(reference, prediction, spacing_mm, surface="voxel")
    assert found["masd_mm"] == pytest.approx(peer["masd_mm"], abs=1e-9)
    masks = [np.pad(mask, 1) > 0 for mask in (reference, prediction)]
    if all((centre_line(mask) == (skeletonize(mask) > 0)).all() for mask in masks):
        assert found["cldice"] == pytest.approx(peer["cldice"], abs=1e-12)
    for mask, numbers in zip(masks, peer["betti_numbers"], strict=True):
        assert list(betti_numbers(mask)) == numbers[:3]


def test_a_ball_in_a_corner_of_the_image():
    """Frames close what the border cuts."""
    mask = ball((8, 8, 8), (0, 0, 0), 5)
    assert one(mask, mask)["boundary_iou"] == 1
    assert one(mask, mask)["betti_error"] == 0
