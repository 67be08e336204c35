"""What a training will do, with every `auto` settled."""

import hashlib
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segstudy import networks
from segstudy.errors import InputError
from segstudy.images.names import times
from segstudy.images.plan import Plan
from segstudy.networks import NORMAL_AXIS, patch_spacing
from segstudy.study import AnyModel, TrainSettings

PATCH_VOXELS = {"cpu": {2: 192**2, 3: 2**17}, "cuda": {2: 512**2, 3: 2**21}}
"""Voxels of an `auto` patch, by device and dimensions: what a step of seconds, or a GPU, can hold."""

SLICES_PER_CASE = 8
"""Slices of each case that an `auto` epoch of a 2D network shows."""

SYNTH_STEPS = 250
"""Least steps of an `auto` epoch with `trainer: synth`, as many as nnU-Net's: no map gives the same image twice."""


@dataclass(frozen=True)
class Resolved:
    """Settings of one training, all of them known.

    patch_size, source_size: voxels of a patch, and of what is cut so that it can be turned.
    spacing_mm: voxel size along the axes of a patch, in mm.
    training, validation: cases as `dataset/case`.
    """

    settings: TrainSettings
    plan: Plan
    fold: int
    seed: int
    patch_size: tuple[int, ...]
    source_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    steps_per_epoch: int
    training: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def model(self) -> AnyModel:
        return self.settings.model

    @property
    def steps(self) -> int:
        return self.model.epochs * self.steps_per_epoch

    @property
    def in_channels(self) -> int:
        return len(self.plan.channels or self.settings.channels)

    @property
    def classes(self) -> int:
        """The background counted."""
        return 1 + len(self.settings.structures)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **{
                key: value for key, value in asdict(self).items() if key not in ("settings", "plan")
            },
            **self.settings.model_dump(mode="json"),
            "plan": self.plan.to_dict(),
            "steps": self.steps,
        }

    def digest(self, *further: str) -> str:
        """Digest of all that shapes the weights, and of `further` texts.

        Device and threads are left out: a training may go on with others, if only to the last bit.
        """
        values = self.to_dict()
        values["model"] = self.model.learning().model_dump(mode="json")
        text = json.dumps([values, *further], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def automatic_patch(model: AnyModel, plan: Plan, device: str) -> tuple[int, ...]:
    """The patch for `patch_size: auto`, in voxels of the plan's grid.

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
    """A box of the budget, or the least above it that the network's levels fit, and its strides."""
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
    """The multiple of the steps that is nearest, or that holds an axis of the case which is wanted whole."""
    return tuple(
        max(1, round(want / step) if have > want else math.ceil(want / step)) * step
        for want, have, step in zip(wanted, shape, steps, strict=True)
    )


def _source_size(
    model: AnyModel, patch: Sequence[int], spacing_mm: Sequence[float], plan: Plan
) -> tuple[int, ...]:
    # Here for these modules' sake: they import torch, which a dry look at settings need not.
    if model.trainer == "synth":
        # By name, so that an edit to it is no change of the other models' code.
        synth = importlib.import_module("segstudy.train.synth")
        return synth.source_size(patch, model.synthesis, spacing_mm, plan.anisotropy_threshold)
    from segstudy.train.augment import source_size

    return source_size(patch, model.augmentation, spacing_mm, plan.anisotropy_threshold)


def _largest(shape: Sequence[int], spacing_mm: Sequence[float], voxels: int) -> tuple[int, ...]:
    """A box of at most `voxels`, equally long in mm along each axis that the shape does not limit."""
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
    *,
    fold: int,
    seed: int,
    training: Sequence[str],
    validation: Sequence[str],
    device: str,
) -> Resolved:
    """Settle every `auto` of a model for one fold.

    device: `cpu` or `cuda`. Raises InputError where no case is left to train on, or where the
    patch does not suit the network.
    """
    model = settings.model
    if not training:
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
        shown = len(training) * (SLICES_PER_CASE if model.dims == 2 else 1)
        per_epoch = math.ceil(shown / model.batch_size)
        if model.trainer == "synth":
            per_epoch = max(per_epoch, SYNTH_STEPS)
    views = (
        [plan.spacing_mm]
        if model.dims == 3
        else [patch_spacing(plan.spacing_mm, 2, [plane]) for plane in model.planes]
    )
    sources = [_source_size(model, patch, view, plan) for view in views]
    return Resolved(
        settings=settings,
        plan=plan,
        fold=fold,
        seed=seed,
        patch_size=patch,
        source_size=tuple(max(sizes) for sizes in zip(*sources, strict=True)),
        spacing_mm=spacing,
        steps_per_epoch=per_epoch,
        training=tuple(training),
        validation=tuple(validation),
    )
