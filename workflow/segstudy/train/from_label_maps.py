"""Patches synthesised from label maps alone, for `trainer: synth`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segstudy.files import writing
from segstudy.images.arrays import (
    TissueMap,
    open_tissues,
    sample_foreground,
    sample_labelled,
)
from segstudy.images.prepare import IGNORED
from segstudy.sides import class_pairs
from segstudy.study import AnyModel
from segstudy.train import synth
from segstudy.train.distributed import ALONE, Rank
from segstudy.train.draw import Draw
from segstudy.train.resolved import Resolved
from segstudy.train.sampling import Batch, Sampler, TrainingCase
from segstudy.train.seeds import generator_of
from segstudy.train.spatial import PatchGeometry, middle

OPTION = "--tissues"
"""Option of the command line that names the folders of the label maps."""

SAMPLES = 5
"""Images that a training leaves behind as pictures."""

open_cases = open_tissues


class Patches:
    """Draw the patches of a training from label maps; a `PatchSource`."""

    least_steps = 250
    """As many as nnU-Net's: no map gives the same image twice."""
    files = ("samples.npz",)

    def __init__(self, training: Sequence[TissueMap], validation: Sequence[TissueMap]) -> None:
        self.training = training
        self.validation = validation

    def digest(self) -> str:
        """Return the digest of the checksums of all label maps."""
        described = [
            [case.dataset, case.case, *case.spacing_mm]
            + [case.parts.checksum, case.structures, case.tissues]
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
        """Return the voxels that the deformation needs of a label map for a patch."""
        return synth.source_size(patch_size, model.synthesis, spacing_mm, anisotropy_threshold)

    def load(
        self, resolved: Resolved, memory_mb: int, rank: Rank = ALONE
    ) -> tuple[list[TrainingCase], list[TrainingCase]]:
        """Load all label maps into memory, those of validation with an image each."""
        validation = []
        for tissue_map in self.validation:
            case = load_case(tissue_map)
            generator = generator_of(resolved.seed, f"validation {case.name}")
            validation.append(synthesised(case, resolved, generator))
        return [load_case(tissue_map) for tissue_map in self.training], validation

    def reach(self, resolved: Resolved, part: tuple[int, int]) -> None:
        """Return None: all of each source is read, since every patch is moved."""

    def patches(
        self, batch: Batch, resolved: Resolved, device: torch.device, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Return the synthesised images (batch, channel, *patch) and labels (batch, *patch) of a step."""
        settings = resolved.settings
        return synth.synthesise(
            batch.images[:, 0].byte().to(device, non_blocking=True),
            batch.labels.to(device, non_blocking=True),
            settings.model.synthesis,
            resolved.in_channels,
            PatchGeometry(
                resolved.patch_size,
                batch.spacing_mm,
                batch.axes,
                resolved.plan.anisotropy_threshold,
            ),
            class_pairs(settings.structures, settings.left_right_pairs),
            draw,
        )

    def write_samples(self, sampler: Sampler, resolved: Resolved, folder: Path) -> None:
        """Write `samples.npz`: one slice of a label map, and of images synthesised from it.

        `map` (x, y); `images` float32 and `labels` uint8 (5, x, y), patches as a step sees them,
        axial slices of 3D ones, with ignored voxels as background; `pixel_mm` and `axes` (2,), the
        size of a pixel and the RAS axis along x and y.
        """
        first = sampler.batch(0)
        alike = Batch(
            first.images[:1].repeat_interleave(SAMPLES, 0),
            first.labels[:1].repeat_interleave(SAMPLES, 0),
            first.spacing_mm[:1].repeat_interleave(SAMPLES, 0),
            first.axes[:1].repeat_interleave(SAMPLES, 0),
            first.cases[:1] * SAMPLES,
        )
        draw = Draw(generator_of(resolved.seed, "samples"), SAMPLES)
        images, labels = self.patches(alike, resolved, torch.device("cpu"), draw)
        plain = first.labels[0][middle(first.labels.shape[1:], resolved.patch_size)]
        labels, plain = labels * (labels != IGNORED), plain * (plain != IGNORED)
        if plain.ndim == 3:
            # The slice that shows most structures, and of these most.
            shown = [(len(part.unique()), int((part > 0).sum())) for part in plain.unbind(2)]
            at = max(range(len(shown)), key=shown.__getitem__)
            images, labels, plain = images[..., at], labels[..., at], plain[..., at]
        with writing(folder / "samples.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                map=plain.numpy(),
                images=images[:, 0].numpy(),
                labels=labels.numpy(),
                pixel_mm=first.spacing_mm[0][:2].numpy(),
                axes=first.axes[0][:2].numpy(),
            )


def load_case(tissue_map: TissueMap) -> TrainingCase:
    """Load a label map into memory, its tissues in the place of an image."""
    tissues, classes = tissue_map.read()
    return TrainingCase(
        dataset=tissue_map.dataset,
        case=tissue_map.case,
        image=tissues[None],
        label=classes,
        foreground=sample_foreground(classes, tissue_map.dataset, tissue_map.case),
        spacing_mm=tissue_map.spacing_mm,
        labelled=sample_labelled(classes, tissue_map.dataset, tissue_map.case),
    )


@torch.no_grad()
def synthesised(case: TrainingCase, resolved: Resolved, generator: torch.Generator) -> TrainingCase:
    """Return the case with one image of its whole undeformed map, which validation predicts."""
    settings = resolved.model.synthesis.model_copy(update={"shift_sd": 0.0, "gain": (1.0, 1.0)})
    tissues = torch.from_numpy(case.image)
    spacing = torch.tensor([case.spacing_mm])
    image = synth.synthesise_images(
        tissues, settings, resolved.in_channels, spacing, Draw(generator, 1)
    )
    return replace(case, image=image[0].numpy())
