"""Which of two models is better on the same cases, and on which of two datasets a model is."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from segstudy import metric
from segstudy.errors import InputError
from segstudy.statistics import paired
from segstudy.statistics.intervals import NAN, difference_interval, generator, mean_interval
from segstudy.statistics.values import chosen_metrics
from segstudy.statistics.variance import GROUP
from segstudy.study import Statistics


@dataclass(frozen=True)
class Labels:
    """Which comparison a row holds: two models on a dataset, or a model on two datasets."""

    dataset: str
    dataset_b: str
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

A is model_a on dataset, B is model_b on dataset_b; one of the two is the same for both.
n_pairs: cases in which both have a value. n_left_out: cases without such a pair.
n_infinite: pairs with an infinite difference, which the mean and its interval leave out.
p is that of `test`, p_adjusted over the n_family tests of the dataset, or of the two datasets.
design: `paired`, or `unpaired` for two datasets, and for models that share no case; the shares are
then over all pairs of a case of A and a case of B, and the median difference is that of the medians.
n_a, n_b: cases with a value. seed_spread: the larger of both (see `variance`).
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
    """Compare the models of a table of `values.per_case` pair by pair, and datasets where asked to.

    p is adjusted over the family of all tests of a dataset: metric x structure x pair of models; or
    of a pair of datasets: metric x structure x model. spread: of `variance.split`, for a remark where
    a difference is smaller than the seeds' spread.
    """
    spreads = {} if spread is None else spread.set_index(GROUP)["seed_spread"].to_dict()
    models = list(dict.fromkeys(values["model"]))
    datasets = list(dict.fromkeys(values["dataset"]))
    pairs = _pairs(models, settings)
    sites = [_known("compare_datasets", pair, datasets) for pair in settings.compare_datasets]
    metrics = chosen_metrics(values, settings.metrics) if pairs or sites else []
    of_metrics = values[values["metric"].isin(metrics)]
    cells = {
        key: group.set_index("case")["value"]
        for key, group in of_metrics.groupby(["dataset", "model", "structure", "metric"])
    }
    measured = of_metrics[["dataset", "structure", "metric"]].drop_duplicates()
    surfaces = of_metrics.groupby(["dataset", "structure", "metric"])["surface"].first()
    families = [
        [
            Labels(*key, model_a=a, model_b=b)
            for key in _keys(measured, dataset, dataset)
            for a, b in pairs
        ]
        for dataset in datasets
    ] + [
        [Labels(*key, model, model) for key in _keys(measured, *pair) for model in models]
        for pair in sites
    ]
    rows: list[dict] = []
    for labels_of_family in families:
        family = []
        for labels in labels_of_family:
            what = (labels.structure, labels.metric)
            sides = [
                (labels.dataset, labels.model_a, *what),
                (labels.dataset_b, labels.model_b, *what),
            ]
            if all(side in cells for side in sides):
                row = _compared(*(cells[side] for side in sides), labels, settings)
                row = _with_spread(row, [spreads.get(side, NAN) for side in sides])
                family.append(row | {"surface": surfaces[labels.dataset, *what]})
        rows += adjusted(family, settings)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _keys(measured: pd.DataFrame, dataset: str, other: str) -> list[tuple[str, str, str, str]]:
    """(dataset, other, structure, metric) of all that the first dataset was measured in."""
    own = measured[measured["dataset"] == dataset]
    return [(dataset, other, *what) for what in zip(own["structure"], own["metric"], strict=True)]


def _pairs(models: Sequence[str], settings: Statistics) -> list[tuple[str, str]]:
    if settings.compare == "all":
        return list(combinations(models, 2))
    return [_known("compare", pair, models) for pair in settings.compare]


def _known(setting: str, pair: tuple[str, str], names: Sequence[str]) -> tuple[str, str]:
    for name in pair:
        if name not in names:
            raise InputError(
                f"statistics.{setting}: {name!r} was not measured; the table has {', '.join(names)}"
            )
    return pair


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


def _compared(one: pd.Series, other: pd.Series, labels: Labels, settings: Statistics) -> dict:
    """One row, with the p not yet adjusted. one, other: values of A and of B by case, NaN undefined."""
    if metric.find(labels.metric, settings.directions).direction == "zero":
        one, other = one.abs(), other.abs()
    paired_by_case = labels.dataset == labels.dataset_b and len(one.index.intersection(other.index))
    if paired_by_case:
        a, b = (side.to_numpy() for side in one.align(other))
        return _paired(a, b, labels, settings)
    return _unpaired(one.dropna().to_numpy(), other.dropna().to_numpy(), labels, settings)


def _paired(a: np.ndarray, b: np.ndarray, labels: Labels, settings: Statistics) -> dict:
    """A row for two models on the same cases. a, b: by case, NaN undefined."""
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    difference = paired.differences(a, b)
    finite = difference[np.isfinite(difference)]
    rng = generator(settings, *astuple(labels))
    interval = mean_interval(finite, settings, rng)
    normality = paired.shapiro(difference)
    tests = {
        "paired_t": paired.paired_t(difference),
        "wilcoxon": paired.wilcoxon(difference),
        "mannwhitneyu": paired.mannwhitneyu(a, b),
    }
    name, reason = rule(difference, normality, settings)
    if name == "permutation":
        tests[name] = paired.permutation(difference, rng)
    return _row(labels, name, tests, normality, difference, interval, settings) | {
        "design": "paired",
        "n_a": len(a),
        "n_b": len(b),
        "n_pairs": len(difference),
        "n_left_out": int((~both).sum()),
        "n_infinite": len(difference) - len(finite),
        "mean_difference": float(finite.mean()) if len(finite) else NAN,
        "median_difference": paired.median(difference),
        "remark": "; ".join([*reason, *_remarks(name, difference, tests, settings)]),
    }


def _unpaired(a: np.ndarray, b: np.ndarray, labels: Labels, settings: Statistics) -> dict:
    """A row for two samples of different cases, without NaN."""
    finite = [sample[np.isfinite(sample)] for sample in (a, b)]
    interval = difference_interval(*finite, settings, generator(settings, *astuple(labels)))
    normality = min(paired.shapiro(a), paired.shapiro(b), key=lambda test: test.p)
    normal = all(paired.shapiro(sample).p >= settings.alpha for sample in (a, b))
    tests = {"welch_t": paired.welch(a, b), "mannwhitneyu": paired.mannwhitneyu(a, b)}
    name = "welch_t" if normal else "mannwhitneyu"
    remarks = ["no common case: not paired"]
    if labels.dataset != labels.dataset_b:
        remarks = ["different datasets: not paired"]
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
    remarks += _choice_matters(name, tests, settings)
    medians = [np.atleast_1d(paired.median(sample)) for sample in (a, b)]
    apart = paired.differences(*(side.ravel() for side in np.meshgrid(a, b)))
    known = all(map(len, finite))
    return _row(labels, name, tests, normality, apart, interval, settings) | {
        "design": "unpaired",
        "n_a": len(a),
        "n_b": len(b),
        "n_pairs": 0,
        "n_left_out": 0,
        "n_infinite": infinite,
        "mean_difference": float(finite[0].mean() - finite[1].mean()) if known else NAN,
        "median_difference": float(paired.differences(*medians)[0]),
        "remark": "; ".join(remarks),
    }


def _row(
    labels: Labels,
    name: str,
    tests: dict[str, paired.Test],
    normality: paired.Test,
    difference: np.ndarray,
    interval: tuple[float, float],
    settings: Statistics,
) -> dict:
    """What the rows of both designs have in common. difference: of every pair that is looked at."""
    chosen = tests.get(name, paired.Test())
    carried = {test: tests.get(test, paired.Test()) for test in EFFECTS}
    higher = metric.find(labels.metric, settings.directions).direction == "higher"
    better = difference > 0 if higher else difference < 0
    return asdict(labels) | {
        "ci_low": interval[0],
        "ci_high": interval[1],
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
        "t_statistic": carried["paired_t"].statistic,
        "t_df": carried["paired_t"].df,
        "p_paired_t": carried["paired_t"].p,
        "wilcoxon_statistic": carried["wilcoxon"].statistic,
        "p_wilcoxon": carried["wilcoxon"].p,
        "mannwhitneyu_statistic": carried["mannwhitneyu"].statistic,
        "p_mannwhitneyu": carried["mannwhitneyu"].p,
        "welch_statistic": carried["welch_t"].statistic,
        "welch_df": carried["welch_t"].df,
        "p_welch": carried["welch_t"].p,
    }


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


def rule(
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
    return remarks + _choice_matters(name, tests, settings)


def _choice_matters(name: str, tests: dict[str, paired.Test], settings: Statistics) -> list[str]:
    below = {test: found.p < settings.alpha for test, found in tests.items() if found.p == found.p}
    if not name or len(set(below.values())) < 2:
        return []
    only = " and ".join(test for test, yes in below.items() if yes)
    return [f"the choice of the test matters: p < alpha by {only} only"]
