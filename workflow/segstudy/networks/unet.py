"""U-Net in 2D and 3D (Ronneberger et al. 2015; Çiçek et al. 2016), shaped as nnU-Net shapes it.

Each level is a block of convolutions, two unless told otherwise; the first convolution of a level
halves the resolution (or max pooling before it), a transposed convolution doubles it again (or
interpolation). Blocks may end in attention. Coarse axes are treated as in nnU-Net (Isensee et al.
2021): an axis is halved only once the finer ones have caught up with it, and convolved only
from there on.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from segstudy.networks.attention import attention
from segstudy.networks.padding import crop, pad_to_multiple
from segstudy.networks.topology import product, strides, topology
from segstudy.study import UnetModel

__all__ = ["build", "strides"]


def build(
    model: UnetModel,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> nn.Module:
    """Build a U-Net with fresh weights, stored channels last.

    Raises InputError where the patch cannot be halved as often as `channels` has levels.
    """
    steps, kernels = topology(len(model.channels), patch_size, spacing_mm)
    network = Unet(model, in_channels, classes, steps, kernels)
    if model.initialisation != "default":
        network.apply(lambda layer: _initialise(layer, model.initialisation, model.activation))
    # On CPU, convolutions forth and back are then 1.5 to 2 times faster (oneDNN).
    layout = torch.channels_last if model.dims == 2 else torch.channels_last_3d
    return network.to(memory_format=layout)


class Unet(nn.Module):
    """Map images (batch, channel, *size) of any size to logits (batch, class, *size) by a U-Net.

    strides, kernels: of each level, finest first.
    In training with deep supervision: a list of logits, one a decoder level but the coarsest
    (all, if there is only one), full resolution first.
    """

    def __init__(
        self,
        model: UnetModel,
        in_channels: int,
        classes: int,
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        dims, channels = model.dims, model.channels
        convolution, transposed = (
            (nn.Conv2d, nn.ConvTranspose2d) if dims == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        )

        def block(inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]):
            layers: list[nn.Module] = []
            if model.downsampling == "max_pool" and max(stride) > 1:
                layers.append((nn.MaxPool2d if dims == 2 else nn.MaxPool3d)(tuple(stride)))
                stride = (1,) * dims
            padding = tuple(size // 2 for size in kernel)
            for number in range(model.convolutions_per_level):
                source, step = (outputs, (1,) * dims) if number else (inputs, stride)
                # A normalisation takes away what a bias adds.
                biased = model.normalisation == "none"
                layers.append(convolution(source, outputs, kernel, step, padding, bias=biased))
                if not biased:
                    layers.append(_normalisation(model.normalisation, dims, outputs))
                layers.append(
                    nn.LeakyReLU(0.01, inplace=True)
                    if model.activation == "leaky_relu"
                    else nn.ReLU(inplace=True)
                )
                if model.dropout > 0:
                    layers.append((nn.Dropout2d if dims == 2 else nn.Dropout3d)(model.dropout))
            if model.attention != "none":
                layers.append(attention(model.attention, outputs, kernel))
            return nn.Sequential(*layers)

        levels = range(len(channels))
        self.multiple = product(strides)
        self.deep_supervision = model.deep_supervision and dims == 3
        self.encoder = nn.ModuleList(
            block(channels[i - 1] if i else in_channels, channels[i], kernels[i], strides[i])
            for i in levels
        )

        def up(level: int) -> nn.Module:
            step = tuple(strides[level + 1])
            if model.upsampling == "transposed":
                return transposed(channels[level + 1], channels[level], step, step)
            linear = "bilinear" if dims == 2 else "trilinear"
            return nn.Upsample(
                scale_factor=tuple(map(float, step)),
                mode=linear if model.upsampling == "linear" else "nearest",
            )

        # Channels that come from below: interpolation leaves them as many as they are.
        below = channels if model.upsampling == "transposed" else channels[1:]
        self.up = nn.ModuleList(map(up, levels[:-1]))
        self.decoder = nn.ModuleList(
            block(below[i] + channels[i], channels[i], kernels[i], (1,) * dims) for i in levels[:-1]
        )
        heads = max(1, len(channels) - 2) if self.deep_supervision else 1
        self.heads = nn.ModuleList(convolution(channels[i], classes, 1) for i in range(heads))

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return logits (batch, class, *size) of images (batch, channel, *size)."""
        size = images.shape[2:]
        features = pad_to_multiple(images, self.multiple)
        supervised = self.training and self.deep_supervision
        if supervised and features.shape != images.shape:
            raise ValueError(
                f"patch {tuple(size)} is no multiple of {self.multiple}: deep supervision needs one"
            )
        skips = []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
        logits = []
        for level in reversed(range(len(self.decoder))):
            features = torch.cat([self.up[level](features), skips[level]], dim=1)
            features = self.decoder[level](features)
            if level == 0 or (supervised and level < len(self.heads)):
                logits.append(self.heads[level](features))
        return logits[::-1] if supervised else crop(logits[-1], size)


class InstanceNorm(nn.Module):
    """Normalise each image by its own mean and SD (Ulyanov et al. 2016), with scale and shift a channel.

    torch's own brings tensors out of the channels-last layout, and the convolution after it has to
    bring them back; on CPU, for a batch of one, torch 2.13 then even gives wrong gradients. Batch
    normalisation of one image at a time is the same and keeps the layout: on a CPU a fifth less
    time a training step. On a GPU, many small images would be many small kernels, whose starts cost more
    than the copies.
    """

    EPSILON = 1e-5
    MOST_APART = 4
    """Images of a batch that a GPU normalises one at a time, however small they are."""
    LARGE = 2**20
    """Values of an image that a GPU copies in about the time that it starts a kernel in (reckoned, at 2 TB a second)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise features (batch, channel, *size)."""
        small = features[0].numel() < self.LARGE
        if features.device.type != "cpu" and len(features) > self.MOST_APART and small:
            return functional.instance_norm(
                features, weight=self.weight, bias=self.bias, eps=self.EPSILON
            )
        normalised = [
            functional.batch_norm(
                image, None, None, self.weight, self.bias, training=True, eps=self.EPSILON
            )
            for image in features.split(1)
        ]
        return torch.cat(normalised)


def _normalisation(name: str, dims: int, channels: int) -> nn.Module:
    if name == "batch":
        return (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(channels)
    return InstanceNorm(channels)


def _initialise(layer: nn.Module, initialisation: str, activation: str) -> None:
    """Initialise every convolution after He et al. 2015; biases 0."""
    if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        uniform = initialisation == "he_uniform"
        draw = nn.init.kaiming_uniform_ if uniform else nn.init.kaiming_normal_
        draw(layer.weight, a=0.01, nonlinearity=activation)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
