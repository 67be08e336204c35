"""Where a patch is deformed to: matrices, displacement fields and resampling, on the device that trains.

Patches arrive larger than needed (`source_size`), so that a rotated patch has no empty corners.
Rotation, scale, shear, shift and flips are one matrix, a displacement field is added to where it
points, and each patch is resampled once.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from segstudy.study import Augmentation
from segstudy.train.draw import SmoothField

SLACK_VOXELS = 1e-2
"""Beyond where a position is reckoned, for the rounding of single precision."""
ELASTIC_REACH = 3
"""Standard deviations of the elastic displacement that a patch is read wider by."""


@dataclass(frozen=True)
class PatchGeometry:
    """Tell how large the patches of a batch are, and how they lie in the body.

    Parameters
    ----------
    patch_size
        Voxels of a patch along each axis, once it is cut from its wider source.
    spacing_mm
        (batch, dims), voxel size along each axis of each patch.
    axes
        (batch, dims), the RAS axis that each axis of each patch is.
    anisotropy_threshold
        Ratio of voxel sizes above which an axis is coarse: nothing moves along it.
    """

    patch_size: Sequence[int]
    spacing_mm: Tensor
    axes: Tensor
    anisotropy_threshold: float


@dataclass(frozen=True)
class Placement:
    """Tell where the content of each patch of a batch goes.

    Parameters
    ----------
    matrices
        (batch, dims, dims + 1), as `affine` makes them.
    moved
        (batch,), whether the patch is moved by its matrix and displacement.
    flipped
        (batch, dims), along which axes it is flipped then.
    displacement
        (batch, dims, *patch) in voxels of the patch, added before the matrix; None: none.
    """

    matrices: Tensor
    moved: Tensor
    flipped: Tensor
    displacement: SmoothField | None = None

    def reach(self, source: Sequence[int], patch_size: Sequence[int]) -> list[tuple[slice, ...]]:
        """Return the box of the source (voxels) that each patch takes its content from, interpolation included.

        What lies outside need not be read.
        """
        have, want = torch.tensor(source).double(), torch.tensor(patch_size).double()
        matrices = mirrored(self.matrices, self.flipped)
        dims = len(source)
        back = torch.linalg.inv(matrices[:, :, :dims])
        # About the centre of the patch, as far as its half and the largest displacement go.
        centre = (have - 1) / 2 - (back @ matrices[:, :, dims:])[:, :, 0]
        half = (want - 1).expand(len(back), dims) / 2
        if self.displacement is not None:
            half = half + self.displacement.largest.double()
        reach = (back.abs() @ half[:, :, None])[:, :, 0] + SLACK_VOXELS
        first = (centre - reach).floor().clamp(min=0).long().tolist()
        last = (centre + reach).floor().long().tolist()
        return [
            tuple(slice(low, max(low, high + 2)) for low, high in zip(lows, highs, strict=True))
            if moved
            else middle(source, patch_size)
            for lows, highs, moved in zip(first, last, self.moved.tolist(), strict=True)
        ]


def rotation(angles_deg: Tensor) -> Tensor:
    """Build rotation matrices (batch, dims, dims) from angles (batch, 1) in 2D or (batch, 3) in 3D.

    An angle turns the first towards the second of the axes that it moves, about axis 0, 1, 2 in
    turn in 3D: the matrix is Rz Ry Rx.
    """
    angles = torch.deg2rad(angles_deg.double())
    if angles.shape[1] == 1:
        return _plane_rotation(angles[:, 0], 2, 0, 1)
    about_x = _plane_rotation(angles[:, 0], 3, 1, 2)
    about_y = _plane_rotation(angles[:, 1], 3, 2, 0)
    about_z = _plane_rotation(angles[:, 2], 3, 0, 1)
    return about_z @ about_y @ about_x


def _plane_rotation(angle: Tensor, dims: int, first: int, second: int) -> Tensor:
    matrix = torch.eye(dims, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, second, first] = angle.sin()
    matrix[:, first, second] = -angle.sin()
    return matrix


def sheared(amounts: Tensor, dims: int) -> Tensor:
    """Build shears (batch, dims, dims): axis 0 moves along by axis 1 (and 2), axis 1 by axis 2; a tangent each.

    amounts: (batch, 1) in 2D, (batch, 3) in 3D, for 0 by 1, 0 by 2, 1 by 2.
    """
    matrix = torch.eye(dims, dtype=torch.float64).repeat(len(amounts), 1, 1)
    rows, columns = torch.triu_indices(dims, dims, 1)
    matrix[:, rows, columns] = amounts.double()
    return matrix


def coarse_axes(spacing_mm: Tensor, anisotropy_threshold: float) -> Tensor:
    """Return (batch, dims): axes whose voxels are that many times larger than the smallest."""
    return spacing_mm > anisotropy_threshold * spacing_mm.min(dim=1, keepdim=True).values


def affine(
    angles_deg: Tensor,
    scale: Tensor,
    shift: Tensor,
    spacing_mm: Tensor,
    anisotropy_threshold: float = math.inf,
    shear: Tensor | None = None,
) -> Tensor:
    """Build matrices (batch, dims, dims + 1) that say where the content of a patch goes.

    Input and output are voxels counted from the patch's centre; scaling, shearing and turning, in
    this order, happen in millimetres between. A coarse axis (voxels more than `anisotropy_threshold`
    times the smallest) keeps its place and scale: interpolating across far-apart slices would blur them,
    and which of them a patch holds is drawn where it is cut.

    angles_deg, shear: (batch, 1 | 3); scale: (batch, 1); shift: (batch, dims) in voxels; spacing_mm:
    (batch, dims).
    """
    spacing = spacing_mm.double()
    dims = spacing.shape[1]
    coarse = coarse_axes(spacing, anisotropy_threshold)
    if dims == 3:
        # Only the rotation about a coarse axis stays within the fine plane.
        free = ~coarse.any(dim=1, keepdim=True) | coarse
        angles_deg = angles_deg * free * (coarse.sum(dim=1, keepdim=True) < 2)
    else:
        angles_deg = angles_deg * ~coarse.any(dim=1, keepdim=True)
    sizes = torch.where(coarse, torch.ones_like(spacing), scale.double().expand(-1, dims))
    millimetres = rotation(angles_deg)
    if shear is not None:
        fine = ~(coarse[:, :, None] | coarse[:, None]) | torch.eye(dims, dtype=torch.bool)
        millimetres = millimetres @ (sheared(shear, dims) * fine)
    millimetres = millimetres * sizes[:, None, :]
    linear = millimetres * spacing[:, None, :] / spacing[:, :, None]
    return torch.cat([linear, (shift.double() * ~coarse)[:, :, None]], dim=2)


def mirrored(matrices: Tensor, flipped: Tensor) -> Tensor:
    """Return the matrices of `affine`, followed by flips along the axes `flipped` (batch, dims)."""
    return matrices * (1 - 2 * flipped.double())[:, :, None]


def middle(source: Sequence[int], patch_size: Sequence[int]) -> tuple[slice, ...]:
    """Return the box of a patch in the middle of its wider source."""
    return tuple(
        slice((have - want) // 2, (have - want) // 2 + want)
        for have, want in zip(source, patch_size, strict=True)
    )


def resample(
    images: Tensor, labels: Tensor, placement: Placement, patch_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cut the middle of each patch, placed as `placement` says.

    images: (batch, channel, *source), linear interpolation; labels: (batch, *source), nearest
    neighbour; outside the source: 0. Sizes of source and patch are even or odd together.
    """
    count, channels, *source = images.shape
    matrices, moved = placement.matrices, placement.moved
    flipped, displacement = placement.flipped, placement.displacement
    cut_images = images.new_empty(count, channels, *patch_size)
    cut_labels = labels.new_empty(count, *patch_size)
    whole = slice(None)
    central = (whole, *middle(source, patch_size))
    for along in sorted({tuple(row) for row in flipped[~moved].tolist()}):
        same = ~moved & (flipped == torch.tensor(along)).all(1)
        axes = [axis for axis, yes in enumerate(along) if yes]
        for _, batch_part in _pieces(same, images.device):
            shown, labelled = images[batch_part], labels[batch_part]
            shown = shown[(whole, *central)]
            cut_images[batch_part] = shown.flip([a + 2 for a in axes]) if axes else shown
            labelled = labelled[central]
            cut_labels[batch_part] = labelled.flip([a + 1 for a in axes]) if axes else labelled
    for numbers, batch_part in _pieces(moved, images.device):
        field = None if displacement is None else displacement.of(numbers)
        turned = mirrored(matrices[numbers], flipped[numbers])
        positions = sampling_grid(turned, source, patch_size, field, images.device)
        cut_labels[batch_part] = nearest(labels[batch_part], positions)
        cut_images[batch_part] = _linear(images[batch_part], positions)
    return cut_images, cut_labels


