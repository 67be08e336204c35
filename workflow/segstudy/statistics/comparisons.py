"""Which of two models is better, on the same cases."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from segstudy.errors import InputError
from segstudy.statistics.intervals import NAN, ROUNDING, constant, generator, mean_interval
from segstudy.statistics.values import chosen_metrics, lower_is_better
from segstudy.study import Statistics

NORMAL_UP_TO = 5000
"""Pairs up to which scipy's Shapiro-Wilk p is accurate."""

EXACT_WITH_TIES = 13
"""Differences up to which all 2^n signs are tried where ranks are tied."""


@dataclass(frozen=True)
class Test:
    """What a test found; NaN where it cannot be done. df: degrees of freedom, NaN without."""

    statistic: float = NAN
    df: float = NAN
    p: float = NAN
    effect_size: float = NAN


@dataclass(frozen=True)
class Comparison:
    """A row of `tests.csv`. Differences are A - B, in the unit of the metric; all tests two-sided.

    n_pairs: cases in which both models have a value. n_left_out: cases without such a pair.
    n_infinite: pairs with an infinite difference, which the mean, its interval and the paired t
    leave out and the ranks hold as largest.
    """

    dataset: str
    structure: str
    metric: str
    model_a: str
    model_b: str
    n_pairs: int
    n_left_out: int
    n_infinite: int
    mean_difference: float
    median_difference: float
    ci_low: float
    ci_high: float
    shapiro_w: float
    shapiro_p: float
    test: str
    statistic: float
    df: float
    p: float
    p_adjusted: float
    n_family: int
    significant: bool | str
    effect_size: float
    effect_name: str
    share_a_better: float
    share_tied: float
    t_statistic: float
    t_df: float
    p_paired_t: float
    wilcoxon_statistic: float
    p_wilcoxon: float
    mannwhitneyu_statistic: float
    p_mannwhitneyu: float
    surface: str
    remark: str


COLUMNS = tuple(field.name for field in fields(Comparison))
EFFECTS = {
    "paired_t": "cohens_dz",
    "wilcoxon": "matched_rank_biserial",
    "mannwhitneyu": "rank_biserial",
    "permutation": "cohens_dz",
}


