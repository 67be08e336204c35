"""ENet against the paper's table and its arithmetic."""

import pytest
import torch
from torch import nn

from segstudy.errors import InputError
from segstudy.networks import build
from segstudy.networks.enet import EPSILON, Bottleneck, Downsampling, Enet, Upsampling
from segstudy.study import EnetModel


def enet(inputs=1, classes=3, **settings):
    torch.manual_seed(0)
    return build(EnetModel(network="enet", **settings), inputs, classes, (32, 32), (1.0, 1.0))


def expected_parameters(inputs, classes, width):
    """Added up from the paper's table: convolutions without bias, then normalisation and (P)ReLU."""
    narrow, middle, wide = width, 4 * width, 8 * width

    def norm(channels, relu=False):
        return 2 * channels + (0 if relu else channels)

    def bottleneck(channels, taps=9, relu=False):
        inner = channels // 4
        ends = 2 * channels * inner + norm(inner, relu) + 2 * channels
        middle = taps * inner * inner + norm(inner, relu)
        return ends + middle + (0 if relu else channels)

    def down(source, target):
        inner = target // 4
        first = 4 * source * inner + norm(inner)
        return first + 9 * inner**2 + norm(inner) + inner * target + 2 * target + target

    def up(source, target):
        inner = target // 4
        main = source * target + 2 * target
        branch = source * inner + 2 * inner + 9 * inner**2 + 2 * inner
        return main + branch + inner * target + 2 * target

    initial = 9 * inputs * (narrow - inputs) + norm(narrow)
    context = 6 * bottleneck(wide) + 2 * bottleneck(wide, taps=10)
    encoder = down(narrow, middle) + 4 * bottleneck(middle) + down(middle, wide) + 2 * context
    decoder = up(wide, middle) + 2 * bottleneck(middle, relu=True)
    decoder += up(middle, narrow) + bottleneck(narrow, relu=True)
    return initial + encoder + decoder + 4 * narrow * classes + classes


@pytest.mark.parametrize(("inputs", "classes", "width"), [(1, 5, 16), (3, 20, 16), (4, 2, 8)])
def test_parameters_are_those_of_the_formula(inputs, classes, width):
    network = enet(inputs, classes, channels=width)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == expected_parameters(inputs, classes, width)


BIASES = 13 + 5 * 16 + 32 + 16 * 32 + (16 + 2 * 16) + (4 + 4)
"""In front of normalisations, which take them away: e-lab/ENet-training has them, by stage."""


@pytest.mark.parametrize(("classes", "expected"), [(12, 363_163), (20, 363_683)])
def test_parameters_are_those_of_the_authors_code(classes, expected):
    """For colour images of CamVid and Cityscapes; Paszke et al. 2016, table 3: 0.37 million."""
    count = sum(parameter.numel() for parameter in enet(3, classes).parameters())
    assert count == expected
    assert count + BIASES == pytest.approx(0.37e6, rel=0.02)


def test_the_decoder_upsamples_as_the_authors_code_does():
    """SpatialFullConvolution(n, n, 3, 3, 2, 2, 1, 1, 1, 1) twice, and (16, classes, 2, 2, 2, 2)."""
    network = enet()
    found = [
        (m.kernel_size, m.stride, m.padding, m.output_padding)
        for m in network.modules()
        if isinstance(m, nn.ConvTranspose2d)
    ]
    three = ((3, 3), (2, 2), (1, 1), (1, 1))
    assert found == [three, three, ((2, 2), (2, 2), (0, 0), (0, 0))]
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_context_stages_hold_the_bottlenecks_of_the_papers_table():
    for stage in (enet().stage2, enet().stage3):
        found = []
        for block in stage:
            middle = [m for m in block.branch if isinstance(m, nn.Conv2d)][1:-1]
            found.append([(m.kernel_size, m.dilation[0]) for m in middle])
        regular, asymmetric = [((3, 3), 1)], [((5, 1), 1), ((1, 5), 1)]
        assert found == [
            regular,
            [((3, 3), 2)],
            asymmetric,
            [((3, 3), 4)],
            regular,
            [((3, 3), 8)],
            asymmetric,
            [((3, 3), 16)],
        ]


def test_dropout_is_a_tenth_in_the_first_stage():
    network = enet(dropout=0.1)
    rates = {
        stage: {m.p for m in getattr(network, stage).modules() if isinstance(m, nn.Dropout2d)}
        for stage in ("down1", "stage1", "down2", "stage3", "stage5")
    }
    assert rates["down1"] == rates["stage1"] == {0.1 / 10}
    assert rates["down2"] == rates["stage3"] == rates["stage5"] == {0.1}


def test_the_encoder_has_prelu_and_the_decoder_relu():
    network = enet()
    for name, part in network.named_children():
        kinds = {type(m) for m in part.modules()} & {nn.PReLU, nn.ReLU}
        if name in ("up4", "stage4", "up5", "stage5"):
            assert kinds == {nn.ReLU}
        elif name != "head":
            assert kinds == {nn.PReLU}


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (8, 9), (61, 24)])
def test_any_size_comes_back(size):
    network = enet().eval()
    with torch.no_grad():
        assert network(torch.randn(2, 1, *size)).shape == (2, 3, *size)


def test_gradients_reach_every_parameter():
    network = enet(2, 4)
    network(torch.randn(2, 2, 32, 32)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_unpooling_puts_values_where_the_maxima_were():
    """With the branches silent, down and up again leave each maximum in its own place."""
    torch.manual_seed(0)
    down, up = Downsampling(4, 8, 0.0).eval(), Upsampling(8, 4, 0.0).eval()
    for block in (down, up):
        nn.init.zeros_(block.branch[-2].weight)  # scale of the last normalisation
    with torch.no_grad():
        up.main[0].weight.copy_(torch.eye(4, 8)[:, :, None, None])
    image = torch.rand(1, 4, 8, 8) + 0.1
    with torch.no_grad():
        features, places = down(image)
        result = up(features, places)
    maxima = (
        torch.nn.functional.max_pool2d(image, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    # A normalisation that has seen nothing yet divides by the root of 1 and its epsilon.
    expected = torch.where(image == maxima, image, 0.0) / (1 + EPSILON) ** 0.5
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_a_bottleneck_begins_as_its_input_where_its_branch_is_silent():
    block = Bottleneck(8, 0.0, relu=True).eval()
    nn.init.zeros_(block.branch[-2].weight)
    features = torch.randn(1, 8, 5, 5)
    assert torch.equal(block(features), features.relu())


def test_more_image_channels_than_the_first_block_holds_are_refused():
    with pytest.raises(
        InputError, match="channels: 4 for images of 4 channels; expected at least 5"
    ):
        enet(4, 2, channels=4)


def test_it_is_stored_channels_last():
    assert isinstance(enet(), Enet)
    weight = enet().stage1[0].branch[3].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
