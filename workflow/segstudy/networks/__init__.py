"""Networks: each in its own module, found by the name that a study gives it.

A network takes images (batch, channel, *patch) and gives logits (batch, class, *patch), class 0
being the background. In training it may give a list of logits, full resolution first (deep
supervision). What lies outside an image is 0 everywhere: in training patches, in prediction
windows and in the networks' own padding.
"""

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from segstudy.errors import InputError
from segstudy.planes import NORMAL_AXIS

if TYPE_CHECKING:
    from torch import nn

    from segstudy.study import AnyModel


def build(
    model: "AnyModel",
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> "nn.Module":
    """Build the network that `model.network` names, with fresh weights drawn from torch's generator.

    classes: number of classes, background included.
    patch_size: voxels along each axis of a training patch (two numbers for a 2D network).
    spacing_mm: voxel size along each axis of the patch, in mm.
    Raises InputError for a network that is none of segstudy's, or that the patch is too small for.
    """
    # Imported by name, so that an edit to one network does not rerun the models of another.
    module = module_of(model.network)
    patch_size, spacing_mm = tuple(patch_size), tuple(spacing_mm)
    if model.head is None:
        return module.build(model, in_channels, classes, patch_size, spacing_mm)
    features = module.build(model, in_channels, model.head.hidden, patch_size, spacing_mm)
    head = module_of("siren").CoordinateHead
    return head(features, model.head, classes, patch_size, spacing_mm)


def check(
    model: "AnyModel",
    network: "nn.Module",
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
) -> None:
    """Try a network of the user's own before it is trained; raise InputError where it breaks its contract."""
    if model.network == "plugin":
        tried = module_of("plugin").check
        tried(model.network_plugin, network, in_channels, classes, patch_size, model.batch_size)


def telling(model: "AnyModel") -> AbstractContextManager[None]:
    """Turn an error of a network of the user's own, as it runs, into a sentence."""
    if model.network == "plugin":
        # An import of `plugins` here would have each of its edits train all networks again.
        return module_of("plugin").plugins.telling(model.network_plugin)
    return nullcontext()


def label(model: "AnyModel") -> str:
    """Return what a network is called in a message: `plug-in my_net.py`, or `network unet`."""
    if model.network == "plugin":
        return f"plug-in {module_of('plugin').plugins.reference(model.network_plugin).label}"
    return f"network {model.network}"


def modules(model: "AnyModel") -> list[str]:
    """Return the modules that are imported by name to build a model's network, e.g. `networks.unet`."""
    # nnU-Net has no head of ours.
    head = ["networks.siren"] if getattr(model, "head", None) else []
    return [f"networks.{model.network}", *head]


def strides(
    model: "AnyModel", patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return by how much the network shrinks a patch along each axis: patches are best multiples of it."""
    module = module_of(model.network)
    return module.strides(model, tuple(patch_size), tuple(spacing_mm))


def module_of(network: str):
    """Import the module of a network, by name."""
    name = f"{__name__}.{network}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise InputError(
            f"no network {network!r}; expected the name of a module in segstudy/networks"
        ) from None


def patch_spacing(
    spacing_mm: Sequence[float], dims: int, planes: Sequence[str]
) -> tuple[float, ...]:
    """Return the voxel size along the axes of a patch, in mm: all three, or those of the slice plane.

    A network that sees several planes is told equal sizes, since no one pair holds for all.
    """
    if dims == 3:
        return tuple(spacing_mm)
    if len(planes) > 1:
        return (1.0, 1.0)
    return tuple(size for axis, size in enumerate(spacing_mm) if axis != NORMAL_AXIS[planes[0]])
