"""The comparisons in words, for a paper."""

from collections.abc import Mapping

import pandas as pd

from segstudy import subgroup_words, verdict_words
from segstudy.groups import FEWEST_TESTED
from segstudy.statistics.analysis import Analysis
from segstudy.statistics.completion import OTHER, listing
from segstudy.statistics.subgroups import Subgroups
from segstudy.study import Statistics
from segstudy.words import confidence, count

TESTS = {
    "swap_mean": "a test that swaps the models' labels per subject",
    "swap_ranks": "a test that swaps the models' labels per subject, on signed ranks",
    "relabel_mean": "a permutation test of Welch's t",
    "relabel_ranks": "a permutation test of the rank sum",
    "paired_t": "a paired t test",
    "wilcoxon": "a Wilcoxon signed-rank test",
    "mannwhitneyu": "a Mann-Whitney U test",
    "welch_t": "Welch's t test",
}
STATISTICS = {
    "swap_mean": "mean",
    "swap_ranks": "mean score",
    "relabel_mean": "t",
    "relabel_ranks": "rank sum",
    "wilcoxon": "W",
    "mannwhitneyu": "U",
}
ESTIMATES = {"mean_difference": "mean difference", "hodges_lehmann": "Hodges-Lehmann shift"}
CORRECTIONS = {
    "max_t": "adjusted by step-down max-T",
    "holm": "adjusted by Holm's method",
    "benjamini_hochberg": "adjusted by the method of Benjamini and Hochberg",
    "none": "not adjusted",
}
AT_ONCE = {
    "max_t": "which holds for all tests at once",
    "holm": "which holds for all tests at once (Bonferroni)",
    "benjamini_hochberg": "which covers all but a share α of what was found (Benjamini and Yekutieli 2005)",
}
EFFECTS = {
    "cohens_dz": "d_z",
    "matched_rank_biserial": "matched rank-biserial r",
    "rank_biserial": "rank-biserial r",
    "cohens_d": "d",
}
FALSE_POSITIVES = "Cases without the structure"


def report(analysis: Analysis, settings: Statistics, subjects: str) -> str:
    """Write `report.md`: the methods, missing predictions, and a sentence for each comparison.

    Parameters
    ----------
    analysis
        All tables.
    settings
        Settings of the statistics.
    subjects
        Of `about_subjects`.
    """
    tests, ranking = analysis.tests, analysis.ranking
    lines = ["# Comparison of the models", "", methods(settings, subjects), ""]
    lines += _missing(analysis, settings)
    lines += _verdicts(analysis, settings)
    if not len(tests):
        single = analysis.values["model"].nunique() < 2
        why = "There is only one model, so nothing" if single else "As the settings ask, nothing"
        lines += [f"{why} was compared.", ""]
    for (dataset, other, metric), group in tests.groupby(
        ["dataset", "dataset_b", "metric"], sort=False
    ):
        within = dataset == other
        where = dataset if within else f"{dataset} against {other} (different cases, not paired)"
        lines += [f"## {metric}" + (f", {where}" if where else ""), ""]
        ranks = ranking[(ranking["dataset"] == dataset) & (ranking["metric"] == metric)]
        if within:
            lines += [
                f"- {places(part, settings)}" for _, part in ranks.groupby("structure", sort=False)
            ]
        lines += [f"- {sentence(row, settings)}" for row in group.to_dict("records")]
        lines.append("")
    lines += _false_positives(analysis, settings)
    return "\n".join(lines)


def about_subgroups(found: Subgroups, settings: Statistics) -> str:
    """Write the section on subgroups: how they are made, what was found, and a sentence for each test."""
    rows = found.subgroup_tests.to_dict("records")
    lines = ["## Subgroups", ""]
    lines += [subgroup_words.methods(settings.subgroups, settings.alpha, FEWEST_TESTED), ""]
    rules = "; ".join(f"{column}: {rule}" for column, rule in found.rules.items())
    lines += [f"Groups: {rules}. {subgroup_words.summary(rows, settings.alpha)}", ""]
    lines += [f"- {subgroup_words.sentence(row, settings.alpha, row['metric'])}" for row in rows]
    return "\n".join([*lines, ""])


