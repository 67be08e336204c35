"""Measurements of corrected cases under the label before and after their correction, by the models of now and of before."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from segstudy.cases import read_cases, read_splits, repaired_labels, tested, uncorrected_labels
from segstudy.correction_records import CORRECTED, DELIVERED
from segstudy.files import write_table
from segstudy.metrics.folders import label_files
from segstudy.metrics.pairs import Pair, measure_pairs
from segstudy.metrics.table import COLUMNS, check_ranges
from segstudy.study import MeasureSettings

NOW, BEFORE = "now", "before"
"""By which models: those of the run, or those of the last run before the first correction."""
LABELS = (DELIVERED, CORRECTED)
"""Under which labels: as delivered, repaired where the study repairs, or as corrected."""
CORRECTED_COLUMNS = (*COLUMNS, "models", "labels")


def corrected_pairs(
    tables: tuple[Path, Path, Path | None], fold: int, dataset: str, predictions: Path, under: str
) -> list[Pair]:
    """Pair the corrected cases that a fold tests with their predictions; none where there are none.

    Parameters
    ----------
    tables
        Table of splits, case table, and folder of repaired labels, if any.
    fold, dataset
        Which cases.
    predictions
        Folder of label maps.
    under
        One of `LABELS`.
    """
    splits, table, labels = tables
    names = set(tested(read_splits(splits), fold, dataset))
    cases = [one for one in read_cases(table) if one.case in names and one.delivered_label]
    files = label_files(predictions) if cases else {}
    as_labelled = uncorrected_labels if under == DELIVERED else repaired_labels
    return [
        Pair(case.case, case.subject, case.label, files.get(case.case))
        for case in as_labelled(cases, labels)
    ]


def measure_corrected(
    pairs: Mapping[tuple[str, str], list[Pair]],
    known: Mapping[tuple[str, str], list[dict[str, object]]],
    settings: MeasureSettings,
    columns: Mapping[str, object],
    threads: int,
) -> list[dict[str, object]]:
    """Measure pairs.

    Parameters
    ----------
    pairs
        By models and labels.
    known
        By models and labels, what was measured before.
    settings, columns, threads
        As of `measure_pairs`.

    Returns
    -------
    list of dict
        The rows of the table of measures, with models and labels in each, in the order of these.
    """
    found = dict(known)
    for key, own in pairs.items():
        found[key] = (
            measure_pairs(own, settings, columns, threads, audited=True).measures if own else []
        )
    return [
        {**row, "models": models, "labels": labels}
        for models in (NOW, BEFORE)
        for labels in LABELS
        for row in found.get((models, labels), ())
    ]


def write_corrected(path: Path, rows: Iterable[Mapping[str, object]], in_parts: bool) -> None:
    """Write the table; with a header alone where a fold tests no corrected case. in_parts: as of `check_ranges`."""
    table = pd.DataFrame(list(rows), columns=list(CORRECTED_COLUMNS))
    if len(table):
        check_ranges(table, in_parts)
    write_table(path, table)
