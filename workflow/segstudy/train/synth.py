"""Training images drawn from label maps alone, after SynthSeg (Billot et al. 2023), batched on the device that trains.

A patch of a label map is moved (affine and elastic), each tissue in it gets grey values from a
Gaussian of its own, and the image is given a bias field, a gamma and the resolution of some
scanner. Nothing is learned from real images, so a network that is trained on these meets any
contrast as one more of the kind.

Smooth fields (deformation and bias) are cubic B-splines of a few control points; B-splines, and
the loss of resolution, are a small matrix an axis. What a patch becomes follows from the seed
that the caller gives each step.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from segstudy.images.arrays import TissueMap, sample_foreground
from segstudy.study import Synthesis
from segstudy.train.augment import AXES, affine
from segstudy.train.resolve import Resolved
from segstudy.train.sampling import Batch, Sampler, TrainingCase

TISSUES = 256
"""Tissues a byte tells apart; numbers are drawn for all, so that they depend on the seed alone."""

INJECTIVE = 0.4
"""Largest shift of a control point, in control spacings, at which a B-spline cannot fold (Choi and Lee 2000)."""


SAMPLES = 5


# --- a training's cases and steps ---------------------------------------------------------------


def load_case(found: TissueMap) -> TrainingCase:
    """A label map to draw from, held in memory: its tissues in the place of an image."""
    tissues, classes = found.read()
    return TrainingCase(
        dataset=found.dataset,
        case=found.case,
        image=tissues[None],
        label=classes,
        foreground=sample_foreground(classes, found.dataset, found.case),
        spacing_mm=found.spacing_mm,
    )


def change(
    batch: Batch, resolved: Resolved, device: torch.device, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The images and labels that a step trains on."""
    settings = resolved.settings
    return synthesise(
        batch.images[:, 0].byte().to(device, non_blocking=True),
        batch.labels.to(device, non_blocking=True),
        settings.model.synthesis,
        channels=resolved.in_channels,
        patch_size=resolved.patch_size,
        spacing_mm=batch.spacing_mm,
        axes=batch.axes,
        swap=swap_table(settings.structures, settings.left_right_pairs),
        anisotropy_threshold=resolved.plan.anisotropy_threshold,
        generator=generator,
    )


