"""The data of the report's case viewer and of its markers, as one JSON text inside the page."""

import json
import math
import re
from collections.abc import Iterator

from markupsafe import Markup

from segstudy.publish.results import Results
from segstudy.publish.words import chosen_metrics


def explorer(results: Results, layers: dict, images: bool = True, folder: str = "") -> Markup:
    """Return the values of every case, the slices through it, and the markers that open it, as JSON for the page.

    Parameters
    ----------
    results
        The results of the study.
    layers
        As `layers.layers` gives it.
    images
        Whether slices are included.
    folder
        Where the slices lie as `slice_files`, if not in the text.
    """
    study = results.study
    look = results.look
    metrics = [
        chosen_metric
        for chosen_metric in chosen_metrics(study.publish.metrics, study)
        if _measured(results, chosen_metric.name)
    ]
    names = [chosen_metric.name for chosen_metric in metrics]
    content = {
        "models": look.models,
        "modelNames": look.model_names,
        "structures": {name: look.structure(name) for name in look.regions},
        "outlined": look.structures,
        "colours": {name: look.structure_colours[name] for name in look.structures},
        "modelColours": look.model_colours,
        "metrics": [
            {
                "name": shown_metric.name,
                "title": shown_metric.axis,
                "better": shown_metric.direction,
                "digits": shown_metric.digits,
            }
            for shown_metric in metrics
        ],
        "datasets": {
            dataset: {
                "values": {name: _values(results, dataset, name) for name in names},
                "slices": _slices(layers, dataset, folder) if images else {},
            }
            for dataset in study.tested_datasets
        },
        "markers": layers["markers"],
    }
    return json_in_page(content)


def slice_files(layers: dict) -> Iterator[tuple[str, str]]:
    """Yield name and text of a script a case, which hands its slices to the page."""
    for dataset, slices_of in layers["cases"].items():
        names = _file_names(dataset, slices_of)
        for case, slices in slices_of.items():
            arguments = ", ".join(json.dumps(part) for part in (dataset, case, slices))
            yield names[case], f"slicesArrived({arguments});\n"


def _slices(layers: dict, dataset: str, folder: str) -> dict:
    slices_of = layers["cases"][dataset]
    if not folder:
        return slices_of
    return {case: f"{folder}/{name}" for case, name in _file_names(dataset, slices_of).items()}


def _file_names(dataset: str, slices_of: dict) -> dict[str, str]:
    """Give each case a file name that is sound in every file system and address."""
    return {case: f"{dataset}-{number:04d}.js" for number, case in enumerate(slices_of, 1)}


def json_in_page(content) -> Markup:
    """Write JSON that can stand in a script element: nothing in it can end the element, or a line of a script."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(re.sub("[<\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text))


def _measured(results: Results, name: str) -> bool:
    return bool((results.metrics["metric"] == name).any())


def _values(results: Results, dataset: str, name: str) -> dict[str, dict[str, list]]:
    """Return a value a model by case and structure; null undefined, `inf` infinite."""
    by_case: dict[str, dict[str, list]] = {}
    place = {model: index for index, model in enumerate(results.look.models)}
    for row in results.values(dataset, name).itertuples():
        if row.model not in place:
            continue
        values = by_case.setdefault(row.case, {}).setdefault(row.structure, [None] * len(place))
        if not math.isnan(row.value):
            values[place[row.model]] = (
                str(row.value) if math.isinf(row.value) else round(row.value, 5)
            )
    return by_case
