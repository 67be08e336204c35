"""Augmentation against closed forms: known angles move known points, and labels move with images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from benchmark_runs import run_quickly
from segstudy.study import Augmentation
from segstudy.train import augment as module
from segstudy.train import spatial
from segstudy.train.augment import augment, place
from segstudy.train.draw import Draw, draw_of_step
from segstudy.train.sampling import Sampler, TrainingCase
from segstudy.train.spatial import PatchGeometry, Placement, affine, resample, source_size

SHARES = [name for name in Augmentation.model_fields if name.endswith("_probability")]
NOTHING = dict.fromkeys(SHARES, 0.0)


def matrices(angles, scale=1.0, shift=None, spacing=(1.0, 1.0, 1.0), threshold=math.inf):
    dims = len(spacing)
    return affine(
        torch.tensor([angles]),
        torch.tensor([[scale]]),
        torch.tensor([shift or [0.0] * dims]),
        torch.tensor([spacing]),
        threshold,
    )


def blob(shape, centre, width=1.5):
    """A smooth bump (x, y[, z]) whose centre of mass is `centre`."""
    places = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))
    offset = places - np.reshape(centre, (len(shape), *[1] * len(shape)))
    return np.exp(-0.5 * (offset**2).sum(0) / width**2).astype(np.float32)


def placed(matrices, moved, displacement=None):
    """A placement that flips nothing."""
    flipped = torch.zeros(matrices.shape[:2], dtype=torch.bool)
    return Placement(matrices, torch.tensor(moved), flipped, displacement)


def moved(image, matrix, size=None):
    images = torch.from_numpy(image)[None, None]
    labels = torch.from_numpy((image > 0.5).astype(np.uint8))[None]
    placement = placed(matrix, [True])
    out, label = resample(images, labels, placement, size or image.shape)
    return out[0, 0].numpy(), label[0].numpy()


def test_a_quarter_turn_in_2d_moves_a_point_from_the_first_axis_to_the_second():
    shape = (41, 41)
    image, label = moved(blob(shape, (30, 20)), matrices([90.0], spacing=(1.0, 1.0)))
    assert ndimage.center_of_mass(image) == pytest.approx((20, 30), abs=0.01)
    assert ndimage.center_of_mass(label) == pytest.approx((20, 30), abs=0.3)


@pytest.mark.parametrize(
    ("angles", "start", "end"),
    [
        ([90.0, 0.0, 0.0], (20, 28, 20), (20, 20, 28)),  # about x: y goes to z
        ([0.0, 90.0, 0.0], (20, 20, 28), (28, 20, 20)),  # about y: z goes to x
        ([0.0, 0.0, 90.0], (28, 20, 20), (20, 28, 20)),  # about z: x goes to y
    ],
)
def test_a_quarter_turn_in_3d(angles, start, end):
    image, _ = moved(blob((41, 41, 41), start), matrices(angles))
    assert ndimage.center_of_mass(image) == pytest.approx(end, abs=0.01)


def test_turning_happens_in_millimetres():
    """27 degrees about x with voxels 1 x 1 x 2 mm: (y, z) = (10, 0) voxels goes to its closed form."""
    spacing = (1.0, 1.0, 2.0)
    image, _ = moved(blob((21, 51, 31), (10, 35, 15)), matrices([27.0, 0, 0], spacing=spacing))
    angle = math.radians(27)
    expected = (10, 25 + 10 * math.cos(angle), 15 + 10 * math.sin(angle) / 2)
    assert ndimage.center_of_mass(image) == pytest.approx(expected, abs=0.02)


def test_scale_and_shift():
    image, _ = moved(
        blob((41, 41, 41), (25, 20, 18)), matrices([0.0] * 3, scale=1.2, shift=[2.0, -1.0, 0.5])
    )
    expected = (20 + 1.2 * 5 + 2, 20 - 1, 20 - 1.2 * 2 + 0.5)
    assert ndimage.center_of_mass(image) == pytest.approx(expected, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-180, 180), min_size=3, max_size=3),
    st.floats(0.5, 2),
    st.lists(st.floats(0.5, 3), min_size=3, max_size=3),
)
def test_distances_in_mm_grow_by_the_scale_alone(angles, scale, spacing):
    linear = matrices(angles, scale, spacing=tuple(spacing))[0, :, :3].numpy()
    places = np.random.default_rng(0).normal(size=(3, 20))
    before = np.linalg.norm(places * np.reshape(spacing, (3, 1)), axis=0)
    after = np.linalg.norm(linear @ places * np.reshape(spacing, (3, 1)), axis=0)
    assert after == pytest.approx(scale * before, rel=1e-5)


def test_a_coarse_axis_stays_as_it_is():
    found = matrices([10.0, 20.0, 30.0], 1.2, spacing=(1.0, 1.0, 5.0), threshold=3.0)[0]
    angle = math.radians(30)
    expected = torch.eye(3, 4, dtype=torch.float64)
    expected[0, 0] = expected[1, 1] = 1.2 * math.cos(angle)
    expected[1, 0], expected[0, 1] = 1.2 * math.sin(angle), -1.2 * math.sin(angle)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    flat = matrices([30.0], 1.2, spacing=(1.0, 5.0), threshold=3.0)[0]
    assert flat[:, :2].tolist() == [[pytest.approx(1.2), 0.0], [0.0, 1.0]]


def test_a_coarse_axis_is_not_shifted():
    shift = [2.5, -1.25, 0.5]
    found = matrices([0.0] * 3, shift=shift, spacing=(1.0, 1.0, 5.0), threshold=3.0)[0]
    assert found[:, 3].tolist() == [2.5, -1.25, 0.0]
    flat = matrices([0.0], shift=[2.5, 0.5], spacing=(1.0, 5.0), threshold=3.0)[0]
    assert flat[:, 2].tolist() == [2.5, 0.0]
    fine = matrices([0.0] * 3, shift=shift, spacing=(1.0, 1.0, 3.0), threshold=3.0)[0]
    assert fine[:, 3].tolist() == shift


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_no_spatial_change_mixes_far_apart_slices(coarse):
    """Slices of one value each keep it, whatever the largest moves of all kinds are."""
    change = Augmentation(
        **NOTHING | {"affine_probability": 1.0, "elastic_probability": 1.0},
        rotation_deg=180,
        scale=(0.7, 1.4),
        shear=0.2,
        translation_voxels=5,
    )
    spacing_mm = tuple(4.0 if axis == coarse else 1.0 for axis in range(3))
    patch = (8, 8, 8)
    source = source_size(patch, change, spacing_mm, 3.0)
    assert source[coarse] == 8 < min(s for axis, s in enumerate(source) if axis != coarse)
    values = torch.arange(1.0, 9).reshape([8 if axis == coarse else 1 for axis in range(3)])
    images = values.expand(6, 1, *source).contiguous()
    out, label = augment(
        images,
        images[:, 0].byte(),
        change,
        PatchGeometry(patch, torch.tensor([spacing_mm] * 6), torch.arange(3).repeat(6, 1), 3.0),
        Draw(generator(), 6),
    )
    torch.testing.assert_close(out, values.expand(6, 1, *patch), rtol=0, atol=1e-4)
    assert torch.equal(label.float(), values.expand(6, *patch))


def test_what_is_not_turned_is_cut_from_the_middle_unchanged():
    images = torch.randn(2, 1, 12, 10, 8)
    labels = torch.randint(0, 3, (2, 12, 10, 8), dtype=torch.uint8)
    still = placed(matrices([9.0] * 3).repeat(2, 1, 1), [False, False])
    out, label = resample(images, labels, still, (8, 8, 4))
    assert torch.equal(out, images[:, :, 2:10, 1:9, 2:6])
    assert torch.equal(label, labels[:, 2:10, 1:9, 2:6])


def test_the_identity_resamples_to_the_same():
    image = np.random.default_rng(0).normal(size=(13, 11, 9)).astype(np.float32)
    out, _ = moved(image, matrices([0.0] * 3), (9, 7, 9))
    assert out == pytest.approx(image[2:11, 2:9], abs=1e-4)


def batch_of(count=4, size=(20, 18, 16), dims=3, seed=0):
    draw = np.random.default_rng(seed)
    labels = (
        ndimage.gaussian_filter(draw.normal(size=(count, *size)), (0, 2, 2, 2)[: dims + 1]) > 0.03
    )
    labels = torch.from_numpy(labels.astype(np.uint8))
    images = labels[:, None].float() * 2 - 1
    spacing = torch.ones(count, dims)
    axes = torch.arange(dims).repeat(count, 1)
    return images, labels, spacing, axes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_where_the_image_says(seed):
    """An image that is its own label, with linear interpolation: its sign is the label, but at borders."""
    images, labels, spacing, axes = batch_of()
    settings = Augmentation(
        **NOTHING | {"affine_probability": 1.0},
        rotation_deg=40,
        translation_voxels=3,
        flip_axes=("right_left", "foot_head"),
    )
    out, label = augment(
        images,
        labels,
        settings,
        PatchGeometry((12, 10, 8), spacing, axes, 3.0),
        Draw(generator(seed), len(images)),
    )
    assert out.shape == (4, 1, 12, 10, 8)
    assert label.shape == (4, 12, 10, 8)
    assert not torch.equal(label, labels[:, 4:16, 4:14, 4:12])
    agree = (out[:, 0] > 0) == label.bool()
    assert agree.float().mean() > 0.9
    sure = out[:, 0].abs() > 0.8
    assert agree[sure].float().mean() > 0.99


def test_flips_run_along_the_named_anatomical_axis():
    images, labels, spacing, _ = batch_of(64, (6, 5), dims=2)
    axes = torch.tensor([[1, 2]]).repeat(64, 1)  # sagittal slices: back-front, foot-head
    settings = Augmentation(**NOTHING, flip_axes=("right_left", "foot_head"))
    out, label = augment(
        images,
        labels,
        settings,
        PatchGeometry((6, 5), spacing, axes, 3.0),
        Draw(generator(), len(images)),
    )
    as_is = (out == images).flatten(1).all(1)
    flipped = (out == images.flip(3)).flatten(1).all(1)
    assert (as_is | flipped).all()
    assert 16 < flipped.sum() < 48
    assert torch.equal((label == labels).flatten(1).all(1), as_is)


def test_without_changes_a_batch_is_only_cut():
    images, labels, spacing, axes = batch_of()
    before = images.clone()
    out, label = augment(
        images,
        labels,
        Augmentation(**NOTHING),
        PatchGeometry((20, 18, 16), spacing, axes, 3.0),
        Draw(generator(), len(images)),
    )
    assert torch.equal(out, images)
    assert torch.equal(label, labels)
    assert torch.equal(images, before)


def test_the_input_is_left_alone():
    images, labels, spacing, axes = batch_of()
    before = images.clone(), labels.clone()
    everything = Augmentation(
        **dict.fromkeys(NOTHING, 1.0), flip_axes=("right_left", "back_front", "foot_head")
    )
    augment(
        images,
        labels,
        everything,
        PatchGeometry((20, 18, 16), spacing, axes, 3.0),
        Draw(generator(), len(images)),
    )
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_the_same_seed_gives_the_same_batch_and_another_another():
    everything = Augmentation(**dict.fromkeys(NOTHING, 1.0))
    results = []
    for seed in (1, 1, 2):
        images, labels, spacing, axes = batch_of()
        results.append(
            augment(
                images,
                labels,
                everything,
                PatchGeometry((12, 10, 8), spacing, axes, 3.0),
                Draw(generator(seed), len(images)),
            )
        )
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.parametrize(
    "change",
    [
        *("noise", "blur", "bias", "brightness", "contrast", "low_resolution", "gamma"),
        "inverted_gamma",
    ],
)
def test_each_change_touches_its_share_of_the_patches_and_no_label(change):
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.normal(size=(400, 1, 6, 6)).astype(np.float32))
    labels = torch.zeros(400, 6, 6, dtype=torch.uint8)
    settings = Augmentation(**NOTHING | {f"{change}_probability": 0.3})
    out, label = augment(
        images,
        labels,
        settings,
        PatchGeometry((6, 6), torch.ones(400, 2), torch.tensor([[0, 1]]).repeat(400, 1), 3.0),
        Draw(generator(), 400),
    )
    touched = (out != images).flatten(1).any(1).float().mean().item()
    assert touched == pytest.approx(0.3, abs=0.08)
    assert torch.equal(label, labels)


def test_blur_is_scipys():
    image = np.random.default_rng(0).normal(size=(2, 3, 14, 12, 10)).astype(np.float32)
    sigma = torch.tensor([[0.5, 0.8, 1.0], [0.6, 0.7, 0.9]])
    found = module.blur(torch.from_numpy(image), sigma[:, :, None, None, None]).numpy()
    for n in range(2):
        for c in range(3):
            expected = ndimage.gaussian_filter(
                image[n, c], float(sigma[n, c]), mode="nearest", radius=3
            )
            assert found[n, c] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("limits", [(0.7, 1.5), (0.75, 1.25), (1.2, 3.0)])
def test_factors_are_drawn_as_nnunet_draws_them(limits):
    peer = pytest.importorskip("batchgeneratorsv2.transforms.intensity.contrast").BGContrast(limits)
    np.random.seed(0)
    theirs = [peer() for _ in range(4000)]
    ours = Draw(generator(), 4000).factor(*limits, 1)[:, 0].numpy()
    assert stats.ks_2samp(ours, theirs).pvalue > 0.05
    assert limits[0] <= ours.min() and ours.max() <= limits[1]


def test_half_of_the_exponents_lie_below_1(monkeypatch):
    """Uniform from 0.7 to 1.5, it would be 3 of 8."""
    seen = []
    for name in ("gamma", "contrast", "brighten"):
        monkeypatch.setattr(module, name, lambda images, factor: seen.append(factor) or images)
    shares = dict.fromkeys(
        ("gamma_probability", "inverted_gamma_probability", "contrast_probability"), 1.0
    )
    limits = dict.fromkeys(("gamma", "contrast", "brightness"), (0.7, 1.5))
    change = Augmentation(**NOTHING | shares | {"brightness_probability": 1.0} | limits)
    flat = torch.zeros(4000, 1, 2, 2)
    module.intensities(flat, change, Draw(generator(), 4000), torch.zeros(4000, 2).bool())
    assert len(seen) == 4
    for factor in seen:
        drawn = factor.flatten().numpy()
        assert (drawn < 1).mean() == pytest.approx(0.5, abs=0.03)
        assert stats.kstest(drawn[drawn < 1], stats.uniform(0.7, 0.3).cdf).pvalue > 0.01
        assert stats.kstest(drawn[drawn > 1], stats.uniform(1, 0.5).cdf).pvalue > 0.01
    below = Draw(generator(), 4000).factor(0.5, 0.8, 1).numpy().ravel()
    assert stats.kstest(below, stats.uniform(0.5, 0.3).cdf).pvalue > 0.01


def test_contrast_keeps_mean_and_range_and_gamma_keeps_mean_and_sd():
    torch.manual_seed(0)
    images = torch.rand(2, 2, 16, 16) * 3 - 1
    factor = torch.tensor([[0.8, 0.9], [0.75, 0.95]])[:, :, None, None]
    lower = module.contrast(images, factor)
    torch.testing.assert_close(lower.mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(lower.std((2, 3)), images.std((2, 3)) * factor[..., 0, 0])
    higher = module.contrast(images, factor + 1)
    assert torch.equal(higher.amax((2, 3)), images.amax((2, 3)))
    bent = module.gamma(images, factor)
    torch.testing.assert_close(bent.mean((2, 3)), images.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bent.std((2, 3)), images.std((2, 3)), rtol=1e-4, atol=1e-5)
    order = images[0, 0].flatten().argsort()
    assert (bent[0, 0].flatten()[order].diff() >= -1e-6).all()


def test_a_constant_patch_stays_finite():
    for change in (module.contrast, module.gamma):
        assert change(torch.ones(1, 1, 4, 4), torch.full((1, 1, 1, 1), 0.8)).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(8, 40)] * 3),
    st.tuples(*[st.floats(0.5, 2)] * 3),
    st.floats(0, 180),
    st.integers(0, 10**6),
)
def test_a_turned_patch_has_no_empty_corners(patch, spacing, rotation, seed):
    """All corners of a patch come from inside the source that `source_size` asks for."""
    change = Augmentation(rotation_deg=rotation, scale=(0.8, 1.2), translation_voxels=2)
    source = source_size(patch, change, spacing, math.inf)
    assert all((have - want) % 2 == 0 for have, want in zip(source, patch, strict=True))
    draw = torch.Generator().manual_seed(seed)
    angles = (torch.rand(50, 3, generator=draw) * 2 - 1) * rotation
    scale = 0.8 + 0.4 * torch.rand(50, 1, generator=draw)
    shift = (torch.rand(50, 3, generator=draw) * 2 - 1) * 2
    found = affine(angles, scale, shift, torch.tensor(spacing).expand(50, -1))
    places = spatial.sampling_grid(found, source, patch).flip(1).movedim(1, -1)
    middle = (torch.tensor(source) - 1) / 2
    assert ((places - middle).abs() / (middle + 0.5)).max() < 1 + 1e-5


@pytest.mark.parametrize(
    ("patch", "most_deg", "expected"),
    [
        # The diagonal of a square, and what it spans before its corner gets to an axis.
        ((64, 64), 180, 64 * math.sqrt(2)),
        ((64, 64), 45, 64 * math.sqrt(2)),
        ((64, 64), 30, 64 * (math.cos(math.radians(30)) + 0.5)),
        ((64, 64), 15, 64 * (math.cos(math.radians(15)) + math.sin(math.radians(15)))),
        ((48, 20), 180, math.hypot(48, 20)),
        ((48, 20), 10, 48 * math.cos(math.radians(10)) + 20 * math.sin(math.radians(10))),
        ((64, 64, 64), 180, 64 * math.sqrt(3)),
        ((60, 40, 24), 180, math.sqrt(60**2 + 40**2 + 24**2)),
    ],
)
def test_the_source_holds_a_turned_patch_and_nothing_beyond(patch, most_deg, expected):
    change = Augmentation(rotation_deg=most_deg, scale=(1.0, 1.0))
    found = source_size(patch, change, (1.0,) * len(patch), math.inf)[0]
    assert found == patch[0] + 2 * math.ceil((expected - patch[0]) / 2)


def test_no_corner_is_empty_at_any_angle():
    change = Augmentation(
        **NOTHING | {"affine_probability": 1.0}, rotation_deg=180, scale=(1.0, 1.0)
    )
    source = source_size((64, 64), change, (1.0, 1.0), 3.0)
    assert source == (92, 92)
    full = torch.ones(200, *source, dtype=torch.uint8)
    out, label = augment(
        full[:, None].float(),
        full,
        change,
        PatchGeometry((64, 64), torch.ones(200, 2), torch.tensor([[0, 1]] * 200), 3.0),
        Draw(generator(), 200),
    )
    assert label.all() and out.min() > 1 - 1e-4


def test_without_rotation_and_scale_no_more_is_read_than_needed():
    still = Augmentation(affine_probability=0.0)
    assert source_size((32, 16), still, (1.0, 1.0), 3.0) == (32, 16)
    flat = Augmentation(rotation_deg=0.0, scale=(1.0, 1.2))
    assert source_size((32, 16), flat, (1.0, 1.0), 3.0) == (32, 16)
    quarter = Augmentation(rotation_deg=90.0, scale=(1.0, 1.0))
    width, height = source_size((32, 16), quarter, (1.0, 1.0), 3.0)
    assert width >= 32 and height >= 32


def test_a_pure_shear_moves_each_axis_along_by_the_later_ones():
    found = affine(
        torch.zeros(1, 3),
        torch.ones(1, 1),
        torch.zeros(1, 3),
        torch.tensor([[1.0, 1.0, 2.0]]),
        shear=torch.tensor([[0.1, 0.2, 0.3]]),
    )[0]
    # By millimetres: a voxel along the last axis is 2 mm, and moves the others twice as far.
    expected = [[1, 0.1, 0.4, 0], [0, 1, 0.6, 0], [0, 0, 1, 0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert torch.linalg.det(found[:, :3]).item() == pytest.approx(1)
    flat = affine(
        *(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 2), torch.ones(1, 2)),
        shear=torch.tensor([[0.25]]),
    )[0]
    assert flat.tolist() == [[1.0, 0.25, 0.0], [0.0, 1.0, 0.0]]


def test_a_coarse_axis_is_not_sheared():
    found = affine(
        *(torch.zeros(1, 3), torch.ones(1, 1), torch.zeros(1, 3), torch.tensor([[1.0, 1, 5]])),
        anisotropy_threshold=3.0,
        shear=torch.tensor([[0.1, 0.2, 0.3]]),
    )[0]
    assert found[:, :3].tolist() == [[1.0, pytest.approx(0.1), 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("size", [(24, 20), (14, 12, 10)])
def test_an_elastic_field_has_mean_0_and_the_sd_asked_for_in_every_voxel(size):
    draw = Draw(generator(), 4000)
    sd = torch.tensor([[1.5, 0.5, 0.0]])[:, : len(size)]
    values = draw.field(len(size), (8.0,) * len(size), size).times(sd).values(size)
    assert values.shape == (4000, len(size), *size)
    for part, expected in enumerate(sd[0].tolist()):
        at = values[:, part].flatten(1)
        assert at.mean(0).abs().max() < 0.1 * max(expected, 1e-9) + 1e-9
        assert at.std(0).numpy() == pytest.approx(expected, rel=0.09, abs=1e-9)


def test_each_patch_has_a_field_as_smooth_as_its_own_spacing_says():
    """The mean square of a B-spline's slope is (2/3) / (151/315) over the square of the spacing."""
    gaps = torch.tensor([[6.0, 12.0], [12.0, 24.0]]).repeat(1500, 1)
    values = Draw(generator(), 3000).field(1, gaps, (20, 20)).values((20, 20))[:, 0]
    for which, (along, across) in enumerate(gaps[:2].tolist()):
        own = values[which::2]
        assert own.std().item() == pytest.approx(1, rel=0.05)
        for axis, gap in ((1, along), (2, across)):
            slope = own.diff(dim=axis).square().mean().item()
            assert slope == pytest.approx(2 / 3 / (151 / 315) / gap**2, rel=0.08)


