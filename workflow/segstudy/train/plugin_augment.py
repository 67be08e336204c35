"""Changes of training patches by the user's own code: called as `augment(images, labels, generator)`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segstudy import plugins
from segstudy.errors import InputError
from segstudy.images.names import times
from segstudy.images.prepare import IGNORED

DEFAULT = "augment"


class Changes:
    """Change batches of patches by plug-ins, one after the other.

    references: of the plug-ins. classes: their number, the background counted.

    Raises InputError where one can't be loaded, or takes other arguments.
    """

    def __init__(self, references: Sequence[str], classes: int) -> None:
        self.classes = classes
        self.functions = [(text, _loaded(text)) for text in references]

    def __call__(
        self, images: Tensor, labels: Tensor, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the changed images and labels.

        Parameters
        ----------
        images
            float32 (batch, channel, *patch), on the device that trains.
        labels
            uint8 (batch, *patch), class indices; 255 where nobody has labelled.
        seeds
            Of the step, one a patch; each plug-in's generator starts from the first.

        Raises
        ------
        InputError
            Where a plug-in's code fails, or gives other shapes or kinds of numbers, values that are not finite, or
            labels that are no classes.
        """
        for place, (text, function) in enumerate(self.functions):
            generator = torch.Generator(images.device).manual_seed((seeds[0] + place) % 2**62)
            label = plugins.reference(text).label
            with plugins.telling(text):
                changed = function(images, labels, generator)
            _check_pair(changed, images, labels, label)
            images, labels = changed
            self._check_values(images, labels, label)
        return images, labels

    def _check_values(self, images: Tensor, labels: Tensor, label: str) -> None:
        """Check each batch, as a change made now and then shows late; a GPU is waited for once."""
        odd = (labels >= self.classes) & (labels != IGNORED)
        finite, fitting = torch.stack([images.isfinite().all(), ~odd.any()]).tolist()
        if not finite:
            raise InputError(f"plug-in {label}: gives images that are not finite")
        if not fitting:
            raise InputError(
                f"plug-in {label}: gives labels of value {int(labels[odd][0])}; expected class indices up to "
                f"{self.classes - 1}, and {IGNORED} where nobody has labelled"
            )


def _loaded(text: str) -> Any:
    function, label = plugins.load(text, DEFAULT), plugins.reference(text).label
    if not callable(function):
        raise InputError(f"plug-in {label}: a {type(function).__name__}; expected a function")
    misfit = plugins.misfit(function, ("images", "labels", "generator"))
    if misfit:
        signature, error = misfit
        raise InputError(
            f"plug-in {label}: takes {signature}; expected (images, labels, generator) ({error})"
        )
    return function


def _check_pair(changed: Any, images: Tensor, labels: Tensor, label: str) -> None:
    """Raise InputError where a plug-in gives anything but images and labels like those that it was given."""
    if not isinstance(changed, (tuple, list)) or len(changed) != 2:
        raise InputError(
            f"plug-in {label}: gives a {type(changed).__name__}; expected (images, labels)"
        )
    for name, before, after in zip(("images", "labels"), (images, labels), changed, strict=True):
        if not isinstance(after, Tensor):
            raise InputError(
                f"plug-in {label}: {name} are a {type(after).__name__}; expected a tensor"
            )
        if (after.shape, after.dtype, after.device) != (before.shape, before.dtype, before.device):
            raise InputError(
                f"plug-in {label}: {name} are {_kind(after)}; expected {_kind(before)}, as it was given"
            )


def _kind(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind} of {times(tensor.shape)} on {tensor.device}"
