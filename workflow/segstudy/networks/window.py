"""Prediction of a whole volume by a network that sees patches: overlapping windows, softly joined.

Windows and weights follow nnU-Net (Isensee et al. 2021): windows evenly spread, their
probabilities averaged with Gaussian weights whose sigma is an eighth of the patch, so that a
window counts most where it sees context on all sides.

Since windows stand on a regular grid, the weights factor into one profile an axis. Each axis'
profiles are divided by their sum beforehand: the weights of all windows then add up to 1 in every
voxel, and neither a second volume of counts nor a division at the end is needed.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from segstudy import gpus
from segstudy.networks.device import free_memory, half_precision
from segstudy.planes import NORMAL_AXIS
from segstudy.sides import RAS_AXES

SIGMA = 1 / 8
"""Standard deviation of the Gaussian weights, as a fraction of the patch."""

BATCH_VOXELS = {"cpu": 2**18, "cuda": 2**22}
"""Voxels of a batch when its size is left open: as many as gain speed at little memory."""


@dataclass(frozen=True)
class SlidingWindow:
    """Set how windows cover a volume and how their predictions are averaged.

    Parameters
    ----------
    patch_size
        Voxels of a window along each of its `dims` axes. In 2D these are a slice's two axes in RAS
        order: (x, y) axial, (x, z) coronal, (y, z) sagittal.
    dims
        Dimensions of the network, 2 or 3.
    planes
        Slice planes of a 2D network; the probabilities of several planes are averaged.
    overlap
        Least fraction of a window that its neighbour covers, from 0 up to below 1.
    batch_size
        Windows in a forward pass; None: by the size of the patch and by the device.
    sigma
        Standard deviation of the Gaussian weights, as a fraction of the patch.
    mirror_axes
        Test-time mirroring: each window is predicted as it is and mirrored along each combination
        of these axes (`right_left`, ...), and the probabilities are averaged. A slice is never
        mirrored along the axis across it.
    pairs
        Classes that are the left and the right one of a structure: in a body mirrored from right
        to left, a network finds each where the other is.
    order
        The network's class of each class that is given out; None: as the network has them.

    Raises
    ------
    ValueError
        Where `patch_size` has other than `dims` numbers.
    """

    patch_size: tuple[int, ...]
    dims: int
    planes: Sequence[str] = ("axial",)
    overlap: float = 0.5
    batch_size: int | None = None
    sigma: float = SIGMA
    mirror_axes: Sequence[str] = ()
    pairs: Sequence[tuple[int, int]] = ()
    order: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Refuse a patch of other than `dims` axes."""
        if len(self.patch_size) != self.dims:
            raise ValueError(f"patch {self.patch_size} of a network in {self.dims}D")

    @property
    def normal_axes(self) -> list[int | None]:
        """Return the RAS axis across each slice plane; [None] for whole volumes."""
        return [NORMAL_AXIS[plane] for plane in self.planes] if self.dims == 2 else [None]

    def windows_per_batch(self, device: torch.device) -> int:
        """Return how many windows a forward pass on a device takes."""
        return self.batch_size or max(1, BATCH_VOXELS[device.type] // math.prod(self.patch_size))


def predict_volume(
    network: nn.Module,
    image: np.ndarray,
    classes: int,
    window: SlidingWindow,
    device: torch.device | str = "cpu",
    amp: bool = False,
) -> np.ndarray:
    """Predict the class probabilities of a volume by sliding windows.

    Parameters
    ----------
    network
        Gives logits (batch, class, *patch) for images (batch, channel, *patch). It is in
        evaluation mode during the call.
    image
        Normalised volume (channel, x, y, z), axes RAS, on the grid that the network was trained on.
    classes
        Number of classes, the background counted.
    amp
        Automatic mixed precision, where the device has it.

    Returns
    -------
    np.ndarray
        float32 (class, x, y, z); the classes of a voxel add up to 1. A volume smaller than the
        patch is padded with 0 evenly on both sides, as training patches are.
    """
    return predict_tensor(network, image, classes, window, device, amp).cpu().numpy()


@torch.inference_mode()
def predict_tensor(
    network: nn.Module,
    image: np.ndarray,
    classes: int,
    window: SlidingWindow,
    device: torch.device | str = "cpu",
    amp: bool = False,
) -> Tensor:
    """Predict as `predict_volume` does; the probabilities stay on the device, where its memory holds them."""
    if image.ndim != 4:
        raise ValueError(f"image of shape {image.shape}; expected (channel, x, y, z)")
    device = torch.device(device)
    source = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))

    def predict(home: torch.device) -> Tensor:
        total = zeros(classes, source.shape[1:], window, home)
        add_prediction(network, source.to(home), total, window, device, amp)
        return total

    return where_it_fits(predict, source.shape, classes, device)


