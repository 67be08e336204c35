"""A fold that trains on the cases' own files: by nnU-Net, or by a trainer of the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from segstudy.cases import Labelled
from segstudy.errors import InputError
from segstudy.study import NnunetModel, PluginTrainerModel, TrainSettings
from segstudy.train.structures import check_structures


@dataclass(frozen=True)
class Fold:
    """Hold the cases and the settings of one training.

    training, validation: cases of the fold's training side; the trainer is shown no others.
    number: of the fold, from 0, or `all`. seed: of the training.
    """

    settings: TrainSettings
    training: Sequence[Labelled]
    validation: Sequence[Labelled]
    number: int | str
    seed: int

    @property
    def model(self) -> NnunetModel | PluginTrainerModel:
        """Return the settings of the model."""
        return self.settings.model

    @property
    def cases(self) -> list[Labelled]:
        """Return all cases, those to train on first."""
        return [*self.training, *self.validation]

    def check(self) -> None:
        """Raise InputError where no case is left to train on, or where the cases lack a structure."""
        if not self.training:
            raise InputError(
                f"fold {self.number}: no case to train on; give more cases or fewer folds"
            )
        if all(case.case.voxels for case in self.training):
            held = [[name for name, n in case.case.voxels.items() if n] for case in self.training]
            check_structures(held, self.settings.structures, self.number)
