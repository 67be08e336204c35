"""The measures as nnU-Net writes them, for programs that read its `summary.json`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segstudy.files import write_text
from segstudy.metric import BESIDE_NNUNETS
from segstudy.metrics.pairs import Pair

MEANT = ("Dice", "IoU", "FN", "FP", "TP", "n_pred", "n_ref")


def write_summary(
    path: Path | str,
    pairs: Sequence[Pair],
    rows: Iterable[Mapping[str, object]],
    structures: Mapping[str, Sequence[int]],
) -> None:
    """Write `summary.json` as nnU-Net does: counts, Dice and IoU of each case, and their means where defined.

    Distances and NSD stand beside them as `hd95_mm`, `assd_mm`, `nsd_2mm`: NaN where undefined, Infinity to an empty
    mask, in a mean too. nnU-Net's own readers pass over what they do not know. Cases without a prediction are left out, as
    nnU-Net has none; so is TN, which no measure needs. `foreground_mean` is over structures alone, as over nnU-Net's labels:
    merged ones stand in `mean`.

    Parameters
    ----------
    path
        File to write.
    pairs
        The pairs that were measured.
    rows
        Of the table of measures.
    structures
        Name -> label values; keys are written as nnU-Net does, a label's value, or values in
        brackets where several are merged, and a structure that is not in it keeps its name.
    """
    files = {pair.case: pair for pair in pairs}
    cases: dict[str, dict[str, dict[str, float]]] = {}
    merged: set[str] = set()
    for row in rows:
        of_surfaces = BESIDE_NNUNETS.fullmatch(str(row["metric"]))
        if row["status"] == "missing_file" or not (of_surfaces or row["metric"] in ("dice", "iou")):
            continue
        values = structures.get(str(row["structure"]), ())
        # Of a structure that was found and does not exist, which is undefined here, nnU-Net has 0.
        value = 0.0 if row["status"] == "ref_empty" else row["value"]
        key = str(values[0]) if len(values) == 1 else str(tuple(values) or row["structure"])
        merged |= {key} if len(values) > 1 else set()
        measures = cases.setdefault(str(row["case"]), {}).setdefault(key, {})
        if of_surfaces:
            measures[str(row["metric"])] = float(row["value"])
            continue
        if row["metric"] == "iou":
            measures["IoU"] = value
            continue
        reference, prediction = row["n_reference_voxels"], row["n_predicted_voxels"]
        both = 0
        if row["status"] == "ok":
            both = round(value * (reference + prediction) / 2)
        measures |= {"Dice": value, "TP": both, "FP": prediction - both}
        measures |= {"FN": reference - both, "n_pred": prediction, "n_ref": reference}
    keys = list(dict.fromkeys(key for measures in cases.values() for key in measures))
    every = (measures[key] for measures in cases.values() for key in measures)
    meant = list(dict.fromkeys((*MEANT, *(name for measures in every for name in measures))))
    means = {
        key: {
            name: _mean([measures[key].get(name, np.nan) for measures in cases.values()])
            for name in meant
        }
        for key in keys
    }
    summary = {
        "foreground_mean": {
            name: _mean([means[key][name] for key in keys if key not in merged]) for name in meant
        },
        "mean": means,
        "metric_per_case": [
            {
                "metrics": measures,
                "prediction_file": str(files[case].prediction),
                "reference_file": str(files[case].reference),
            }
            for case, measures in cases.items()
        ],
    }
    # NaN stands for undefined, as in nnU-Net's own files.
    write_text(path, json.dumps(summary, indent=4) + "\n")


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if value == value]
    return float(np.mean(defined)) if defined else float("nan")
