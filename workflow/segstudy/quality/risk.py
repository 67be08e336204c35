"""Risk against coverage: what is left wrong once the least trusted predictions are set aside."""

from collections.abc import Sequence

import numpy as np


def risk_coverage(risk: Sequence[float], trust: Sequence[float]) -> np.ndarray:
    """Return the mean risk of the 1, 2, ..., n most trusted predictions.

    Predictions of equal trust have no order: each counts with the mean of their risks.

    Parameters
    ----------
    risk
        Of each prediction, e.g. 1 - Dice.
    trust
        Of each prediction, higher is better; NaN is the lowest.

    Returns
    -------
    numpy.ndarray
        float64 (n,): mean risk at coverage 1/n, 2/n, ..., 1.
    """
    risk = np.asarray(risk, float)
    trust = np.where(np.isnan(np.asarray(trust, float)), -np.inf, np.asarray(trust, float))
    _, group = np.unique(trust, return_inverse=True)
    size = np.bincount(group)
    level = (np.bincount(group, weights=risk) / size)[group]
    sorted_risk = level[np.argsort(-trust, kind="stable")]
    return np.cumsum(sorted_risk) / np.arange(1, len(risk) + 1)


def aurc(risk: Sequence[float], trust: Sequence[float]) -> float:
    """Return the area under the risk-coverage curve, lower is better (Geifman, Uziel & El-Yaniv 2019).

    The mean of `risk_coverage` over all coverages; NaN where there is no prediction.
    """
    curve = risk_coverage(risk, trust)
    return float(curve.mean()) if len(curve) else float("nan")


def trust_with_flags(agreement: Sequence[float], distance: Sequence[float]) -> np.ndarray:
    """Return an order of trust in which flagged scans come last, the furthest at the end; agreement orders the others.

    Parameters
    ----------
    agreement
        Of each prediction, from 0 to 1.
    distance
        Of each scan, in the limit beyond which it is flagged: flagged above 1; NaN is none.
    """
    agreement, distance = np.asarray(agreement, float), np.asarray(distance, float)
    return np.where(distance > 1, -np.minimum(distance, 1e6), agreement)
