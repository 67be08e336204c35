"""Labels and probabilities on another grid: nothing shrinks, nothing is shifted, no class is favoured."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segstudy.images.resample_classes import CLOSE, most_likely, resample_label

shapes = st.tuples(*[st.integers(1, 12)] * 3)


def one_hot(classes, count):
    return np.stack([(classes == index).astype(np.float32) for index in range(count)])


def ball(shape, centre, radii):
    """1 in the voxels whose centre lies in an ellipsoid; in indices, fractions too."""
    places = np.ogrid[tuple(slice(size) for size in shape)]
    parts = zip(places, centre, radii, strict=True)
    return (sum(((place - c) / r) ** 2 for place, c, r in parts) <= 1).astype(np.uint8)


def middle(mask, step=1.0):
    """Centre of a mask in indices of a grid whose voxels are `step` of these wide."""
    return (np.argwhere(mask).mean(axis=0) + 0.5) * step - 0.5


# --- volume -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "low"),
    [(2, 2.0), (2, 4.0), (4, 4.0), (1.5, 2.0), (1.5, 4.0), (2 / 3, 2.0), (0.5, 2.0)],
)
def test_round_structures_keep_their_volume(factor, low):
    """Voxels of two millimetres instead of one took 30 % of a structure of 2 to 3.5 voxels' radius."""
    draw = np.random.default_rng(5)
    size, period = 24, 8
    target = round(size / factor)
    before = after = 0
    for offset in draw.uniform(-period / 2, period / 2, (1200, 3)):
        label = ball((size,) * 3, size / 2 + offset, draw.uniform(low, 1.75 * low, 3))
        before += label.sum()
        after += resample_label(label, (target,) * 3, None).sum() * (size / target) ** 3
    assert after / before == pytest.approx(1, abs=0.02)


def test_boxes_keep_volume_and_place_when_voxels_double():
    """Mean over all places in two voxels, and over the turn of lower and upper, that a face can have."""
    volumes, shifts = [], []
    for width in (3, 4, 5), (6, 6, 6), (5, 5, 5), (4, 7, 10), (9, 9, 9):
        for start in itertools.product(range(4, 8), repeat=3):
            label = np.zeros((24, 24, 24), np.uint8)
            label[tuple(slice(low, low + size) for low, size in zip(start, width, strict=True))] = 1
            found = resample_label(label, (12, 12, 12), None)
            volumes.append(8 * found.sum() / label.sum())
            shifts.append(middle(found, 2) - middle(label))
    assert np.mean(volumes) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0, atol=0.05)


def test_touching_structures_keep_their_volumes():
    """Four cells that fill a volume: whatever one loses another gains, the background is none of them."""
    draw = np.random.default_rng(1)
    before, after = np.zeros(4), np.zeros(4)
    places = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij"), -1)
    for _ in range(60):
        seeds = draw.uniform(2, 22, (4, 3))
        label = np.square(places[..., None, :] - seeds).sum(-1).argmin(-1).astype(np.uint8)
        before += np.bincount(label.ravel(), minlength=4)
        after += 8 * np.bincount(resample_label(label, (12,) * 3, None).ravel(), minlength=4)
    np.testing.assert_allclose(after / before, 1, atol=0.02)


def test_small_structures_survive_the_export_of_a_perfect_prediction():
    draw = np.random.default_rng(2)
    before = after = 0
    for _ in range(200):
        label = ball((16,) * 3, draw.uniform(5, 10, 3), draw.uniform(1.5, 2.5, 3))
        before += 8 * label.sum()
        after += most_likely(one_hot(label, 2), (32,) * 3, None).sum()
    assert after / before == pytest.approx(1, abs=0.03)


# --- place --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_mm", [1.25, 2.0, 2.5, 3.0, 10 / 3, 4.0, 5.0, 6.25, 7.5, 10.0])
@pytest.mark.parametrize("coarse", [None, 2])
def test_nothing_is_shifted_along_an_axis_there_or_back(target_mm, coarse):
    """Slices of 2.5 mm: a structure of many heights at every place; shift in its own slices."""
    size = 48
    target = round(size * 2.5 / target_mm)
    there, back = [], []
    for start, height in itertools.product(range(8, 24), range(9, 17)):
        label = np.zeros((3, 3, size), np.uint8)
        label[..., start : start + height] = 1
        found = resample_label(label, (3, 3, target), coarse)
        place = middle(label[1, 1])
        there.append(middle(found[1, 1], size / target) - place)
        back.append(middle(most_likely(one_hot(found, 2), label.shape, coarse)[1, 1]) - place)
    assert abs(np.mean(there)) < 0.05
    assert abs(np.mean(back)) < 0.05


