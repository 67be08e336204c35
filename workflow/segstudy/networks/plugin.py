"""A network of the user's own: built from a plug-in, and tried before it is trained.

It is called as `Network(in_channels, classes, patch_size, spacing_mm, **options)`.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segstudy import plugins
from segstudy.errors import InputError
from segstudy.images.names import times
from segstudy.study import PluginModel

DEFAULT = "Network"


def build(
    model: PluginModel,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
) -> nn.Module:
    """Build the network with fresh weights.

    Raises InputError where the plug-in's code fails, takes other arguments, or gives no torch module with weights.
    """
    text = model.network_plugin
    kind = plugins.load(text, DEFAULT)
    arguments = (in_channels, classes, tuple(patch_size), tuple(spacing_mm))
    label = plugins.reference(text).label
    _check_call(kind, arguments, model.options, label)
    with plugins.telling(text):
        network = kind(*arguments, **model.options)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"plug-in {label}: {DEFAULT} gives {_named(network)}; expected a torch.nn.Module"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"plug-in {label}: the network has no weights to learn")
    return network


def strides(
    model: PluginModel, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return by how much the network shrinks a patch along each axis: its `strides`; 1 where it has none.

    Raises InputError where they are no whole numbers, one an axis.
    """
    text = model.network_plugin
    kind, label = plugins.load(text, DEFAULT), plugins.reference(text).label
    given = getattr(kind, "strides", None)
    if given is None:
        return (1,) * len(patch_size)
    if callable(given):
        arguments = (tuple(patch_size), tuple(spacing_mm))
        _check_call(given, arguments, model.options, f"{label}: strides")
        with plugins.telling(text):
            given = given(*arguments, **model.options)
    numbers = [given] * len(patch_size) if isinstance(given, int) else given
    if (
        not isinstance(numbers, (tuple, list))
        or len(numbers) != len(patch_size)
        or any(type(number) is not int or number < 1 for number in numbers)
    ):
        raise InputError(
            f"plug-in {label}: strides are {given!r}; expected a whole number from 1, or "
            f"{len(patch_size)} of them, one an axis of the patch"
        )
    return tuple(numbers)


def check(
    text: str,
    network: nn.Module,
    in_channels: int,
    classes: int,
    patch_size: Sequence[int],
    batch_size: int,
) -> None:
    """Try the network on a batch of zeros, as it predicts and as it learns.

    Its weights, its statistics and torch's random numbers stay as they are.

    Parameters
    ----------
    text
        The plug-in's reference.
    network
        On the device that trains.
    in_channels, classes
        Channels of an image; classes with the background.
    patch_size
        Voxels of a patch.
    batch_size
        Patches of a step.

    Raises
    ------
    InputError
        Where its code fails; where it does not give finite logits (batch, class, *patch), in training a list of
        such whose first is of full resolution and the others of lower ones.
    """
    label = plugins.reference(text).label
    device = next(network.parameters()).device
    count = min(2, batch_size)
    images = torch.zeros(count, in_channels, *patch_size, device=device)
    expected = (count, classes, *patch_size)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), plugins.telling(text):
        # A copy, as normalisation layers would count the zeros among the images.
        tried = copy.deepcopy(network)
        predicted = tried.eval()(images)
        learned = tried.train()(images)
    _check_logits(predicted, expected, f"plug-in {label}: in prediction it")
    levels = learned if isinstance(learned, (list, tuple)) else [learned]
    if not levels:
        raise InputError(f"plug-in {label}: in training it gives an empty list of logits")
    _check_logits(levels[0], expected, f"plug-in {label}: in training it")
    for place, level in enumerate(levels[1:], 2):
        said = f"plug-in {label}: in training, number {place} of its list"
        _check_lower(level, expected, said)


def _check_logits(logits: Any, expected: tuple[int, ...], said: str) -> None:
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        raise InputError(
            f"{said} gives {_named(logits)} for images (batch, channel, *patch); expected logits "
            f"(batch, class, *patch): {times(expected)}"
        )
    _check_finite(logits, said)


def _check_lower(level: Any, expected: tuple[int, ...], said: str) -> None:
    """Check logits of a lower resolution: labels are thinned out to it by whole steps."""
    fits = (
        isinstance(level, Tensor)
        and level.ndim == len(expected)
        and tuple(level.shape[:2]) == expected[:2]
        and all(low and full % low == 0 for full, low in zip(expected, level.shape, strict=True))
    )
    if not fits:
        raise InputError(
            f"{said} is {_named(level)}; expected logits (batch, class, *size) with a size that divides the "
            f"patch's, of {times(expected)}"
        )
    _check_finite(level, said)


def _check_finite(logits: Tensor, said: str) -> None:
    if not logits.is_floating_point() or not bool(logits.isfinite().all()):
        raise InputError(f"{said} gives logits that are not finite for an image of zeros")


def _check_call(function: Any, arguments: tuple, options: dict[str, Any], label: str) -> None:
    """Raise InputError where a function does not take what it is called with."""
    if not callable(function):
        raise InputError(f"plug-in {label}: {_named(function)}; expected a class or a function")
    misfit = plugins.misfit(function, arguments, options)
    if misfit:
        signature, error = misfit
        named = "".join(f", {name}" for name in options)
        raise InputError(
            f"plug-in {label}: takes {signature}, and is called with {len(arguments)} values{named}: {error}; "
            "see `options` in the study file"
        )


def _named(value: Any) -> str:
    """Name what was found: a tensor by its shape."""
    if isinstance(value, Tensor):
        return f"a tensor of {times(value.shape)}"
    return f"a {type(value).__name__}"
