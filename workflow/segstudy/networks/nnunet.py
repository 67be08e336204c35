"""nnU-Net's networks, built from the plans that nnU-Net made (Isensee et al. 2021, Nature Methods).

nnunetv2 is the extra `nnunet`; only this module and the two that train and predict with it import it.
A weights file's `plan` holds, as plain values:

plans, dataset: nnU-Net's `plans.json` and `dataset.json`.
configuration: e.g. `3d_fullres`.
mirroring_axes: axes of an array (z, y, x) that training mirrored, and prediction may.
spacing_mm: voxel size of the configuration along (z, y, x), or (y, x) in 2D, in mm.
"""

import os
import pydoc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segstudy.errors import InputError

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
"""nnU-Net's environment variables; segstudy sets them for its own process alone."""


def prepare(folder: Path, threads: int = 1) -> None:
    """Settle where this process' nnU-Net works and how many processes it starts.

    Called before nnunetv2 is imported for the first time, since it reads some of this on import.
    folder: gets `nnUNet_raw`, `nnUNet_preprocessed` and `nnUNet_results`; none is made here.
    Raises InputError where nnunetv2 is not installed.
    """
    os.environ.update({name: str(folder / name) for name in FOLDERS})
    for name in ("nnUNet_extTrainer", "nnUNet_wandb_enabled"):
        os.environ.pop(name, None)
    os.environ.update({"nnUNet_def_n_proc": str(threads), "nnUNet_n_proc_DA": str(threads)})
    try:
        import nnunetv2  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"trainer: nnunet needs nnU-Net, which cannot be imported here ({error}); "
            "install it: pip install 'segstudy[nnunet]'"
        ) from None


def managers(plan: Mapping[str, Any]):
    """Return nnU-Net's PlansManager and ConfigurationManager of a plan."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(plan["plans"])
    return plans, plans.get_configuration(plan["configuration"])


def build_from_plan(plan: Mapping[str, Any], in_channels: int, classes: int) -> nn.Module:
    """Build the network of a plan, without deep supervision, with fresh weights.

    Raises InputError for a plan that names other classes than networks and layers: a plan is read
    from a file, and what it names is called.
    """
    prepare(Path(os.devnull), torch.get_num_threads())
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    _, configuration = managers(plan)
    name = configuration.network_arch_class_name
    arguments = configuration.network_arch_init_kwargs
    imported = configuration.network_arch_init_kwargs_req_import
    _check(name, "dynamic_network_architectures.architectures.")
    for key in imported:
        if arguments[key] is not None:
            _check(arguments[key], "torch.nn.")
    return get_network_from_plans(
        name, arguments, imported, in_channels, classes, allow_init=False, deep_supervision=False
    )


def _check(name: str, package: str) -> None:
    architecture = pydoc.locate(name) if str(name).startswith(package) else None
    if not isinstance(architecture, type) or not issubclass(architecture, nn.Module):
        raise InputError(f"the plan names {name!r}, which is no network or layer of nnU-Net's")
