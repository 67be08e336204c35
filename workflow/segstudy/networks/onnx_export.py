"""Networks as ONNX files, each with a JSON that says how its input is made and what its output means.

A file holds the network alone, on one window: reading, resampling, normalising and joining windows are no layers. The
JSON tells them in full, so that a program without segstudy, or without Python, can follow. What a file computes is
compared with the network by ONNX Runtime before it is handed out.
"""

import hashlib
import importlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstudy import __version__
from segstudy.errors import InputError
from segstudy.files import check_folder_name, make_folder, read_json, write_json, writing
from segstudy.images.crop import BODY_ABOVE_HU
from segstudy.networks.weights import Trained
from segstudy.networks.window import SIGMA

CLOSE = 1e-4
"""Largest difference of probabilities between ONNX Runtime on a CPU and the network itself."""
OPSET = 18
FORMAT = "segstudy onnx 1"


def export(members: Mapping[str, Trained], folder: Path, colours: Mapping[str, Any]) -> list[Path]:
    """Write each network as `<name>.onnx`, with `<name>.json` beside it.

    Parameters
    ----------
    members
        Name -> network.
    folder
        Empty, missing, or of an earlier export, which is replaced.
    colours
        Structure -> red, green, blue.

    Returns
    -------
    list
        The network files.

    Raises
    ------
    InputError
        Where the folder holds anything else, where the extra `onnx` is not installed, where a network cannot be exported,
        and where the file gives other numbers than the network.
    """
    check_folder_name(folder)
    earlier = _earlier(folder)
    runtime = _library("onnxruntime")
    for name in ("onnx", "onnxscript"):  # which torch imports
        _library(name)
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, trained) in enumerate(members.items()):
            file = Path(temporary) / f"{file_name(number, trained)}.onnx"
            _write(file, name, trained)
            apart = _apart(runtime, file, trained)
            if not apart <= CLOSE:
                raise InputError(
                    f"{name}: ONNX Runtime's probabilities differ by {apart:.2g} from those of the network; expected at most "
                    f"{CLOSE:g}: this network cannot be handed out as ONNX"
                )
            described = description(name, trained, colours)
            described |= {
                "file": file.name,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            described["largest_difference"] = (
                f"{apart:.1e} of a probability, in ONNX Runtime on a CPU"
            )
            write_json(file.with_suffix(".json"), described)
        make_folder(folder)
        for file in earlier:
            file.unlink()
        for file in sorted(Path(temporary).iterdir()):
            with writing(folder / file.name) as written:
                shutil.copyfile(file, written)
    return sorted(folder.glob("*.onnx"))


def _earlier(folder: Path) -> list[Path]:
    """List the files of an earlier export; InputError where the folder holds anything else."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    ours = {
        file
        for told in files
        if told.suffix == ".json" and told.is_file() and _is_export(told)
        for file in (told, told.with_suffix(".onnx"))
    }
    for file in files:
        if file not in ours or not file.is_file():
            raise InputError(
                f"--onnx {folder}: holds {file.name}, which is of no export; expected an empty folder, a new one, or one of an "
                "earlier export, which is replaced"
            )
    return files


def _is_export(file: Path) -> bool:
    try:
        content = read_json(file)
    except InputError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def file_name(number: int, trained: Trained) -> str:
    """Return what the files of a member are called: its number, network, fold and seed."""
    known = trained.provenance
    parts = [f"{key}-{known[key]}" for key in ("fold", "seed") if known.get(key) is not None]
    return "-".join([f"{number + 1:02d}", trained.model.network, *parts])


def description(name: str, trained: Trained, colours: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the input of a network is made and what its output means, as plain values."""
    model, plan = trained.model, trained.plan
    nnunet = model.network == "nnunet"
    axes = {
        True: ["z", "y", "x"][-len(trained.patch_size) :],
        False: ["right", "front", "head"]
        if getattr(model, "dims", 3) == 3
        else ["first", "second"],
    }[nnunet]
    kept = plan.get("channels")
    channels = list(trained.channels) if kept is None else [trained.channels[one] for one in kept]
    steps = (
        [
            "as nnU-Net's own preprocessing does, by `preprocessing.plans` and `preprocessing.configuration`; axes z, y, x",
        ]
        if nnunet
        else [
            "turn the axes so that they point to the right, to the front and to the head (RAS)",
            _crop(plan),
            "clip CT values to -1024..3071 HU"
            if plan["normalise"] == "ct"
            else "keep a zero background at 0",
            f"resample to voxels of {' x '.join(f'{size:g}' for size in plan['spacing_mm'])} mm by cubic splines, between grids "
            "that share their outer edges (along each axis length / voxel size voxels, rounded, 1 or more), after a Gaussian along "
            "axes that get coarser (from n to m voxels: SD of sqrt((n / m)^2 - 1) / 2.355 voxels); along an axis more than "
            f"{plan['anisotropy_threshold']:g} times coarser than the next one, by the nearest slice; clip to each channel's range "
            "before",
            "for each channel: clip to low..high, subtract mean, divide by sd (`preprocessing.intensities`)"
            if plan["normalise"] == "ct"
            else "for each channel: subtract its mean, divide by its standard deviation, over the voxels that are not background, "
            "where at least a tenth of the image is 0; background stays 0",
        ]
    )
    planes = list(getattr(model, "planes", ()))
    infer = model.infer
    mirrored = list(getattr(infer, "mirror_axes", ()))
    if nnunet and infer.mirroring:
        mirrored = [axes[axis] for axis in plan["mirroring_axes"] or ()]
    return {
        "format": FORMAT,
        "segstudy": __version__,
        "member": name,
        "input": {
            "name": "image",
            "type": "float32",
            "shape": [1, len(channels), *trained.patch_size],
            "channels": channels,
            "axes": axes,
            **({"planes": planes} if getattr(model, "dims", 3) == 2 else {}),
        },
        "output": {
            "name": "logits",
            "type": "float32",
            "shape": [1, 1 + len(trained.structures), *trained.patch_size],
            "classes": ["background", *trained.structures],
            "activation": "softmax over axis 1",
        },
        "preprocessing": {"steps": steps, **plan},
        "windows": {
            "patch_size": list(trained.patch_size),
            "overlap": infer.overlap,
            "gaussian_sigma_of_patch": SIGMA,
            "mirror_axes": mirrored,
            "padding": 0,
        },
        "postprocessing": {
            "resampling": "logits to the image's own grid as nnU-Net does, by `preprocessing.configuration`, then the highest"
            if nnunet
            else "probabilities to the image's own grid by cubic convolution, then the highest; outside the crop all is background",
            "keep_largest_component": infer.keep_largest_component,
        },
        "left_right_pairs": [list(pair) for pair in trained.left_right_pairs],
        "colours": {key: list(value) for key, value in colours.items()},
    }


def _crop(plan: Mapping[str, Any]) -> str:
    """Return in words what an image is cropped to."""
    kinds = {
        "none": "crop: none, the whole image",
        "nonzero": "crop: nonzero, to the box of the voxels that are not 0 in some channel",
        "body": f"crop: body, to the box of the connected parts above {BODY_ABOVE_HU} HU, without thin ones such as a table",
    }
    return (
        f"{kinds[plan['crop']]}; widened by {plan['margin_mm']:g} mm on each side, within the image"
    )


def _library(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"--onnx needs {name}, which cannot be imported here ({error}); install it: pip install 'segstudy[onnx]'"
        ) from None


def _example(trained: Trained) -> torch.Tensor:
    """Return a window of noise, the same each time."""
    kept = trained.plan.get("channels")
    channels = len(trained.channels if kept is None else kept)
    draw = np.random.default_rng(0)
    return torch.from_numpy(
        draw.standard_normal((1, channels, *trained.patch_size)).astype(np.float32)
    )


def _write(file: Path, name: str, trained: Trained) -> None:
    """Export a network; raise InputError with torch's own reason where it cannot."""
    network = trained.network.cpu().eval()
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (_example(trained),),
                str(file),
                input_names=["image"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (
        Exception
    ) as error:  # whatever torch, or code of others, raises for what it cannot export
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{name}: network {trained.model.network} cannot be exported as ONNX ({type(error).__name__}: {reason}); hand it on "
            "as a bundle, without --onnx"
        ) from None
    finally:
        noisy.setLevel(level)


def _apart(runtime, file: Path, trained: Trained) -> float:
    """Return the largest difference of probabilities between ONNX Runtime on the CPU and the network, on windows of noise."""
    windows = _example(trained)
    with torch.no_grad():
        expected = trained.network(windows).float().softmax(1).numpy()
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": windows.numpy()})
    return float(np.abs(torch.from_numpy(logits).softmax(1).numpy() - expected).max())
