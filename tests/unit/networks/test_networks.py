"""Every network that a study can name: sizes, parameters, gradients, and whether it learns at all."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional

from segstudy.errors import InputError
from segstudy.images.overlap import dice
from segstudy.networks import build, modules, strides
from segstudy.networks.attention import Cbam, SqueezeExcitation
from segstudy.networks.initial_weights import layers_of
from segstudy.networks.layer_names import layer_names
from segstudy.study import AnyModel

MAX_POOL = {"downsampling": "max_pool", "activation": "relu", "deep_supervision": False}
KERAS = MAX_POOL | {"normalisation": "none", "initialisation": "he_uniform"}

# Small ones of each kind, in the patch that they take.
UNET = {"network": "unet", "channels": [8, 16]}
SMALL = {
    "enet": ({"network": "enet", "dropout": 0.0}, (32, 32)),
    "unet_2d": (UNET | {"dims": 2}, (32, 32)),
    "unet_3d": (UNET, (16, 16, 16)),
    "unet_3d_deep": (UNET | {"channels": [8, 8, 12, 16]}, (32, 32, 8)),
    "max_pool": (UNET | KERAS | {"dims": 2, "channels": [8, 16, 32]}, (32, 32)),
    "nearest": (UNET | MAX_POOL | {"upsampling": "nearest"}, (16, 16, 16)),
    "linear": (UNET | {"upsampling": "linear", "initialisation": "default"}, (16, 16, 16)),
    "one_convolution": (UNET | {"convolutions_per_level": 1}, (16, 16, 16)),
    "se": (UNET | {"attention": "se"}, (16, 16, 16)),
    "cbam": (UNET | {"attention": "cbam", "dims": 2}, (32, 32)),
    "cbam_3d": (UNET | {"attention": "cbam"}, (16, 16, 16)),
    "head": (UNET | {"head": {"hidden": 16}}, (16, 16, 16)),
    "head_deep": (UNET | {"channels": [8, 8, 12, 16], "head": {"hidden": 16}}, (32, 32, 8)),
    "head_enet": ({"network": "enet", "dropout": 0.0, "head": {"layers": 1}}, (32, 32)),
    "attention_unet_2d": (
        {"network": "attention_unet", "dims": 2, "channels": [8, 16, 32]},
        (32, 32),
    ),
    "attention_unet_3d": ({"network": "attention_unet", "channels": [8, 16]}, (16, 16, 16)),
    "unetr_2d": (
        {"network": "unetr", "dims": 2, "feature_size": 8, "hidden_size": 48, "heads": 4},
        (32, 32),
    ),
    "unetr_3d": (
        {"network": "unetr", "feature_size": 4, "hidden_size": 24, "heads": 2},
        (16, 16, 32),
    ),
    "swin_unetr_2d": ({"network": "swin_unetr", "dims": 2, "feature_size": 12}, (64, 64)),
    "swin_unetr_3d": (
        {"network": "swin_unetr", "feature_size": 12, "depths": [1] * 4, "window_size": 4},
        (32, 32, 64),
    ),
}


def network(settings, patch, inputs=1, classes=3, spacing=None):
    model = TypeAdapter(AnyModel).validate_python(settings)
    torch.manual_seed(0)
    return build(model, inputs, classes, patch, spacing or (1.0,) * len(patch))


def parameters(*arguments, **further):
    return sum(parameter.numel() for parameter in network(*arguments, **further).parameters())


def phantom(patch):
    """An image (1, 1, *patch) of a ball and a rod in noise, and its label (1, *patch)."""
    draw = np.random.default_rng(3)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in patch], indexing="ij"))
    label = np.zeros(patch, np.int64)
    label[((places + 0.35) ** 2).sum(0) < 0.25] = 1
    label[((places[:2] - 0.5) ** 2).sum(0) < 0.1] = 2
    image = np.array([-1.0, 0.0, 1.0])[label] + draw.normal(0, 0.3, patch)
    return torch.from_numpy(image).float()[None, None], torch.from_numpy(label)[None]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "swin_unetr_3d" else []) for n in SMALL],
)
def test_it_overfits_one_case(name):
    settings, patch = SMALL[name]
    model = network(settings, patch).train()
    images, labels = phantom(patch)
    rate = 4e-3 if "unetr" in name or name == "head_enet" else 2e-2
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(150):
        found = model(images)
        logits = found if isinstance(found, torch.Tensor) else found[0]
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        overlaps = dice(labels.numpy(), logits.argmax(1).numpy(), classes=3)
        if min(overlaps) > 0.95:
            return
    pytest.fail(f"Dice {overlaps} after 150 steps")


@pytest.mark.parametrize("name", SMALL)
def test_any_size_comes_back(name):
    settings, patch = SMALL[name]
    model = network(settings, patch, inputs=2).eval()
    # What a patch holds, and odd sizes; UNETR takes nothing larger than its patch.
    sizes = [patch, tuple(n - 3 for n in patch)]
    if "unetr" not in name or "swin" in name:
        sizes.append((patch[0] + 5, *patch[1:]))
    for size in sizes:
        with torch.no_grad():
            assert model(torch.randn(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name):
    settings, patch = SMALL[name]
    model = network(settings, patch).train()
    found = model(torch.randn(2, 1, *patch))
    found = [found] if isinstance(found, torch.Tensor) else found
    sum((one * torch.randn_like(one)).sum() for one in found).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        # MONAI's biases before a normalisation have no effect, but for rounding.
        if not (key.endswith("bias") and settings["network"] in ("attention_unet", "swin_unetr")):
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", [name for name in SMALL if not name.startswith("unetr")])
def test_what_strides_says_is_enough(name):
    """A patch of the multiples that `strides` tells is padded nowhere: deep supervision takes it."""
    settings, patch = SMALL[name]
    model = TypeAdapter(AnyModel).validate_python(settings)
    steps = strides(model, patch, (1.0,) * len(patch))
    assert all(size % step == 0 for size, step in zip(patch, steps, strict=True))
    network(settings, patch).train()(torch.randn(2, 1, *patch))


# --- published sizes ----------------------------------------------------------------------------

HIPPOCAMPUS = (40, 56, 40)
WIDE = [16, 32, 64, 128, 256]
PUBLISHED = {
    "brain tumour 2D": (
        {"network": "unet", "dims": 2, "channels": WIDE, "upsampling": "nearest"} | KERAS,
        (2, 4, (160, 160)),
        1_962_532,
        0,
    ),
    # Without normalisation; with batch normalisation it would be 5,647,732.
    "brain tumour 3D": (
        {"network": "unet", "channels": WIDE} | KERAS,
        (4, 4, (160, 160, 128)),
        5_649_652,
        7e-4,
    ),
    "hippocampus Lightweight": (
        {"network": "unet", "channels": [32, 48, 72, 120]},
        (1, 3, HIPPOCAMPUS),
        1.8e6,
        0.01,
    ),
    "hippocampus Balanced": (
        {"network": "unet", "channels": [48, 72, 112, 160], "deep_supervision": False},
        (1, 3, HIPPOCAMPUS),
        3.9e6,
        0.01,
    ),
    "hippocampus DeepSupervision": (
        {"network": "unet", "channels": [48, 72, 112, 160]},
        (1, 3, HIPPOCAMPUS),
        3.9e6,
        0.01,
    ),
    # MONAI's own figures: the papers' nets at their patch of 96.
    "UNETR": ({"network": "unetr"}, (1, 14, (96, 96, 96)), 92.58e6, 0.01),
    "SwinUNETR": (
        {"network": "swin_unetr", "feature_size": 48},
        (4, 3, (64, 64, 64)),
        61.98e6,
        0.01,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name):
    settings, (inputs, classes, patch), published, tolerance = PUBLISHED[name]
    count = parameters(settings, patch, inputs, classes)
    print(f"{name}: {count:,} parameters, published {published:,.0f}")
    assert count == pytest.approx(published, rel=tolerance or 1e-12)


# --- attention ----------------------------------------------------------------------------------


def test_squeeze_and_excitation_is_its_formula():
    torch.manual_seed(0)
    layer, features = SqueezeExcitation(32), torch.randn(2, 32, 4, 5)
    first, _, second = layer.mlp
    assert first.out_features == 4
    pooled = features.mean((2, 3))
    hidden = (pooled @ first.weight.T + first.bias).clamp(min=0)
    weights = 1 / (1 + torch.exp(-(hidden @ second.weight.T + second.bias)))
    torch.testing.assert_close(layer(features), features * weights[:, :, None, None])


def test_cbam_weighs_channels_then_places():
    torch.manual_seed(0)
    layer, features = Cbam(8, (3, 3, 1)), torch.randn(2, 8, 6, 7, 3)
    assert layer.places.kernel_size == (7, 7, 1)
    mean, peak = layer.mlp(features.mean((2, 3, 4))), layer.mlp(features.amax((2, 3, 4)))
    weighted = features * torch.sigmoid(mean + peak)[:, :, None, None, None]
    seen = torch.stack([weighted.mean(1), weighted.amax(1)], dim=1)
    places = torch.sigmoid(functional.conv3d(seen, layer.places.weight, padding=(3, 3, 0)))
    torch.testing.assert_close(layer(features), weighted * places)


# --- the coordinate head ------------------------------------------------------------------------


def test_coordinates_are_millimetres_from_the_middle():
    head = network(UNET | {"head": {}}, (16, 16, 8), spacing=(1.0, 0.5, 3.0))
    # The longest side is the last: 7 steps of 3 mm.
    places = head.coordinates(torch.zeros(2, 4, 16, 16, 8))
    assert places.shape == (2, 3, 16, 16, 8)
    assert places[0, 2, 0, 0].tolist() == pytest.approx(np.linspace(-1, 1, 8).tolist())
    assert places[1, 0, :, 3, 2].tolist() == pytest.approx(np.linspace(-7.5, 7.5, 16) / 10.5)
    assert places[0, 1, 0, -1, 0].item() == pytest.approx(3.75 / 10.5)


def test_an_image_that_is_padded_to_the_patch_keeps_its_coordinates():
    """A volume smaller than the patch lies in its middle: its voxels are as far from it as before."""
    head = network(UNET | {"head": {}}, (16, 16, 8), spacing=(1.0, 1.0, 2.0))
    whole, part = (head.coordinates(torch.zeros(1, 1, *size)) for size in ((16, 16, 8), (8, 8, 4)))
    torch.testing.assert_close(whole[:, :, 4:12, 4:12, 2:6], part)


def test_sine_layers_begin_as_in_the_paper():
    head = network(
        {"network": "unet", "channels": [8, 16], "head": {"hidden": 64, "layers": 3, "omega": 30}},
        (16, 16, 16),
    )
    first, *later = head.sines
    assert first.weight.abs().max().item() == pytest.approx(1 / 67, rel=0.01)
    for layer in later:
        assert layer.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 64) / 30, rel=0.01)
    # Inputs in [-1, 1] then have, after a layer, the spread of an arcsine distribution.
    values = torch.rand(4000, 64) * 2 - 1
    weight = later[0].weight.flatten(1)
    spread = torch.sin(30 * values.sin() @ weight.T).std().item()
    assert 0.4 < spread < 0.8


def test_a_head_depends_on_where_a_voxel_lies_and_a_network_without_does_not():
    even = torch.zeros(1, 1, 16, 16, 16)
    for settings, differs in ((UNET, False), (UNET | {"head": {}}, True)):
        model = network(settings | {"normalisation": "none"}, (16, 16, 16)).eval()
        with torch.no_grad():
            logits = model(even)[0, :, 6:10, 6:10, 6:10].flatten(1)
        assert (logits.std(1).min().item() > 1e-3) == differs


def test_a_head_is_part_of_what_a_job_depends_on():
    adapter = TypeAdapter(AnyModel)
    assert modules(adapter.validate_python(UNET)) == ["networks.unet"]
    with_head = adapter.validate_python(UNET | {"head": {}})
    assert modules(with_head) == ["networks.unet", "networks.siren"]
    assert modules(adapter.validate_python({"trainer": "nnunet"})) == ["networks.nnunet"]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "patch", "message"),
    [
        ({"network": "unetr"}, (48, 40, 48), "48x40x48 voxels; expected multiples of 16"),
        ({"network": "swin_unetr"}, (32, 32, 32), "32x32x32 voxels; expected at least 64"),
        (
            {"network": "attention_unet", "channels": [8, 8, 8, 8]},
            (16, 16, 16),
            "16x16x16 voxels can be halved 2 times; give at most 3 levels",
        ),
    ],
)
def test_a_patch_that_a_network_cannot_take_is_refused(settings, patch, message):
    with pytest.raises(InputError, match=message):
        network(settings, patch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "unetr", "hidden_size": 100, "heads": 12}, "12 do not divide hidden_size"),
        ({"network": "swin_unetr", "heads": [5, 6, 12, 24]}, "5 do not divide a stage's 24"),
        ({"network": "swin_unetr", "feature_size": 20}, "multiple of 12"),
        ({"network": "unet", "head": {"hidden": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_a_network_cannot_have_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(AnyModel).validate_python(settings)


def test_an_image_larger_than_unetr_learned_places_for_is_refused():
    settings, patch = SMALL["unetr_2d"]
    with pytest.raises(ValueError, match="image of 33x32 voxels for a unetr of 32x32"):
        network(settings, patch)(torch.zeros(1, 1, 33, 32))


@pytest.mark.parametrize("kind", ["enet", "unet_3d_deep", "cbam", "head", "unetr_3d"])
def test_torch_compile_sees_one_graph(kind):
    """A break in the graph costs what compiling gains; SwinUNETR, MONAI's, has some."""
    settings, patch = SMALL[kind]
    net = network(settings, patch).train()
    images = torch.rand(2, 1, *patch)
    torch._dynamo.reset()
    torch.manual_seed(1)
    expected = net(images)
    torch.manual_seed(1)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    found = compiled(images)
    pairs = zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]
    for one, right in pairs:
        torch.testing.assert_close(one, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["unet_3d_deep", "cbam_3d", "head_deep", "head_enet", "attention_unet_2d", "unetr_2d", "swin_unetr_2d"])  # fmt: skip
def test_names_of_layers_are_known_before_the_data_are(name):
    """Of networks whose patch the data decide, and voxels of another shape."""
    settings, patch = SMALL[name]
    state = torch.get_rng_state()
    names = layer_names(TypeAdapter(AnyModel).validate_python(settings))
    assert torch.equal(torch.get_rng_state(), state)
    spacing = (0.5, 1.0, 3.0)[: len(patch)]
    assert names == list(layers_of(network(settings, patch, 2, 5, spacing)))
