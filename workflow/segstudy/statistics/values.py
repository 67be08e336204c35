"""The table of metrics as the statistics see it: one value a case, model, structure and metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError

NEEDED = ("model", "case", "structure", "metric", "value")
LABELS = ("dataset", "fold", "seed", "surface", "status")
KEY = ["dataset", "model", "structure", "metric", "case"]


def read_values(path: Path | str) -> pd.DataFrame:
    """Read `metrics.csv`, or a table of another program with the columns of NEEDED.

    An empty value is undefined (NaN), `inf` infinite. Labels that the table lacks are empty.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of metrics") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    for name in NEEDED:
        if name not in table.columns:
            raise InputError(f"{path}: no column {name!r}; expected at least {', '.join(NEEDED)}")
    return with_labels(table, path)


def with_labels(table: pd.DataFrame, path: Path | str) -> pd.DataFrame:
    """The table with all columns, its numbers read, after a check that no value is there twice."""
    for name in LABELS:
        if name not in table.columns:
            table[name] = ""
    if "diagonal_mm" not in table.columns:
        table["diagonal_mm"] = ""
    for name in ("value", "diagonal_mm"):
        table[name] = _numbers(table, name, path)
    twice = table.duplicated([*KEY, "fold", "seed"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{path}: case {row['case']}: two rows with {row['metric']} of {row['structure']} by "
            f"model {row['model']} (fold {row['fold']!r}, seed {row['seed']!r}); expected one"
        )
    return table


def _numbers(table: pd.DataFrame, name: str, path: Path | str) -> pd.Series:
    text = table[name].str.strip()
    numbers = pd.to_numeric(text.replace({"": "nan"}), errors="coerce").astype(float)
    wrong = numbers.isna() & ~text.str.lower().isin(("", "nan"))
    if wrong.any():
        raise InputError(
            f"{path}: row {int(np.flatnonzero(wrong)[0]) + 2}: {name} is {text[wrong].iloc[0]!r}; "
            "expected a number, inf, or nothing where it is undefined"
        )
    return numbers


def per_case(table: pd.DataFrame) -> pd.DataFrame:
    """Average the runs of a model on a case (its seeds, and its folds on another site's cases).

    So that a case counts once however often it was predicted. The mean is taken over the runs in
    which the metric is defined; infinite in one run is infinite. Columns: those of KEY, `value`,
    `runs`, `surface`, `diagonal_mm`; models, structures and metrics in the order of the table.
    """
    infinite = np.isinf(table["value"])
    grouped = table.assign(value=table["value"].mask(infinite), infinite=infinite).groupby(
        KEY, sort=False
    )
    means = grouped.agg(
        value=("value", "mean"),
        infinite=("infinite", "any"),
        runs=("value", "size"),
        surface=("surface", "first"),
        diagonal_mm=("diagonal_mm", "max"),
    ).reset_index()
    means["value"] = means["value"].mask(means["infinite"], np.inf)
    return means.drop(columns="infinite")


def chosen_metrics(table: pd.DataFrame, wanted: Sequence[str] | Literal["auto"]) -> list[str]:
    """The wanted metrics of a table; `nsd` stands for all its tolerances.

    `auto`: the preferred ones that the table has, or all that it has where it has none of these.
    """
    present = list(dict.fromkeys(table["metric"]))
    if wanted == "auto":
        return [name for name in metric.PREFERRED if name in present] or present
    found = []
    for name in wanted:
        if name == "nsd":
            matching = [one for one in present if one == name or one.startswith("nsd_")]
        else:
            matching = [one for one in present if one == name]
        if not matching:
            raise InputError(
                f"statistics.metrics: {name!r} was not measured; the table has {', '.join(present)}"
            )
        found += matching
    return list(dict.fromkeys(found))
