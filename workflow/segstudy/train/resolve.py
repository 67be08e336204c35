"""Settling of every `auto` of a training, from its plan and its cases."""

import math
from collections.abc import Sequence

from segstudy import networks
from segstudy.errors import InputError
from segstudy.images.names import times
from segstudy.images.plan import Plan
from segstudy.networks import patch_spacing
from segstudy.planes import NORMAL_AXIS
from segstudy.study import AnyModel, TrainSettings
from segstudy.train.memory import PATCH_VOXELS
from segstudy.train.resolved import Resolved
from segstudy.train.source import PatchSource

SLICES_PER_CASE = 8
"""Slices of each case that an `auto` epoch of a 2D network shows."""


def automatic_patch(model: AnyModel, plan: Plan, device: str) -> tuple[int, ...]:
    """Choose the patch for `patch_size: auto`, in voxels of the plan's grid.

    The median case where that is small enough; else as many millimetres along each axis as the
    device's budget allows, and along no axis more than the median case; more than the budget where
    the network's levels need it. Each axis is a multiple of what the network shrinks it by, and at
    least two voxels are left at the bottom, since one has no spread to normalise by. A 2D patch
    holds a slice of any of the model's planes.

    Raises InputError where the whole median case is too small for the network's levels.
    """
    if model.dims == 3:
        shape, spacing = plan.median_shape, plan.spacing_mm
    else:
        planes = [[axis for axis in range(3) if axis != NORMAL_AXIS[p]] for p in model.planes]
        shape = tuple(max(plan.median_shape[axes[n]] for axes in planes) for n in (0, 1))
        spacing = patch_spacing(plan.spacing_mm, model.dims, model.planes)
    wanted, steps = _wanted(model, shape, spacing, PATCH_VOXELS[device][model.dims])
    patch = _multiple(wanted, shape, steps)
    if patch != steps:
        return patch
    longest = max(range(model.dims), key=lambda axis: shape[axis] * spacing[axis])
    return tuple(size * (1 + (axis == longest)) for axis, size in enumerate(patch))


def _wanted(
    model: AnyModel, shape: Sequence[int], spacing_mm: Sequence[float], budget: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a box of the budget, or the least above it that the network's levels fit, and its strides."""
    while True:
        wanted = _largest(shape, spacing_mm, budget)
        try:
            return wanted, networks.strides(model, wanted, spacing_mm)
        except InputError as error:
            if wanted == tuple(shape):
                whole_refused = error
                break
            budget = 5 * budget // 4
    # An axis that a padding of up to a sixth makes long enough for one more level is padded.
    padded = [math.ceil(size * 7 / 6) for size in wanted]
    try:
        return wanted, networks.strides(model, padded, spacing_mm)
    except InputError:
        raise whole_refused from None


def _multiple(wanted: Sequence[int], shape: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Return the multiple of the steps that is nearest, or that holds an axis of the case which is wanted whole."""
    return tuple(
        max(1, round(want / step) if have > want else math.ceil(want / step)) * step
        for want, have, step in zip(wanted, shape, steps, strict=True)
    )


def _largest(shape: Sequence[int], spacing_mm: Sequence[float], voxels: int) -> tuple[int, ...]:
    """Return a box of at most `voxels`, equally long in mm along each axis that the shape does not limit."""
    if math.prod(shape) <= voxels:
        return tuple(shape)

    def box(side_mm: float) -> tuple[int, ...]:
        sizes = zip(shape, spacing_mm, strict=True)
        return tuple(max(1, min(have, int(side_mm / size))) for have, size in sizes)

    low, high = 0.0, max(have * size for have, size in zip(shape, spacing_mm, strict=True))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(box(middle)) <= voxels else (low, middle)
    return box(low)


def resolve(
    settings: TrainSettings,
    plan: Plan,
    source: PatchSource,
    *,
    fold: int | str,
    seed: int,
    device: str,
) -> Resolved:
    """Settle every `auto` of a model for one fold.

    Parameters
    ----------
    source
        Where patches come from, with the cases of the fold.
    device
        `cpu` or `cuda`.

    Raises
    ------
    InputError
        Where no case is left to train on, or where the patch does not suit the network.
    """
    model = settings.model
    if not source.training:
        raise InputError(f"fold {fold}: no case to train on; give more cases or fewer folds")
    spacing = patch_spacing(plan.spacing_mm, model.dims, model.planes)
    if model.patch_size == "auto":
        patch = automatic_patch(model, plan, device)
    else:
        patch = tuple(model.patch_size)
        steps = networks.strides(model, patch, spacing)
        fitting = tuple(
            math.ceil(size / step) * step for size, step in zip(patch, steps, strict=True)
        )
        if fitting != patch:
            raise InputError(
                f"patch_size: {times(patch)} voxels; expected multiples of {times(steps)}, "
                f"which this {model.network} shrinks a patch by: {times(fitting)}, for one"
            )
    per_epoch = model.steps_per_epoch
    if per_epoch == "auto":
        shown = len(source.training) * (SLICES_PER_CASE if model.dims == 2 else 1)
        per_epoch = max(math.ceil(shown / model.batch_size), source.least_steps)
    views = (
        [plan.spacing_mm]
        if model.dims == 3
        else [patch_spacing(plan.spacing_mm, 2, [plane]) for plane in model.planes]
    )
    sources = [source.source_size(model, patch, view, plan.anisotropy_threshold) for view in views]
    return Resolved(
        settings=settings,
        plan=plan,
        fold=fold,
        seed=seed,
        patch_size=patch,
        source_size=tuple(max(sizes) for sizes in zip(*sources, strict=True)),
        spacing_mm=spacing,
        steps_per_epoch=per_epoch,
        training=tuple(f"{case.dataset}/{case.case}" for case in source.training),
        validation=tuple(f"{case.dataset}/{case.case}" for case in source.validation),
    )
