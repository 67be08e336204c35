"""What a finished nnU-Net tree (version 2) holds: trained models, folds, ensembles and post-processed variants."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.files import read_mapping
from segstudy.predicted_study import PredictedStudy, Row, distinct_names, key_of, labels_of
from segstudy.training_splits import read_folds
from segstudy.words import count

MR = re.compile(r"mr|t1|t2|flair|dwi|adc|pd", re.IGNORECASE)
"""Names of channels that are MR."""


@dataclass(frozen=True)
class TrainedModel:
    """Hold a folder `TRAINER__PLANS__CONFIGURATION`, or an ensemble's.

    Parameters
    ----------
    folder
        The folder.
    parts
        Trainer, plans and configuration; of an ensemble its name.
    ending
        Of its files.
    """

    folder: Path
    parts: tuple[str, ...]
    ending: str

    @cached_property
    def folds(self) -> list[int]:
        """Return the folds whose validation cases are predicted."""
        return self.own_folds or self.gathered_folds

    @cached_property
    def own_folds(self) -> list[int]:
        """Return the folds that have a folder of their predictions."""
        found = [path.parent.name[5:] for path in self.folder.glob("fold_*/validation")]
        return sorted(int(fold) for fold in found if fold.isdecimal() and self.cases(int(fold)))

    @cached_property
    def gathered_folds(self) -> list[int]:
        """Return the folds whose predictions lie together, by their folder's name."""
        gathered = _crossval(self)
        return _folds_named(gathered[-1]) if gathered else []

    def cases(self, fold: int) -> list[str]:
        """Return the cases that a fold has predicted."""
        return _cases(self.folder / f"fold_{fold}" / "validation", self.ending)


def read_tree(folders: Sequence[Path], raw: Path | None = None) -> PredictedStudy:
    """Look through finished trees of one dataset.

    Parameters
    ----------
    folders
        `nnUNet_results`, its `DatasetNNN_NAME`, or single `TRAINER__PLANS__CONFIGURATION`; a preprocessed folder is looked
        through for `splits_final.json`.
    raw
        `nnUNet_raw`, or its `DatasetNNN_NAME`, with images and labels; left out: labels alone, where nnU-Net had them.

    Raises
    ------
    InputError
        Where there is no model, models are of several datasets or share no fold, or files are missing.
    """
    found = _trained(folders)
    dataset = _dataset(found, folders)
    home = found[0].folder
    described = _described(home)
    labels = labels_of(described, home / "dataset.json")
    ending = found[0].ending
    notes: list[str] = []
    splits = _splits_file(found, folders, dataset)
    folds = _common_folds(found, notes)
    validated = _validated(found, splits, notes)
    number = max(validated, default=-1) + 1
    if validated and max(folds, default=0) >= number:
        raise InputError(
            f"{splits}: has {count(number, 'fold')}, and fold {folds[-1]} was predicted (counted from 0); name the folder of "
            "the splits that these were trained by"
        )
    if validated:
        tested, folds = _tested(validated, folds or sorted(validated), notes)
    else:  # nothing tells which fold predicted which case
        gathered = {name for model in found for name in _cases(_crossval(model)[-1], ending)}
        tested, folds = dict.fromkeys(sorted(gathered), 0), []
    if number == 1:
        tested = {name: fold for name, fold in tested.items() if fold in folds}
    source = _raw_folder(raw, dataset)
    rows = _rows(
        tested, source or _labels_folder(found, dataset), source is not None, described, ending
    )
    models = _models(found, folds, splits, number > 1, notes)
    channels = list(map(key_of, _channels(described, home / "dataset.json")))
    if len(set(channels)) < len(channels):
        channels = [f"channel_{place}" for place in range(len(channels))]
    if source is None:
        notes.append("no images: the report shows labels on black; --raw DIR names nnUNet_raw")
    return PredictedStudy(
        dataset=key_of(re.sub(r"^Dataset\d+_", "", dataset)),
        labels=labels,
        rows=rows,
        models=models,
        modality=_modality(described),
        channels=tuple(channels) if len(channels) > 1 else ("image",),
        folds=number if number > 1 else 0,
        run_folds=tuple(folds),
        notes=tuple(notes),
    )


# --- models -------------------------------------------------------------------------------------


def _trained(folders: Sequence[Path]) -> list[TrainedModel]:
    """Find the folders of trained models, each once."""
    found: dict[Path, TrainedModel] = {}
    for top in folders:
        if not top.is_dir():
            raise InputError(f"{top}: no such folder")
        for folder in (top.resolve(), *_below(top.resolve())):
            parts = tuple(folder.name.split("__"))
            if len(parts) == 3 and all(parts) and (folder / "dataset.json").is_file():
                ending = _described(folder).get("file_ending", ".nii.gz")
                found[folder] = TrainedModel(folder, parts, ending)
    models = [model for model in found.values() if model.folds or _crossval(model)]
    if not models:
        looked = ", ".join(map(str, folders))
        raise InputError(
            f"{looked}: no predictions of nnU-Net's validation; expected TRAINER__PLANS__CONFIGURATION/fold_0/validation with "
            "label maps in it, as nnUNetv2_train leaves them"
        )
    return models


