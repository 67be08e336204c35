"""Which model comes first, over all models at once, and how firmly."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from segstudy import metric
from segstudy.statistics.intervals import NAN, ROUNDING, generator
from segstudy.statistics.values import chosen_metrics
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

PLACES = ("dataset", "structure", "metric", "model", "place", "share", "surface")
"""Columns of `places.csv`: the share of the resamples in which a model comes in at a place."""


def rank(values: pd.DataFrame, settings: Statistics) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank the models of a table of `values.per_case`; no rows for a single model.

    Returns the tables with COLUMNS and with PLACES.
    """
    rows, places = [], []
    models = list(dict.fromkeys(values["model"]))
    metrics = chosen_metrics(values, settings.metrics) if len(models) > 1 else []
    for key, group in values.groupby(["dataset", "structure", "metric"], sort=False):
        if key[2] not in metrics:
            continue
        wide = group.pivot(index="case", columns="model", values="value")
        wide = wide[[model for model in models if model in wide]]
        complete = wide.dropna().to_numpy()
        ranks = case_ranks(complete, key[2], settings.directions)
        test = friedman(ranks)
        found = stability(ranks, settings.bootstrap_samples, generator(settings, "ranking", *key))
        for number, model in enumerate(wide.columns):
            rows.append(
                {
                    **dict(zip(("dataset", "structure", "metric"), key, strict=True)),
                    "model": model,
                    "n_cases": len(complete),
                    "n_left_out": len(wide) - len(complete),
                    "mean_rank": found.mean[number],
                    "rank_low": found.low[number],
                    "rank_high": found.high[number],
                    "share_first": found.places[number, 0],
                    "friedman_statistic": test[0],
                    "friedman_df": test[1],
                    "friedman_p": test[2],
                    "kendall_tau": found.kendall_tau,
                    "surface": group["surface"].iloc[0],
                }
            )
            places += [
                (*key, model, place, share, group["surface"].iloc[0])
                for place, share in enumerate(found.places[number], start=1)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(places, columns=list(PLACES))


def case_ranks(values: np.ndarray, name: str, directions: Mapping[str, str] = {}) -> np.ndarray:
    """Ranks (case, model) from 1, the best, of values (case, model) without NaN.

    Infinite distances are worst and share the last ranks; rounding breaks no tie.
    """
    direction = metric.find(name, directions).direction
    if direction == "zero":
        values = np.abs(values)
    rounded = np.round(values / ROUNDING) * ROUNDING
    return stats.rankdata(-rounded if direction == "higher" else rounded, axis=1)


def friedman(ranks: np.ndarray) -> tuple[float, float, float]:
    """Friedman's test (1937) of ranks (case, model): chi-square, its degrees of freedom, p.

    NaN for fewer than 3 models or cases, and where all models are tied in every case.
    """
    cases, models = ranks.shape
    if cases < 3 or models < 3 or not np.ptp(ranks, axis=1).any():
        return NAN, NAN, NAN
    found = stats.friedmanchisquare(*ranks.T)
    return float(found.statistic), float(models - 1), float(found.pvalue)


@dataclass(frozen=True)
class Stability:
    """How firm an order of models is, over resampled cases.

    mean: ranks (model,); low, high: their 95 % intervals. places: share of the resamples (model,
    place) in which a model comes in there; models that tie share their places. kendall_tau: mean
    agreement of the order in the resamples with that of all cases.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    places: np.ndarray
    kendall_tau: float


def stability(ranks: np.ndarray, samples: int, rng: np.random.Generator) -> Stability:
    """Resample the cases of ranks (case, model); NaN where there is none."""
    cases, models = ranks.shape
    if cases == 0:
        unknown = np.full(models, NAN)
        return Stability(unknown, unknown, unknown, np.full((models, models), NAN), NAN)
    mean = ranks.mean(axis=0)
    drawn = np.array([ranks[rng.integers(cases, size=cases)].mean(axis=0) for _ in range(samples)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    apart = np.sign(np.round((drawn[:, :, None] - drawn[:, None, :]) / ROUNDING))
    before, tied = (apart > 0).sum(axis=2)[..., None], (apart == 0).sum(axis=2)[..., None]
    place = np.arange(models)
    shared = ((before <= place) & (place < before + tied)) / tied
    one, other = np.array(list(combinations(range(models), 2)), int).reshape(-1, 2).T
    full = np.sign(np.round((mean[one] - mean[other]) / ROUNDING))
    tau = float((apart[:, one, other] * full).mean()) if full.any() else NAN
    return Stability(mean, low, high, shared.mean(axis=0), tau)
