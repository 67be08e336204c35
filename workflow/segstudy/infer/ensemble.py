"""Prediction of one image by several trained networks: their probabilities are averaged, in the steps of `image`.

All members count alike (Lakshminarayanan et al. 2017). Networks that see one grid add their windows to one volume of
sums, which takes the memory of a single network; it is brought to the image's own grid as that of one network is.
Networks that see other grids, and nnU-Net's, are averaged on the image's own grid, one after the other. Structures
go by their names, whatever their order.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstudy import networks
from segstudy.images import prepare as preparing
from segstudy.images.files import Grid, Image
from segstudy.images.normalise import normalise
from segstudy.images.plan import Geometry, Plan, Restore
from segstudy.infer import image as own
from segstudy.infer.checks import read_checked, refuse_not_finite
from segstudy.networks.members import check_alike
from segstudy.networks.weights import Trained
from segstudy.networks.window import add_prediction, where_it_fits, zeros


@dataclass(frozen=True)
class Ensemble:
    """Hold trained networks that predict together; `ensemble` checks that they fit.

    Parameters
    ----------
    members
        The networks with their settings.
    names
        Where each is from, for messages.
    """

    members: tuple[Trained, ...]
    names: tuple[str, ...]

    @property
    def structures(self) -> tuple[str, ...]:
        """Return the names of the classes 1, 2, ..., in the first member's order."""
        return self.members[0].structures

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the names of an image's channels, in order."""
        return self.members[0].channels


def ensemble(members: Sequence[Trained], names: Sequence[str]) -> Trained | Ensemble:
    """Return trained networks as one that predicts; a single one as it is.

    Parameters
    ----------
    members
        One or more.
    names
        Where each is from, for messages.

    Raises
    ------
    InputError
        For members that segment other structures than the first, or see other channels.
    """
    check_alike(members, names)
    return members[0] if len(members) == 1 else Ensemble(tuple(members), tuple(names))


# --- an image in three steps ----------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Hold an image as the first group of an ensemble's members sees it.

    Parameters
    ----------
    array
        float32 (channel, x, y, z): normalised where all members of the group normalise alike, else prepared alone.
    way
        The way back to the image's own grid; None where the first group is one of nnU-Net's.
    image
        The image itself, where another group needs it.
    """

    array: np.ndarray | None
    way: Restore | None
    image: Image | None


@dataclass(frozen=True)
class Way:
    """Hold the way back.

    Parameters
    ----------
    native
        The image's own grid.
    restore
        From the grid that all members see; None where probabilities are on the image's own grid already.
    """

    native: Grid
    restore: Restore | None


def predict_image(trained: Ensemble, paths: Sequence[Path], device: torch.device) -> Image:
    """Predict the class of the highest mean probability of each voxel of an image.

    Parameters
    ----------
    trained
        The ensemble.
    paths
        One file for all channels, or one a channel, in the order of `trained.channels`.
    device
        Where the networks run.

    Returns
    -------
    Image
        Class indices (i, j, k), 0 for the background, on the image's own grid.
    """
    array, way = read(trained, paths)
    return restore(probabilities(trained, array, device), way)


def read(
    trained: Ensemble, paths: Sequence[Path], spacing_mm: Sequence[float] = ()
) -> tuple[Seen, Way]:
    """Read an image, and prepare it for the first members; spacing_mm: voxel size of pictures.

    Raises InputError as `checks.read_checked` does, for any of the members.
    """
    image = read_checked(trained.members, paths, spacing_mm)
    groups = _groups(trained)
    first, native = groups[0], image.grid
    if first[0].model.network == "nnunet":
        return Seen(None, None, image), Way(native, None)
    array, restore = _prepared(first, image, ", ".join(map(str, paths)))
    if len(groups) == 1:
        del image  # as large as the probabilities of a class
        return Seen(_alike(first, array), restore, None), Way(native, restore)
    return Seen(_alike(first, array), restore, image), Way(native, None)


def probabilities(trained: Ensemble, seen: Seen, device: torch.device) -> np.ndarray:
    """Predict the members' mean class probabilities of an image that `read` returned.

    Beside what one member holds, memory is the mean on the image's own grid where members see several grids, and
    nothing where they see one.

    Returns
    -------
    numpy.ndarray
        float32 (class, x, y, z) on the grid that all members see, or (class, i, j, k) on the image's own grid;
        class 0 is the background, the others are in the order of `trained.structures`.

    Raises
    ------
    InputError
        Where a member gives no finite logits, or its own code fails.
    """
    groups, number = _groups(trained), len(trained.members)
    if seen.image is None:
        return _summed(trained, groups[0], seen.array, device)
    classes = len(trained.structures) + 1
    mean = np.zeros((classes, *seen.image.grid.shape), np.float32)
    for group in groups:
        if group[0].model.network == "nnunet":
            _add_nnunet(mean, trained, group[0], seen.image, device)
            continue
        if group is groups[0]:
            array, way = seen.array, seen.way
        else:
            array, way = _prepared(group, seen.image, "the image")
            array = _alike(group, array)
        preparing.add_restored(
            mean, _summed(trained, group, array, device), way, len(group) / number
        )
    return preparing.as_probabilities(mean)


def restore(probabilities: np.ndarray, way: Way) -> Image:
    """Return class indices (i, j, k) on the image's own grid: those of the highest mean probability."""
    if way.restore is not None:
        return own.restore(probabilities, way.restore)
    kind = np.uint8 if len(probabilities) <= 256 else np.uint16
    classes = np.empty(probabilities.shape[1:], kind)
    for plane, highest in enumerate(classes):
        highest[...] = probabilities[:, plane].argmax(axis=0)
    return Image(classes, way.native.affine)


