"""The table of metrics as the statistics see it: one value a case, model, structure and metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError

NEEDED = ("model", "case", "structure", "metric", "value")
LABELS = ("dataset", "subject", "fold", "seed", "surface", "status")
NUMBERS = ("diagonal_mm", "n_reference_voxels", "n_predicted_voxels", "voxel_mm3")
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
    for name in NUMBERS:
        if name not in table.columns:
            table[name] = ""
    for name in ("value", *NUMBERS):
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
