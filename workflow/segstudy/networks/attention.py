"""Attention at the end of a block: squeeze-and-excitation, and CBAM.

Both learn factors in (0, 1): how much each channel counts, and in CBAM also how much each place.
They depend on the whole window that the network sees.
"""

from collections.abc import Sequence

import torch
from torch import nn

REDUCTION = 16
"""By how much the channels are squeezed, as in both papers; at least 4 are kept."""


def attention(name: str, channels: int, kernel: Sequence[int]) -> nn.Module:
    """Build the attention `se` or `cbam`, for features (batch, channel, *size).

    kernel: of the block's convolutions; along an axis where it is 1, CBAM does not look either.
    """
    return SqueezeExcitation(channels) if name == "se" else Cbam(channels, kernel)


class ChannelMlp(nn.Sequential):
    """Map pooled channels (batch, channel) to as many numbers by two layers."""

    def __init__(self, channels: int) -> None:
        hidden = max(channels // REDUCTION, 4)
        super().__init__(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))


class SqueezeExcitation(nn.Module):
    """Weight channels by what all of them are on average (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = ChannelMlp(channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Weight features (batch, channel, *size)."""
        return features * _spread(self.mlp(features.flatten(2).mean(2)), features)


class Cbam(nn.Module):
    """Weight channels, then places, by averages and maxima (Woo et al. 2018, arXiv:1807.06521)."""

    def __init__(self, channels: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.mlp = ChannelMlp(channels)
        wide = tuple(7 if size > 1 else 1 for size in kernel)
        convolution = nn.Conv2d if len(wide) == 2 else nn.Conv3d
        self.places = convolution(2, 1, wide, padding=tuple(size // 2 for size in wide), bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Weight features (batch, channel, *size)."""
        flat = features.flatten(2)
        features = features * _spread(self.mlp(flat.mean(2)) + self.mlp(flat.amax(2)), features)
        pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        return features * self.places(pooled).sigmoid()


def _spread(weights: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Shape factors (batch, channel) so that they multiply features (batch, channel, *size)."""
    return weights.sigmoid()[(..., *[None] * (features.ndim - 2))]