def _pieces(chosen: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor | slice]]:
    """Split the chosen patches as they are worked on: numbers on the CPU, and an index on the device.

    A GPU takes all at once. A CPU takes each by itself, as a view: nothing is copied to begin with.
    """
    numbers = torch.nonzero(chosen)[:, 0]
    if device.type == "cpu":
        return [(number[None], slice(number, number + 1)) for number in numbers]
    return [(numbers, numbers.to(device, non_blocking=True))] if len(numbers) else []


def sampling_grid(
    matrices: Tensor,
    source: Sequence[int],
    patch_size: Sequence[int],
    displacement: SmoothField | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return for each voxel of a patch the position in the source that its content comes from.

    Returns (batch, dims, *patch): index along each axis of the source, the last axis first.
    """
    dims = len(source)
    back = torch.linalg.inv(matrices[:, :, :dims])
    have = torch.tensor(source, dtype=back.dtype)
    want = torch.tensor(patch_size, dtype=back.dtype)
    # Index 0 of the patch lies (want - 1) / 2 before its centre, that of the source likewise.
    corner = matrices[:, :, dims] + (want - 1) / 2
    start = (have - 1) / 2 - (back @ corner[:, :, None])[:, :, 0]
    back, start = back.flip(1).float(), start.flip(1).float()
    if displacement is None:
        positions = torch.empty(len(back), dims, *patch_size, device=device)
    else:
        positions = displacement.mixed(back).values(patch_size, device).contiguous()
    steps, total = (part.to(device, non_blocking=True) for part in (back, start))
    for axis, size in enumerate(patch_size[:-1]):
        along = steps[:, :, axis, None] * torch.arange(size, device=device)
        total = total[..., None] + along.reshape(len(back), dims, *[1] * axis, size)
    along = steps[:, :, -1, None] * torch.arange(patch_size[-1], device=device)
    along = along.reshape(len(back), dims, *[1] * (dims - 1), patch_size[-1])
    if displacement is None:
        return torch.add(total[..., None], along, out=positions)
    return positions.add_(total[..., None]).add_(along)


def nearest(labels: Tensor, positions: Tensor) -> Tensor:
    """Return labels (batch, *patch) of the voxels nearest to positions in labels (batch, *source); outside: 0."""
    source = labels.shape[1:]
    # With a border of 0, what lies outside is found there.
    padded = functional.pad(labels, [1, 1] * len(source)).flatten(1)
    index = torch.zeros((), device=labels.device)
    stride = 1.0
    for axis, size in enumerate(reversed(source)):
        coordinate = positions[:, axis].round().clamp_(-1, size).add_(1)
        # Whole numbers beyond 2^24 are not all float32.
        exact = coordinate.double() if padded.shape[1] >= 2**24 else coordinate
        index = index + exact.mul_(stride)
        stride *= size + 2
    return padded.gather(1, index.long().flatten(1)).reshape(index.shape)


def _linear(images: Tensor, positions: Tensor) -> Tensor:
    """Interpolate images (batch, channel, *patch) at positions in images (batch, channel, *source); outside: 0.

    Overwrites `positions`. grid_sample counts from -1 to 1 between the outer faces of the source.
    """
    sizes = torch.tensor(images.shape[:1:-1], dtype=positions.dtype)
    sizes = sizes.to(images.device, non_blocking=True).reshape(-1, *[1] * (positions.ndim - 2))
    grid = positions.mul_(2 / sizes).add_(1 / sizes - 1).movedim(1, -1)
    slabs = math.gcd(torch.get_num_threads(), grid.shape[1]) if images.is_cpu else 1
    if slabs == 1:
        return functional.grid_sample(images, grid, align_corners=False)
    # On a CPU grid_sample takes one thread an image: slabs of the patch are given to it as images.
    split = grid.unflatten(1, (slabs, -1)).flatten(0, 1)
    shared = images.expand(slabs, *images.shape[1:])
    sampled = functional.grid_sample(shared, split, align_corners=False)
    return sampled.movedim(0, 1).flatten(1, 2)[None]


def source_size(
    patch_size: Sequence[int],
    settings: Augmentation,
    spacing_mm: Sequence[float],
    anisotropy_threshold: float,
) -> tuple[int, ...]:
    """Return the voxels to read so that no rotation, scale, shear and shift looks beyond their border.

    Nor does an elastic displacement of up to three standard deviations.
    """
    dims = len(patch_size)
    spacing = torch.tensor([spacing_mm]).double()
    most_deg, shears, smallest, shift = 0.0, [0.0], 1.0, 0.0
    if settings.affine_probability:
        most_deg, shears = settings.rotation_deg, sorted({-settings.shear, settings.shear})
        smallest, shift = settings.scale[0], settings.translation_voxels
    if settings.elastic_probability:
        shift += ELASTIC_REACH * settings.elastic_voxels
    fine = ~coarse_axes(spacing, anisotropy_threshold)[0]
    moved = torch.tensor(patch_size).double() + 2 * shift * fine
    turns = 3 if dims == 3 else 1
    # The inverse is linear in each shear, so that the largest ones reach furthest.
    amounts = torch.tensor(list(itertools.product(shears, repeat=turns)))

    def reach(angles_deg: Tensor) -> Tensor:
        """Voxels of the source (number, dims) that a patch spans, turned by angles (number, turns)."""
        count = len(angles_deg) * len(amounts)
        matrices = affine(
            angles_deg.repeat_interleave(len(amounts), 0),
            torch.full((count, 1), smallest),
            torch.zeros(count, dims),
            spacing.expand(count, -1),
            anisotropy_threshold,
            amounts.repeat(len(angles_deg), 1),
        )
        spans = torch.linalg.inv(matrices[:, :, :dims]).abs() @ moved
        return spans.unflatten(0, (-1, len(amounts))).amax(1)

    furthest = [_furthest(reach, axis, turns, most_deg) for axis in range(dims)]
    return tuple(
        want + 2 * max(math.ceil((have - want) / 2 - 1e-6), 0)
        for have, want in zip(furthest, patch_size, strict=True)
    )


def _furthest(reach: Callable[[Tensor], Tensor], axis: int, turns: int, most_deg: float) -> float:
    """Return the largest reach along an axis by angles up to plus and minus `most_deg` degrees.

    On a raster of 13 values an angle, and around its best ever closer by: a maximum between two of
    its angles lies up to 1 - cos(15 degrees) above them.
    """

    def raster(values: Tensor) -> Tensor:
        return torch.cartesian_prod(*[values] * turns).reshape(-1, turns)

    steps = most_deg * torch.linspace(-1, 1, 13, dtype=torch.float64)
    best, step = torch.zeros(turns, dtype=torch.float64), most_deg / 12
    near = raster(steps)
    while True:
        reaches = reach(near)[:, axis]
        best = near[reaches.argmax()]
        if step < 1e-3:
            return float(reaches.max())
        around = step * torch.linspace(-1, 1, 3, dtype=torch.float64)
        near = (best + raster(around)).clamp(-most_deg, most_deg)
        step /= 2


def swap_sides(labels: Tensor, mirrored: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Exchange the classes of each pair in the patches (batch, *patch) that are `mirrored` (batch,)."""
    where = torch.nonzero(mirrored)[:, 0].to(labels.device, non_blocking=True)
    if not pairs or not len(where):
        return labels
    swapped = torch.arange(256, dtype=labels.dtype)
    for left, right in pairs:
        swapped[left], swapped[right] = right, left
    labels[where] = swapped.to(labels.device, non_blocking=True)[labels[where].long()]
    return labels
