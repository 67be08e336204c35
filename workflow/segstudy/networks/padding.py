"""Bringing any size to one that a network can halve, and back."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def pad_to_multiple(images: torch.Tensor, multiple: Sequence[int]) -> torch.Tensor:
    """Pad (batch, channel, *size) with zeros at the end of each axis, to multiples of `multiple`."""
    missing = [-size % step for size, step in zip(images.shape[2:], multiple, strict=True)]
    if not any(missing):
        return images
    # functional.pad counts axes from the last, with the space before and after each.
    return functional.pad(images, [space for gap in reversed(missing) for space in (0, gap)])


def crop(logits: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Cut (batch, class, *padded) back to `size`, from the start of each axis."""
    return logits[(..., *(slice(0, length) for length in size))]


class Padded(nn.Module):
    """Make a network that takes multiples of `multiple` voxels take any size."""

    def __init__(self, network: nn.Module, multiple: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.multiple = tuple(multiple)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, *size) of images (batch, channel, *size)."""
        return crop(self.network(pad_to_multiple(images, self.multiple)), images.shape[2:])
