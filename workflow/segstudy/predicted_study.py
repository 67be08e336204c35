"""A study file for predictions that are there already: what a person would write by hand, from what lies in the folders.

`nnunet_tree` looks through a finished nnU-Net tree, `plain_folders` through references and folders of label maps; `write`
writes the study file, and the table of cases beside it.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segstudy.errors import InputError
from segstudy.files import read_mapping, write_text
from segstudy.images.names import named_alike
from segstudy.prediction_folders import files_in, find_pattern, values_of
from segstudy.sides import likely_pairs
from segstudy.words import count


@dataclass(frozen=True)
class Labels:
    """Hold what label values mean.

    Parameters
    ----------
    structures
        Name -> value.
    regions
        Region that is several structures -> their names.
    ignore
        The value of voxels that nobody has labelled.
    """

    structures: dict[str, int]
    regions: dict[str, list[str]] = field(default_factory=dict)
    ignore: int | None = None


@dataclass(frozen=True)
class Row:
    """Hold a case of the table: its name, files, and the fold that predicted it, where there are folds."""

    case: str
    label: Path
    images: tuple[Path, ...] = ()
    fold: int | None = None


@dataclass(frozen=True)
class PredictedStudy:
    """Hold what a study file is to say.

    Parameters
    ----------
    dataset
        Name of the dataset.
    labels
        What its values mean.
    rows
        Its cases.
    models
        Name -> keys of the model; paths are `Path`, patterns begin with the folder that they lie in.
    modality, channels
        Of the images.
    folds, run_folds
        Number of folds, and those that every model has; 0 where nothing is cross-validated.
    notes
        What a person should know, a sentence each.
    """

    dataset: str
    labels: Labels
    rows: list[Row]
    models: dict[str, dict[str, Any]]
    modality: str = "other"
    channels: tuple[str, ...] = ("image",)
    folds: int = 0
    run_folds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def write(study: PredictedStudy, file: Path) -> Path:
    """Write the study file, and `<study>.cases.tsv` beside it; return the table's path.

    Raises InputError where the table is there already.
    """
    table = file.with_name(f"{file.stem}.cases.tsv")
    if table.exists():
        raise InputError(f"{table}: is there already, and is not written over; name another file")
    images = max(len(row.images) for row in study.rows)
    columns = ["image"] if images == 1 else [f"image_{name}" for name in study.channels[:images]]
    folds = ["fold"] if study.folds else []
    lines = ["\t".join(["case", "subject", *columns, "label", *folds])]
    for row in study.rows:
        files = [_named(path, file) for path in (*row.images, row.label)]
        own_fold = [str(row.fold)] if study.folds else []
        lines.append("\t".join([row.case, row.case, *files, *own_fold]))
    write_text(table, "\n".join(lines) + "\n")
    text = yaml.safe_dump(
        _content(study, file, table), sort_keys=False, allow_unicode=True, width=120
    )
    write_text(
        file, f"# Written by segstudy new --from; every key: config/README.md of segstudy.\n{text}"
    )
    return table


def _content(study: PredictedStudy, file: Path, table: Path) -> dict[str, Any]:
    """Return the keys and values of the study file."""
    labels, source = study.labels, {"layout": "table", "path": table.name}
    with_images = any(row.images for row in study.rows)
    pairs = likely_pairs(list(labels.structures))
    dataset = {
        "source": source if with_images else {**source, "images": False},
        "modality": study.modality,
        **({} if study.folds else {"role": "test"}),
        **(
            {"channels": list(study.channels)}
            if study.channels != ("image",) and with_images
            else {}
        ),
        "structures": labels.structures,
        **({"ignore": labels.ignore} if labels.ignore else {}),
        **({"left_right_pairs": [list(pair) for pair in pairs]} if pairs else {}),
    }
    splits = {"folds": study.folds}
    if len(study.run_folds) < study.folds:
        splits["run_folds"] = list(study.run_folds)
    models = {
        name: {
            "trainer": "predictions",
            **{
                key: _named(held, file) if isinstance(held, Path) else held
                for key, held in model.items()
            },
        }
        for name, model in study.models.items()
    }
    return {
        "datasets": {study.dataset: dataset},
        **({"splits": splits} if study.folds else {}),
        "models": models,
        **({"metrics": {"composite_regions": labels.regions}} if labels.regions else {}),
    }


def _named(path: Path, file: Path) -> str:
    """Name a path from the study file's folder where it lies below that; otherwise by its absolute path."""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(file.parent))
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def key_of(text: str) -> str:
    """Return a text as a name of letters, digits and underscores."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "predictions"


def distinct_names(names: Mapping[Path, str]) -> dict[Path, str]:
    """Tell folders of one name apart by the nearest folders above that differ, whose names are put before.

    Parameters
    ----------
    names
        Folder, as an absolute path -> name.

    Raises
    ------
    InputError
        Where they are still of one name.
    """
    distinct: dict[Path, str] = {}
    for name in dict.fromkeys(names.values()):
        folders = [folder for folder, own in names.items() if own == name]
        if len(folders) > 1:
            levels = range(min(len(folder.parents) for folder in folders))
            above = [[[folder.parents[level].name] for folder in folders] for level in levels]
            above += [[folder.parts[-2 - level : -1] for folder in folders] for level in levels]
            named = ([key_of("_".join([*parts, name])) for parts in one] for one in above)
            keys = next((one for one in named if len(set(one)) == len(folders)), None)
        else:
            keys = [name]
        if keys is None or set(keys) & set(distinct.values()):
            told = ", ".join(map(str, folders))
            raise InputError(
                f"{told}: would be models of one name, {name}; rename folders, or write models by hand"
            )
        distinct |= dict(zip(folders, keys, strict=True))
    return {folder: distinct[folder] for folder in names}


def labels_of(described: Mapping[str, Any], where: Path) -> Labels:
    """Return what label values mean, by the `labels` of a `dataset.json`: nnU-Net's, with regions too, or Decathlon's.

    Raises InputError where they are none of these.
    """
    given = described.get("labels")
    if not isinstance(given, dict):
        raise InputError(f"{where}: labels: found {given!r}; expected names and values of labels")
    if all(str(key).isdecimal() and isinstance(name, str) for key, name in given.items()):
        twice = [name for name, number in Counter(given.values()).items() if number > 1]
        if twice:
            raise InputError(
                f"{where}: labels: several values are called {twice[0]!r}; expected a name for each"
            )
        given = {name: int(key) for key, name in given.items()}
    single, regions, ignore = {}, {}, None
    for name, value in given.items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(
            isinstance(one, int) and not isinstance(one, bool) for one in values
        ):
            raise InputError(
                f"{where}: labels.{name}: found {value!r}; expected a whole number, or several"
            )
        if name == "ignore":
            ignore = values[0]
        elif len(values) > 1:
            regions[name] = values
        elif values != [0]:
            other = next((one for one, held in single.items() if held == values[0]), None)
            if other:
                raise InputError(
                    f"{where}: labels.{name}: found {values[0]}, which {other} has too; expected a value of its own"
                )
            single[name] = values[0]
    named = {value: name for name, value in single.items()}
    for value in sorted({value for values in regions.values() for value in values} - named.keys()):
        named[value] = f"label_{value}"
    return Labels(
        {name: value for value, name in sorted(named.items())},
        {name: [named[value] for value in values] for name, values in regions.items()},
        ignore,
    )


# --- folders of label maps ----------------------------------------------------------------------


def plain_folders(
    reference: Path, predictions: Sequence[Path], images: Path | None = None
) -> PredictedStudy:
    """Look through a folder of references and folders of predictions.

    Parameters
    ----------
    reference
        Folder of label maps, a file a case.
    predictions
        Folders with a file a case (`CASE.nii.gz`, `CASE/CASE_trans.nii.gz` as MONAI's bundles write), or a file a
        structure (`CASE/STRUCTURE.nii.gz`, as TotalSegmentator writes).
    images
        Folder of images, named as the references, with `_0000` behind or not.

    Raises
    ------
    InputError
        Where a folder is not there or holds nothing of the references' names.
    """
    labels = files_in(reference)
    if not labels:
        raise InputError(f"{reference}: no label maps; expected files such as case.nii.gz")
    rows = [Row(case, path, _images(images, case)) for case, path in labels.items()]
    described = next(
        (
            path
            for path in (reference / "dataset.json", reference.parent / "dataset.json")
            if path.is_file()
        ),
        None,
    )
    meant = (
        labels_of(read_mapping(described), described) if described else _by_value(labels.values())
    )
    models, notes = {}, []
    for folder, name in _model_names(reference, predictions).items():
        found = find_pattern(folder, labels, meant.structures)
        pattern, held = found.pattern, found.held
        models[name] = {"files": folder / pattern}
        notes += found.notes
        known = set(meant.structures if "{structure}" in pattern else meant.structures.values())
        other = sorted(set(held) - known, key=str)
        if other:
            what = "structures" if "{structure}" in pattern else "values"
            notes.append(
                f"models.{name}: {folder} has the {what} {', '.join(map(str, other[:8]))}, which the references have not: "
                f"say under labels which are {', '.join(meant.structures)}, and background_labels: all if the others are none"
            )
    if not images:
        notes.append("no images: the report shows labels on black; --images DIR names them")
    if not described:
        notes.append("datasets.cases.structures: name the values; nothing in the folders does")
    return PredictedStudy("cases", meant, rows, models, notes=tuple(notes))


def _model_names(reference: Path, predictions: Sequence[Path]) -> dict[Path, str]:
    """Name each folder of predictions. Raises InputError for one that is the references', or stands twice."""
    names: dict[Path, str] = {}
    given: dict[Path, Path] = {reference.resolve(): reference}
    for folder in predictions:
        same = given.setdefault(folder.resolve(), folder)
        if folder.resolve() == reference.resolve():
            raise InputError(
                f"{folder}: is the folder of references too, which would be compared with itself; name folders of predictions"
            )
        if folder.resolve() in names:
            raise InputError(f"{folder}: stands twice, as {same} too; name each folder once")
        names[folder.resolve()] = key_of(folder.resolve().name)
    return {given[path]: name for path, name in distinct_names(names).items()}


def _by_value(paths: Iterable[Path]) -> Labels:
    """Name structures by the values that label maps hold."""
    values = sorted({value for path in paths for value in values_of(path)})
    if not values:
        raise InputError(
            "the references hold nothing but background; expected label maps with structures"
        )
    return Labels({f"label_{value}": value for value in values})


def _images(folder: Path | None, case: str) -> tuple[Path, ...]:
    """Return the image of a case in a folder, or its channels; InputError where there is none."""
    if folder is None:
        return ()
    files = files_in(folder)
    channels = sorted(name for name in files if re.fullmatch(rf"{re.escape(case)}_\d{{4}}", name))
    names = [case] if case in files else channels
    if not names:
        raise InputError(
            f"{folder}: no image of case {case}; expected {case}.nii.gz or {case}_0000.nii.gz"
        )
    return tuple(files[name] for name in names)


def told(study: PredictedStudy, file: Path, table: Path) -> list[str]:
    """Return the lines that say what was written and what to do next."""
    folds = f", of {count(study.folds, 'fold')}" if study.folds else ""
    alike = named_alike(row.case for row in study.rows)
    scans = (
        [
            f"{table}: {sum(map(len, alike))} cases are named as several of one person are, such as {' and '.join(alike[0][:2])}, "
            "and each is taken for a subject of its own, so that tests would count them as independent: write one subject "
            "for a person's scans"
        ]
        if alike
        else []
    )
    return [
        f"{file}: {count(len(study.models), 'model')} ({', '.join(study.models)})",
        f"{table}: {count(len(study.rows), 'case')}{folds}; where a person has several scans, give these one subject",
        *scans,
        *study.notes,
    ]
