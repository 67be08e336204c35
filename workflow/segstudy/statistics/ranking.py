"""Which model comes first, over all models at once, and how firmly."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from segstudy.statistics.intervals import NAN, ROUNDING, generator
from segstudy.statistics.values import chosen_metrics, lower_is_better
from segstudy.study import Statistics

COLUMNS = (
    *("dataset", "structure", "metric", "model", "n_cases", "n_left_out"),
    *("mean_rank", "rank_low", "rank_high", "share_first"),
    *("friedman_statistic", "friedman_df", "friedman_p", "kendall_tau", "surface"),
)
"""Columns of `ranking.csv`: in each case the models get ranks from 1, the best, and ties share them.

n_cases: cases in which all models have a value; n_left_out: the others. rank_low, rank_high: 95 %
percentile bootstrap interval of the mean rank, over cases. share_first: share of the resamples in
which the model comes first. kendall_tau: mean agreement of the order in the resamples with that
in the table, 1 where it never changes.
"""


def rank(values: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """Rank the models of a table of `values.per_case`; no rows for a single model."""
    rows = []
    models = list(dict.fromkeys(values["model"]))
    metrics = chosen_metrics(values, settings.metrics) if len(models) > 1 else []
    for key, group in values.groupby(["dataset", "structure", "metric"], sort=False):
        if key[2] not in metrics:
            continue
        wide = group.pivot(index="case", columns="model", values="value")
        wide = wide[[model for model in models if model in wide]]
        complete = wide.dropna().to_numpy()
        ranks = case_ranks(complete, key[2])
        test = friedman(ranks)
        mean, low, high, first, tau = stability(
            ranks, settings.bootstrap_samples, generator(settings, "ranking", *key)
        )
        for number, model in enumerate(wide.columns):
            rows.append(
                {
                    **dict(zip(("dataset", "structure", "metric"), key, strict=True)),
                    "model": model,
                    "n_cases": len(complete),
                    "n_left_out": len(wide) - len(complete),
                    "mean_rank": mean[number],
                    "rank_low": low[number],
                    "rank_high": high[number],
                    "share_first": first[number],
                    "friedman_statistic": test[0],
                    "friedman_df": test[1],
                    "friedman_p": test[2],
                    "kendall_tau": tau,
                    "surface": group["surface"].iloc[0],
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def case_ranks(values: np.ndarray, metric: str) -> np.ndarray:
    """Ranks (case, model) from 1, the best, of values (case, model) without NaN.

    Infinite distances are worst and share the last ranks; rounding breaks no tie.
    """
    if metric == "relative_volume_error":
        values = np.abs(values)
    rounded = np.round(values / ROUNDING) * ROUNDING
    return stats.rankdata(rounded if lower_is_better(metric) else -rounded, axis=1)


def friedman(ranks: np.ndarray) -> tuple[float, float, float]:
    """Friedman's test (1937) of ranks (case, model): chi-square, its degrees of freedom, p.

    NaN for fewer than 3 models or cases, and where all models are tied in every case.
    """
    cases, models = ranks.shape
    if cases < 3 or models < 3 or not np.ptp(ranks, axis=1).any():
        return NAN, NAN, NAN
    found = stats.friedmanchisquare(*ranks.T)
    return float(found.statistic), float(models - 1), float(found.pvalue)


def stability(
    ranks: np.ndarray, samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean ranks, both ends of their intervals, share of first places (model,), and Kendall's tau."""
    cases, models = ranks.shape
    if cases == 0:
        unknown = np.full(models, NAN)
        return unknown, unknown, unknown, unknown, NAN
    mean = ranks.mean(axis=0)
    drawn = np.array([ranks[rng.integers(cases, size=cases)].mean(axis=0) for _ in range(samples)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    leads = np.abs(drawn - drawn.min(axis=1, keepdims=True)) <= ROUNDING
    first = (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
    one, other = np.array(list(combinations(range(models), 2)), int).reshape(-1, 2).T
    order = np.sign(np.round((drawn[:, one] - drawn[:, other]) / ROUNDING))
    full = np.sign(np.round((mean[one] - mean[other]) / ROUNDING))
    tau = float((order * full).mean()) if full.any() else NAN
    return mean, low, high, first, tau
