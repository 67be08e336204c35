"""Components of a metric's variance: cases, folds and seeds."""

import numpy as np
import pandas as pd

from segstudy.statistics.intervals import NAN

GROUP = ["dataset", "model", "structure", "metric"]
COLUMNS = (*GROUP, "n_folds", "n_seeds", "sd_case", "sd_fold", "sd_seed", "seed_spread")
"""Columns of `split`, in the unit of the metric; undefined (NaN) where there is nothing to compare.

sd_seed: of the runs of a case that differ in the seed alone. sd_fold: of the models of several
folds on one case. sd_case: of the cases. Each is what is left without those before it (a nested
random-effects model, by the method of moments; Searle, Casella and McCulloch 1992).
seed_spread: SD of the mean over the cases from seed to seed, over cases that all seeds predicted.
"""


def variance_components(runs: pd.DataFrame) -> pd.DataFrame:
    """Split the variance of each metric into cases, folds and seeds.

    Parameters
    ----------
    runs
        Table of `values.read_values`; infinite and undefined values are left out.
    """
    finite = runs[np.isfinite(runs["value"])]
    rows = []
    for key, group in finite.groupby(GROUP, sort=False):
        within = group.groupby(["case", "fold"])["value"]
        seed = _pooled(within)
        fold_means = within.mean().groupby("case")
        seeds = float(within.size().mean())
        folds = float(fold_means.size().mean())
        fold = _without(_pooled(fold_means), seed / seeds)
        case_means = fold_means.mean()
        of_cases = case_means.var(ddof=1) if len(case_means) > 1 else NAN
        case = _without(of_cases, np.nansum([fold / folds, seed / (seeds * folds)]))
        rows.append(
            (
                *key,
                group["fold"].nunique(),
                group["seed"].nunique(),
                *np.sqrt([case, fold, seed]),
                _seed_spread(group),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _pooled(groups) -> float:
    """Average the variances within groups of two values or more."""
    variances = groups.var(ddof=1).dropna()
    return float(variances.mean()) if len(variances) else NAN


def _without(variance: float, part: float) -> float:
    """Subtract from a variance a part that comes from below, which may not be known."""
    return max(0.0, variance - np.nan_to_num(part)) if variance == variance else NAN


def _seed_spread(group: pd.DataFrame) -> float:
    wide = group.pivot_table(index="case", columns="seed", values="value").dropna()
    if wide.shape[1] < 2 or not len(wide):
        return NAN
    return float(wide.mean().std(ddof=1))
