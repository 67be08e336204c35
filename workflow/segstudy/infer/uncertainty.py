"""Prediction of one image several times, in the steps of `image`, and what the predictions disagree on.

Members are other weights, samples by MC dropout (Gal & Ghahramani 2016), or the image mirrored (Wang et al. 2019). They
predict one after the other; of each, its probabilities p on the image's own grid are added to running sums of p and of its
entropy, and its class map is kept, a byte a voxel. So memory is that of two predictions, whatever the number of members.

Of M members, the predictive entropy is H(mean p), in nats, from 0 to ln(classes): how undecided the mean is. The mutual
information is H(mean p) - mean H(p), from 0 to the smaller of ln(classes) and ln(M): how far members contradict each other,
which is 0 where all are undecided alike (Smith & Gal 2018).
"""

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segstudy import networks
from segstudy.errors import InputError
from segstudy.images import prepare as preparing
from segstudy.images.files import Grid, Image
from segstudy.images.normalise import normalise
from segstudy.images.plan import Plan
from segstudy.infer import image as own
from segstudy.infer.batch import Predicted, members_of
from segstudy.infer.checks import read_checked
from segstudy.infer.ensemble import Ensemble
from segstudy.networks.weights import Trained
from segstudy.sides import RAS_AXES, class_pairs

KINDS = ("members", "mc_dropout", "mirrored", "perturbed")
NOISE_SD = 0.1
"""SD of the noise of a perturbed image, whose own SD is about 1 after normalisation."""
GAMMAS = (0.8, 1.25)
SHIFT_VOXELS = 2
"""Along each axis of the grid that the network sees."""


@dataclass(frozen=True)
class Sampled:
    """Hold weights that predict each image several times; `sampled` checks that they can.

    Parameters
    ----------
    trained
        A network, or an ensemble.
    kind
        What differs between the predictions, of `KINDS`. Where images are `perturbed`, the one as it is counts alone, and
        the others tell how stable it is.
    samples
        How often each network predicts by MC dropout.
    maps
        Whether maps of uncertainty are made.
    """

    trained: Trained | Ensemble
    kind: str
    samples: int = 0
    maps: bool = False

    @property
    def members(self) -> tuple[Trained, ...]:
        """Return the networks."""
        return members_of(self.trained)

    @property
    def names(self) -> tuple[str, ...]:
        """Return where each network of an ensemble is from."""
        return getattr(self.trained, "names", ())

    @property
    def structures(self) -> tuple[str, ...]:
        """Return the names of the classes 1, 2, ..."""
        return self.trained.structures

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the names of an image's channels, in order."""
        return self.trained.channels


@dataclass(frozen=True)
class Spread(Predicted):
    """Hold the mean of several predictions of an image, and what they disagree on.

    Parameters
    ----------
    entropy
        Predictive entropy, float32 (i, j, k) in nats; None where no maps were asked for.
    mutual_information
        Likewise.
    members
        Class indices (i, j, k) of each prediction, in the order of the mean's classes.
    """

    entropy: np.ndarray | None
    mutual_information: np.ndarray | None
    members: tuple[np.ndarray, ...]


def sampled(
    trained: Trained | Ensemble, mc_dropout: int = 0, maps: bool = False, quality: bool = False
) -> Trained | Ensemble | Sampled:
    """Return weights as what predicts each image several times, where that is asked for; else as they are.

    By MC dropout where samples are asked for; else several weights are the members; else the image is mirrored, where the
    settings say `mirror_axes`; else, for an estimate of quality alone, it is perturbed.

    Parameters
    ----------
    trained
        A network, or an ensemble.
    mc_dropout
        How many samples; 0: none.
    maps
        Whether maps of uncertainty are asked for.
    quality
        Whether an estimate of quality is asked for.

    Raises
    ------
    InputError
        For MC dropout of a network without dropout, and for maps of a single network that predicts once.
    """
    members = members_of(trained)
    if mc_dropout:
        for member in members:
            _refuse_without_dropout(member)
        return Sampled(trained, "mc_dropout", mc_dropout, maps)
    if not maps and not quality:
        return trained
    if len(members) > 1:
        return Sampled(trained, "members", maps=maps)
    if _mirror_axes(members[0]):
        return Sampled(trained, "mirrored", maps=maps)
    if maps:
        raise InputError(
            f"{networks.label(members[0].model)}: one prediction an image disagrees with nothing, so that there is no map of "
            "uncertainty; give the weights of several seeds or folds, --mc-dropout for a network with dropout, or "
            "mirror_axes in its settings of prediction"
        )
    return Sampled(trained, "perturbed")


