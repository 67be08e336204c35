"""Random changes of a batch of patches, on the device that trains.

Patches arrive larger than needed (`source_size`), so that a turned patch has no empty corners.
Rotation, scale, shear, shift and flips are one matrix, an elastic field is added to where it
points, and each patch is resampled once. Every random number comes from one generator, which the
caller seeds for each step.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from segstudy.sides import RAS_AXES
from segstudy.study import Augmentation

ELASTIC_REACH = 3
"""Standard deviations of the elastic displacement that a patch is read wider by."""

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def augment(
    images: Tensor,
    labels: Tensor,
    settings: Augmentation,
    patch_size: Sequence[int],
    spacing_mm: Tensor,
    axes: Tensor,
    anisotropy_threshold: float,
    generator: torch.Generator,
    pairs: Sequence[tuple[int, int]] = (),
    part: tuple[int, int] = (0, 1),
) -> tuple[Tensor, Tensor]:
    """Change a batch at random, and cut it to the patch.

    images: float32 (batch, channel, *source), labels: uint8 (batch, *source), both on the device.
    spacing_mm: (batch, dims), voxel size along each axis of each patch.
    axes: (batch, dims), which RAS axis each axis of each patch is.
    anisotropy_threshold: ratio of voxel sizes above which nothing turns out of the fine plane.
    generator: on the CPU, so that every device draws the same.
    pairs: classes that are the left and the right one of a structure; a patch that is flipped
      across the sagittal plane shows them on the other side, and their labels are swapped.
    part: (number, parts): this is one of the equal parts of a batch, and is changed as it is there.

    Returns images (batch, channel, *patch) and labels (batch, *patch).
    """
    count, dims = spacing_mm.shape
    draw = Draw(generator, count, part)
    coarse = coarse_axes(spacing_mm, anisotropy_threshold)

    turned = draw.chosen(settings.affine_share)
    turns = 3 if dims == 3 else 1
    drawn = (
        draw.uniform(-settings.rotation_deg, settings.rotation_deg, turns),
        draw.uniform(*settings.scale, 1),
        draw.uniform(-settings.translation_voxels, settings.translation_voxels, dims),
        draw.uniform(-settings.shear, settings.shear, turns),
    )
    matrices = torch.eye(dims, dims + 1, dtype=torch.float64).repeat(count, 1, 1)
    if turned.any():
        *moves, shear = (one[turned] for one in drawn)
        matrices[turned] = affine(*moves, spacing_mm[turned], anisotropy_threshold, shear)
    bend = None
    if settings.elastic_share:
        bent = draw.chosen(settings.elastic_share)
        sd = draw.uniform(0, settings.elastic_voxels, 1) * bent[:, None] * ~coarse
        bend = draw.field(dims, (settings.elastic_spacing_voxels,) * dims, patch_size).times(sd)
        turned |= bent
    flipped = torch.zeros(count, dims, dtype=torch.bool)
    for name in settings.flip_axes:
        flipped |= draw.chosen(0.5)[:, None] & (axes == RAS_AXES[name])
    images, labels = resample(images, labels, matrices, turned, patch_size, flipped, bend)
    mirrored = (flipped & (axes == RAS_AXES["right_left"])).any(1)
    labels = swap_sides(labels, mirrored, pairs)
    return intensities(images, settings, draw, coarse), labels


def swap_sides(labels: Tensor, mirrored: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Exchange the classes of each pair in the patches (batch, *patch) that are `mirrored` (batch,)."""
    where = torch.nonzero(mirrored)[:, 0].to(labels.device)
    if not pairs or not len(where):
        return labels
    swapped = torch.arange(256, dtype=labels.dtype, device=labels.device)
    for left, right in pairs:
        swapped[left], swapped[right] = right, left
    labels[where] = swapped[labels[where].long()]
    return labels


