"""Random changes of a batch of patches, on the device that trains.

Patches arrive larger than needed (`source_size`), so that a turned patch has no empty corners.
Rotation, scale and shift are one matrix, and each patch is resampled once. Every random number
comes from one generator, which the caller seeds for each step.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segstudy.study import Augmentation

AXES = {"right_left": 0, "back_front": 1, "foot_head": 2}
"""The axis of a RAS array along which a flip runs."""


def augment(
    images: Tensor,
    labels: Tensor,
    settings: Augmentation,
    patch_size: Sequence[int],
    spacing_mm: Tensor,
    axes: Tensor,
    anisotropy_threshold: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Change a batch at random, and cut it to the patch.

    images: float32 (batch, channel, *source), labels: uint8 (batch, *source), both on the device.
    spacing_mm: (batch, dims), voxel size along each axis of each patch.
    axes: (batch, dims), which RAS axis each axis of each patch is.
    anisotropy_threshold: ratio of voxel sizes above which nothing turns out of the fine plane.
    generator: on the CPU, so that every device draws the same.

    Returns images (batch, channel, *patch) and labels (batch, *patch).
    """
    count, dims = spacing_mm.shape
    draw = _Draw(generator, count)

    turned = draw.chosen(settings.affine_share)
    angles = draw.uniform(-settings.rotation_deg, settings.rotation_deg, 3 if dims == 3 else 1)
    scale = draw.uniform(*settings.scale, 1)
    shift = draw.uniform(-settings.translation_voxels, settings.translation_voxels, dims)
    matrices = affine(angles, scale, shift, spacing_mm, anisotropy_threshold)
    images, labels = resample(images, labels, matrices, turned, patch_size)

    for name in settings.flip_axes:
        chosen = draw.chosen(0.5)
        for axis in range(dims):
            flipped = torch.nonzero(chosen & (axes[:, axis] == AXES[name]))[:, 0].to(images.device)
            if len(flipped):
                images[flipped] = images[flipped].flip(axis + 2)
                labels[flipped] = labels[flipped].flip(axis + 1)

    return intensities(images, settings, draw), labels


class _Draw:
    """Random numbers for each patch of a batch. As many are drawn whatever is chosen."""

    def __init__(self, generator: torch.Generator, count: int):
        self.generator = generator
        self.count = count

    def chosen(self, share: float) -> Tensor:
        """Which patches (batch,) are changed."""
        return torch.rand(self.count, generator=self.generator) < share

    def uniform(self, low: float, high: float, number: int) -> Tensor:
        """(batch, number) uniform in [low, high)."""
        drawn = torch.rand(self.count, number, generator=self.generator)
        return low + (high - low) * drawn


# --- geometry -----------------------------------------------------------------------------------


