"""Prediction of many images, one after the other: errors kept to the end, times and memory logged."""

import importlib
import math
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from segstudy.errors import GpuMemoryError, InputError
from segstudy.images.files import Image, within_memory
from segstudy.infer import image as own
from segstudy.jobs.machine import writers
from segstudy.log import log, progress
from segstudy.networks.device import gpu_failures
from segstudy.networks.weights import Trained

if TYPE_CHECKING:
    import numpy as np

    from segstudy.infer.ensemble import Ensemble


@dataclass(frozen=True)
class Predicted:
    """Hold what was predicted of an image, on its own grid.

    Parameters
    ----------
    classes
        Class indices (i, j, k).
    probabilities
        float32 (class, i, j, k), which add up to 1.
    """

    classes: Image
    probabilities: "np.ndarray"


def predict_each(
    trained: "Trained | Ensemble",
    images: Mapping[str, Sequence[Path]],
    device: torch.device,
    finish: Callable[[str, Any], Any],
    what: str = "predicted",
    spacing_mm: Sequence[float] = (),
    probabilities: bool = False,
) -> dict[str, Any]:
    """Predict images, and hand the name and class map of each to `finish`.

    On a GPU, the next image is read and the last ones finished while the network works, as many at a time as
    `jobs.machine.writers` says; on a CPU they take turns, which needs the memory of one image.

    Parameters
    ----------
    trained
        The weights with their settings, or an ensemble of several.
    images
        Name -> one file for all channels, or one a channel.
    device
        Where the network runs.
    finish
        Called with a name and class indices (i, j, k) on the image's own grid, or `Predicted` where probabilities are
        asked for; on a GPU for several at a time.
    what
        Begins each line of progress.
    spacing_mm
        Voxel size of pictures along columns, rows and slices, which do not tell it.
    probabilities
        Whether `finish` is given the probabilities, too.

    Returns
    -------
    dict
        Name -> result of `finish`.

    Raises
    ------
    InputError
        At the end, for all images that cannot be predicted, which do not stop the others; at once
        where the GPU's memory is too small.
    """
    image = steps_of(trained)
    names = list(images)
    overlapping = device.type == "cuda"
    number_of_writers = writers(torch.get_num_threads()) if overlapping else 1
    windows = [member.patch_size for member in members_of(trained)]
    window = "x".join(map(str, max(windows, key=math.prod)))
    too_large = (
        f"one window of {window} voxels does not fit in; use --device cpu, or a GPU with more"
    )
    readings: dict[str, Future] = {}
    exports: dict[str, Future] = {}
    errors: dict[str, InputError] = {}

    def read(name: str) -> tuple[Any, float]:
        with within_memory(name, images[name][0]):
            return _timed(image.read, trained, images[name], spacing_mm)

    def restored(predicted, way) -> Image | Predicted:
        classes = image.restore(predicted, way)
        if not probabilities:
            return classes
        return Predicted(classes, image.restore_probabilities(predicted, way))

    def export(name: str, predicted, way, seconds: list[float]) -> Any:
        with within_memory(name, images[name][0]):
            result, export_s = _timed(lambda: finish(name, restored(predicted, way)))
        times = [f"{part:.2f} s" for part in (*seconds, export_s)]
        log.info("%s: read %s, network %s, export %s", name, *times)
        return result

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(number_of_writers) as writer:
        for number, name in enumerate(progress(names, what)):
            for near in names[number : number + (2 if overlapping else 1)]:
                if near not in readings:
                    readings[near] = reader.submit(read, near)
            try:
                (array, way), read_s = readings.pop(name).result()
                with within_memory(name, images[name][0]), gpu_failures(too_large):
                    predicted, network_s = _timed(image.probabilities, trained, array, device)
            except GpuMemoryError as error:
                raise GpuMemoryError(f"case {name}: {error}", error.shared) from None
            except InputError as error:  # a file's tells its case, a network's can't
                told = f"case {name}: " in str(error) or str(images[name][0]) in str(error)
                errors[name] = error if told else InputError(f"case {name}: {error}")
                continue
            _wait_for_one(exports.values(), number_of_writers)
            exports[name] = writer.submit(export, name, predicted, way, [read_s, network_s])
            del array, predicted
            if not overlapping:
                wait(exports.values())
    results = {}
    for name, exported in exports.items():
        try:
            results[name] = exported.result()
        except InputError as error:
            errors[name] = error
    if images:
        log.info("peak memory %s", peak_memory(device))
    if errors:
        lines = [str(errors[name]) for name in names if name in errors]
        if len(images) > 1:
            lines.append(f"{len(errors)} of {len(images)} images could not be predicted")
        raise InputError("\n".join(lines))
    return results


def _wait_for_one(exports: Iterable[Future], most: int) -> None:
    """Wait until fewer than `most` exports are under way; raise what ended one of them, but for what is told at the end."""
    running = [export for export in exports if not export.done()]
    if len(running) >= most:
        wait(running, return_when=FIRST_COMPLETED)
    for export in exports:
        if export.done() and not isinstance(export.exception(), InputError):
            export.result()


def members_of(trained: "Trained | Ensemble") -> tuple[Trained, ...]:
    """Return the members of an ensemble; of a single network, itself alone."""
    return getattr(trained, "members", (trained,))


def steps_of(trained: "Trained | Ensemble"):
    """Return the module that reads, predicts and restores an image: ours, an ensemble's, or nnU-Net's."""
    if hasattr(trained, "members"):
        return importlib.import_module("segstudy.infer.ensemble")
    if trained.model.network != "nnunet":
        return own
    # By name, so that an edit to it is no change of the other networks' code.
    return importlib.import_module("segstudy.infer.nnunet")


def _timed(function: Callable, *arguments) -> tuple[Any, float]:
    began = perf_counter()
    return function(*arguments), perf_counter() - began


def peak_memory(device: torch.device) -> str:
    """Return the largest memory this process has held, in words."""
    # getrusage counts kilobytes on Linux, bytes on macOS
    unit = 2**20 if sys.platform == "darwin" else 2**10
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.0f} MB"
    if device.type == "cuda":
        text += f", on the GPU {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MB"
    return text
