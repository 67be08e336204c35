"""Which axes a level of a U-Net halves and convolves: coarse ones wait for the finer ones.

As in nnU-Net (Isensee et al. 2021, `get_pool_and_conv_props` of nnunetv2), but for the number of
levels, which a study sets.
"""

from collections.abc import Sequence

from segstudy.errors import InputError
from segstudy.study import AttentionUnetModel, UnetModel

SMALLEST = 4
"""No axis is halved below this many voxels: a patch of 7 stays as it is."""


def topology(
    levels: int, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return strides and kernels of each level, finest first; the first level's stride is 1.

    An axis of at least 8 voxels is halved if they are less than twice as large as the smallest of
    those that may still be halved. Its kernel is 1 until its voxels are less than twice the
    smallest, and 3 from then on; at the last level all kernels are 3.

    A patch rounded to the nearest multiple of what its strides shrink it by has the same strides:
    an axis halved k times has more than 3.5 * 2^k voxels, so at least 4 * 2^k after rounding.
    """
    size, spacing = list(patch_size), list(spacing_mm)
    axes = range(len(size))
    steps, kernels = [], []
    kernel = [1] * len(size)
    for level in range(levels):
        step = [1] * len(size)
        if level > 0:
            able = [axis for axis in axes if size[axis] >= 2 * SMALLEST]
            if not able:
                raise InputError(
                    f"channels: {levels} levels, but a patch of {'x'.join(map(str, patch_size))} "
                    f"voxels can be halved {level - 1} times; give at most {level} levels, or a "
                    "larger patch_size"
                )
            finest = min(spacing[axis] for axis in able)
            for axis in able:
                if spacing[axis] < 2 * finest:
                    step[axis] = 2
                    size[axis] = -(-size[axis] // 2)
                    spacing[axis] *= 2
        for axis in axes:
            if spacing[axis] < 2 * min(spacing) or level == levels - 1:
                kernel[axis] = 3
        steps.append(tuple(step))
        kernels.append(tuple(kernel))
    return steps, kernels


def strides(
    model: UnetModel | AttentionUnetModel, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """Return by how much a U-Net of the model's levels shrinks a patch, along each axis."""
    steps, _ = topology(len(model.channels), patch_size, spacing_mm)
    return product(steps)


def product(steps: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return by how much strides shrink a patch in all, along each axis."""
    total = [1] * len(steps[0])
    for step in steps:
        total = [factor * step_factor for factor, step_factor in zip(total, step, strict=True)]
    return tuple(total)
