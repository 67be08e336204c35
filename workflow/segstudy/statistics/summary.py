"""How each model did: one row a dataset, model, structure and metric."""

import numpy as np
import pandas as pd

from segstudy.statistics.intervals import generator, mean_interval
from segstudy.statistics.variance import GROUP
from segstudy.study import Statistics

COLUMNS = (
    *("dataset", "model", "structure", "metric"),
    *("n", "n_undefined", "n_infinite", "n_finite"),
    *("mean", "sd", "median", "q1", "q3", "ci_low", "ci_high"),
    *("mean_penalised", "surface"),
    *("n_folds", "n_seeds", "sd_case", "sd_fold", "sd_seed", "seed_spread"),
)


def summarise(
    values: pd.DataFrame, settings: Statistics, spread: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Summarise a table of `values.per_case`.

    n counts cases, of which n_undefined have no value and n_infinite an infinite one. Mean, SD
    (n - 1) and the mean's 95 % confidence interval are those of the n_finite others. Median and
    quartiles rank infinite as worst. mean_penalised puts the image's diagonal in place of
    infinite, a distance that none can exceed. The last columns are those of `variance.split`.
    """
    rows = []
    for key, group in values.groupby(["dataset", "model", "structure", "metric"], sort=False):
        value = group["value"].to_numpy()
        defined = value[~np.isnan(value)]
        finite = defined[np.isfinite(defined)]
        low, high = mean_interval(finite, settings, generator(settings, "summary", *key))
        penalised = np.where(np.isinf(value), group["diagonal_mm"], value)[~np.isnan(value)]
        rows.append(
            {
                **dict(zip(("dataset", "model", "structure", "metric"), key, strict=True)),
                "n": len(value),
                "n_undefined": len(value) - len(defined),
                "n_infinite": len(defined) - len(finite),
                "n_finite": len(finite),
                "mean": _mean(finite),
                "sd": float(np.std(finite, ddof=1)) if len(finite) > 1 else np.nan,
                "median": quantile(defined, 0.5),
                "q1": quantile(defined, 0.25),
                "q3": quantile(defined, 0.75),
                "ci_low": low,
                "ci_high": high,
                "mean_penalised": _mean(penalised),
                "surface": group["surface"].iloc[0],
            }
        )
    table = pd.DataFrame(rows)
    if spread is not None and len(table):
        table = table.merge(spread, how="left", on=GROUP)
    return table.reindex(columns=list(COLUMNS))


def quantile(values: np.ndarray, share: float) -> float:
    """Quantile with linear interpolation of numbers that may be infinite; NaN of none.

    Between a finite number and infinity lies infinity.
    """
    if not len(values):
        return float("nan")
    ordered = np.sort(values)
    position = share * (len(ordered) - 1)
    low, part = int(position), position - int(position)
    if part == 0 or ordered[low] == ordered[low + 1]:
        return float(ordered[low])
    return float(ordered[low] + part * (ordered[low + 1] - ordered[low]))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
