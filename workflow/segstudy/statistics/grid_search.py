"""A grid search as a table: the settings of each model, its cost, and the choice by validation."""

from pathlib import Path

import numpy as np
import pandas as pd

from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.study import GridSettings

TRAINING = ("model", "fold", "seed", "validation_dice", "parameters", "seconds")


def read_trainings(folder: Path, settings: GridSettings) -> pd.DataFrame:
    """Read validation Dice, parameters and seconds of the trainings of the grids' models, a row a training.

    The validation Dice is the mean of the structures on the held-out validation cases, of the
    weights that are used: the last, or the best of all epochs. The Dice is NaN where none was
    measured.

    Parameters
    ----------
    folder
        Holds `<model>/fold-<k>/seed-<s>/` with history.csv and settings.json.
    settings
        The grids of the study.
    """
    rows = []
    for model in (model for models in settings.grids.values() for model in models):
        files = sorted((folder / model).glob("fold-*/seed-*/history.csv"))
        if not files:
            raise InputError(
                f"{folder / model}: no training of {model}; run `segstudy train` first"
            )
        for file in files:
            history = pd.read_csv(file)
            measured = history.get("validation_dice_mean", pd.Series(dtype=float)).dropna()
            best = settings.weights[model] == "best"
            rows.append(
                {
                    "model": model,
                    "fold": int(file.parent.parent.name.removeprefix("fold-")),
                    "seed": int(file.parent.name.removeprefix("seed-")),
                    "validation_dice": (measured.max() if best else measured.iloc[-1])
                    if len(measured)
                    else np.nan,
                    "parameters": _parameters(file.with_name("settings.json")),
                    "seconds": history["seconds"].sum() if "seconds" in history else np.nan,
                }
            )
    return pd.DataFrame(rows, columns=list(TRAINING))


def _parameters(path: Path) -> int:
    """Read the number of parameters of a trained network from its settings.json."""
    content = read_json(path)
    number = content.get("parameters") if isinstance(content, dict) else None
    if type(number) is not int:
        raise InputError(f"{path}: found no number of parameters; run `segstudy train` again")
    return number


def grid_table(
    settings: GridSettings, values: pd.DataFrame, trainings: pd.DataFrame
) -> pd.DataFrame:
    """Return a row for each model of a grid and tested dataset, in the order of the study file.

    Columns: grid, model, a column a setting; validation_dice (mean over folds and seeds) and best,
    true for the model of the grid with the highest one, the first of equals; parameters and
    training_seconds (mean over trainings); dataset; dice_<structure> and sd_<structure>, mean and
    SD (n - 1) over n_subjects tested subjects. The choice is made on validation Dice alone: the
    tested cases have no part in it, and their Dice is an honest estimate of the chosen model.

    Parameters
    ----------
    settings
        The grids of the study.
    values
        Of `completion.completed`.
    trainings
        Of `read_trainings`.
    """
    dice = values[values["metric"] == "dice"]
    rows = []
    for grid, models in settings.grids.items():
        mean = (
            trainings.groupby("model", sort=False)["validation_dice"].mean().reindex(list(models))
        )
        chosen = mean.idxmax() if mean.notna().all() else None
        for model, point in models.items():
            of_model = trainings[trainings["model"] == model]
            for dataset, tested in dice[dice["model"] == model].groupby("dataset", sort=False):
                row = {
                    **{"grid": grid, "model": model},
                    **{path: _text(value) for path, value in point.items()},
                    "validation_dice": mean[model],
                    "best": model == chosen,
                    "parameters": int(of_model["parameters"].max()),
                    "training_seconds": round(of_model["seconds"].mean(), 1),
                    "dataset": dataset,
                    "n_subjects": tested["subject"].nunique(),
                }
                for structure, group in tested.groupby("structure", sort=False):
                    of_subjects = group.groupby("subject")["value"].mean()
                    row[f"dice_{structure}"] = of_subjects.mean()
                    row[f"sd_{structure}"] = of_subjects.std(ddof=1)
                rows.append(row)
    table = pd.DataFrame(rows)
    # Settings of all grids beside each other, before what was found.
    paths = dict.fromkeys(
        path for models in settings.grids.values() for p in models.values() for path in p
    )
    first = ["grid", "model", *paths]
    return table[[*first, *(name for name in table if name not in first)]]


def _text(value: object) -> str:
    """Write a setting's value in a cell: 32-64-128 for a list."""
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
