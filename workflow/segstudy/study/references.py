"""The places of a study file where a plug-in may stand, and what is done with all of them at once."""

from collections.abc import Callable, Mapping
from typing import Any

from segstudy import plugins
from segstudy.errors import InputError

Keys = tuple[Any, ...]

PLACES: dict[Keys, str] = {
    ("datasets", "*", "source", "layout_plugin"): "list_cases",
    ("models", "*", "network_plugin"): "Network",
    ("models", "*", "trainer_plugin"): "Trainer",
    ("models", "*", "trainer_class"): "nnUNetTrainer",
    ("models", "*", "planner"): "ExperimentPlanner",
    ("models", "*", "loss", "plugins"): "loss",
    ("models", "*", "augmentation", "plugins"): "augment",
    ("metrics", "plugins"): "METRIC",
    ("publish", "figures"): "draw",
}
"""Where references stand, as a text, a list of texts or a mapping by text, and what each is called by default."""

ITS_OWN_KEY = "_plugin"
"""What ends the key that holds the reference which a person writes as `network`, `trainer` or `layout`."""

Change = Callable[[Keys, str, str], str]
"""Given the keys of a reference, its text and its default name; returns what stands there then."""


def with_kinds(model: Any) -> Any:
    """Return a model, as a study file has it, with `network: FILE.py` or `trainer: FILE.py` as the kind `plugin`.

    The reference is then in `network_plugin` or `trainer_plugin`.
    """
    if not isinstance(model, Mapping):
        return model
    network, trainer = model.get("network"), model.get("trainer")
    if plugins.is_reference(trainer):
        return {**model, "trainer": "plugin", "trainer_plugin": trainer}
    if plugins.is_reference(network):
        return {**model, "network": "plugin", "network_plugin": network}
    return model


def source_with_kind(source: Any) -> Any:
    """Return a dataset's source, as a study file has it, with `layout: FILE.py` as the kind `plugin`.

    The reference is then in `layout_plugin`.
    """
    if isinstance(source, Mapping) and plugins.is_reference(source.get("layout")):
        return {**source, "layout": "plugin", "layout_plugin": source["layout"]}
    return source


def as_written(content: Any) -> Any:
    """Return settings as a person writes them: `network: FILE.py` in place of the kind `plugin` and its reference."""
    if isinstance(content, (list, tuple)):
        return [as_written(value) for value in content]
    if not isinstance(content, Mapping):
        return content
    found = {key: as_written(value) for key, value in content.items()}
    for key, value in content.items():
        kind = str(key).removesuffix(ITS_OWN_KEY)
        if kind != key and content.get(kind) == "plugin":
            found[kind] = value
            del found[key]
            if kind == "trainer":
                found.pop(
                    "network", None
                )  # follows from it, and is not in a file that a person wrote
    return found


def replaced(content: Any, change: Change, above: Keys = ()) -> Any:
    """Replace every reference to a plug-in.

    Parameters
    ----------
    content
        Settings as plain values; they stay as they are.
    change
        Gives what each reference is replaced by.
    above
        Where `content` stands in a study file, e.g. `("models", "unet")`; left out: at its top.

    Returns
    -------
    The settings, with other references.
    """
    for place, default in PLACES.items():
        inside = place[len(above) :]
        if len(place) > len(above) and all(
            step in ("*", key) for step, key in zip(place, above, strict=False)
        ):
            content = _at(
                content, inside, above, lambda keys, text, d=default: change(keys, text, d)
            )
    return content


def _at(content: Any, place: Keys, keys: Keys, change: Callable[[Keys, str], str]) -> Any:
    if not place:
        return _changed(content, keys, change)
    if not isinstance(content, Mapping):
        return content
    step, *further = place
    for name in list(content) if step == "*" else [step]:
        if name in content:
            inner = _at(content[name], tuple(further), (*keys, name), change)
            content = {**content, name: inner}
    return content


def _changed(value: Any, keys: Keys, change: Callable[[Keys, str], str]) -> Any:
    """Replace a reference, those of a list, or those that name the values of a mapping."""
    if isinstance(value, Mapping):
        found = {
            change((*keys, text), text) if isinstance(text, str) else text: one
            for text, one in value.items()
        }
        if len(found) < len(value):  # ./a.py beside a.py: one would be lost
            raise InputError(
                f"{'.'.join(map(str, keys))}: {', '.join(map(str, value))}: two of them are one plug-in; name it once"
            )
        return found
    if isinstance(value, (list, tuple)):
        return [
            change((*keys, place), text) if isinstance(text, str) else text
            for place, text in enumerate(value)
        ]
    return change(_written(keys), value) if plugins.is_reference(value) else value


def _written(keys: Keys) -> Keys:
    """Return the keys as a person writes them: `network` where the settings have `network_plugin`."""
    return (*keys[:-1], str(keys[-1]).removesuffix(ITS_OWN_KEY))


def listed(content: Any, above: Keys = ()) -> dict[str, str]:
    """Return all references of settings: the key in a study file, e.g. `models.own.network` -> reference.

    Parameters
    ----------
    content, above
        As `replaced` has them.
    """
    found: dict[str, str] = {}

    def note(keys: Keys, text: str, default: str) -> str:
        found[".".join(map(str, keys))] = text
        return text

    replaced(content, note, above)
    return found


def identified(content: Any, above: Keys = ()) -> Any:
    """Return settings with the label and the digest of each plug-in in place of where it lies.

    Two folders with the same plug-in have the same results, so finished work is kept under these.

    Parameters
    ----------
    content, above
        As `replaced` has them.
    """
    return replaced(content, lambda keys, text, default: described(text), above)


def labelled(content: Any, above: Keys = ()) -> Any:
    """Return settings with the label of each plug-in, which people are shown, in place of where it lies."""
    return replaced(content, lambda keys, text, default: plugins.reference(text).label, above)


def provenance(content: Any, above: Keys = ()) -> dict[str, str]:
    """Return label and digest of every plug-in, by its key, in which its label stands too: nothing tells where it lies.

    Parameters
    ----------
    content, above
        As `replaced` has them.
    """
    keys = listed(labelled(content, above), above)
    return dict(zip(keys, map(described, listed(content, above).values()), strict=True))


def described(text: str) -> str:
    """Return the label and the digest of a plug-in."""
    return f"{plugins.reference(text).label} {plugins.digest(text)}"