def _refuse_without_dropout(member: Trained) -> None:
    found = [layer for layer in member.network.modules() if _drops(layer)]
    if not found:
        raise InputError(
            f"mc_dropout: {networks.label(member.model)} has no dropout, so all samples would be the same; train it with "
            "`dropout` above 0, or take the weights of several seeds as members"
        )


def _drops(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0


def _mirror_axes(member: Trained) -> Sequence[str]:
    return () if member.model.network == "nnunet" else member.model.infer.mirror_axes


# --- an image in three steps ----------------------------------------------------------------------


def read(
    trained: Sampled, paths: Sequence[Path], spacing_mm: Sequence[float] = ()
) -> tuple[Image, Grid]:
    """Read an image (channel, i, j, k), and return its grid too, on which all is told.

    Raises InputError as `checks.read_checked` does, for any of the networks.
    """
    image = read_checked(trained.members, paths, spacing_mm)
    return image, image.grid


def probabilities(trained: Sampled, image: Image, device: torch.device) -> Spread:
    """Predict an image that `read` returned, member by member.

    Raises
    ------
    InputError
        Where a network gives no finite logits, or its own code fails.
    """
    sums = Sums(len(trained.structures) + 1, image.grid.shape, trained.maps)
    for found in _predictions(trained, image, device):
        sums.add(found, counts=trained.kind != "perturbed" or not sums.members)
        del found
    return sums.spread(image.grid)


def restore(spread: Spread, way: Grid) -> Image:
    """Return class indices (i, j, k) on the image's own grid, which is `way`: those of the highest mean probability."""
    return spread.classes


def restore_probabilities(spread: Spread, way: Grid) -> np.ndarray:
    """Return the mean class probabilities (class, i, j, k) on the image's own grid, which is `way`."""
    return spread.probabilities


class Sums:
    """Add up predictions of an image: their probabilities, and the entropy of each."""

    def __init__(self, classes: int, shape: Sequence[int], maps: bool) -> None:
        """Begin with none. shape: (i, j, k); maps: whether entropies are added up."""
        self.total = np.zeros((classes, *shape), np.float32)
        self.entropies = np.zeros(shape, np.float32) if maps else None
        self.counted = 0
        self.members: list[np.ndarray] = []

    def add(self, probabilities: np.ndarray, counts: bool = True) -> None:
        """Add a prediction (class, i, j, k); counts: whether to the mean too, not to the class maps alone."""
        self.members.append(_classes(probabilities))
        if counts:
            self.total += probabilities
            self.counted += 1
        if counts and self.entropies is not None:
            self.entropies += entropy(probabilities)

    def spread(self, grid: Grid) -> Spread:
        """Return mean and disagreement; the sums are used up."""
        self.total /= self.counted
        predictive = information = None
        if self.entropies is not None:
            predictive = entropy(self.total)
            # Rounding takes the difference of equal entropies below 0.
            information = np.maximum(predictive - self.entropies / self.counted, 0)
        classes = Image(_classes(self.total), grid.affine)
        return Spread(classes, self.total, predictive, information, tuple(self.members))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy -sum p ln p of each voxel of (class, i, j, k), in nats, float32 (i, j, k).

    A class at a time, so that no second volume of all classes is held.
    """
    total = np.zeros(probabilities.shape[1:], np.float32)
    tiny = np.finfo(np.float32).tiny  # 0 ln 0 is 0
    for values in probabilities:
        total -= values * np.log(np.maximum(values, tiny))
    return np.maximum(total, 0)


def _classes(probabilities: np.ndarray) -> np.ndarray:
    """Return the class of the highest probability, a plane at a time: argmax holds eight bytes a voxel."""
    kind = np.uint8 if len(probabilities) <= 256 else np.uint16
    classes = np.empty(probabilities.shape[1:], kind)
    for plane, highest in enumerate(classes):
        highest[...] = probabilities[:, plane].argmax(axis=0)
    return classes


# --- one prediction after the other -----------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """Hold a change of a prepared image, and how to undo it in what is predicted.

    Parameters
    ----------
    apply
        Given (channel, *space), returns the same shape.
    undo
        Given (class, *space), returns the same shape.
    """

    apply: Callable[[np.ndarray], np.ndarray]
    undo: Callable[[np.ndarray], np.ndarray]


def _same(array: np.ndarray) -> np.ndarray:
    return array


AS_IT_IS = Change(_same, _same)


def _predictions(trained: Sampled, image: Image, device: torch.device) -> Iterator[np.ndarray]:
    """Yield the probabilities (class, i, j, k) of each prediction, on the image's own grid."""
    for number, member in enumerate(trained.members):
        prepared = _prepared(member, image)
        order = [0, *(1 + member.structures.index(name) for name in trained.structures)]
        if trained.kind == "mc_dropout":
            for sample in range(trained.samples):
                with _seeded(1000 * number + sample, device), _dropping(member) as dropping:
                    found = _predicted(dropping, prepared, AS_IT_IS, device)
                yield _in_order(found, order)
            continue
        changes = [AS_IT_IS]
        if trained.kind == "mirrored":
            changes = mirrored(member)
            member = _without_mirroring(member)
        elif trained.kind == "perturbed":
            changes = perturbed()
        for change in changes:
            yield _in_order(_predicted(member, prepared, change, device), order)


def _prepared(member: Trained, image: Image) -> tuple[np.ndarray, Any]:
    """Return an image as a network sees it, and the way back."""
    if member.model.network == "nnunet":
        # By name, so that an edit to it is no change of what other networks predict.
        return importlib.import_module("segstudy.infer.nnunet").prepare(member, image)
    plan = Plan.from_dict(member.plan)
    array, way = preparing.prepare(image, plan, "the image")
    preparing.check_size(way, len(member.structures) + 1, plan.spacing_mm, "the image")
    return normalise(array, plan), way


def _predicted(
    member: Trained, prepared: tuple[np.ndarray, Any], change: Change, device: torch.device
) -> np.ndarray:
    array, way = prepared
    changed = change.apply(array)
    if member.model.network == "nnunet":
        steps = importlib.import_module("segstudy.infer.nnunet")
        logits = steps.probabilities(member, changed, device)
        undone = torch.from_numpy(np.ascontiguousarray(change.undo(logits.cpu().numpy())))
        return steps.restore_probabilities(undone, way)
    found = change.undo(own.probabilities(member, changed, device))
    return own.restore_probabilities(found, way)


def _in_order(probabilities: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return classes in the order of the first member."""
    return probabilities if list(order) == sorted(order) else probabilities[list(order)]


class _Dropping(nn.Module):
    """A network whose dropout drops in evaluation mode too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.network(windows)

    def train(self, mode: bool = True) -> "_Dropping":
        super().train(mode)
        for layer in self.modules():
            if _drops(layer):
                layer.training = True
        return self


@contextmanager
def _dropping(member: Trained) -> Iterator[Trained]:
    """Have a network's dropout drop, and leave the network as it was."""
    training = member.network.training
    try:
        yield replace(member, network=_Dropping(member.network))
    finally:
        member.network.train(training)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw by a seed of its own, and leave the generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# --- changes of an image ------------------------------------------------------------------------------


def mirrored(member: Trained) -> list[Change]:
    """Return the image as it is, and mirrored along each combination of the network's `mirror_axes`."""
    names = _mirror_axes(member)
    swapped = list(range(len(member.structures) + 1))
    for left, right in class_pairs(member.structures, member.left_right_pairs):
        swapped[left], swapped[right] = right, left

    def change(chosen: Sequence[str]) -> Change:
        axes = [1 + RAS_AXES[name] for name in chosen]

        def apply(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(np.flip(array, axes))

        def undo(array: np.ndarray) -> np.ndarray:
            back = np.flip(array, axes)
            return np.ascontiguousarray(back[swapped] if "right_left" in chosen else back)

        return Change(apply, undo)

    combinations = itertools.chain.from_iterable(
        itertools.combinations(names, number) for number in range(1, len(names) + 1)
    )
    return [AS_IT_IS, *map(change, combinations)]


def _without_mirroring(member: Trained) -> Trained:
    infer = member.model.infer.model_copy(update={"mirror_axes": ()})
    return replace(member, model=member.model.model_copy(update={"infer": infer}))


def perturbed() -> list[Change]:
    """Return the image as it is, then with noise, darker and brighter, and shifted: what changes no anatomy."""

    def noisy(array: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).standard_normal(array.shape, np.float32)
        return array + np.float32(NOISE_SD) * noise

    def with_gamma(gamma: float) -> Callable[[np.ndarray], np.ndarray]:
        def apply(array: np.ndarray) -> np.ndarray:
            changed = np.empty_like(array)
            for channel, out in zip(array, changed, strict=True):
                low, high = float(channel.min()), float(channel.max())
                width = high - low or 1.0
                out[...] = low + width * ((channel - low) / width) ** gamma
            return changed

        return apply

    def shifted(step: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda array: _moved(array, step)

    return [
        AS_IT_IS,
        Change(noisy, _same),
        *(Change(with_gamma(gamma), _same) for gamma in GAMMAS),
        Change(shifted(SHIFT_VOXELS), shifted(-SHIFT_VOXELS)),
    ]


def _moved(array: np.ndarray, step: int) -> np.ndarray:
    """Move (channel, *space) by voxels along each axis; what comes in is the border's value."""
    for axis in range(1, array.ndim):
        size = array.shape[axis]
        if size > abs(step):
            array = array.take(np.clip(np.arange(size) - step, 0, size - 1), axis)
    return np.ascontiguousarray(array)