def swap_table(structures: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Tensor | None:
    """What each class (the background first) becomes where sides are swapped; None without pairs."""
    if not pairs:
        return None
    table = torch.arange(len(structures) + 1, dtype=torch.uint8)
    for left, right in pairs:
        one, other = structures.index(left) + 1, structures.index(right) + 1
        table[one], table[other] = other, one
    return table


@torch.no_grad()
def painted(case: TrainingCase, resolved: Resolved, generator: torch.Generator) -> TrainingCase:
    """The case with one image drawn from its whole map, undeformed: what validation predicts."""
    settings = resolved.model.synthesis.model_copy(update={"shift_sd": 0.0, "gain": (1.0, 1.0)})
    tissues = torch.from_numpy(case.image)
    spacing = torch.tensor([case.spacing_mm])
    image = paint(tissues, settings, resolved.in_channels, spacing, generator)
    return replace(case, image=image[0].numpy())


def samples(
    sampler: Sampler, resolved: Resolved, generator: torch.Generator
) -> dict[str, np.ndarray]:
    """What a training saw, as pictures: one slice of a label map and of images drawn from it.

    Returns `map` (x, y), and `images` float32 and `labels` uint8 (5, x, y): patches that a step
    would see, axial slices of 3D ones, with the classes that it would learn; `pixel_mm` and `axes`
    (2,), the size of a pixel and the RAS axis along x and y.
    """
    first = sampler.batch(0)
    alike = Batch(
        first.images[:1].repeat_interleave(SAMPLES, 0),
        first.labels[:1].repeat_interleave(SAMPLES, 0),
        first.spacing_mm[:1].repeat_interleave(SAMPLES, 0),
        first.axes[:1].repeat_interleave(SAMPLES, 0),
        first.cases[:1] * SAMPLES,
    )
    images, labels = change(alike, resolved, torch.device("cpu"), generator)
    middle = tuple(
        slice((have - want) // 2, (have - want) // 2 + want)
        for have, want in zip(first.labels.shape[1:], resolved.patch_size, strict=True)
    )
    plain = first.labels[0][middle]
    if plain.ndim == 3:
        # The slice that shows most structures, and of these most.
        shown = [(len(part.unique()), int((part > 0).sum())) for part in plain.unbind(2)]
        at = max(range(len(shown)), key=shown.__getitem__)
        images, labels, plain = images[..., at], labels[..., at], plain[..., at]
    return {
        "map": plain.numpy(),
        "images": images[:, 0].numpy(),
        "labels": labels.numpy(),
        "pixel_mm": first.spacing_mm[0][:2].numpy(),
        "axes": first.axes[0][:2].numpy(),
    }


# --- a batch ------------------------------------------------------------------------------------


@torch.no_grad()
def synthesise(
    tissues: Tensor,
    labels: Tensor,
    settings: Synthesis,
    *,
    channels: int,
    patch_size: Sequence[int],
    spacing_mm: Tensor,
    axes: Tensor,
    swap: Tensor | None,
    anisotropy_threshold: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Images and labels of a batch of patches, cut from their label maps.

    tissues: (batch, *source), what grey values are drawn for, 0 .. 255, 0 being the background.
    labels: uint8 (batch, *source), classes. Both on the device.
    channels: of the images; each has its own contrast, bias field, gamma and resolution.
    spacing_mm: (batch, dims), voxel size along each axis of each patch.
    axes: (batch, dims), which RAS axis each axis of each patch is.
    swap: (class,), what each class becomes in a patch whose sides are swapped; None: none is.
    generator: on the CPU, so that every device draws the same, but for the noise.

    Returns images float32 (batch, channel, *patch), mean 0 and SD 1 but for `shift_sd` and
    `gain`, and labels uint8 (batch, *patch).
    """
    tissues, labels = deform(
        tissues, labels, settings, patch_size, spacing_mm, axes, swap, anisotropy_threshold, generator
    )  # fmt: skip
    return paint(tissues, settings, channels, spacing_mm, generator), labels


# --- geometry -----------------------------------------------------------------------------------


def deform(
    tissues: Tensor,
    labels: Tensor,
    settings: Synthesis,
    patch_size: Sequence[int],
    spacing_mm: Tensor,
    axes: Tensor,
    swap: Tensor | None,
    anisotropy_threshold: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Move label maps (batch, *source) at random and cut them to (batch, *patch), by nearest neighbour."""
    count, dims = spacing_mm.shape
    number = 3 if dims == 3 else 1
    matrices = affine(
        _uniform(generator, -settings.rotation_deg, settings.rotation_deg, count, number),
        _uniform(generator, *settings.scale, count, 1),
        torch.zeros(count, dims),
        spacing_mm,
        anisotropy_threshold,
    )
    back = torch.linalg.inv(matrices[:, :, :dims])
    mirrored = torch.rand(count, generator=generator) < settings.left_right_share
    mirrored &= (axes == AXES["right_left"]).any(1) & (swap is not None)
    sides = torch.where(mirrored[:, None] & (axes == AXES["right_left"]), -1.0, 1.0).double()

    splines, nodes = [], []
    for size, spacing in zip(patch_size, spacing_mm.max(0).values.tolist(), strict=True):
        operator, position = spline(size, settings.elastic_spacing_mm / spacing)
        splines.append(operator)
        nodes.append(position)
    # A B-spline through control points on a grid is that grid: the affine map moves them all,
    # the elastic one each by itself.
    grid = torch.stack(torch.meshgrid(*nodes, indexing="ij"), dim=-1)
    points = torch.einsum("bij,...j->b...i", back, grid)
    step_mm = torch.tensor([(node[1] - node[0]).item() for node in nodes]) * spacing_mm
    shift_mm = torch.randn(points.shape, generator=generator) * settings.elastic_sd_mm
    shape = (count, *[1] * dims, dims)
    bound = (INJECTIVE * step_mm).view(shape)
    shift_mm = torch.clamp(shift_mm, -bound, bound)
    coarse = spacing_mm > anisotropy_threshold * spacing_mm.min(dim=1, keepdim=True).values
    points = points + (shift_mm / spacing_mm.view(shape)) * ~coarse.view(shape)
    # From the middle of the axis to the number of the voxel in the source.
    source = torch.tensor(tissues.shape[1:])
    points = points * sides.view(shape) + (source - 1) / 2
    points = points.movedim(-1, 1).flatten(0, 1)[..., None].float().to(tissues.device)
    places = smooth(points, splines)[..., 0].round_().view(count, dims, *patch_size)
    tissues, labels = nearest(tissues, labels, places)
    chosen = torch.nonzero(mirrored)[:, 0].to(labels.device)
    if len(chosen):
        labels[chosen] = swap.to(labels.device)[labels[chosen].int()]
    return tissues, labels


def nearest(tissues: Tensor, labels: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """What lies at whole places float32 (batch, dims, *patch) of two maps (batch, *source); outside, 0."""
    source = tissues.shape[1:]
    inside = torch.ones_like(places[:, 0], dtype=torch.bool)
    flat = torch.zeros_like(places[:, 0], dtype=torch.int32)
    for axis, size in enumerate(source):
        along = places[:, axis]
        inside &= (along >= 0) & (along < size)
        flat.mul_(size).add_(along.int())
    flat.mul_(inside)
    return tuple(
        torch.stack([found.flatten().index_select(0, where.flatten()).view(where.shape)
                     for found, where in zip(values, flat, strict=True)]).mul_(inside)
        for values in (tissues, labels)
    )  # fmt: skip


def spline(size: int, spacing_voxels: float) -> tuple[Tensor, Tensor]:
    """A uniform cubic B-spline along one axis.

    Returns the matrix (size, points), by which values at control points become those of voxels,
    and the places (points,) of the control points in voxels from the middle of the axis. Values
    that are linear in place stay so.
    """
    gaps = max(1, round((size - 1) / spacing_voxels))
    step = max(size - 1, 1) / gaps
    places = np.arange(size) / step
    # Rounding may carry the last voxel beyond the last gap.
    first = np.minimum(np.floor(places + 1e-9).astype(int), gaps - 1)
    t = places - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    matrix = np.zeros((size, gaps + 3))
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights / 6, axis=1)
    points = (np.arange(gaps + 3) - 1) * step - (size - 1) / 2
    return torch.from_numpy(matrix), torch.from_numpy(points)


def smooth(points: Tensor, splines: Sequence[Tensor]) -> Tensor:
    """Values at control points (batch, *points, value) as those of voxels (batch, *patch, value)."""
    values = points
    # The first axis comes last, in one product over all that lies behind it.
    for axis in reversed(range(len(splines))):
        operator = splines[axis].to(points)
        before, after = values.shape[: axis + 1], values.shape[axis + 2 :]
        flat = values.reshape(math.prod(before), values.shape[axis + 1], math.prod(after))
        values = torch.matmul(operator, flat).reshape(*before, len(operator), *after)
    return values


def source_size(
    patch_size: Sequence[int], settings: Synthesis, spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """How large a label map must be read so that the deformation finds what moves into the patch.

    Turned and scaled as far as can be; elastic shifts up to twice their SD.
    """
    dims = len(patch_size)
    sizes_mm = np.multiply(patch_size, spacing_mm)
    angle = math.radians(settings.rotation_deg)
    reach_mm = sizes_mm * math.cos(angle)
    for axis in range(dims):
        others = np.delete(sizes_mm, axis)
        reach_mm[axis] += math.sin(angle) * math.hypot(*others)
    reach_mm = np.maximum(reach_mm, sizes_mm) / settings.scale[0] + 4 * settings.elastic_sd_mm
    return tuple(
        want + 2 * math.ceil((have / size - want) / 2 - 1e-6)
        for want, have, size in zip(patch_size, reach_mm, spacing_mm, strict=True)
    )


# --- grey values --------------------------------------------------------------------------------


def paint(
    tissues: Tensor,
    settings: Synthesis,
    channels: int,
    spacing_mm: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Images float32 (batch, channel, *patch) of the tissues uint8 (batch, *patch)."""
    count, *patch = tissues.shape
    items, voxels, device = count * channels, math.prod(patch), tissues.device
    means = _uniform(generator, *settings.mean, items, TISSUES)
    sds = _uniform(generator, *settings.sd, items, TISSUES)
    cut_out = torch.rand(count, generator=generator) < settings.zero_background_share
    bias_sd = _uniform(generator, 0, settings.bias_field_sd, items, 1)
    spacing = spacing_mm.repeat_interleave(channels, 0)
    splines = [
        spline(size, settings.bias_field_spacing_mm / mm)[0]
        for size, mm in zip(patch, spacing_mm.max(0).values.tolist(), strict=True)
    ]
    points = torch.randn(items, *[len(s[0]) for s in splines], 1, generator=generator)
    points *= bias_sd.view(-1, *[1] * (len(patch) + 1))
    exponents = torch.exp(settings.gamma_sd * torch.randn(items, generator=generator))
    operators = resolution(patch, spacing, settings, generator)
    shift = settings.shift_sd * torch.randn(items, generator=generator)
    gain = _uniform(generator, *settings.gain, items, 1)[:, 0]
    seed = int(torch.randint(2**62, (), generator=generator))

    noise = torch.Generator(device).manual_seed(seed)
    images = torch.randn(items, voxels, generator=noise, device=device)
    flat = tissues.reshape(count, voxels).int().repeat_interleave(channels, 0)
    for image, where, mean, sd in zip(images, flat, means.to(device), sds.to(device), strict=True):
        image.mul_(sd.index_select(0, where)).add_(mean.index_select(0, where))
    images = images.view(items, *patch)
    if settings.bias_field_sd:
        images *= smooth(points.to(device), splines)[..., 0].exp_()
    images = images.view(items, voxels)
    low, high = images.amin(1, keepdim=True), images.amax(1, keepdim=True)
    images.sub_(low).div_((high - low).clamp_(min=1e-7)).pow_(exponents.to(device)[:, None])
    images = images.view(items, *patch)
    for axis, operator in enumerate(operators):
        if operator is not None:
            images = _along(operator.to(device), images, axis)
    return _settle(images.view(count, channels, voxels), tissues, cut_out, shift, gain)


def resolution(
    patch: Sequence[int], spacing_mm: Tensor, settings: Synthesis, generator: torch.Generator
) -> list[Tensor | None]:
    """For each axis the matrices (item, size, size) that give images the resolution of some scanner.

    Half of those that lose any are coarse along all axes, the others along one, as slices are.
    Slices are as thick as they are far apart, or thinner. spacing_mm: (item, dims).

    None for an axis along which no image loses any.
    """
    items, dims = spacing_mm.shape
    lost = torch.rand(items, 1, generator=generator) < settings.low_resolution_share
    alike = torch.rand(items, 1, generator=generator) < 0.5
    across = torch.randint(dims, (items, 1), generator=generator)
    drawn = torch.rand(items, 1, generator=generator)
    thick = torch.rand(items, 1, generator=generator)
    finest = spacing_mm.amin(1, keepdim=True)
    coarsest = torch.where(alike, settings.isotropic_mm, settings.slice_spacing_mm)
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
    """The matrix (size, size) of an axis imaged in slices and interpolated back to its voxels.

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
    """Mean and SD as prediction will find them, up to `shift` and `gain`; images (batch, channel, voxels).

    Prediction takes them of whole images, and leaves a background of zeros out and as it is.
    """
    count, channels, voxels = images.shape
    inside = (tissues.reshape(count, 1, voxels) != 0) | ~cut_out.to(tissues.device)[:, None, None]
    number = inside.sum(2, keepdim=True).clamp(min=1)
    images = images * inside
    mean = images.sum(2, keepdim=True) / number
    square = (images**2).sum(2, keepdim=True) / number
    sd = (square - mean**2).clamp(min=1e-8).sqrt()
    shift = shift.view(count, channels, 1).to(images.device)
    gain = gain.view(count, channels, 1).to(images.device)
    images = ((images - mean) * (gain / sd) + shift) * inside
    return images.view(count, channels, *tissues.shape[1:])


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)
