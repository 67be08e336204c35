"""The table of metrics as the statistics see it: one value a case, model, structure and metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError
from segstudy.log import log
from segstudy.statistics.delimited import numbers, read_delimited

NEEDED = ("model", "case", "structure", "metric", "value")
LABELS = ("dataset", "fold", "seed", "subject", "surface", "status")
NUMBERS = ("diagonal_mm", "n_reference_voxels", "n_predicted_voxels", "voxel_mm3")
COLUMNS = (*NEEDED, *LABELS, *NUMBERS, "study")
"""Names of columns besides metrics; capitals do not count."""
KEY = ["dataset", "model", "structure", "metric", "case"]


def read_values(path: Path | str, directions: Mapping[str, str] = {}) -> pd.DataFrame:
    """Read `metrics.csv`, or a table of another program with the columns of NEEDED.

    Columns are separated by commas, semicolons or tabs; a value that is empty, `NA`, `N/A`, `None`,
    `-` or `nan` is undefined (NaN), `inf` infinite. Metrics get their own names (`metric.find`).
    Labels that the table lacks are empty, numbers NaN. In place of the columns `metric` and `value`
    there may be a column a metric.

    Parameters
    ----------
    path
        File to read.
    directions
        `statistics.directions`.

    Raises
    ------
    InputError
        Where the table cannot be read, or holds a value outside its metric's range.
    """
    table, separator = read_delimited(path, COLUMNS)
    return of_text(table, separator, path, directions)


def of_text(
    table: pd.DataFrame,
    separator: str,
    path: Path | str,
    directions: Mapping[str, str] = {},
    model: str = "",
) -> pd.DataFrame:
    """Read a table of cells as `read_delimited` gives it.

    Parameters
    ----------
    table
        Of text.
    separator
        The sign between the columns.
    path
        Of the table, for errors.
    directions
        `statistics.directions`.
    model
        Name of the model of a table without that column.
    """
    if model and "model" in table.columns:
        raise InputError(
            f"{path}: has a column 'model'; give such a table without MODEL= in front of it"
        )
    if model:
        table = table.assign(model=model)
    if not {"metric", "value"} & set(table.columns):
        table = _long(table, path, directions)
    for name in NEEDED:
        if name not in table.columns:
            raise InputError(
                f"{path}: no column {name!r}; expected at least {', '.join(NEEDED)}; found "
                f"{', '.join(table.columns)}{_way_on(table, name, model)}"
            )
    for name in NEEDED[:-1]:
        empty = table[name] == ""
        if empty.any():
            raise InputError(f"{path}: row {table.index[empty][0]}: no {name}")
    return with_labels(table, path, directions, separator)


def _way_on(table: pd.DataFrame, name: str, model: str) -> str:
    """Say how to mend a missing column."""
    if model:
        return ". A table of MONAI begins with 'filename'"
    if "filename" in table.columns[:1]:
        return ". A table of MONAI is given as MODEL=FILE"
    if len(table.columns) == 1:
        return ". Columns are separated by commas, semicolons or tabs"
    if name == "model":
        return ". A table of one model is given as MODEL=FILE"
    return ""


def _long(table: pd.DataFrame, path: Path | str, directions: Mapping[str, str]) -> pd.DataFrame:
    """Turn a column a metric into a row a metric; a table without such columns stays as it is."""
    labels = [name for name in table.columns if name in COLUMNS]
    others = [name for name in table.columns if name not in labels]
    if not {"model", "case", "structure"} <= set(labels) or not others:
        return table
    try:
        metric.find_all(others, directions)
    except InputError as error:
        raise InputError(
            f"{path}: no columns 'metric' and 'value', so each further column is taken as a metric: "
            f"{error}. Take out columns that are none, or write a row a metric, with the columns "
            f"{', '.join(NEEDED)}"
        ) from None
    long = table.melt(labels, others, var_name="metric", ignore_index=False)
    long.index.name = "row"
    return long


def with_labels(
    table: pd.DataFrame,
    path: Path | str,
    directions: Mapping[str, str] = {},
    separator: str = ",",
) -> pd.DataFrame:
    """Add the columns that the table lacks, read its numbers, and give metrics their own names.

    Columns: NEEDED, LABELS, NUMBERS, and further ones of the table. Refused are unknown metrics,
    values outside their metric's range, and a value that is there twice.

    Parameters
    ----------
    table
        Of text, with the columns of NEEDED.
    path
        Of the table, for errors.
    directions
        `statistics.directions`.
    separator
        The sign between the columns.
    """
    table = table.copy()
    for name in (*LABELS, *NUMBERS):
        if name not in table.columns:
            table[name] = ""
    written, text = table["metric"], table["value"]
    for name in ("value", *NUMBERS):
        table[name] = numbers(table[name], name, separator, path)
    for name in NUMBERS:
        wrong = (table[name] < 0) | np.isinf(table[name])
        if wrong.any():
            raise InputError(
                f"{_place(table[wrong], path)}: {name} is {table[name][wrong].iloc[0]:g}; expected 0 "
                "or more"
            )
    try:
        metrics = metric.find_all(written, directions)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for name, known_metric in metrics.items():
        of_metric = written == name
        _check_range(table[of_metric], name, text[of_metric], known_metric, path)
        table.loc[of_metric, "value"] = (
            table["value"][of_metric].clip(known_metric.low, known_metric.high).to_numpy()
        )
        if metric.assumed(name):
            log.warning("%s: metric %r: %s", path, name, metric.assumed(name))
    table["metric"] = written.map(
        {name: known_metric.name for name, known_metric in metrics.items()}
    )
    twice = table.duplicated([*KEY, "fold", "seed"])
    if twice.any():
        row = table[twice].iloc[0]
        same = (table[[*KEY, "fold", "seed"]] == row[[*KEY, "fold", "seed"]]).all(axis=1)
        names = dict.fromkeys(written[same])
        raise InputError(
            f"{path}: case {row['case']}: two rows with {row['metric']} of {row['structure']} by "
            f"model {row['model']} (fold {row['fold']!r}, seed {row['seed']!r}"
            f"{', written ' + ' and '.join(map(repr, names)) if len(names) > 1 else ''}); expected one"
        )
    return table.reset_index(drop=True)


def _check_range(
    rows: pd.DataFrame, name: str, text: pd.Series, known_metric: metric.Metric, path: Path | str
) -> None:
    """Refuse values that cannot be of their metric.

    Parameters
    ----------
    rows
        Of one metric.
    name
        The metric as the table writes it.
    text
        The values as they were written.
    known_metric
        The metric.
    path
        Of the table.
    """
    outside = known_metric.outside(rows["value"])
    if not outside.any():
        return
    wrong = rows[outside]
    row, value = wrong.iloc[0], float(wrong["value"].iloc[0])
    message = (
        f"{_place(wrong, path)}: case {row['case']}: {name} of {row['structure']} by model "
        f"{row['model']} is {text[outside].iloc[0]}; expected {known_metric.expected}"
    )
    if len(wrong) > 1:
        message += f" ({len(wrong) - 1} more such values)"
    if known_metric.high == 1 and 1 < value <= 100:
        message += ". Is it in percent? Then divide the values of this metric by 100"
    elif value < 0 and known_metric.quantity == "length":
        message += ". Write inf where one of the masks is empty, nothing where both are"
    raise InputError(message)


def _place(rows: pd.DataFrame, path: Path | str) -> str:
    """Name the file, and the first of the rows where they have numbers."""
    return f"{path}: row {rows.index[0]}" if rows.index.name == "row" else str(path)


def chosen_metrics(table: pd.DataFrame, wanted: Sequence[str] | Literal["auto"]) -> list[str]:
    """Return the wanted metrics of a table; `nsd` stands for all its tolerances.

    `auto`: the preferred ones that the table has, or all that it has where it has none of these.

    Parameters
    ----------
    table
        With a column `metric`.
    wanted
        Names, or `auto`.
    """
    present = list(dict.fromkeys(table["metric"]))
    if wanted == "auto":
        preferred = [other for name in metric.PREFERRED for other in _named(name, present)]
        return preferred or present
    chosen = []
    for name in wanted:
        matching = _named(name, present)
        if not matching:
            raise InputError(
                f"statistics.metrics: {name!r} was not measured; the table has {', '.join(present)}"
            )
        chosen += matching
    return list(dict.fromkeys(chosen))


def _named(name: str, present: Sequence[str]) -> list[str]:
    """Return the metrics of a table that a name stands for: `nsd` for every tolerance."""
    return [
        other for other in present if other == name or (name == "nsd" and other.startswith("nsd_"))
    ]
