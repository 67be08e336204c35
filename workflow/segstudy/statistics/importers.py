"""Importers for tables of other programs: `summary.json` of nnU-Net and the raw tables of MONAI."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError
from segstudy.files import read_json
from segstudy.images.names import stem
from segstudy.log import log
from segstudy.statistics.delimited import read_delimited
from segstudy.statistics.values import COLUMNS, KEY, NEEDED, of_text, read_values, with_labels

RUN = ["dataset", "model", "structure", "case", "fold", "seed"]
"""Columns that identify one prediction of one structure."""
UNKNOWN, NOTHING, INFINITE, BY_DICE = range(4)
"""Meanings of an undefined distance: nothing to find, or one mask empty, as its Dice says."""


def read_tables(sources: Sequence[Path | str], directions: Mapping[str, str] = {}) -> pd.DataFrame:
    """Read tables one below the other; MODEL=FILE names the model of a table that has none.

    A distance that is undefined while one mask of the two is empty is infinite; `settled` says how
    that is known. Columns: those of `values.with_labels`.

    Parameters
    ----------
    sources
        Files, or MODEL=FILE.
    directions
        `statistics.directions`, the direction of each metric that segstudy does not know.

    Raises
    ------
    InputError
        Where a table cannot be read, or a value stands in two of them.
    """
    tables = []
    for source in sources:
        file, model = _split(str(source))
        if file.suffix.lower() == ".json":
            values = read_nnunet(file, model, directions)
        elif model:
            values = _of_model(file, model, directions)
        else:
            values = read_values(file, directions)
        if not len(values):
            raise InputError(f"{file}: no values in it; expected a row a value below the header")
        tables.append(values.assign(file=str(file)))
    table = pd.concat(tables, ignore_index=True)
    twice = table.duplicated([*KEY, "fold", "seed"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{', '.join(map(str, sources))}: case {row['case']}: {row['metric']} of "
            f"{row['structure']} by model {row['model']} stands in two of them"
        )
    return settled(table).drop(columns="file")


def _split(source: str) -> tuple[Path, str]:
    """Split a source into file and model; the file may hold `=`, and so may the model."""
    if Path(source).exists() or "=" not in source:
        return Path(source), ""
    parts = source.split("=")
    splits = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(1, len(parts))]
    readings = [(model, file) for model, file in splits if file and Path(file).exists()]
    if not readings:
        files = " nor ".join(file or "(nothing)" for _, file in splits)
        raise InputError(
            f"{source}: no such file: neither {source} nor {files}; expected MODEL=FILE"
        )
    if len(readings) > 1:
        raise InputError(
            f"{source}: can be read as {' or '.join(f'model {m} and file {f}' for m, f in readings)}; "
            "rename one of the files"
        )
    model, file = readings[0]
    if not model.strip():
        raise InputError(f"{source}: no name of a model before '='; expected MODEL=FILE")
    return Path(file), model.strip()


def read_nnunet(path: Path, model: str, directions: Mapping[str, str] = {}) -> pd.DataFrame:
    """Read nnU-Net's summary.json: Dice and IoU, what follows from its counts of voxels, and distances of `segstudy metrics`.

    Parameters
    ----------
    path
        File to read.
    model
        Name of the model.
    directions
        As of `read_tables`.
    """
    if not model:
        raise InputError(f"{path}: a summary.json names no model; give it as MODEL={path}")
    content = read_json(path)
    try:
        cases = content["metric_per_case"]
        files = [case.get("reference_file") or case["prediction_file"] for case in cases]
        rows = []
        for name, case in zip(_names(files), cases, strict=True):
            for structure, measures in case["metrics"].items():
                reference, predicted = _count(measures["n_ref"]), _count(measures["n_pred"])
                values = {
                    "dice": float(measures["Dice"]),
                    "iou": float(measures["IoU"]),
                    "precision": _over(measures["TP"], predicted),
                    "recall": _over(measures["TP"], reference),
                    "relative_volume_error": _over(predicted - reference, reference),
                    **{
                        key: float(measures[key])
                        for key in measures
                        if metric.BESIDE_NNUNETS.fullmatch(key)
                    },
                }
                # As text, as a table has it: numbers are read and checked in one place.
                rows += [
                    (model, name, structure, key, str(value), str(reference), str(predicted))
                    for key, value in values.items()
                ]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{path}: not a summary.json of nnU-Net ({type(error).__name__}: {error}); expected "
            "metric_per_case, with Dice, IoU, TP, n_pred and n_ref of every label"
        ) from None
    sizes = ("n_reference_voxels", "n_predicted_voxels")
    table = pd.DataFrame(rows, columns=[*NEEDED, *sizes], dtype=object)
    return with_labels(table, path, directions)


def _count(value: object) -> int:
    """Read a count of voxels, which a program may write as 12 or as 12.0."""
    number = int(value)
    if number != value or number < 0:
        raise ValueError(f"{value!r} voxels")
    return number


def _over(part: float, whole: int) -> float:
    return float(part) / whole if whole else math.nan


def _of_model(path: Path, model: str, directions: Mapping[str, str]) -> pd.DataFrame:
    """Read a table of one model: of MONAI, or one that has no column `model`."""
    table, separator = read_delimited(path, (*COLUMNS, "filename", "mean"))
    if len(table.columns) and table.columns[0] == "filename":
        return _monai(table, separator, path, model, directions)
    return of_text(table, separator, path, directions, model)


def _monai(
    wide: pd.DataFrame, separator: str, path: Path, model: str, directions: Mapping[str, str]
) -> pd.DataFrame:
    """Read a `<metric>_raw.csv` of MONAI's MetricsSaver: a row a file, a column a class."""
    name = path.name.split(".")[0].removesuffix("_raw")
    for phase in ("val_", "train_", "test_"):
        name = name.removeprefix(phase)
    try:
        metric.find(name, directions)
    except InputError as error:
        raise InputError(f"{path}: the file's name is that of MONAI's metric: {error}") from None
    names = _names(wide["filename"])
    classes = [column for column in wide.columns if column not in ("filename", "mean")]
    if not classes:
        raise InputError(f"{path}: no column of a class besides 'filename' and 'mean'")
    table = pd.concat(
        [
            wide[[column]].set_axis(["value"], axis=1).assign(case=names, structure=column)
            for column in classes
        ]
    )
    return of_text(table.assign(metric=name, model=model), separator, path, directions)


