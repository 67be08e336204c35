"""Figures that others published of a study, beside our own numbers and never among them."""

import math
from pathlib import Path

import pandas

from segstudy import metric, shipped
from segstudy.errors import InputError
from segstudy.metric import number
from segstudy.publish.results import Results
from segstudy.publish.tables import Cell

TABLE = shipped.RESOURCES / "published.csv"
COLUMNS = (
    *("study", "dataset", "model", "structure", "metric"),
    *("value", "unit", "source", "remark"),
)
"""Columns of the table. study: its variants `<study>_...` are shown the row too. value: in the unit of
our own tables, shares from 0 to 1; empty where the figure is not worth repeating, for the reason that
the remark gives. unit: empty for a bare number. structure: `all` for a figure over all structures; ours
is then the mean over the study's structures.
model: `label repair` for a figure of the repair. metric: a metric of ours, or one of `PLAIN`."""

PLAIN = {
    "dice_t": "t of Dice",
    "recall_t": "t of recall",
    "assd_u": "U of ASSD",
    "angle_deg": "Rotation",
    "parameters": "Parameters",
}
"""Figures that are no metric of ours."""


def read_published(path: Path = TABLE) -> pandas.DataFrame:
    """Read the table of published figures; empty text where nothing is said, NaN for no value."""
    try:
        table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{path}: columns {', '.join(table.columns)}; expected {', '.join(COLUMNS)}"
        )
    numbers = pandas.to_numeric(table["value"].replace("", "nan"), errors="coerce")
    wrong = numbers.isna() & (table["value"] != "")
    if wrong.any():
        raise InputError(
            f"{path}: row {int(wrong.idxmax()) + 2}: value is {table['value'][wrong].iloc[0]!r}; "
            "expected a number, or nothing"
        )
    return table.assign(value=numbers)


def published_table(results: Results, path: Path = TABLE) -> dict:
    """Return head and rows for the report; no rows for a study of which nothing is known.

    `Ours` is our mean of the same dataset, model, structure and metric, found by their names; of a repair and of a network's size, our figure.
    """
    table = read_published(path)
    name = results.study.name
    table = table[[name == known or name.startswith(f"{known}_") for known in table["study"]]]
    rows = []
    for row in table.itertuples():
        ours, note = _ours(results, row)
        rows.append(
            [
                Cell(row.dataset or "–"),
                Cell(results.look.model(row.model) or "–"),
                Cell(results.look.structure(row.structure) if row.structure else "–"),
                Cell(PLAIN.get(row.metric) or metric.find(row.metric).title),
                Cell(_text(row.value, row.unit), float(row.value)),
                Cell(_our_text(ours, row.metric) + note, ours),
                Cell(row.remark),
                Cell(row.source),
            ]
        )
    head = ["Dataset", "Model", "Structure", "Figure", "Published", "Ours", "Remark", "Source"]
    return {"head": head, "rows": rows}


def _ours(results: Results, row) -> tuple[float, str]:
    """Return our figure, NaN where there is none, and a note on values left out of it."""
    study, summary = results.study, results.summary
    settings = study.datasets.get(row.dataset)
    if row.model == "label repair":
        if settings is None or settings.repair is None:
            return math.nan, ""
        transform = results.transform(row.dataset)
        value = transform.get({"angle_deg": "angle_deg", "iou": "iou_after"}.get(row.metric, ""))
        return (math.nan if value is None else float(value)), ""
    if row.metric == "parameters" and row.model in study.models:
        runs = [run for run in results.trainings() if run[0] == row.model]
        return (float(results.trained(*runs[0])["parameters"]) if runs else math.nan), ""
    wanted = study.structures if row.structure == "all" else [row.structure]
    same = summary[
        (summary["dataset"] == row.dataset)
        & (summary["model"] == row.model)
        & summary["structure"].isin(wanted)
        & (summary["metric"] == row.metric)
    ]
    if len(same) < len(wanted):
        return math.nan, ""
    infinite = int(same["n_infinite"].sum())
    return float(same["mean"].mean()), f" ({infinite} ∞ left out)" if infinite else ""


def _our_text(value: float, name: str) -> str:
    if math.isnan(value):
        return "–"
    if name == "parameters":
        return f"{value:,.0f}"
    return number(value) if name in PLAIN else metric.find(name).text(value)


def _text(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
    return f"{text} {unit}".strip().replace("-", "−")
