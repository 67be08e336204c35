"""The comparisons in words, for a paper."""

from collections.abc import Mapping

import pandas as pd

from segstudy.study import Statistics

TESTS = {
    "paired_t": "a paired t test",
    "wilcoxon": "a Wilcoxon signed-rank test",
    "mannwhitneyu": "a Mann-Whitney U test",
    "permutation": "a permutation test of the signs",
    "welch_t": "Welch's t test",
}
CORRECTIONS = {
    "holm": "adjusted by Holm's method",
    "benjamini_hochberg": "adjusted by the method of Benjamini and Hochberg",
    "none": "not adjusted",
}
EFFECTS = {
    "cohens_dz": "d_z",
    "matched_rank_biserial": "matched rank-biserial r",
    "rank_biserial": "rank-biserial r",
    "cohens_d": "d",
}


def report(tests: pd.DataFrame, ranking: pd.DataFrame, settings: Statistics) -> str:
    """`report.md`: how it was tested, and a sentence a comparison."""
    lines = ["# Comparison of the models", "", methods(settings), ""]
    if not len(tests):
        return "\n".join([*lines, "There is only one model, so nothing was compared.", ""])
    for (dataset, other, metric), group in tests.groupby(
        ["dataset", "dataset_b", "metric"], sort=False
    ):
        within = dataset == other
        where = dataset if within else f"{dataset} against {other} (different cases, not paired)"
        lines += [f"## {metric}" + (f", {where}" if where else ""), ""]
        ranks = ranking[(ranking["dataset"] == dataset) & (ranking["metric"] == metric)]
        if within:
            lines += [f"- {places(part)}" for _, part in ranks.groupby("structure", sort=False)]
        lines += [f"- {sentence(row)}" for row in group.to_dict("records")]
        lines.append("")
    return "\n".join(lines)


def methods(settings: Statistics) -> str:
    """The paragraph on methods."""
    rule = {
        "wilcoxon": "a Wilcoxon signed-rank test (differences of zero dropped)",
        "permutation": "a permutation test of the differences' signs",
        "mannwhitneyu": "a Mann-Whitney U test, which discards the pairing",
    }[settings.when_not_normal]
    return (
        "Models were compared on the same cases. Where a model predicted a case several times "
        "(seeds, or folds on another site), its values were averaged first, so that a case counts "
        "once; a distance that is infinite in one of them stays infinite. Paired differences (A - B) "
        f"were tested for normality (Shapiro-Wilk, α = {settings.alpha:g}), then with a paired t "
        f"test, or with {rule} where normality was rejected or could not be tested. All tests are "
        f"two-sided. p is {CORRECTIONS[settings.correction]} over the family of all tests of a "
        "dataset (metric × structure × pair of models)"
        f"{_of_datasets(settings)}. Infinite distances, to an empty mask, rank "
        "worst, two of them are a tie, and they are left out of mean differences and t tests. "
        "Models that share no case are compared unpaired, with Welch's t test where both samples are "
        "normal and a Mann-Whitney U test where not; so is a model on two datasets. Relative volume errors "
        "are compared by size. Intervals are 95 % confidence intervals of "
        f"the mean difference ({_bootstrap(settings)}). Over all models, the ranks within each case "
        "were tested with Friedman's test, and the intervals of mean ranks come from resampled cases "
        "(percentile bootstrap)."
    )


def _of_datasets(settings: Statistics) -> str:
    if not settings.compare_datasets:
        return ""
    return ", or of a pair of datasets (metric × structure × model)"


def places(ranks: pd.DataFrame) -> str:
    """The models of one structure and metric in the order of their mean ranks."""
    if not ranks["n_cases"].iloc[0]:
        return f"{ranks['structure'].iloc[0]}: no case has a value of every model, so no ranks."
    rows = ranks.sort_values("mean_rank", kind="stable").to_dict("records")
    order = "; ".join(
        f"{row['model']} {row['mean_rank']:.2f} [{row['rank_low']:.2f}, {row['rank_high']:.2f}]"
        for row in rows
    )
    row = rows[0]
    said = f"{row['structure']}: mean ranks (1 is best, 95 % CI) {order}"
    if row["friedman_p"] == row["friedman_p"]:
        said += (
            f"; Friedman's χ²({row['friedman_df']:g}, N = {row['n_cases']}) = "
            f"{row['friedman_statistic']:.2f}, p {_p(row['friedman_p'])}"
        )
    return f"{said}; {row['model']} comes first in {row['share_first']:.0%} of resamples."


def sentence(row: Mapping) -> str:
    """One comparison in words with all its numbers."""
    a, b = row["model_a"], row["model_b"]
    if row["dataset"] != row["dataset_b"]:
        a, b = f"{a} on {row['dataset']}", f"{b} on {row['dataset_b']}"
    head = f"{row['structure']}: {a} against {b}"
    remark = f" ({row['remark']})" if row["remark"] else ""
    if not row["test"]:
        return f"{head}, {_count(row)}{remark}."
    if row["significant"] is True or row["significant"] == "True":
        verdict = "differed significantly"
    else:
        verdict = "did not differ significantly"
    return (
        f"{head}: {row['metric']} {verdict} by {TESTS[row['test']]}, {_statistic(row)}, "
        f"p {_p(row['p'])}, adjusted p {_p(row['p_adjusted'])} ({row['n_family']} tests), "
        f"mean difference {row['mean_difference']:+.4g}, 95 % CI [{row['ci_low']:.4g}, "
        f"{row['ci_high']:.4g}], median difference {row['median_difference']:+.4g}, "
        f"{EFFECTS[row['effect_name']]} = {row['effect_size']:.2f}; {a} was better in "
        f"{row['share_a_better']:.0%} and equal in {row['share_tied']:.0%} of {_count(row)}{remark}."
    )


def _statistic(row: Mapping) -> str:
    if row["test"] in ("paired_t", "welch_t"):
        return f"t({row['df']:g}) = {row['statistic']:.2f}"
    name = {"wilcoxon": "W", "mannwhitneyu": "U", "permutation": "mean"}[row["test"]]
    return f"{name} = {row['statistic']:.6g}"


def _p(p: float) -> str:
    """Three decimals as far as they say something, then the power of ten."""
    if p >= 0.001:
        return f"= {p:.3f}"
    if p == 0:
        return "< 1e-300"
    return f"= {p:.1e}"


def _count(row: Mapping) -> str:
    if row["design"] == "unpaired":
        return f"the pairs of {row['n_a']} and {row['n_b']} different cases"
    left_out = f", {row['n_left_out']} more left out as undefined" if row["n_left_out"] else ""
    return f"{row['n_pairs']} cases{left_out}"


def _bootstrap(settings: Statistics) -> str:
    method = {"bca": "BCa", "percentile": "percentile"}[settings.bootstrap]
    return f"{method} bootstrap, {settings.bootstrap_samples} resamples"
