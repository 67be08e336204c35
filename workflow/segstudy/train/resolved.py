"""The settings of one training with every `auto` settled, as values."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from segstudy.images.plan import Plan
from segstudy.study import AnyModel, TrainSettings

STEPS_BETWEEN_VALIDATIONS = 1000
"""Steps after which whole volumes are predicted again: seconds of them for minutes of training on a GPU."""


@dataclass(frozen=True)
class Resolved:
    """Hold the settings of one training, all of them known.

    patch_size, source_size: voxels of a patch, and of the wider patch that is cut for augmentation.
    spacing_mm: voxel size along the axes of a patch, in mm.
    training, validation: cases as `dataset/case`.
    """

    settings: TrainSettings
    plan: Plan
    fold: int | str
    seed: int
    patch_size: tuple[int, ...]
    source_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    steps_per_epoch: int
    training: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def model(self) -> AnyModel:
        """Return the settings of the model."""
        return self.settings.model

    @property
    def steps(self) -> int:
        """Return the number of steps of the whole training."""
        return self.model.epochs * self.steps_per_epoch

    @property
    def validate_every_epochs(self) -> int:
        """Return the epochs between validations.

        `auto`: 5, or where epochs are short those of 1,000 steps; at most a tenth of all, so that a training is validated ten
        times or after each epoch.
        """
        asked, epochs = self.model.validate_every_epochs, self.model.epochs
        if asked != "auto":
            return asked
        seldom = max(5, STEPS_BETWEEN_VALIDATIONS // self.steps_per_epoch)
        return max(1, min(seldom, epochs // 10))

    @property
    def in_channels(self) -> int:
        """Return the number of channels that the network sees."""
        return len(self.plan.channels or self.settings.channels)

    @property
    def classes(self) -> int:
        """Return the number of classes, the background counted."""
        return 1 + len(self.settings.structures)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        used = self.model.plugin_provenance()
        settings = self.settings.model_dump(mode="json")
        # Where a plug-in lies says nothing of what it did.
        settings["model"] = self.model.labelled()
        return {
            **({"plugins": used} if used else {}),
            **{
                key: value for key, value in asdict(self).items() if key not in ("settings", "plan")
            },
            **settings,
            "plan": self.plan.to_dict(),
            "steps": self.steps,
            "validate_every_epochs": self.validate_every_epochs,
        }

    def digest(self, *further: str) -> str:
        """Return the digest of all that shapes the weights, and of `further` texts.

        Device and threads are left out: a training may go on with others, if only to the last bit.
        """
        values = self.to_dict()
        values["model"] = self.model.learning().identified()
        text = json.dumps([values, *further], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