def restore_probabilities(probabilities: np.ndarray, way: Way) -> np.ndarray:
    """Return the mean class probabilities (class, i, j, k) on the image's own grid; a voxel's add up to 1."""
    if way.restore is not None:
        return own.restore_probabilities(probabilities, way.restore)
    return probabilities


# --- members that see one grid --------------------------------------------------------------------


def _groups(trained: Ensemble) -> list[list[Trained]]:
    """Return the members in groups that see images on one grid, in the order of their first; nnU-Net's are each alone."""
    groups: dict[Any, list[Trained]] = {}
    for number, member in enumerate(trained.members):
        alone = member.model.network == "nnunet"
        groups.setdefault(number if alone else _geometry(member), []).append(member)
    return list(groups.values())


def _geometry(member: Trained) -> Geometry:
    plan = Plan.from_dict(member.plan)
    return Geometry(**{name: getattr(plan, name) for name in Geometry.__dataclass_fields__})


def _prepared(group: Sequence[Trained], image: Image, name: str) -> tuple[np.ndarray, Restore]:
    """Return an image on the grid that a group sees, not normalised, and the way back."""
    plan = Plan.from_dict(group[0].plan)
    array, way = preparing.prepare(image, plan, name)
    preparing.check_size(way, len(group[0].structures) + 1, plan.spacing_mm, name)
    return array, way


def _normalisation(member: Trained) -> str:
    plan = Plan.from_dict(member.plan)
    return repr((plan.normalise, plan.intensities))


def _one_normalisation(group: Sequence[Trained]) -> bool:
    return len({_normalisation(member) for member in group}) == 1


def _alike(group: Sequence[Trained], array: np.ndarray) -> np.ndarray:
    """Normalise a prepared image where all members of a group do so alike; else return it as it is."""
    return normalise(array, Plan.from_dict(group[0].plan)) if _one_normalisation(group) else array


def _order(trained: Ensemble, member: Trained) -> list[int] | None:
    """Return a member's class of each class of the ensemble; None where they are the same."""
    order = [0, *(1 + member.structures.index(name) for name in trained.structures)]
    return None if order == sorted(order) else order


def _summed(
    trained: Ensemble, group: Sequence[Trained], array: np.ndarray, device: torch.device
) -> np.ndarray:
    """Add up the probabilities (class, x, y, z) of members that see one grid, each divided by the number of all members.

    array: of `_alike`.
    """
    classes, share = len(trained.structures) + 1, 1 / len(trained.members)
    ready = _one_normalisation(group)

    def predict(home: torch.device) -> torch.Tensor:
        total = zeros(classes, array.shape[1:], own.window_of(group[0]), home)
        source = torch.from_numpy(array).to(home) if ready else None
        for member in group:
            if not ready:
                source = None  # the one before goes first
                shown = normalise(array, Plan.from_dict(member.plan))
                source = torch.from_numpy(shown).to(home)
                del shown
            window = own.window_of(member, _order(trained, member))
            with networks.telling(member.model):
                add_prediction(
                    member.network, source, total, window, device, member.model.amp, share
                )
            refuse_not_finite(member, total)
        return total

    return where_it_fits(predict, array.shape, classes, device).cpu().numpy()


def _add_nnunet(
    mean: np.ndarray, trained: Ensemble, member: Trained, image: Image, device: torch.device
) -> None:
    """Add the probabilities of a network of nnU-Net's to the mean (class, i, j, k), as nnU-Net itself exports them."""
    # By name, so that an edit to it is no change of ensembles of other networks.
    steps = importlib.import_module("segstudy.infer.nnunet")
    array, way = steps.prepare(member, image)
    found = steps.restore_probabilities(steps.probabilities(member, array, device), way)
    order = _order(trained, member) or range(len(found))
    for index, own_class in enumerate(order):
        mean[index] += found[own_class] / len(trained.members)
