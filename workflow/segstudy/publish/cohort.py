"""Table 1: who was studied, a column a dataset: subjects, scans, what is known of them, voxels and volumes."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas

from segstudy.cases import Case
from segstudy.groups import FEW_VALUES, FEWEST_TESTED, MOST_GROUPS, in_order, is_numeric, number
from segstudy.publish.results import Results
from segstudy.publish.tables import Cell, role
from segstudy.words import count

USUAL = ("age", "sex", "gender", "handedness")
"""Columns that `publish.cohort_columns: auto` shows, whatever their capitals."""
OTHERS = "other values"
WITHHELD = f"withheld: fewer than {FEWEST_TESTED} subjects of a value"
COLUMNS = (
    *("dataset", "role", "variable", "unit", "value", "counted", "n", "percent", "n_missing"),
    *("mean", "sd", "median", "q1", "q3", "remark"),
)
"""Columns of `cohort.csv`, a row a dataset and variable, or a value of it.

counted: what n counts, `subjects` or `scans` (of a column that differs between scans of a subject, of voxels and of volumes). value: of a
column without an order; percent of those with any value. Numbers have mean, SD (n - 1), median and quartiles instead: over
subjects, whose scans are averaged, and of voxel sizes and volumes over scans.
"""


def cohort_columns(results: Results) -> list[str]:
    """Return the columns of the tables of participants that are shown: of subgroups, then those that were asked for."""
    study = results.study
    known = {
        name: None
        for dataset in study.datasets
        for cells in results.participants(dataset).values()
        for name in cells
    }
    asked = study.publish.cohort_columns
    if asked == "auto":
        asked = [name for name in known if name.casefold() in USUAL]
    return [name for name in dict.fromkeys((*study.statistics.subgroups, *asked)) if name in known]


def cohort_rows(results: Results, anonymous: bool = False) -> pandas.DataFrame:
    """Return the tidy table of the cohort, with the columns of `COLUMNS`.

    Parameters
    ----------
    results
        The results of the study.
    anonymous
        Whether a column is withheld of which a value belongs to few subjects, who might be known by it.
    """
    numeric = {column: _is_numeric(results, column) for column in cohort_columns(results)}
    rows = []
    for dataset in results.study.datasets:
        cases, cells = results.cases(dataset), results.participants(dataset)
        subjects = {case.subject for case in cases}
        own = [
            {"variable": "subjects", "counted": "subjects", "n": len(subjects)},
            {"variable": "scans", "counted": "scans", "n": len(cases)},
        ]
        for column, is_number in numeric.items():
            told = [(case.subject, cells.get(case.case, {}).get(column, "")) for case in cases]
            found = _numbers(column, told) if is_number else _values(column, told)
            few = any(0 < row["n"] < FEWEST_TESTED for row in found)
            own += [{"variable": column, "remark": WITHHELD}] if anonymous and few else found
        own += _of_scans(cases, results.look.structures)
        rows += [{"dataset": dataset, "role": role(results.study, dataset), **row} for row in own]
    table = pandas.DataFrame(rows, columns=list(COLUMNS))
    words = ("unit", "value", "counted", "remark")
    kinds = dict.fromkeys(("n", "n_missing"), "Int64") | dict.fromkeys(words, object)
    return table.astype(kinds).fillna(dict.fromkeys(words, ""))


def _is_numeric(results: Results, column: str) -> bool:
    """Tell whether a column is summarised as a number: it is cut as one, or has numbers and is no code of a few values."""
    cut = results.study.statistics.subgroups.get(column, "auto")
    cells = {
        own.get(column, "")
        for dataset in results.study.datasets
        for own in results.participants(dataset).values()
    } - {""}
    # Of a small cohort, too, ages are numbers, and so is what has decimals.
    is_measured = column.casefold() == "age" or any(set(".,") & set(cell) for cell in cells)
    several = (
        len(cells) > FEW_VALUES
        or is_measured
        or cut in ("median", "tertiles")
        or not isinstance(cut, str)
    )
    return is_numeric(cells) and several and cut != "values"


def _numbers(column: str, told: Iterable[tuple[str, str]]) -> list[dict]:
    """Summarise numbers of subjects, whose scans are averaged. told: subject and cell of each scan."""
    of_subject: dict[str, list[float]] = {}
    for subject, cell in told:
        of_subject.setdefault(subject, []).extend([number(cell)] if cell else [])
    means = [float(np.mean(found)) for found in of_subject.values() if found]
    missing = len(of_subject) - len(means)
    return [{"variable": column, "counted": "subjects", "n_missing": missing, **_summary(means)}]


def _summary(sample: Sequence[float]) -> dict:
    """Return n, mean, SD, median and quartiles of numbers."""
    if not len(sample):
        return {"n": 0}
    q1, median, q3 = np.percentile(sample, [25, 50, 75])
    sd = float(np.std(sample, ddof=1)) if len(sample) > 1 else np.nan
    return {"n": len(sample), "mean": float(np.mean(sample)), "sd": sd, "median": median, "q1": q1, "q3": q3}  # fmt: skip


def _values(column: str, told: Sequence[tuple[str, str]]) -> list[dict]:
    """Count the subjects of each value; scans where a subject has several values. told: subject and cell of each scan."""
    pairs = {(subject, cell) for subject, cell in told if cell}
    subjects = {subject for subject, _ in told}
    varies = len(pairs) > len({subject for subject, _ in pairs})
    cells = [cell for _, cell in (told if varies else pairs) if cell]
    whole = len(told) if varies else len(subjects)
    names = in_order(set(cells))
    if len(names) > MOST_GROUPS:
        shown = set(sorted(names, key=lambda name: (-cells.count(name), name))[: MOST_GROUPS - 1])
        cells = [cell if cell in shown else OTHERS for cell in cells]
        names = [*(name for name in names if name in shown), OTHERS]
    row = {"variable": column, "counted": "scans" if varies else "subjects"}
    row["n_missing"] = whole - len(cells)
    if not cells:
        return [row | {"n": 0}]
    return [
        row
        | {"value": name, "n": cells.count(name), "percent": 100 * cells.count(name) / len(cells)}
        for name in names
    ]


def _of_scans(cases: Sequence[Case], structures: Iterable[str]) -> list[dict]:
    """Summarise voxel sizes, and the volume of each structure where it is there."""
    rows = []
    for axis, name in enumerate("ijk"):
        sizes = [case.spacing_mm[axis] for case in cases if len(case.spacing_mm) > axis]
        if sizes:
            rows.append({"variable": f"voxel size along {name}", "unit": "mm", **_summary(sizes)})
    for structure in structures:
        volumes = [
            case.voxels[structure] * float(np.prod(case.spacing_mm)) / 1000
            for case in cases
            if case.voxels.get(structure)
        ]
        row = {"variable": f"volume of {structure}", "unit": "mL", **_summary(volumes)}
        rows.append(row | {"n_missing": len(cases) - len(volumes)})
    return [{"counted": "scans", **row} for row in rows]


def shown(results: Results, anonymous: bool = False) -> dict:
    """Return the table as the report shows it: heads of the datasets, and rows of cells.

    anonymous: as of `cohort_rows`.
    """
    table = cohort_rows(results, anonymous)
    datasets = list(results.study.datasets)
    heads = [f"{name} ({role(results.study, name)})" for name in datasets]
    keys = table[["variable", "value"]].drop_duplicates()
    found = {
        (row["dataset"], row["variable"], row["value"]): row for row in table.to_dict("records")
    }
    rows, last = [], ""
    for variable in keys["variable"].unique():
        values = list(keys[keys["variable"] == variable]["value"])
        named = [value for value in values if value]
        if named:
            remarks = [_remark(found, dataset, variable, named) for dataset in datasets]
            rows.append({"name": _name(results, variable), "within": False, "cells": remarks})
        for value in named or values:
            cells = [_text(found.get((dataset, variable, value))) for dataset in datasets]
            name = value or _name(results, variable)
            rows.append({"name": name, "within": bool(named), "cells": cells})
        last = variable
    return {"heads": heads, "rows": rows if last else [], "columns": cohort_columns(results)}


def _name(results: Results, variable: str) -> str:
    """Return the name of a variable as it is shown, with its unit."""
    if variable.startswith("volume of "):
        structure = results.look.in_text(variable.removeprefix("volume of "))
        return f"Volume of {structure} as delivered (mL), median (IQR)"
    if variable.startswith("voxel size"):
        return f"{variable.capitalize()} (mm), median (IQR)"
    return variable.capitalize() if variable in ("subjects", "scans") else variable


def _remark(found: Mapping, dataset: str, variable: str, values: Sequence[str]) -> Cell:
    """Say what is counted of a column with values, and what is missing."""
    withheld = found.get((dataset, variable, ""))
    if withheld is not None:
        return Cell(withheld["remark"] or "–")
    row = next(
        (
            found[dataset, variable, value]
            for value in values
            if (dataset, variable, value) in found
        ),
        None,
    )
    if row is None:
        return Cell("–")
    return Cell("; ".join(filter(None, [f"{row['counted']} (%)", _missing(row)])))


def _missing(row: Mapping) -> str:
    missing = row["n_missing"]
    return f"{missing} missing" if not pandas.isna(missing) and missing else ""


def _text(row: Mapping | None) -> Cell:
    """Write a cell: a count with its share, or median and quartiles, with mean and SD of a column of numbers."""
    if row is None or row["remark"]:
        return Cell((row or {}).get("remark") or "–")
    n = row["n"]
    if row["value"]:
        return Cell(f"{n} ({row['percent']:.0f} %)", float(n))
    if row["variable"] in ("subjects", "scans"):
        return Cell(str(n), float(n))
    if not n:
        return Cell("; ".join(filter(None, ["–", _missing(row)])))
    text = f"{row['median']:.3g} ({row['q1']:.3g} to {row['q3']:.3g})"
    if not row["unit"]:
        sd = f" ± {row['sd']:.3g}" if row["sd"] == row["sd"] else ""
        text = f"median {text}; mean {row['mean']:.3g}{sd}; n = {n}"
    missing = _missing(row)
    if row["variable"].startswith("volume") and missing:
        missing = f"in {count(n, 'scan')} of {n + row['n_missing']}"
    return Cell("; ".join(filter(None, [text, missing])), row["median"])
