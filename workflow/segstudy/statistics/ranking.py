"""Ranks of all models at once, and how firm their order is."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from segstudy import metric
from segstudy.statistics.intervals import NAN, ROUNDING, generator
from segstudy.statistics.swap import subject_means
from segstudy.statistics.values import chosen_metrics
from segstudy.study import Statistics

COLUMNS = (
    *("dataset", "structure", "metric", "model", "n_subjects", "n_cases", "n_left_out"),
    "n_missing",
    *("mean_rank", "rank_low", "rank_high", "share_first"),
    *("friedman_statistic", "friedman_df", "friedman_p", "kendall_tau", "surface"),
)
"""Columns of `ranking.csv`: for each subject the models get ranks from 1, the best, and ties share them.

A subject with several scans ranks the models by their mean rank over these. n_subjects, n_cases: those
in which all models have a value; n_left_out: the other scans. n_missing: scans without a prediction
of the model, which rank last with `statistics.missing: worst`. rank_low, rank_high: percentile
bootstrap interval (1 - alpha) of the mean rank, over subjects. share_first: share of the resamples in
which the model comes first. kendall_tau: mean agreement (tau-b) of the order in the resamples with
that in the table, 1 where it never changes.
"""

PLACES = ("dataset", "structure", "metric", "model", "place", "share", "surface")
"""Columns of `places.csv`: the share of the resamples in which a model comes in at a place."""


def rank(values: pd.DataFrame, settings: Statistics) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank the models; no rows where a single model was measured.

    Parameters
    ----------
    values
        Table of `completion.completed`.
    settings
        Settings of the statistics.

    Returns
    -------
    tuple[pd.DataFrame, pd.DataFrame]
        The tables with COLUMNS and with PLACES.
    """
    rows, places = [], []
    models = list(dict.fromkeys(values["model"]))
    metrics = chosen_metrics(values, settings.metrics) if len(models) > 1 else []
    for key, group in values.groupby(["dataset", "structure", "metric"], sort=False):
        if key[2] not in metrics:
            continue
        wide = group.pivot(index="case", columns="model", values="value")
        wide = wide[[model for model in models if model in wide]]
        if wide.shape[1] < 2:
            continue
        complete = wide.dropna()
        subjects = (
            group.drop_duplicates("case").set_index("case")["subject"].reindex(complete.index)
        )
        direction = metric.find(key[2], settings.directions).direction
        ranks = subject_ranks(complete.to_numpy(), pd.factorize(subjects, sort=True)[0], direction)
        test = friedman(ranks)
        firmness = stability(ranks, settings, generator(settings, "ranking", *key))
        for number, model in enumerate(wide.columns):
            rows.append(
                {
                    **dict(zip(("dataset", "structure", "metric"), key, strict=True)),
                    "model": model,
                    "n_subjects": len(ranks),
                    "n_cases": len(complete),
                    "n_left_out": len(wide) - len(complete),
                    "n_missing": int(group.loc[group["model"] == model, "missing"].sum()),
                    "mean_rank": firmness.mean[number],
                    "rank_low": firmness.low[number],
                    "rank_high": firmness.high[number],
                    "share_first": firmness.places[number, 0],
                    "friedman_statistic": test[0],
                    "friedman_df": test[1],
                    "friedman_p": test[2],
                    "kendall_tau": firmness.kendall_tau,
                    "surface": group["surface"].iloc[0],
                }
            )
            places += [
                (*key, model, place, share, group["surface"].iloc[0])
                for place, share in enumerate(firmness.places[number], start=1)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(places, columns=list(PLACES))


def scan_ranks(values: np.ndarray, direction: metric.Direction) -> np.ndarray:
    """Rank values (scan, model) without NaN: ranks (scan, model) from 1, the best.

    Infinite distances are worst and share the last ranks; rounding breaks no tie.
    """
    if direction == "zero":
        values = np.abs(values)
    rounded = np.round(values / ROUNDING) * ROUNDING
    return stats.rankdata(-rounded if direction == "higher" else rounded, axis=1)


def subject_ranks(
    values: np.ndarray, subject: np.ndarray, direction: metric.Direction
) -> np.ndarray:
    """Rank the models by the mean ranks over a subject's scans: ranks (subject, model).

    Parameters
    ----------
    values
        (scan, model), without NaN.
    subject
        Of each scan, int (scan,), numbered from 0.
    direction
        Which values are better.
    """
    ranks = scan_ranks(values, direction)
    if not len(ranks):
        return ranks
    means = np.stack([subject_means(column, subject) for column in ranks.T], axis=1)
    return stats.rankdata(np.round(means, 9), axis=1)


def friedman(ranks: np.ndarray) -> tuple[float, float, float]:
    """Test ranks (subject, model) by Friedman's test (1937): chi-square, its degrees of freedom, p.

    NaN for fewer than 3 models or subjects, and where all models are tied for every subject.
    """
    subjects, models = ranks.shape
    if subjects < 3 or models < 3 or not np.ptp(ranks, axis=1).any():
        return NAN, NAN, NAN
    result = stats.friedmanchisquare(*ranks.T)
    return float(result.statistic), float(models - 1), float(result.pvalue)


@dataclass(frozen=True)
class Stability:
    """The order of models over resampled subjects, and how firm it is.

    ranks (model,);

    Attributes
    ----------
    mean
        Ranks (model,).
    low, high
        Ends of their intervals (model,).
    places
        Share of the resamples (model, place) in which a model comes in there; models that tie
        share their places.
    kendall_tau
        Mean agreement (tau-b) of the order in the resamples with that of all subjects.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    places: np.ndarray
    kendall_tau: float


def stability(ranks: np.ndarray, settings: Statistics, rng: np.random.Generator) -> Stability:
    """Resample the subjects of ranks (subject, model); NaN where there is no subject."""
    subjects, models = ranks.shape
    if subjects == 0:
        unknown = np.full(models, NAN)
        return Stability(unknown, unknown, unknown, np.full((models, models), NAN), NAN)
    mean = ranks.mean(axis=0)
    drawn = np.array(
        [
            ranks[rng.integers(subjects, size=subjects)].mean(axis=0)
            for _ in range(settings.bootstrap_samples)
        ]
    )
    low, high = np.quantile(drawn, (settings.alpha / 2, 1 - settings.alpha / 2), axis=0)
    order_of_pairs = np.sign(np.round((drawn[:, :, None] - drawn[:, None, :]) / ROUNDING))
    before, tied = (
        (order_of_pairs > 0).sum(axis=2)[..., None],
        (order_of_pairs == 0).sum(axis=2)[..., None],
    )
    place = np.arange(models)
    shared = ((before <= place) & (place < before + tied)) / tied
    first, second = np.array(list(combinations(range(models), 2)), int).reshape(-1, 2).T
    full = np.sign(np.round((mean[first] - mean[second]) / ROUNDING))
    tau = kendall_tau_b(order_of_pairs[:, first, second], full)
    return Stability(mean, low, high, shared.mean(axis=0), tau)


def kendall_tau_b(drawn: np.ndarray, full: np.ndarray) -> float:
    """Average tau-b (Kendall 1945) of many orders with one; NaN where that one, or all of them, are one tie.

    Parameters
    ----------
    drawn
        Sign of the difference of each pair of models in each order (order, pair).
    full
        The same in the one order (pair,).
    """
    untied = np.count_nonzero(drawn, axis=1) * np.count_nonzero(full)
    able = untied > 0
    if not able.any():
        return NAN
    return float(((drawn[able] * full).sum(axis=1) / np.sqrt(untied[able])).mean())