def about_subjects(unnamed: int, cases: int) -> str:
    """Say how cases were taken whose subject no table names; empty where there is none.

    Parameters
    ----------
    unnamed
        Number of such cases.
    cases
        Number of all cases.
    """
    if not unnamed:
        return ""
    which = "each case" if unnamed == cases else f"{unnamed} of {cases} cases without one"
    return (
        f"the tables do not name the subject of {'any' if unnamed == cases else 'every'} case: {which} "
        f"{'was' if unnamed == cases else 'were each'} taken as a subject of its own, which is wrong where a subject "
        "has several (give a column `subject`)"
    )


def methods(settings: Statistics, subjects: str) -> str:
    """Write the paragraph on methods."""
    unit = "The unit is the subject, whose cases are averaged."
    if subjects:
        unit += f" {subjects[0].upper()}{subjects[1:]}."
    missing = {
        "worst": "A missing prediction counts as the worst value (Dice 0, an infinite distance)",
        "exclude": "Cases without a prediction were left out of comparisons with that model",
    }[settings.missing]
    return (
        f"{unit} Where a model predicted a case several times (seeds, or folds on another site), its "
        "values were averaged first; a distance that is infinite in one of them stays infinite. "
        f"{_tests(settings)} All tests are two-sided, and each interval of a difference is the "
        f"{confidence(settings.alpha)} interval of the test shown: it leaves out 0 exactly where p ≤ α = "
        f"{settings.alpha:g}. {_corrected(settings)} Infinite distances, to an empty mask, "
        f"rank worst, and two of them are a tie. {missing}; the other outcome stands beside it. Where the "
        "reference lacks a structure, its metrics are undefined for every model, and false positives are "
        "compared by themselves. Relative volume errors are compared by size. Over all models, the ranks "
        "for each subject were tested with Friedman's test, and the intervals of mean ranks come from "
        "resampled subjects (percentile bootstrap). Models of a cross-validation share training data: p "
        "compares the trained models on these cases, not the learning algorithms; a t test of the folds' "
        "means that allows for it (Nadeau and Bengio 2003) stands beside it in tests.csv."
    )


def _tests(settings: Statistics) -> str:
    if settings.rule == "swap":
        return (
            "The models' labels were swapped subject by subject, in all ways up to 13 subjects and in 99,999 random "
            "ones above, and the mean difference (A - B) compared with those of the swaps; with infinite "
            "distances the mean signed rank. Models that share no case, and a model on two datasets, are "
            "compared unpaired, by permuting which subjects belong to which, with Welch's t or, with infinite "
            "distances, the sum of ranks."
        )
    other = {
        "shapiro_then_wilcoxon": "a Wilcoxon signed-rank test (differences of zero dropped)",
        "shapiro_then_mannwhitneyu": "a Mann-Whitney U test, which discards the pairing",
    }[settings.rule]
    return (
        f"Paired differences (A - B) were tested for normality (Shapiro-Wilk, α = {settings.alpha:g}), then "
        f"with a paired t test, or with {other} where normality was rejected or could not be tested. Models "
        "that share no case, and a model on two datasets, are compared unpaired, with Welch's t test where "
        "both samples are normal and a Mann-Whitney U test where not."
    )


def _corrected(settings: Statistics) -> str:
    family = f"dataset (metric × structure × pair of models){_of_datasets(settings)}"
    if settings.primary:
        primary = settings.primary
        family += f" (the primary endpoint, {primary.metric} of {primary.structure}, is a family of its own)"
    if settings.correction == "none":
        return f"p is not adjusted for the number of tests of a {family}."
    return (
        f"p is {CORRECTIONS[settings.correction]} over the family of all tests of a {family} that can reach "
        f"{settings.alpha:g}, and a model is called better by the adjusted p. Its interval, {AT_ONCE[settings.correction]}, "
        "may end at 0: 0 is part of it only where nothing can be told."
    )