def where_it_fits(
    predict: Callable[[torch.device], Tensor],
    shape: Sequence[int],
    classes: int,
    device: torch.device,
) -> Tensor:
    """Predict with image and probabilities held on the device, or in main memory where the GPU's is too small.

    Parameters
    ----------
    predict
        Given the device that holds them, returns the probabilities; called a second time where the first ran out
        of the GPU's memory.
    shape
        Of the image (channel, x, y, z).
    classes
        Number of classes.
    device
        Where the network runs.
    """
    home = _home(shape, classes, device)
    try:
        return predict(home)
    except RuntimeError as error:
        if home.type == "cpu" or not gpus.out_of_memory(error):
            raise
    # One window is too much beside the volume: the volume moves out.
    torch.cuda.empty_cache()
    return predict(torch.device("cpu"))


@torch.inference_mode()
def add_prediction(
    network: nn.Module,
    source: Tensor,
    total: Tensor,
    window: SlidingWindow,
    device: torch.device,
    amp: bool = False,
    share: float = 1.0,
) -> None:
    """Add a network's class probabilities, times a share, to the sums of a volume, window by window.

    So several networks are averaged in the memory that one takes.

    Parameters
    ----------
    network
        As for `predict_volume`.
    source
        The image (channel, x, y, z), on the device of `total`.
    total
        The sums (class, x, y, z), of `zeros`; changed in place.
    window
        How windows cover the volume.
    device
        Where the network runs.
    amp
        Automatic mixed precision, where the device has it.
    share
        What the probabilities are multiplied by.
    """
    axes = window.normal_axes
    half = half_precision(device) if amp else None
    order = list(range(len(total)))
    for left, right in window.pairs:
        order[left], order[right] = right, left
    swapped = torch.tensor(order).to(device, non_blocking=True)

    def forward(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, half, enabled=half is not None):
            logits = network(windows)
        return logits.float().softmax(1)

    def probabilities(windows: Tensor, normal: int | None) -> Tensor:
        windows = windows.to(device)
        shown = [axis for axis in range(3) if axis != normal]
        along = [name for name in window.mirror_axes if RAS_AXES[name] in shown]
        summed = forward(windows)
        for names in _combinations(along):
            axes = [2 + shown.index(RAS_AXES[name]) for name in names]
            mirrored = forward(windows.flip(axes)).flip(axes)
            summed += mirrored[:, swapped] if "right_left" in names else mirrored
        if window.order is not None:
            summed = summed[:, list(window.order)]
        return (summed / 2 ** len(along)).to(total.device)

    was_training = network.training
    network.eval()
    try:
        for axis in axes:
            _add_windows(
                partial(_halved, partial(probabilities, normal=axis)),
                _as_stack(source, axis),
                _as_stack(total, axis),
                window,
                window.windows_per_batch(device),
                share / len(axes),
            )
    finally:
        network.train(was_training)


def finite(values: Tensor | np.ndarray) -> bool:
    """Return whether all values are finite; a sum in double precision tells, and takes no second volume."""
    return math.isfinite(torch.as_tensor(values).sum(dtype=torch.float64))