def compare(values: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """Compare the models of a table of `values.per_case`, pair by pair.

    p is adjusted over the family of all tests of a dataset: metric x structure x pair.
    """
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
            surface = group["surface"].iloc[0]
            for a, b in pairs:
                if a in wide and b in wide:
                    labels = (dataset, structure, metric, a, b, surface)
                    family.append(
                        _compared(wide[a].to_numpy(), wide[b].to_numpy(), labels, settings)
                    )
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


def _compared(a: np.ndarray, b: np.ndarray, labels: tuple[str, ...], settings: Statistics) -> dict:
    dataset, structure, metric, model_a, model_b, surface = labels
    if metric == "relative_volume_error":
        a, b = np.abs(a), np.abs(b)
    both = ~(np.isnan(a) | np.isnan(b))
    a, b, left_out = a[both], b[both], int((~both).sum())
    difference = differences(a, b)
    finite = difference[np.isfinite(difference)]
    rng = generator(settings, dataset, structure, metric, model_a, model_b)
    low, high = mean_interval(finite, settings, rng)
    tests = {
        "paired_t": paired_t(difference),
        "wilcoxon": wilcoxon(difference),
        "mannwhitneyu": mannwhitneyu(a, b),
    }
    normality = shapiro(difference)
    normal = normality.p >= settings.alpha
    name = "paired_t" if normal else settings.when_not_normal
    remarks = []
    if len(difference) < 3:
        name, remarks = "", ["fewer than 3 pairs: not tested"]
    elif not difference.any():
        name, remarks = "", ["the models are equal in every case: not tested"]
    elif _constant(difference):
        remarks.append("the difference is the same in every case: normality cannot be tested")
    if name == "permutation":
        tests[name] = permutation(difference, rng)
    if np.isinf(difference).any():
        remarks.append(
            f"{np.isinf(difference).sum()} infinite differences: ranked as largest, left out of "
            "the mean and of the paired t"
        )
    if name == "mannwhitneyu":
        remarks.append("Mann-Whitney U discards the pairing")
    chosen = tests.get(name, Test())
    significant = {
        other: tests[other].p < settings.alpha
        for other in ("paired_t", "wilcoxon", "mannwhitneyu")
        if np.isfinite(tests[other].p)
    }
    if name and len(set(significant.values())) > 1:
        remarks.append(
            "the choice of the test matters: p < alpha by "
            + " and ".join(other for other, yes in significant.items() if yes)
            + " only"
        )
    better = difference < 0 if lower_is_better(metric) else difference > 0
    pairs = len(difference)
    return asdict(
        Comparison(
            dataset=dataset,
            structure=structure,
            metric=metric,
            model_a=model_a,
            model_b=model_b,
            n_pairs=pairs,
            n_left_out=left_out,
            n_infinite=pairs - len(finite),
            mean_difference=float(finite.mean()) if len(finite) else NAN,
            median_difference=_median(difference),
            ci_low=low,
            ci_high=high,
            shapiro_w=normality.statistic,
            shapiro_p=normality.p,
            test=name,
            statistic=chosen.statistic,
            df=chosen.df,
            p=chosen.p,
            p_adjusted=NAN,
            n_family=0,
            significant="",
            effect_size=chosen.effect_size,
            effect_name=EFFECTS.get(name, ""),
            share_a_better=float(better.mean()) if pairs else NAN,
            share_tied=float((difference == 0).mean()) if pairs else NAN,
            t_statistic=tests["paired_t"].statistic,
            t_df=tests["paired_t"].df,
            p_paired_t=tests["paired_t"].p,
            wilcoxon_statistic=tests["wilcoxon"].statistic,
            p_wilcoxon=tests["wilcoxon"].p,
            mannwhitneyu_statistic=tests["mannwhitneyu"].statistic,
            p_mannwhitneyu=tests["mannwhitneyu"].p,
            surface=surface,
            remark="; ".join(remarks),
        )
    )


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b for numbers that may be infinite: two infinities are a tie.

    A difference that is only rounding is a tie too, so that ranks don't depend on it.
    """
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isinf(a) & (a == b), 0.0, a - b)
    size = np.maximum(np.abs(a), np.abs(b))
    rounding = ROUNDING * np.maximum(1.0, np.where(np.isinf(size), 1.0, size))
    return np.where(np.abs(difference) <= rounding, 0.0, difference)


def shapiro(difference: np.ndarray) -> Test:
    """Shapiro-Wilk test of normality (1965); not for infinite, constant or fewer than 3 numbers."""
    if len(difference) < 3 or _constant(difference) or np.isinf(difference).any():
        return Test()
    if len(difference) > NORMAL_UP_TO:
        # scipy warns that its p is inaccurate; as many, evenly chosen by rank, show the shape.
        places = np.linspace(0, len(difference) - 1, NORMAL_UP_TO).astype(int)
        difference = np.sort(difference)[places]
    found = stats.shapiro(difference)
    return Test(float(found.statistic), p=float(found.pvalue))


def paired_t(difference: np.ndarray) -> Test:
    """Student's paired t test, with Cohen's d_z; not for infinite or constant differences."""
    if len(difference) < 3 or _constant(difference) or np.isinf(difference).any():
        return Test()
    found = stats.ttest_1samp(difference, 0.0)
    return Test(float(found.statistic), float(found.df), float(found.pvalue), cohens_dz(difference))


def cohens_dz(difference: np.ndarray) -> float:
    """Mean over SD of paired differences (Cohen 1988)."""
    return float(difference.mean() / difference.std(ddof=1))


def wilcoxon(difference: np.ndarray) -> Test:
    """Wilcoxon's signed-rank test (1945), with the matched rank-biserial correlation (Kerby 2014).

    Differences of 0 are dropped (`zero_method="wilcox"`). The statistic is the smaller sum of
    ranks. p is exact up to 50 differences without ties (13 with), else from the normal distribution.
    """
    signed = signed_ranks(difference)
    if len(difference) < 3 or not len(signed):
        return Test()
    effect = float(signed.sum() / np.abs(signed).sum())
    if len(signed) <= EXACT_WITH_TIES and len(np.unique(np.abs(signed))) < len(signed):
        # What scipy would do itself, forty times slower: all choices of the ranks' signs.
        every = stats.permutation_test((signed,), np.sum, permutation_type="samples")
        smaller = min(signed[signed > 0].sum(), -signed[signed < 0].sum())
        return Test(float(smaller), p=float(every.pvalue), effect_size=effect)
    found = stats.wilcoxon(signed)
    return Test(float(found.statistic), p=float(found.pvalue), effect_size=effect)


def signed_ranks(difference: np.ndarray) -> np.ndarray:
    """Ranks of the differences that are not 0 by size, with their sign; infinite ones rank highest."""
    nonzero = difference[difference != 0]
    size = np.abs(nonzero)
    largest = size[np.isfinite(size)].max(initial=0.0)
    # Rounding must not break ties, such as 0.3 - 0.1 and 0.4 - 0.2.
    return np.sign(nonzero) * stats.rankdata(np.round(size / (largest or 1.0), 12))


def mannwhitneyu(a: np.ndarray, b: np.ndarray) -> Test:
    """Mann-Whitney's U test (1947) of a and b as if they were unpaired; U is that of a.

    Effect size: rank-biserial correlation, above 0 where a tends to be larger.
    """
    ranks = stats.rankdata(np.concatenate([a, b]))
    if len(a) < 3 or np.ptp(ranks) == 0:
        return Test()
    found = stats.mannwhitneyu(ranks[: len(a)], ranks[len(a) :])
    effect = 2 * found.statistic / (len(a) * len(b)) - 1
    return Test(float(found.statistic), p=float(found.pvalue), effect_size=float(effect))


def permutation(difference: np.ndarray, rng: np.random.Generator) -> Test:
    """Test of the mean difference against all, or 9999 random, choices of the differences' signs.

    With infinite differences, of their signed ranks. The statistic is that mean.
    """
    infinite = np.isinf(difference).any()
    sample = signed_ranks(difference) if infinite else difference
    found = stats.permutation_test((sample,), np.mean, permutation_type="samples", rng=rng)
    effect = NAN if infinite or _constant(difference) else cohens_dz(difference)
    return Test(float(found.statistic), p=float(found.pvalue), effect_size=effect)


def _median(difference: np.ndarray) -> float:
    """The median where either infinity may be in the middle."""
    if not len(difference):
        return NAN
    ordered = np.sort(difference)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if low == high:
        return float(low)
    return NAN if np.isinf(low) and np.isinf(high) else float((low + high) / 2)


def _constant(difference: np.ndarray) -> bool:
    """Whether all differences are equal but for rounding."""
    if np.isinf(difference).any():
        return len(np.unique(difference)) == 1
    return constant(difference)
