"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999), MONAI's.

Strides follow the voxel size as in `unet`; kernels are 3 along all axes, normalisation is batch.
"""

from collections.abc import Sequence

from monai.networks.nets import AttentionUnet
from torch import nn

from segstudy.networks.padding import Padded
from segstudy.networks.topology import product, strides, topology
from segstudy.study import AttentionUnetModel

__all__ = ["build", "strides"]


def build(
    model: AttentionUnetModel,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> nn.Module:
    """Build an attention U-Net with torch's initialisation.

    Raises InputError where the patch cannot be halved as often as `channels` has levels.
    """
    steps, _ = topology(len(model.channels), patch_size, spacing_mm)
    network = AttentionUnet(
        spatial_dims=model.dims,
        in_channels=in_channels,
        out_channels=classes,
        channels=model.channels,
        strides=steps[1:],
        dropout=model.dropout,
    )
    return Padded(network, product(steps))
