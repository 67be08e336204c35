"""SwinUNETR (Hatamizadeh et al. 2022, arXiv:2201.01266), MONAI's: attention in shifted windows."""

import math
from collections.abc import Sequence

from monai.networks.nets import SwinUNETR
from torch import nn

from segstudy.errors import InputError
from segstudy.images.names import times
from segstudy.networks.padding import Padded
from segstudy.study import SwinUnetrModel

MULTIPLE = 32
"""Tokens of 2 voxels, halved four times."""


def build(
    model: SwinUnetrModel,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> nn.Module:
    """Build a SwinUNETR with MONAI's initialisation.

    Raises InputError for a patch that leaves a single token at the bottom: that has no spread to
    normalise by.
    """
    if math.prod(-(-size // MULTIPLE) for size in patch_size) < 2:
        raise InputError(
            f"patch_size: {times(patch_size)} voxels; expected at least {2 * MULTIPLE} along one "
            f"axis or more (swin_unetr shrinks a patch by {MULTIPLE})"
        )
    network = SwinUNETR(
        in_channels=in_channels,
        out_channels=classes,
        feature_size=model.feature_size,
        depths=model.depths,
        num_heads=model.heads,
        window_size=model.window_size,
        drop_rate=model.dropout,
        use_v2=model.version == 2,
        spatial_dims=model.dims,
    )
    return Padded(network, (MULTIPLE,) * model.dims)


def strides(
    model: SwinUnetrModel, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return by how much a SwinUNETR shrinks a patch along each axis."""
    return (MULTIPLE,) * model.dims