class Draw:
    """Random numbers for each patch of a batch. As many are drawn whatever is chosen.

    count: patches of this part of the batch; the numbers of all parts are drawn, and its own kept.
    """

    def __init__(self, generator: torch.Generator, count: int, part: tuple[int, int] = (0, 1)):
        self.generator = generator
        self.count = count
        number, parts = part
        self.whole = count * parts
        self.own = slice(count * number, count * (number + 1))

    def chosen(self, share: float) -> Tensor:
        """Which patches (batch,) are changed."""
        return torch.rand(self.whole, generator=self.generator)[self.own] < share

    def uniform(self, low: float, high: float, number: int) -> Tensor:
        """(batch, number) uniform in [low, high)."""
        drawn = torch.rand(self.whole, number, generator=self.generator)[self.own]
        return low + (high - low) * drawn

    def factor(self, low: float, high: float, number: int) -> Tensor:
        """(batch, number) in [low, high): half of them below 1 and half above, where both are possible.

        Uniform on each side, as nnU-Net draws contrast, brightness and gamma (Isensee et al. 2021).
        """
        if not low < 1 < high:
            return self.uniform(low, high, number)
        drawn = self.uniform(-1, 1, number)
        return 1 + drawn * torch.where(drawn < 0, 1 - low, high - 1)

    def normal(self, number: int) -> Tensor:
        """(batch, number) of mean 0 and SD 1."""
        return torch.randn(self.whole, number, generator=self.generator)[self.own]

    def seeds(self) -> list[int]:
        """A seed for each patch."""
        return torch.randint(2**62, (self.whole,), generator=self.generator)[self.own].tolist()

    def field(
        self, parts: int, spacing: Sequence[float] | Tensor, size: Sequence[int]
    ) -> "SmoothField":
        """A smooth random field (batch, parts, *size), its control points `spacing` voxels apart.

        spacing: (dims,), the same for all patches, or (batch, dims).
        """
        spacing = torch.as_tensor(spacing).float().expand(self.count, len(size))
        phase = self.uniform(0, 1, len(size))
        closest = spacing.amin(0).tolist()
        points = [math.ceil(have / gap) + 4 for have, gap in zip(size, closest, strict=True)]
        drawn = torch.randn(self.whole, parts, *points, generator=self.generator)[self.own]
        return SmoothField(drawn, phase, spacing)


