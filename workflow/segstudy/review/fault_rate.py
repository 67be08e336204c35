"""How many labels of a cohort are faulty, told from those that were picked and from a random sample of the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from segstudy.errors import InputError

SOURCE = (
    "C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial, "
    "Biometrika 26 (1934) 404-413; strata as in W. G. Cochran, Sampling Techniques, 3rd ed. (1977), chapter 5"
)


@dataclass(frozen=True)
class Stratum:
    """Hold a part of the cohort and what was found in it.

    Parameters
    ----------
    name
        What it is.
    size
        Its cases.
    reviewed
        Of these, those that were reviewed: all of them, or a random sample.
    faulty
        Of the reviewed, those with a faulty label.
    """

    name: str
    size: int
    reviewed: int
    faulty: int

    def __post_init__(self) -> None:
        """Raise InputError for counts that cannot be."""
        if not 0 <= self.faulty <= self.reviewed <= self.size:
            raise InputError(
                f"stratum {self.name}: {self.faulty} faulty of {self.reviewed} reviewed of {self.size}; expected no more "
                "faulty than reviewed, and no more of these than cases"
            )


@dataclass(frozen=True)
class Rate:
    """Hold the estimated share of faulty labels in a cohort, with an interval; estimate None where nothing was sampled."""

    estimate: float | None
    low: float
    high: float


def clopper_pearson(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Compute the exact interval of a proportion (Clopper and Pearson 1934): 0 of 20 leaves 0 to 16.8 %."""
    from scipy.stats import binomtest

    low, high = binomtest(successes, n).proportion_ci(1 - alpha, method="exact")
    return float(low), float(high)


def fault_rate(strata: Sequence[Stratum], alpha: float = 0.05) -> Rate:
    """Estimate the share of faulty labels in a cohort that was reviewed by strata.

    A stratum that was reviewed whole is known. Each of the `k` others has its exact interval at level
    `1 - alpha / k`, so that all hold together with at least `1 - alpha` (Bonferroni); a stratum in which
    nothing was reviewed leaves 0 to 1. Bounds are summed, weighted by the strata's sizes: the interval is
    conservative, also since a sample without replacement tells more than the binomial.

    Parameters
    ----------
    strata
        Parts of the cohort that do not overlap.
    alpha
        One minus the level of the interval.
    """
    total = sum(one.size for one in strata)
    if not total:
        raise InputError("no case to estimate a fault rate of")
    open_ones = [one for one in strata if one.reviewed < one.size]
    low = high = estimate = 0.0
    told = True
    for one in strata:
        if one.reviewed == one.size:
            bounds = (one.faulty / one.size,) * 2 if one.size else (0.0, 0.0)
        elif one.reviewed:
            bounds = clopper_pearson(one.faulty, one.reviewed, alpha / len(open_ones))
            # What was found is certain, and so is what was found right.
            least, most = one.faulty / one.size, 1 - (one.reviewed - one.faulty) / one.size
            bounds = max(bounds[0], least), min(bounds[1], most)
        else:
            bounds, told = (0.0, 1.0), False
        low += bounds[0] * one.size / total
        high += bounds[1] * one.size / total
        if one.reviewed:
            estimate += one.faulty / one.reviewed * one.size / total
    return Rate(estimate if told else None, low, high)
