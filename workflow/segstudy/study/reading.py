"""A study file, or a stage's settings on the command line, read and checked."""

import difflib
import os
import re
import typing
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segstudy import bids, paths, plugins
from segstudy.errors import InputError
from segstudy.files import parse_json
from segstudy.grid_search import Grids, expand
from segstudy.images.names import composed
from segstudy.log import log
from segstudy.study import references
from segstudy.study.models import AnyModel
from segstudy.study.old_names import (
    OldName,
    by_todays_names,
    notes,
    setting_by_todays_name,
    values_by_todays_names,
)
from segstudy.study.predictions import PredictionsModel
from segstudy.study.quick import shortened
from segstudy.study.settings import Settings
from segstudy.study.sources import BidsSource
from segstudy.study.study import Study
from segstudy.study.study_model import NOT_LEARNED
from segstudy.study.validation_errors import Keys, describe, keys_at, keys_named_by
from segstudy.training_splits import read_folds
from segstudy.yaml_files import KeyPlaces, read_yaml


def read_study(
    path: Path | str, source_path: str | typing.Mapping[str, str] | None = None
) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path
        The study file. Paths in it are expanded, and taken from its folder (`paths.from_study_file`).
    source_path
        Where the data are (`--config path=DIR`), in place of `source.path` and from the working directory:
        a folder for all datasets that are on disk or downloaded, where these are one or parts of one, or a
        folder for each by name (`--config path='{site_a: DIR, site_b: DIR}'`).

    Raises
    ------
    InputError
        With file, line, column, key, what was found and what was expected, a line for each mistake.
    """
    path = paths.as_stored(Path(paths.expanded(str(path), "study file")))
    content, old_names = as_written(path)
    place = Places(path, old_names)
    if "partial" in content:
        raise InputError(
            f"{path}{place(('partial',))}: partial: is filled in by segstudy; `segstudy run STUDY --partial` reports "
            "what is done"
        )
    content.setdefault("name", name_of(path))
    replaced = {} if source_path is None else _replacements(content, source_path, path)
    _place_sources(content, path, replaced, place)
    _place_files(content, "datasets", "participants", path, place)
    if isinstance(content.get("corrections"), str):
        content["corrections"] = _placed(content["corrections"], ("corrections",), path, place)
    _place_ratings(content, path, place)
    _place_predictions(content, path, place)
    _find_values(content, path, place)
    if content.get("quick") is True and isinstance(content.get("models"), dict):
        content["models"] = {name: shortened(own) for name, own in content["models"].items()}
    _expand_grids(content, path, place)
    _tell(old_names, path, place)
    place.grids = content.get("grids", {})
    _place_files(content, "models", "initial_weights", path, place)
    content = _place_plugins(content, path, place)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise InputError(describe(error, path, Study, place)) from None
    if problem := study.publish.style.font_problem():
        log.warning("%s%s: %s", path, place(("publish", "style", "font")), problem)
    return study


def as_written(path: Path | str) -> tuple[dict[str, Any], list[OldName]]:
    """Read what a study file says, by today's names, with nothing checked or filled in.

    Parameters
    ----------
    path
        The study file.

    Returns
    -------
    Its keys and values, and what was renamed in them.

    Raises
    ------
    InputError
        Where the file is no YAML of keys and values.
    """
    content, old_names = by_todays_names(Study, _with_kinds(_content(Path(path))))
    models = content.get("models")
    for entry, model in models.items() if isinstance(models, dict) else ():
        if isinstance(model, dict) and isinstance(model.get("grid_search"), dict):
            old_names += _rename_searched(model, entry)
    return content, old_names


class Places:
    """Tell the place of a key in a study file, `, line 3, column 5`; the file is read for the first one.

    Of a file that is gone by then, no place is told.
    """

    def __init__(self, file: Path | str, old_names: Sequence[OldName] = ()):
        self.file, self.old_names = file, old_names
        self.grids: Grids = {}
        """What the grid searches were replaced by, once they are."""

    @cached_property
    def _places(self) -> Callable[..., str]:
        with suppress(InputError):
            return KeyPlaces(self.file, {old.today: old.place[-1] for old in self.old_names})
        return lambda *paths: ""

    def __call__(self, keys: Keys) -> str:
        """Return the place of a key, or of the nearest above it; of a grid search's model, in the one written."""
        if len(keys) > 1 and keys[0] == "models":
            for entry, models in self.grids.items():
                if keys[1] in models:
                    inside = keys[2:]
                    searched = (*keys[:1], entry, "grid_search", ".".join(map(str, inside)))
                    return self._places((*keys[:1], entry, *inside), searched)
        return self._places(keys)


