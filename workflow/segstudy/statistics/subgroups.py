"""Subgroups: each model by groups of subjects, and whether it does as well in one group as in another.

A model is tested against itself in another group; whether a model is better than another is told by `comparisons`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.errors import InputError
from segstudy.groups import FEW, FEWEST_TESTED, Grouping, grouped
from segstudy.level import fewest_subjects
from segstudy.log import log, progress
from segstudy.participants import NO_COLUMNS, of_cases, read_all
from segstudy.statistics import multiple_testing, summary
from segstudy.statistics.comparisons import Test
from segstudy.statistics.completion import listing
from segstudy.statistics.hypothesis_tests import differences
from segstudy.statistics.intervals import NAN, Interval, significant
from segstudy.statistics.omnibus import Between, Within
from segstudy.statistics.relabel import relabel
from segstudy.statistics.swap import swap
from segstudy.statistics.values import chosen_metrics
from segstudy.study import Statistics
from segstudy.words import count

GROUPS = (
    *("dataset", "column", "group", "model", "structure", "metric", "unit"),
    *summary.COLUMNS[4 : summary.COLUMNS.index("surface")],
    "remark",
)
"""Columns of `subgroups.csv`, a row a dataset, column, group, model, structure and metric.

column, group: of the table of participants, and the value, or the range of numbers, that its subjects share. unit: of the
metric's values, empty for a share or an index. The others are as in `summary.csv`, of the scans of the group: the subject is
the unit, and a subject whose scans lie in several groups counts in each with its scans there. Scans without a value of
the column are in no group. remark: what to mind, such as fewer than 10 subjects.
"""
TESTS = (
    *(
        "dataset",
        "column",
        "comparison",
        "group_a",
        "group_b",
        "model",
        "structure",
        "metric",
        "unit",
    ),
    *("design", "n_groups", "n_subjects", "n_cases", "n_a", "n_b", "n_left_out", "n_infinite"),
    *("test", "statistic", "estimate", "estimate_name", "ci_low", "ci_high", "p"),
    *("p_adjusted", "ci_low_adjusted", "ci_high_adjusted", "n_family", "significant"),
    *("other_estimate", "other_p", "effect_size", "effect_name", "remark"),
)
"""Columns of `subgroup_tests.csv`. Differences are group_a - group_b, in the metric's unit; all tests are two-sided.

