"""The loss: weighted soft Dice, cross-entropy, focal and Tversky loss, also on lower resolutions.

Written here rather than taken from MONAI, whose import costs each job seconds; the tests hold
every term against MONAI's.
"""

import importlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segstudy.errors import InputError
from segstudy.images.prepare import IGNORED
from segstudy.study import Loss

SMOOTH = 1e-5
"""Added to both sides of the Dice quotient, so that a class that is nowhere divides by no zero."""
CERTAIN = 1e-7
"""Doubt in the true class below which the focal loss has no slope: less than float32 tells from none."""


def dice_weights(loss: Loss, structures: Sequence[str]) -> Tensor:
    """Return the weights of the classes (background first) inside Dice, adding up to 1.

    The background counts if `dice_background` says so or if it is given a weight.
    Raises InputError for a structure that `class_weights` leaves out.
    """
    given = loss.class_weights
    if given is None:
        weights = [float(loss.dice_background), *[1.0] * len(structures)]
    else:
        missing = [name for name in structures if name not in given]
        if missing:
            raise InputError(
                f"loss.class_weights: no weight for {missing[0]}; expected one for each structure "
                f"({', '.join(structures)}), and one for background if it is to count"
            )
        background = given.get("background", float(loss.dice_background))
        weights = [background, *[given[name] for name in structures]]
    if sum(weights) <= 0:
        raise InputError("loss.class_weights: all weights are 0; expected one above 0")
    return torch.tensor(weights) / sum(weights)


