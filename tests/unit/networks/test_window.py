"""Sliding windows against MONAI's, against convolution on the whole volume, and by property."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segstudy.networks.window import SlidingWindow, predict_volume, window_starts, window_weights


def convolution(dims: int, channels: int, classes: int, size: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(kind(channels, 6, size, padding=size // 2), nn.Tanh(), kind(6, classes, 1))


def volume(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def predict(network: nn.Module, image: np.ndarray, classes: int, **window) -> np.ndarray:
    return predict_volume(network, image, classes, SlidingWindow(**window))


def on_whole(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None]).softmax(1)[0].numpy()


@settings(deadline=None, max_examples=200)
@given(size=st.integers(1, 300), patch=st.integers(1, 130), overlap=st.floats(0, 0.95))
def test_windows_cover_the_axis_and_weights_add_up_to_one(size, patch, overlap):
    starts = window_starts(size, patch, overlap)
    length = max(size, patch)
    assert starts[0] == 0
    assert starts[-1] + patch == length
    assert starts == sorted(set(starts))
    # neighbours share the asked overlap, up to rounding the start to a whole voxel
    assert all(b - a <= max(1, patch * (1 - overlap) + 1) for a, b in pairwise(starts))
    weights = window_weights(starts, patch).numpy()
    assert (weights > 0).all()
    sums = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        sums[start : start + patch] += weight
    np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "patch", "overlap", "starts"),
    [
        (10, 10, 0.5, [0]),
        (7, 10, 0.5, [0]),
        (20, 10, 0.5, [0, 5, 10]),
        (21, 10, 0.5, [0, 4, 7, 11]),  # nnU-Net: ceil(11 / 5) = 3 steps of 3.67
        (20, 10, 0.8, [0, 2, 4, 6, 8, 10]),
        (20, 10, 0.0, [0, 10]),
    ],
)
def test_starts_by_hand(size, patch, overlap, starts):
    assert window_starts(size, patch, overlap) == starts


@pytest.mark.parametrize(
    ("patch", "shape", "overlap"),
    [
        ((16, 16, 16), (40, 32, 24), 0.5),
        ((16, 8, 24), (40, 20, 24), 0.5),
        ((12, 16, 8), (30, 40, 26), 0.25),
    ],
)
def test_equals_monai(patch, shape, overlap):
    """Sizes are such that both spread their windows alike; sigma such that MONAI's floor is not reached."""
    inferers = pytest.importorskip("monai.inferers")
    network, image = convolution(3, 2, 4), volume(2, *shape)
    with torch.inference_mode():
        expected = inferers.sliding_window_inference(
            torch.from_numpy(image)[None],
            patch,
            sw_batch_size=3,
            predictor=lambda windows: network(windows).softmax(1),
            overlap=overlap,
            mode="gaussian",
            sigma_scale=0.25,
        )[0].numpy()
    found = predict(
        network,
        image,
        patch_size=patch,
        dims=3,
        classes=4,
        overlap=overlap,
        batch_size=5,
        sigma=0.25,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equals_the_whole_volume_where_context_does_not_matter():
    network, image = convolution(3, 1, 3, size=1), volume(1, 23, 9, 31)
    found = predict(network, image, patch_size=(10, 12, 8), dims=3, classes=3)
    np.testing.assert_allclose(found, on_whole(network, image), atol=1e-5)


@pytest.mark.parametrize(
    ("plane", "turned"), [("axial", (3, 1, 2)), ("coronal", (2, 1, 3)), ("sagittal", (1, 2, 3))]
)
@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_a_plane_gives_what_its_slices_give(plane, turned, batch_size):
    """A patch that covers the slice: each slice alone is the truth; sizes all differ."""
    network, image = convolution(2, 2, 3), volume(2, 9, 12, 15)
    axis = turned[0]
    sizes = tuple(image.shape[a] for a in turned[1:])
    found = predict(
        network,
        image,
        patch_size=sizes,
        dims=2,
        planes=[plane],
        classes=3,
        batch_size=batch_size,
    )
    for number in range(image.shape[axis]):
        expected = on_whole(network, image.take(number, axis))
        np.testing.assert_allclose(found.take(number, axis), expected, atol=1e-5)


def test_planes_are_averaged():
    network, image = convolution(2, 1, 3), volume(1, 20, 18, 22)
    options = {"patch_size": (12, 16), "dims": 2, "classes": 3}
    planes = ["sagittal", "axial", "coronal"]
    each = [predict(network, image, planes=[plane], **options) for plane in planes]
    together = predict(network, image, planes=planes, **options)
    np.testing.assert_allclose(together, np.mean(each, axis=0), atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_volume_smaller_than_the_patch_is_padded_evenly_with_zero(dims):
    network, image = convolution(dims, 1, 2), volume(1, 7, 6, 5)
    patch = (12, 9, 16)[:dims]
    found = predict(network, image, patch_size=patch, dims=dims, classes=2)
    assert found.shape == (2, 7, 6, 5)
    widths = [(2, 3), (1, 2), (5, 6)][:dims] + [(0, 0)] * (3 - dims)
    padded = np.pad(image, [(0, 0), *widths])
    if dims == 3:
        expected = on_whole(network, padded)[:, 2:9, 1:7, 5:10]
    else:
        slices = [on_whole(network, padded[..., z])[:, 2:9, 1:7] for z in range(5)]
        expected = np.stack(slices, axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(*[st.integers(1, 21)] * 3),
    patch=st.tuples(*[st.integers(2, 12)] * 3),
    dims=st.sampled_from([2, 3]),
    overlap=st.sampled_from([0, 0.25, 0.5, 0.75]),
    batch_size=st.integers(1, 9),
)
def test_probabilities_add_up_to_one(shape, patch, dims, overlap, batch_size):
    found = predict(
        convolution(dims, 1, 3),
        volume(1, *shape),
        patch_size=patch[:dims],
        dims=dims,
        planes=["coronal", "axial"],
        classes=3,
        overlap=overlap,
        batch_size=batch_size,
    )
    assert found.shape == (3, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_same_bytes_twice_and_mode_and_image_are_left_alone():
    network = nn.Sequential(convolution(3, 1, 2), nn.Dropout(0.5))
    network.train()
    image = volume(1, 20, 20, 20)
    kept = image.copy()
    one, two = (predict(network, image, patch_size=(12, 12, 12), dims=3, classes=2) for _ in "ab")
    assert one.tobytes() == two.tobytes()
    assert network.training
    assert np.array_equal(image, kept)


def test_the_middle_of_a_window_counts_more_than_its_border():
    """Two windows that disagree: where one is at its middle and the other at its border, the first wins."""

    class ByBrightness(nn.Module):
        def forward(self, patches):
            bright = (patches.mean(dim=(1, 2, 3, 4)) > 0).float().reshape(-1, 1, 1, 1, 1)
            ones = torch.ones_like(patches[:, :1])
            return torch.cat([ones * (1 - bright), ones * bright], 1) * 50

    image = np.zeros((1, 24, 8, 8), np.float32)
    image[:, :16] = -1
    image[:, 16:] = 2  # windows start at 0, 8 and see means of -1 and 0.5
    found = predict(ByBrightness(), image, patch_size=(16, 8, 8), dims=3, classes=2)
    share = found[1, :, 4, 4]
    assert share[0] < 1e-6
    assert share[-1] > 1 - 1e-6
    assert share[8] < 0.01
    assert share[15] > 0.99
    np.testing.assert_allclose(share[11] + share[12], 1, atol=1e-5)


def test_patch_of_wrong_dimension_is_refused():
    with pytest.raises(ValueError, match="patch"):
        predict(convolution(3, 1, 2), volume(1, 8, 8, 8), patch_size=(8, 8), dims=3, classes=2)


def test_a_batch_that_does_not_fit_is_halved():
    """A network that holds at most three windows gives what one without limit gives."""
    network, image = convolution(3, 1, 2), volume(1, 20, 20, 20)
    sizes = []

    class Small(nn.Module):
        def forward(self, windows):
            sizes.append(len(windows))
            if len(windows) > 3:
                raise torch.OutOfMemoryError("planted")
            return network(windows)

    options = {"patch_size": (12, 12, 12), "dims": 3, "classes": 2, "batch_size": 10}
    found = predict(Small(), image, **options)
    assert max(sizes) == 10
    np.testing.assert_allclose(found, predict(network, image, **options), atol=1e-6)


def test_one_window_that_does_not_fit_is_an_error():
    class TooSmall(nn.Module):
        def forward(self, windows):
            raise torch.OutOfMemoryError("planted")

    with pytest.raises(torch.OutOfMemoryError):
        predict(TooSmall(), volume(1, 20, 20, 20), patch_size=(12, 12, 12), dims=3, classes=2)


class BySide(nn.Module):
    """Knows left from right by the place in the patch: class 1 in its lower half, class 2 in its upper."""

    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, windows):
        size = windows.shape[2 + self.axis]
        place = torch.linspace(-4, 4, size).reshape(
            [-1 if n == self.axis else 1 for n in range(windows.ndim - 2)]
        )
        place = place.expand(len(windows), 1, *windows.shape[2:])
        return torch.cat([windows * 0 - 9, -place, place], 1)


@pytest.mark.parametrize(
    ("dims", "plane", "axis"),
    [(3, "axial", 0), (2, "axial", 0), (2, "coronal", 0)],
)
def test_mirrored_from_right_to_left_a_pair_is_swapped_back(dims, plane, axis):
    """A network that is sure of the sides stays sure; without pairs its mirrored answer contradicts."""
    image = volume(1, 12, 12, 12)
    options = {"patch_size": (12,) * dims, "dims": dims, "planes": [plane], "classes": 3}
    network = BySide(axis)
    plain = predict(network, image, **options)
    mirrored = predict(
        network, image, mirror_axes=["right_left", "foot_head"], pairs=[(1, 2)], **options
    )
    np.testing.assert_allclose(mirrored, plain, atol=1e-6)
    mixed = predict(network, image, mirror_axes=["right_left"], **options)
    np.testing.assert_allclose(mixed[1], mixed[2], atol=1e-6)


def test_a_sagittal_slice_is_never_mirrored_from_right_to_left():
    image = volume(1, 10, 12, 14)
    options = {"patch_size": (8, 8), "dims": 2, "planes": ["sagittal"], "classes": 3}
    network = convolution(2, 1, 3)
    plain = predict(network, image, **options)
    asked = predict(network, image, mirror_axes=["right_left"], pairs=[(1, 2)], **options)
    assert np.array_equal(plain, asked)


def test_mirrored_predictions_are_the_mean_of_predictions_of_mirrored_images():
    """Windows lie evenly, so mirroring each is mirroring the image."""
    network, image = convolution(3, 1, 3), volume(1, 16, 12, 8)
    options = {"patch_size": (8, 8, 8), "dims": 3, "classes": 3}
    found = predict(
        network, image, mirror_axes=["right_left", "back_front"], pairs=[(1, 2)], **options
    )
    each = []
    for axes in [(), (1,), (2,), (1, 2)]:
        one = np.flip(predict(network, np.flip(image, axes).copy(), **options), axes)
        each.append(one[[0, 2, 1]] if 1 in axes else one)
    np.testing.assert_allclose(found, np.mean(each, 0), atol=1e-5)