comparison: `groups`, whether the groups of a column differ at all, by one test for each dataset, column, model, structure and
metric; with more than two groups, a row `pair` for each two of them, too. design: `between` subjects, or `within` subjects that
have scans in every group. n_a, n_b: subjects of the groups. n_left_out: subjects with a value of the metric that are in no
tested group, or in several. p_adjusted: by Holm's method over the n_family tests of the study, rows `groups` and rows `pair` being a family
each; of a pair it is never below that of its groups. [ci_low, ci_high] is the interval of the test itself, and
[ci_low_adjusted, ci_high_adjusted] holds for all of the family at once (Bonferroni). other_*: the same if missing predictions were
taken the other way; empty where none is.
"""


@dataclass
class _Compared:
    """A comparison of groups under way.

    Attributes
    ----------
    row
        Of `subgroup_tests.csv`.
    test
        None where nothing is tested.
    remarks
        On the test and its data.
    sizes
        Subjects of each group; tests of the same sizes have the same choices of labels.
    other
        The test where missing predictions are taken the other way.
    leaning
        A number with the sign of the estimate.
    """

    row: dict
    test: Test | Between | Within | None = None
    remarks: list[str] = field(default_factory=list)
    sizes: tuple[int, ...] = ()
    other: Test | Between | Within | None = None
    leaning: float = 0.0


@dataclass(frozen=True)
class Subgroups:
    """The two tables, each written to the file of its name, and how groups were made.

    Attributes
    ----------
    subgroups, subgroup_tests
        With the columns of `GROUPS` and `TESTS`.
    rules
        Column -> how its groups were made.
    """

    subgroups: pd.DataFrame
    subgroup_tests: pd.DataFrame
    rules: Mapping[str, str]


def subgroups(
    values: pd.DataFrame,
    participants: Mapping[tuple[str, str], Mapping[str, str]],
    settings: Statistics,
) -> Subgroups:
    """Summarise and test each model by the columns of `settings.subgroups`.

    Parameters
    ----------
    values
        Table of `completion.completed`.
    participants
        (dataset, case) -> column -> cell; empty without a value.
    settings
        Settings of the statistics.

    Raises
    ------
    InputError
        For a column that no table has, or that has no value, or too many.
    """
    scans = values.drop_duplicates(["dataset", "case"])
    keys = list(zip(scans["dataset"], scans["case"], strict=True))
    subjects = dict(zip(keys, scans["subject"], strict=True))
    groupings = [
        _grouping(column, cut, subjects, participants) for column, cut in settings.subgroups.items()
    ]
    tables, compared = [], []
    metrics = chosen_metrics(values, settings.metrics) if len(values) else []
    for grouping in groupings:
        keyed = pd.Series(
            zip(values["dataset"], values["case"], strict=True), values.index, dtype=object
        )
        labelled = values.assign(group=keyed.map(grouping.of).fillna(""))
        tables.append(_summaries(labelled, grouping, settings))
        tested = labelled[labelled["metric"].isin(metrics)]
        compared += _comparisons(tested, grouping, settings)
    _judge([one for one in compared if one.row["comparison"] == "groups"], settings)
    pairs = [one for one in compared if one.row["comparison"] == "pair"]
    _judge(pairs, settings)
    _not_below_their_groups(compared, settings)
    rows = [one.row | {"remark": "; ".join(one.remarks)} for one in compared]
    tests = pd.DataFrame(rows, columns=list(TESTS)).astype({"n_a": "Int64", "n_b": "Int64"})
    return Subgroups(
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(GROUPS)),
        tests,
        {grouping.column: grouping.rule for grouping in groupings},
    )


def participants_of(
    values: pd.DataFrame, tables: Sequence[str]
) -> dict[tuple[str, str], dict[str, str]]:
    """Read what is known of the cases of a table of values: (dataset, case) -> column -> cell.

    Parameters
    ----------
    values
        Table of `completion.completed`.
    tables
        `FILE`, or `DATASET=FILE` for the cases of one dataset.

    Raises
    ------
    InputError
        For a dataset that is not there, and as `participants.of_cases`.
    """
    scans = values.drop_duplicates(["dataset", "case"])
    files: dict[str, list[str]] = {dataset: [] for dataset in scans["dataset"].unique()}
    for text in tables:
        dataset, mark, file = text.partition("=")
        if mark and dataset not in files and not Path(text).is_file():
            raise InputError(
                f"--participants {text}: no dataset {dataset!r} in the tables of metrics, which have "
                f"{', '.join(map(repr, files))}"
            )
        named = mark and dataset in files
        for name in [dataset] if named else list(files):
            files[name].append(file if named else text)
    found = {}
    for dataset, paths in files.items():
        of_dataset = scans[scans["dataset"] == dataset]
        cases = dict(zip(of_dataset["case"], of_dataset["subject"], strict=True))
        known = of_cases(cases, read_all(paths))
        found |= {(dataset, case): cells for case, cells in known.items()}
    return found


def _grouping(
    column: str,
    cut: str | Sequence[float],
    subjects: Mapping[tuple[str, str], str],
    participants: Mapping[tuple[str, str], Mapping[str, str]],
) -> Grouping:
    """Divide the tested cases by a column, and warn of those without a value."""
    known = {name for key in subjects for name in participants.get(key, ())}
    if column not in known and column in NO_COLUMNS:
        raise InputError(
            f"statistics.subgroups: {column} is a name of tables of cases and says nothing of subjects; give the column another "
            "name in the table"
        )
    if column not in known:
        raise InputError(
            f"statistics.subgroups: no column {column!r} in the tables of participants, which have "
            f"{', '.join(sorted(known)) or 'no column'}; name the table by datasets.<name>.participants"
        )
    cells = {key: participants.get(key, {}).get(column, "") for key in subjects}
    for dataset in dict.fromkeys(dataset for dataset, _ in subjects):
        of_dataset = [key for key in subjects if key[0] == dataset]
        lacking = [subjects[key] for key in of_dataset if not cells[key]]
        if lacking:
            whole = len({subjects[key] for key in of_dataset})
            log.warning(
                "%s%s: no value for %d of %d subjects (%s), which are in no group",
                f"{dataset}: " if dataset else "", column, len(set(lacking)), whole, listing(lacking),
            )  # fmt: skip
    if not any(cells.values()):
        raise InputError(
            f"statistics.subgroups: {column} has no value for any tested subject; leave it out, or fill the column"
        )
    return grouped(column, cut, cells, subjects)


def _summaries(labelled: pd.DataFrame, grouping: Grouping, settings: Statistics) -> pd.DataFrame:
    """Return the rows of `subgroups.csv` of a column. labelled: values with a column `group`."""
    tables = []
    for group in grouping.names:
        table = summary.summarise(labelled[labelled["group"] == group], settings)
        tables.append(table.assign(column=grouping.column, group=group))
    table = pd.concat([one for one in tables if len(one)], ignore_index=True)
    units = {name: metric.find(name, settings.directions).unit for name in table["metric"].unique()}
    table["unit"] = table["metric"].map(units)
    few = table["n_subjects"] < FEW
    table["remark"] = np.where(few, f"fewer than {FEW} subjects", "")
    small = table[few].groupby(["dataset", "group"], sort=False)["n_subjects"].max()
    for (dataset, group), number in small.items():
        log.warning(
            "%s%s %s: %s only; what is said of fewer than %d is uncertain%s",
            f"{dataset}: " if dataset else "", grouping.column, group, count(int(number), "subject"), FEW,
            f", and of fewer than {FEWEST_TESTED} not tested" if number < FEWEST_TESTED else "",
        )  # fmt: skip
    order = {name: place for place, name in enumerate(grouping.names)}
    first = {name: place for place, name in enumerate(labelled["dataset"].unique())}
    table["place"] = table["group"].map(order)
    table["first"] = table["dataset"].map(first)
    keys = ["first", "model", "structure", "metric", "place"]
    for name in keys[1:4]:
        places = {value: place for place, value in enumerate(labelled[name].unique())}
        table[name] = pd.Categorical(table[name], list(places), ordered=True)
    table = table.sort_values(keys, kind="stable", ignore_index=True)
    for name in keys[1:4]:
        table[name] = table[name].astype(object)
    return table[list(GROUPS)]


def _comparisons(tested: pd.DataFrame, grouping: Grouping, settings: Statistics) -> list[_Compared]:
    """Compare the groups of a column, for each dataset, model, structure and metric; p not yet adjusted."""
    compared = []
    designs = {dataset: _design(scans) for dataset, scans in tested.groupby("dataset", sort=False)}
    for key, cell in tested.groupby(["dataset", "model", "structure", "metric"], sort=False):
        if not (cell["group"] != "").any():
            continue  # another dataset has the column
        labels = dict(zip(("dataset", "model", "structure", "metric"), key, strict=True))
        known_metric = metric.find(labels["metric"], settings.directions)
        labels |= {"column": grouping.column, "unit": known_metric.unit}
        cell = cell.assign(
            **{name: known_metric.compared(cell[name]) for name in ("value", "other_value")}
        )
        found = _of_cell(cell, "value", grouping, designs[key[0]], settings)
        missing = bool((cell["missing"] & ~cell["absent"] & (cell["group"] != "")).any())
        others = (
            _of_cell(cell, "other_value", grouping, designs[key[0]], settings) if missing else []
        )
        beside = {_pair(one): one for one in others}
        for one in found:
            one.row |= labels
            other = beside.get(_pair(one))
            if other:
                one.other = other.test
        compared += found
    return compared


def _pair(compared: _Compared) -> tuple[str, str, str]:
    return tuple(compared.row[name] for name in ("comparison", "group_a", "group_b"))


def _design(scans: pd.DataFrame) -> str:
    """Return `between`, or `within` where more subjects have scans in several groups than in one."""
    groups = scans[scans["group"] != ""].groupby("subject")["group"].nunique()
    return "within" if (groups > 1).sum() > (groups == 1).sum() else "between"


def _of_cell(
    cell: pd.DataFrame, column: str, grouping: Grouping, design: str, settings: Statistics
) -> list[_Compared]:
    """Compare the groups in one model, structure and metric: all of them, and, of more than two, each pair.

    Parameters
    ----------
    cell
        Rows of `completed`, with `group`.
    column
        Of the values to compare.
    grouping
        Of the column.
    design
        `between` or `within`.
    settings
        Settings of the statistics.
    """
    scans = cell[cell[column].notna()]
    all_subjects = scans["subject"].nunique()
    scans = scans[scans["group"] != ""].assign(compared=lambda table: table[column])
    remarks = []
    if design == "between":
        several = scans.groupby("subject")["group"].transform("nunique") > 1
        if several.any():
            number = count(scans[several]["subject"].nunique(), "subject")
            remarks.append(f"{number} with scans in several groups left out")
        scans = scans[~several]
    else:
        remarks.append("most subjects have scans in several groups: compared within subjects")
    sizes = scans.groupby("group")["subject"].nunique()
    present = [name for name in grouping.names if sizes.get(name, 0) > 0]
    names = [name for name in present if sizes[name] >= FEWEST_TESTED]
    small = [f"{name} ({sizes[name]})" for name in present if name not in names]
    if small:
        remarks.append(f"fewer than {FEWEST_TESTED} subjects, not tested: {', '.join(small)}")
    scans = scans[scans["group"].isin(names)]
    compare = _between if design == "between" else _within
    if len(names) < 2:
        pair = (*present[:2], "", "") if len(present) == 2 else ("", "")
        row = _start("groups", pair[:2], scans, design) | {"n_groups": len(names)}
        row["n_left_out"] = all_subjects - scans["subject"].nunique()
        remarks.append("no two groups to compare")
        return [_Compared(row, None, remarks)]
    found = [compare("groups", names, scans, settings)]
    if len(names) > 2:
        found += [compare("pair", list(pair), scans, settings) for pair in combinations(names, 2)]
    for one in found:
        one.remarks[:0] = remarks
        one.row["n_left_out"] = all_subjects - one.row["n_subjects"]
        few = [
            name
            for name in names
            if sizes[name] < FEW and name in (one.row["group_a"], one.row["group_b"])
        ]
        if few:
            one.remarks.append(f"fewer than {FEW} subjects: {', '.join(few)}")
    return found


def _start(comparison: str, names: Sequence[str], scans: pd.DataFrame, design: str) -> dict:
    """Return the columns that say what is compared, and how many there are."""
    pair = tuple(names) if len(names) == 2 else ("", "")
    numbers = [
        scans[scans["group"] == name]["subject"].nunique() if name else None for name in pair
    ]
    return {
        "comparison": comparison,
        "group_a": pair[0],
        "group_b": pair[1],
        "design": design,
        "n_groups": len(names),
        "n_subjects": scans["subject"].nunique(),
        "n_cases": len(scans),
        "n_a": numbers[0],
        "n_b": numbers[1],
        "n_infinite": int(np.isinf(scans["compared"]).sum()) if len(scans) else 0,
        "test": "",
    }


def _between(
    comparison: str, names: list[str], scans: pd.DataFrame, settings: Statistics
) -> _Compared:
    """Compare groups of different subjects."""
    scans = scans[scans["group"].isin(names)]
    place = {name: number for number, name in enumerate(names)}
    ordered = scans.assign(place=scans["group"].map(place)).sort_values(
        ["place", "subject", "case"], kind="stable"
    )
    number, _ = pd.factorize(ordered["subject"])
    sizes = tuple(int(size) for size in ordered.groupby("place")["subject"].nunique())
    compared = _Compared(_start(comparison, names, scans, "between"), sizes=sizes)
    sample = ordered["compared"].to_numpy(float)
    if len(set(sample)) == 1:
        compared.remarks.append("all values are equal: not tested")
    elif len(names) == 2:
        compared.test = relabel(sample, number, sizes[0], settings.seed)
    else:
        compared.test = Between(sample, number, sizes, settings.seed)
    return compared


def _within(
    comparison: str, names: list[str], scans: pd.DataFrame, settings: Statistics
) -> _Compared:
    """Compare groups in the subjects that have scans in each of them."""
    scans = scans[scans["group"].isin(names)]
    whole = scans.groupby("subject")["group"].transform("nunique") == len(names)
    scans = scans[whole]
    compared = _Compared(_start(comparison, names, scans, "within"))
    means = scans.groupby(["subject", "group"])["compared"].mean().unstack().reindex(columns=names)
    values = means.to_numpy(float)
    compared.sizes = (len(values),) * len(names)
    if len(values) < fewest_subjects(settings.alpha):
        compared.remarks.append(
            f"{count(len(values), 'subject')} with scans in {'both' if len(names) == 2 else 'all'} groups: not tested"
        )
    elif len(names) == 2:
        difference = differences(values[:, 0], values[:, 1])
        compared.test = swap(difference, np.arange(len(values)), settings.seed)
    else:
        compared.test = Within(values, settings.seed)
    return compared


def _estimate(test: Test | Between | Within | None) -> float:
    return float(getattr(test, "estimate", NAN)) if test is not None else NAN


def _judge(family: list[_Compared], settings: Statistics) -> None:
    """Give a family's rows p, adjusted p by Holm's method, and intervals."""
    empty = ("p", "statistic", "estimate", "ci_low", "ci_high", "effect_size", "p_adjusted")
    for compared in family:
        compared.row |= dict.fromkeys((*empty, "ci_low_adjusted", "ci_high_adjusted"), NAN)
        compared.row |= {"significant": "", "estimate_name": "", "effect_name": ""}
    tested = [compared for compared in family if compared.test is not None]
    for compared in tested:
        if getattr(compared.test, "smallest_p", 0.0) > settings.alpha:
            compared.remarks.append("too few subjects for any p as small as alpha: cannot be told")
    members = [one for one in tested if getattr(one.test, "smallest_p", 0.0) <= settings.alpha]
    # Holm's steps need every p, and Bonferroni's level the number of tests alone. In the order of sizes, choices of
    # labels, which take long to draw and much memory, are drawn once.
    levels = {settings.alpha, settings.alpha / max(1, len(members))}
    intervals: dict[int, dict[float, Interval]] = {}
    in_order = sorted(tested, key=lambda one: one.sizes)
    words = {"groups": "comparisons of all groups of a column", "pair": "comparisons of two groups"}
    for compared in progress(in_order, words[family[0].row["comparison"]]) if tested else ():
        test = replace(compared.test)  # a copy, so that the sums of all choices do not stay
        estimate = _estimate(test)
        compared.leaning = (
            estimate if estimate == estimate and estimate else getattr(test, "t", 0.0)
        )
        intervals[id(compared)] = {level: _interval(test, level) for level in levels}
        p = float(test.p)
        low, high = _agreeing(compared, intervals[id(compared)][settings.alpha], p, settings)
        compared.row |= {
            "test": test.name, "p": p, "statistic": float(test.statistic), "estimate": estimate,
            "estimate_name": getattr(test, "estimate_name", ""), "ci_low": low, "ci_high": high,
            "effect_size": float(getattr(test, "effect_size", NAN)),
            "effect_name": getattr(test, "effect_name", ""), "significant": False,
        }  # fmt: skip
    for compared in sorted(family, key=lambda one: one.sizes):
        if compared.other is not None:
            p, estimate = float(compared.other.p), _estimate(compared.other)
            compared.row |= {"other_p": p, "other_estimate": estimate}
    for compared in family:
        compared.row["n_family"] = len(members)
    if not members:
        return
    adjusted = multiple_testing.by_p(
        [compared.row["p"] for compared in members],
        lambda number, level: intervals[id(members[number])][level],
        "holm",
        settings.alpha,
    )
    for compared, p, interval in zip(members, adjusted.p, adjusted.intervals, strict=True):
        low, high = _agreeing(compared, interval, float(p), settings)
        compared.row |= {
            "p_adjusted": float(p), "ci_low_adjusted": low, "ci_high_adjusted": high,
            "significant": bool(significant(p, settings.alpha)),
        }  # fmt: skip


def _interval(test: Test | Between | Within, level: float) -> Interval:
    """Return the interval of a difference of two groups; of more there is none."""
    return (NAN, NAN) if isinstance(test, Between | Within) else test.interval(level)


def _agreeing(compared: _Compared, interval: Interval, p: float, settings: Statistics) -> Interval:
    """Move an end so that 0 lies outside exactly where p is at most alpha."""
    return multiple_testing.agreeing(interval, p, settings.alpha, compared.leaning)


def _not_below_their_groups(compared: list[_Compared], settings: Statistics) -> None:
    """Raise the adjusted p of pairs to that of their groups, so that a pair differs only where the groups do."""
    names = ("dataset", "column", "model", "structure", "metric")
    of_groups = {
        tuple(one.row[name] for name in names): one.row["p_adjusted"]
        for one in compared
        if one.row["comparison"] == "groups"
    }
    for one in compared:
        if one.row["comparison"] != "pair" or one.row["p_adjusted"] != one.row["p_adjusted"]:
            continue
        above = of_groups[tuple(one.row[name] for name in names)]
        p = max(one.row["p_adjusted"], above) if above == above else 1.0
        ends = (one.row["ci_low_adjusted"], one.row["ci_high_adjusted"])
        low, high = _agreeing(one, ends, p, settings)
        one.row |= {
            "p_adjusted": p, "ci_low_adjusted": low, "ci_high_adjusted": high,
            "significant": bool(significant(p, settings.alpha)),
        }  # fmt: skip
