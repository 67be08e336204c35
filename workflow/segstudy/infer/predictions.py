"""Predictions that are there already, read once: checked, and written with the dataset's values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segstudy import prediction_files
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import read_json, writing_folder
from segstudy.images.files import Image, compare_grids, read_label, write_label
from segstudy.images.names import safe_name
from segstudy.infer.translate import translated
from segstudy.log import log, progress
from segstudy.study import PredictionSettings


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
    """Write `output/<case>.nii.gz` for each tested case that has a prediction.

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
        Where no tested case has a file; for a case whose subject the fold was trained on; at the end, for all files that
        cannot be read or hold values without a meaning.
    """
    model = settings.model
    where = f"models.{settings.name}"
    if model.training_splits:
        refuse_trained(Path(model.training_splits), tested, where)
    files = prediction_files.found(model, settings.structures, tested.fold, tested.seed)
    missing = [case for case in tested.names if case not in files]
    if len(missing) == len(tested.names):
        sought = prediction_files.pattern(model, tested.fold, tested.seed)
        other = next((path for of_case in files.values() for path in of_case.values()), None)
        raise InputError(
            f"{where}.files: none of the {len(missing)} cases that fold {tested.fold} tests has a file; expected "
            f"{sought.replace('{case}', missing[0])}, found {other or 'no file of that pattern'}. Correct the pattern, or "
            "leave the fold out by splits.run_folds"
        )
    for case in missing:
        log.warning(
            "case %s: no prediction of %s; it counts as missing, which is the worst value",
            case,
            settings.name,
        )
    errors = []
    with writing_folder(output) as folder:
        there = [case for case in tested.names if case in files]
        for case in progress(there, "predictions read"):
            try:
                label = _read(settings, case, files[case])
                write_label(folder / f"{case}.nii.gz", label.array, label.affine)
            except InputError as error:
                errors.append(str(error))
        if errors:
            if len(errors) > 1:
                errors.append(f"{len(errors)} of {len(there)} predictions cannot be used")
            raise InputError("\n".join(errors))


def _read(settings: PredictionSettings, case: str, files: Mapping[str, Path]) -> Image:
    """Read the prediction of a case, of one file or of a file a structure, in the dataset's values."""
    model, structures = settings.model, settings.structures
    if model.has_structure_files:
        return _merged(settings, case, files)
    path = files[""]
    label = read_label(path)
    labels = model.labels or {name: (value,) for name, value in structures.items()}
    background = model.background_labels
    if not model.labels and background != "all":
        background = (*background, *settings.background)
    values = translated(
        label.array, labels, background, structures, f"{path}: case {case}: {settings.name} holds"
    )
    return Image(values, label.affine)


def _merged(settings: PredictionSettings, case: str, files: Mapping[str, Path]) -> Image:
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
            mask = read_label(files[name])
            values = np.unique(mask.array[mask.array != 0]).tolist()
            if len(values) > 1:
                raise InputError(
                    f"{files[name]}: case {case}: holds the values {', '.join(map(str, values[:10]))}; expected a mask, of 0 "
                    "and one other value. Where one file has all structures, leave {structure} out of files"
                )
            if merged is None:
                merged = Image(np.zeros(mask.array.shape, np.uint16), mask.affine)
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


def refuse_trained(file: Path, tested: Tested, where: str) -> None:
    """Refuse a tested case whose subject the fold that predicted it was trained on.

    Parameters
    ----------
    file
        nnU-Net's `splits_final.json`.
    tested
        The cases.
    where
        The model's key, for the message.

    Raises
    ------
    InputError
        With each such case; where the file has no such fold, or is none.
    """
    learned = training_cases(file, tested.fold, f"{where}.training_splits")
    subjects = {case.case: case.subject for case in tested.cases}
    if not subjects.keys() & set(learned):
        log.warning(
            "%s: fold %d: none of the cases that it was trained on is in the case table, so no leak can be told by subject",
            file,
            tested.fold,
        )
    by_subject = {subjects[name]: name for name in learned if name in subjects}
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


def training_cases(file: Path, fold: int, where: str) -> list[str]:
    """Return the cases that a fold was trained on, as results call them. Raises InputError as `refuse_trained` does."""
    content = read_json(file)
    if not (isinstance(content, list) and all(map(_is_fold, content))):
        raise InputError(
            f"{where}: {file}: expected a list of {{train: [case, ...], val: [case, ...]}}, a fold each, as nnU-Net's "
            "splits_final.json"
        )
    if fold >= len(content):
        raise InputError(
            f"{where}: {file}: has {len(content)} folds, and fold {fold} is asked for (counted from 0); name the file that "
            "these predictions were trained by, or correct splits.folds"
        )
    return list(map(safe_name, content[fold]["train"]))


def _is_fold(one: object) -> bool:
    return isinstance(one, dict) and all(_are_names(one.get(key)) for key in ("train", "val"))


def _are_names(value: object) -> bool:
    return isinstance(value, Iterable) and all(isinstance(name, str) for name in value)
