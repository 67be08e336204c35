"""Metrics of the user's own: what a plug-in says of its metric, read without running its code.

A file `surface_bias.py` holds `METRIC = {"name": ..., "direction": ..., ...}` and a function
`measure(reference, prediction, spacing_mm) -> float`. Once the settings that name it are read, its metric
is one of the registry: tables, tests, rankings and figures know it as they know Dice.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, get_args

from segstudy import metric, plugins
from segstudy.errors import InputError
from segstudy.metric import Direction, Metric

METRIC, MEASURE = "METRIC", "measure"
"""Names that are looked for in a plug-in: its description, and the function that measures."""
NEEDED = ("name", "direction", "range", "definition")
FIELDS = (*NEEDED, "title", "unit", "digits", "source")
NAME = re.compile(r"[a-z][a-z0-9_]*")


def described(text: str) -> Metric:
    """Return the metric that a plug-in measures.

    Parameters
    ----------
    text
        The plug-in's reference.

    Raises
    ------
    InputError
        With the file, the field, what was found and what was expected.
    """
    usual = {"title": "", "unit": "", "digits": 3, "source": ""}
    fields = usual | plugins.stated(text, METRIC, but=MEASURE)
    where = plugins.reference(text).place
    if {"low", "high"} <= fields.keys():  # as `segstudy.metric.Metric` has it
        fields["range"] = [fields.pop("low"), fields.pop("high")]
    odd = [name for name in fields if name not in FIELDS]
    if odd:
        raise InputError(
            f"{where}: {METRIC}: {odd[0]}: unknown; there are {', '.join((*FIELDS, MEASURE))}"
        )
    missing = [name for name in NEEDED if name not in fields]
    if missing:
        raise InputError(
            f"{where}: {METRIC}: no {missing[0]}; expected {', '.join(NEEDED)}, and as needed "
            f"{', '.join(FIELDS[len(NEEDED) :])}"
        )
    low, high = _range(fields["range"], fields["direction"], where)
    for name in ("definition", "title", "unit", "source"):
        if not isinstance(fields[name], str):
            raise InputError(f"{where}: {METRIC}: {name}: {fields[name]!r}; expected text")
    if not isinstance(fields["digits"], int) or not 0 <= fields["digits"] <= 9:
        raise InputError(f"{where}: {METRIC}: digits: {fields['digits']!r}; expected 0 to 9")
    name = fields["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"{where}: {METRIC}: name: {name!r}; expected small letters, digits and underscores"
        )
    unit = fields["unit"]
    quantity = next((one for one, units in metric.UNITS.items() if unit in units), "number")
    if quantity != "number" and not name.endswith(f"_{unit}"):
        raise InputError(
            f"{where}: {METRIC}: name: {name!r}; expected one that ends in its unit: {name}_{unit}"
        )
    definition = fields["definition"].strip().rstrip(".")
    if not definition:
        raise InputError(f"{where}: {METRIC}: definition: empty; expected a few words")
    source = f" ({fields['source']})" if fields["source"] else ""
    words = name.replace("_", " ")
    return Metric(
        name=name,
        title=fields["title"] or words[0].upper() + words[1:],
        unit=unit,
        direction=fields["direction"],
        low=low,
        high=high,
        digits=fields["digits"],
        definition=definition + source,
        quantity=quantity,
    )


def register(texts: Iterable[str]) -> dict[str, Metric]:
    """Make the metrics of plug-ins known to this process, and return them by reference.

    Parameters
    ----------
    texts
        References.

    Raises
    ------
    InputError
        As `described` does; where a plug-in has no function that measures; for a name that segstudy has already, and for one that stands in two plug-ins.
    """
    metrics: dict[str, Metric] = {}
    for text in texts:
        own = described(text)
        plugins.check_function(text, METRIC, MEASURE, MEASURE)
        for other, known in metrics.items():
            if metric.key(known.name) == metric.key(own.name):
                if plugins.is_same(text, other, METRIC):
                    raise InputError(f"{text}: stands twice; name it once")
                raise InputError(
                    f"{text}: measures {own.name!r}, as {other} does; expected metrics of different names"
                )
        try:
            metric.add([own])
        except InputError as error:
            raise InputError(f"{text}: {error}") from None
        metrics[text] = own
    return metrics


def description(texts: Iterable[str]) -> list[str]:
    """Return what follows from a plug-in but its measurements: a line for each, the same wherever the file lies."""
    return [repr(described(text)) for text in texts]


def _range(found: Any, direction: Any, where: str) -> tuple[float, float]:
    if direction not in get_args(Direction):
        raise InputError(
            f"{where}: {METRIC}: direction: {direction!r}; expected higher, lower, or zero (nearest to 0 is best)"
        )
    values = found if isinstance(found, list) else []
    ends = [
        end if value is None else value
        for value, end in zip(values, (-math.inf, math.inf), strict=False)
    ]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(values) != 2 or not numbers or not ends[0] < ends[1]:
        raise InputError(
            f"{where}: {METRIC}: range: {found!r}; expected the lowest and the highest value, None where there is none: "
            "[0, 1], [0, None]"
        )
    if direction == "higher" and math.isinf(ends[0]):
        raise InputError(
            f"{where}: {METRIC}: range: {found!r}; expected a lowest value, which a missing prediction gets: of this "
            "metric higher values are better"
        )
    return float(ends[0]), float(ends[1])
