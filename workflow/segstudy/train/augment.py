"""Random augmentation of a batch of patches, on the device that trains.

Each patch is deformed and resampled once (`spatial`), then its intensities are changed. Every
random number comes from one generator, which the caller seeds for each step.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segstudy.sides import RAS_AXES
from segstudy.study import Augmentation
from segstudy.train.draw import Draw
from segstudy.train.spatial import (
    PatchGeometry,
    Placement,
    affine,
    coarse_axes,
    resample,
    swap_sides,
)

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def augment(
    images: Tensor,
    labels: Tensor,
    settings: Augmentation,
    geometry: PatchGeometry,
    draw: Draw,
    pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, Tensor]:
    """Augment a batch at random, and cut it to the patch.

    Parameters
    ----------
    images
        float32 (batch, channel, *source), on the device.
    labels
        uint8 (batch, *source), on the device.
    geometry
        Of the patches that are cut.
    draw
        Random numbers of the batch, or of one of its equal parts.
    pairs
        Classes that are the left and the right one of a structure; a patch that is flipped across
        the sagittal plane shows them on the other side, and their labels are swapped.

    Returns
    -------
    tuple of Tensor
        Images (batch, channel, *patch) and labels (batch, *patch).
    """
    placement = place(settings, geometry, draw)
    images, labels = resample(images, labels, placement, geometry.patch_size)
    mirrored = (placement.flipped & (geometry.axes == RAS_AXES["right_left"])).any(1)
    labels = swap_sides(labels, mirrored, pairs)
    coarse = coarse_axes(geometry.spacing_mm, geometry.anisotropy_threshold)
    return intensities(images, settings, draw, coarse), labels


def place(settings: Augmentation, geometry: PatchGeometry, draw: Draw) -> Placement:
    """Draw where each patch of a batch is moved to: the first numbers that `augment` draws."""
    spacing_mm, axes = geometry.spacing_mm, geometry.axes
    patch_size, anisotropy_threshold = geometry.patch_size, geometry.anisotropy_threshold
    count, dims = spacing_mm.shape
    coarse = coarse_axes(spacing_mm, anisotropy_threshold)
    moved = draw.chosen(settings.affine_probability)
    turns = 3 if dims == 3 else 1
    drawn = (
        draw.uniform(-settings.rotation_deg, settings.rotation_deg, turns),
        draw.uniform(*settings.scale, 1),
        draw.uniform(-settings.translation_voxels, settings.translation_voxels, dims),
        draw.uniform(-settings.shear, settings.shear, turns),
    )
    matrices = torch.eye(dims, dims + 1, dtype=torch.float64).repeat(count, 1, 1)
    if moved.any():
        *moves, shear = (numbers[moved] for numbers in drawn)
        matrices[moved] = affine(*moves, spacing_mm[moved], anisotropy_threshold, shear)
    displacement = None
    if settings.elastic_probability:
        deformed = draw.chosen(settings.elastic_probability)
        sd = draw.uniform(0, settings.elastic_voxels, 1) * deformed[:, None] * ~coarse
        displacement = draw.field(
            dims, (settings.elastic_spacing_voxels,) * dims, patch_size
        ).times(sd)
        moved |= deformed
    flipped = torch.zeros(count, dims, dtype=torch.bool)
    for name in settings.flip_axes:
        flipped |= draw.chosen(0.5)[:, None] & (axes == RAS_AXES[name])
    return Placement(matrices, moved, flipped, displacement)


def intensities(images: Tensor, settings: Augmentation, draw: Draw, coarse: Tensor) -> Tensor:
    """Change intensities of some patches (batch, channel, *patch), in place.

    The numbers that decide stay on the CPU until they are used: reading one there waits for no GPU.

    In this order: noise, blur, bias field, brightness, contrast, low resolution, gamma, gamma of
    the inverted patch. Each channel of a patch gets numbers of its own. Brightness, contrast, low
    resolution and gamma as in nnU-Net (Isensee et al. 2021): contrast and gamma keep the range of a
    patch, gamma its mean and SD as well.

    coarse: (batch, dims), axes along which resolution is low already.
    """
    channels, size = images.shape[1], images.shape[2:]
    spread = (-1, channels, *[1] * len(size))

    def change(share: float, limits: Sequence[float], function, *further, of=draw.uniform) -> None:
        chosen, values = draw.chosen(share), of(*limits, channels)
        where = torch.nonzero(chosen)[:, 0]
        if len(where):
            there = where.to(images.device, non_blocking=True)
            values = values[where].view(spread)
            images[there] = function(
                images[there], values, *(values_too[where] for values_too in further)
            )

    seeds = torch.tensor(draw.seeds())
    change(settings.noise_probability, (0, settings.noise_sd), add_noise, seeds)
    change(settings.blur_probability, settings.blur_sigma_voxels, blur)
    if settings.bias_probability:
        # A few control points across the patch: as smooth as a coil's sensitivity.
        field = draw.field(channels, [have / 2 for have in size], size)
        numbers = torch.arange(len(images))
        change(
            settings.bias_probability,
            (0, settings.bias_sd),
            lambda some, sd, which: bias(some, sd, field.of(which).values(size, some.device)),
            numbers,
        )
    change(settings.brightness_probability, settings.brightness, brighten, of=draw.factor)
    change(settings.contrast_probability, settings.contrast, contrast, of=draw.factor)
    change(
        settings.low_resolution_probability, settings.low_resolution_scale, lower_resolution, coarse
    )
    change(settings.gamma_probability, settings.gamma, gamma, of=draw.factor)
    change(
        settings.inverted_gamma_probability,
        settings.gamma,
        lambda some, exponent: -gamma(-some, exponent),
        of=draw.factor,
    )
    return images


def _beside(images: Tensor, numbers: Tensor) -> Tensor:
    """Return numbers on the images' device, without waiting for it."""
    return numbers.to(images.device, non_blocking=True)