# --- geometry -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmoothField:
    """A cubic B-spline of normally distributed coefficients: smooth, of mean 0 and SD 1 everywhere.

    The SD is that over all fields; since the control points lie at random (`phase`), it is the
    same in every voxel. A product of B-splines has the mean square (151/315)^dims, which is divided out.

    coefficients: (batch, part, *control points); phase: (batch, dims), in control points;
    spacing: (batch, dims), voxels between control points along each axis of each patch.
    """

    coefficients: Tensor
    phase: Tensor
    spacing: Tensor

    def times(self, factor: Tensor) -> "SmoothField":
        """Each part of each field, times a factor (batch, part)."""
        shape = (*self.coefficients.shape[:2], *[1] * self.phase.shape[1])
        values = self.coefficients * factor.expand(shape[:2]).reshape(shape)
        return SmoothField(values, self.phase, self.spacing)

    def bounded(self, limit: Tensor) -> "SmoothField":
        """The field with part n between plus and minus `limit` (batch, part), at its control points and so everywhere."""
        limit = (limit * self._scale).to(self.coefficients)
        limit = limit.reshape(*limit.shape, *[1] * self.phase.shape[1])
        return SmoothField(self.coefficients.clamp(-limit, limit), self.phase, self.spacing)

    def mixed(self, matrices: Tensor) -> "SmoothField":
        """Parts mixed by matrices (batch, new part, part)."""
        mixed = (matrices.to(self.coefficients.dtype) @ self.coefficients.flatten(2)).reshape(
            len(matrices), -1, *self.coefficients.shape[2:]
        )
        return SmoothField(mixed, self.phase, self.spacing)

    def of(self, chosen: Tensor) -> "SmoothField":
        """The fields of some patches, by number."""
        return SmoothField(self.coefficients[chosen], self.phase[chosen], self.spacing[chosen])

    def values(self, size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(batch, part, *size)."""
        found = self.coefficients.to(device)
        for axis, have in enumerate(size):
            weights = self._weights(axis, have).to(device)
            folded = found.movedim(axis + 2, -1)
            found = (folded @ weights[(slice(None), *[None] * (folded.ndim - 3))]).movedim(
                -1, axis + 2
            )
        return found / self._scale

    @property
    def _scale(self) -> float:
        return math.sqrt((151 / 315) ** self.phase.shape[1])

    def _weights(self, axis: int, size: int) -> Tensor:
        """(batch, control point, voxel): the cubic B-spline of each control point in each voxel."""
        points = self.coefficients.shape[axis + 2]
        place = torch.arange(size) / self.spacing[:, axis, None] + self.phase[:, axis, None] + 1
        away = (place[:, None] - torch.arange(points)[:, None]).abs()
        near = 2 / 3 - away**2 + away**3 / 2
        return torch.where(away < 1, near, (2 - away).clamp(min=0) ** 3 / 6)


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


def sheared(amounts: Tensor, dims: int) -> Tensor:
    """Shears (batch, dims, dims): axis 0 moves along by axis 1 (and 2), axis 1 by axis 2; a tangent each.

    amounts: (batch, 1) in 2D, (batch, 3) in 3D, for 0 by 1, 0 by 2, 1 by 2.
    """
    matrix = torch.eye(dims, dtype=torch.float64).repeat(len(amounts), 1, 1)
    rows, columns = torch.triu_indices(dims, dims, 1)
    matrix[:, rows, columns] = amounts.double()
    return matrix


def coarse_axes(spacing_mm: Tensor, anisotropy_threshold: float) -> Tensor:
    """(batch, dims): axes whose voxels are that many times larger than the smallest."""
    return spacing_mm > anisotropy_threshold * spacing_mm.min(dim=1, keepdim=True).values


def affine(
    angles_deg: Tensor,
    scale: Tensor,
    shift: Tensor,
    spacing_mm: Tensor,
    anisotropy_threshold: float = math.inf,
    shear: Tensor | None = None,
) -> Tensor:
    """Matrices (batch, dims, dims + 1) that say where the content of a patch goes.

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


def resample(
    images: Tensor,
    labels: Tensor,
    matrices: Tensor,
    turned: Tensor,
    patch_size: Sequence[int],
    flipped: Tensor | None = None,
    bend: SmoothField | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut the middle of each patch, moved by its matrix where `turned` says so, and then flipped.

    images: (batch, channel, *source), linear interpolation; labels: (batch, *source), nearest
    neighbour; outside the source: 0. Sizes of source and patch are even or odd together.
    flipped: (batch, dims), along which axes. bend: displacement (batch, dims, *patch) in voxels of
    the patch, added before the matrix.
    """
    count, channels, *source = images.shape
    if flipped is None:
        flipped = torch.zeros(count, len(source), dtype=torch.bool)
    cut_images = images.new_empty(count, channels, *patch_size)
    cut_labels = labels.new_empty(count, *patch_size)
    middle = tuple(
        slice((have - want) // 2, (have - want) // 2 + want)
        for have, want in zip(source, patch_size, strict=True)
    )
    for along in sorted({tuple(row) for row in flipped[~turned].tolist()}):
        same = ~turned & (flipped == torch.tensor(along)).all(1)
        axes = [axis for axis, yes in enumerate(along) if yes]
        for _, own in _pieces(same, images.device):
            shown, labelled = images[own], labels[own]
            shown = shown[(slice(None), slice(None), *middle)]
            cut_images[own] = shown.flip([a + 2 for a in axes]) if axes else shown
            labelled = labelled[(slice(None), *middle)]
            cut_labels[own] = labelled.flip([a + 1 for a in axes]) if axes else labelled
    for numbers, own in _pieces(turned, images.device):
        mirror = 1 - 2 * flipped[numbers].double()
        field = None if bend is None else bend.of(numbers)
        places = places_of(
            matrices[numbers] * mirror[:, :, None], source, patch_size, field, images.device
        )
        cut_labels[own] = nearest(labels[own], places)
        cut_images[own] = _linear(images[own], places)
    return cut_images, cut_labels


def _pieces(chosen: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor | slice]]:
    """The chosen patches as they are worked on: numbers on the CPU, and an index on the device.

    A GPU takes all at once. A CPU takes each by itself, as a view: nothing is copied to begin with.
    """
    numbers = torch.nonzero(chosen)[:, 0]
    if device.type == "cpu":
        return [(number[None], slice(number, number + 1)) for number in numbers]
    return [(numbers, numbers.to(device))] if len(numbers) else []


def places_of(
    matrices: Tensor,
    source: Sequence[int],
    patch_size: Sequence[int],
    bend: SmoothField | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """For each voxel of a patch the place in the source that its content comes from.

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
    if bend is None:
        places = torch.empty(len(back), dims, *patch_size, device=device)
    else:
        places = bend.mixed(back).values(patch_size, device).contiguous()
    steps, total = back.to(device), start.to(device)
    for axis, size in enumerate(patch_size[:-1]):
        along = steps[:, :, axis, None] * torch.arange(size, device=device)
        total = total[..., None] + along.reshape(len(back), dims, *[1] * axis, size)
    along = steps[:, :, -1, None] * torch.arange(patch_size[-1], device=device)
    along = along.reshape(len(back), dims, *[1] * (dims - 1), patch_size[-1])
    if bend is None:
        return torch.add(total[..., None], along, out=places)
    return places.add_(total[..., None]).add_(along)


def nearest(labels: Tensor, places: Tensor) -> Tensor:
    """Labels (batch, *patch) of the voxels nearest to places in labels (batch, *source); outside: 0."""
    source = labels.shape[1:]
    # With a border of 0, what lies outside is found there.
    padded = functional.pad(labels, [1, 1] * len(source)).flatten(1)
    index = torch.zeros((), device=labels.device)
    stride = 1.0
    for axis, size in enumerate(reversed(source)):
        found = places[:, axis].round().clamp_(-1, size).add_(1)
        # Whole numbers beyond 2^24 are not all float32.
        exact = found.double() if padded.shape[1] >= 2**24 else found
        index = index + exact.mul_(stride)
        stride *= size + 2
    return padded.gather(1, index.long().flatten(1)).reshape(index.shape)


def _linear(images: Tensor, places: Tensor) -> Tensor:
    """Images (batch, channel, *patch) at places in images (batch, channel, *source); outside: 0.

    Overwrites `places`. grid_sample counts from -1 to 1 between the outer faces of the source.
    """
    sizes = torch.tensor(images.shape[:1:-1], device=images.device, dtype=places.dtype)
    sizes = sizes.reshape(-1, *[1] * (places.ndim - 2))
    grid = places.mul_(2 / sizes).add_(1 / sizes - 1).movedim(1, -1)
    slabs = math.gcd(torch.get_num_threads(), grid.shape[1]) if images.is_cpu else 1
    if slabs == 1:
        return functional.grid_sample(images, grid, align_corners=False)
    # On a CPU grid_sample takes one thread an image: slabs of the patch are given to it as images.
    split = grid.unflatten(1, (slabs, -1)).flatten(0, 1)
    shared = images.expand(slabs, *images.shape[1:])
    found = functional.grid_sample(shared, split, align_corners=False)
    return found.movedim(0, 1).flatten(1, 2)[None]


def source_size(
    patch_size: Sequence[int],
    settings: Augmentation,
    spacing_mm: Sequence[float],
    anisotropy_threshold: float,
) -> tuple[int, ...]:
    """How large a patch must be read so that no rotation, scale, shear and shift looks beyond its border.

    Nor does an elastic displacement of up to three standard deviations.
    """
    dims = len(patch_size)
    spacing = torch.tensor([spacing_mm]).double()
    most_deg, shears, smallest, shift = 0.0, [0.0], 1.0, 0.0
    if settings.affine_share:
        most_deg, shears = settings.rotation_deg, sorted({-settings.shear, settings.shear})
        smallest, shift = settings.scale[0], settings.translation_voxels
    if settings.elastic_share:
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
    """The largest reach along an axis by angles up to plus and minus `most_deg` degrees.

    On a raster of 13 values an angle, and around its best ever closer by: a maximum between two of
    its angles lies up to 1 - cos(15 degrees) above them.
    """

    def raster(values: Tensor) -> Tensor:
        return torch.cartesian_prod(*[values] * turns).reshape(-1, turns)

    steps = most_deg * torch.linspace(-1, 1, 13, dtype=torch.float64)
    best, step = torch.zeros(turns, dtype=torch.float64), most_deg / 12
    near = raster(steps)
    while True:
        found = reach(near)[:, axis]
        best = near[found.argmax()]
        if step < 1e-3:
            return float(found.max())
        around = step * torch.linspace(-1, 1, 3, dtype=torch.float64)
        near = (best + raster(around)).clamp(-most_deg, most_deg)
        step /= 2


# --- intensities --------------------------------------------------------------------------------


def intensities(images: Tensor, settings: Augmentation, draw: Draw, coarse: Tensor) -> Tensor:
    """Change intensities of some patches (batch, channel, *patch), in place.

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
            there = where.to(images.device)
            values = values[where].to(images.device).view(spread)
            images[there] = function(images[there], values, *(one[where] for one in further))

    seeds = torch.tensor(draw.seeds())
    change(settings.noise_share, (0, settings.noise_sd), add_noise, seeds)
    change(settings.blur_share, settings.blur_sigma_voxels, blur)
    if settings.bias_share:
        # A few control points across the patch: as smooth as a coil's sensitivity.
        field = draw.field(channels, [have / 2 for have in size], size)
        numbers = torch.arange(len(images))
        change(
            settings.bias_share,
            (0, settings.bias_sd),
            lambda some, sd, which: bias(some, sd, field.of(which).values(size, some.device)),
            numbers,
        )
    change(settings.brightness_share, settings.brightness, brighten, of=draw.factor)
    change(settings.contrast_share, settings.contrast, contrast, of=draw.factor)
    change(settings.low_resolution_share, settings.low_resolution_scale, lower_resolution, coarse)
    change(settings.gamma_share, settings.gamma, gamma, of=draw.factor)
    change(
        settings.inverted_gamma_share,
        settings.gamma,
        lambda some, exponent: -gamma(-some, exponent),
        of=draw.factor,
    )
    return images


def add_noise(images: Tensor, sd: Tensor, seeds: Tensor) -> Tensor:
    """Gaussian noise of that SD (batch, channel, 1, ...), each patch's from a seed of its own (batch,)."""
    noise = torch.empty_like(images)
    for patch, seed in zip(noise, seeds.tolist(), strict=True):
        patch.normal_(generator=torch.Generator(images.device).manual_seed(seed))
    return torch.addcmul(images, noise, sd)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur along every axis; sigma in voxels, (batch, channel, 1, ...). Borders repeat."""
    dims = images.ndim - 2
    radius = max(1, math.ceil(3 * float(sigma.max())))
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
    factor = (field * sd).exp_()
    factor /= factor.mean(axes, keepdim=True)
    low = images.amin(axes, keepdim=True)
    return (images - low).mul_(factor).add_(low)


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    return images * factor


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return torch.addcmul(mean * (1 - factor), images, factor).clamp_(low, high)


def lower_resolution(images: Tensor, scale: Tensor, coarse: Tensor) -> Tensor:
    """Patches as if taken at a lower resolution: nearest voxels of a smaller grid, linearly enlarged.

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
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    sd = torch.linalg.vector_norm(images - mean, dim=axes, keepdim=True)
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    unit = (images - low).div_((high - low).clamp(min=1e-7))
    bent = unit.pow_(exponent)
    bent -= bent.mean(axes, keepdim=True)
    bent *= sd / torch.linalg.vector_norm(bent, dim=axes, keepdim=True).clamp(min=1e-7)
    return bent.add_(mean)
