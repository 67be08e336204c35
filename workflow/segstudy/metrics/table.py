"""The table of measures: one row a metric, and the ranges of its values."""

from collections.abc import Iterable, Mapping, Sequence
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
INSTANCES = (
    *(*LABELS, "case", "subject", "structure", "outcome", "counts", "lesion", "predicted"),
    *("i", "j", "k", "reference_mm3", "predicted_mm3", "dice", "iou", "hd95_mm"),
)
"""Columns of the table of lesions, one row a lesion; i, j, k: the voxel of its centre."""
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
    """Return the rows of one case in the table of measures.

    Parameters
    ----------
    labels
        Study, dataset, model, fold and seed.
    case
        Its name.
    subject
        Its subject's name.
    measures
        Of every structure.
    surface
        The definition of surfaces.
    diagonal_mm
        Of the image; no distance in it can be larger.
    voxel_mm3
        A voxel's volume.
    """
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

    Parameters
    ----------
    path
        File to write.
    rows
        Of `measure_rows`.
    in_parts
        Whether references have ignored voxels, which may leave no surface of a structure.
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    check_ranges(table, in_parts)
    write_table(path, table)


def confusion_rows(
    labels: Mapping[str, object], case: str, counted: Confusion, names: Mapping[int, str]
) -> list[dict[str, object]]:
    """Return one row for each pair of structures: the voxels of the one that were predicted as the other.

    Parameters
    ----------
    labels
        As in `measure_rows`.
    case
        Its name.
    counted
        The confusion of the two label maps.
    names
        Structure of a label value; a value without one is named by itself.
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


def instance_rows(
    labels: Mapping[str, object], case: str, subject: str, measures: Iterable[Measures]
) -> list[dict[str, object]]:
    """Return a row for each lesion of a case, the false ones last.

    Parameters
    ----------
    labels
        As in `measure_rows`.
    case, subject
        Their names.
    measures
        Of every structure.
    """
    return [
        {
            **{name: labels.get(name, "") for name in LABELS},
            "case": case,
            "subject": subject,
            "structure": structure_measures.structure,
            "outcome": lesion.outcome,
            "counts": lesion.counts,
            "lesion": lesion.number or "",
            "predicted": " ".join(map(str, lesion.predicted)),
            **dict(zip("ijk", lesion.centre, strict=True)),
            "reference_mm3": lesion.reference_mm3,
            "predicted_mm3": lesion.predicted_mm3,
            "dice": lesion.dice,
            "iou": lesion.iou,
            "hd95_mm": lesion.hd95_mm,
        }
        for structure_measures in measures
        for lesion in structure_measures.lesions
    ]


def write_instances(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the table of lesions, of rows of `instance_rows`."""
    write_table(path, pd.DataFrame(list(rows), columns=list(INSTANCES)))


def write_confusion(path: Path | str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the table of confusion, of rows of `confusion_rows`."""
    write_table(path, pd.DataFrame(list(rows), columns=list(CONFUSION)))


def check_ranges(table: pd.DataFrame, in_parts: bool = False) -> None:
    """Refuse a table with a value outside the range of its metric.

    Parameters
    ----------
    table
        Of `measure_rows`.
    in_parts
        As of `write_measures`.

    Raises
    ------
    AssertionError
        Where a value cannot be of its metric.
    """
    value = table["value"].astype(float)
    wrong = pd.Series(False, index=table.index)
    for name, known_metric in metric.find_all(table["metric"].astype(str)).items():
        wrong |= (table["metric"] == name) & known_metric.outside(value)
    measured = table["status"].isin(("ok",))
    if in_parts:
        measured &= ~table["metric"].astype(str).str.match(OF_SURFACES)
    # A plug-in may find its metric undefined; where no lesion is found, none has a distance, and where no predicted one
    # counts, there is no precision.
    undefined_too = [*metric.added(), "lesionwise_hd95_mm", "lesion_precision"]
    measured &= ~table["metric"].isin(undefined_too)
    wrong |= measured & ~np.isfinite(value)
    wrong |= ~table["status"].isin(STATUSES)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise AssertionError(
            f"case {row['case']}, structure {row['structure']}: {row['metric']} = {row['value']} "
            f"with status {row['status']} is out of range"
        )


def read_measures(path: Path | str) -> pd.DataFrame:
    """Read a table that `write_measures` wrote; labels stay as they were written.

    Parameters
    ----------
    path
        File to read.

    Raises
    ------
    InputError
        Where the table cannot be read or lacks a column.
    """
    return _read(path, {name: str for name in COLUMNS if name != "value"}, COLUMNS)


def _read(path: Path | str, types: Mapping[str, type], columns: Sequence[str]) -> pd.DataFrame:
    """Read a table with these columns."""
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of metrics") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise InputError(f"{path}: no column {lacking[0]!r}; expected {', '.join(columns)}")
    return table


def collect_instances(paths: Iterable[Path | str], output: Path | str) -> None:
    """Join tables of lesions one below the other, in the order given.

    Parameters
    ----------
    paths
        Tables of `write_instances`.
    output
        File to write.
    """
    tables = [_read(path, dict.fromkeys(INSTANCES, str), INSTANCES) for path in paths]
    write_table(output, pd.concat(tables, ignore_index=True)[list(INSTANCES)])


def collect(paths: Iterable[Path | str], output: Path | str) -> None:
    """Join tables one below the other, in the order given.

    Parameters
    ----------
    paths
        Tables of measures.
    output
        File to write.
    """
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