def _of_datasets(settings: Statistics) -> str:
    if not settings.compare_datasets:
        return ""
    return ", or of a pair of datasets (metric × structure × model)"


def _verdicts(analysis: Analysis, settings: Statistics) -> list[str]:
    """Write the section on the verdicts, the primary endpoint's first; none where no margin and no endpoint is set."""
    verdicts = analysis.verdicts
    if not settings.is_planned or not len(verdicts):
        return []
    told = verdicts[verdicts["primary"] | verdicts["margin"].notna()]
    told = told.sort_values("primary", ascending=False, kind="stable")
    lines = ["## Verdicts", ""]
    for row in told.to_dict("records"):
        endpoint = "**Primary endpoint.** " if row["primary"] else ""
        lines.append(f"- {endpoint}{verdict_words.sentence(row, settings.alpha, row['metric'])}")
    return [*lines, "", verdict_words.ABOUT_P, ""]


def _missing(analysis: Analysis, settings: Statistics) -> list[str]:
    """Say which models lack the predictions of which cases."""
    lacking = analysis.values[analysis.values["missing"]]
    if not len(lacking):
        return []
    sentences = []
    for (dataset, model), rows in lacking.groupby(["dataset", "model"], sort=False):
        cases = list(dict.fromkeys(rows["case"]))
        where = f" of {dataset}" if dataset else ""
        sentences.append(f"{model} lacks {count(len(cases), 'case')}{where} ({listing(cases, 20)})")
    taken = {"worst": "count as worst", "exclude": "are left out"}[settings.missing]
    return [f"**Missing predictions**, which {taken}: {'; '.join(sentences)}.", ""]


def places(ranks: pd.DataFrame, settings: Statistics) -> str:
    """List the models of one structure and metric in the order of their mean ranks."""
    if not ranks["n_subjects"].iloc[0]:
        return f"{ranks['structure'].iloc[0]}: no case has a value of every model, so no ranks."
    rows = ranks.sort_values("mean_rank", kind="stable").to_dict("records")
    order = "; ".join(
        f"{row['model']} {row['mean_rank']:.2f} [{row['rank_low']:.2f}, {row['rank_high']:.2f}]"
        for row in rows
    )
    row = rows[0]
    text = f"{row['structure']}: mean ranks (1 is best, {confidence(settings.alpha)} CI) {order}"
    if row["friedman_p"] == row["friedman_p"]:
        text += (
            f"; Friedman's χ²({row['friedman_df']:g}, N = {row['n_subjects']}) = "
            f"{row['friedman_statistic']:.2f}, p {_p(row['friedman_p'])}"
        )
    return f"{text}; {row['model']} comes first in {row['share_first']:.0%} of resamples."


def sentence(row: Mapping, settings: Statistics) -> str:
    """Write one comparison in words with all its numbers."""
    a, b = row["model_a"], row["model_b"]
    if row["dataset"] != row["dataset_b"]:
        a, b = f"{a} on {row['dataset']}", f"{b} on {row['dataset_b']}"
    head = f"{row['structure']}: {a} against {b}"
    remark = f" ({row['remark']})" if row["remark"] else ""
    if not row["test"]:
        return f"{head} in {row['metric']}: not tested{remark}."
    verdict = {
        "a_better": f"{a} is better in {row['metric']}, by",
        "b_better": f"{b} is better in {row['metric']}, by",
        "cannot_be_told": f"which is better in {row['metric']} cannot be told from",
    }[row["verdict"]]
    return (
        f"{head}: {verdict} {TESTS[row['test']]}, {_statistic(row)}, p {_p(row['p'])}"
        f"{_adjusted(row, settings)}, {ESTIMATES[row['estimate_name']]} {_signed(row['estimate'])}, "
        f"{confidence(settings.alpha)} CI {_interval(row, 'ci_low', 'ci_high')}{_at_once(row, settings)}, median "
        f"difference {_signed(row['median_difference'])}{_effect(row)}; {a} was better for "
        f"{row['share_a_better']:.0%} and equal for {row['share_tied']:.0%} of {_count(row)}"
        f"{_other(row, settings)}{remark}."
    )