def _below(top: Path) -> Iterator[Path]:
    for pattern in ("*", "*/*"):
        yield from sorted(path for path in top.glob(pattern) if path.is_dir())


def _dataset(models: Sequence[TrainedModel], folders: Sequence[Path]) -> str:
    names = dict.fromkeys(model.folder.parent.name for model in models)
    if len(names) > 1:
        raise InputError(
            f"{', '.join(map(str, folders))}: models of {len(names)} datasets ({', '.join(names)}); name the folder of one"
        )
    return next(iter(names))


def _described(folder: Path) -> dict[str, Any]:
    file = folder / "dataset.json"
    content = read_mapping(file)
    ending = content.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise InputError(
            f"{file}: file_ending: found {ending!r}; expected an ending such as .nii.gz"
        )
    _channels(content, file)
    return content


def _channels(described: Mapping[str, Any], file: Path) -> list[str]:
    """Return the names of the channels. Raises InputError where they are none."""
    given = described.get("channel_names", {"0": "image"})
    if not isinstance(given, dict) or not given:
        raise InputError(
            f'{file}: channel_names: found {given!r}; expected numbers and names, such as {{"0": "CT"}}'
        )
    return list(map(str, given.values()))


def _crossval(model: TrainedModel) -> list[Path]:
    """Return the folders with all folds' predictions together, `crossval_results_folds_0_1_...`, the fullest last."""
    found = model.folder.glob("crossval_results_fold*_*")
    return sorted(
        (path for path in found if _cases(path, model.ending)), key=lambda path: len(path.name)
    )


def _folds_named(folder: Path) -> list[int]:
    """Return the folds that a folder's name ends with: `crossval_results_folds_0_1`, `ensemble___A___B___0_1`."""
    last = re.search(r"\d+(_\d+)*$", folder.name.rpartition("___")[2])
    return sorted(map(int, last[0].split("_"))) if last else []


def _ensembles(models: Sequence[TrainedModel]) -> list[TrainedModel]:
    """Find the ensembles, of the same members the one of most folds."""
    folders = dict.fromkeys(model.folder.parent / "ensembles" for model in models)
    found = [
        TrainedModel(path, ("ensemble", *_members(path)), models[0].ending)
        for folder in folders
        for path in sorted(folder.glob("ensemble___*"))
        if _cases(path, models[0].ending)
    ]
    fullest: dict[tuple[Path, tuple[str, ...]], TrainedModel] = {}
    for one in sorted(found, key=lambda one: len(_folds_named(one.folder))):
        fullest[one.folder.parent, one.parts] = one
    return sorted(fullest.values(), key=lambda one: one.folder)


def _members(path: Path) -> list[str]:
    """Return the trained models of an ensemble, whose names are between three underscores each."""
    return path.name.split("___")[1:-1]


def _cases(folder: Path, ending: str) -> list[str]:
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


def _common_folds(models: Sequence[TrainedModel], notes: list[str]) -> list[int]:
    """Return the folds that all models have predicted; a note tells of those that only some have."""
    of_folds = [model for model in models if model.folds]
    if not of_folds:
        return []
    every = set.union(*(set(model.folds) for model in of_folds))
    common = set.intersection(*(set(model.folds) for model in of_folds))
    if not common:
        raise InputError(
            "; ".join(f"{model.folder}: folds {model.folds}" for model in of_folds)
            + ": no fold in common, so that nothing can be compared; name models that share one"
        )
    if common != every:
        lacking = {
            "__".join(model.parts): sorted(every - set(model.folds))
            for model in of_folds
            if set(model.folds) != every
        }
        told = "; ".join(f"{name} lacks {folds}" for name, folds in lacking.items())
        notes.append(f"compared in folds {sorted(common)} alone: {told}")
    return sorted(common)


