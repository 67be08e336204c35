"""Random numbers and smooth random fields for each patch of a batch, from one generator.

Every number is drawn on the CPU, so that every device draws the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segstudy.train.seeds import seed_of


def draw_of_step(seed: int, step: int, count: int, part: tuple[int, int] = (0, 1)) -> "Draw":
    """Return the random numbers of a step's patches, from their first one on.

    seed: of the training. count: patches of this part of the batch.
    """
    return Draw(torch.Generator().manual_seed(seed_of(seed, f"step {step}")), count, part)


class Draw:
    """Draw random numbers for each patch of a batch: as many whatever is chosen.

    count: patches of this part of the batch; the numbers of all parts are drawn, and its own kept.
    """

    def __init__(self, generator: torch.Generator, count: int, part: tuple[int, int] = (0, 1)):
        self.generator = generator
        self.count = count
        number, parts = part
        self.whole = count * parts
        self.part = slice(count * number, count * (number + 1))

    def chosen(self, probability: float) -> Tensor:
        """Choose the patches (batch,) that are changed, each with the probability `probability`."""
        return torch.rand(self.whole, generator=self.generator)[self.part] < probability

    def uniform(self, low: float, high: float, number: int) -> Tensor:
        """Draw (batch, number) uniformly in [low, high)."""
        drawn = torch.rand(self.whole, number, generator=self.generator)[self.part]
        return low + (high - low) * drawn

    def factor(self, low: float, high: float, number: int) -> Tensor:
        """Draw (batch, number) in [low, high): half of them below 1 and half above, where both are possible.

        Uniform on each side, as nnU-Net draws contrast, brightness and gamma (Isensee et al. 2021).
        """
        if not low < 1 < high:
            return self.uniform(low, high, number)
        drawn = self.uniform(-1, 1, number)
        return 1 + drawn * torch.where(drawn < 0, 1 - low, high - 1)

    def normal(self, number: int) -> Tensor:
        """Draw (batch, number) of mean 0 and SD 1."""
        return torch.randn(self.whole, number, generator=self.generator)[self.part]

    def seeds(self) -> list[int]:
        """Draw a seed for each patch."""
        return torch.randint(2**62, (self.whole,), generator=self.generator)[self.part].tolist()

    def field(
        self, parts: int, spacing: Sequence[float] | Tensor, size: Sequence[int]
    ) -> "SmoothField":
        """Draw a smooth field (batch, parts, *size), its control points `spacing` voxels apart.

        spacing: (dims,), the same for all patches, or (batch, dims).
        """
        spacing = torch.as_tensor(spacing).float().expand(self.count, len(size))
        phase = self.uniform(0, 1, len(size))
        closest = spacing.amin(0).tolist()
        points = [math.ceil(have / gap) + 4 for have, gap in zip(size, closest, strict=True)]
        drawn = torch.randn(self.whole, parts, *points, generator=self.generator)[self.part]
        return SmoothField(drawn, phase, spacing)


@dataclass(frozen=True)
class SmoothField:
    """Hold a cubic B-spline of normally distributed coefficients: smooth, of mean 0 and SD 1 everywhere.

    The SD is that over all fields; since the control points lie at random (`phase`), it is the
    same in every voxel. A product of B-splines has the mean square (151/315)^dims, which is divided out.

    coefficients: (batch, part, *control points); phase: (batch, dims), in control points;
    spacing: (batch, dims), voxels between control points along each axis of each patch.
    """

    coefficients: Tensor
    phase: Tensor
    spacing: Tensor

    def times(self, factor: Tensor) -> "SmoothField":
        """Multiply each part of each field by a factor (batch, part)."""
        shape = (*self.coefficients.shape[:2], *[1] * self.phase.shape[1])
        values = self.coefficients * factor.expand(shape[:2]).reshape(shape)
        return SmoothField(values, self.phase, self.spacing)

    def bounded(self, limit: Tensor) -> "SmoothField":
        """Bound part n by plus and minus `limit` (batch, part), at its control points and so everywhere."""
        limit = (limit * self._scale).to(self.coefficients)
        limit = limit.reshape(*limit.shape, *[1] * self.phase.shape[1])
        return SmoothField(self.coefficients.clamp(-limit, limit), self.phase, self.spacing)

    @property
    def largest(self) -> Tensor:
        """Return (batch, part) that no value's size exceeds: B-splines stay within their coefficients."""
        return self.coefficients.abs().flatten(2).amax(2) / self._scale

    def mixed(self, matrices: Tensor) -> "SmoothField":
        """Mix the parts by matrices (batch, new part, part)."""
        mixed = (matrices.to(self.coefficients.dtype) @ self.coefficients.flatten(2)).reshape(
            len(matrices), -1, *self.coefficients.shape[2:]
        )
        return SmoothField(mixed, self.phase, self.spacing)

    def of(self, chosen: Tensor) -> "SmoothField":
        """Return the fields of some patches, by number."""
        return SmoothField(self.coefficients[chosen], self.phase[chosen], self.spacing[chosen])

    def values(self, size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Return the field's values (batch, part, *size) in all voxels."""
        values = self.coefficients.to(device, non_blocking=True)
        for axis, have in enumerate(size):
            weights = self._weights(axis, have).to(device, non_blocking=True)
            folded = values.movedim(axis + 2, -1)
            values = (folded @ weights[(slice(None), *[None] * (folded.ndim - 3))]).movedim(
                -1, axis + 2
            )
        return values / self._scale

    @property
    def _scale(self) -> float:
        return math.sqrt((151 / 315) ** self.phase.shape[1])

    def _weights(self, axis: int, size: int) -> Tensor:
        """Return (batch, control point, voxel): the cubic B-spline of each control point in each voxel."""
        points = self.coefficients.shape[axis + 2]
        place = torch.arange(size) / self.spacing[:, axis, None] + self.phase[:, axis, None] + 1
        away = (place[:, None] - torch.arange(points)[:, None]).abs()
        near = 2 / 3 - away**2 + away**3 / 2
        return torch.where(away < 1, near, (2 - away).clamp(min=0) ** 3 / 6)
