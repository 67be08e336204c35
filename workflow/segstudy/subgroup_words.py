"""Subgroups in words, the same in `report.md`, in the report and in the methods text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from segstudy.words import confidence, count, minus

TESTS = {
    "relabel_mean": "a permutation test of Welch's t",
    "relabel_ranks": "a permutation test of the rank sum",
    "relabel_wald": "a permutation test of a Wald-type statistic",
    "relabel_kruskal": "a permutation test of Kruskal and Wallis's statistic",
    "swap_mean": "a test that swaps the groups' labels per subject",
    "swap_ranks": "a test that swaps the groups' labels per subject, on signed ranks",
    "shuffle_mean": "a test that permutes the groups' labels per subject",
    "shuffle_friedman": "a test that permutes the groups' labels per subject, on ranks",
}
SHIFTS = {"mean_difference": "mean difference", "hodges_lehmann": "Hodges-Lehmann shift"}


def methods(cuts: Mapping[str, Any], alpha: float, fewest: int) -> str:
    """Say how subgroups are made and tested.

    Parameters
    ----------
    cuts
        `statistics.subgroups`.
    alpha
        Level of significance.
    fewest
        Subjects of a group below which it is not tested.
    """
    return (
        f"Each model was summarised by subgroups ({_listed(_cut(*item) for item in cuts.items())}), and its values compared "
        "between them, by permuting the labels of groups over the subjects, whose scans were averaged: with Welch's t for two "
        "groups, a Wald-type statistic for more, and rank sums where a distance is infinite. Subjects with scans in several groups were "
        "left out; where they were the greater part, the labels were permuted within each instead. Groups of fewer than "
        f"{fewest} subjects were not tested. p is adjusted by Holm's method over all columns, models, structures, metrics and datasets; pairs "
        f"of more than two groups are a family of their own, and differ only where their groups do. Intervals are {confidence(alpha)} "
        "intervals of the test shown. Missing predictions and infinite distances count as in the comparisons of models. That no "
        "difference is found does not show that there is none."
    )


def _cut(column: str, cut: Any) -> str:
    """Say how a column makes groups."""
    if isinstance(cut, str):
        how = {"values": "by value", "median": "at the median", "tertiles": "at the tertiles"}
        return f"{column} {how[cut]}" if cut in how else column
    return f"{column} cut at {', '.join(f'{bound:g}' for bound in cut)}"


def told(rows: Iterable[Mapping], most: int) -> list[Mapping]:
    """Select the tests that are told in words: of groups that differ, the smallest p first."""
    differing = [
        row
        for row in rows
        if row["comparison"] == "groups" and row["significant"] in (True, "True")
    ]
    return sorted(differing, key=lambda row: (row["p_adjusted"], row["p"]))[:most]


def summary(rows: Sequence[Mapping], alpha: float) -> str:
    """Say how many of the tests found a difference."""
    of_groups = [row for row in rows if row["comparison"] == "groups"]
    tested = [row for row in of_groups if row["test"]]
    if not tested:
        reasons = list(dict.fromkeys(row["remark"] for row in of_groups if row["remark"]))
        more = "; and other reasons" if len(reasons) > 2 else ""
        return (
            f"No subgroups could be compared: {'; '.join(reasons[:2]) or 'there are none'}{more}."
        )
    found = sum(row["significant"] in (True, "True") for row in tested)
    untested = len(of_groups) - len(tested)
    rest = f"; {count(untested, 'comparison')} could not be tested" if untested else ""
    verb = "shows" if found == 1 else "show"
    return (
        f"{found} of {count(len(tested), 'comparison')} of subgroups {verb} a difference (p adjusted by Holm's method over all of "
        f"them ≤ {alpha:g}){rest}."
    )


def sentence(
    row: Mapping,
    alpha: float,
    metric: str,
    name: Callable[[str], str] = str,
    structure: Callable[[str], str] = str,
) -> str:
    """Write a test of subgroups as a sentence for a paper.

    Parameters
    ----------
    row
        Of `subgroup_tests.csv`.
    alpha
        Level of significance.
    metric
        The metric as it is called in text.
    name, structure
        Return the name of a model, and of a structure, as it is shown.
    """
    on = f" on {row['dataset']}" if row["dataset"] else ""
    what = (
        f"{name(row['model'])}, {metric} of {structure(row['structure'])}{on}, by {row['column']}"
    )
    remark = f" ({row['remark']})" if row["remark"] else ""
    if not row["test"]:
        return f"{what}: not tested{remark}."
    differ = row["significant"] in (True, "True")
    numbers = [f"{TESTS[row['test']]}, p {_p(row['p'])}"]
    if row["p_adjusted"] == row["p_adjusted"]:
        numbers.append(f"adjusted {_p(row['p_adjusted'])} ({count(int(row['n_family']), 'test')})")
    if row["group_a"]:
        n = f"{row['group_a']} (n = {int(row['n_a'])}) against {row['group_b']} (n = {int(row['n_b'])})"
        if row["estimate"] == row["estimate"]:
            ends = minus(", ".join(f"{row[end]:.3g}" for end in ("ci_low", "ci_high")))
            shift = minus(f"{row['estimate']:+.3g}")
            numbers.insert(
                0,
                f"{SHIFTS[row['estimate_name']]} {shift}{_unit(row)} ({confidence(alpha)} CI [{ends}])",
            )
    else:
        n = f"{int(row['n_groups'])} groups of {count(int(row['n_subjects']), 'subject')}"
    verdict = "they differ" if differ else "no difference can be told"
    return f"{what}, {n}: {verdict}; {', '.join(numbers)}{remark}."


def _unit(row: Mapping) -> str:
    return f" {row['unit']}" if row["unit"] else ""


def _p(p: float) -> str:
    """Write p with three decimals, and `< 0.001` below."""
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"


def _listed(words: Iterable[str]) -> str:
    """Join words as a sentence does."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