def _models(
    trained: Sequence[TrainedModel],
    folds: Sequence[int],
    splits: Path | None,
    crossed: bool,
    notes: list[str],
) -> dict[str, dict[str, Any]]:
    """Return the keys of each model: trained ones, ensembles, and what was post-processed."""
    models: dict[str, dict[str, Any]] = {}
    names = _names(trained)
    by_identifier = {
        (model.folder.parent, "__".join(model.parts)): names[model.folder] for model in trained
    }
    told = {"training_splits": splits} if splits else {}
    merged: list[tuple[str, Path]] = []
    for model in trained:
        name, fold = names[model.folder], "{fold}" if crossed else str((folds or [0])[0])
        gathered = _crossval(model)
        where = model.folder / f"fold_{fold}" / "validation" if model.own_folds else gathered[-1]
        models[name] = {"files": where / f"{{case}}{model.ending}", **told}
        if (model.folder / "fold_all").is_dir():
            notes.append(f"{name}: fold_all is left out, since it was trained on all cases")
        merged += [(name, gathered[-1])] if gathered else []
    ensembles = {}
    for ensemble in _ensembles(trained):
        tree = ensemble.folder.parent.parent
        members = [
            by_identifier.get((tree, member), key_of(member)) for member in ensemble.parts[1:]
        ]
        ensembles[ensemble.folder] = key_of("_".join(["ensemble", *members]))
    for folder, name in distinct_names(ensembles).items():
        if _lacks_folds(name, folder, folds, notes):
            continue
        models[name] = {"files": folder / f"{{case}}{trained[0].ending}", **told}
        merged.append((name, folder))
    for name, folder in merged:
        chosen = folder / "postprocessing.json"
        if not _cases(folder / "postprocessed", trained[0].ending):
            continue
        if chosen.is_file() and not read_mapping(chosen).get("postprocessing_fns"):
            notes.append(f"{name}: nnU-Net chose no post-processing, so there is no variant of it")
            continue
        if _lacks_folds(f"{name}_postprocessed", folder, folds, notes):
            continue
        models[f"{name}_postprocessed"] = {
            "files": folder / "postprocessed" / f"{{case}}{trained[0].ending}",
            "chosen_on_tested": True,
            **told,
        }
    return models


def _names(models: Sequence[TrainedModel]) -> dict[Path, str]:
    """Name models by what tells them apart: `nnunet_3d_fullres`, and trainer and plans where these differ."""
    differ = [len({model.parts[place] for model in models}) > 1 for place in range(2)]
    return distinct_names(
        {
            model.folder: key_of(
                "_".join(
                    [
                        *(part for part, told in zip(model.parts[:2], differ, strict=True) if told),
                        *([] if any(differ) else ["nnunet"]),
                        model.parts[2],
                    ]
                )
            )
            for model in models
        }
    )


def _lacks_folds(name: str, folder: Path, folds: Sequence[int], notes: list[str]) -> bool:
    """Tell whether a folder's name says that it lacks compared folds, whose cases would count as missing, with a note."""
    lacking = sorted(set(folds) - set(_folds_named(folder)))
    if lacking:
        notes.append(
            f"{name}: {folder.name} lacks folds {lacking} of those compared, so it is left out; "
            "nnUNetv2_find_best_configuration with all folds makes it anew"
        )
    return bool(lacking)


# --- cases --------------------------------------------------------------------------------------


def _splits_file(
    models: Sequence[TrainedModel], folders: Sequence[Path], dataset: str
) -> Path | None:
    """Find `splits_final.json`: in the folders named, in `nnUNet_preprocessed`, or where training noted that it was."""
    preprocessed = os.environ.get("nnUNet_preprocessed", "")  # noqa: SIM112 - nnU-Net's own
    root = models[0].folder.parent.parent
    places = [
        *folders,
        *(folder / dataset for folder in folders),
        *([Path(preprocessed) / dataset] if preprocessed else []),
        root.parent / "nnUNet_preprocessed" / dataset,
        *_noted_folders(models),
    ]
    found = next(
        (
            place / "splits_final.json"
            for place in places
            if (place / "splits_final.json").is_file()
        ),
        None,
    )
    if found is None:
        return None
    return found.resolve()


def _validated(
    models: Sequence[TrainedModel], splits: Path | None, notes: list[str]
) -> dict[int, list[str]]:
    """Return the cases that each fold validates; none where nothing tells."""
    if splits:
        folds = read_folds(splits)
        every = sorted({name for one in folds for name in (*one["train"], *one["val"])})
        validated = {number: one["val"] for number, one in enumerate(folds)}
        never = sorted(set(every) - {name for names in validated.values() for name in names})
        if never:
            notes.append(
                f"{splits}: {count(len(never), 'case')} of {len(every)} validated by no fold, e.g. {never[0]}: not tested here"
            )
        return validated
    found: dict[int, list[str]] = {}
    for model in models:
        for fold in model.own_folds:
            found.setdefault(fold, []).extend(model.cases(fold))
    what = (
        "folds are those of the validation folders"
        if found
        else "which fold predicted a case is not known, and all are tested as of one"
    )
    notes.append(
        f"no splits_final.json was found, so {what}, and no leak can be told; name the folder that has it "
        "(nnUNet_preprocessed/DATASET) beside the others"
    )
    return found


