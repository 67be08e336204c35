"""Messages for what pydantic refuses: the key, what was found, what is allowed."""

import difflib
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from segstudy.study.models import AnyModel
from segstudy.study.settings import INTERNAL, kinds_of
from segstudy.study.sources import Source

Keys = tuple[Any, ...]
"""Keys from the top of a study file down to one of them; numbers are items of a list."""


def describe(
    error: ValidationError,
    file: Path | str,
    kind: type[BaseModel],
    place: Callable[[Keys], str] = lambda keys: "",
) -> str:
    """Describe a validation error in lines: file, place, key, what was found, what is allowed.

    Parameters
    ----------
    error
        What pydantic raised.
    file
        Where the settings come from.
    kind
        The settings class that they did not fit.
    place
        Gives the place of a key in the file, such as `, line 3, column 5`.
    """
    lines = []
    for problem in error.errors():
        keys, message = _keys(problem), _message(problem, kind)
        named = keys_named_by(message)
        shown = f"{'.'.join(map(str, keys)) or '(top level)'}: {message}"
        if not keys and named[:1] and named[0] in kind.model_fields:
            shown = message  # which begins with the key itself
        lines.append(f"{file}{place((*keys, *named))}: {shown}")
    return "\n".join(dict.fromkeys(lines))


def keys_named_by(message: str) -> Keys:
    """Return the keys that a message begins with: models and unet of `models.unet: ...`."""
    found = re.match(r"([\w.]+): ", message)
    return tuple(found[1].split(".")) if found else ()


GONE = {
    "when_not_normal": "write rule: swap (the default), or rule: shapiro_then_wilcoxon or "
    "shapiro_then_mannwhitneyu with correction: holm",
    "bootstrap": "the interval shown is the inversion of the test: leave it out",
}
"""Keys of `statistics` in version 0.1 that no other key stands for, with what to write."""


def _allowed_instead(found: str, allowed: list[str], among: str) -> str:
    """Word the end of a message on a word that is not allowed: the one that was likely meant, and all there are."""
    near = difflib.get_close_matches(found, allowed, n=1)
    return (f"; did you mean {near[0]}? " if near else ". ") + f"{among}: {', '.join(allowed)}"


def _keys(problem: ErrorDetails) -> Keys:
    """Return the keys of the file down to the one that a problem is about."""
    loc = problem["loc"]
    unknown = problem["type"] == "extra_forbidden"  # the last step is what a person wrote
    keys = tuple(
        part
        for position, part in enumerate(loc)
        if (unknown and position == len(loc) - 1) or not _is_tag(loc, position)
    )
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        keys += (problem["ctx"]["discriminator"].strip("'"),)
    return keys


def _message(problem: ErrorDetails, kind: type[BaseModel]) -> str:
    """Word what was found at the key, and what was expected."""
    loc, context = problem["loc"], problem.get("ctx", {})
    match problem["type"]:
        case "missing" | "union_tag_not_found":
            return "this key is missing"
        case "value_error":
            return str(context["error"])
        case "extra_forbidden":
            keys = keys_at(kind, loc[:-1])
            if str(loc[-1]) in GONE and loc[0] == "statistics":
                return f"this key is gone; {GONE[str(loc[-1])]}"
            places = _places_of(str(loc[-1]), kind, _keys(problem)[:-1])
            if places:
                allowed = f"Allowed here: {', '.join(keys)}"
                return f"unknown key; it belongs into {' or '.join(places)}. {allowed}"
            return "unknown key" + _allowed_instead(str(loc[-1]), keys, "Allowed here")
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            tags = [tag for tag in tags if not tag.startswith("plugin")]
            example = {"network": "./my_net.py", "layout": "./my_layout.py"}
            written = example.get(context["discriminator"].strip("'"))
            return (
                f"found {context['tag']!r}"
                + _allowed_instead(context["tag"], tags, "Allowed")
                + (f", or a plug-in ({written})" if written else "")
            )
    if problem["type"] == "string_type" and problem["input"] is None:
        meaning = _description_at(kind, loc)
        return (
            "found nothing, expected text; YAML takes what follows a # for a remark, so that text with a # stands in "
            "quotes" + (f" ({meaning})" if meaning else "")
        )
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    meaning = _description_at(kind, loc)
    return f"found {shown}. {problem['msg']}" + (f" ({meaning})" if meaning else "")


