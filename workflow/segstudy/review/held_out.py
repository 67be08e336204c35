"""What models of a study say of each case that they have not seen: the votes by which its label is judged."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segstudy.cases import Case, read_cases, read_splits, repaired_labels, training_side
from segstudy.errors import InputError
from segstudy.images.files import Image, compare_grids, read_label

if TYPE_CHECKING:
    from segstudy.cases import Split
    from segstudy.jobs.results import ResultPaths
    from segstudy.study import Study

ONE_FOR_ALL_FOLDS = ("external", "predictions")
"""Trainers of models that predict the same whatever the fold."""


@dataclass(frozen=True)
class Judged:
    """Hold a case with the files that judge its label.

    Parameters
    ----------
    dataset
        Name.
    case
        The case, with the label that the study uses.
    fold
        The fold that tests it; None where each fold does.
    votes
        (model, seed, file) of each prediction by a model that has not seen the case's subject.
    """

    dataset: str
    case: Case
    fold: int | None
    votes: tuple[tuple[str, int, Path], ...]

    @property
    def name(self) -> str:
        """Return `dataset/case`."""
        return f"{self.dataset}/{self.case.case}"


@dataclass(frozen=True)
class HeldOut:
    """The cases of a study that models have predicted without having seen their subjects.

    Parameters
    ----------
    study, paths
        The study, and where its results are.
    called
        The study as the user names it, for messages.
    """

    study: "Study"
    paths: "ResultPaths"
    called: str = ""
    _known: dict = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def splits(self) -> list["Split"]:
        """Return the folds; raise InputError where they are not dealt yet."""
        if not Path(self.paths.splits).is_file():
            raise InputError(
                f"{self.paths.splits}: not there yet; first: segstudy run {shlex.quote(self.called)}"
            )
        return read_splits(self.paths.splits)

    def cases(self, dataset: str) -> dict[str, Case]:
        """Return the cases of a dataset, with the labels that models learn from: repaired, and corrected by hand."""
        if dataset not in self._known:
            folder = self.paths.repaired(dataset) if self.study.datasets[dataset].repair else None
            known = repaired_labels(read_cases(self.paths.cases(dataset)), folder)
            self._known[dataset] = {case.case: case for case in known}
        return self._known[dataset]

    @cached_property
    def voters(self) -> dict[str, Sequence[int]]:
        """Return the models that vote, with their seeds: all but raters and those whose members vote already."""
        return {
            name: model.seeds
            for name, model in self.study.models.items()
            if model.trainer != "ensemble" and name not in self.study.raters
        }

    @cached_property
    def outside(self) -> list[str]:
        """Return the voters that were not trained here, of which nobody here knows what they have seen."""
        return [name for name in self.voters if self._is_outside(name)]

    def _is_outside(self, model: str) -> bool:
        return self.study.models[model].trainer in ONE_FOR_ALL_FOLDS

    def judged(self) -> list[Judged]:
        """List the cases that have a vote.

        Raises
        ------
        InputError
            Where none has: no prediction is there yet, or the study splits subjects on purpose.
        """
        found = []
        seen = {fold: self._subjects(fold) for fold in self.study.folds}
        for split in self.splits:
            if split.dataset not in self.study.tested_datasets:
                continue
            folds = self.study.folds if split.fold is None else [split.fold]
            folds = [fold for fold in folds if fold in seen and split.subject not in seen[fold]]
            case = self.cases(split.dataset).get(split.case)
            votes = tuple(self._votes(split.dataset, split.case, folds))
            if case is not None and votes:
                found.append(Judged(split.dataset, case, split.fold, votes))
        if not found:
            raise InputError(
                f"{self.called}: no case has a prediction by a model that has not seen its subject; first: "
                f"segstudy run {shlex.quote(self.called)} infer. Where the study puts scans of a subject into several folds on "
                "purpose, none ever has"
            )
        return sorted(found, key=lambda one: (one.dataset, one.case.case))

    def _subjects(self, fold: int) -> Collection[str]:
        return {split.subject for split in training_side(self.splits, fold)}

    def _votes(
        self, dataset: str, case: str, folds: Sequence[int]
    ) -> Iterator[tuple[str, int, Path]]:
        for model, seeds in self.voters.items():
            for fold in folds[:1] if self._is_outside(model) else folds:
                for seed in seeds:
                    file = Path(self.paths.predictions(model, fold, seed, dataset))
                    file /= f"{case}.nii.gz"
                    if file.is_file():
                        yield model, seed, file

    def read(self, one: Judged) -> tuple[Image, list[np.ndarray]]:
        """Read a case's label and its votes as class indices of one grid; voxels that nobody has labelled are background in all.

        Raises InputError for a prediction on another grid than the label.
        """
        dataset = self.study.datasets[one.dataset]
        stored = read_label(one.case.label)
        unknown = np.isin(stored.array, list(dataset.ignore)) if dataset.ignore else None
        label = class_indices(stored, dataset.structures)
        votes = []
        for _, _, file in one.votes:
            vote = read_label(file)
            difference = compare_grids(stored.grid, vote.grid)
            if difference:
                raise InputError(
                    f"{file}: other grid than {one.case.label}: {difference}; predict again: segstudy run {shlex.quote(self.called)}"
                )
            votes.append(class_indices(vote, dataset.structures).array)
        if unknown is not None:
            for array in (label.array, *votes):
                array[unknown] = 0
        return label, votes


def class_indices(label: Image, structures: Mapping[str, int]) -> Image:
    """Return a label map as class indices, in the order of the structures; values of no structure are background."""
    indices = np.zeros(max(int(label.array.max(initial=0)), *structures.values()) + 1, np.uint8)
    indices[list(structures.values())] = np.arange(1, len(structures) + 1)
    return Image(indices[label.array], label.affine)