def from_json(kind: type[Settings], text: str) -> Any:
    """Read settings from the JSON value of a command line.

    Parameters
    ----------
    kind
        The settings class.
    text
        JSON, or `@FILE` for a file that holds it.

    Raises
    ------
    InputError
        With the key, what was found and what was expected.
    """
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{text[1:]}: not UTF-8 text ({error.reason})") from None
        except OSError as error:
            raise InputError(f"{text[1:]}: cannot be read: {error.strerror}") from None
    content, old_names = by_todays_names(kind, parse_json(text, "--settings"))
    _tell(old_names, "--settings", lambda keys: "")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(describe(error, "--settings", kind)) from None


def _tell(old_names: list[OldName], file: Path | str, place: Callable[[Keys], str]) -> None:
    """Log a note of each old name."""
    for note in notes(old_names, file, place):
        log.warning("%s", note)


def _content(path: Path) -> dict:
    """Read the keys and values of a study file. Raises InputError where it holds none."""
    content = read_yaml(path, "study file")
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values (datasets, models, ...) at the top")
    return content


def check_sources(study: Study, file: Path | str) -> None:
    """Refuse a study whose table, folder, predictions, training splits or initial weights are not there, or are something else.

    Parameters
    ----------
    study
        The study.
    file
        Its file, for the message.

    Raises
    ------
    InputError
        With the place of the key, the path, and what was expected there.
    """
    _check_predictions(study, file)
    _check_initial_weights(study, file)
    for name, dataset in study.datasets.items():
        if dataset.participants and not Path(dataset.participants).is_file():
            key, table = ("datasets", name, "participants"), Path(dataset.participants)
            raise InputError(
                f"{file}{Places(file)(key)}: {'.'.join(key)}: {table}: no such file; expected a table of subjects, "
                f".tsv or .csv{_near(table)}"
            )
        text = getattr(dataset.source, "path", None)
        if not text:
            continue
        path, table = Path(text), dataset.source.layout == "table"
        if path.exists() and path.is_dir() != table:
            continue
        place = Places(file)(("datasets", name, "source", "path"))
        where = f"{file}{place}: datasets.{name}.source.path: {text}"
        wanted = "the table, a .tsv file" if table else "the dataset's folder"
        if not path.exists():
            inside = "" if path.is_absolute() else f" ({path.absolute()})"
            if Path(file).is_symlink() and not path.is_absolute():
                inside += f", nor from the folder of the file that the link stands for ({Path(file).resolve().parent})"
            raise InputError(f"{where}: no such {'table' if table else 'folder'}{inside}")
        kind = ("a file", "a folder")[table]
        archive = not table and path.name.endswith((".zip", ".tar", ".gz", ".tgz", ".7z"))
        raise InputError(
            f"{where}: {kind}; expected {wanted}" + ("; unpack the archive" if archive else "")
        )


def _check_predictions(study: Study, file: Path | str) -> None:
    """Raise InputError where `files` begins with no folder, or `training_splits` names no file, or one that holds no folds."""
    for name, model in study.models.items():
        if not isinstance(model, PredictionsModel):
            continue
        key, folder = ("models", name, "files"), Path(model.files.partition("{")[0] + "x").parent
        if not folder.is_dir():
            raise InputError(
                f"{file}{Places(file)(key)}: {'.'.join(key)}: {folder}: no such folder{_near(folder)}"
            )
        if not model.training_splits:
            continue
        key, path = ("models", name, "training_splits"), Path(model.training_splits)
        where = f"{file}{Places(file)(key)}: {'.'.join(key)}"
        if not path.is_file():
            raise InputError(
                f"{where}: {path}: no such file; expected nnU-Net's splits_final.json{_near(path)}"
            )
        read_folds(path, where)


def _check_initial_weights(study: Study, file: Path | str) -> None:
    """Raise InputError where `initial_weights` names no file."""
    for name, model in study.models.items():
        named = getattr(model, "initial_weights", None)
        if named and not (path := Path(named)).is_file():
            key = ("models", name, "initial_weights")
            what = "a folder" if path.is_dir() else "no such file"
            raise InputError(
                f"{file}{Places(file)(key)}: {'.'.join(key)}: {path}: {what}; expected a weights.pt of segstudy, or for nnU-Net a "
                f"checkpoint of its own{_near(path)}"
            )


