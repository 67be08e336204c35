"""Mirroring by a model's settings, and the ability to tell left from right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from segstudy.study.models import AnyModel
    from segstudy.study.nnunet import NnunetModel

Pairs = Sequence[tuple[str, str]]


def mirrored_axes(model: "NnunetModel", pairs: Pairs) -> Literal["all", "not_right_left", "none"]:
    """Return which axes nnU-Net mirrors in a study with these pairs of left and right structures."""
    if model.mirror != "auto":
        return model.mirror
    return "not_right_left" if pairs else "all"


def averages_mirrored(model: "AnyModel") -> bool:
    """Return whether predictions of mirrored images are averaged."""
    if model.network == "nnunet":
        return model.infer.mirroring and model.mirror != "none"
    return bool(getattr(getattr(model, "infer", None), "mirror_axes", ()))


def side_blind_settings(model: "AnyModel") -> list[str]:
    """Return the settings by which a network sees left where right was, in a study that declares no pairs.

    They are named as in the study file. Sagittal slices never show the right-left axis; a program of
    others, or a trainer of the user's own, has no such setting.
    """
    if model.trainer in ("external", "predictions", "ensemble", "plugin"):
        return []
    if model.network == "nnunet":
        return [f"mirror: {model.mirror}"] if mirrored_axes(model, ()) == "all" else []
    if model.dims == 2 and set(model.planes) == {"sagittal"}:
        return []
    named = {
        "augmentation.flip_axes": model.augmentation.flip_axes,
        "infer.mirror_axes": model.infer.mirror_axes,
    }
    return [f"{key}: right_left" for key, axes in named.items() if "right_left" in axes]
