"""Redaction: the words of a study for others to read, with a role in place of each path.

A path is replaced where it is written, by its role ("the case table of dataset thorax"); it is not
looked for in texts. Texts that the stages wrote are let out only where nothing in them can be a path
or a name; else a remark stands for them.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import pandas
import yaml

from segstudy import shipped
from segstudy.cases import Case
from segstudy.grid_search import Grids
from segstudy.images.names import is_image
from segstudy.plugins import reference
from segstudy.publish.results import Results
from segstudy.study import (
    ExternalModel,
    PluginSource,
    PredictionsModel,
    Study,
    StudyModel,
    references,
)
from segstudy.study.study_model import ABOVE
from segstudy.words import count
from segstudy.yaml_files import read_yaml

WITHHELD = "(its words name files, and are not published)"
ROLES = ("image", "label", "second label", "image file", "table", "file")
_PLAIN_WORD = re.compile(r"(--?)?[\w.+,{}-]+(=[\w.+,{}-]+)?", re.ASCII)
"""A word of a command that can hold no path: an option, a value, a placeholder."""
_FILE_LIKE = re.compile(
    r"[/\\~]|\.(nii|gz|nrrd|nhdr|mh[ad]|raw|hdr|img|dcm|png|tsv|csv|json|ya?ml|txt|py|pt|zip|tar)\b"
)


def label(text: str) -> str:
    """Return the label of a plug-in in place of where it lies."""
    return reference(text).label


def redacted(study: Study, called: Callable[[str], str] = label) -> Study:
    """Return the study as others may read it: roles for paths and addresses, nothing else changed.

    Parameters
    ----------
    study
        The study.
    called
        Gives what stands for the reference of a plug-in.
    """
    datasets = {
        name: dataset.model_copy(
            update={
                "source": _source(name, dataset.source, called),
                "participants": dataset.participants and role_of_participants(name),
            }
        )
        for name, dataset in study.datasets.items()
    }
    models = {
        name: model.model_copy(update={"command": command(model.command)})
        if isinstance(model, ExternalModel)
        else _without_files(name, model)
        if isinstance(model, PredictionsModel)
        else _without_folders(model, called)
        for name, model in study.models.items()
    }
    words = {key: without_sources(getattr(study, key), study) for key in ("title", "description")}
    metrics = study.metrics.model_copy(
        update={"plugins": tuple(map(called, study.metrics.plugins))}
    )
    publish = study.publish.model_copy(
        update={"figures": tuple(map(called, study.publish.figures))}
    )
    reporting = study.reporting.reworded(lambda text: without_sources(text, study))
    parts = {"datasets": datasets, "models": models, "metrics": metrics, "publish": publish}
    parts["reporting"] = reporting
    parts["corrections"] = study.corrections and "(corrected labels)"
    # Files of ratings are named after readers.
    parts["ratings"] = study.ratings and study.ratings.at_default(("files",))
    return study.model_copy(update={**parts, **words})


def _without_files(name: str, model: PredictionsModel) -> PredictionsModel:
    """Return a model with roles in place of where its predictions lie, and its pattern below them."""
    folders, _, rest = model.files.partition("{")
    kept = folders.rpartition("/")[2]
    update = {"files": f"(predictions of {name})/{kept}{{{rest}"}
    if model.training_splits:
        update["training_splits"] = f"(splits that {name} was trained by)"
    return model.model_copy(update=update)


def _without_folders(model: StudyModel, called: Callable[[str], str]) -> StudyModel:
    """Return a model with what stands for its plug-ins and initial weights in place of where they lie."""
    if getattr(model, "initial_weights", None):
        model = model.model_copy(update={"initial_weights": "(weights to start from)"})
    if not model.plugins():
        return model
    content = references.replaced(
        model.model_dump(), lambda keys, text, default: called(text), ABOVE
    )
    return type(model).model_validate(content)


def settings_yaml(study: Study, called: Callable[[str], str] = label) -> str:
    """Write every setting of the study as a study file, defaults included, with a role for each path.

    Parameters
    ----------
    study, called
        As `redacted` has them.
    """
    content: dict[str, Any] = references.as_written(redacted(study, called).model_dump(mode="json"))
    for model in content["models"].values():
        model.pop("grid_search", None)  # a study file has no empty one
    content["models"] = _with_grid_searches(content["models"], content["grids"])
    del content["grids"], content["partial"]
    if content["ratings"] is None:  # pages of studies without ratings stay as they were
        del content["ratings"]
    return yaml_text(content)


def yaml_text(content: Mapping[str, Any]) -> str:
    """Write keys and values as YAML, in their order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=88)


def _with_grid_searches(models: dict[str, Any], grids: Grids) -> dict[str, Any]:
    """Put each grid search in place of the models that it became; of one that is not done, the models stay."""
    whole = {entry: points for entry, points in grids.items() if _is_whole(points)}
    entry_of = {model: entry for entry, points in whole.items() for model in points}
    written: dict[str, Any] = {}
    for name, model in models.items():
        entry = entry_of.get(name, name)
        if entry not in written:
            written[entry] = _searched(model, whole[entry]) if name in entry_of else model
    return written


