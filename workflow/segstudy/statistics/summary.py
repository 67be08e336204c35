"""Summary of each model: one row a dataset, model, structure and metric."""

import numpy as np
import pandas as pd

from segstudy import metric
from segstudy.statistics.intervals import mean_interval, median_interval, share_interval
from segstudy.statistics.variance import GROUP
from segstudy.study import Statistics

COLUMNS = (
    *("dataset", "model", "structure", "metric", "n_subjects", "n_cases"),
    *("n_absent", "n_undefined", "n_missing", "n_failed", "n_infinite", "n_finite"),
    *("mean", "sd", "median", "q1", "q3", "ci_low", "ci_high", "median_low", "median_high"),
    *("failure_rate", "failure_low", "failure_high", "mean_penalised", "surface"),
    *("n_folds", "n_seeds", "sd_case", "sd_fold", "sd_seed", "seed_spread"),
)
"""Columns of `summary.csv`.

n_subjects: subjects with a value, which are the unit: a subject's value is the mean of its scans,
infinite as soon as one is. n_cases: their scans with a value. Of the other scans, n_absent have a
reference without the structure, and n_undefined no value for another reason; where missing
predictions are excluded, these are among them. n_missing: scans without a prediction. n_failed:
scans with the worst value there is, of which the missing ones are some.
n_infinite, n_finite: subjects. Mean, SD (n - 1) and the mean's confidence interval (Student's t,
clipped to the metric's range) are those of the finite ones. Median, quartiles and the median's
interval (order statistics) rank infinite as worst. failure_rate: share of the subjects with a failed
scan, with its interval (Clopper and Pearson); below 50 subjects with failures the mean's interval
does not hold. mean_penalised is what models are ordered by: the mean of what the tests compare, sizes where
values nearest to 0 are best. A distance in mm that is infinite counts as the image's diagonal, which none
can exceed; of other metrics with an infinite value it is undefined. Intervals are of the level 1 - alpha. The last columns are those of `variance.variance_components`.
"""


def summarise(
    values: pd.DataFrame, settings: Statistics, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Summarise the values of each model, a row a dataset, model, structure and metric.

    Parameters
    ----------
    values
        Table of `completion.completed`.
    settings
        Settings of the statistics.
    spread
        Of `variance.variance_components`.
    """
    rows = []
    for key, group in values.groupby(["dataset", "model", "structure", "metric"], sort=False):
        defined = group[group["value"].notna()]
        subjects = defined.groupby("subject")
        value = _of_subjects(defined["value"], defined["subject"])
        finite = value[np.isfinite(value)]
        failed = int(subjects["failed"].any().sum())
        known_metric = metric.find(key[3], settings.directions)
        low, high = mean_interval(finite, settings.alpha, known_metric.low, known_metric.high)
        median_low, median_high = median_interval(value, settings.alpha)
        failure_low, failure_high = share_interval(failed, len(value), settings.alpha)
        penalised = known_metric.compared(defined["value"])
        at_infinity = defined["diagonal_mm"] if known_metric.unit == "mm" else np.nan
        penalised = penalised.mask(np.isinf(penalised), at_infinity)
        rows.append(
            {
                **dict(zip(("dataset", "model", "structure", "metric"), key, strict=True)),
                "n_subjects": len(value),
                "n_cases": len(defined),
                "n_absent": int(group["absent"].sum()),
                "n_undefined": int((group["value"].isna() & ~group["absent"]).sum()),
                "n_missing": int(group["missing"].sum()),
                "n_failed": int(group["failed"].sum()),
                "n_infinite": len(value) - len(finite),
                "n_finite": len(finite),
                "mean": _mean(finite),
                "sd": float(np.std(finite, ddof=1)) if len(finite) > 1 else np.nan,
                "median": quantile(value, 0.5),
                "q1": quantile(value, 0.25),
                "q3": quantile(value, 0.75),
                "ci_low": low,
                "ci_high": high,
                "median_low": median_low,
                "median_high": median_high,
                "failure_rate": failed / len(value) if len(value) else np.nan,
                "failure_low": failure_low,
                "failure_high": failure_high,
                "mean_penalised": np.nan
                if penalised.isna().any()
                else _mean(_of_subjects(penalised, defined["subject"])),
                "surface": group["surface"].iloc[0],
            }
        )
    table = pd.DataFrame(rows)
    if spread is not None and len(table):
        table = table.merge(spread, how="left", on=GROUP)
    return table.reindex(columns=list(COLUMNS))


def quantile(values: np.ndarray, share: float) -> float:
    """Interpolate a quantile of numbers that may be infinite; NaN of none, and between both infinities.

    Between a finite number and an infinite one lies the infinite one.
    """
    if not len(values):
        return float("nan")
    ordered = np.sort(values)
    position = share * (len(ordered) - 1)
    low, part = int(position), position - int(position)
    if part == 0 or ordered[low] == ordered[low + 1]:
        return float(ordered[low])
    if np.isinf(ordered[low]):
        return float("nan") if np.isinf(ordered[low + 1]) else float(ordered[low])
    return float(ordered[low] + part * (ordered[low + 1] - ordered[low]))


def _of_subjects(values: pd.Series, subjects: pd.Series) -> np.ndarray:
    """Average the scans of each subject (subject,); infinite as soon as one is."""
    infinite = values.where(np.isinf(values)).groupby(subjects).first()
    return infinite.fillna(values.mask(np.isinf(values)).groupby(subjects).mean()).to_numpy()


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
