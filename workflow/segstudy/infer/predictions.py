"""Predictions that are there already, read once: checked, and written with the dataset's values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segstudy import prediction_files
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import write_json, writing_folder
from segstudy.images.files import Image, compare_grids, read_grid, read_label, write_label
from segstudy.images.fitting import fitted
from segstudy.images.grids import Grid
from segstudy.images.named_labels import read_named
from segstudy.infer.translate import translated, warn_of_unmet
from segstudy.log import log, progress
from segstudy.study import PredictionSettings, PredictionsModel
from segstudy.training_splits import LEAK_CHECK, cases_named, read_folds


@dataclass(frozen=True)
class Tested:
    """Hold what a fold tests of a dataset.

    Parameters
    ----------
    fold, seed
        Which predictions they are.
    names
        The cases that are tested.
    cases
        All of the dataset's cases.
    """

    fold: int
    seed: int
    names: Sequence[str]
    cases: Sequence[Case]


def gather_fold(settings: PredictionSettings, tested: Tested, output: Path) -> None:
    """Write `output/<case>.nii.gz` for each tested case that has a prediction, and what was checked of its training.

    Parameters
    ----------
    settings
        The model, and the dataset's values.
    tested
        The cases.
    output
        The folder.

    Raises
    ------
    InputError
        Where no tested case has a file, or a rater no file at all; for a case whose subject the fold was trained on; at the end, for all files that
        cannot be read or hold values without a meaning.
    """
    model = settings.model
    where = f"models.{settings.name}"
    checked = refuse_trained(model, tested, where) if model.training_splits else None
    files = prediction_files.found(model, settings.structures, tested.fold, tested.seed)
    missing = [case for case in tested.names if case not in files]
    if not files if model.rater else len(missing) == len(tested.names):
        sought = prediction_files.pattern(model, tested.fold, tested.seed)
        other = next((path for of_case in files.values() for path in of_case.values()), None)
        raise InputError(
            f"{where}.files: none of the {len(missing)} cases that fold {tested.fold} tests has a file; expected "
            f"{sought.replace('{case}', missing[0])}, found {other or 'no file of that pattern'}. Correct the pattern, or "
            "leave the fold out by splits.run_folds"
        )
    if model.rater:
        log.info(
            "%s drew %d of %d cases",
            settings.name,
            len(tested.names) - len(missing),
            len(tested.names),
        )
    for case in () if model.rater else missing:
        log.warning(
            "case %s: no prediction of %s; it counts as missing, which is the worst value",
            case,
            settings.name,
        )
    errors, present = [], set()
    with writing_folder(output) as folder:
        if checked:
            write_json(folder / LEAK_CHECK, checked)
        labels = {case.case: case.label for case in tested.cases}
        there = [case for case in tested.names if case in files]
        for case in progress(there, "predictions read"):
            try:
                label, values = _on_reference(settings, case, files[case], labels[case])
                present |= values
                write_label(folder / f"{case}.nii.gz", label.array, label.affine)
            except InputError as error:
                errors.append(str(error))
        if errors:
            if len(errors) > 1:
                errors.append(f"{len(errors)} of {len(there)} predictions cannot be used")
            raise InputError("\n".join(errors))
    if not model.has_structure_files and there:
        warn_of_unmet(present, _values(settings), settings.name)


def _values(settings: PredictionSettings) -> Mapping[str, Sequence[int]]:
    """Return the values that structures have in the files."""
    return settings.model.labels or {name: (value,) for name, value in settings.structures.items()}


def _on_reference(
    settings: PredictionSettings, case: str, files: Mapping[str, Path], reference: Path
) -> tuple[Image, set[int]]:
    """Read the prediction of a case in the dataset's values, on the grid of its reference without loss; and the values of the file."""
    shown, grid = next(iter(files.values())), read_grid(reference)
    label, present = _read(settings, case, files, grid)
    if not label.has_spacing:  # a picture of the reference's voxels
        label = replace(label, affine=grid.affine)
    try:
        found = fitted(label, grid)
    except InputError as error:
        raise InputError(
            f"{shown}: case {case}: other grid than its reference {reference} (named first): {error}; predictions are measured "
            "on the native grid: export them there"
        ) from None
    for note in found.notes:
        log.warning("%s: case %s: %s", shown, case, note)
    return found, present


def _read(
    settings: PredictionSettings, case: str, files: Mapping[str, Path], grid: Grid
) -> tuple[Image, set[int]]:
    """Read the prediction of a case, of one file or of a file a structure, in the dataset's values; and the values of the file.

    grid: of the reference, for contours, which have none.
    """
    model, structures = settings.model, settings.structures
    if model.has_structure_files:
        return _merged(settings, case, files, grid), set()
    path = files[""]
    labels = _values(settings)
    background = model.background_labels
    label = read_named(path, labels, background == "all", grid=grid)
    if not model.labels and background != "all":
        background = (*background, *settings.background)
    values, present = translated(
        label.array, labels, background, structures, f"{path}: case {case}: {settings.name} holds"
    )
    return replace(label, array=values), set(present)