def _values_of(points: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each setting of a grid search, in their order."""
    settings = next(iter(points.values()))
    values = {setting: [point[setting] for point in points.values()] for setting in settings}
    return {
        setting: [value for place, value in enumerate(found) if value not in found[:place]]
        for setting, found in values.items()
    }


def _is_whole(points: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether each combination of the values is there; of a study that is not done, some are not."""
    return math.prod(map(len, _values_of(points).values())) == len(points)


def _searched(model: dict[str, Any], points: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one of the models that a grid search became with the search in it, in place of its own values."""
    model, search = copy.deepcopy(model), _values_of(points)
    for setting in search:
        *above, last = setting.split(".")
        inside = model
        for key in above:
            inside = inside[key]
        inside.pop(last, None)
    return {**model, "grid_search": search}


def role_of_source(dataset: str, layout: str) -> str:
    """Name the role of the path of a dataset's source."""
    kind = "case table" if layout == "table" else "folder"
    return f"the {kind} of dataset {dataset}"


def role_of_participants(dataset: str) -> str:
    """Name the role of a dataset's table of subjects."""
    return f"the table of subjects of dataset {dataset}"


def registry() -> dict[str, dict[str, Any]]:
    """Read the datasets that anybody may fetch or ask for, by name; their addresses are public."""
    path = shipped.RESOURCES / "datasets.yaml"
    return read_yaml(path) if path.is_file() else {}


def registered(study: Study) -> dict[str, dict[str, Any]]:
    """Return the entries of the registry whose data a study uses, by name or by address, in its order."""
    known, used = registry(), {}
    for dataset in study.datasets.values():
        if name := registered_name(dataset.source, known):
            used[name] = known[name]
    return used


def registered_name(source: Any, known: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the name of a source in the registry; None where it is not there."""
    url = getattr(source, "url", None)
    by_url = [name for name, entry in known.items() if url and entry.get("url") == url]
    name = getattr(source, "registered", None) or next(iter(by_url), None)
    return name if name in known else None


def _source(dataset: str, source: Any, called: Callable[[str], str]) -> Any:
    roles = {"path": role_of_source(dataset, source.layout)}
    if getattr(source, "url", None) not in {entry.get("url") for entry in registry().values()}:
        roles["url"] = f"the archive of dataset {dataset}"
    replaced = {key: role for key, role in roles.items() if getattr(source, key, None)}
    if isinstance(source, PluginSource):
        replaced["layout_plugin"] = called(source.layout_plugin)
    return source.model_copy(update=replaced)


def command(words: Iterable[str]) -> tuple[str, ...]:
    """Redact a command: the program by its name, and of the other words those that can be no path."""
    first, *others = words
    name = PurePath(first.replace("\\", "/")).name
    program = name if _PLAIN_WORD.fullmatch(name) else "program"
    return (program, *(word if _PLAIN_WORD.fullmatch(word) else "(a path)" for word in others))


def without_sources(text: str, study: Study) -> str:
    """Put a dataset's role in place of its very path in the author's own text."""
    for name, dataset in study.datasets.items():
        given = getattr(dataset.source, "path", None)
        role = role_of_source(name, dataset.source.layout)
        for path in sorted({given, str(Path(given).absolute())} if given else (), key=len)[::-1]:
            if len(PurePath(path).parts) > 1:
                text = text.replace(path, role)
    return text


def problems(results: Results, dataset: str) -> list[dict[str, str]]:
    """Return the audit's findings for readers: case, role of the file, problem and verdict of each."""
    cases = {case.case: case for case in results.cases(dataset)}
    return [
        {
            "case": row["case"],
            "file": role_of_file(row["file"], cases.get(row["case"])),
            "problem": stage_text(row["problem"]),
            "verdict": row["verdict"],
        }
        for _, row in results.problems(dataset).iterrows()
    ]


def role_of_file(file: str, case: Case | None = None) -> str:
    """Name the role of a file in its case; where no case is known, the kind of the file."""
    if case is not None and file:
        known = [
            *(("image", image) for image in case.images),
            ("label", case.label),
            ("label before its correction", case.delivered_label),
            ("second label", case.reference_label),
        ]
        for role, path in known:
            if path is not None and (str(path) == file or str(path).endswith(f"/{file}")):
                return role
    if not file or file in ROLES:
        return file
    if is_image(file):
        return "image file"
    return "table" if file.endswith((".tsv", ".csv", ".txt")) else "file"


def stage_text(text: object, instead: str = WITHHELD) -> str:
    """Return a text that a stage wrote where nothing in it can be a path; else the text `instead`."""
    text = "" if text is None or text != text else str(text)
    return instead if _FILE_LIKE.search(text) else text


def warned(warnings: pandas.DataFrame, published: bool) -> list[dict[str, str]]:
    """Return the lines of the logs that warn (stage, job, line).

    Parameters
    ----------
    warnings
        Of `Results.warnings`.
    published
        Whether only their number is told, a row a log.
    """
    if published:
        counts = warnings.groupby(["stage", "job"], sort=False).size()
        return [
            {"stage": stage, "job": job, "line": f"{count(number, 'line')}, in the log"}
            for (stage, job), number in counts.items()
        ]
    return [
        {**row, "line": stage_text(row["line"], f"(it names files: see {row['job']}.log)")}
        for row in warnings.to_dict("records")
    ]
