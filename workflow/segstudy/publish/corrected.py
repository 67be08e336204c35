"""The report's section on corrected labels: results under both labels, what changed, and how many labels are faulty."""

from typing import Any

import pandas

from segstudy.publish.results import Results

SIDE_BY_SIDE = {
    "dataset": "Dataset",
    "model": "Model",
    "structure": "Structure",
    "metric": "Metric",
    "mean_delivered": "Mean, delivered labels",
    "mean_corrected": "Mean, corrected labels",
    "difference": "Difference",
}
RANKS = {
    "dataset": "Dataset",
    "model": "Model",
    "structure": "Structure",
    "metric": "Metric",
    "place_delivered": "Place, delivered labels",
    "place_corrected": "Place, corrected labels",
}
EFFECTS = {
    "dataset": "Dataset",
    "model": "Model",
    "structure": "Structure",
    "metric": "Metric",
    "by_test_labels": "By test labels",
    "by_training_labels": "By training labels",
}
CHANGES = {
    "dataset": "Dataset",
    "structure": "Structure",
    "n_changed": "Cases changed",
    "share_of_cases": "Share of cases",
    "voxels_added": "Voxels added",
    "voxels_removed": "Voxels removed",
    "share_of_voxels": "Share of voxels",
}
FAULTS = {
    "dataset": "Dataset",
    "stratum": "Cases",
    "n_cases": "Number",
    "n_reviewed": "Reviewed",
    "n_faulty": "Faulty",
    "rate": "Share faulty",
    "low": "From",
    "high": "To",
}


def corrections_shown(results: Results) -> dict[str, Any] | None:
    """Return what the report says of corrected labels: sentences, and tables with a heading; None where none was corrected."""
    found = results.corrections
    if found is None:
        return None
    tables = found["tables"]
    metrics = results.study.publish.metrics
    shown = {
        name: table[table["metric"].isin(metrics)] if metrics and "metric" in table else table
        for name, table in tables.items()
    }
    moved = shown["ranks"][shown["ranks"]["moved"] != 0]
    parts = [
        (
            "Results under both labels",
            "The same statistics, once under the labels as delivered (repaired where the study repairs), once as corrected.",
            _cells(shown["means"], SIDE_BY_SIDE),
        ),
        ("Places that change", "Ranks by mean, 1 is best.", _cells(moved, RANKS)),
        (
            "Test labels and training labels",
            "By test labels: the models from before the first correction, under corrected minus delivered labels. By training labels: "
            "the models of now minus those, under corrected labels.",
            _cells(shown["effects"], EFFECTS),
        ),
        (
            "What was changed",
            "Voxels added to a structure and removed from it, as a share of its voxels in the old labels of all cases.",
            _cells(tables["changes"], CHANGES),
        ),
        (
            "How many labels are faulty",
            f"Exact intervals by strata ({found['source']}).",
            _cells(tables["faults"], FAULTS),
        ),
    ]
    return {"sentences": found["sentences"], "shown": [part for part in parts if part[2]["rows"]]}


def _cells(table: pandas.DataFrame, columns: dict[str, str]) -> dict[str, Any]:
    """Return the cells of a table as texts, under the headings of its columns."""
    own = table[list(columns)]
    numbers = [columns[name] for name in columns if pandas.api.types.is_numeric_dtype(own[name])]
    rows = [[_text(value) for value in row] for row in own.itertuples(index=False)]
    return {"columns": list(columns.values()), "numbers": numbers, "rows": rows}


def _text(value: object) -> str:
    if isinstance(value, float):
        return "–" if pandas.isna(value) else f"{value:.4g}"
    return str(value)