def add_noise(images: Tensor, sd: Tensor, seeds: Tensor) -> Tensor:
    """Add Gaussian noise of SD `sd` (batch, channel, 1, ...), each patch's from a seed of its own (batch,)."""
    noise = torch.empty_like(images)
    for patch, seed in zip(noise, seeds.tolist(), strict=True):
        patch.normal_(generator=torch.Generator(images.device).manual_seed(seed))
    return torch.addcmul(images, noise, _beside(images, sd))


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian along every axis; sigma in voxels, (batch, channel, 1, ...). Borders repeat."""
    dims = images.ndim - 2
    radius = max(1, math.ceil(3 * float(sigma.max())))
    sigma = _beside(images, sigma)
    away = torch.arange(radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (away / sigma[..., None]) ** 2)
    kernel = kernel / (2 * kernel.sum(-1, keepdim=True) - kernel[..., :1])
    result = images
    for axis in range(2, dims + 2):
        # Sums of shifted copies: a convolution with so few weights is far slower on a CPU.
        size = images.shape[axis]
        first, last = result.narrow(axis, 0, 1), result.narrow(axis, size - 1, 1)
        repeated = [radius if n == axis else -1 for n in range(result.ndim)]
        padded = torch.cat([first.expand(repeated), result, last.expand(repeated)], axis)
        result = result * kernel[..., 0]
        for step in range(1, radius + 1):
            both = padded.narrow(axis, radius - step, size) + padded.narrow(
                axis, radius + step, size
            )
            result.addcmul_(both, kernel[..., step])
    return result


def bias(images: Tensor, sd: Tensor, field: Tensor) -> Tensor:
    """Multiply by a smooth factor of mean 1, counting intensities from the darkest voxel.

    The factor's logarithm is `field` (batch, channel, *patch), of SD 1, times sd (batch, channel,
    1, ...). As the uneven sensitivity of an MR coil does (Sled et al. 1998).
    """
    axes = tuple(range(2, images.ndim))
    factor = (field * _beside(images, sd)).exp_()
    factor /= factor.mean(axes, keepdim=True)
    low = images.amin(axes, keepdim=True)
    return (images - low).mul_(factor).add_(low)


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply intensities by a factor (batch, channel, 1, ...)."""
    return images * _beside(images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch intensities about their mean by a factor (batch, channel, 1, ...), within a patch's own range."""
    axes = tuple(range(2, images.ndim))
    mean, factor = images.mean(axes, keepdim=True), _beside(images, factor)
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return torch.addcmul(mean * (1 - factor), images, factor).clamp_(low, high)


def lower_resolution(images: Tensor, scale: Tensor, coarse: Tensor) -> Tensor:
    """Lower the resolution of patches: nearest voxels of a smaller grid, linearly enlarged.

    scale: (batch, channel, 1, ...), up to 1; coarse: (batch, dims), axes that stay as they are.
    """
    size = images.shape[2:]
    result = torch.empty_like(images)
    for patch, factors, kept, changed in zip(images, scale, coarse.tolist(), result, strict=True):
        for channel, factor, target in zip(patch, factors.flatten().tolist(), changed, strict=True):
            small = [
                have if keep else max(1, round(have * factor))
                for have, keep in zip(size, kept, strict=True)
            ]
            few = functional.interpolate(channel[None, None], small, mode="nearest-exact")
            target[:] = functional.interpolate(few, size, mode=MODES[len(size)])[0, 0]
    return result


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Raise intensities, scaled to 0 .. 1, to a power (batch, channel, 1, ...); mean and SD stay."""
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    sd = torch.linalg.vector_norm(images - mean, dim=axes, keepdim=True)
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    unit = (images - low).div_((high - low).clamp(min=1e-7))
    corrected = unit.pow_(_beside(images, exponent))
    corrected -= corrected.mean(axes, keepdim=True)
    corrected *= sd / torch.linalg.vector_norm(corrected, dim=axes, keepdim=True).clamp(min=1e-7)
    return corrected.add_(mean)
