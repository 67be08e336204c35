"""The table of measures: one row a metric, and what every such table must keep to."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError
from segstudy.files import write_table
from segstudy.metrics.measure import Measures
from segstudy.metrics.overlap import Confusion

LABELS = ("study", "dataset", "model", "fold", "seed")
COLUMNS = (
    *LABELS,
    *("case", "subject", "structure", "metric", "value", "status"),
    *("n_reference_voxels", "n_predicted_voxels", "surface", "diagonal_mm", "voxel_mm3"),
)
CONFUSION = (*LABELS, "case", "reference", "prediction", "n_voxels")
OF_SURFACES = r"(nsd_|.*_mm$)"
"""Names of the metrics that are measured between surfaces."""
STATUSES = ("ok", "pred_empty", "ref_empty", "both_empty", "missing_file")


def measure_rows(
    labels: Mapping[str, object],
    case: str,
    subject: str,
    measures: Iterable[Measures],
    surface: str,
    diagonal_mm: float,
    voxel_mm3: float,
) -> list[dict[str, object]]:
    """Rows of one case. diagonal_mm: of the image; no distance in it can be larger. voxel_mm3: a voxel's volume."""
    return [
        {
            **{name: labels.get(name, "") for name in LABELS},
            "case": case,
            "subject": subject,
            "structure": structure_measures.structure,
            "metric": metric,
            "value": value,
            "status": structure_measures.status,
            "n_reference_voxels": structure_measures.n_reference_voxels,
            "n_predicted_voxels": structure_measures.n_predicted_voxels,
            "surface": surface,
            "diagonal_mm": round(diagonal_mm, 3),
            "voxel_mm3": voxel_mm3,
        }
        for structure_measures in measures
        for metric, value in structure_measures.values.items()
    ]


def write_measures(
    path: Path | str, rows: Iterable[Mapping[str, object]], in_parts: bool = False
) -> None:
    """Write rows after a check of their ranges: a share outside [0, 1] is never published.

    in_parts: whether references have ignored voxels, which may leave no surface of a structure.
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    check_ranges(table, in_parts)
    write_table(path, table)


def confusion_rows(
    labels: Mapping[str, object], case: str, counted: Confusion, names: Mapping[int, str]
) -> list[dict[str, object]]:
    """How many voxels of each structure were predicted as which; pairs without a voxel have no row.

    names: structure of a label value; a value without one is named by itself.
    """
    values = (0, *counted.values)
    return [
        {
            **{name: labels.get(name, "") for name in LABELS},
            "case": case,
            "reference": names.get(values[position], str(values[position])),
            "prediction": names.get(values[predicted_position], str(values[predicted_position])),
            "n_voxels": int(counted.counts[position, predicted_position]),
        }
        for position, predicted_position in np.argwhere(counted.counts)
    ]


def write_confusion(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    write_table(path, pd.DataFrame(list(rows), columns=list(CONFUSION)))


def check_ranges(table: pd.DataFrame, in_parts: bool = False) -> None:
    """Raises AssertionError where a value cannot be what its metric's name says.

    in_parts: as of `write_measures`.
    """
    value = table["value"].astype(float)
    wrong = pd.Series(False, index=table.index)
    for name, known in metric.find_all(table["metric"].astype(str)).items():
        wrong |= (table["metric"] == name) & known.outside(value)
    measured = table["status"].isin(("ok",))
    if in_parts:
        measured &= ~table["metric"].astype(str).str.match(OF_SURFACES)
    wrong |= measured & ~np.isfinite(value)
    wrong |= ~table["status"].isin(STATUSES)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise AssertionError(
            f"case {row['case']}, structure {row['structure']}: {row['metric']} = {row['value']} "
            f"with status {row['status']} is out of range"
        )


def read_measures(path: Path | str) -> pd.DataFrame:
    """Read a table that `write_measures` wrote; labels stay as they were written."""
    try:
        table = pd.read_csv(
            path, dtype={name: str for name in COLUMNS if name != "value"}, keep_default_na=False
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of metrics") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        raise InputError(f"{path}: no column {lacking[0]!r}; expected {', '.join(COLUMNS)}")
    return table


def collect(paths: Iterable[Path | str], output: Path | str) -> None:
    """Put tables one below the other, in the order given."""
    tables = [read_measures(path) for path in paths]
    table = pd.concat(tables, ignore_index=True)[list(COLUMNS)]
    key = ["dataset", "model", "fold", "seed", "case", "structure", "metric"]
    twice = table[table.duplicated(key)]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(
            f"{output}: case {row['case']}, structure {row['structure']} of model {row['model']} "
            f"(fold {row['fold']}, seed {row['seed']}) stands in two of the tables"
        )
    write_table(output, table)
