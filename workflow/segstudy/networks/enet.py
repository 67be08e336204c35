"""ENet (Paszke, Chaurasia, Kim, Culurciello 2016, arXiv:1606.02147), for slices.

Written from the paper; where it leaves a choice, as the authors' Torch code has it
(github.com/e-lab/ENet-training): inner width a quarter of a block's output, a 3x3 transposed
convolution where the decoder doubles the resolution and a 2x2 one at the end, batch normalisation
after every convolution, with their epsilon. Two things differ from that code, not from the paper:
it has biases in front of normalisations, which take them away, and no dropout in the decoder.
The paper's widths are those of `channels: 16`.
"""

from collections.abc import Sequence

import torch
from torch import nn

from segstudy.errors import InputError
from segstudy.networks.padding import crop, pad_to_multiple
from segstudy.study import EnetModel

MULTIPLE = (8, 8)
EPSILON = 1e-3
"""Of batch normalisation, as the authors' code sets it."""


def build(
    model: EnetModel,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> nn.Module:
    """Build an ENet with He initialisation, stored channels last; patch size and spacing do not shape it."""
    if in_channels >= model.channels:
        raise InputError(
            f"channels: {model.channels} for images of {in_channels} channels; "
            f"expected at least {in_channels + 1} (ENet's first block passes the image through)"
        )
    network = Enet(in_channels, classes, model.channels, model.dropout)
    network.apply(_initialise)
    return network.to(memory_format=torch.channels_last)


def strides(
    model: EnetModel, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return by how much an ENet shrinks a slice along each axis."""
    return MULTIPLE


class Enet(nn.Module):
    """Map slices (batch, channel, x, y) of any size to logits (batch, class, x, y).

    channels: width of the initial block; the stages have 4 and 8 times as many.
    dropout: spatial dropout of the bottlenecks; a tenth of it in the first stage, as in the paper.
    """

    def __init__(self, in_channels: int, classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        narrow, middle, wide = channels, 4 * channels, 8 * channels
        self.initial = Initial(in_channels, narrow)
        self.down1 = Downsampling(narrow, middle, dropout / 10)
        self.stage1 = nn.Sequential(*(Bottleneck(middle, dropout / 10) for _ in range(4)))
        self.down2 = Downsampling(middle, wide, dropout)
        self.stage2 = _context(wide, dropout)
        self.stage3 = _context(wide, dropout)
        self.up4 = Upsampling(wide, middle, dropout)
        self.stage4 = nn.Sequential(*(Bottleneck(middle, dropout, relu=True) for _ in range(2)))
        self.up5 = Upsampling(middle, narrow, dropout)
        self.stage5 = Bottleneck(narrow, dropout, relu=True)
        self.head = nn.ConvTranspose2d(narrow, classes, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, *size) of images (batch, channel, *size)."""
        features = self.initial(pad_to_multiple(images, MULTIPLE))
        features, places1 = self.down1(features)
        features, places2 = self.down2(self.stage1(features))
        features = self.stage3(self.stage2(features))
        features = self.stage4(self.up4(features, places2))
        features = self.stage5(self.up5(features, places1))
        return crop(self.head(features), images.shape[2:])


class Initial(nn.Module):
    """Halve the image: a strided convolution beside the max-pooled image itself."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, channels - in_channels, 3, stride=2, padding=1, bias=False
        )
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Sequential(_normalisation(channels), nn.PReLU(channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features at half the size of the images."""
        return self.out(torch.cat([self.convolution(images), self.pool(images)], dim=1))


class Bottleneck(nn.Module):
    """Shrink the channels to a quarter, convolve, expand, add to the input.

    The middle convolution is 3x3, 3x3 with `dilation`, or (`asymmetric`) 5x1 then 1x5.
    """

    def __init__(
        self,
        channels: int,
        dropout: float,
        *,
        dilation: int = 1,
        asymmetric: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        inner = channels // 4
        if asymmetric:
            middle = [
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            ]
        else:
            middle = [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
        self.branch = nn.Sequential(
            *_normalised(nn.Conv2d(channels, inner, 1, bias=False), inner, relu),
            *middle[:-1],
            *_normalised(middle[-1], inner, relu),
            *_expansion(inner, channels, dropout),
        )
        self.out = _activation(channels, relu)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features of the same size."""
        return self.out(features + self.branch(features))


class Downsampling(nn.Module):
    """Halve the resolution: max-pooling, its new channels filled with 0, beside a bottleneck.

    Gives the features and the places of the maxima, which the decoder unpools to.
    """

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = outputs // 4
        self.added = outputs - inputs
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.branch = nn.Sequential(
            *_normalised(nn.Conv2d(inputs, inner, 2, stride=2, bias=False), inner),
            *_normalised(nn.Conv2d(inner, inner, 3, padding=1, bias=False), inner),
            *_expansion(inner, outputs, dropout),
        )
        self.out = _activation(outputs)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features at half the size, and the places of the maxima."""
        pooled, places = self.pool(features)
        wider = nn.functional.pad(pooled, (0, 0, 0, 0, 0, self.added))
        return self.out(wider + self.branch(features)), places


class Upsampling(nn.Module):
    """Double the resolution: unpooling to where the maxima were, beside a bottleneck."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = max(outputs // 4, 1)
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), _normalisation(outputs)
        )
        self.unpool = nn.MaxUnpool2d(2)
        self.branch = nn.Sequential(
            *_normalised(nn.Conv2d(inputs, inner, 1, bias=False), inner, relu=True),
            *_normalised(
                nn.ConvTranspose2d(
                    inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False
                ),
                inner,
                relu=True,
            ),
            *_expansion(inner, outputs, dropout),
        )
        self.out = _activation(outputs, relu=True)

    def forward(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return features at twice the size, unpooled to the places of the maxima."""
        return self.out(self.unpool(self.main(features), places) + self.branch(features))


def _context(channels: int, dropout: float) -> nn.Sequential:
    """Build stages 2 and 3: a regular, dilated and asymmetric bottlenecks in turn, ever wider dilation."""
    blocks: list[nn.Module] = []
    for near, far in ((2, 4), (8, 16)):
        blocks += [
            Bottleneck(channels, dropout),
            Bottleneck(channels, dropout, dilation=near),
            Bottleneck(channels, dropout, asymmetric=True),
            Bottleneck(channels, dropout, dilation=far),
        ]
    return nn.Sequential(*blocks)


def _normalisation(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, EPSILON)


def _normalised(convolution: nn.Module, channels: int, relu: bool = False) -> list[nn.Module]:
    return [convolution, _normalisation(channels), _activation(channels, relu)]


def _expansion(inner: int, channels: int, dropout: float) -> list[nn.Module]:
    expand = nn.Conv2d(inner, channels, 1, bias=False)
    return [expand, _normalisation(channels), nn.Dropout2d(dropout)]


def _activation(channels: int, relu: bool = False) -> nn.Module:
    """Build PReLU with a slope a channel in the encoder, ReLU in the decoder."""
    return nn.ReLU(inplace=True) if relu else nn.PReLU(channels)


def _initialise(layer: nn.Module) -> None:
    """Initialise every convolution after He et al. 2015, with PReLU's first slope."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(layer.weight, a=0.25, nonlinearity="leaky_relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