_TAGS = {*kinds_of(Source), *kinds_of(AnyModel)}
_UNION_BRANCHES = ("literal[", "tuple[", "constrained-", "function-", "lax-or-strict", "nullable")


def _is_tag(loc: tuple, position: int) -> bool:
    """Return whether a step of pydantic's location names a union's branch and not a key of the file."""
    part = loc[position]
    if not isinstance(part, str):
        return False
    if part.startswith(_UNION_BRANCHES) or part in ("float", "int", "str", "bool"):
        return True
    above = loc[:position]
    return part in _TAGS and (
        (len(above) == 3 and above[0] == "datasets" and above[2] == "source")
        or (len(above) == 2 and above[0] == "models")
        or (len(above) == 1 and above[0] == "model")
    )


def settings_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings classes that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in settings_in(part)]


def _step(kinds: list[type[BaseModel]], loc: tuple) -> tuple[list[type[BaseModel]], Any]:
    """Follow a location through the types; the settings classes there, and the last field."""
    field = None
    for part in loc:
        tagged = [
            kind
            for kind in kinds
            for name in ("layout", "network")
            if name in kind.model_fields
            and part in typing.get_args(kind.model_fields[name].annotation)
        ]
        if tagged:
            kinds = tagged
            continue
        for kind in kinds:
            if part in kind.model_fields:
                field = kind.model_fields[part]
                kinds = settings_in(field.annotation)
                break
    return kinds, field


MOST_PLACES = 3
"""A key that stands in more places than these, such as `name`, was meant for none of them in particular."""


def _places_of(key: str, kind: type[BaseModel], found: Keys) -> list[str]:
    """Return where in a study file a key belongs, such as `datasets.<name>`; none where it has too many places.

    found: the place where it stands, which is not told: there it is one of another kind, as of another network.
    """
    places: dict[tuple[str, ...], None] = {}
    waiting: list[tuple[type[BaseModel], tuple[str, ...]]] = [(kind, ())]
    seen = set()
    for settings, place in waiting:
        if settings in seen:
            continue
        seen.add(settings)
        for name, field in settings.model_fields.items():
            if field.json_schema_extra == INTERNAL:
                continue
            if name == key:
                places[place] = None
            inside = (*place, name, *(["<name>"] if _is_by_name(field.annotation) else []))
            waiting += [(inner, inside) for inner in settings_in(field.annotation)]
    here = [
        place for place in places if len(place) == len(found) and all(map(_is_same, place, found))
    ]
    if here or len(places) > MOST_PLACES:
        return []
    return [".".join(place) or "the top level of the file" for place in places]


def _is_same(part: str, found: Any) -> bool:
    return part in ("<name>", found)


def _is_by_name(annotation: Any) -> bool:
    """Tell whether settings stand below names that a person gives."""
    parts = typing.get_args(annotation)
    return typing.get_origin(annotation) is dict or any(map(_is_by_name, parts))


def keys_at(kind: type[BaseModel], loc: tuple) -> list[str]:
    """Return the keys that may stand at a location; none where a person gives names, or below a value."""
    kinds, _ = _step([kind], loc)
    return list(
        dict.fromkeys(
            name
            for settings in kinds
            for name, field in settings.model_fields.items()
            if field.json_schema_extra != INTERNAL
        )
    )


def _description_at(kind: type[BaseModel], loc: tuple) -> str:
    _, field = _step([kind], loc)
    return (field.description or "") if field is not None else ""