def _names(files: Sequence[str]) -> list[str]:
    """Name cases by their files without suffix, with as many folders as tell them apart."""
    paths = [PurePosixPath(str(file).replace("\\", "/")) for file in files]
    names = [stem(Path(path.name)) for path in paths]
    for depth in range(1, 1 + max((len(path.parts) for path in paths), default=0)):
        if len(set(names)) == len(set(paths)):
            break
        names = ["/".join([*path.parts[:-1][-depth:], stem(Path(path.name))]) for path in paths]
    return names


def settled(table: pd.DataFrame) -> pd.DataFrame:
    """Put infinity in place of undefined distances to an empty mask.

    Programs write NaN there, as for two empty masks, which would drop a model's failures. The numbers of voxels tell which of the two holds, else the Dice: 0 where one mask is empty; NaN, or 1, where both are.  A prediction that is not there (status `missing_file`) stays
    undefined.

    Parameters
    ----------
    table
        With the column `file`.

    Raises
    ------
    InputError
        Where neither tells.
    """
    undefined = table["metric"].isin(_distances(table)) & table["value"].isna()
    undefined &= table["status"] != "missing_file"
    if not undefined.any():
        return table
    rows = table[undefined]
    reference = _size(table, ["dataset", "structure", "case"], "n_reference_voxels")[undefined]
    predicted = _size(table, RUN, "n_predicted_voxels")[undefined]
    dices = table[table["metric"] == "dice"].set_index(RUN)["value"]
    runs = pd.MultiIndex.from_frame(rows[RUN])
    dice, has_dice = dices.reindex(runs).to_numpy(), runs.isin(dices.index)
    sized = reference.notna() & predicted.notna()
    by_dice = reference.isna() & has_dice
    meant = np.select(
        [
            rows["status"].isin(("pred_empty", "ref_empty")),
            rows["status"] == "both_empty",
            sized & ((reference == 0) != (predicted == 0)),
            reference == 0,
            (reference > 0) & predicted.isna() & ~(dice > 0),
            by_dice & (dice == 0),
            by_dice & (np.isnan(dice) | (dice == 1)),
        ],
        [INFINITE, NOTHING, INFINITE, NOTHING, INFINITE, BY_DICE, NOTHING],
        UNKNOWN,
    )
    if (meant == UNKNOWN).any():
        first = int(np.argmax(meant == UNKNOWN))
        raise InputError(
            _unsettled(rows[meant == UNKNOWN], bool(sized.iloc[first] or has_dice[first]))
        )
    for file, file_rows in rows[meant == BY_DICE].groupby("file", sort=False):
        log.warning(
            "%s: %d undefined distances are taken as infinite: the Dice there is 0, so one mask is empty",
            file,
            len(file_rows),
        )
    value = table["value"].copy()
    value[rows.index[np.isin(meant, (INFINITE, BY_DICE))]] = np.inf
    return table.assign(value=value)


def _distances(table: pd.DataFrame) -> list[str]:
    """List the metrics of a table that are known to be distances."""
    distances = []
    for name in table["metric"].unique():
        # A metric that has but a direction by `statistics.directions` is not known.
        with contextlib.suppress(InputError):
            distances += [name] if metric.find(name).quantity == "length" else []
    return distances


def _size(table: pd.DataFrame, key: list[str], name: str) -> pd.Series:
    """Return the voxels of each row, as far as any row of the same key says it."""
    return table.groupby(key)[name].transform("max")


def _unsettled(rows: pd.DataFrame, contradicted: bool) -> str:
    row, cases = rows.iloc[0], list(dict.fromkeys(rows["case"]))
    shown = ", ".join(cases[:5]) + (", ..." if len(cases) > 5 else "")
    text = (
        f"{row['file']}: {row['metric']} of {row['structure']} by model {row['model']} is undefined in "
        f"case {row['case']} ({len(rows)} such values, in {shown}), "
    )
    if contradicted:
        return text + (
            "but both masks are there by their voxels or their Dice; expected a number, or inf where "
            "the prediction failed"
        )
    return text + (
        "and it is not known whether one mask is empty (then it is infinite) or both are. Write inf, "
        "or add the columns n_reference_voxels and n_predicted_voxels, or give the Dice of the same "
        "cases too (of MONAI: MODEL=mean_dice_raw.csv)"
    )
