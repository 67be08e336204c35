"""Weights files: a network with all that is needed to use it on an image.

A file holds tensors and plain values only, and is read with `weights_only=True`, so that a file
from a stranger runs no code.
"""

import io
import math
import pickle
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from segstudy import __version__, plugins
from segstudy.errors import InputError
from segstudy.files import writing
from segstudy.images.plan import CROPS, NORMALISATIONS, Plan
from segstudy.networks import build, module_of, patch_spacing
from segstudy.study import AnyModel

FORMAT = "segstudy weights 1"
UNREADABLE = (
    *(RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError),
    *(LookupError, AttributeError, TypeError, AssertionError, OverflowError, MemoryError),
)
"""What torch raises for a file that is damaged, or that is something else."""


@dataclass(frozen=True)
class Trained:
    """Hold a trained network and what it was trained for.

    network: from `load_weights` in evaluation mode, on the device asked for.
    model: the model's settings in its study (overlap, planes, keep_largest_component, ...).
    structures: names of the classes 1, 2, ...; class 0 is the background.
    channels: names of an image's channels, in order; the plan may keep some of them only.
    plan: the preprocessing as plain values (`images.plan.Plan.from_dict` reads it; nnU-Net's is
        described in `networks.nnunet`).
    patch_size: voxels a patch, on the plan's grid in RAS order (nnU-Net: z, y, x); two numbers for
        a 2D network.
    provenance: study, model, fold, seed, cases trained on, versions: whatever the trainer knew.
    left_right_pairs: structures that a mirrored image swaps.
    plugins: label and digest of each plug-in that took part, by key (`network`, ...); to be filled in
        where weights are read only.
    """

    network: nn.Module
    model: AnyModel
    structures: tuple[str, ...]
    channels: tuple[str, ...]
    plan: dict[str, Any]
    patch_size: tuple[int, ...]
    provenance: dict[str, Any]
    left_right_pairs: tuple[tuple[str, str], ...] = ()
    plugins: dict[str, str] = field(default_factory=dict)


def save_weights(path: Path | str, trained: Trained) -> None:
    """Write a weights file, atomically; equal content gives equal bytes.

    The plan and the provenance of `trained` hold plain values only.
    """
    write_content(path, content_of(trained))


def content_of(trained: Trained) -> dict[str, Any]:
    """Return what a weights file holds of a trained network: tensors and plain values."""
    model = trained.model
    content = {
        "format": FORMAT,
        "version": __version__,
        # By their labels: where plug-ins lie is no matter of the weights.
        "model": model.labelled(),
        "structures": list(trained.structures),
        "channels": list(trained.channels),
        "plan": dict(trained.plan),
        "patch_size": list(trained.patch_size),
        "provenance": dict(trained.provenance),
        "left_right_pairs": [list(pair) for pair in trained.left_right_pairs],
        "state": {
            name: tensor.detach().cpu() for name, tensor in trained.network.state_dict().items()
        },
    }
    used = trained.plugins or model.plugin_provenance()
    if used:
        content["plugins"] = used
    return content


