"""The study file of the zip: what the user wrote, with a role in place of each path, ready to be read again."""

import copy
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segstudy import paths, plugins, source_code
from segstudy.errors import InputError
from segstudy.log import log
from segstudy.package_files import PLUGINS
from segstudy.publish.anonymous import renamed_study
from segstudy.publish.redaction import label, redacted, settings_yaml, yaml_text
from segstudy.study import (
    AnyModel,
    ExternalModel,
    PredictionsModel,
    Study,
    as_written,
    read_study,
    references,
)
from segstudy.study.old_names import OldName, setting_by_todays_name
from segstudy.study.study import SCHEMA_VERSION
from segstudy.yaml_edits import YamlText
from segstudy.yaml_files import parse_yaml

REMARK_WITHHELD = "# (a remark that names files is left out)"
PLACES = ("path", "url")
"""Keys of a dataset's source for which a role stands."""
_FOR_EDITORS = re.compile(r"#\s*yaml-language-server:")

Edits = list[tuple[Sequence[Any], Any]]
"""Keys from the top down, and the value that stands there instead."""


def write_settings(
    path: Path,
    study: Study,
    file: Path | None,
    tells: Callable[[str], bool],
    names: Mapping[str, Mapping[str, str]] | None = None,
) -> list[str]:
    """Write the study file `path`, which reads as the study that ran, and list what is to be filled in.

    Keys that have new names come out under these; `name` and `schema_version` are put in where they were left
    out. Remarks stay, unless they tell something or names are replaced.

    Parameters
    ----------
    path
        The file to write.
    study
        The study that ran, as its results have it.
    file
        The study file that the user wrote; None where it is not known: then every setting is written.
    tells
        Whether a text tells a path or a name.
    names
        Of `anonymous.numbered`, where cases get numbers for names.

    Returns
    -------
    A part of a sentence for each setting that has a role in place of a path or a name.

    Raises
    ------
    InputError
        Where the study file says something else than the study that ran.
    """
    if file is None:
        located = _located(study.model_dump())
        moved = copied_plugins(located, path.parent, tells, is_anonymous=bool(names))
        text = settings_yaml(study, lambda text: moved.get(text, label(text)))
        path.write_text(text, encoding="utf-8")
        return list(_gaps(redacted(study).model_dump(mode="json"), names))
    whole = _read_quietly(file)
    if names:
        whole = renamed_study(whole, names)
    if not study.partial:
        _check_same(whole, study, file)
    content, old_names = as_written(file)
    edits = _edits(content, redacted(whole))
    located = _located(content, file)
    moved = copied_plugins(located, path.parent, tells, is_anonymous=bool(names))
    texts = [lambda: _dumped(content, edits, moved, study.name)]
    if not names:
        texts.insert(0, lambda: _edited(file, edits, moved, old_names, content, study.name, tells))
    problem = "its values would be others; write its aliases (`*name`, `<<`) out"
    for text in texts:
        path.write_text(text(), encoding="utf-8")
        try:
            if _comparable(_read_quietly(path)) == _comparable(whole):
                return list(_gaps(as_written(path)[0], names))
        except InputError as error:
            problem = str(error)
        log.warning("%s: its layout and remarks are not kept in the zip, only what it says", file)
    raise InputError(f"{file}: cannot be written so that it reads as the same study: {problem}")


def _located(content: dict[str, Any], file: Path | None = None) -> dict[str, str]:
    """Return the references to plug-ins that are files: as written -> with the file's absolute path.

    Parameters
    ----------
    content
        Settings as plain values.
    file
        The study file that says them, from whose folder paths are taken; None: from the working directory.
    """
    found = {}
    for key, text in references.listed(content).items():
        written = plugins.reference(text)
        if written.is_file:
            place = written.place
            if file:
                place = paths.from_study_file(place, file, f"{file}: {key}")
            found[text] = str(replace(written, place=str(Path(place).absolute())))
    return found