def rotation(angles_deg: Tensor) -> Tensor:
    """Rotation matrices (batch, dims, dims) from angles (batch, 1) in 2D or (batch, 3) in 3D.

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


def affine(
    angles_deg: Tensor,
    scale: Tensor,
    shift: Tensor,
    spacing_mm: Tensor,
    anisotropy_threshold: float = math.inf,
) -> Tensor:
    """Matrices (batch, dims, dims + 1) that say where the content of a patch goes.

    Input and output are voxels counted from the patch's centre; turning and scaling happen in
    millimetres between. A coarse axis (voxels more than `anisotropy_threshold` times the
    smallest) keeps its place and scale: interpolating across far-apart slices would blur them.

    angles_deg: (batch, 1 | 3); scale: (batch, 1); shift: (batch, dims) in voxels; spacing_mm:
    (batch, dims).
    """
    spacing = spacing_mm.double()
    dims = spacing.shape[1]
    coarse = spacing > anisotropy_threshold * spacing.min(dim=1, keepdim=True).values
    if dims == 3:
        # Only the rotation about a coarse axis stays within the fine plane.
        free = ~coarse.any(dim=1, keepdim=True) | coarse
        angles_deg = angles_deg * free * (coarse.sum(dim=1, keepdim=True) < 2)
    else:
        angles_deg = angles_deg * ~coarse.any(dim=1, keepdim=True)
    sizes = torch.where(coarse, torch.ones_like(spacing), scale.double().expand(-1, dims))
    millimetres = rotation(angles_deg) * sizes[:, None, :]
    linear = millimetres * spacing[:, None, :] / spacing[:, :, None]
    return torch.cat([linear, shift.double()[:, :, None]], dim=2)


def resample(
    images: Tensor, labels: Tensor, matrices: Tensor, turned: Tensor, patch_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Cut the middle of each patch, moved by its matrix where `turned` says so.

    images: (batch, channel, *source), linear interpolation; labels: (batch, *source), nearest
    neighbour; outside the source: 0. Sizes of source and patch are even or odd together.
    """
    source = images.shape[2:]
    middle = tuple(
        slice((have - want) // 2, (have - want) // 2 + want)
        for have, want in zip(source, patch_size, strict=True)
    )
    cut_images = images[(slice(None), slice(None), *middle)].clone()
    cut_labels = labels[(slice(None), *middle)].clone()
    chosen = torch.nonzero(turned)[:, 0]
    if len(chosen):
        grid = _sampling_grid(matrices[chosen], source, patch_size).to(images.device)
        chosen = chosen.to(images.device)
        if len(chosen) < len(images):
            images, labels = images[chosen], labels[chosen]
        cut_images[chosen] = functional.grid_sample(images, grid, align_corners=False)
        cut_labels[chosen] = functional.grid_sample(
            labels[:, None].to(images.dtype), grid, mode="nearest", align_corners=False
        )[:, 0].to(labels.dtype)
    return cut_images, cut_labels


def _sampling_grid(matrices: Tensor, source: Sequence[int], patch_size: Sequence[int]) -> Tensor:
    """For each voxel of a patch where in the source its content comes from, as grid_sample counts.

    grid_sample counts from -1 to 1 between the outer faces of the source, last axis first.
    """
    dims = len(source)
    back = torch.linalg.inv(matrices[:, :, :dims])
    origin = -(back @ matrices[:, :, dims:])
    have = torch.tensor(source, dtype=back.dtype)
    want = torch.tensor(patch_size, dtype=back.dtype)
    linear = back * want / have[:, None]
    theta = torch.cat([linear.flip(1, 2), (2 * origin / have[:, None]).flip(1)], dim=2)
    size = [len(matrices), 1, *patch_size]
    return functional.affine_grid(theta.float(), size, align_corners=False)


def source_size(
    patch_size: Sequence[int],
    settings: Augmentation,
    spacing_mm: Sequence[float],
    anisotropy_threshold: float,
) -> tuple[int, ...]:
    """How large a patch must be read so that no rotation, scale and shift looks beyond its border."""
    dims = len(patch_size)
    if settings.affine_share == 0:
        return tuple(patch_size)
    number = 3 if dims == 3 else 1
    turns = torch.linspace(-settings.rotation_deg, settings.rotation_deg, 13)
    angles = torch.tensor(list(itertools.product(turns.tolist(), repeat=number)))
    count = len(angles)
    matrices = affine(
        angles,
        torch.full((count, 1), settings.scale[0]),
        torch.zeros(count, dims),
        torch.tensor(spacing_mm).double().expand(count, -1),
        anisotropy_threshold,
    )
    back = torch.linalg.inv(matrices[:, :, :dims]).abs()
    moved = torch.tensor(patch_size, dtype=back.dtype) + 2 * settings.translation_voxels
    reach = (back @ moved).max(dim=0).values
    return tuple(
        want + 2 * max(math.ceil((float(have) - want) / 2 - 1e-6), 0)
        for have, want in zip(reach, patch_size, strict=True)
    )


# --- intensities --------------------------------------------------------------------------------


def intensities(images: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
    """Noise, blur, brightness, contrast and gamma of some patches (batch, channel, *patch), in place.

    Each channel of a patch gets numbers of its own. Contrast and gamma as in nnU-Net (Isensee et
    al. 2021): both keep the range of a patch, gamma its mean and SD as well.
    """
    channels = images.shape[1]
    spread = (-1, channels, *[1] * (images.ndim - 2))

    chosen, sd = draw.chosen(settings.noise_share), draw.uniform(0, settings.noise_sd, channels)
    seed = int(torch.randint(2**62, (), generator=draw.generator))
    where = torch.nonzero(chosen)[:, 0]
    if len(where):
        noise = torch.Generator(images.device).manual_seed(seed)
        shape = (len(where), *images.shape[1:])
        added = torch.randn(shape, generator=noise, device=images.device)
        where, sd = where.to(images.device), sd[where].to(images.device)
        images[where] += added * sd.view(spread)

    changes = (
        (blur, settings.blur_share, settings.blur_sigma_voxels),
        (brighten, settings.brightness_share, settings.brightness),
        (contrast, settings.contrast_share, settings.contrast),
        (gamma, settings.gamma_share, settings.gamma),
    )
    for change, share, limits in changes:
        chosen, values = draw.chosen(share), draw.uniform(*limits, channels)
        where = torch.nonzero(chosen)[:, 0]
        if len(where):
            values = values[where].to(images.device)
            where = where.to(images.device)
            images[where] = change(images[where], values.view(spread))
    return images


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur along every axis; sigma in voxels, (batch, channel, 1, ...). Borders repeat."""
    dims = images.ndim - 2
    radius = max(1, math.ceil(3 * float(sigma.max())))
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / sigma.reshape(-1, 1)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    convolution = functional.conv2d if dims == 2 else functional.conv3d
    result = images.reshape(1, -1, *images.shape[2:])
    for axis in range(dims):
        shape = [len(kernel), 1, *[1] * dims]
        shape[axis + 2] = len(places)
        widths = [0, 0] * dims
        widths[2 * (dims - 1 - axis)] = widths[2 * (dims - 1 - axis) + 1] = radius
        padded = functional.pad(result, widths, mode="replicate")
        result = convolution(padded, kernel.reshape(shape), groups=len(kernel))
    return result.reshape(images.shape)


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    return images * factor


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return torch.clamp((images - mean) * factor + mean, low, high)


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    sd = images.std(axes, keepdim=True)
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    unit = (images - low) / (high - low).clamp(min=1e-7)
    bent = unit**exponent
    bent = (bent - bent.mean(axes, keepdim=True)) / bent.std(axes, keepdim=True).clamp(min=1e-7)
    return bent * sd + mean
