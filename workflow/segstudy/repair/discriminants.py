"""Telling two kinds of rows of numbers apart, where there are few rows for the numbers."""

import numpy as np


def median(table: np.ndarray) -> np.ndarray:
    """Median of each column without its NaN: what numpy.nanmedian gives, but fast for few rows."""
    known = np.count_nonzero(~np.isnan(table), axis=0)
    ordered = np.sort(table, axis=0)  # NaN last
    columns = np.arange(table.shape[1])
    last = np.maximum(known - 1, 0)
    return (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns]) / 2


def log_odds(rows: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Log odds (k,) of wrong against right by Fisher's linear discriminant, equal before.

    found: (k, m). right, wrong: (n, m).
    """
    covariance = (_covariance(right) + _covariance(wrong)) / 2
    weights = np.linalg.solve(covariance, wrong.mean(axis=0) - right.mean(axis=0))
    return (rows - (right.mean(axis=0) + wrong.mean(axis=0)) / 2) @ weights


def log_likelihood(rows: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Log density (k,), but for a constant, of found (k, m) under a normal of the rows of alike (n, m)."""
    covariance, away = _covariance(alike), rows - alike.mean(axis=0)
    squares = (away * np.linalg.solve(covariance, away.T).T).sum(axis=1)
    return -(squares + np.linalg.slogdet(covariance)[1]) / 2


def _covariance(rows: np.ndarray) -> np.ndarray:
    """Covariance of rows (n, m), shrunk towards its diagonal, the more the fewer rows."""
    covariance, share = np.cov(rows.T), rows.shape[1] / (rows.shape[1] + len(rows))
    return (1 - share) * covariance + np.diag(share * np.diag(covariance) + 0.1)
