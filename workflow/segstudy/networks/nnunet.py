"""nnU-Net's networks, built from the plans that nnU-Net made (Isensee et al. 2021, Nature Methods).

nnunetv2 is the extra `nnunet`; only this module and the two that train and predict with it import it.
A weights file's `plan` holds, as plain values:

plans, dataset: nnU-Net's `plans.json` and `dataset.json`.
configuration: e.g. `3d_fullres`.
mirroring_axes: axes of an array (z, y, x) that training mirrored, and prediction may.
spacing_mm: voxel size of the configuration along (z, y, x), or (y, x) in 2D, in mm.
"""

import importlib
import os
import pydoc
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segstudy import plugins
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


def class_of(text: str, folder: str, default: str) -> type:
    """Return a class of nnU-Net's by its name, or one of the user's own by its reference.

    nnU-Net's own search imports every module that it has, and fails where one of them lacks a library; here the
    module is found by its text, and imported alone.

    Parameters
    ----------
    text
        Name of the class, or reference of a plug-in.
    folder
        Of nnunetv2, that the class is looked for in.
    default
        The class that it has to be, or be derived from.

    Raises
    ------
    InputError
        Where there is no such class.
    """
    import nnunetv2

    top = Path(nnunetv2.__path__[0])
    if plugins.is_reference(text):
        found = plugins.load(text, default)
    else:
        defines = re.compile(rf"^class {re.escape(text)}\b", re.MULTILINE)
        files = (path for path in sorted((top / folder).rglob("*.py")))
        file = next((path for path in files if defines.search(path.read_text("utf-8"))), None)
        if file is None:
            raise InputError(
                f"{text}: no such class in nnU-Net's {folder}; expected one of its names, or FILE.py:NAME or MODULE:NAME"
            )
        name = ".".join(["nnunetv2", *file.relative_to(top).with_suffix("").parts])
        try:
            found = getattr(importlib.import_module(name), text)
        except ImportError as error:
            raise InputError(f"{text}: nnU-Net's {name} cannot be imported: {error}") from None
    if not (isinstance(found, type) and default in (one.__name__ for one in found.__mro__)):
        raise InputError(f"{text}: expected a class derived from nnU-Net's {default}")
    return found


def trainer_of(text: str) -> type:
    """Return nnU-Net's trainer of this name, or the user's own; raise InputError as `class_of` does."""
    return class_of(text, "training/nnUNetTrainer", "nnUNetTrainer")


def build_from_plan(
    plan: Mapping[str, Any], in_channels: int, classes: int, trainer: str = "nnUNetTrainer"
) -> nn.Module:
    """Build the network of a plan, without deep supervision, with fresh weights.

    trainer: the class that trained it, which may build another network than the plan's.
    Raises InputError for a plan that names other classes than networks and layers: a plan is read
    from a file, and what it names is called.
    """
    prepare(Path(os.devnull), torch.get_num_threads())
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans, configuration = managers(plan)
    if trainer != "nnUNetTrainer":
        build = trainer_of(trainer).build_network_architecture
        return build(plans, configuration, in_channels, classes, enable_deep_supervision=False)
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
