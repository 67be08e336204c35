"""From the rows of a table to a value for every model and scan: whose scan, what is missing, what is absent.

A model that fails must not look better for it. A case that one model was measured in is expected of
all models that share cases with it; a prediction that is not there is the worst value. Where the
reference lacks a structure, no overlap or distance can be told, for a model with false positives as
little as for one without; such cases are compared by themselves (`false_positives`).
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import block_array, coo_array
from scipy.sparse.csgraph import connected_components

from segstudy import metric
from segstudy.errors import InputError
from segstudy.study import Statistics

CELL = ["dataset", "structure", "metric"]
SCAN = [*CELL, "model", "case"]

ABSENT = ("ref_empty", "both_empty")
"""Statuses of a structure that the reference does not hold."""

FALSE_POSITIVES = ("false_positive_cases", "predicted_volume_where_absent_ml")


def completed(runs: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """One row a dataset, structure, metric, model and scan (case), of a table of `foreign.read_tables`.

    Runs of a model on a case (its seeds, and its folds on another site's cases) are averaged, so
    that a case counts once however often it was predicted; infinite in one run is infinite.

    Columns: those of SCAN; `subject`; `value`, with missing predictions as `settings.missing` says,
    and `other_value`, the other way round; `missing`, whether a run has no prediction; `failed`,
    whether one has the worst value; `absent`, whether the reference lacks the structure, which
    makes the values undefined (NaN); `runs`, `fold` (empty where several), `surface`, `diagonal_mm`.
    Raises InputError where a case has two subjects, or models were measured with two references.
    """
    runs = with_subjects(runs)
    runs = _filled(runs.assign(absent=_absent(runs)))
    undefined = runs["value"].isna() & ~runs["absent"]
    empty = (runs["status"] == "pred_empty") | (
        (runs["n_predicted_voxels"] == 0) & (runs["status"] != "missing_file")
    )
    measured = runs.groupby([*CELL, "case"], sort=False)["value"].transform("count") > 0
    untold = (runs["status"] == "") & measured  # other models have a value there
    missing = undefined & ~empty & (untold | (runs["status"] == "missing_file"))
    worst = runs["metric"].map(_worst_values(runs, settings))
    value = (
        runs["value"]
        .mask(runs["absent"] & ~runs["metric"].isin(metric.DESCRIPTIVE))
        .mask(undefined & empty, worst)
    )
    runs = runs.assign(missing=missing, exclude=value, worst=value.mask(missing, worst))
    found = runs.groupby(SCAN, sort=False).agg(
        subject=("subject", "first"), missing=("missing", "any"), absent=("absent", "any"),
        runs=("case", "size"), surface=("surface", "first"), diagonal_mm=("diagonal_mm", "max"),
        fold=("fold", "first"), folds=("fold", "nunique"),
    )  # fmt: skip
    found["fold"] = found["fold"].where(found.pop("folds") == 1, "")
    found["value"] = _mean(runs, settings.missing)
    found["other_value"] = _mean(runs, OTHER[settings.missing])
    found = found.reset_index()
    limit = found["metric"].map(_worst_values(runs, settings))
    found["failed"] = found["missing"] | (found["value"] == limit)
    return found


OTHER = {"worst": "exclude", "exclude": "worst"}
"""The other way to take missing predictions."""


def with_subjects(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows with the subject of every case; where no table names one, a case is its own subject."""
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


def subjects_named(runs: pd.DataFrame) -> bool:
    """Whether the tables say of any case whose scan it is."""
    return bool((runs["subject"] != "").any())


def _absent(runs: pd.DataFrame) -> pd.Series:
    """Whether the reference lacks the structure, by what any model's row says."""
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
    """The rows, with one more for each run that other cases have and a case lacks.

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
            own = counts[group == part]
            own = own.loc[:, (own > 0).any()]
            short = own.max() - own
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


def _worst_values(runs: pd.DataFrame, settings: Statistics) -> dict[str, float]:
    """The worst value that each metric can have."""
    found = {}
    for name in runs["metric"].unique():
        known = metric.find(name, settings.directions)
        found[name] = {"higher": known.low, "lower": known.high, "zero": np.inf}[known.direction]
        if name in metric.DESCRIPTIVE:
            found[name] = np.nan
    return found


def _mean(runs: pd.DataFrame, column: str) -> pd.Series:
    """The mean over the runs in which a value is defined; infinite as soon as one is."""
    infinite = np.isinf(runs[column])
    keys = [runs[name] for name in SCAN]
    mean = runs[column].mask(infinite).groupby(keys, sort=False).mean()
    return mean.mask(infinite.groupby(keys, sort=False).any(), np.inf)


def false_positives(runs: pd.DataFrame) -> pd.DataFrame:
    """Cases whose reference lacks a structure, with the columns of `completed`.

    Metrics: `false_positive_cases`, 1 where the structure was predicted, and
    `predicted_volume_where_absent_ml`, its volume there, where voxels' size is known. A missing prediction
    counts as a false positive, of infinite volume.
    """
    runs = with_subjects(runs)
    runs = _filled(runs.assign(absent=_absent(runs)))
    runs = runs[runs["absent"]].drop_duplicates([*SCAN, "fold", "seed"])
    runs = runs[
        runs["metric"]
        == runs.groupby(["dataset", "structure", "model"])["metric"].transform("first")
    ]
    missing = runs["status"] == "missing_file"
    predicted = (runs["n_predicted_voxels"] > 0) | (runs["status"] == "ref_empty")
    volume = (runs["n_predicted_voxels"] * runs["voxel_mm3"] / 1000).mask(missing, np.inf)
    parts = [
        runs.assign(metric=name, value=value.astype(float), missing=missing)
        for name, value in zip(FALSE_POSITIVES, (missing | predicted, volume), strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)
    found = table.groupby(SCAN, sort=False).agg(
        subject=("subject", "first"), missing=("missing", "any"), runs=("case", "size"),
        surface=("surface", "first"), diagonal_mm=("diagonal_mm", "max"), fold=("fold", "first"),
    )  # fmt: skip
    found["value"] = found["other_value"] = _mean(table, "value")
    found = found.reset_index().assign(absent=False)
    found["failed"] = found["value"] > 0
    return found


def listing(names: Iterable[str], most: int = 5) -> str:
    """Names without repetition, the first few."""
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
