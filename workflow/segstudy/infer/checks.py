"""Checks of an image before its prediction, the same as the audit's, and of what a network gives for it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from segstudy import networks
from segstudy.cases import seen_images
from segstudy.errors import InputError
from segstudy.images.checksum import image_checksum
from segstudy.images.files import Image, read_image
from segstudy.images.headers import say_warnings
from segstudy.images.plan import Plan
from segstudy.images.size_outliers import Size, image_size, outlier_text
from segstudy.images.value_checks import REFUSED, image_problems
from segstudy.log import log
from segstudy.networks.weights import Trained
from segstudy.networks.window import finite


def read_checked(
    members: Sequence[Trained], paths: Sequence[Path], spacing_mm: Sequence[float] = ()
) -> Image:
    """Read an image, and log doubts about its header and its values.

    Parameters
    ----------
    members
        The weights that predict it, all of the same channels.
    paths
        One file for all channels, or one a channel, in the order of the channels.
    spacing_mm
        Voxel size of pictures along columns, rows and slices, which do not tell it.

    Returns
    -------
    Image
        (channel, i, j, k).

    Raises
    ------
    InputError
        For an image that the audit refuses, for voxels and an image that are both out of all
        proportion to those that one of the networks was trained on, and for an image that one was trained on.
    """
    trained = members[0]
    image = read_image(paths, channels=len(trained.channels))
    if spacing_mm:
        image = image.with_spacing(spacing_mm)
    if not image.has_spacing:
        raise InputError(
            f"{paths[0]}: a picture does not tell how large its voxels are; give --spacing-mm COLUMN ROW SLICE, or save it "
            "as a volume with a voxel size, such as NIfTI"
        )
    say_warnings(paths)
    for text in image.notes:
        log.warning("%s: %s", paths[0], text)
    for path, text, verdict in image_problems(image.array, paths, trained.channels, is_ct(trained)):
        if verdict == REFUSED:
            raise InputError(f"{path}: {text}")
        log.warning("%s: %s", path, text)
    for member in members:
        _refuse_outlier(member, image, paths)
    _refuse_seen(members, image, paths)
    return image


def _refuse_outlier(trained: Trained, image: Image, paths: Sequence[Path]) -> None:
    """Raise InputError where voxels and image are both out of all proportion to those that the network was trained on."""
    usual = trained_on(trained)
    text = outlier_text(image_size(image.grid), usual, "the images trained on") if usual else ""
    if text:
        raise InputError(f"{paths[0]}: {text}")


def _refuse_seen(members: Sequence[Trained], image: Image, paths: Sequence[Path]) -> None:
    """Raise InputError for an image that one of the weights was trained on, whatever it is called; they know its checksum."""
    known = [(member.provenance, seen_images(member.provenance)) for member in members]
    if not any(images for _, images in known):
        return
    checksum = image_checksum(image)
    for provenance, images in known:
        if checksum in images:
            there = "" if provenance.get("anonymous") else f" (case {images[checksum]})"
            raise InputError(
                f"{paths[0]}: the weights were trained on this image, or chosen on it{there}: what they make of it tells "
                "nothing of other images; leave it out, or add --trained-on-too"
            )


def refuse_not_finite(trained: Trained, predicted: torch.Tensor | np.ndarray) -> None:
    """Raise InputError where logits or probabilities are not finite: labels made of them would look like any other."""
    if not finite(predicted):
        raise InputError(
            f"{networks.label(trained.model)}: gives logits that are not finite, of which no label can be made; mend "
            "the network, or lower optimizer.lr and train it again"
        )


def is_ct(trained: Trained) -> bool:
    """Tell whether the weights expect Hounsfield units."""
    if trained.model.network == "nnunet":
        return "CT" in trained.plan["dataset"]["channel_names"].values()
    return trained.plan["normalise"] == "ct"


def trained_on(trained: Trained) -> Size | None:
    """Return the median voxel and image size, after the crop, of the training cases; None if unknown."""
    if trained.model.network != "nnunet":
        plan = Plan.from_dict(trained.plan)
        spacing, shape = plan.spacing_mm, plan.median_shape
    else:
        plans = trained.plan["plans"]
        names = ("original_median_spacing_after_transp", "original_median_shape_after_transp")
        if not all(len(plans.get(name) or ()) == 3 for name in (*names, "transpose_backward")):
            return None
        # From nnU-Net's axes, transposed, to (z, y, x), and to (x, y, z).
        spacing, shape = (
            tuple(float(plans[name][axis]) for axis in plans["transpose_backward"])[::-1]
            for name in names
        )
    return Size(tuple(spacing), tuple(np.multiply(spacing, shape).astype(float).tolist()))