def write_content(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, atomically; equal content gives equal bytes."""
    # Through memory, since torch.save writes the (temporary) file's name into the file.
    memory = io.BytesIO()
    torch.save(_own(content), memory)
    with writing(path) as temporary:
        temporary.write_bytes(memory.getvalue())


def _own(value: Any) -> Any:
    """Copy plain values so that equal texts are one object and equal lists are several, since pickle writes which are the same."""
    if isinstance(value, Mapping):
        return {_own(key): _own(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_own, value))
    return sys.intern(value) if type(value) is str else value


def load_weights(
    path: Path | str, device: torch.device | str = "cpu", plugin: str | None = None
) -> Trained:
    """Read a weights file and build its network on `device`.

    plugin: reference of the plug-in, where the network is one.

    Raises InputError for a file that is missing, damaged, no weights file of segstudy, or made
    for a network or settings that this version does not know; and for a plug-in that is missing, not
    needed, or of other code than that which the weights were trained with.
    """
    return trained_from(read_content(path), path, device, plugin)


def trained_from(
    content: dict[str, Any],
    path: Path | str,
    device: torch.device | str = "cpu",
    plugin: str | None = None,
) -> Trained:
    """Build the network of what `read_content` returned, as `load_weights` does; path: the file, for errors."""
    check_content(content, path)
    try:
        model = TypeAdapter(AnyModel).validate_python(content["model"])
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in ("model", *problem["loc"]))
        raise InputError(
            f"{path}: {place}: {problem['msg']} (written by segstudy {content['version']}, "
            f"this is {__version__}); use the version that wrote it, or train again"
        ) from None
    used = content.get("plugins") or {}
    model = _with_plugin(model, used, plugin, path)
    classes = 1 + len(content["structures"])
    try:
        network = _build(model, len(content["channels"]), classes, content)
        network.load_state_dict(content["state"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: no network can be built of what it says ({type(error).__name__}: {error}); it is damaged, or not of segstudy"
        ) from None
    except RuntimeError as error:
        # torch's first line names the class alone, and each further one a tensor.
        reason = (str(error).strip().splitlines()[1:] or [str(error)])[0].strip().rstrip(".")[:300]
        raise InputError(
            f"{path}: weights do not fit the network {model.network} as segstudy {__version__} "
            f"builds it ({reason}); they are damaged, or an earlier segstudy wrote them (here "
            f"{content['version']}): use the one that wrote them, or train again"
        ) from None
    return Trained(
        network=network.to(device).eval(),
        model=model,
        structures=tuple(content["structures"]),
        channels=tuple(content["channels"]),
        plan=content["plan"],
        patch_size=tuple(content["patch_size"]),
        provenance=content["provenance"],
        left_right_pairs=tuple(tuple(pair) for pair in content["left_right_pairs"]),
        plugins=dict(used),
    )


def _with_plugin(
    model: AnyModel, used: Mapping[str, str], plugin: str | None, path: Path | str
) -> AnyModel:
    """Return the model with its network's plug-in, once that is known to be the one of the weights."""
    own_trainer = plugins.is_reference(getattr(model, "trainer_class", None))
    if model.network != "plugin" and not own_trainer:
        if plugin is not None:
            raise InputError(
                f"--plugin {plugin}: {path} holds weights of {model.network}, which needs no plug-in; leave it out"
            )
        return model
    key, default = ("trainer_class", "nnUNetTrainer") if own_trainer else ("network", "Network")
    if key not in used:
        raise InputError(f"{path}: does not tell which plug-in its network is; train again")
    found = plugins.recognised(plugin, used[key], default, str(path))
    return model.model_copy(update={key if own_trainer else "network_plugin": found})


def _build(model: AnyModel, in_channels: int, classes: int, content: dict) -> nn.Module:
    plan = content["plan"]
    if model.network == "nnunet":
        from_plan = module_of(model.network).build_from_plan
        return from_plan(plan, in_channels, classes, model.trainer_class)
    spacing = patch_spacing(plan["spacing_mm"], model.dims, model.planes)
    in_channels = len(plan.get("channels") or ()) or in_channels
    return build(model, in_channels, classes, content["patch_size"], spacing)


_KINDS = {
    "version": str,
    "model": dict,
    "structures": list,
    "channels": list,
    "plan": dict,
    "patch_size": list,
    "provenance": dict,
    "left_right_pairs": list,
    "state": dict,
}


def _texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _numbers(values: Any, kinds: type | UnionType = int | float) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, kinds) and 0 < value < float("inf") for value in values
    )


def _named_images(known: Mapping[str, Any]) -> bool:
    """Tell whether the images of weights, or of those that they started from, are names and checksums."""
    images = known.get("images") or {}
    return isinstance(images, dict) and _texts([*images, *images.values()])


_PARTS = {
    # Shown in terminals, which none of them may command.
    "structures": lambda names: bool(names) and _texts(names) and "".join(names).isprintable(),
    "channels": lambda names: bool(names) and _texts(names),
    "plan": lambda plan: _numbers(plan.get("spacing_mm")) and len(plan["spacing_mm"]) in (2, 3),
    "patch_size": lambda sizes: len(sizes) in (2, 3) and _numbers(sizes, int),
    "provenance": lambda known: (
        all(_texts(known.get(key) or ()) for key in ("training", "validation", "images"))
        and isinstance(known.get("initial_weights") or {}, dict)
        and _named_images(known)
        and _named_images(known.get("initial_weights") or {})
    ),
    "left_right_pairs": lambda pairs: all(
        len(pair) == 2 and _texts(pair) and pair[0] != pair[1] for pair in pairs
    ),
    "state": lambda state: _texts(state),
}
"""Whether what stands at a key is of the right shape."""