def _tested(
    validated: Mapping[int, Sequence[str]], folds: Sequence[int], notes: list[str]
) -> tuple[dict[str, int], list[int]]:
    """Give each case to one of the folds that validate it, of those compared first; tell of what is not compared.

    Parameters
    ----------
    validated
        Fold -> cases that it validates.
    folds
        Those that all models have predicted.
    notes
        What a person should know, to which this adds.

    Returns
    -------
    tested : dict
        Case -> fold.
    folds : list of int
        Those left that test a case.
    """
    by_case: dict[str, list[int]] = {}
    for fold, names in validated.items():
        for name in dict.fromkeys(names):
            by_case.setdefault(name, []).append(fold)
    compared = {
        name: [fold for fold in own if fold in folds] or own[:1] for name, own in by_case.items()
    }
    several = {name: own for name, own in compared.items() if len(own) > 1}
    if several:
        first, own = next(iter(sorted(several.items())))
        notes.append(
            f"{count(len(several), 'case')} of {len(by_case)} validated by several folds, e.g. {first} by {own}: each is tested "
            "by the first of them, and its further predictions are not measured"
        )
    tested = {name: own[0] for name, own in compared.items()}
    without = sorted(name for name, fold in tested.items() if fold not in folds)
    if folds and without:
        notes.append(
            f"{count(len(without), 'case')} of {len(by_case)} validated by folds that are not compared, e.g. {without[0]} by "
            f"{tested[without[0]]}: not tested"
        )
    left = [fold for fold in folds if fold in tested.values()]
    if len(left) < len(folds):
        empty = sorted(set(folds) - set(left))
        notes.append(f"folds {empty} are left out: other folds test all that they validate")
    return tested, left


def _noted_folders(models: Iterable[TrainedModel]) -> Iterator[Path]:
    """Return the folders of preprocessed data that trainings noted in `debug.json`."""
    for model in models:
        for file in sorted(model.folder.glob("fold_*/debug.json")):
            noted = read_mapping(file).get("preprocessed_dataset_folder_base")
            if isinstance(noted, str):
                yield Path(noted)


def _raw_folder(raw: Path | None, dataset: str) -> Path | None:
    if raw is None:
        return None
    for folder in (raw, raw / dataset):
        if (folder / "labelsTr").is_dir() or (folder / "dataset.json").is_file():
            return folder
    raise InputError(
        f"{raw}: neither labelsTr nor {dataset} in it; expected nnUNet_raw, or its {dataset}"
    )


def _labels_folder(models: Sequence[TrainedModel], dataset: str) -> Path:
    """Find the folder of reference labels that nnU-Net measured against."""
    places = []
    for model in models:
        for file in sorted(model.folder.glob("*/**/summary.json")):
            measured = read_mapping(file).get("metric_per_case") or []
            try:
                places += [Path(one["reference_file"]).parent for one in measured[:1]]
            except (TypeError, KeyError):
                raise InputError(
                    f"{file}: metric_per_case: found {str(measured)[:60]}; expected a list of cases, each with reference_file"
                ) from None
    places += [folder / "gt_segmentations" for folder in _noted_folders(models)]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"{models[0].folder.parent}: the reference labels of {dataset} are not where nnU-Net had them; name nnUNet_raw by "
            "--raw DIR"
        )
    return found


def _rows(
    tested: Mapping[str, int],
    folder: Path,
    with_images: bool,
    described: Mapping[str, Any],
    ending: str,
) -> list[Row]:
    """Return a row of the table for each case, with its files. Raises InputError for those that are missing."""
    file = folder / "dataset.json"
    listed = _described(folder).get("dataset", {}) if file.is_file() else {}
    channels = len(_channels(described, file))
    rows, missing = [], []
    for case, fold in sorted(tested.items()):
        entry = listed.get(case, {}) if isinstance(listed, dict) else listed
        if not isinstance(entry, dict):
            raise InputError(
                f"{file}: dataset: found {str(entry)[:60]!r}; expected CASE: {{label: FILE, images: [FILE, ...]}}"
            )
        label = folder / entry.get(
            "label", f"labelsTr/{case}{ending}" if with_images else f"{case}{ending}"
        )
        images = tuple(
            folder / name
            for name in entry.get(
                "images", [f"imagesTr/{case}_{number:04d}{ending}" for number in range(channels)]
            )
        )
        row = Row(case, label, images if with_images else (), fold)
        missing += [path for path in (*row.images, row.label) if not path.is_file()]
        rows.append(row)
    if missing:
        raise InputError(
            f"{missing[0]}: no such file, of {len(missing)} that the cases of the folds need; see whether --raw names the data "
            "that were trained on"
        )
    return rows


def _modality(described: Mapping[str, Any]) -> str:
    names = [
        str(name) for name in described.get("channel_names", {}).values()
    ]  # checked as it was read
    if any(name.upper() == "CT" for name in names):
        return "CT"
    return "MR" if names and all(MR.search(name) for name in names) else "other"