def copied_plugins(
    located: Mapping[str, str], top: Path, tells: Callable[[str], bool], is_anonymous: bool
) -> dict[str, str]:
    """Copy the files of plug-ins, and those beside them that they import, into the folder `plugins`.

    A warning names each comment and text that tells something.

    Parameters
    ----------
    located
        Reference as written -> with the file's absolute path.
    top
        The folder of the study file that is published.
    tells
        Whether a text tells a path or a name.
    is_anonymous
        Whether the code goes without comments and docstrings, where people name themselves.

    Returns
    -------
    Reference as written -> as it is written there. Each folder of the user's becomes one of its own.

    Raises
    ------
    InputError
        Where code that is to name nobody tells something: with file, line and text.
    """
    folders: dict[Path, str] = {}
    moved = {}
    for text, reference in located.items():
        found = plugins.reference(reference)
        placed = Path(found.place)
        name = PLUGINS if not folders else f"{PLUGINS}_{len(folders) + 1}"
        folder = folders.setdefault(placed.parent, name)
        for part in plugins.files(str(placed)):
            target = top / folder / part.relative_to(placed.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_published(part, tells, is_anonymous))
        moved[text] = str(replace(found, place=f"{folder}/{placed.name}"))
    return moved


def _published(file: Path, tells: Callable[[str], bool], is_anonymous: bool) -> bytes:
    """Return a plug-in's source as it is published; parameters and errors are those of `copied_plugins`."""
    source = file.read_bytes()
    for number, text in source_code.words(source, of_code=is_anonymous):
        if not tells(text):
            continue
        words = f"{file}, line {number}: tells a path or a name: {text.strip()!r}"
        if is_anonymous:
            raise InputError(f"{words}; --anonymous publishes this code: say it without")
        log.warning("%s; it goes into the zip as it is", words)
    if not is_anonymous:
        return source
    bare = source_code.bare(source)
    if source_code.parse(bare) != source_code.parse(source):
        raise InputError(
            f"{file}: its code would be other without comments, which --anonymous leaves out; take them out yourself"
        )
    return bare


def write_resolved(path: Path, study: Study, settings: Path) -> None:
    """Write every setting of a study as a study file; plug-ins are those that `settings`, beside it, names.

    Raises
    ------
    InputError
        Where it does not read as the study that ran.
    """
    there = _located(as_written(settings)[0], settings)
    # Two folders may hold files of one name, so code is known by its digest.
    places = {references.described(located): text for text, located in there.items()}
    text = settings_yaml(study, lambda text: places.get(references.described(text), label(text)))
    path.write_text(text, encoding="utf-8")
    # What is not done is known to the results alone, and a grid search with it.
    unsaid = {"partial", "grids"} if study.partial else {"partial"}
    changed = [key for key in _changed(study, _read_quietly(path)) if key not in unsaid]
    if changed:
        raise InputError(
            f"{path.name} cannot be written so that it reads as the study that ran: {changed[0]} would be other; "
            "please report this study file as a fault of segstudy"
        )