class SegmentationLoss:
    """Compute the loss of a study between logits (batch, class, *patch) and class indices (batch, *patch).

    A list of logits, full resolution first, is weighted 1, 1/2, 1/4, ... (divided by their sum);
    labels are thinned out to each resolution.

    total: sum over the processes that have a part of the batch each. The mean of their losses is
    then the loss of the whole.

    ignores: whether labels may be IGNORED: these voxels are in no sum and no mean, images without
    another voxel in no mean of images. Where nothing else is left the loss is 0, and so is its gradient.
    """

    def __init__(
        self,
        loss: Loss,
        structures: Sequence[str],
        device: torch.device | str = "cpu",
        total: Callable[[Tensor], Tensor] | None = None,
        ignores: bool = False,
    ):
        self.loss = loss
        self.ignores = ignores
        self.weights = dice_weights(loss, structures).to(device)
        self.total = total
        # By name, so that an edit to it is no change of studies without such losses.
        own = importlib.import_module("segstudy.train.plugin_loss") if loss.plugins else None
        self.plugins = own.load(loss.plugins, ignores) if own else []
        self._tracked: list[tuple[str, Tensor, Tensor]] = []

    def check(
        self, classes: int, size: Sequence[int], count: int, device: torch.device | str
    ) -> None:
        """Try the plug-ins on `count` patches of voxels `size`; raise InputError where one breaks its contract."""
        for _, term in self.plugins:
            term.check(classes, size, count, device)

    def __call__(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Compute the loss, of several resolutions with weights that halve from one to the next."""
        self._tracked.clear()
        if isinstance(logits, Tensor):
            return self.at_one_resolution(logits, labels)
        weights = [0.5**level for level in range(len(logits))]
        return sum(
            weight / sum(weights) * self.at_one_resolution(level, thinned(labels, level.shape[2:]))
            for weight, level in zip(weights, logits, strict=True)
        )

    def at_one_resolution(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of logits and class indices of one size."""
        # In full precision: sums over a patch of half-precision numbers lose what is small.
        log_probabilities = functional.log_softmax(logits.float(), dim=1)
        known = labels != IGNORED if self.ignores else None
        labels = (labels if known is None else labels * known)[:, None].long()
        log_true = log_probabilities.gather(1, labels)[:, 0]
        loss = self.loss
        # Also where no voxel counts, the loss depends on the logits, and its gradient is there and 0.
        total = 0 * log_true.sum() if self.ignores else torch.zeros((), device=logits.device)
        if loss.dice:
            probabilities = log_probabilities.exp()
            total = total + loss.dice * dice_loss(
                probabilities, labels[:, 0], self.weights, loss.batch_dice, self.total, known
            )
        if loss.tversky:
            weighed = (loss.tversky_false, loss.tversky_missed)
            sums = class_sums(log_probabilities.exp(), labels[:, 0], loss.batch_dice, known)
            total = total + loss.tversky * tversky_loss(
                sums, self.weights, weighed, loss.batch_dice, self.total, known
            )
        if loss.cross_entropy:
            total = total - loss.cross_entropy * mean_known(log_true, known, self.total)
        if loss.focal:
            focal = focal_loss(log_true, loss.focal_gamma)
            total = total + loss.focal * mean_known(focal, known, self.total)
        for weight, term in self.plugins:
            value = term(logits.float(), labels[:, 0], known)
            # Looked at only if a step fails: a GPU would be waited for.
            self._tracked.append((term.label, value.detach(), log_true.detach().sum()))
            total = total + weight * value
        return total

    def at_fault(self) -> list[str]:
        """Return the plug-ins that gave no finite number for finite logits when last called."""
        labels = [
            label for label, value, log_true in self._tracked
            if bool(log_true.isfinite()) and not bool(value.isfinite())
        ]  # fmt: skip
        return list(dict.fromkeys(labels))


def mean_known(
    values: Tensor, known: Tensor | None, total: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Average the values that are known, 0 where none is; all of them where `known` (bool) is None.

    total: as of SegmentationLoss; the mean over the processes is then that of all their values.
    """
    if known is None:
        return values.mean()
    counts = torch.stack([known.sum(), torch.ones_like(known.sum())]).to(values.dtype)
    number, processes = total(counts) if total else counts
    return values.where(known, 0).sum() * processes / number.clamp(min=1)


def dice_loss(
    probabilities: Tensor,
    labels: Tensor,
    weights: Tensor,
    batch: bool,
    total: Callable[[Tensor], Tensor] | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Compute 1 - soft Dice (Milletari et al. 2016, without squares), averaged over classes by their weights.

    probabilities: (batch, class, *patch); labels: class indices (batch, *patch); weights: (class,),
    adding up to 1. batch: sums run over the whole batch, not over each image by itself; `total`
    adds those of other parts of it. known: bool (batch, *patch), voxels that are summed; None: all.
    """
    both, predicted, true = class_sums(probabilities, labels, batch, known)
    either = predicted + true
    if batch and total:
        both, either = total(torch.stack([both, either]))
    dice = (2 * both + SMOOTH) / (either + SMOOTH)
    return _averaged(dice, weights, batch, total, known)


def tversky_loss(
    sums: tuple[Tensor, Tensor, Tensor],
    weights: Tensor,
    false_and_missed: tuple[float, float],
    batch: bool,
    total: Callable[[Tensor], Tensor] | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Compute 1 - Tversky index (Salehi et al. 2017), averaged over classes by their weights; 0.5 each is the Dice loss.

    sums: of `class_sums`. false_and_missed: weights of false and of missed voxels. The others: as of `dice_loss`.
    """
    both, predicted, true = total(torch.stack(sums)) if batch and total else sums
    false, missed = false_and_missed
    counted = both + false * (predicted - both) + missed * (true - both)
    index = (both + SMOOTH / 2) / (counted + SMOOTH / 2)
    return _averaged(index, weights, batch, total, known)


def class_sums(
    probabilities: Tensor, labels: Tensor, batch: bool, known: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Add up each class's probability where it is true, its probability, and its voxels: ([batch,] class).

    The arguments are those of `dice_loss`.
    """
    classes = torch.arange(probabilities.shape[1], device=labels.device)
    classes = classes.view(1, -1, *[1] * (labels.ndim - 1))
    truth = labels[:, None] == classes
    if known is not None:
        truth = truth & known[:, None]
        probabilities = probabilities.where(known[:, None], 0)
    truth = truth.to(probabilities.dtype)
    axes = [0, *range(2, probabilities.ndim)] if batch else list(range(2, probabilities.ndim))
    return (probabilities * truth).sum(axes), probabilities.sum(axes), truth.sum(axes)


def _averaged(
    overlap: Tensor,
    weights: Tensor,
    batch: bool,
    total: Callable[[Tensor], Tensor] | None,
    known: Tensor | None,
) -> Tensor:
    """Average 1 - overlap over classes by their weights, and over images that have a known voxel."""
    lost = ((1 - overlap) * weights).sum(-1)
    if batch or known is None:
        return lost.mean()
    return mean_known(lost, known.flatten(1).any(1), total)


def focal_loss(log_true: Tensor, gamma: float) -> Tensor:
    """Compute the focal loss (Lin et al. 2017) of each voxel, from the true class's log-probability.

    Below gamma 1 its slope is without bound where a voxel is certain: such voxels have none here.
    """
    doubt = (-torch.expm1(log_true)).clamp_min(CERTAIN)
    return -(doubt**gamma * log_true)


def thinned(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Return class indices (batch, *patch) at a lower resolution: every second, fourth, ... voxel."""
    steps = [
        slice(None, None, full // low) for full, low in zip(labels.shape[1:], size, strict=True)
    ]
    return labels[(slice(None), *steps)]
