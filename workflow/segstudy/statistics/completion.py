"""One value for every model and scan, with its subject, missing predictions and absent structures.

A model that fails must not look better for it. A case that one model was measured in is expected of
all models that share cases with it; a prediction that is not there is the worst value. Without a
structure in the reference overlap and distance are undefined, for a model with false positives as
well as for one without; such cases are compared by themselves (`false_positives`).
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import block_array, coo_array
from scipy.sparse.csgraph import connected_components

from segstudy import metric
from segstudy.errors import InputError
from segstudy.log import log
from segstudy.study import Statistics

CELL = ["dataset", "structure", "metric"]
SCAN = [*CELL, "model", "case"]

ABSENT = ("ref_empty", "both_empty")
"""Statuses of a structure that the reference does not hold."""

FALSE_POSITIVES = ("false_positive_cases", "predicted_volume_where_absent_ml")


def completed(runs: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """Return one row for each dataset, structure, metric, model and scan (case).

    Runs of a model on a case (its seeds, and its folds on another site's cases) are averaged, so
    that a case counts once however often it was predicted; infinite in one run is infinite.

    Columns: those of SCAN; `subject`; `value`, with missing predictions as `settings.missing` says,
    and `other_value`, the other way round; `missing`, whether a run has no prediction; `failed`,
    whether one has the worst value; `absent`, whether the reference lacks the structure, which
    makes the values undefined (NaN); `runs`, `fold` (empty where several), `surface`,
    `diagonal_mm`.

    Parameters
    ----------
    runs
        Table of `importers.read_tables`.
    settings
        Settings of the statistics.

    Raises
    ------
    InputError
        Where a case has two subjects, or models were measured with two references.
    """
    runs = _expected(runs)
    undefined = runs["value"].isna() & ~runs["absent"]
    empty = (runs["status"] == "pred_empty") | (
        (runs["n_predicted_voxels"] == 0) & (runs["status"] != "missing_file")
    )
    measured = runs.groupby([*CELL, "case"], sort=False)["value"].transform("count") > 0
    untold = (runs["status"] == "") & measured  # other models have a value there
    _refuse_unclear(runs[undefined & ~empty & untold], runs, settings)
    lacking = runs["status"] == "missing_file"
    missing = undefined & ~empty & (untold | lacking)
    worst = runs["metric"].map(_worst_values(runs, settings))
    value = (
        runs["value"]
        .mask(runs["absent"] & ~runs["metric"].isin(metric.DESCRIPTIVE))
        .mask(undefined & empty, worst)
    )
    # Of a structure that is absent a prediction can be missing too; there is no value of it anyway.
    runs = runs.assign(
        missing=missing | (lacking & runs["absent"]),
        exclude=value,
        worst=value.mask(missing, worst),
    )
    table = runs.groupby(SCAN, sort=False).agg(
        subject=("subject", "first"), missing=("missing", "any"), absent=("absent", "any"),
        runs=("case", "size"), surface=("surface", "first"), diagonal_mm=("diagonal_mm", "max"),
        fold=("fold", "first"), folds=("fold", "nunique"),
    )  # fmt: skip
    table["fold"] = table["fold"].where(table.pop("folds") == 1, "")
    table["value"] = _mean(runs, settings.missing)
    table["other_value"] = _mean(runs, OTHER[settings.missing])
    table = table.reset_index()
    limit = table["metric"].map(_worst_values(runs, settings))
    table["failed"] = ~table["absent"] & (table["missing"] | _is(table["value"], limit))
    return table


def _expected(runs: pd.DataFrame) -> pd.DataFrame:
    """Add subjects, `absent`, and a row for each run that is expected and not there."""
    runs = with_subjects(runs)
    return _filled(runs.assign(absent=_absent(runs)))


OTHER = {"worst": "exclude", "exclude": "worst"}
"""The other way to take missing predictions."""


def with_subjects(runs: pd.DataFrame) -> pd.DataFrame:
    """Add the subject of every case; where no table names one, a case is its own subject."""
    named = runs.loc[runs["subject"] != "", ["dataset", "case", "subject"]].drop_duplicates()
    twice = named[named.duplicated(["dataset", "case"])]
    if len(twice):
        row = twice.iloc[0]
        both = named[(named["dataset"] == row["dataset"]) & (named["case"] == row["case"])]
        raise InputError(
            f"case {row['case']}: subject {' and '.join(both['subject'])} in the tables of metrics; "
            "expected one"
        )
    of_case = named.set_index(["dataset", "case"])["subject"]
    keys = pd.MultiIndex.from_frame(runs[["dataset", "case"]])
    subject = pd.Series(of_case.reindex(keys).to_numpy(), runs.index, dtype=object)
    return runs.assign(subject=subject.fillna(runs["case"]))


def unnamed_subjects(runs: pd.DataFrame) -> tuple[int, int]:
    """Count the cases whose subject no table names, and all cases."""
    named = (runs["subject"] != "").groupby([runs["dataset"], runs["case"]]).any()
    return int((~named).sum()), len(named)


def _absent(runs: pd.DataFrame) -> pd.Series:
    """Tell whether the reference lacks the structure, by the rows of all models."""
    empty = (runs["n_reference_voxels"] == 0) | runs["status"].isin(ABSENT)
    full = (runs["n_reference_voxels"] > 0) | runs["status"].isin(["ok", "pred_empty"])
    cells = [runs[name] for name in ("dataset", "structure", "case")]
    absent = empty.groupby(cells).transform("any")
    both = absent & full.groupby(cells).transform("any")
    if both.any():
        row = runs[both].iloc[0]
        models = [
            listing(runs[both & which & (runs["case"] == row["case"])]["model"])
            for which in (empty, full)
        ]
        raise InputError(
            f"case {row['case']}: the reference lacks {row['structure']} by the rows of {models[0]}, and "
            f"holds it by those of {models[1]}; expected the same reference for all models"
        )
    return absent


def _filled(runs: pd.DataFrame) -> pd.DataFrame:
    """Add a row for each run that other cases have and a case lacks.

    Expected of a model are the cases of all models that share a case with it, and so on; models
    without any common case are left to be compared as unpaired.
    """
    lacking = []
    for key, cell in runs.groupby(CELL, sort=False):
        counts = cell.groupby(["case", "model"], sort=False).size().unstack(fill_value=0)
        if (counts.nunique() == 1).all() and (counts > 0).all(axis=None):
            continue
        has = coo_array(counts.to_numpy() > 0)
        number, group = connected_components(block_array([[None, has], [has.T, None]]))
        group = group[: len(counts)]
        for part in range(number):
            expected = counts[group == part]
            expected = expected.loc[:, (expected > 0).any()]
            short = expected.max() - expected
            for case, model in short[short > 0].stack().index:
                first = cell[cell["case"] == case].iloc[0]
                row = dict(zip(CELL, key, strict=True)) | {
                    "model": model, "case": case, "subject": first["subject"],
                    "absent": first["absent"], "status": "missing_file", "value": np.nan,
                    "n_reference_voxels": first["n_reference_voxels"], "n_predicted_voxels": 0,
                    "diagonal_mm": first["diagonal_mm"], "voxel_mm3": first["voxel_mm3"],
                    "surface": first["surface"], "fold": "", "seed": "",
                }  # fmt: skip
                lacking += [row] * int(short.loc[case, model])
    return pd.concat([runs, pd.DataFrame(lacking)], ignore_index=True) if lacking else runs


def _refuse_unclear(rows: pd.DataFrame, runs: pd.DataFrame, settings: Statistics) -> None:
    """Refuse an empty value that may be a missing prediction or a reference without the structure.

    The reference lacks the structure where every other model has the worst value for a false
    positive.
    """
    worst = _worst_values(rows, settings)
    keys = [*CELL, "case"]
    best = runs[~_is(runs["value"], runs["metric"].map(worst))].dropna(subset="value")[keys]
    cells_with_value = pd.MultiIndex.from_frame(best)
    unclear = rows[
        ~pd.MultiIndex.from_frame(rows[keys]).isin(cells_with_value)
        & rows["n_reference_voxels"].isna()
    ]
    if len(unclear):
        row = unclear.iloc[0]
        raise InputError(
            f"case {row['case']}: {row['metric']} of {row['structure']} is empty for model {row['model']} and "
            f"the worst value ({worst[row['metric']]:g}) for others: either its prediction is missing, or the "
            f"reference lacks the structure ({len(unclear)} such values). Add a column n_reference_voxels, "
            "or leave out the rows of predictions that are missing"
        )


def _worst_values(runs: pd.DataFrame, settings: Statistics) -> dict[str, float]:
    """Return the worst value that each metric can have."""
    worst = {}
    for name in runs["metric"].unique():
        worst[name] = metric.find(name, settings.directions).worst
        if name in metric.DESCRIPTIVE:
            worst[name] = np.nan
    return worst


def _is(values: pd.Series, worst: pd.Series) -> pd.Series:
    """Tell which values are the worst ones; either infinity is where one is."""
    worst = worst.astype(float)  # of no rows they are objects
    return (values == worst) | (np.isinf(values) & np.isinf(worst))


def _mean(runs: pd.DataFrame, column: str) -> pd.Series:
    """Average the runs in which a value is defined; infinite as soon as one is."""
    infinite = runs[column].where(np.isinf(runs[column]))
    keys = [runs[name] for name in SCAN]
    mean = runs[column].mask(infinite.notna()).groupby(keys, sort=False).mean()
    return infinite.groupby(keys, sort=False).first().fillna(mean)


def false_positives(runs: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """Return a row for each case whose reference lacks a structure, with the columns of `completed`.

    Metrics: `false_positive_cases`, 1 where the structure was predicted, and
    `predicted_volume_where_absent_ml`, its volume there, where voxels' size is known. With
    `missing: worst` a missing prediction counts as a false positive, of infinite volume. A model is
    left out, with a warning, where some table does not tell its predictions there.
    """
    runs = _expected(runs)
    runs = runs[runs["absent"]]
    # A worst value tells of a false positive: a clean model has none.
    valued = _is(runs["value"], runs["metric"].map(_worst_values(runs, settings)))
    # A row a run, whatever metrics there are.
    once = ["dataset", "structure", "model", "case", "fold", "seed"]
    runs = runs.assign(valued=valued.groupby([runs[name] for name in once]).transform("any"))
    runs = runs.drop_duplicates(once)
    missing = runs["status"] == "missing_file"
    known = runs["n_predicted_voxels"].notna() | runs["status"].isin(["missing_file", *ABSENT])
    unknown = runs[~known & ~runs["valued"]]
    for (dataset, structure, model), rows in unknown.groupby(["dataset", "structure", "model"]):
        log.warning(
            "%smodel %s: what it predicted in %d cases without %s is not known: no false positives of it",
            f"{dataset}: " if dataset else "", model, len(rows), structure,
        )  # fmt: skip
    names = ["dataset", "structure", "model"]
    left_out = pd.MultiIndex.from_frame(runs[names]).isin(pd.MultiIndex.from_frame(unknown[names]))
    runs, missing = runs[~left_out], missing[~left_out]
    predicted = (
        (runs["n_predicted_voxels"] > 0) | (runs["status"] == "ref_empty") | runs["valued"]
    ).astype(float)
    volume = runs["n_predicted_voxels"] * runs["voxel_mm3"] / 1000
    table = pd.concat(
        [
            runs.assign(
                metric=name,
                missing=missing,
                worst=value.mask(missing, worst),
                exclude=value.mask(missing),
            )
            for name, value, worst in zip(
                FALSE_POSITIVES, (predicted, volume), (1.0, np.inf), strict=True
            )
        ],
        ignore_index=True,
    )
    completed_cases = table.groupby(SCAN, sort=False).agg(
        subject=("subject", "first"), missing=("missing", "any"), runs=("case", "size"),
        surface=("surface", "first"), diagonal_mm=("diagonal_mm", "max"), fold=("fold", "first"),
    )  # fmt: skip
    completed_cases["value"] = _mean(table, settings.missing)
    completed_cases["other_value"] = _mean(table, OTHER[settings.missing])
    completed_cases = completed_cases.reset_index().assign(absent=False)
    # Without voxels' size there is no volume at all.
    has_volume = completed_cases.groupby("metric")["value"].transform(
        lambda value: np.isfinite(value).any()
    )
    completed_cases = completed_cases[has_volume.astype(bool)].reset_index(drop=True)
    completed_cases["failed"] = completed_cases["value"] > 0
    return completed_cases


def listing(names: Iterable[str], most: int = 5) -> str:
    """List names without repetition, the first few."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return ", ".join(distinct[:most]) + more
