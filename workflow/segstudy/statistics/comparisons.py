"""Which of two models is better, on the same cases."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from segstudy.errors import InputError
from segstudy.statistics import paired
from segstudy.statistics.intervals import NAN, difference_interval, generator, mean_interval
from segstudy.statistics.values import chosen_metrics, lower_is_better
from segstudy.statistics.variance import GROUP
from segstudy.study import Statistics


@dataclass(frozen=True)
class Labels:
    """Which comparison a row holds."""

    dataset: str
    structure: str
    metric: str
    model_a: str
    model_b: str


COLUMNS = (
    *(field.name for field in fields(Labels)),
    *("n_pairs", "n_left_out", "n_infinite"),
    *("mean_difference", "median_difference", "ci_low", "ci_high", "shapiro_w", "shapiro_p"),
    *("test", "statistic", "df", "p", "p_adjusted", "n_family", "significant"),
    *("effect_size", "effect_name", "share_a_better", "share_tied"),
    *("t_statistic", "t_df", "p_paired_t", "wilcoxon_statistic", "p_wilcoxon"),
    *("mannwhitneyu_statistic", "p_mannwhitneyu", "surface", "remark"),
    *("design", "n_a", "n_b", "welch_statistic", "welch_df", "p_welch", "seed_spread"),
)
"""Columns of `tests.csv`. Differences are A - B, in the unit of the metric; all tests are two-sided.

n_pairs: cases in which both models have a value. n_left_out: cases without such a pair.
n_infinite: pairs with an infinite difference, which the mean and its interval leave out.
p is that of `test`, p_adjusted over the n_family tests of the dataset.
design: `paired`, or `unpaired` where the models share no case, as those of two sites; the shares are
then over all pairs of a case of A and a case of B, and the median difference is that of the medians.
n_a, n_b: cases with a value. seed_spread: the larger of the models' (see `variance`).
"""

EFFECTS = {
    "paired_t": "cohens_dz",
    "wilcoxon": "matched_rank_biserial",
    "mannwhitneyu": "rank_biserial",
    "permutation": "cohens_dz",
    "welch_t": "cohens_d",
}


def compare(
    values: pd.DataFrame, settings: Statistics, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compare the models of a table of `values.per_case`, pair by pair.

    p is adjusted over the family of all tests of a dataset: metric x structure x pair. spread:
    of `variance.split`, for a remark where a difference is smaller than the seeds' spread.
    """
    spreads = {} if spread is None else spread.set_index(GROUP)["seed_spread"].to_dict()
    models = list(dict.fromkeys(values["model"]))
    pairs = _pairs(models, settings)
    metrics = chosen_metrics(values, settings.metrics) if pairs else []
    rows: list[dict] = []
    for dataset, cohort in values.groupby("dataset", sort=False):
        family = []
        for (structure, metric), group in cohort.groupby(["structure", "metric"], sort=False):
            if metric not in metrics:
                continue
            wide = group.pivot(index="case", columns="model", values="value")
            cases = {model: set(part) for model, part in group.groupby("model")["case"]}
            surface = group["surface"].iloc[0]
            for a, b in pairs:
                if a in wide and b in wide:
                    labels = Labels(dataset, structure, metric, a, b)
                    compared = _compared if cases[a] & cases[b] else _unpaired
                    row = compared(wide[a].to_numpy(), wide[b].to_numpy(), labels, settings)
                    of_seeds = [
                        spreads.get((dataset, model, structure, metric), NAN) for model in (a, b)
                    ]
                    family.append(_with_spread(row, of_seeds) | {"surface": surface})
        rows += adjusted(family, settings)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _pairs(models: Sequence[str], settings: Statistics) -> list[tuple[str, str]]:
    if settings.compare == "all":
        return list(combinations(models, 2))
    for pair in settings.compare:
        for model in pair:
            if model not in models:
                raise InputError(
                    f"statistics.compare: {model!r} was not measured; the table has "
                    f"{', '.join(models)}"
                )
    return list(settings.compare)


