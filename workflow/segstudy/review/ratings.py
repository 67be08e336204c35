"""What readers think of predictions: counts, agreement of raters, and what Dice says of the same predictions."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from segstudy.rating_files import ALL, GRADES, Rating, Shown

COUNTS = ("dataset", "model", "rater", "n_ratings", "n_cases", *GRADES)
AGREEMENT = ("dataset", "rater_a", "rater_b", "n_ratings", "n_subjects", "same_grade", "kappa")
AGREEMENT += ("kappa_low", "kappa_high")
DICE = ("dataset", "grade", "n_ratings", "mean_dice", "median_dice", "q1", "q3", "spearman")
GIVEN = ("dataset", "case", "subject", "model", "fold", "seed", "rater", "grade", "remark", "dice")
SAMPLES = 2000
"""Resamples of the subjects."""
FEWEST_SUBJECTS = 5
"""Of which an interval is told."""


def given(ratings: Sequence[tuple[Rating, Shown]], dice: Mapping[tuple, float]) -> pd.DataFrame:
    """Return a row a rating, with the model. Columns: `GIVEN`.

    Parameters
    ----------
    ratings
        As `rating_files.resolved` returns them.
    dice
        (dataset, case, model, fold, seed) -> mean Dice over the structures; as far as it is known.
    """
    rows = []
    for rating, shown in ratings:
        key = (shown.dataset, shown.case, shown.model, shown.fold, shown.seed)
        rows.append(
            (shown.dataset, shown.case, shown.subject, *key[2:])
            + (rating.rater, rating.grade, rating.remark, dice.get(key, np.nan))
        )
    return pd.DataFrame(rows, columns=list(GIVEN))


def mean_dice(metrics: pd.DataFrame, structures: Sequence[str]) -> dict[tuple, float]:
    """Return the mean Dice of each prediction over the structures in which it is defined.

    Parameters
    ----------
    metrics
        All measurements, text but for `value`.
    structures
        Of the study; composite regions would count twice.
    """
    table = metrics[
        (metrics["metric"] == "dice")
        & metrics["structure"].isin(structures)
        & np.isfinite(metrics["value"])
    ]
    means = table.groupby(["dataset", "case", "model", "fold", "seed"])["value"].mean()
    return {
        (dataset, case, model, int(fold), int(seed)): float(value)
        for (dataset, case, model, fold, seed), value in means.items()
    }


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Give raters numbers in place of their names, in the order of their first rating: the other tables are published."""
    names = {name: f"rater {place}" for place, name in enumerate(table["rater"].unique(), 1)}
    return table.assign(rater=table["rater"].map(names))


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Count grades by model: a row a rater, and one of all raters. Columns: `COUNTS`.

    table: as `given` returns it.
    """
    rows = []
    for (dataset, model), own in table.groupby(["dataset", "model"], sort=False):
        parts = [*own.groupby("rater", sort=False), (ALL, own)]
        for rater, part in parts:
            numbers = [int((part["grade"] == grade).sum()) for grade in GRADES]
            rows.append((dataset, model, rater, len(part), part["case"].nunique(), *numbers))
    return pd.DataFrame(rows, columns=list(COUNTS))


def agreement(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Tell how far each two raters agree on the predictions that both rated. Columns: `AGREEMENT`.

    Cohen's kappa with quadratic weights (Cohen, Psychol Bull 70 (1968) 213), by statsmodels, with a percentile interval
    over resamples of the subjects, since predictions of one subject are alike. Undefined where both gave one grade only.

    Parameters
    ----------
    table
        As `given` returns it.
    seed
        Of the resamples.
    """
    rows = []
    for dataset, own in table.groupby("dataset", sort=False):
        by_rater = {
            rater: part.set_index(["case", "model"])
            for rater, part in own.groupby("rater", sort=False)
        }
        for (a, left), (b, right) in itertools.combinations(by_rater.items(), 2):
            both = left[["subject", "grade"]].join(right["grade"].rename("grade_b"), how="inner")
            subjects, tables = _tables(both)
            whole = tables.sum(axis=0)
            n = int(whole.sum())
            same = float(np.trace(whole) / n) if n else np.nan
            low, high = _interval(tables, seed)
            rows.append((dataset, a, b, n, subjects, same, kappa(whole), low, high))
    return pd.DataFrame(rows, columns=list(AGREEMENT))


def _tables(both: pd.DataFrame) -> tuple[int, np.ndarray]:
    """Return the number of subjects, and of each a table (subject, grade of a, grade of b) of counts."""
    codes, names = pd.factorize(both["subject"])
    tables = np.zeros((len(names), len(GRADES), len(GRADES)), int)
    places = [[GRADES.index(grade) for grade in both[key]] for key in ("grade", "grade_b")]
    np.add.at(tables, (codes, *map(np.array, places)) if len(both) else ([], [], []), 1)
    return len(names), tables


def kappa(table: np.ndarray) -> float:
    """Compute Cohen's kappa with quadratic weights; NaN where chance alone would agree wholly.

    table: (grade of one rater, grade of the other), counts.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    if len(np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))) < 2:
        return float("nan")
    return float(cohens_kappa(table, wt="quadratic", return_results=False))


def _interval(tables: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of kappa over resamples of the subjects. tables: (subject, grade, grade)."""
    if len(tables) < FEWEST_SUBJECTS:
        return np.nan, np.nan
    number = len(tables)
    random = np.random.default_rng(seed)
    times = random.multinomial(number, np.full(number, 1 / number), SAMPLES)
    values = kappas(np.tensordot(times, tables, axes=1))
    if not np.isfinite(values).any():
        return np.nan, np.nan
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def kappas(tables: np.ndarray) -> np.ndarray:
    """Compute `kappa` of many tables (n, grade, grade) at once: 1 less the observed over the expected squared distance."""
    grades = np.arange(tables.shape[-1])
    distance = (grades[:, None] - grades) ** 2
    total = tables.sum(axis=(1, 2))
    expected = np.einsum("ni,nj,ij->n", tables.sum(axis=2), tables.sum(axis=1), distance) / total
    observed = np.einsum("nij,ij->n", tables, distance)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def by_dice(table: pd.DataFrame) -> pd.DataFrame:
    """Tell the Dice of the predictions of each grade. Columns: `DICE`.

    `spearman`: rank correlation of grade and Dice over the ratings of the dataset, the same in its rows; above 0 where better
    grades have higher Dice.
    """
    rows = []
    known = table.dropna(subset=["dice"])
    for dataset, own in known.groupby("dataset", sort=False):
        rank = -own["grade"].map(GRADES.index)
        varies = rank.nunique() > 1 and own["dice"].nunique() > 1
        rho = float(rank.rank().corr(own["dice"].rank())) if varies else np.nan
        for grade in GRADES:
            values = own.loc[own["grade"] == grade, "dice"]
            parts = [values.mean(), values.median(), values.quantile(0.25), values.quantile(0.75)]
            rows.append((dataset, grade, len(values), *map(float, parts), rho))
    return pd.DataFrame(rows, columns=list(DICE))
