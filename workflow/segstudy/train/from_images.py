"""Patches of prepared images and their labels, augmented at random."""

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from segstudy.images.arrays import CaseArrays, open_arrays
from segstudy.images.normalise import normalise
from segstudy.images.plan import Plan
from segstudy.log import log
from segstudy.sides import class_pairs
from segstudy.study import AnyModel
from segstudy.train.augment import augment, place
from segstudy.train.distributed import ALONE, Rank
from segstudy.train.draw import Draw, draw_of_step
from segstudy.train.resolved import Resolved
from segstudy.train.sampling import Batch, Sampler, TrainingCase
from segstudy.train.spatial import PatchGeometry, source_size

OPTION = "--arrays"
"""Option of the command line that names the folders of the cases."""

MEMORY_SHARE = 0.5
"""Share of a job's memory that a cohort may take; beyond, patches are read from disk."""

open_cases = open_arrays


class Patches:
    """Draw the patches of a training from prepared images; a `PatchSource`."""

    least_steps = 1
    files = ()

    def __init__(self, training: Sequence[CaseArrays], validation: Sequence[CaseArrays]) -> None:
        self.training = training
        self.validation = validation
        self.changes = None

    def digest(self) -> str:
        """Return the digest of the checksums of all images and labels."""
        described = [
            [case.dataset, case.case, *case.spacing_mm]
            + [case.image.checksum, case.label.checksum, case.moments]
            for case in (*self.training, *self.validation)
        ]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def source_size(
        self,
        model: AnyModel,
        patch_size: Sequence[int],
        spacing_mm: Sequence[float],
        anisotropy_threshold: float,
    ) -> tuple[int, ...]:
        """Return the voxels that augmentation needs of an image for a patch."""
        return source_size(patch_size, model.augmentation, spacing_mm, anisotropy_threshold)

    def load(
        self, resolved: Resolved, memory_mb: int, rank: Rank = ALONE
    ) -> tuple[list[TrainingCase], list[TrainingCase]]:
        """Load all cases, normalised and held in memory, once for all ranks, if half of `memory_mb` holds them.

        Otherwise they stay on disk, and each patch is read, decompressed and normalised when it is cut.
        """
        cases = [*self.training, *self.validation]
        megabytes = sum((4 * len(case.image) + 1) * math.prod(case.shape) for case in cases) / 1e6
        held = megabytes <= MEMORY_SHARE * memory_mb
        log.info(
            "%d cases, %.0f MB: %s",
            len(cases),
            megabytes,
            "held in memory" if held else f"read patch by patch (memory_mb is {memory_mb})",
        )
        loaded = rank.shared(partial(_load_case, plan=resolved.plan, held=held), cases)
        return loaded[: len(self.training)], loaded[len(self.training) :]

    def reach(self, resolved: Resolved, part: tuple[int, int]) -> Callable:
        """Return what tells the box of each source that a step's patches are taken from."""
        return partial(_reach, resolved, part)

    def patches(
        self, batch: Batch, resolved: Resolved, device: torch.device, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Return the augmented images (batch, channel, *patch) and labels (batch, *patch) of a step."""
        settings = resolved.settings
        images, labels = augment(
            batch.images.to(device, non_blocking=True),
            batch.labels.to(device, non_blocking=True),
            settings.model.augmentation,
            PatchGeometry(
                resolved.patch_size,
                batch.spacing_mm,
                batch.axes,
                resolved.plan.anisotropy_threshold,
            ),
            draw,
            class_pairs(settings.structures, settings.left_right_pairs),
        )
        references = settings.model.augmentation.plugins
        if not references:
            return images, labels
        if self.changes is None:
            # By name, so that an edit to it is no change of studies without such changes.
            own = importlib.import_module("segstudy.train.plugin_augment")
            self.changes = own.Changes(references, resolved.classes)
        return self.changes(images, labels, draw.seeds())

    def write_samples(self, sampler: Sampler, resolved: Resolved, folder: Path) -> None:
        """Write nothing: the images are there to be seen."""


def _reach(
    resolved: Resolved, part: tuple[int, int], step: int, spacing_mm: Tensor, axes: Tensor
) -> list[tuple[slice, ...]]:
    """Draw where a step's patches are moved to, as `augment` will, and return the boxes that they come from."""
    draw = draw_of_step(resolved.seed, step, len(spacing_mm), part)
    threshold = resolved.plan.anisotropy_threshold
    geometry = PatchGeometry(resolved.patch_size, spacing_mm, axes, threshold)
    placement = place(resolved.settings.model.augmentation, geometry, draw)
    return placement.reach(resolved.source_size, resolved.patch_size)


def _load_case(case: CaseArrays, plan: Plan, held: bool) -> TrainingCase:
    change = partial(normalise, plan=plan, image_moments=case.moments)
    return TrainingCase(
        dataset=case.dataset,
        case=case.case,
        image=change(case.image[...]) if held else case.image,
        label=case.label[...] if held else case.label,
        foreground=case.foreground,
        spacing_mm=case.spacing_mm,
        normalise=None if held else change,
        labelled=case.labelled,
    )
