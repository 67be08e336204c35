"""A loss of the user's own: called as `loss(logits, labels)`, a term of a training's loss.

Where labels may hold voxels that nobody has labelled, it is called as `loss(logits, labels, known)`: a loss that can't
leave them out would learn that they are background.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from segstudy import plugins
from segstudy.errors import InputError
from segstudy.images.names import times

DEFAULT = "loss"


def load(weights: Mapping[str, float], ignores: bool) -> list[tuple[float, "Term"]]:
    """Load the losses whose weight is above 0.

    Parameters
    ----------
    weights
        Reference -> weight.
    ignores
        Whether labels may hold voxels that nobody has labelled.

    Returns
    -------
    Weight and loss, in the order of the study file.

    Raises
    ------
    InputError
        Where one can't be loaded, or does not take what it is called with.
    """
    return [(weight, _loaded(text, ignores)) for text, weight in weights.items() if weight]


def _loaded(text: str, ignores: bool) -> "Term":
    function, label = plugins.load(text, DEFAULT), plugins.reference(text).label
    if not callable(function):
        raise InputError(f"plug-in {label}: a {type(function).__name__}; expected a function")
    arguments = ("logits", "labels", "known")[: 3 if ignores else 2]
    misfit = plugins.misfit(function, arguments)
    if misfit:
        signature, error = misfit
        why = (
            "; labels of this study have voxels that nobody has labelled (`ignore`), which `known`, bool "
            "(batch, *patch), tells: leave the others out of each sum and mean"
            if ignores
            else ""
        )
        raise InputError(
            f"plug-in {label}: takes {signature}; expected ({', '.join(arguments)}) ({error}){why}"
        )
    return Term(text, label, function, ignores)


@dataclass(frozen=True)
class Term:
    """Call a plug-in's loss, and check what it gives."""

    text: str
    label: str
    function: Any
    told_known: bool

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """Compute the loss: its mean where it gives one an image.

        Parameters
        ----------
        logits
            float32 (batch, class, *patch), class 0 being the background.
        labels
            int64 (batch, *patch), class indices; 0 where not `known`.
        known
            bool (batch, *patch): voxels that somebody has labelled; None: all, and the plug-in is not told.
        """
        given = {"logits": logits, "labels": labels} | ({} if known is None else {"known": known})
        before = {name: _version(tensor) for name, tensor in given.items()}
        with plugins.telling(self.text):
            value = self.function(*given.values())
        for name, tensor in given.items():
            if _version(tensor) != before[name]:
                raise InputError(
                    f"plug-in {self.label}: changes {name} in place, which others use too; change a copy "
                    f"({name}.clone())"
                )
        if not isinstance(value, Tensor) or tuple(value.shape) not in ((), (len(logits),)):
            found = times(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"plug-in {self.label}: gives {found or 'nothing'}; expected a tensor of one number, or of one an "
                f"image of the batch ({len(logits)})"
            )
        return value.mean()

    def check(
        self, classes: int, size: Sequence[int], count: int, device: torch.device | str
    ) -> None:
        """Try the loss on patches of zeros with labels of every class.

        Raises InputError where it is not finite, or where no slope leads back to the logits.
        """
        logits = torch.zeros(count, classes, *size, device=device, requires_grad=True)
        numbers = torch.arange(count * logits[0, 0].numel(), device=device) % classes
        labels = numbers.view(count, *size)
        known = torch.ones_like(labels, dtype=torch.bool) if self.told_known else None
        value = self(logits, labels, known)
        if not bool(value.isfinite()):
            raise InputError(
                f"plug-in {self.label}: is {float(value.detach())} for logits of zeros; expected a finite number"
            )
        if not value.requires_grad:
            raise InputError(
                f"plug-in {self.label}: does not depend on the logits by operations that torch derives, so nothing "
                "would be learned from it; argmax and comparisons have no slope"
            )


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; torch does not count it of tensors made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version