def _near(path: Path) -> str:
    """Say which part of a path is not there, and what is there of nearly that name."""
    while not path.parent.exists():
        path = path.parent
    if path.exists() or not path.parent.is_dir():
        return ""
    beside = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"; did you mean {path.with_name(near[0])}?" if near else f"; {path} is not there"


def _sources(content: dict) -> dict[str, dict]:
    """Return the sources of the datasets, by dataset, but for phantoms."""
    datasets = content.get("datasets")
    return {
        name: dataset["source"]
        for name, dataset in (datasets.items() if isinstance(datasets, dict) else ())
        if isinstance(dataset, dict)
        and isinstance(dataset.get("source"), dict)
        and dataset["source"].get("layout") != "phantom"
    }


def _place_sources(
    content: dict, file: Path, replaced: typing.Mapping[str, str], place: Callable[[Keys], str]
) -> None:
    """Expand the paths of the sources, and take relative ones from the file's folder.

    Parameters
    ----------
    content
        The study file's keys and values, which are changed.
    file
        The study file.
    replaced
        Dataset -> the path that `--config path` gives in place of the file's.
    place
        Gives the place of a key in the file.
    """
    for name, source in _sources(content).items():
        if name in replaced:
            source["path"] = replaced[name]
        elif isinstance(source.get("path"), str):
            key = ("datasets", name, "source", "path")
            where = f"{file}{place(key)}: {'.'.join(key)}"
            source["path"] = paths.from_study_file(source["path"], file, where)


def _place_files(
    content: dict, section: str, key: str, file: Path, place: Callable[[Keys], str]
) -> None:
    """Take files that a dataset or a model names from the study file's folder.

    Parameters
    ----------
    content
        The study file's keys and values, which are changed.
    section
        `datasets` or `models`.
    key
        The key that names a file in an entry of the section.
    file
        The study file.
    place
        Gives the place of a key in the file.
    """
    entries = content.get(section)
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            entry[key] = _placed(entry[key], (section, name, key), file, place)


def _placed(name: str, keys: Keys, file: Path, place: Callable[[Keys], str]) -> str:
    """Return where a file that the study file names lies; keys: where it is named."""
    return paths.from_study_file(name, file, f"{file}{place(keys)}: {'.'.join(keys)}")


def _place_ratings(content: dict, file: Path, place: Callable[[Keys], str]) -> None:
    """Take the files of ratings from the study file's folder, as `_place_predictions` does those of predictions."""
    ratings = content.get("ratings")
    names = ratings.get("files") if isinstance(ratings, dict) else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        placed = [_placed(name, ("ratings", "files"), file, place) for name in names]
        content["ratings"] = {**ratings, "files": placed}


def _place_predictions(content: dict, file: Path, place: Callable[[Keys], str]) -> None:
    """Take the files of `trainer: predictions` from the study file's folder.

    Parameters
    ----------
    content
        The study file's keys and values, which are changed.
    file
        The study file.
    place
        Gives the place of a key in the file.
    """
    models = content.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        if not isinstance(model, dict) or model.get("trainer") != "predictions":
            continue
        for key in ("files", "training_splits"):
            if isinstance(model.get(key), str):
                where = f"{file}{place(('models', name, key))}: models.{name}.{key}"
                model[key] = _placed_pattern(model[key], file, where)


def _placed_pattern(text: str, file: Path, where: str) -> str:
    """Resolve the folders of a pattern before its first placeholder, as `paths.from_study_file` does."""
    text = os.path.expandvars(text)
    known, brace, _ = text.partition("{")
    if not brace or known.endswith("$"):
        return paths.from_study_file(text, file, where)
    folder, slash, _ = known.rpartition("/")
    if slash and not folder:
        return text
    return f"{paths.from_study_file(folder or '.', file, where)}/{text[len(folder + slash) :]}"