def _adjusted(row: Mapping, settings: Statistics) -> str:
    if settings.correction == "none" or row["p_adjusted"] != row["p_adjusted"]:
        return ""
    return f", adjusted p {_p(row['p_adjusted'])} ({count(row['n_family'], 'test')})"


def _at_once(row: Mapping, settings: Statistics) -> str:
    if settings.correction == "none" or row["p_adjusted"] != row["p_adjusted"]:
        return ""
    what = {"benjamini_hochberg": "adjusted"}.get(settings.correction, "of all tests at once")
    return f", {what} {_interval(row, 'ci_low_adjusted', 'ci_high_adjusted')}"


def _effect(row: Mapping) -> str:
    if row["effect_size"] != row["effect_size"]:
        return ""
    return f", {EFFECTS[row['effect_name']]} = {row['effect_size']:.2f}"


def _other(row: Mapping, settings: Statistics) -> str:
    """Write the outcome for missing predictions taken the other way."""
    p = row.get("other_p")
    if p is None or p != p:
        return ""
    way = {"worst": "with missing predictions as worst", "exclude": "without cases that lack one"}
    return (
        f"; {way[OTHER[settings.missing]]} {_signed(row['other_estimate'])}, "
        f"{_interval(row, 'other_ci_low', 'other_ci_high')}, p {_p(p)}"
    )


def _signed(value: float) -> str:
    """Write a number with its sign; a dash where it is undefined."""
    return "–" if value != value else f"{value + 0.0:+.4g}"


def _interval(row: Mapping, low: str, high: str) -> str:
    if row[low] != row[low]:
        return "–"
    # An end that was moved away from 0 by rounding is 0 to a reader.
    ends = (0.0 if abs(row[end]) < 1e-9 else row[end] for end in (low, high))
    return f"[{', '.join(f'{end:.4g}' for end in ends)}]"


def _statistic(row: Mapping) -> str:
    if row["test"] in ("paired_t", "welch_t"):
        return f"t({row['df']:g}) = {row['statistic']:.2f}"
    return f"{STATISTICS[row['test']]} = {row['statistic']:.6g}"


def _p(p: float) -> str:
    """Write p with three decimals as far as they say something, then with the power of ten."""
    if p >= 0.001:
        return f"= {p:.3f}"
    if p == 0:
        return "< 1e-300"
    return f"= {p:.1e}"


def _count(row: Mapping) -> str:
    if row["design"] == "unpaired":
        return f"the pairs of {row['n_a']} and {row['n_b']} different subjects"
    subjects, cases = row["n_subjects"], row["n_cases"]
    number = count(subjects, "subject") + (f" ({cases} cases)" if cases != subjects else "")
    left_out = f", {count(row['n_left_out'], 'case')} left out" if row["n_left_out"] else ""
    return f"{number}{left_out}"


def _false_positives(analysis: Analysis, settings: Statistics) -> list[str]:
    """Write the section on cases whose reference lacks a structure."""
    summary, tests = analysis.false_positives, analysis.false_positive_tests
    if not len(summary):
        return []
    lines = [f"## {FALSE_POSITIVES}", ""]
    rates = summary[summary["metric"] == "false_positive_cases"]
    for key, group in rates.groupby(["dataset", "structure"], sort=False):
        rates_text = listing(
            (
                f"{row['model']} {row['mean']:.0%}" + (f" ({row['n_missing']} missing)" if row["n_missing"] else "")
                for row in group.to_dict("records")
            ),
            most=len(group),
        )  # fmt: skip
        where = f", {key[0]}" if key[0] else ""
        number = int(group["n_cases"].max())
        cases = count(number, "case")
        lines.append(f"- {key[1]}{where}: false positives in {cases} without it: {rates_text}.")
    lines += [f"- {sentence(row, settings)}" for row in tests.to_dict("records")]
    return [*lines, ""]
