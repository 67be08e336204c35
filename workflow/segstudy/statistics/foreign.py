"""Tables of other programs: `summary.json` of nnU-Net and the raw tables of MONAI."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segstudy.errors import InputError
from segstudy.images.names import stem
from segstudy.statistics.values import NEEDED, read_values, with_labels

MONAI_METRICS = {
    "mean_dice": "dice",
    "mean_iou": "iou",
    "hausdorff_distance": "hd_mm",
    "surface_distance": "assd_mm",
}
"""Name of MONAI's handler -> ours; other names stay. Its distances are in mm where it has spacing."""


def read_tables(sources: Sequence[Path | str]) -> pd.DataFrame:
    """Read tables one below the other; MODEL=FILE names the model of a table that has none."""
    tables = []
    for source in sources:
        model, _, file = str(source).rpartition("=")
        if not model or Path(source).exists():
            tables.append(read_values(source))
        elif file.endswith(".json"):
            tables.append(read_nnunet(Path(file), model))
        else:
            tables.append(read_monai(Path(file), model))
    table = pd.concat(tables, ignore_index=True)
    twice = table.duplicated(["dataset", "model", "structure", "metric", "case", "fold", "seed"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{', '.join(map(str, sources))}: case {row['case']}: {row['metric']} of "
            f"{row['structure']} by model {row['model']} stands in two of them"
        )
    return table


def read_nnunet(path: Path, model: str) -> pd.DataFrame:
    """Read nnU-Net's summary.json: Dice and IoU, and what follows from its counts of voxels."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["metric_per_case"]
        rows = []
        for case in cases:
            name = stem(Path(case.get("reference_file") or case["prediction_file"]))
            for structure, found in case["metrics"].items():
                positive, reference = found["n_pred"], found["n_ref"]
                values = {
                    "dice": found["Dice"],
                    "iou": found["IoU"],
                    "precision": found["TP"] / positive if positive else float("nan"),
                    "recall": found["TP"] / reference if reference else float("nan"),
                    "relative_volume_error": (positive - reference) / reference
                    if reference
                    else float("nan"),
                }
                # As text, as a table has it: numbers are read and checked in one place.
                rows += [
                    (model, name, structure, metric, str(value)) for metric, value in values.items()
                ]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a summary.json of nnU-Net ({type(error).__name__}: {error}); expected "
            "metric_per_case, with Dice, IoU, TP, n_pred and n_ref of every label"
        ) from None
    return with_labels(pd.DataFrame(rows, columns=list(NEEDED)), path)


def read_monai(path: Path, model: str) -> pd.DataFrame:
    """Read a `<metric>_raw.csv` of MONAI's MetricsSaver: a row a file, a column a class."""
    try:
        wide = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    if wide.columns[0] != "filename":
        raise InputError(
            f"{path}: the first column is {wide.columns[0]!r}; a table of MONAI begins with "
            "'filename', and one of `segstudy metrics` is given without MODEL="
        )
    metric = path.stem.removesuffix("_raw").removeprefix("val_")
    table = wide.drop(columns="mean", errors="ignore").melt(
        "filename", var_name="structure", value_name="value"
    )
    table["case"] = [stem(Path(name)) for name in table.pop("filename")]
    table["model"], table["metric"] = model, MONAI_METRICS.get(metric, metric)
    return with_labels(table, path)