@settings(max_examples=40, deadline=None)
@given(shapes, shapes, st.sampled_from([None, 0, 2]), st.integers(0, 99))
def test_the_number_of_a_class_does_not_matter(shape, target, coarse, seed):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 4, shape).astype(np.uint8)
    other = draw.permutation(4).astype(np.uint8)
    np.testing.assert_array_equal(
        resample_label(other[label], target, coarse), other[resample_label(label, target, coarse)]
    )


@settings(max_examples=40, deadline=None)
@given(shapes, st.tuples(*[st.integers(1, 8)] * 3), st.sampled_from([None, 1]), st.integers(0, 99))
def test_mirrored_labels_give_mirrored_results(shape, half, coarse, seed):
    # On an even number of voxels, of which each half sees lower and upper as often.
    target = tuple(2 * size for size in half)
    label = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    for axis in range(3):
        np.testing.assert_array_equal(
            resample_label(np.flip(label, axis), target, coarse),
            np.flip(resample_label(label, target, coarse), axis),
        )


# --- the interpolation itself -------------------------------------------------------------------


def test_probabilities_that_are_parabolas_are_met_exactly():
    """A ball's border at sub-voxel accuracy: cubic convolution reproduces its square distance."""
    target, size = (40, 30, 55), (20, 24, 22)
    square = sum((place - 9.7) ** 2 for place in np.ogrid[tuple(slice(n) for n in size)])
    inside = (0.5 + (6.3**2 - square) / 500).astype(np.float32)
    found = most_likely(np.stack([1 - inside, inside]), target, None)
    places = [
        (np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(size, target, strict=True)
    ]
    radius = np.sqrt(sum((p - 9.7) ** 2 for p in np.ix_(*places)))
    sure = np.abs(radius - 6.3) > 0.02
    np.testing.assert_array_equal(found[sure], (radius < 6.3)[sure])


@settings(max_examples=30, deadline=None)
@given(shapes, shapes, st.sampled_from([None, 1]), st.integers(0, 99))
def test_a_constant_and_equal_shapes_change_nothing(shape, target, coarse, seed):
    label = np.random.default_rng(seed).integers(0, 9, shape).astype(np.uint8)
    np.testing.assert_array_equal(resample_label(label, shape, coarse), label)
    np.testing.assert_array_equal(most_likely(one_hot(label, 9), shape, coarse), label)
    assert (resample_label(np.full(shape, 7, np.uint8), target, coarse) == 7).all()
    assert (most_likely(one_hot(np.full(shape, 1), 2), target, coarse) == 1).all()


@settings(max_examples=40, deadline=None)
@given(shapes, shapes, st.integers(0, 99))
def test_the_vote_is_that_of_the_weights(shape, target, seed):
    """Against dense matrices, whose weights are Keys' piecewise polynomials written out."""

    def kernel(x):
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def matrix(old, new):
        weights = np.zeros((new, old))
        for i in range(new):
            centre = (i + 0.5) * old / new - 0.5
            for voxel in range(-3, old + 3):
                weights[i, np.clip(voxel, 0, old - 1)] += kernel(centre - voxel)
        return np.eye(new) if old == new else weights

    label = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    first, second, third = (matrix(old, new) for old, new in zip(shape, target, strict=True))
    votes = np.einsum("ai,bj,ck,nijk->nabc", first, second, third, one_hot(label, 3))
    ranked = np.sort(votes, axis=0)
    sure = ranked[-1] - ranked[-2] > CLOSE + 1e-4
    found = resample_label(label, target, None)
    np.testing.assert_array_equal(found[sure], votes.argmax(axis=0)[sure])
    # What wins although another has more votes comes close to it, and holds the nearest voxel.
    behind = ranked[-1] - np.take_along_axis(votes, found[None].astype(int), 0)[0]
    assert behind.max() <= CLOSE + 1e-6


def test_ties_on_one_grid_go_to_the_lower_class():
    layers = np.ones((3, 4, 4, 4), np.float32)
    layers[0, :2] = 0
    found = most_likely(layers, (4, 4, 4), None)
    assert (found[:2] == 1).all()
    assert (found[2:] == 0).all()


@pytest.mark.parametrize("axis", [0, 3])
def test_the_order_in_memory_does_not_matter(axis):
    layers = np.random.default_rng(0).random((3, 8, 9, 7)).astype(np.float32)
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(layers, axis, -1)), -1, axis)
    expected = most_likely(layers, (11, 6, 14), None)
    np.testing.assert_array_equal(most_likely(strided, (11, 6, 14), None), expected)
    np.testing.assert_array_equal(most_likely(layers.astype(float), (11, 6, 14), None), expected)


def test_many_classes_have_numbers_of_two_bytes():
    layers = np.zeros((300, 2, 2, 2), np.float32)
    layers[299] = 1
    found = most_likely(layers, (3, 3, 3), None)
    assert found.dtype == np.uint16
    assert (found == 299).all()