def _find_values(content: dict, file: Path, place: Callable[[Keys], str]) -> None:
    """Find the values of structures that are names of a BIDS dataset's own table, as the file of the results has them.

    Parameters
    ----------
    content
        The study file's keys and values, which are changed.
    file
        The study file.
    place
        Gives the place of a key in the file.
    """
    for name, source in _sources(content).items():
        dataset = content["datasets"][name]
        structures = dataset.get("structures")
        if source.get("layout") != "bids" or "label_table" in dataset:
            continue
        if not isinstance(structures, list) or not all(isinstance(one, str) for one in structures):
            continue
        with suppress(ValidationError):  # told with all that is wrong with the study
            settings = BidsSource.model_validate(source)
            keys = ("datasets", name, "structures")
            where = f"{file}{place(keys)}: {'.'.join(keys)}"
            dataset["structures"] = _values_by_table(structures, settings, where)


def _values_by_table(structures: list[str], source: BidsSource, where: str) -> dict[str, list[int]]:
    """Look up structures in the `dseg.tsv` that holds for a dataset's first label map; a name without a side is both."""
    from segstudy.images.segments import is_name

    advice = "give each structure its value (name: value), or set label_table"
    if not source.path or not Path(source.path).is_dir():
        raise InputError(f"{where}: names of a dataset that is not on disk; {advice}")
    root = Path(source.path)
    wanted = source.wanted_labels
    folder = bids.label_root(root, source.pipeline, wanted.values())
    labels = bids.matching((file for _, file in bids.files_below(folder)), wanted.get("label", {}))
    tables = (bids.nearest_table(label.path, root) for label in labels)
    table = next(filter(None, tables), None)
    if table is None or source.masks:
        raise InputError(
            f"{where}: no dseg.tsv names the values of the labels in {folder}; {advice}"
        )
    names = bids.read_table(table)
    values = {}
    for structure in structures:
        sides = [f"left {structure}", f"right {structure}"]
        exact = [value for value, said in names.items() if is_name(said, structure)]
        values[structure] = exact or [
            value for value, said in names.items() if any(is_name(said, one) for one in sides)
        ]
        if not values[structure]:
            near = difflib.get_close_matches(structure, names.values(), n=1)
            known = f"did you mean {near[0]}?" if near else f"known: {', '.join(names.values())}"
            raise InputError(f"{where}: {structure} is no name of {table}; {known}")
    return values


def _with_kinds(content: dict) -> dict:
    """Return the study file's keys and values, with models and sources by plug-ins as the kinds that they are."""
    models, datasets = content.get("models"), content.get("datasets")
    if isinstance(models, dict):
        models = {name: references.with_kinds(model) for name, model in models.items()}
        content = {**content, "models": models}
    if isinstance(datasets, dict):
        datasets = {
            name: {**dataset, "source": references.source_with_kind(dataset["source"])}
            if isinstance(dataset, dict) and "source" in dataset
            else dataset
            for name, dataset in datasets.items()
        }
        content = {**content, "datasets": datasets}
    return content


def _place_plugins(content: dict, file: Path, place: Callable[[Keys], str]) -> dict:
    """Take the files of plug-ins from the study file's folder, and check each without running it.

    Parameters
    ----------
    content
        The study file's keys and values.
    file
        The study file.
    place
        Gives the place of a key in the file.

    Raises
    ------
    InputError
        With the place of the first that is not there, or does not define what it should.
    """

    def placed(keys: Keys, text: str, default: str) -> str:
        where = f"{file}{place(keys)}: {'.'.join(map(str, keys))}"
        if not plugins.is_reference(text):
            return text  # validation says what is expected there
        found = plugins.reference(text)
        if found.is_file:
            found = replace(found, place=paths.from_study_file(found.place, file, where))
        try:
            plugins.check(str(found), default, _options(content, keys))
            plugins.digest(str(found))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        return str(found)

    return references.replaced(content, placed)


def _options(content: dict, keys: Keys) -> list[str]:
    """Return the keyword arguments that a study file gives a plug-in; a grid search is expanded by then."""
    if keys[-1] not in ("network", "trainer", "layout"):
        return []
    holder: Any = content
    for key in keys[:-1]:
        holder = holder[key]
    given = holder.get("options")
    return list(given) if isinstance(given, typing.Mapping) else []


def name_of(path: Path) -> str:
    """Return the name of a study without `name`: its file's, as a folder of results can be called."""
    return re.sub(r"\W+", "_", composed(path.stem), flags=re.ASCII).strip("_")


