"""What the report says of subgroups: when they were named, sentences, and both tables."""

from collections.abc import Mapping

from segstudy import analysis_plan, metric, subgroup_words
from segstudy.groups import FEW, FEWEST_TESTED
from segstudy.publish.results import Results
from segstudy.publish.tables import Cell
from segstudy.publish.words import chosen_metrics, listing, p_value
from segstudy.words import confidence, count

MOST_SENTENCES = 6
"""Tests that are told in words; all are in the table."""


def shown(results: Results, anonymous: bool = False) -> dict:
    """Return what the report shows of the subgroups; nothing where none are named.

    Parameters
    ----------
    results
        The results of the study.
    anonymous
        Whether columns were withheld of which a group is so small that its subjects might be known.
    """
    settings = results.study.statistics
    if not settings.subgroups:
        return {"rows": [], "lead": ""}
    groups, tests = results.subgroups, results.subgroup_tests
    rows = tests.to_dict("records")
    several = len(results.study.tested_datasets) > 1
    withheld = [
        f"{column} of {dataset}"
        for dataset in results.study.tested_datasets
        for column in settings.subgroups
        if not ((groups["dataset"] == dataset) & (groups["column"] == column)).any()
    ]
    small = groups[groups["remark"].str.contains("fewer than")]
    small = small.drop_duplicates(["dataset", "column", "group"])
    level = f"{confidence(settings.alpha)} CI"
    shown_metrics = {
        one.name for one in chosen_metrics(results.study.publish.metrics, results.study)
    }
    return {
        "lead": subgroup_words.summary(rows, settings.alpha),
        "recorded": analysis_plan.about_subgroups(results.root, settings),
        "warnings": _warnings(small, withheld, anonymous),
        "sentences": [
            subgroup_words.sentence(
                row, settings.alpha, metric.find(row["metric"]).title, results.look.model, results.look.in_text
            )
            for row in subgroup_words.told(rows, MOST_SENTENCES)
        ],
        "head": [
            *(["Dataset"] if several else []),
            *("Column", "Group", "Structure", "Metric", "Model", "Subjects", "Scans"),
            *("Mean", level, "Median (quartiles)", "Failed or infinite"),
        ],
        "rows": [
            _row(results, row, several)
            for row in groups.to_dict("records")
            if row["metric"] in shown_metrics
        ],
        "test_head": [
            *(["Dataset"] if several else []),
            *("Column", "Groups", "Structure", "Metric", "Model", "Subjects", "Difference", level),
            *("Test", "p", "p adjusted", "Remark"),
        ],
        "test_rows": [_test_row(results, row, several) for row in rows],
    }  # fmt: skip


def _warnings(small, withheld: list[str], anonymous: bool) -> list[str]:
    """Warn of small groups, and say what is not told."""
    sentences = []
    if len(small):
        named = [
            f"{row['column']} {row['group']} ({int(row['n_subjects'])})"
            for row in small.to_dict("records")
        ]
        verb = "has" if len(named) == 1 else "have"
        sentences.append(
            f"{count(len(named), 'group')} {verb} fewer than {FEW} subjects, of which little can be told: "
            f"{listing(named[:8])}{' and others' if len(named) > 8 else ''}. Below {FEWEST_TESTED} nothing is tested."
        )
    if withheld and anonymous:
        sentences.append(
            f"Withheld, since a group has fewer than {FEWEST_TESTED} subjects, who might be known by it, or no subject has a value: "
            f"{listing(withheld)}."
        )
    elif withheld:
        sentences.append(f"Without a value for any subject: {listing(withheld)}.")
    return sentences


def _row(results: Results, row: Mapping, several: bool) -> list[Cell]:
    look, shown_metric = results.look, metric.find(row["metric"])
    return [
        *([Cell(row["dataset"])] if several else []),
        Cell(row["column"]),
        Cell(row["group"]),
        Cell(look.structure(row["structure"])),
        Cell(shown_metric.axis),
        Cell(look.model(row["model"])),
        _whole(row["n_subjects"]),
        _whole(row["n_cases"]),
        Cell(shown_metric.text(row["mean"]), row["mean"]),
        Cell(_ends(shown_metric, row["ci_low"], row["ci_high"])),
        Cell(
            f"{shown_metric.text(row['median'])} ({_ends(shown_metric, row['q1'], row['q3'], ' to ')})", row["median"]
        ),
        Cell(f"{int(row['n_failed'])} / {int(row['n_infinite'])}", float(row["n_failed"])),
    ]  # fmt: skip


def _test_row(results: Results, row: Mapping, several: bool) -> list[Cell]:
    look, shown_metric = results.look, metric.find(row["metric"])
    groups = (
        f"{row['group_a']} − {row['group_b']}" if row["group_a"] else f"all {int(row['n_groups'])}"
    )
    words = subgroup_words.TESTS.get(row["test"], "")
    return [
        *([Cell(row["dataset"])] if several else []),
        Cell(row["column"]),
        Cell(groups),
        Cell(look.structure(row["structure"])),
        Cell(shown_metric.axis),
        Cell(look.model(row["model"])),
        _whole(row["n_subjects"]),
        Cell(shown_metric.text(row["estimate"]), row["estimate"]),
        Cell(_ends(shown_metric, row["ci_low"], row["ci_high"])),
        Cell(words.removeprefix("a ") or "–"),
        Cell(p_value(row["p"]), row["p"]),
        Cell(p_value(row["p_adjusted"]), row["p_adjusted"], best=row["significant"] in (True, "True")),
        Cell(row["remark"]),
    ]  # fmt: skip


def _whole(value: float) -> Cell:
    return Cell(str(int(value)), float(value))


def _ends(shown_metric, low: float, high: float, between: str = ", ") -> str:
    if low != low:
        return "–"
    ends = f"{shown_metric.text(low)}{between}{shown_metric.text(high)}"
    return f"[{ends}]" if between == ", " else ends