def _read_quietly(file: Path) -> Study:
    """Read a study file without the notes, which were said when it ran."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return read_study(file)
    finally:
        log.setLevel(level)


def _comparable(study: Study) -> dict[str, Any]:
    """Return what a study says but for paths, commands and words, which are not published as they are."""
    left_out = {"schema_version", "title", "description", "reporting", "corrections"}
    content = study.model_dump(mode="json", exclude=left_out)
    (content["ratings"] or {}).pop("files", None)
    for dataset in content["datasets"].values():
        dataset.pop("participants", None)
        for key in PLACES:
            dataset["source"].pop(key, None)
        (dataset["repair"] or {}).pop("reference_case", None)
    for model in content["models"].values():
        for key in ("command", "files", "training_splits", "initial_weights"):
            model.pop(key, None)
    return references.identified(content)  # by their code, wherever it lies


def _changed(ran: Study, read: Study) -> list[str]:
    """List the keys of a study that ran which say something else in one that was read."""
    before, now = _comparable(ran), _comparable(read)
    return [key for key in before if before[key] != now[key]]


def _check_same(read: Study, ran: Study, file: Path) -> None:
    """Refuse a study file that was changed since the study ran."""
    changed = _changed(ran, read)
    if read.reporting != ran.reporting:
        changed.append("reporting")
    if changed:
        raise InputError(
            f"{file}: {changed[0]}: says something else than the settings of these results; run the study again, "
            "then pack it"
        )


def _edits(content: dict[str, Any], public: Study) -> Edits:
    """List the values of a study file that are published otherwise."""
    edits: Edits = []
    # Of datasets that share a source, one role stands for all, and stays when the zip's own file is packed.
    roles = {getattr(one.source, key, None) for one in public.datasets.values() for key in PLACES}

    def put(above: Sequence[Any], key: str, new: Any) -> None:
        inside = content
        for part in above:
            inside = inside[part]
        if inside.get(key) is not None and inside[key] != new:
            edits.append(((*above, key), new))

    for key in ("title", "description"):
        put((), key, getattr(public, key))
    stated = public.reporting.model_dump(mode="json")
    for key, value in stated.items():
        if key not in (content.get("reporting") or {}):
            continue
        if not isinstance(value, dict):
            put(("reporting",), key, value)
        for inner in value if isinstance(value, dict) else ():
            put(("reporting", key), inner, value[inner])
    put((), "corrections", public.corrections)
    if public.ratings and content.get("ratings"):
        put(("ratings",), "files", list(public.ratings.files))
    for name, dataset in public.datasets.items():
        for key in PLACES:
            if content["datasets"][name]["source"].get(key) not in roles:
                put(("datasets", name, "source"), key, getattr(dataset.source, key, None))
        put(("datasets", name), "participants", dataset.participants)
        if dataset.repair:
            put(("datasets", name, "repair"), "reference_case", dataset.repair.reference_case)
    for name, model in public.models.items():
        if isinstance(model, ExternalModel):
            put(("models", name), "command", list(model.command))
        if isinstance(model, PredictionsModel):
            put(("models", name), "files", model.files)
            put(("models", name), "training_splits", model.training_splits)
        if getattr(model, "initial_weights", None):
            put(("models", name), "initial_weights", model.initial_weights)
    return edits


def _edited(
    file: Path,
    edits: Edits,
    moved: Mapping[str, str],
    old_names: Iterable[OldName],
    content: dict[str, Any],
    name: str,
    tells: Callable[[str], bool],
) -> str:
    """Return the user's own text with the edits in it."""
    source = file.read_text(encoding="utf-8")
    text = YamlText(source, str(file))
    for old in old_names:
        text.rename(old.place, old.today)
        if old.place[2:3] == ("grid_search",):  # which may be called `grid` in the file
            text.rename((*old.place[:2], "grid", *old.place[3:]), old.today)
    written = parse_yaml(source, str(file)).get("models") or {}
    for entry, model in content["models"].items():
        for key in ("grid_search", "grid"):
            for setting in written[entry].get(key) or ():
                today = setting_by_todays_name(AnyModel, model, setting)[0]
                if today != setting:
                    text.rename(("models", entry, key, setting), today)
    for keys, value in edits:
        text.put(_by_written_names(keys, old_names), value)

    def move(keys: Sequence[Any], reference: str, default: str) -> str:
        new = moved.get(reference, reference)
        if new != reference and keys[-1] == reference:  # what names the values of a mapping
            text.rename(keys, new)
        elif new != reference:
            text.put(keys, new)
        return reference

    references.replaced(content, move)
    text.begin_with({"schema_version": SCHEMA_VERSION, "name": name})

    def remark(words: str) -> str:
        if _FOR_EDITORS.match(words):
            return ""
        return REMARK_WITHHELD if tells(words) else words

    return text.text(remark)


def _by_written_names(keys: Sequence[Any], old_names: Iterable[OldName]) -> Sequence[Any]:
    """Return keys as the file has them, where the last one was renamed."""
    for old in old_names:
        if (*old.place[:-1], old.today) == tuple(keys):
            return old.place
    return keys


def _dumped(content: dict[str, Any], edits: Edits, moved: Mapping[str, str], name: str) -> str:
    """Return what the user wrote, written anew."""
    content = references.replaced(content, lambda keys, text, _: moved.get(text, text))
    written = copy.deepcopy({"schema_version": SCHEMA_VERSION, "name": name, **content})
    written["schema_version"] = SCHEMA_VERSION
    for (*above, last), value in edits:
        inside = written
        for key in above:
            inside = inside[key]
        inside[last] = value
    return yaml_text(references.as_written(written))


def _gaps(content: Mapping[str, Any], names: Mapping | None) -> Iterator[str]:
    """List the settings that have a role in place of a path or a name."""
    if content.get("corrections"):
        yield f"`corrections` is {content['corrections']}"
    for name, dataset in content["datasets"].items():
        for key in PLACES:
            role = dataset["source"].get(key)
            if role and "://" not in role:
                yield f"`datasets.{name}.source.{key}` is {role}"
        if dataset.get("participants"):
            yield f"`datasets.{name}.participants` is {dataset['participants']}"
        if names and (dataset.get("repair") or {}).get("reference_case"):
            yield f"`datasets.{name}.repair.reference_case` is the name of a case"
    for name, model in content["models"].items():
        if "(a path)" in model.get("command", ()):
            yield f"`models.{name}.command` lacks its paths"
        for key in ("files", "training_splits", "initial_weights"):
            if str(model.get(key) or "").startswith("("):
                yield f"`models.{name}.{key}` is {model[key]}"
