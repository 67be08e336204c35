"""Grid search in a study file: a model with `grid_search` stands for one model a combination of values.

    unet3d:
      network: unet
      grid_search: {channels: [[32, 64], [48, 96]], head.hidden: [32, 64]}

becomes the models unet3d_c32_h32, unet3d_c32_h64, unet3d_c48_h32 and unet3d_c48_h64.
"""

import copy
import itertools
import re
from typing import Any

MOST_MODELS = 64

Grids = dict[str, dict[str, dict[str, Any]]]
"""Entry of the study file -> model -> setting (`head.hidden`) -> its value in that model."""


def expand(models: dict[str, Any]) -> tuple[dict[str, Any], Grids]:
    """Replace each model with `grid_search` by one model a combination of values.

    Parameters
    ----------
    models
        The study file's `models`, as read.

    Returns
    -------
    models : dict
        In the order of the file.
    grids : dict
        Entry of the study file -> model -> setting (`head.hidden`) -> its value in that model.

    Raises
    ------
    ValueError
        With the key of the setting.
    """
    expanded: dict[str, Any] = {}
    grids: Grids = {}
    for entry, model in models.items():
        if not isinstance(model, dict) or "grid_search" not in model:
            combined = {entry: model}
        else:
            combined, grids[entry] = _combinations(entry, model)
        for name, settings in combined.items():
            if name in expanded or (name != entry and name in models):
                raise ValueError(
                    f"models.{entry}.grid_search: a model would be named {name}, as another one is; "
                    "rename one of them"
                )
            expanded[name] = settings
    return expanded, grids


def _combinations(
    entry: str, model: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    grid, key = model["grid_search"], f"models.{entry}.grid_search"
    if not isinstance(grid, dict) or not grid:
        raise ValueError(f"{key}: expected settings with lists of values, e.g. optimizer.lr: [...]")
    for path, values in grid.items():
        if not isinstance(path, str) or not isinstance(values, list) or not values:
            raise ValueError(f"{key}.{path}: expected a list of values, and at least one")
        if path.split(".")[0] in ("grid_search", "network", "trainer"):
            raise ValueError(
                f"{key}.{path}: not in a grid search; give each {path} a model of its own"
            )
        for other in grid:
            if other != path and str(other).startswith(f"{path}."):
                raise ValueError(
                    f"{key}.{other}: is part of {path}, which the grid search sets too"
                )
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > MOST_MODELS:
        raise ValueError(f"{key}: {count} combinations; expected at most {MOST_MODELS}")
    short = _short(list(grid))
    labels = {path: _labels(f"{key}.{path}", values) for path, values in grid.items()}
    base = {name: value for name, value in model.items() if name != "grid_search"}
    models, chosen = {}, {}
    for choices in itertools.product(*[range(len(values)) for values in grid.values()]):
        point = {path: grid[path][choice] for path, choice in zip(grid, choices, strict=True)}
        parts = [f"{short[p]}{labels[p][choice]}" for p, choice in zip(grid, choices, strict=True)]
        name = "_".join([entry, *parts])
        models[name] = _with(base, point, key)
        chosen[name] = point
    return models, chosen


def _with(base: dict[str, Any], point: dict[str, Any], key: str) -> dict[str, Any]:
    """Copy a model's settings, with one combination of values put in."""
    copied = copy.deepcopy(base)
    for path, value in point.items():
        *above, last = path.split(".")
        settings = copied
        for part in above:
            inner = settings.get(part)
            if inner is None:
                inner = settings[part] = {}
            if not isinstance(inner, dict):
                raise ValueError(f"{key}.{path}: {part} has no settings of its own, but a value")
            settings = inner
        settings[last] = copy.deepcopy(value)
    return copied


def _short(paths: list[str]) -> dict[str, str]:
    """Shorten each setting: c for channels, lr for optimizer.lr, bs for batch_size.

    Where two are alike, the setting's last word is taken; where those are, the whole path.
    """
    last = [path.rsplit(".", 1)[-1] for path in paths]
    initials = [word if len(word) < 3 else "".join(w[0] for w in word.split("_")) for word in last]
    forms = zip(initials, last, (path.replace(".", "_") for path in paths), strict=True)
    return {
        path: next(
            (form for form, all_ in zip(candidates[:2], (initials, last), strict=True)
             if all_.count(form) == 1),
            candidates[2],
        )
        for path, candidates in zip(paths, forms, strict=True)
    }  # fmt: skip


def _labels(key: str, values: list[Any]) -> list[str]:
    """Label each value by letters and digits: 32, 0p001, on; a list by its first value if that is unique."""
    for label in (_first, _whole):
        labels = [label(value) for value in values]
        if len(set(labels)) == len(labels):
            return labels
    raise ValueError(f"{key}: a value stands twice, or two have one name: {', '.join(labels)}")


def _first(value: Any) -> str:
    if isinstance(value, list) and value:
        return _first(value[0])
    if isinstance(value, dict) and "name" in value:
        return _first(value["name"])
    return _whole(value)


def _whole(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return "_".join(map(_whole, value)) or "none"
    if isinstance(value, dict):
        return "_".join(f"{name}{_whole(inner)}" for name, inner in value.items()) or "default"
    if isinstance(value, float):
        value = f"{value:g}"
    text = str(value).lower().replace(".", "p").replace("-", "m").replace("+", "")
    return re.sub(r"[^a-z0-9]+", "_", text).strip("_") or "none"
