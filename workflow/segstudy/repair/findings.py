"""Findings of the label audit, and their kinds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

FAULTS = (
    "empty",
    "flipped",
    "rotated",
    "orientation",
    "swapped",
    "shifted",
    "stray",
    "holes",
    "cut",
    "missing_part",
    "outline",
    "size",
    "unreadable",
)
#: Cases below which there is no cohort to be compared with, so that only counts are reported.
SMALLEST_COHORT = 5


@dataclass(frozen=True)
class LabelFinding:
    """Report one suspected error of a label; a row of faults.csv.

    Parameters
    ----------
    case
        Its name.
    structure
        Its name, or several joined by `+` where the whole label map is concerned.
    fault
        One of FAULTS.
    evidence
        In words.
    score
        Clarity: the gain of the explanation, or the robust z-score of the count.
    """

    case: str
    structure: str
    fault: str
    evidence: str
    score: float


def fault_table(findings: Sequence[LabelFinding]):
    """Return the findings as a pandas table."""
    import pandas as pd

    columns = [field.name for field in fields(LabelFinding)]
    return pd.DataFrame([asdict(finding) for finding in findings], columns=columns).round(2)
