"""How many subjects a comparison of two models needs, by the power of the paired t test.

SD and ICC are those of the differences of two models. The effect, or the margin, is the one that matters; that of
a pilot is too uncertain to plan by (Albers and Lakens 2018). The models are compared by exchanging labels per
subject, whose power is next to that of t.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segstudy.errors import InputError
from segstudy.level import fewest_subjects

MOST_SUBJECTS = 100_000
UPPER = 0.8
"""Level of the one-sided upper limit of a pilot's SD."""


@dataclass(frozen=True)
class Goal:
    """What a study is to tell.

    Attributes
    ----------
    power
        Probability that it does.
    alpha
        Level of significance, two-sided for a difference.
    effect
        True difference; 0 for equivalence of models that are alike.
    margin
        Largest difference that does not matter; None: a difference is to be told, not equivalence.
    """

    power: float = 0.8
    alpha: float = 0.05
    effect: float = 0.0
    margin: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no number of subjects can tell."""
        if not 0 < self.alpha < 1 or not self.alpha < self.power < 1:
            raise InputError(
                f"--alpha {self.alpha:g} --power {self.power:g}: expected 0 < alpha < power < 1"
            )
        if self.margin is None and not self.effect:
            raise InputError("--effect: expected a difference other than 0, or --margin")
        if self.margin is not None and not abs(self.effect) < self.margin:
            raise InputError(
                f"--margin {self.margin:g}: a true difference of {self.effect:g} does not lie within it; expected a "
                "larger margin, or a smaller --effect"
            )


def subject_sd(scan_sd: float, scans: float, icc: float) -> float:
    """Return the SD of subjects' means.

    Parameters
    ----------
    scan_sd
        SD of the differences of scans.
    scans
        Scans of a subject.
    icc
        Share of their variance that scans of a subject have in common.
    """
    return scan_sd * math.sqrt((1 + (scans - 1) * icc) / scans)


def upper_sd(sd: float, subjects: int) -> float:
    """Return the upper limit (80 %, one-sided) of the SD of a pilot with so many subjects."""
    df = subjects - 1
    return sd * math.sqrt(df / stats.chi2.ppf(1 - UPPER, df))


def power_at(subjects: int, sd: float, goal: Goal) -> float:
    """Return the power of a study with so many subjects, whose differences have an SD."""
    df, error = subjects - 1, sd / math.sqrt(subjects)
    if goal.margin is None:
        reach = stats.t.ppf(1 - goal.alpha / 2, df)
        shift = goal.effect / error
        return float(stats.nct.sf(reach, df, shift) + stats.nct.cdf(-reach, df, shift))
    return _equivalence_power(df, error, goal)


def _equivalence_power(df: int, error: float, goal: Goal) -> float:
    """Average over the estimated SD the probability that both one-sided tests reject (Schuirmann 1987)."""
    shares = (np.arange(2000) + 0.5) / 2000
    estimated = np.sqrt(stats.chi2.ppf(shares, df) / df)
    reach = stats.t.ppf(1 - goal.alpha, df) * estimated
    high = (goal.margin - goal.effect) / error - reach
    low = (-goal.margin - goal.effect) / error + reach
    return float(np.mean(np.maximum(stats.norm.cdf(high) - stats.norm.cdf(low), 0.0)))


def subjects_needed(sd: float, goal: Goal) -> int:
    """Return the fewest subjects that reach the power.

    Raises
    ------
    InputError
        Where 100,000 do not.
    """
    low = max(fewest_subjects(goal.alpha), 2)
    high = low
    while power_at(high, sd, goal) < goal.power:
        low, high = high + 1, 2 * high
        if high > MOST_SUBJECTS:
            raise InputError(
                f"more than {MOST_SUBJECTS:,} subjects at an SD of {sd:g}; expected a larger --effect or --margin, "
                "or a lower --power"
            )
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if power_at(middle, sd, goal) >= goal.power else (middle + 1, high)
        )
    return high
