"""Weights that a training starts from: fine-tuning of a network that was trained before.

A file is read with `weights_only=True`, nnU-Net's checkpoints too, so that a file from a stranger runs no code.
"""

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segstudy.cases import seen_images
from segstudy.errors import InputError
from segstudy.files import file_checksum
from segstudy.images.names import times
from segstudy.networks.weights import FORMAT, UNREADABLE, check_content

NNUNET_HEAD = "seg_layers"
"""Part of the name of nnU-Net's last layers, which its own fine-tuning starts anew, too."""
NUMPY = (
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    np._core.multiarray.scalar,
)
"""What nnU-Net's checkpoints hold beside tensors and plain values: numbers of its log."""
HEAD = "the last layer starts anew"


@dataclass(frozen=True)
class InitialWeights:
    """Hold weights to start from.

    Parameters
    ----------
    file, checksum
        Name and SHA-256 of the file.
    network
        What was trained, e.g. `unet`.
    state
        Its tensors, by name.
    cases
        Checksum of an image that it was trained on, or validated by -> the name of the case then, those of the weights that it
        started from itself among them.
    knows_all
        Whether these are all of its cases.
    """

    file: str
    checksum: str
    network: str
    state: Mapping[str, Tensor]
    cases: Mapping[str, str] = field(default_factory=dict)
    knows_all: bool = False

    @property
    def told(self) -> dict[str, Any]:
        """What weights that start from these remember of them."""
        return {
            "file": self.file,
            "sha256": self.checksum,
            "network": self.network,
            "images": dict(self.cases),
            "knows_all": self.knows_all,
        }


def read_initial(path: Path | str) -> InitialWeights:
    """Read weights to start from, a `weights.pt` of segstudy, a bundle of one network, or a checkpoint of nnU-Net's.

    Raises
    ------
    InputError
        For a file that is missing, damaged, or none of these.
    """
    content = _read(path)
    if str(content.get("format")).startswith("segstudy bundle "):
        content = _only_member(path)
    if content.get("format") == FORMAT:
        check_content(content, path, ("model", "provenance", "state"))
        known = content["provenance"]
        return InitialWeights(
            Path(path).name,
            file_checksum(path),
            str(content["model"].get("network")),
            _state(content, "state", path),
            seen_images(known),
            _knows_all(known),
        )
    if "network_weights" in content:
        return InitialWeights(
            Path(path).name, file_checksum(path), "nnunet", _state(content, "network_weights", path)
        )
    raise InputError(
        f"{path}: found {', '.join(map(str, list(content)[:5])) or 'nothing'}; expected a weights.pt of segstudy, or a "
        "checkpoint of nnU-Net's (checkpoint_final.pth)"
    )


def _only_member(path: Path | str) -> dict[str, Any]:
    """Return the content of the network in a bundle; InputError where it holds several."""
    # By name, so that an edit to it is no change of a training.
    members = importlib.import_module("segstudy.networks.bundle").read_bundle(path).members
    if len(members) > 1:
        raise InputError(
            f"{path}: a bundle of {len(members)} networks ({', '.join(members)}); a training starts from one: name a weights.pt, "
            "or a bundle of one network"
        )
    return next(iter(members.values()))


def _knows_all(provenance: Mapping[str, Any]) -> bool:
    """Tell whether weights know each of their cases by its checksum, those of the weights that they started from, too."""
    before = provenance.get("initial_weights") or {}
    own = {*(provenance.get("training") or ()), *(provenance.get("validation") or ())}
    return (
        bool(own)
        and own <= (provenance.get("images") or {}).keys()
        and before.get("knows_all", True)
    )


def _read(path: Path | str) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected a weights file (weights.pt)") from None
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"{path}: not readable as weights: damaged, of another program, or with more in it than tensors and plain values, "
            f"which could run code ({reason})"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: {type(content).__name__} found; expected a weights.pt of segstudy, or a checkpoint of nnU-Net's"
        )
    return content


def _state(content: Mapping[str, Any], key: str, path: Path | str) -> dict[str, Tensor]:
    state = content.get(key)
    if not isinstance(state, dict) or not all(torch.is_tensor(one) for one in state.values()):
        raise InputError(f"{path}: {key} is missing or damaged; train these weights again")
    return state


def take(
    network: nn.Module, initial: InitialWeights, head: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """Put weights into a network, layer by layer, where names and shapes are the same.

    Parameters
    ----------
    network
        With fresh weights; changed in place.
    initial
        The weights.
    head
        Names of layers that start anew whether they fit or not.

    Returns
    -------
    taken : list of str
        Names of the layers that have the weights of the file.
    anew : dict
        Name of each other layer -> why it starts anew.

    Raises
    ------
    InputError
        Where no layer fits, or where a weight of the file is not finite.
    """
    own = network.state_dict()
    taken, anew = [], {}
    for layer, names in layers_of(network).items():
        reason = HEAD if layer in head else _misfit(own, initial.state, names)
        if reason:
            anew[layer] = reason
            continue
        taken.append(layer)
        for name in names:
            if not initial.state[name].isfinite().all():
                raise InputError(
                    f"initial_weights: {initial.file}: {name} is not finite; name others"
                )
            own[name].copy_(initial.state[name])
    if not taken:
        first = next((f"{layer}: {why}" for layer, why in anew.items() if why != HEAD), "")
        raise InputError(
            f"initial_weights: {initial.file}, of network {initial.network}: none of its layers fits in name and shape"
            f"{f' ({first})' if first else ''}; name weights of a network like this one, or give this one their settings"
        )
    return taken, anew


def layers_of(network: nn.Module) -> dict[str, list[str]]:
    """Return the layers of a network that hold weights -> the names of these; what two names stand for has the first one."""
    layers: dict[str, list[str]] = {}
    kept = network.state_dict().keys()
    for name, _ in (*network.named_parameters(), *network.named_buffers()):
        if name in kept:
            layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return layers


def head_of(network: nn.Module, other: nn.Module) -> set[str]:
    """Return the layers whose shape depends on the number of classes.

    Parameters
    ----------
    network, other
        The same but for the number of their classes.
    """
    own, theirs = network.state_dict(), other.state_dict()
    return {
        layer
        for layer, names in layers_of(network).items()
        if any(name not in theirs or own[name].shape != theirs[name].shape for name in names)
    }


def _misfit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], names: Collection[str]) -> str:
    """Say why a layer does not fit; nothing where it does."""
    missing = [name for name in names if name not in given]
    if missing:
        return "not in the file"
    for name in names:
        if own[name].shape != given[name].shape:
            last = name.rpartition(".")[2]
            return (
                f"{last} is {times(given[name].shape)} in the file, {times(own[name].shape)} here"
            )
    return ""
