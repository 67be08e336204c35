"""nnU-Net's own trainer, told how long to train and what to do after an epoch; how it learns is untouched.

Importable only where nnunetv2 is installed, after `networks.nnunet.prepare`.
"""

from collections.abc import Callable

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from segstudy.errors import InputError
from segstudy.files import writing
from segstudy.study import NnunetModel

LOGGED = (
    "lrs",
    "train_losses",
    "val_losses",
    "dice_per_class_or_region",
    "mean_fg_dice",
    "epoch_start_timestamps",
    "epoch_end_timestamps",
)


def following(trainer: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """Return a class that trains as `trainer` does, in the way of `Following`."""
    return type("SegstudyTrainer", (Following, trainer), {})


class Following:
    """Train as the nnU-Net trainer behind it does, with the epochs and steps of a study, and a checkpoint after each epoch."""

    # No __init__ of its own: nnU-Net's keeps its parameters by name, and allows no further ones.
    def follow(
        self,
        model: NnunetModel,
        ended: Callable[[dict[str, list]], None],
        mirror: str = "all",
        not_mirrored: int | None = None,
    ) -> None:
        """Set how long to train, as `model` says, and what is mirrored.

        ended: is given all that was logged, a list a key, after each epoch.
        mirror: `all`, `not_right_left` or `none` of the axes.
        not_mirrored: axis of a patch that runs from right to left, for `mirror: not_right_left`.
        """
        self.mirror, self.not_mirrored = mirror, not_mirrored
        self.num_epochs = model.epochs
        self.num_iterations_per_epoch = model.steps_per_epoch
        self.num_val_iterations_per_epoch = model.validation_steps_per_epoch
        self.save_every = 1
        self.ended = ended

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # its name is nnU-Net's
        """Leave axes out of the mirroring, as the study asks for."""
        *others, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.mirror != "all":
            kept = () if self.mirror == "none" else set(axes) - {self.not_mirrored}
            axes = tuple(sorted(kept)) or None
            self.inference_allowed_mirroring_axes = axes
        return *others, axes

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Refuse a loss that is not finite."""
        # Under mixed precision a step that is not finite is skipped; an epoch of them is no training.
        if not np.isfinite([output["loss"] for output in train_outputs]).any():
            raise InputError(
                f"epoch {self.current_epoch + 1}: the loss was not finite in any step; look at the "
                "images of the fold's training cases"
            )
        super().on_train_epoch_end(train_outputs)

    def on_epoch_end(self) -> None:
        """Write the history and a checkpoint after each epoch."""
        super().on_epoch_end()
        self.ended({key: self.logger.get_value(key, step=None) for key in LOGGED})

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint whole or not at all: a job may be killed while it writes."""
        with writing(filename) as temporary:
            super().save_checkpoint(str(temporary))