def adjusted(family: list[dict], settings: Statistics) -> list[dict]:
    """The family's rows with adjusted p; rows without a p are no tests and don't count."""
    tested = [row for row in family if np.isfinite(row["p"])]
    method = {"holm": "holm", "benjamini_hochberg": "fdr_bh"}.get(settings.correction)
    p = [row["p"] for row in tested]
    adjusted = multipletests(p, method=method)[1] if tested and method else p
    for row, value in zip(tested, adjusted, strict=True):
        row["p_adjusted"] = float(value)
        row["significant"] = bool(value < settings.alpha)
    return [row | {"n_family": len(tested)} for row in family]


def _compared(a: np.ndarray, b: np.ndarray, labels: Labels, settings: Statistics) -> dict:
    """One row, with the p not yet adjusted. a, b: values of the models by case, NaN undefined."""
    if labels.metric == "relative_volume_error":
        a, b = np.abs(a), np.abs(b)
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    difference = paired.differences(a, b)
    finite = difference[np.isfinite(difference)]
    rng = generator(settings, *astuple(labels))
    low, high = mean_interval(finite, settings, rng)
    normality = paired.shapiro(difference)
    tests = {
        "paired_t": paired.paired_t(difference),
        "wilcoxon": paired.wilcoxon(difference),
        "mannwhitneyu": paired.mannwhitneyu(a, b),
    }
    name, reason = _rule(difference, normality, settings)
    if name == "permutation":
        tests[name] = paired.permutation(difference, rng)
    chosen = tests.get(name, paired.Test())
    better = difference < 0 if lower_is_better(labels.metric) else difference > 0
    return asdict(labels) | {
        "design": "paired",
        "n_a": len(a),
        "n_b": len(b),
        "n_pairs": len(difference),
        "n_left_out": int((~both).sum()),
        "n_infinite": len(difference) - len(finite),
        "mean_difference": float(finite.mean()) if len(finite) else NAN,
        "median_difference": paired.median(difference),
        "ci_low": low,
        "ci_high": high,
        "shapiro_w": normality.statistic,
        "shapiro_p": normality.p,
        "test": name,
        "statistic": chosen.statistic,
        "df": chosen.df,
        "p": chosen.p,
        "p_adjusted": NAN,
        "significant": "",
        "effect_size": chosen.effect_size,
        "effect_name": EFFECTS.get(name, ""),
        "share_a_better": float(better.mean()) if len(better) else NAN,
        "share_tied": float((difference == 0).mean()) if len(better) else NAN,
        "t_statistic": tests["paired_t"].statistic,
        "t_df": tests["paired_t"].df,
        "p_paired_t": tests["paired_t"].p,
        "wilcoxon_statistic": tests["wilcoxon"].statistic,
        "p_wilcoxon": tests["wilcoxon"].p,
        "mannwhitneyu_statistic": tests["mannwhitneyu"].statistic,
        "p_mannwhitneyu": tests["mannwhitneyu"].p,
        "remark": "; ".join([*reason, *_remarks(name, difference, tests, settings)]),
    }


