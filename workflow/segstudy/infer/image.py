"""One image, from its file to a class for each of its voxels."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from segstudy.errors import InputError
from segstudy.images import prepare as preparing
from segstudy.images.files import Image, read_image
from segstudy.images.normalise import normalise
from segstudy.log import duration
from segstudy.networks.weights import Trained
from segstudy.networks.window import predict_volume


@dataclass
class Seconds:
    """What the parts of a prediction took."""

    parts: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=perf_counter)

    def lap(self, part: str) -> None:
        now = perf_counter()
        self.parts[part] = self.parts.get(part, 0) + now - self.since
        self.since = now

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {duration(seconds)}" for part, seconds in self.parts.items())
        return f"{duration(sum(self.parts.values()))} ({parts})"


def predict_image(
    trained: Trained, paths: Sequence[Path], device: torch.device, seconds: Seconds | None = None
) -> Image:
    """Read an image and give each voxel its most likely class.

    paths: one file for all channels, or one a channel, in the order of `trained.channels`.

    Returns class indices (i, j, k), 0 for the background, on the image's own grid: argmax of the
    probabilities after these were resampled to it.
    Raises InputError for a file that is no image, or that has other channels than the network.
    """
    seconds = seconds or Seconds()
    name = ", ".join(str(path) for path in paths)
    image = read_image(paths, channels=len(trained.channels))
    plan = preparing.Plan.from_dict(trained.plan)
    array, way = preparing.prepare(image, plan, name)
    native = image.affine
    del image  # a big CT image takes as much memory as two classes' probabilities
    array = normalise(array, plan)
    seconds.lap("read")
    probabilities = predict_volume(
        trained.network,
        array,
        patch_size=trained.patch_size,
        dims=trained.model.dims,
        planes=trained.model.planes,
        classes=len(trained.structures) + 1,
        overlap=trained.model.overlap,
        device=device,
        amp=trained.model.amp,
    )
    seconds.lap("network")
    classes = preparing.restore(probabilities, way)
    seconds.lap("restore")
    return Image(classes, native)


def with_values(classes: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Label values in place of class indices: class 1 gets `values[0]`, and so on; 0 stays 0."""
    kind = np.uint8 if max(values) < 256 else np.uint16
    return np.array([0, *values], kind)[classes]


def choose_device(setting: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for on this machine."""
    if setting == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device: cuda, but torch sees no CUDA device here; set `auto` or `cpu`, or use a node with a GPU"
        )
    return torch.device("cuda" if setting != "cpu" and torch.cuda.is_available() else "cpu")


def peak_memory(device: torch.device) -> str:
    """The largest memory this process has held, in words."""
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    if device.type == "cuda":
        text += f", on the GPU {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MB"
    return text
