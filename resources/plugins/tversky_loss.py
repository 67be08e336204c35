"""The Tversky loss (Salehi et al. 2017), which weighs missed voxels above false ones: an example of a loss as a plug-in."""

import torch

FALSE, MISSED = 0.3, 0.7
"""Weights of false and of missed voxels; 0.5 each is the Dice loss."""


def loss(logits, labels, known=None):
    """Return 1 - Tversky index of the structures, one number an image.

    logits: float32 (batch, class, *patch), class 0 being the background. labels: int64 (batch, *patch).
    known: bool (batch, *patch), voxels that somebody has labelled; None: all.
    """
    classes = torch.arange(1, logits.shape[1], device=labels.device)
    truth = labels[:, None] == classes.view(1, -1, *[1] * (labels.ndim - 1))
    probability = logits.softmax(1)[:, 1:]
    counted = torch.ones_like(labels, dtype=torch.bool) if known is None else known
    axes = tuple(range(2, logits.ndim))

    def total(voxels):
        return (voxels * counted[:, None]).sum(axes)

    both = total(probability * truth)
    false, missed = total(probability * ~truth), total((1 - probability) * truth)
    index = (both + 1e-5) / (both + FALSE * false + MISSED * missed + 1e-5)
    return (1 - index).mean(1)
