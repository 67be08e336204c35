"""A study file, or a stage's settings on the command line, read and checked."""

import difflib
import typing
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segstudy import paths
from segstudy.errors import InputError
from segstudy.grid_search import expand
from segstudy.study.arms import NOT_LEARNED
from segstudy.study.mistakes import describe, keys_at
from segstudy.study.settings import Settings
from segstudy.study.study import Study
from segstudy.yaml_files import read_yaml


def read_study(
    path: Path | str, source_path: str | typing.Mapping[str, str] | None = None
) -> Study:
    """Read and check a study file.

    `source_path` is where the data are (`--config path=DIR`), in place of `source.path`: a folder for
    the datasets that are on disk or downloaded, where these are one or parts of one, or a folder
    for each by name (`--config path='{site_a: DIR, site_b: DIR}'`); it is one from the working directory.

    Paths of the file are expanded, and taken from its folder (`paths.from_study_file`).
    Raises InputError that names the file, the key, what was found and what was expected.
    """
    path = Path(paths.expanded(str(path), "study file"))
    content = _content(path)
    content.setdefault("name", path.stem)
    replaced = {} if source_path is None else _replacements(content, source_path, path)
    _place_sources(content, path, replaced)
    _expand_grids(content, path)
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise InputError(describe(error, path, Study)) from None


def from_json(kind: type[Settings], text: str) -> Any:
    """Settings from the JSON value of a command line; `@FILE` reads it from a file."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{text[1:]}: not UTF-8 text ({error.reason})") from None
        except OSError as error:
            raise InputError(f"{text[1:]}: cannot be read: {error.strerror}") from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(describe(error, "--settings", kind)) from None


def _content(path: Path) -> dict:
    """The keys and values of a study file."""
    content = read_yaml(path, "study file")
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values (datasets, models, ...) at the top")
    return content


def check_sources(study: Study, file: Path | str) -> None:
    """Raise InputError where a table or folder that a study names is not there, or is something else."""
    for name, dataset in study.datasets.items():
        text = getattr(dataset.source, "path", None)
        if not text:
            continue
        path, table = Path(text), dataset.source.layout == "table"
        where = f"{file}: datasets.{name}.source.path: {text}"
        wanted = "the table, a .tsv file" if table else "the dataset's folder"
        if not path.exists():
            inside = "" if path.is_absolute() else f" ({path.absolute()})"
            raise InputError(f"{where}: no such {'table' if table else 'folder'}{inside}")
        if path.is_dir() == table:
            found = ("a file", "a folder")[table]
            archive = not table and path.name.endswith((".zip", ".tar", ".gz", ".tgz", ".7z"))
            raise InputError(
                f"{where}: {found}; expected {wanted}" + ("; unpack the archive" if archive else "")
            )


def _sources(content: dict) -> dict[str, dict]:
    """The sources that a study file gives its datasets, but for phantoms."""
    datasets = content.get("datasets")
    return {
        name: dataset["source"]
        for name, dataset in (datasets.items() if isinstance(datasets, dict) else ())
        if isinstance(dataset, dict)
        and isinstance(dataset.get("source"), dict)
        and dataset["source"].get("layout") != "phantom"
    }


def _place_sources(content: dict, file: Path, replaced: typing.Mapping[str, str]) -> None:
    """Expand the paths of the sources, and take relative ones from the file's folder.

    replaced: dataset -> the path in place of the file's, which is not looked at.
    """
    for name, source in _sources(content).items():
        if name in replaced:
            source["path"] = replaced[name]
        elif isinstance(source.get("path"), str):
            where = f"{file}: datasets.{name}.source.path"
            source["path"] = paths.from_study_file(source["path"], file, where)


def _replacements(
    content: dict, source_path: str | typing.Mapping[str, str], file: Path
) -> dict[str, str]:
    """The paths of `--config path`, by dataset: each for its own, or one for all."""
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
            name: paths.expanded(str(folder), "--config path")
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
    return dict.fromkeys(sources, paths.expanded(str(source_path), "--config path"))


def _expand_grids(content: dict, file: Path) -> None:
    """Replace each model that has a `grid` by its arms, and tell in `grids` what they are."""
    if "grids" in content:
        raise InputError(f"{file}: grids: is filled in by segstudy; write `grid` into a model")
    models = content.get("models")
    if not isinstance(models, dict):
        return
    try:
        for entry, model in models.items():
            if isinstance(model, dict) and "grid" in model and model.get("trainer") == "external":
                raise ValueError(
                    f"models.{entry}.grid: trainer: external trains nothing, so there is nothing to search; leave grid out"
                )
        expanded, grids = expand(models)
        for entry in grids:
            for setting in models[entry]["grid"]:
                _check_setting(models[entry], entry, setting)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    if grids:
        content["models"], content["grids"] = expanded, grids


def _check_setting(model: dict, entry: str, setting: str) -> None:
    """Raise ValueError for a setting of a grid that the model's network does not have, or that teaches it nothing."""
    first = setting.split(".")[0]
    if first in NOT_LEARNED:
        raise ValueError(
            f"models.{entry}.grid.{setting}: {first} does not change what is learned, so that there is nothing to "
            "choose by; leave it out of the grid"
        )
    if first in ("train_on", "training_subset", "validation_share"):
        raise ValueError(
            f"models.{entry}.grid.{setting}: {first} changes the cases that a grid's best arm is chosen by; give each "
            "value a model of its own"
        )
    place: tuple = ("models", entry, str(model.get("network", model.get("trainer"))))
    for part in setting.split("."):
        allowed = keys_at(Study, place)
        if part not in allowed:
            near = difflib.get_close_matches(part, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"models.{entry}.grid.{setting}: unknown key {part}; {hint}"
                f"Allowed here: {', '.join(allowed)}"
            )
        place = (*place, part)
        if not keys_at(Study, place):
            return  # names of its own, e.g. the structures in class_weights