def _unpaired(a: np.ndarray, b: np.ndarray, labels: Labels, settings: Statistics) -> dict:
    """One row for models that share no case. a, b: by case, NaN where undefined or not a case."""
    if labels.metric == "relative_volume_error":
        a, b = np.abs(a), np.abs(b)
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    finite = [sample[np.isfinite(sample)] for sample in (a, b)]
    low, high = difference_interval(*finite, settings, generator(settings, *astuple(labels)))
    normality = min(paired.shapiro(a), paired.shapiro(b), key=lambda test: test.p)
    normal = all(paired.shapiro(sample).p >= settings.alpha for sample in (a, b))
    tests = {"welch_t": paired.welch(a, b), "mannwhitneyu": paired.mannwhitneyu(a, b)}
    name, remarks = ("welch_t" if normal else "mannwhitneyu"), ["no common case: not paired"]
    if min(len(a), len(b)) < 3:
        name = ""
        remarks.append("fewer than 3 cases of a model: not tested")
    elif np.isnan(tests[name].p):
        name = ""
        remarks.append("all values are equal: not tested")
    infinite = len(a) + len(b) - sum(map(len, finite))
    if infinite:
        remarks.append(
            f"{infinite} infinite values: ranked as worst, left out of the means; no Welch t"
        )
    below = {test: found.p < settings.alpha for test, found in tests.items() if found.p == found.p}
    if name and len(set(below.values())) == 2:
        only = next(test for test, yes in below.items() if yes)
        remarks.append(f"the choice of the test matters: p < alpha by {only} only")
    chosen = tests.get(name, paired.Test())
    apart = paired.differences(*(side.ravel() for side in np.meshgrid(a, b)))
    better = apart < 0 if lower_is_better(labels.metric) else apart > 0
    medians = [paired.median(sample) for sample in (a, b)]
    return (
        dict.fromkeys(COLUMNS, NAN)
        | asdict(labels)
        | {
            "design": "unpaired",
            "n_a": len(a),
            "n_b": len(b),
            "n_pairs": 0,
            "n_left_out": 0,
            "n_infinite": infinite,
            "mean_difference": float(finite[0].mean() - finite[1].mean())
            if all(map(len, finite))
            else NAN,
            "median_difference": float(paired.differences(*map(np.atleast_1d, medians))[0]),
            "ci_low": low,
            "ci_high": high,
            "shapiro_w": normality.statistic,
            "shapiro_p": normality.p,
            "test": name,
            "statistic": chosen.statistic,
            "df": chosen.df,
            "p": chosen.p,
            "significant": "",
            "effect_size": chosen.effect_size,
            "effect_name": EFFECTS.get(name, ""),
            "share_a_better": float(better.mean()) if len(better) else NAN,
            "share_tied": float((apart == 0).mean()) if len(better) else NAN,
            "mannwhitneyu_statistic": tests["mannwhitneyu"].statistic,
            "p_mannwhitneyu": tests["mannwhitneyu"].p,
            "welch_statistic": tests["welch_t"].statistic,
            "welch_df": tests["welch_t"].df,
            "p_welch": tests["welch_t"].p,
            "remark": "; ".join(remarks),
        }
    )


def _with_spread(row: dict, of_seeds: Sequence[float]) -> dict:
    """The row with the spread of the models' seeds, and a remark where it exceeds the difference."""
    known = [spread for spread in of_seeds if np.isfinite(spread)]
    if not known:
        return row | {"seed_spread": NAN}
    spread = max(known)
    remark = row["remark"]
    if abs(row["mean_difference"]) < spread:
        warning = f"the difference is smaller than the spread of the seeds ({spread:.3g})"
        remark = "; ".join(filter(None, (remark, warning)))
    return row | {"seed_spread": spread, "remark": remark}


def _rule(
    difference: np.ndarray, normality: paired.Test, settings: Statistics
) -> tuple[str, list[str]]:
    """Name of the test to use, empty for none, and why where it is not plain."""
    if len(difference) < 3:
        return "", ["fewer than 3 pairs: not tested"]
    if not difference.any():
        return "", ["the models are equal in every case: not tested"]
    if normality.p >= settings.alpha:
        return "paired_t", []
    if paired.all_equal(difference):
        why = "the difference is the same in every case: normality cannot be tested"
        return settings.when_not_normal, [why]
    return settings.when_not_normal, []


def _remarks(
    name: str, difference: np.ndarray, tests: dict[str, paired.Test], settings: Statistics
) -> list[str]:
    remarks = []
    infinite = int(np.isinf(difference).sum())
    if infinite:
        remarks.append(
            f"{infinite} infinite differences: ranked as largest, left out of the mean and its "
            "interval; no paired t"
        )
    if name == "mannwhitneyu":
        remarks.append("Mann-Whitney U discards the pairing")
    below = {test: found.p < settings.alpha for test, found in tests.items() if found.p == found.p}
    if name and len(set(below.values())) == 2:
        only = " and ".join(test for test, yes in below.items() if yes)
        remarks.append(f"the choice of the test matters: p < alpha by {only} only")
    return remarks
