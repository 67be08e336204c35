"""Names of a network's layers, before anything is known of the data."""

from typing import TYPE_CHECKING

import torch

from segstudy.networks import build
from segstudy.networks.initial_weights import layers_of

if TYPE_CHECKING:
    from segstudy.study import AnyModel

SIDE = 512
"""Voxels along each side of a patch that no network of ours is too deep for."""


def layer_names(model: "AnyModel") -> list[str]:
    """Return the names of the layers of a network of segstudy, which patch, spacing and number of classes don't change.

    The network gets no memory for its weights, but where a part of it cannot be built so.

    Parameters
    ----------
    model
        A model whose network is one of segstudy's: neither a plug-in nor nnU-Net's.
    """
    patch = (SIDE,) * model.dims if model.patch_size == "auto" else model.patch_size
    arguments = (model, 1, 2, patch, (1.0,) * model.dims)
    try:
        with torch.device("meta"):
            return list(layers_of(build(*arguments)))
    except (RuntimeError, NotImplementedError):  # numbers are asked of what has none
        with torch.random.fork_rng(devices=[]):
            return list(layers_of(build(*arguments)))
