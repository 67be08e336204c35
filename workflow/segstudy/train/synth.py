"""Training images drawn from label maps alone, after SynthSeg (Billot et al. 2023), batched on the device that trains.

A patch of a label map is moved (affine and elastic), each tissue in it gets grey values from a
Gaussian of its own, and the image is given a bias field, a gamma and the resolution of some
scanner. Nothing is learned from real images, so a network that is trained on these meets any
contrast as one more of the kind.

Where a patch is moved and what is smooth in it (`SmoothField`) are those of augmentation; the loss
of resolution is a small matrix an axis. What a patch becomes follows from the seed that the caller
gives each step.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segstudy.sides import RAS_AXES
from segstudy.study import Augmentation, Synthesis
from segstudy.train import spatial
from segstudy.train.draw import Draw
from segstudy.train.spatial import (
    PatchGeometry,
    affine,
    coarse_axes,
    mirrored,
    nearest,
    sampling_grid,
    swap_sides,
)

TISSUES = 256
"""Tissues a byte tells apart; numbers are drawn for all, so that they depend on the seed alone."""

INJECTIVE = 0.4
"""Largest shift of a control point, in control spacings, at which a B-spline cannot fold (Choi and Lee 2000)."""

# --- a batch ------------------------------------------------------------------------------------


@torch.no_grad()
def synthesise(
    tissues: Tensor,
    labels: Tensor,
    settings: Synthesis,
    channels: int,
    geometry: PatchGeometry,
    pairs: Sequence[tuple[int, int]],
    draw: Draw,
) -> tuple[Tensor, Tensor]:
    """Synthesise images and labels of a batch of patches that were cut from their label maps.

    Parameters
    ----------
    tissues
        (batch, *source), tissues that grey values are drawn for, 0 .. 255, 0 being the background;
        on the device.
    labels
        uint8 (batch, *source), classes; on the device.
    channels
        Channels of the images; each has its own contrast, bias field, gamma and resolution.
    geometry
        Of the patches that are drawn.
    pairs
        Classes that are the left and the right one of a structure; without any, no sides are swapped.
    draw
        Random numbers of the batch, the same on every device but for the noise.

    Returns
    -------
    tuple of Tensor
        Images float32 (batch, channel, *patch), mean 0 and SD 1 but for `shift_sd` and `gain`, and
        labels uint8 (batch, *patch).
    """
    tissues, labels = deform(tissues, labels, settings, geometry, pairs, draw)
    return synthesise_images(tissues, settings, channels, geometry.spacing_mm, draw), labels


# --- geometry -----------------------------------------------------------------------------------


def deform(
    tissues: Tensor,
    labels: Tensor,
    settings: Synthesis,
    geometry: PatchGeometry,
    pairs: Sequence[tuple[int, int]],
    draw: Draw,
) -> tuple[Tensor, Tensor]:
    """Deform label maps (batch, *source) at random and cut them to (batch, *patch), by nearest neighbour."""
    spacing_mm, axes = geometry.spacing_mm, geometry.axes
    patch_size, anisotropy_threshold = geometry.patch_size, geometry.anisotropy_threshold
    count, dims = spacing_mm.shape
    turns = 3 if dims == 3 else 1
    matrices = affine(
        draw.uniform(-settings.rotation_deg, settings.rotation_deg, turns),
        draw.uniform(*settings.scale, 1),
        torch.zeros(count, dims),
        spacing_mm,
        anisotropy_threshold,
        draw.uniform(-settings.shear, settings.shear, turns),
    )
    flipped = draw.chosen(settings.left_right_probability)[:, None] & (
        axes == RAS_AXES["right_left"]
    )
    flipped &= bool(pairs)
    gaps = settings.elastic_spacing_mm / spacing_mm
    sd = settings.elastic_sd_mm / spacing_mm * ~coarse_axes(spacing_mm, anisotropy_threshold)
    displacement = draw.field(dims, gaps, patch_size).times(sd).bounded(INJECTIVE * gaps)
    positions = sampling_grid(
        mirrored(matrices, flipped),
        tissues.shape[1:],
        patch_size,
        displacement,
        tissues.device,
    )
    # Both at once: where a voxel comes from is half of the work.
    both = nearest(tissues.int() * TISSUES + labels, positions)
    tissues, labels = (both // TISSUES).byte(), (both % TISSUES).byte()
    return tissues, swap_sides(labels, flipped.any(1), pairs)


def source_size(
    patch_size: Sequence[int],
    settings: Synthesis,
    spacing_mm: Sequence[float],
    anisotropy_threshold: float,
) -> tuple[int, ...]:
    """Return the voxels of a label map that hold all that the deformation can move into the patch."""
    elastic_voxels = settings.elastic_sd_mm / min(spacing_mm)
    moves = Augmentation(
        affine_probability=1,
        rotation_deg=settings.rotation_deg,
        scale=settings.scale,
        shear=settings.shear,
        elastic_probability=1,
        elastic_voxels=elastic_voxels,
        elastic_spacing_voxels=max(4.0, 6 * elastic_voxels),  # only the shift counts here
    )
    return spatial.source_size(patch_size, moves, spacing_mm, anisotropy_threshold)


# --- grey values --------------------------------------------------------------------------------


def synthesise_images(
    tissues: Tensor,
    settings: Synthesis,
    channels: int,
    spacing_mm: Tensor,
    draw: Draw,
) -> Tensor:
    """Synthesise images float32 (batch, channel, *patch) of the tissues uint8 (batch, *patch)."""
    count, *patch = tissues.shape
    items, voxels, device = count * channels, math.prod(patch), tissues.device
    means = draw.uniform(*settings.mean, channels * TISSUES).view(items, TISSUES)
    sds = draw.uniform(*settings.sd, channels * TISSUES).view(items, TISSUES)
    cut_out = draw.chosen(settings.zero_background_probability)
    bias_sd = draw.uniform(0, settings.bias_field_sd, channels)
    bias = draw.field(channels, settings.bias_field_spacing_mm / spacing_mm, patch).times(bias_sd)
    exponents = torch.exp(settings.gamma_sd * draw.normal(channels)).flatten()
    operators = resolution(patch, spacing_mm.repeat_interleave(channels, 0), settings, draw)
    shift = settings.shift_sd * draw.normal(channels)
    gain = draw.uniform(*settings.gain, channels)

    images = torch.empty(items, voxels, device=device)
    for patches, seed in zip(images.view(count, -1), draw.seeds(), strict=True):
        patches.normal_(generator=torch.Generator(device).manual_seed(seed))
    flat = tissues.reshape(count, voxels).int().repeat_interleave(channels, 0)
    for image, where, mean, sd in zip(
        images,
        flat,
        means.to(device, non_blocking=True),
        sds.to(device, non_blocking=True),
        strict=True,
    ):
        image.mul_(sd.index_select(0, where)).add_(mean.index_select(0, where))
    images = images.view(items, *patch)
    if settings.bias_field_sd:
        images *= bias.values(patch, device).exp_().view(items, *patch)
    images = images.view(items, voxels)
    low, high = images.amin(1, keepdim=True), images.amax(1, keepdim=True)
    images.sub_(low).div_((high - low).clamp_(min=1e-7)).pow_(
        exponents.to(device, non_blocking=True)[:, None]
    )
    images = images.view(items, *patch)
    for axis, operator in enumerate(operators):
        if operator is not None:
            images = _along(operator.to(device, non_blocking=True), images, axis)
    return _settle(images.view(count, channels, voxels), tissues, cut_out, shift, gain)


def resolution(
    patch: Sequence[int], spacing_mm: Tensor, settings: Synthesis, draw: Draw
) -> list[Tensor | None]:
    """Build for each axis the matrices (item, size, size) that give images the resolution of some scanner.

    Half of those that lose any are coarse along all axes, the others along one, as slices are.
    Slices are as thick as they are far apart, or thinner. spacing_mm: (item, dims).

    None for an axis along which no image loses any.
    """
    items, dims = spacing_mm.shape
    channels = items // draw.count
    lost, alike, across, drawn, thick = (
        draw.uniform(0, 1, channels).view(items, 1) for _ in range(5)
    )
    lost, alike = lost < settings.low_resolution_probability, alike < 0.5
    across = (across * dims).int()
    finest = spacing_mm.amin(1, keepdim=True)
    coarsest = torch.where(alike, settings.max_isotropic_spacing_mm, settings.max_slice_spacing_mm)
    wanted = finest + drawn * (coarsest - finest).clamp(min=0)
    chosen = lost & (alike | (torch.arange(dims) == across))
    distance = torch.where(chosen, torch.maximum(wanted, spacing_mm), spacing_mm) / spacing_mm
    thickness = 1 + thick * (distance - 1)
    return [
        None
        if bool((distance[:, axis] == 1).all())
        else torch.stack(
            [
                slices(size, float(d), float(t))
                for d, t in zip(distance[:, axis], thickness[:, axis], strict=True)
            ]
        )
        for axis, size in enumerate(patch)
    ]


def slices(size: int, distance: float, thickness: float) -> Tensor:
    """Build the matrix (size, size) of an axis imaged in slices and interpolated back to its voxels.

    distance: between slices, thickness: of each, both in voxels, at least 1. A slice is a Gaussian
    whose width at half maximum, together with a voxel's, is the thickness (Cardoso et al. 2015);
    between slices lies a straight line. Equal values stay as they are.
    """
    if distance == 1:
        return torch.eye(size)
    number = max(1, math.ceil(size / distance - 1e-6))
    # Slices lie about the middle of the axis.
    centres = (np.arange(number) - (number - 1) / 2) * distance + (size - 1) / 2
    voxels = np.arange(size)
    sigma = max(math.sqrt(thickness**2 - 1) / 2.355, 0.3)
    taken = np.exp(-0.5 * ((centres[:, None] - voxels) / sigma) ** 2)
    taken /= taken.sum(1, keepdims=True)
    place = np.clip((voxels - centres[0]) / distance, 0, number - 1)
    back = np.maximum(1 - np.abs(place[:, None] - np.arange(number)), 0)
    return torch.from_numpy((back @ taken).astype(np.float32))


def _along(operators: Tensor, images: Tensor, axis: int) -> Tensor:
    """Apply a matrix (item, size, size) an image along one axis of the images (item, *patch)."""
    items, *patch = images.shape
    before, size, after = math.prod(patch[:axis]), patch[axis], math.prod(patch[axis + 1 :])
    if after == 1:
        flat = images.reshape(items, before, size)
        return torch.bmm(flat, operators.transpose(1, 2)).view(items, *patch)
    flat = images.reshape(items, before, size, after)
    return torch.matmul(operators[:, None], flat).view(items, *patch)


def _settle(
    images: Tensor, tissues: Tensor, cut_out: Tensor, shift: Tensor, gain: Tensor
) -> Tensor:
    """Normalise images (batch, channel, voxels) to prediction's mean and SD, up to `shift` and `gain`.

    Prediction takes them of whole images, and leaves a background of zeros out and as it is.
    """
    count, channels, voxels = images.shape
    inside = (tissues.reshape(count, 1, voxels) != 0) | ~cut_out.to(
        tissues.device, non_blocking=True
    )[:, None, None]
    number = inside.sum(2, keepdim=True).clamp(min=1)
    images = images * inside
    mean = images.sum(2, keepdim=True) / number
    square = (images**2).sum(2, keepdim=True) / number
    sd = (square - mean**2).clamp(min=1e-8).sqrt()
    shift = shift.view(count, channels, 1).to(images.device, non_blocking=True)
    gain = gain.view(count, channels, 1).to(images.device, non_blocking=True)
    images = ((images - mean) * (gain / sd) + shift) * inside
    return images.view(count, channels, *tissues.shape[1:])