def test_a_field_is_scipys_cubic_b_spline():
    draw = Draw(generator(), 2)
    field = draw.field(1, (5.0, 7.0), (11, 9))
    weights = [field._weights(axis, size) for axis, size in ((0, 11), (1, 9))]
    assert all(torch.allclose(w.sum(1), torch.ones(2, w.shape[2])) for w in weights)
    expected = np.zeros((11, 9))
    for i in range(11):
        for j in range(9):
            place = [[i / 5 + field.phase[1, 0] + 1], [j / 7 + field.phase[1, 1] + 1]]
            expected[i, j] = ndimage.map_coordinates(
                field.coefficients[1, 0].numpy().astype(float), place, order=3, prefilter=False
            )[0]
    found = field.values((11, 9))[1, 0].numpy() * (151 / 315)
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_elastic_field_moves_content_by_its_displacement():
    """Of a ramp along an axis, each voxel shows the place that its displacement points to."""
    size = (12, 10, 8)
    ramp = torch.arange(24.0)[:, None, None].expand(24, 22, 20)
    field = Draw(generator(3), 1).field(3, (8.0,) * 3, size)
    field = field.times(torch.tensor([[1.0, 1.0, 1.0]]))
    out, _ = resample(
        ramp[None, None].contiguous(),
        torch.zeros(1, 24, 22, 20, dtype=torch.uint8),
        placed(torch.eye(3, 4, dtype=torch.float64)[None], [True], field),
        size,
    )
    places = torch.arange(12.0)[:, None, None] + 6
    torch.testing.assert_close(out[0, 0], places + field.values(size)[0, 0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_labels_are_those_of_the_nearest_voxel(dims):
    """Held against grid_sample's nearest neighbour, also outside the source."""
    draw = torch.Generator().manual_seed(0)
    source, patch = (13, 11, 9)[:dims], (12, 14, 10)[:dims]
    labels = torch.randint(0, 4, (3, *source), dtype=torch.uint8, generator=draw)
    places = torch.rand(3, dims, *patch, generator=draw) * 18 - 3
    found = spatial.nearest(labels, places.clone())
    sizes = torch.tensor(source[::-1]).reshape(-1, *[1] * dims)
    grid = ((2 * places + 1) / sizes - 1).movedim(1, -1)
    expected = torch.nn.functional.grid_sample(
        labels[:, None].float(), grid, mode="nearest", align_corners=False
    )[:, 0]
    assert (found != expected).float().mean() < 1e-3  # halves may round either way
    assert (found == 0).any() and (found == 3).any()


def test_more_threads_give_the_same_patch(own_torch):
    images, labels, spacing, axes = batch_of(1)
    settings = Augmentation(**NOTHING | {"affine_probability": 1.0})
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(
            augment(
                images,
                labels,
                settings,
                PatchGeometry((12, 10, 8), spacing, axes, 3.0),
                Draw(generator(), len(images)),
            )
        )
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_a_bias_field_has_mean_1_and_leaves_the_darkest_voxel():
    images = torch.rand(3, 2, 12, 10) + 4
    sd = torch.full((3, 2, 1, 1), 0.3)
    field = Draw(generator(), 3).field(2, (6.0, 5.0), (12, 10)).values((12, 10))
    flat = torch.cat([torch.full((3, 2, 12, 1), 5.0), torch.full((3, 2, 12, 1), 4.0)], 3)
    # On a patch that is 1 above its darkest voxel, what comes out is the factor itself.
    out = module.bias(images, sd, field)
    low = images.amin((2, 3), keepdim=True)
    assert torch.equal(out.amin((2, 3), keepdim=True), low)
    ones = images * 0 + 1
    ones[:, :, 0, 0] = 0
    factor = module.bias(ones, sd, field)
    expected = (sd * field).exp()
    expected /= expected.mean((2, 3), keepdim=True)
    torch.testing.assert_close(factor[:, :, 1:], expected[:, :, 1:])
    assert expected.mean((2, 3)).tolist() == [[pytest.approx(1)] * 2] * 3
    assert module.bias(flat, sd * 0, field[:, :, :, :2]).equal(flat)


def test_a_lower_resolution_repeats_what_fewer_voxels_show():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = module.lower_resolution(image, torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, 2).bool())
    few = torch.tensor([[5.0, 7.0], [13.0, 15.0]])[None, None]  # the nearest voxels
    expected = torch.nn.functional.interpolate(few, (4, 4), mode="bilinear")
    assert torch.equal(found, expected)
    kept = module.lower_resolution(
        image, torch.full((1, 1, 1, 1), 0.5), torch.tensor([[True, False]])
    )
    assert kept[0, 0, :, 0].tolist() == [1, 5, 9, 13]  # each row for itself
    same = module.lower_resolution(image, torch.ones(1, 1, 1, 1), torch.zeros(1, 2).bool())
    assert torch.equal(same, image)


def test_a_part_of_a_batch_is_changed_as_in_the_whole():
    everything = Augmentation(
        **dict.fromkeys(NOTHING, 0.7), shear=0.1, flip_axes=("right_left", "foot_head")
    )
    images, labels, spacing, axes = batch_of(4)
    whole = augment(
        images,
        labels,
        everything,
        PatchGeometry((12, 10, 8), spacing, axes, 3.0),
        Draw(generator(), len(images)),
    )
    for number in range(2):
        own = slice(2 * number, 2 * number + 2)
        part = augment(
            images[own],
            labels[own],
            everything,
            PatchGeometry((12, 10, 8), spacing[own], axes[own], 3.0),
            Draw(generator(), 2, (number, 2)),
        )
        torch.testing.assert_close(part[0], whole[0][own])
        assert torch.equal(part[1], whole[1][own])


@pytest.mark.long
def test_the_benchmark_runs():
    run = run_quickly("augmentation")
    assert run.returncode == 0, run.stderr
    assert "| small | 16x24x16 | segstudy |" in run.stdout


def changed(images, margin=0, **settings):
    """Patches (batch, 1, x, y) after the changes of these settings, their middle where a margin is given."""
    count, _, *size = images.shape
    patch = tuple(have - 2 * margin for have in size)
    out, _ = augment(
        images,
        torch.zeros(count, *size, dtype=torch.uint8),
        Augmentation(**NOTHING | settings),
        PatchGeometry(patch, torch.ones(count, 2), torch.arange(2).repeat(count, 1), 3.0),
        Draw(generator(), count),
    )
    return out


@pytest.mark.parametrize("voxels", [0.5, 2.0])
@pytest.mark.parametrize("spacing", [12.0, 24.0])
def test_a_deformation_is_as_large_and_as_smooth_as_asked(voxels, spacing):
    """A ramp shows the displacement along its axis, since it is interpolated exactly.

    Its SD is uniform up to `elastic_voxels`, so its mean square is a third of the square of that. A cubic B-spline's
    mean square slope is (2/3) / (151/315) of its mean square, in units of the distance of its control points.
    """
    ramp = torch.arange(64.0)[:, None].expand(600, 1, 64, 64).contiguous()
    deformation = {"elastic_probability": 1.0, "elastic_voxels": voxels}
    out = changed(ramp, margin=16, elastic_spacing_voxels=spacing, **deformation)
    displacement = out - ramp[..., 16:-16, 16:-16]
    square = displacement.square().mean()
    assert float(square) == pytest.approx(voxels**2 / 3, rel=0.15)
    slope = displacement.diff(dim=3).square().mean()
    assert float(slope / square) == pytest.approx((2 / 3) / (151 / 315) / spacing**2, rel=0.15)


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_as_many_patches_are_deformed_as_asked(probability):
    ramp = torch.arange(16.0)[:, None].expand(500, 1, 16, 16).contiguous()
    out = changed(ramp, margin=4, elastic_probability=probability, elastic_voxels=1.0)
    moved = (out != ramp[..., 4:-4, 4:-4]).flatten(1).any(1).float().mean()
    assert float(moved) == pytest.approx(probability, abs=0.06)


@pytest.mark.parametrize("sd", [0.1, 0.3])
def test_a_bias_field_is_as_strong_as_asked(sd):
    """Its logarithm has an SD that is uniform up to `bias_sd`; within a patch its mean is taken out.

    So fields of 0.3 are three times those of 0.1, drawn by the same numbers, and bounded by the closed form of
    fields whose mean stays.
    """
    image = torch.ones(800, 1, 24, 24)
    image[:, :, 0, 0] = 0  # intensities are counted from the darkest voxel
    field = changed(image, bias_probability=1.0, bias_sd=sd)[:, :, 4:, 4:].log()
    inside = (field - field.mean((1, 2, 3), keepdim=True)).square().mean().sqrt()
    third = changed(image, bias_probability=1.0, bias_sd=sd / 3)[:, :, 4:, 4:].log()
    weaker = (third - third.mean((1, 2, 3), keepdim=True)).square().mean().sqrt()
    assert float(inside / weaker) == pytest.approx(3, rel=0.01)
    assert 0.5 < float(inside) / (sd / math.sqrt(3)) < 1


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_a_patch_is_blurred_by_the_sigma_asked_for(sigma):
    """A narrow range settles the sigma; the peer is scipy's filter."""
    image = torch.from_numpy(
        np.random.default_rng(0).normal(size=(2, 1, 16, 16)).astype(np.float32)
    )
    out = changed(image.clone(), blur_probability=1.0, blur_sigma_voxels=(sigma, sigma))
    for blurred, plain in zip(out[:, 0].numpy(), image[:, 0].numpy(), strict=True):
        expected = ndimage.gaussian_filter(plain, sigma, mode="nearest", truncate=6)
        assert blurred[5:-5, 5:-5] == pytest.approx(expected[5:-5, 5:-5], abs=0.01)


@pytest.mark.parametrize("size", [(10, 8), (10, 8, 6)], ids=["2D", "3D"])
@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_read_outside_a_patchs_reach(size, seed):
    """NaN everywhere else changes no voxel of a patch."""
    change = Augmentation(
        rotation_deg=40,
        scale=(0.7, 1.4),
        shear=0.2,
        translation_voxels=2,
        affine_probability=0.7,
        elastic_probability=0.5,
        elastic_voxels=0.6,
        elastic_spacing_voxels=4,
        flip_axes=("right_left", "back_front"),
    )
    dims = len(size)
    spacing_mm = torch.tensor([[1.0, 1.3, 2.0][:dims]] * 6)
    geometry = PatchGeometry(size, spacing_mm, torch.arange(dims).repeat(6, 1), 3.0)
    source = source_size(size, change, spacing_mm[0].tolist(), 3.0)
    placement = place(change, geometry, Draw(torch.Generator().manual_seed(seed), 6))
    boxes = placement.reach(source, size)
    random = torch.Generator().manual_seed(1)
    images = torch.rand(6, 1, *source, generator=random)
    labels = torch.randint(1, 200, (6, *source), generator=random).byte()
    known = torch.zeros(6, 1, *source, dtype=torch.bool)
    for patch, box in enumerate(boxes):
        known[(patch, 0, *box)] = True
    assert known.float().mean() < 0.8
    expected = resample(images, labels, placement, size)
    found = resample(
        images.where(known, torch.nan), labels.where(known[:, 0], 255), placement, size
    )
    for part, right in zip(found, expected, strict=True):
        assert torch.equal(part, right)


@pytest.mark.parametrize(
    ("patch", "planes"),
    [((10, 8, 6), ("axial",)), ((10, 8), ("axial", "sagittal"))],
    ids=["3D", "2D"],
)
def test_a_step_of_what_is_needed_is_that_of_all(patch, planes):
    """The sampler reads the boxes that the step will draw; what the network sees is the same to the bit."""
    random = np.random.default_rng(0)
    shape, change = (21, 18, 15), Augmentation(affine_probability=0.6)
    label = random.integers(0, 3, shape).astype(np.uint8)
    foreground = {n: np.argwhere(label == n) for n in (1, 2)}
    image = random.normal(size=(2, *shape)).astype(np.float32)
    case = TrainingCase("toy", "a", image, label, foreground, (1.0, 1.0, 1.5))
    source = source_size(patch, change, (1.0, 1.0, 1.5)[: len(patch)], 3.0)

    def reach(step, spacing_mm, axes):
        geometry = PatchGeometry(patch, spacing_mm, axes, 3.0)
        return place(change, geometry, draw_of_step(7, step, 4)).reach(source, patch)

    whole = Sampler([case], patch, source, planes, 4, 0.5, 0)
    for step in range(4):
        seen = []
        for sampler in (whole, replace(whole, reach=reach)):
            batch = sampler.batch(step)
            geometry = PatchGeometry(patch, batch.spacing_mm, batch.axes, 3.0)
            draw = draw_of_step(7, step, 4)
            seen.append(augment(batch.images, batch.labels, change, geometry, draw))
        for part, right in zip(*seen, strict=True):
            assert torch.equal(part, right)
