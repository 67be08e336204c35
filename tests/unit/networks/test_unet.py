"""The U-Net against its arithmetic: parameters, shapes, strides, gradients."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segstudy.errors import InputError
from segstudy.networks import build, patch_spacing, strides
from segstudy.networks.topology import product, topology
from segstudy.networks.unet import InstanceNorm
from segstudy.study import UnetModel


def unet(dims=3, channels=(4, 8, 12), patch=None, spacing=None, classes=3, inputs=1, **further):
    model = UnetModel(network="unet", dims=dims, channels=channels, **further)
    torch.manual_seed(0)
    return build(model, inputs, classes, patch or (16,) * dims, spacing or (1.0,) * dims)


def expected_parameters(dims, inputs, classes, channels, heads):
    """Isotropic kernels of 3, strides of 2, a scale and a shift a channel of each normalisation."""

    def block(source, target):
        return 3**dims * (source * target + target * target) + 2 * 2 * target

    encoder = sum(map(block, (inputs, *channels), channels))
    up = sum(2**dims * low * high + high for high, low in itertools.pairwise(channels))
    decoder = sum(block(2 * width, width) for width in channels[:-1])
    return encoder + up + decoder + sum(channels[n] * classes + classes for n in range(heads))


@pytest.mark.parametrize(
    ("dims", "channels", "supervised", "heads"),
    [
        (2, (64, 128, 256, 512), True, 1),
        (3, (8, 16, 32), False, 1),
        (3, (8, 16, 32), True, 1),
        (3, (8, 16, 32, 64), True, 2),
    ],
)
def test_parameters_are_those_of_the_formula(dims, channels, supervised, heads):
    network = unet(dims, channels, (32,) * dims, classes=5, inputs=2, deep_supervision=supervised)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == expected_parameters(dims, 2, 5, channels, heads)


def test_a_coarse_axis_waits_until_the_others_have_caught_up():
    steps, kernels = topology(4, (64, 64, 16), (1.0, 1.0, 5.0))
    assert steps == [(1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)]
    # Voxels of level 0, 1, 2: 5, 2.5, 1.25 times as long as they are wide.
    assert kernels == [(3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)]


def test_isotropic_voxels_are_halved_alike():
    steps, kernels = topology(4, (32, 32, 32), (1.0, 1.0, 1.0))
    assert steps == [(1, 1, 1)] + [(2, 2, 2)] * 3
    assert kernels == [(3, 3, 3)] * 4


def test_an_axis_of_few_voxels_is_halved_no_further():
    steps, _ = topology(4, (64, 64, 10), (1.0, 1.0, 1.0))
    assert [step[2] for step in steps] == [1, 2, 1, 1]
    assert [step[0] for step in steps] == [1, 2, 2, 2]


def test_too_many_levels_are_refused_with_the_number_that_fits():
    with pytest.raises(InputError, match=r"5 levels.*16x16x16.*halved 2 times.*at most 3 levels"):
        topology(5, (16, 16, 16), (1.0, 1.0, 1.0))


def test_an_axis_of_seven_is_not_halved_and_voxels_of_twice_the_size_wait():
    steps, kernels = topology(5, (112, 160, 8), (1.0, 1.0, 2.0))
    assert steps == [(1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 1), (2, 2, 1)]
    # Of nnU-Net, get_pool_and_conv_props.
    assert kernels == [(3, 3, 1), *[(3, 3, 3)] * 4]
    steps, _ = topology(6, (112, 160, 8), (1.0, 1.0, 2.0))
    assert steps[-1] == (1, 2, 1)


SPACINGS = st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0]) | st.floats(0.3, 8)
"""Also of ratios that are exactly 2, 4, ..."""


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 3), st.data())
def test_strides_and_kernels_are_nnunets(dims, data):
    """For as many levels as nnU-Net gives a patch, and for the patch that it rounds it to."""
    module = "nnunetv2.experiment_planning.experiment_planners.network_topology"
    props = pytest.importorskip(module).get_pool_and_conv_props
    patch = data.draw(st.tuples(*[st.integers(8, 400)] * dims))
    spacing = data.draw(st.tuples(*[SPACINGS] * dims))
    _, steps, kernels, rounded, multiple = props(spacing, patch, 4, 999_999)
    if len(steps) < 2:
        return
    for size in (patch, tuple(map(int, rounded))):
        assert topology(len(steps), size, spacing) == (list(steps), list(kernels))
    assert product(steps) == tuple(multiple)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 3), st.integers(2, 7), st.data())
def test_a_patch_rounded_to_the_nearest_multiple_keeps_its_strides(dims, levels, data):
    patch = data.draw(st.tuples(*[st.integers(8, 600)] * dims))
    spacing = data.draw(st.tuples(*[SPACINGS] * dims))
    try:
        steps, kernels = topology(levels, patch, spacing)
    except InputError:
        return
    nearest = [
        max(1, round(size / step)) * step for size, step in zip(patch, product(steps), strict=True)
    ]
    assert topology(levels, nearest, spacing) == (steps, kernels)


@given(
    st.tuples(*[st.integers(8, 200)] * 3),
    st.tuples(*[st.floats(0.3, 8)] * 3),
    st.integers(2, 5),
)
def test_no_axis_falls_below_four_voxels(patch, spacing, levels):
    try:
        steps, _ = topology(levels, patch, spacing)
    except InputError:
        return
    for axis, size in enumerate(patch):
        for step in steps:
            size = math.ceil(size / step[axis])
        assert size >= 4


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [16, 17, 21])
def test_any_size_comes_back_in_evaluation(dims, size):
    network = unet(dims).eval()
    shape = (size, size - 3, size + 2)[:dims]
    with torch.no_grad():
        logits = network(torch.randn(2, 1, *shape))
    assert logits.shape == (2, 3, *shape)


def test_an_odd_size_gives_what_the_image_padded_with_zeros_gives():
    network = unet(2).eval()
    image = torch.randn(1, 1, 17, 14)
    with torch.no_grad():
        padded = network(functional.pad(image, (0, 2, 0, 3)))
        assert torch.equal(network(image), padded[:, :, :17, :14])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_gradients_reach_every_parameter(dims, norm):
    network = unet(
        dims, (4, 6, 8, 10), (32,) * dims, normalisation=norm, activation="relu", dropout=0.1
    )
    logits = network(torch.randn(2, 1, *(32,) * dims))
    logits = [logits] if dims == 2 else logits
    sum(one.square().mean() for one in logits).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_deep_supervision_gives_a_list_in_training_only():
    network = unet(3, (4, 6, 8, 10), (32, 32, 32))
    image = torch.randn(1, 1, 32, 32, 32)
    assert [tuple(one.shape[2:]) for one in network(image)] == [(32,) * 3, (16,) * 3]
    assert isinstance(network.eval()(image), torch.Tensor)
    plain = unet(3, (4, 6, 8, 10), (32, 32, 32), deep_supervision=False)
    assert isinstance(plain(image), torch.Tensor)


def test_first_weights_are_he_initialised():
    network = unet(3, (32, 64), (16, 16, 16))
    weights = network.encoder[1][0].weight
    fan_in = 32 * 27
    assert weights.std().item() == pytest.approx(math.sqrt(2 / (1.0001 * fan_in)), rel=0.02)
    assert network.heads[0].bias.abs().max() == 0


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.booleans(), st.booleans())
def test_instance_normalisation_is_that_of_its_formula(
    device, batch, channels, last, gradient_last
):
    """Against the formula in double precision: torch 2.13's own instance_norm gives wrong gradients
    on CPU for one image with a channels-last gradient, which the network has."""

    def laid_out(tensor, channels_last):
        layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        return tensor.contiguous(memory_format=layout)

    def formula(features):
        variance, mean = torch.var_mean(features, (2, 3, 4), correction=0, keepdim=True)
        scale, shift = (p.double().view(1, -1, 1, 1, 1) for p in (layer.weight, layer.bias))
        return (features - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    torch.manual_seed(0)
    features = laid_out(3 + 2 * torch.randn(batch, channels, 5, 6, 4), last).to(device)
    weights = laid_out(torch.randn(batch, channels, 5, 6, 4), gradient_last).to(device)
    layer = InstanceNorm(channels).to(device)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    results = []
    for apply, inputs in ((layer, features.clone()), (formula, features.double())):
        layer.zero_grad()
        outputs = apply(inputs.requires_grad_())
        (outputs * weights).sum().backward()
        gradients = (inputs.grad, layer.weight.grad.clone(), layer.bias.grad.clone())
        results.append([tensor.double() for tensor in (outputs, *gradients)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_strides_are_what_a_patch_must_be_a_multiple_of():
    model = UnetModel(network="unet", channels=(4, 8, 8, 8))
    assert strides(model, (64, 64, 16), (1.0, 1.0, 5.0)) == (8, 8, 2)
    network = build(model, 1, 2, (64, 64, 16), (1.0, 1.0, 5.0))
    with pytest.raises(ValueError, match="no multiple"):
        network(torch.zeros(1, 1, 60, 64, 16))


def test_spacing_of_a_patch_is_that_of_its_plane():
    assert patch_spacing((1.0, 2.0, 5.0), 3, ("axial",)) == (1.0, 2.0, 5.0)
    assert patch_spacing((1.0, 2.0, 5.0), 2, ("axial",)) == (1.0, 2.0)
    assert patch_spacing((1.0, 2.0, 5.0), 2, ("coronal",)) == (1.0, 5.0)
    assert patch_spacing((1.0, 2.0, 5.0), 2, ("sagittal",)) == (2.0, 5.0)
    assert patch_spacing((1.0, 2.0, 5.0), 2, ("axial", "sagittal")) == (1.0, 1.0)


def test_a_network_that_there_is_not_is_refused():
    model = UnetModel(network="unet").model_copy(update={"network": "vnet"})
    with pytest.raises(InputError, match="no network 'vnet'"):
        build(model, 1, 2, (32, 32, 32), (1.0, 1.0, 1.0))