def _combinations(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield all choices of one or more of them."""
    for number in range(1, len(names) + 1):
        yield from itertools.combinations(names, number)


def _as_stack(volume: Tensor, axis: int | None) -> Tensor:
    """View a volume with axes (item, channel, *space): the slices along `axis`, or one whole volume."""
    return volume[None] if axis is None else volume.movedim(axis + 1, 0)


def _home(shape: Sequence[int], classes: int, device: torch.device) -> torch.device:
    """Choose where the image and its probabilities are held: on the GPU if they take at most half of it."""
    needed = 4 * math.prod(shape[1:]) * (shape[0] + classes)
    if device.type != "cuda":
        return device
    return torch.device("cpu") if needed > 0.5 * free_memory(device) else device


def zeros(
    classes: int, shape: Sequence[int], window: SlidingWindow, device: torch.device
) -> Tensor:
    """Return sums of probabilities (class, x, y, z), to begin with 0.

    In memory a slice lies in one piece for a network that sees slices, since slices are what is added.
    """
    axis = window.normal_axes[0]
    if axis is None:
        return torch.zeros(classes, *shape, device=device)
    in_plane = [size for number, size in enumerate(shape) if number != axis]
    return torch.zeros(shape[axis], classes, *in_plane, device=device).movedim(0, axis + 1)


def _add_windows(
    probabilities: Callable[[Tensor], Tensor],
    stack: Tensor,
    sums: Tensor,
    window: SlidingWindow,
    batch_size: int,
    factor: float,
) -> None:
    """Add the weighted probabilities of all windows of a stack to its sums.

    stack, sums: (item, channel or class, *space); factor: of all weights.
    """
    patch, space = window.patch_size, stack.shape[2:]
    before = [max(0, wide - size) // 2 for size, wide in zip(space, patch, strict=True)]
    after = [max(0, w - size - b) for size, w, b in zip(space, patch, before, strict=True)]
    stack = _pad(stack, before, after)
    starts = [
        window_starts(s, p, window.overlap) for s, p in zip(stack.shape[2:], patch, strict=True)
    ]
    weights = [
        window_weights(axis_starts, size, window.sigma).to(sums.device, non_blocking=True)
        for axis_starts, size in zip(starts, patch, strict=True)
    ]
    # the part of a window that is no padding, and its size
    inside = _box(before, space)
    kept = [min(size, wide) for size, wide in zip(space, patch, strict=True)]
    # a window: its number along each axis, and the item of the stack that it is cut from
    numbers = itertools.product(*[range(len(axis_starts)) for axis_starts in starts])
    windows = itertools.product(numbers, range(len(stack)))
    for batch in _batches(windows, batch_size):
        corners = [[s[n] for s, n in zip(starts, number, strict=True)] for number, _ in batch]
        cuts = [
            stack[(item, slice(None), *_box(corner, patch))]
            for corner, (_, item) in zip(corners, batch, strict=True)
        ]
        window_probabilities = probabilities(torch.stack(cuts))
        for corner, (number, item), part in zip(corners, batch, window_probabilities, strict=True):
            weight = factor
            for axis, which in enumerate(number):
                profile = weights[axis][which, inside[axis]]
                weight = weight * profile.reshape(-1, *[1] * (len(number) - 1 - axis))
            place = sums[(item, slice(None), *_box(corner, kept))]
            place.addcmul_(part[(slice(None), *inside)], weight)


def _halved(function: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    """Apply a function to windows; where the GPU's memory is too small for all at once, to halves of them."""
    try:
        return function(windows)
    except RuntimeError as error:
        if len(windows) == 1 or not gpus.out_of_memory(error):
            raise
    # past the except block, so that the exception no longer holds the failed attempt's memory
    torch.cuda.empty_cache()
    half = len(windows) // 2
    return torch.cat([_halved(function, part) for part in (windows[:half], windows[half:])])


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Return the first voxels of evenly spread windows along one axis; neighbours share `overlap` or more.

    The overlap holds up to the rounding to whole voxels.
    """
    if size <= patch:
        return [0]
    step = max(1.0, patch * (1 - overlap))
    # 1e-6: 10 * (1 - 0.8) is a little below 2
    gaps = math.ceil((size - patch) / step - 1e-6)
    return [round(number * (size - patch) / gaps) for number in range(gaps + 1)]


def window_weights(starts: Sequence[int], patch: int, sigma: float = SIGMA) -> Tensor:
    """Return weights (window, voxel of the window) along one axis: above 0, adding up to 1 in each voxel.

    sigma: of the Gaussian, as a fraction of the patch.
    """
    places = np.arange(patch)
    profile = np.exp(-0.5 * ((places - (patch - 1) / 2) / (sigma * patch)) ** 2)
    sums = np.zeros(starts[-1] + patch)
    for start in starts:
        sums[start : start + patch] += profile
    weights = [profile / sums[start : start + patch] for start in starts]
    return torch.from_numpy(np.array(weights, dtype=np.float32))


def _box(corner: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))


def _pad(stack: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    if not any(before) and not any(after):
        return stack
    # torch counts axes from the last one
    widths = [width for pair in zip(before[::-1], after[::-1], strict=True) for width in pair]
    return nn.functional.pad(stack, widths)


def _batches(windows: Iterator, size: int) -> Iterator[list]:
    """Yield batches like itertools.batched, which Python 3.11 lacks."""
    while batch := list(itertools.islice(windows, size)):
        yield batch
