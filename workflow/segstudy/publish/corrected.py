"""The report's section on corrected labels: results under both labels, what changed, and how many labels are faulty."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas

from segstudy import metric
from segstudy.publish.results import Results
from segstudy.publish.tables import Cell
from segstudy.publish.words import chosen_metrics

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], Cell]]
"""Head of a column -> its cell in a row of the table."""


def corrections_shown(results: Results) -> dict[str, Any] | None:
    """Return what the report says of corrected labels: sentences, and tables with a heading; None where none was corrected."""
    found = results.corrections
    if found is None:
        return None
    names = {one.name for one in chosen_metrics(results.study.publish.metrics, results.study)}
    tables = {
        name: table[table["metric"].isin(names)] if "metric" in table else table
        for name, table in found["tables"].items()
    }
    moved = tables["ranks"][tables["ranks"]["moved"] != 0]
    first = _named(results)
    shown = [
        _table(
            "means",
            "Results under both labels",
            "The same statistics, once under the labels as delivered (repaired where the study repairs), once as corrected.",
            tables["means"],
            first
            | {
                "Mean, delivered labels": _measured("mean_delivered"),
                "Mean, corrected labels": _measured("mean_corrected"),
                "Difference": _measured("difference", signed=True),
            },
        ),
        _table(
            "places",
            "Places that change",
            "Ranks by mean, 1 is best.",
            moved,
            first
            | {
                "Place, delivered labels": _whole("place_delivered"),
                "Place, corrected labels": _whole("place_corrected"),
            },
        ),
        _table(
            "effects",
            "Test labels and training labels",
            "By test labels: the models from before the first correction, under corrected minus delivered labels. By training labels: "
            "the models of now minus those, under corrected labels.",
            tables["effects"],
            first
            | {
                "Cases": _whole("n_cases"),
                "By test labels": _measured("by_test_labels", signed=True),
                "By training labels": _measured("by_training_labels", signed=True),
            },
        ),
        _table(
            "changes",
            "What was changed",
            "Voxels added to a structure and removed from it, as a share of its voxels in the old labels of all cases.",
            tables["changes"],
            {
                "Dataset": lambda row: Cell(row["dataset"]),
                "Structure": first["Structure"],
                "Cases changed": _whole("n_changed"),
                "Share of cases": _share("share_of_cases"),
                "Voxels added": _whole("voxels_added"),
                "Voxels removed": _whole("voxels_removed"),
                "Share of voxels": _share("share_of_voxels"),
            },
        ),
        _table(
            "faults",
            "How many labels are faulty",
            f"Exact intervals by strata ({found['source']}).",
            tables["faults"],
            {
                "Dataset": lambda row: Cell(row["dataset"]),
                "Cases": lambda row: Cell(row["stratum"]),
                "Number": _whole("n_cases"),
                "Reviewed": _whole("n_reviewed"),
                "Faulty": _whole("n_faulty"),
                "Share faulty": _share("rate"),
                "From": _share("low"),
                "To": _share("high"),
            },
        ),
    ]
    return {"sentences": found["sentences"], "shown": [one for one in shown if one["rows"]]}


def _table(name: str, heading: str, about: str, table: pandas.DataFrame, columns: Columns) -> dict:
    rows = [[cell(row) for cell in columns.values()] for row in table.to_dict("records")]
    name = f"corrections-{name}"
    return {"name": name, "heading": heading, "about": about, "head": list(columns), "rows": rows}


def _named(results: Results) -> dict[str, Callable[[Row], Cell]]:
    """Return the columns that say what a number is of, by the names that the report shows."""
    look = results.look
    return {
        "Dataset": lambda row: Cell(row["dataset"]),
        "Model": lambda row: Cell(look.model(row["model"])),
        "Structure": lambda row: Cell(look.structure(row["structure"])),
        "Metric": lambda row: Cell(metric.find(row["metric"]).axis),
    }


def _measured(key: str, signed: bool = False) -> Callable[[Row], Cell]:
    """Return the cell of a value of the row's metric; signed: a difference."""

    def cell(row: Row) -> Cell:
        value = float(row[key])
        if math.isnan(value):
            return Cell("–", value)
        text = metric.find(row["metric"]).text(abs(value) if signed else value)
        sign = ("+" if value > 0 else "\u2212" if value < 0 else "") if signed else ""
        return Cell(sign + text, value)

    return cell


def _whole(key: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = float(row[key])
        return Cell("–" if math.isnan(value) else f"{value:,.0f}", value)

    return cell


def _share(key: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = float(row[key])
        return Cell("–" if math.isnan(value) else f"{100 * value:.1f} %", value)

    return cell