def _replacements(
    content: dict, source_path: str | typing.Mapping[str, str], file: Path
) -> dict[str, str]:
    """Return the path that `--config path` gives each dataset: its own, or one for all."""
    sources = _sources(content)
    known = ", ".join(sources) or "none"
    if isinstance(source_path, typing.Mapping):
        odd = [name for name in source_path if name not in sources]
        if odd:
            raise InputError(
                f"{file}: --config path={{{odd[0]}: ...}}: no dataset on disk of that name; this "
                f"study has {known}"
            )
        return {
            name: paths.spelt_as_stored(paths.expanded(str(folder), "--config path"))
            for name, folder in source_path.items()
        }
    origins = {
        tuple(str(source.get(key)) for key in ("layout", "path", "url", "registered"))
        for source in sources.values()
    }
    if len(origins) != 1:
        raise InputError(
            f"{file}: --config path=DIR needs a study with one dataset on disk, this one has "
            f"{len(sources)} ({known}); name a folder for each: path='{{NAME: DIR, NAME: DIR}}'"
        )
    folder = paths.spelt_as_stored(paths.expanded(str(source_path), "--config path"))
    return dict.fromkeys(sources, folder)


NOT_SEARCHED = {
    "external": "trainer: external trains nothing, so there is nothing to search; leave grid_search out",
    "predictions": "trainer: predictions trains nothing, so there is nothing to search; leave grid_search out",
    "ensemble": "trainer: ensemble trains nothing, so there is nothing to search; leave grid_search out",
    "plugin": "a trainer of your own leaves no history of validation, so there is nothing to choose by; "
    "give each value a model of its own",
}
"""Trainers whose models take no `grid_search`, and why."""


def _expand_grids(content: dict, file: Path, place: Callable[[Keys], str]) -> None:
    """Replace each model that has a `grid_search` by those that it stands for, and list them in `grids`."""
    if "grids" in content:
        raise InputError(
            f"{file}{place(('grids',))}: grids: is filled in by segstudy; write `grid_search` into a model"
        )
    models = content.get("models")
    if not isinstance(models, dict):
        return
    try:
        for entry, model in models.items():
            if isinstance(model, dict) and "grid_search" in model:
                reason = NOT_SEARCHED.get(str(model.get("trainer")))
                if reason:
                    raise ValueError(f"models.{entry}.grid_search: {reason}")
        expanded, grids = expand(models)
        for entry in grids:
            for setting in models[entry]["grid_search"]:
                _check_setting(models[entry], entry, setting)
    except ValueError as error:
        raise InputError(f"{file}{place(keys_named_by(str(error)))}: {error}") from None
    if grids:
        content["models"], content["grids"] = expanded, grids


def _rename_searched(model: dict, entry: str) -> list[OldName]:
    """Give the settings of a model's grid search, and the keys in their values, today's names; return the old ones."""
    searched, old_names = {}, []
    for setting, values in model["grid_search"].items():
        name, above = setting, ("models", entry, "grid_search")
        if isinstance(setting, str):
            name, old_here = setting_by_todays_name(AnyModel, model, setting)
            old_names += [OldName((*above, *old.place), old.today) for old in old_here]
            if isinstance(values, list):
                values, old_inside = values_by_todays_names(AnyModel, model, name, values)
                old_names += [
                    OldName((*above, setting, *old.place), old.today) for old in old_inside
                ]
        if name in searched:
            return []  # by both names: the old one is refused as an unknown key
        searched[name] = values
    model["grid_search"] = searched
    return old_names


def _check_setting(model: dict, entry: str, setting: str) -> None:
    """Raise ValueError for a setting of a grid search that the model's network does not have, or that teaches it nothing."""
    first = setting.split(".")[0]
    if first in NOT_LEARNED:
        raise ValueError(
            f"models.{entry}.grid_search.{setting}: {first} does not change what is learned, so that there is nothing to "
            "choose by; leave it out of the grid search"
        )
    if first in ("train_on", "training_subset", "validation_fraction"):
        raise ValueError(
            f"models.{entry}.grid_search.{setting}: {first} changes the cases that a grid search's best model is chosen by; give each "
            "value a model of its own"
        )
    place: tuple = ("models", entry, str(model.get("network", model.get("trainer"))))
    for part in setting.split("."):
        allowed = keys_at(Study, place)
        if part not in allowed:
            near = difflib.get_close_matches(part, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"models.{entry}.grid_search.{setting}: unknown key {part}; {hint}"
                f"Allowed here: {', '.join(allowed)}"
            )
        place = (*place, part)
        if not keys_at(Study, place):
            return  # names of its own, e.g. the structures in class_weights
