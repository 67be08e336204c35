"""UNETR (Hatamizadeh et al. 2022, arXiv:2103.10504), MONAI's: a vision transformer as the encoder."""

from collections.abc import Sequence

import torch
from monai.networks.nets import UNETR
from torch import nn

from segstudy.errors import InputError
from segstudy.images.names import times
from segstudy.networks.padding import crop
from segstudy.study import UnetrModel

TOKEN = 16
"""Voxels of a token along each axis."""


def build(
    model: UnetrModel,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> nn.Module:
    """Build a UNETR for patches of just this size: it learns an embedding of each token's place.

    Raises InputError for a patch that is no multiple of 16 voxels along each axis.
    """
    if any(size % TOKEN for size in patch_size):
        raise InputError(
            f"patch_size: {times(patch_size)} voxels; expected multiples of {TOKEN} along each "
            "axis (unetr cuts a patch into tokens of that size)"
        )
    return FixedUnetr(model, in_channels, classes, patch_size)


def strides(
    model: UnetrModel, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return by how much a UNETR shrinks a patch along each axis."""
    return (TOKEN,) * model.dims


class FixedUnetr(nn.Module):
    """Map images of at most the patch's size to logits of the images' own size by a UNETR."""

    def __init__(
        self, model: UnetrModel, in_channels: int, classes: int, patch_size: Sequence[int]
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.network = UNETR(
            in_channels=in_channels,
            out_channels=classes,
            img_size=self.patch_size,
            feature_size=model.feature_size,
            hidden_size=model.hidden_size,
            mlp_dim=4 * model.hidden_size,
            num_heads=model.heads,
            dropout_rate=model.dropout,
            spatial_dims=model.dims,
        )
        # MONAI makes a normalisation for cross-attention, which is not used here.
        for block in self.network.vit.blocks:
            block.norm_cross_attn = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, *size) of images (batch, channel, *size)."""
        size = images.shape[2:]
        missing = [want - have for want, have in zip(self.patch_size, size, strict=True)]
        if min(missing) < 0:
            raise ValueError(
                f"image of {times(size)} voxels for a unetr of {times(self.patch_size)}; "
                "predict it in windows"
            )
        widths = [space for gap in reversed(missing) for space in (0, gap)]
        return crop(self.network(nn.functional.pad(images, widths)), size)
