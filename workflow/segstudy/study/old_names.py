"""Keys by the names of the version before: today's names in their place, and a note of each."""

import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segstudy.study.settings import Settings
from segstudy.study.validation_errors import Keys, settings_in
from segstudy.words import count

TAGS = ("layout", "network", "trainer")
"""Keys whose values tell apart settings that may stand in one place."""


@dataclass(frozen=True)
class OldName:
    """Hold a key that was written by its old name.

    Parameters
    ----------
    place
        The key, with its old name last.
    today
        The name that it has now.
    """

    place: Keys
    today: str


def by_todays_names(annotation: Any, content: Any, place: Keys = ()) -> tuple[Any, list[OldName]]:
    """Rename keys that have old names, at any depth.

    Parameters
    ----------
    annotation
        Settings class, or type of a field, that `content` is to fit.
    content
        Plain values, as read; nothing in them is changed.
    place
        Keys above `content`.

    Returns
    -------
    The values with today's keys, and what was renamed. Where a key stands by both names, or the values fit no
    settings, they are left as they are, for validation to refuse.
    """
    if not isinstance(content, dict):
        return content, []
    if typing.get_origin(annotation) is dict:
        annotations = dict.fromkeys(content, typing.get_args(annotation)[1])
        today: dict[Any, str] = {}
    else:
        kinds = [kind for kind in settings_in(annotation) if _fits(kind, content)]
        annotations = {
            key: at.annotation for kind in kinds for key, at in kind.model_fields.items()
        }
        today = {
            old: new
            for kind in kinds
            for old, new in kind.old_names.items()
            if old in content and new not in content
        }
    renamed: dict[Any, Any] = {}
    old_names = [OldName((*place, old), new) for old, new in today.items()]
    for key, value in content.items():
        name = today.get(key, key)
        renamed[name], inside = by_todays_names(annotations.get(name), value, (*place, key))
        old_names += inside
    return renamed, old_names


def _fits(kind: type[Settings], content: dict) -> bool:
    """Return whether values may be of a settings class, by the keys that tell classes apart."""
    return all(
        content[tag] in typing.get_args(kind.model_fields[tag].annotation)
        for tag in TAGS
        if tag in content and tag in kind.model_fields
    )


def setting_by_todays_name(
    annotation: Any, content: dict, setting: str
) -> tuple[str, list[OldName]]:
    """Rename the parts of a setting of a grid search that have old names.

    Parameters
    ----------
    annotation
        Type of the model.
    content
        The model's settings, which tell what network it is.
    setting
        Keys joined by dots, such as `augmentation.noise_share`.

    Returns
    -------
    The setting by today's names, and what was renamed, from the model on.
    """
    nested: Any = None
    for part in reversed(setting.split(".")):
        nested = {part: nested}
    tags = {tag: content[tag] for tag in TAGS if tag in content}
    _, old_names = by_todays_names(annotation, nested | tags)
    parts = setting.split(".")
    for old_name in old_names:
        parts[len(old_name.place) - 1] = old_name.today
    return ".".join(parts), old_names


def values_by_todays_names(
    annotation: Any, content: dict, setting: str, values: list
) -> tuple[list, list[OldName]]:
    """Rename keys that have old names in the values of a setting of a grid search.

    Parameters
    ----------
    annotation
        Type of the model.
    content
        The model's settings, which tell what network it is.
    setting
        Keys joined by dots, by today's names.
    values
        What the search tries.

    Returns
    -------
    The values by today's names, and what was renamed, from the values on: their number, then keys.
    """
    tags = {tag: content[tag] for tag in TAGS if tag in content}
    parts, renamed, old_names = setting.split("."), [], []
    for number, value in enumerate(values):
        nested = value
        for part in reversed(parts):
            nested = {part: nested}
        inside, old_here = by_todays_names(annotation, nested | tags)
        for part in parts:
            inside = inside[part]
        renamed.append(inside)
        old_names += [OldName((number, *old.place[len(parts) :]), old.today) for old in old_here]
    return renamed, old_names


def _is_searched(place: Keys) -> bool:
    """Return whether a key is in a grid search, whose models are named by its settings and values."""
    return len(place) > 3 and place[0] == "models" and place[2] in ("grid_search", "grid")


def notes(
    old_names: Iterable[OldName], file: Path | str, place: Callable[[Keys], str]
) -> list[str]:
    """Return one note for each old name: the file, the first place of the key, and today's name.

    Parameters
    ----------
    old_names
        What was renamed.
    file
        Where it stands.
    place
        Gives the place of a key in the file, such as `, line 3, column 5`.
    """
    places: dict[tuple[str, str], list[Keys]] = {}
    for old_name in old_names:
        places.setdefault((old_name.place[-1], old_name.today), []).append(old_name.place)
    return [
        f"{file}{place(first)}: {'.'.join(map(str, first))} is called {today} now"
        + (f", here and in {count(len(more), 'more place')}" if more else "")
        + f"; rename it, as the next version refuses {old}"
        + (
            "; the models of the grid search are named by it"
            if any(map(_is_searched, (first, *more)))
            else ""
        )
        for (old, today), (first, *more) in places.items()
    ]
