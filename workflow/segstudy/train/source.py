"""The source of a training's patches, as training asks for it.

`from_images` learns from prepared images, `from_label_maps` from label maps alone. Who trains is
given one of them and knows neither, so an edit to one retrains no model of the other.

Each module has a class `Patches`, which is the source; `open_cases`, which opens the prepared cases
in folders by (dataset, case); and `OPTION`, the option of the command line that names the folders.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from segstudy.study import AnyModel

if TYPE_CHECKING:
    import torch

    from segstudy.images.arrays import CaseArrays, TissueMap
    from segstudy.train.distributed import Rank
    from segstudy.train.draw import Draw
    from segstudy.train.resolved import Resolved
    from segstudy.train.sampling import Batch, Sampler, TrainingCase


class PatchSource(Protocol):
    """Give a training its cases, and turn the patches that are cut from them into what a step sees.

    training, validation: the prepared cases.
    least_steps: least steps of an `auto` epoch.
    files: names of the files that `write_samples` leaves.
    """

    training: "Sequence[CaseArrays] | Sequence[TissueMap]"
    validation: "Sequence[CaseArrays] | Sequence[TissueMap]"
    least_steps: int
    files: tuple[str, ...]

    def digest(self) -> str:
        """Return the digest of the content of all cases."""

    def source_size(
        self,
        model: AnyModel,
        patch_size: Sequence[int],
        spacing_mm: Sequence[float],
        anisotropy_threshold: float,
    ) -> tuple[int, ...]:
        """Return the voxels to cut for a patch, so that deformation finds what moves into the patch."""

    def load(
        self, resolved: "Resolved", memory_mb: int, rank: "Rank"
    ) -> "tuple[list[TrainingCase], list[TrainingCase]]":
        """Load the cases to cut patches from, and the cases that validation predicts.

        memory_mb: memory of the training, all its processes, in MB. rank: which of them this is.
        """

    def reach(self, resolved: "Resolved", part: tuple[int, int]) -> Callable | None:
        """Return what tells the box of each source that a step's patches need (`Sampler.reach`); None: all of it.

        part: (number, parts), the equal part of each batch that this process cuts.
        """

    def patches(
        self, batch: "Batch", resolved: "Resolved", device: "torch.device", draw: "Draw"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return images (batch, channel, *patch) and labels (batch, *patch) of a step, on the device."""

    def write_samples(self, sampler: "Sampler", resolved: "Resolved", folder: Path) -> None:
        """Write examples of the patches, named `files`, into a folder."""
