"""The verdict on a comparison: A better, equivalent, B better, or cannot be told.

Two models are equivalent where two one-sided tests (Schuirmann 1987; Lakens 2017) tell that their
difference lies within the margin: at level alpha, where the interval of the level 1 - 2 alpha lies inside.
Equivalence has a family of its own. Without a margin nothing is called equivalent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np
import pandas as pd
from scipy import stats

from segstudy.statistics import multiple_testing, rule
from segstudy.statistics.comparisons import (
    Comparison,
    Labels,
    Test,
    correction_of,
    is_primary,
    shared_choices,
)
from segstudy.statistics.intervals import NAN, significant
from segstudy.study import Statistics

COLUMNS = (
    *(field.name for field in fields(Labels)),
    *("design", "primary", "n_subjects", "estimate", "estimate_name", "margin"),
    *("ci_low", "ci_high", "p", "p_adjusted", "n_family"),
    *("equivalence_low", "equivalence_high", "p_equivalence", "p_equivalence_adjusted"),
    *("n_equivalence", "verdict", "slightly_better", "p_other_order"),
    *("folds", "folds_t", "folds_df", "p_folds", "remark"),
)
"""Columns of `verdicts.csv`; those that `tests.csv` has too are the same there.

verdict: `equivalent` where p_equivalence_adjusted <= alpha and the interval of the level 1 - 2 alpha,
[equivalence_low, equivalence_high], lies inside the margin; else that of `tests.csv`. slightly_better: of
equivalent models the one that `tests.csv` calls better, `a` or `b`. p_equivalence: the larger p of the two
one-sided tests; adjusted over the n_equivalence comparisons of a family that have a margin.
p_other_order: posterior probability, under a flat prior, that the order is the other way than the estimate
(one-sided t on subjects' means; with infinite values half of p, from ranks).
"""


def verdicts(families: Sequence[list[Comparison]], settings: Statistics) -> pd.DataFrame:
    """Return `verdicts.csv`, a row a comparison.

    Parameters
    ----------
    families
        Of `comparisons.judged_families`.
    settings
        Settings of the statistics.
    """
    rows = []
    for family in families:
        equivalence = _equivalence(family, settings)
        for comparison in family:
            row = {
                **{name: comparison.row.get(name, NAN) for name in COLUMNS},
                **asdict(comparison.labels),
                "primary": is_primary(comparison.labels, settings),
                "margin": _margin(comparison, settings),
                "slightly_better": "",
                "p_other_order": other_order(comparison.row),
                "n_equivalence": len(equivalence),
                "remark": "; ".join(comparison.remarks),
            }
            row |= equivalence.get(id(comparison), {})
            if _is_equivalent(row, settings):
                row["slightly_better"] = {"a_better": "a", "b_better": "b"}.get(row["verdict"], "")
                row["verdict"] = "equivalent"
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _margin(comparison: Comparison, settings: Statistics) -> float:
    margin = settings.margin_of(comparison.labels.metric, comparison.labels.structure)
    return NAN if margin is None else margin


def _is_equivalent(row: dict, settings: Statistics) -> bool:
    """Tell whether a row's p and its interval both say that the difference lies within the margin."""
    low, high, margin = row["equivalence_low"], row["equivalence_high"], row["margin"]
    inside = -margin < low and high < margin
    return bool(inside and significant(row["p_equivalence_adjusted"], settings.alpha))


def _equivalence(family: Sequence[Comparison], settings: Statistics) -> dict[int, dict]:
    """Test a family for equivalence: the columns of each comparison with a margin, by its id."""
    members = [
        comparison
        for comparison in family
        if np.isfinite(_margin(comparison, settings))
        and np.isfinite(comparison.row["p_adjusted"])
        and np.isfinite(comparison.test.estimate)
    ]
    if not members:
        return {}
    correction = correction_of(members, settings)
    margins = [_margin(comparison, settings) for comparison in members]
    tests = [comparison.test for comparison in members]
    if correction == "max_t":
        choices = shared_choices(members, settings)
        alone, adjusted = _by_swaps(tests, margins, choices)
    else:
        alone = [_p(test, margin) for test, margin in zip(tests, margins, strict=True)]
        adjusted = multiple_testing.by_p(
            alone, lambda number, level: (NAN, NAN), correction, settings.alpha
        ).p
    rows = {}
    for comparison, p, p_adjusted in zip(members, alone, adjusted, strict=True):
        low, high = comparison.test.interval(min(2 * settings.alpha, 1.0))
        rows[id(comparison)] = {
            "equivalence_low": low,
            "equivalence_high": high,
            "p_equivalence": p,
            # Other random swaps than those of the test by itself may make it smaller by chance.
            "p_equivalence_adjusted": max(p, p_adjusted),
        }
    return rows


def _nearest(test: Test, margin: float) -> tuple[Test, int]:
    """Return the test at the nearer end of the margin, whose p is the larger, and the side that is asked for."""
    side = -1 if test.estimate >= 0 else 1
    return test.shifted(-side * margin), side


def _by_swaps(
    tests: Sequence[Test], margins: Sequence[float], choices: Sequence[np.ndarray]
) -> tuple[list[float], list[float]]:
    moved = [_nearest(test, margin) for test, margin in zip(tests, margins, strict=True)]
    return multiple_testing.one_sided(
        [test for test, _ in moved], choices, [side for _, side in moved]
    )


def _p(test: Test, margin: float) -> float:
    """Return p of one comparison by itself."""
    if isinstance(test, rule.Classical):
        return _by_inversion(test, margin)
    return _by_swaps([test], [margin], [test.choices])[0][0]


def _by_inversion(test: Test, margin: float) -> float:
    """Return the smallest level at which the interval of a classical test lies inside the margin."""
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        level = (low + high) / 2
        ends = test.interval(min(2 * level, 1.0))
        if -margin < ends[0] and ends[1] < margin:
            high = level
        else:
            low = level
    return high


def other_order(row: Mapping) -> float:
    """Return the posterior probability, under a flat prior, that the order is the other way.

    Parameters
    ----------
    row
        Of `tests.csv`.
    """
    for t, df in (("t_statistic", "t_df"), ("welch_statistic", "welch_df")):
        if np.isfinite(row.get(t, NAN)):
            return float(stats.t.sf(abs(row[t]), row[df]))
    return row["p"] / 2