def _merged(
    settings: PredictionSettings, case: str, files: Mapping[str, Path], grid: Grid
) -> Image:
    """Merge a file for each structure, whose voxels above 0 are the structure."""
    merged: Image | None = None
    for structure, own in prediction_files.names(settings.model, settings.structures).items():
        for name in own:
            if name not in files:
                beside = next(iter(files.values()))
                raise InputError(
                    f"{beside}: case {case}: no file of {name} ({structure}) beside it; expected one a structure, an empty "
                    "mask where it was not found"
                )
            mask = read_label(files[name], grid)
            values = np.unique(mask.array[mask.array != 0]).tolist()
            if len(values) > 1:
                raise InputError(
                    f"{files[name]}: case {case}: holds the values {', '.join(map(str, values[:10]))}; expected a mask, of 0 "
                    "and one other value. Where one file has all structures, leave {structure} out of files"
                )
            if merged is None:
                merged = replace(mask, array=np.zeros(mask.array.shape, np.uint16))
            difference = compare_grids(merged.grid, mask.grid)
            if difference:
                raise InputError(
                    f"{files[name]}: case {case}: other grid than the masks beside it: {difference}"
                )
            value = settings.structures[structure]
            inside = mask.array > 0
            both = int((inside & (merged.array != 0) & (merged.array != value)).sum())
            if both:
                raise InputError(
                    f"{files[name]}: case {case}: {both} voxels are of another structure too; expected structures that do "
                    "not overlap, since a voxel has one label"
                )
            merged.array[inside] = value
    return merged


# --- leaks --------------------------------------------------------------------------------------


def refuse_trained(model: PredictionsModel, tested: Tested, where: str) -> dict[str, int]:
    """Refuse a tested case whose subject the fold that predicted it was trained on.

    Parameters
    ----------
    model
        The model, with `training_splits`; what its names mean, its pattern of files tells too.
    tested
        The cases.
    where
        The model's key, for the message.

    Returns
    -------
    dict
        What was checked: number of cases `tested`, and of these `named` in the file; of cases that the fold was
        `trained_on`, and of these `known`, which are cases of the table and so have a subject.

    Raises
    ------
    InputError
        With each such case; where the file has no such fold, or is none.
    """
    file = Path(model.training_splits or "")
    folds = read_folds(file, f"{where}.training_splits")
    if tested.fold >= len(folds):
        raise InputError(
            f"{where}.training_splits: {file}: has {len(folds)} folds, and fold {tested.fold} is asked for (counted from 0); "
            "name the file that these predictions were trained by, or correct splits.folds"
        )
    subjects = {case.case: case.subject for case in tested.cases}
    pattern = prediction_files.pattern(model, tested.fold, tested.seed)
    every = {name for fold in folds for key in ("train", "val") for name in fold[key]}
    meant = {name: cases_named(name, pattern) & subjects.keys() for name in every}
    named = {case for cases in meant.values() for case in cases}.intersection(tested.names)
    learned = folds[tested.fold]["train"]
    by_subject = {subjects[case]: case for name in learned for case in meant[name]}
    leaked = [
        f"{file}: fold {tested.fold} was trained on {by_subject[subjects[case]]}"
        + ("" if by_subject[subjects[case]] == case else f" of the same subject {subjects[case]}")
        + f", and {where} predicts case {case} by that fold"
        for case in tested.names
        if subjects[case] in by_subject
    ]
    if leaked:
        raise InputError(
            "\n".join(
                [
                    *leaked,
                    f"{where}: {len(leaked)} of {len(tested.names)} cases are predicted by a fold that knows their subject; "
                    "leave them out, or name the predictions of the fold that does not",
                ]
            )
        )
    checked = {
        "tested": len(tested.names),
        "named": len(named),
        "trained_on": len(learned),
        "known": sum(bool(meant[name]) for name in learned),
    }
    _warn_of_unnamed(file, tested, named, checked)
    return checked


def _warn_of_unnamed(file: Path, tested: Tested, named: set[str], checked: dict[str, int]) -> None:
    """Warn of tested cases that the file does not name, and of cases trained on whose subject nobody knows."""
    unnamed = [case for case in tested.names if case not in named]
    if unnamed:
        log.warning(
            "%s: fold %d: does not name %d of %d tested cases, e.g. %s, so of these no leak can be told; the methods text says so",
            file,
            tested.fold,
            len(unnamed),
            len(tested.names),
            unnamed[0],
        )
    if checked["known"] < checked["trained_on"]:
        log.warning(
            "%s: fold %d: %d of the %d cases that it was trained on are none of the case table's, so of these no leak can be "
            "told by subject; the methods text says so",
            file,
            tested.fold,
            checked["trained_on"] - checked["known"],
            checked["trained_on"],
        )