def _well_shaped(key: str, value: Any) -> bool:
    try:
        return key not in _PARTS or bool(_PARTS[key](value))
    except (TypeError, AttributeError):
        return False


def read_content(path: Path | str) -> dict[str, Any]:
    """Read a file of tensors and plain values, without running code; InputError where it is missing, damaged or no such file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected a weights file (weights.pt)") from None
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        if isinstance(error, pickle.UnpicklingError) and reason.startswith("Weights only"):
            # torch's own words advise to run the code.
            reason = (
                "not tensors and plain values alone: anything else could run code, and is not read"
            )
        of_nnunet = (
            "; checkpoints of nnU-Net itself are not read: name the weights.pt of a study's `trainer: nnunet`"
            if str(path).endswith(".pth")
            else ""
        )
        raise InputError(
            f"{path}: not readable as weights, damaged or of another program ({reason}){of_nnunet}"
        ) from None
    return content if isinstance(content, dict) else {"format": type(content).__name__}


def check_content(
    content: Mapping[str, Any], path: Path | str, keys: Collection[str] = tuple(_KINDS)
) -> None:
    """Raise InputError where a file's content is not that of a weights file; keys: those that matter."""
    if content.get("format") != FORMAT:
        expected = f"a {FORMAT!r} file, or a bundle of `segstudy bundle`"
        raise InputError(f"{path}: {other_format(content.get('format'), expected)}")
    for key in keys:
        whole = isinstance(content.get(key), _KINDS[key])
        if not whole or not _well_shaped(key, content[key]):
            raise InputError(f"{path}: {key} is missing or damaged; train again")
    plugins_told = content.get("plugins") or {}
    if not isinstance(plugins_told, dict) or not _texts(plugins_told.values()):
        raise InputError(f"{path}: plugins is damaged; train again")
    if "plan" in keys and (told := _contradiction(content)):
        raise InputError(f"{path}: {told}: it is damaged, or not of segstudy; train again")


def _contradiction(content: Mapping[str, Any]) -> str:
    """Say what in a file does not go with the rest of it, so that no image could be predicted; nothing where all does."""
    names = content["structures"]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"structures: {twice} stands there twice"
    for name in (name for pair in content["left_right_pairs"] for name in pair):
        if name not in names:
            return f"left_right_pairs: {name} is none of the structures {', '.join(names)}"
    if content["model"].get("network") == "nnunet":
        return ""
    try:
        plan = Plan.from_dict(content["plan"])
    except InputError as error:
        return f"plan: {str(error).partition(';')[0]}"
    for key, known in (("crop", CROPS), ("normalise", NORMALISATIONS)):
        if getattr(plan, key) not in known:
            return f"plan.{key}: {getattr(plan, key)}; expected one of {', '.join(known)}"
    for key in ("margin_mm", "anisotropy_threshold"):
        if not (_finite(getattr(plan, key)) and getattr(plan, key) >= 0):
            return f"plan.{key}: {getattr(plan, key):g}; expected a number from 0 on"
    count = len(content["channels"])
    kept = range(count) if plan.channels is None else plan.channels
    if not kept or any(not 0 <= index < count for index in kept):
        return f"plan.channels: {list(kept)}; expected places in the {count} channels"
    measures = {"low", "high", "mean", "sd"}
    if plan.normalise == "ct" and not (
        len(plan.intensities) == len(kept)
        and all(measures <= one.keys() for one in plan.intensities)
        and all(_finite(one[key]) for one in plan.intensities for key in measures)
    ):
        return f"plan.intensities: expected low, high, mean and sd of each of {len(kept)} channels"
    return ""


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def other_format(written: Any, expected: str) -> str:
    """Return what is wrong with a file of another format than is expected, in words."""
    name = str(written)
    if name.startswith(("segstudy weights ", "segstudy bundle ")) and not name.endswith(" 1"):
        return f"{name!r} found, which segstudy {__version__} does not know: a later one wrote it; use that one"
    return f"{written or 'no format'} found; expected {expected}"
