"""What the label audit tells: the kinds of fault, and one finding."""

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
#: Cases below which there is no cohort to be compared with: only what can be counted is told.
SMALLEST_COHORT = 5


@dataclass(frozen=True)
class LabelFinding:
    """One suspected fault. A row of faults.csv.

    structure: its name, or several joined by `+` where the fault is of the label map.
    fault: one of FAULTS.
    evidence: what was seen, in words.
    score: how clear it is: the gain of the explanation, or the robust z-score of the count.
    """

    case: str
    structure: str
    fault: str
    evidence: str
    score: float


def fault_table(findings: Sequence[LabelFinding]):
    """The findings as a table."""
    import pandas as pd

    columns = [field.name for field in fields(LabelFinding)]
    return pd.DataFrame([asdict(finding) for finding in findings], columns=columns).round(2)
