"""Problems that an audit finds: a line a problem, in `problems.tsv`."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segstudy.files import write_text
from segstudy.images.value_checks import REFUSED


@dataclass(frozen=True, order=True)
class Problem:
    """Describe a problem of a case or a file.

    Parameters
    ----------
    case
        Empty where the whole dataset is concerned.
    file
        Relative to the dataset's folder; empty where no single file is concerned.
    problem
        In words.
    verdict
        `refused`: the case cannot be used; `warning`: the case can be used, but look.
    """

    case: str
    file: str
    problem: str
    verdict: str = REFUSED

    def __str__(self) -> str:
        """Return case, file and problem in one line."""
        return ": ".join(part for part in (self.case, self.file, self.problem) if part)


def write_problems(path: Path | str, dataset: str, problems: Iterable[Problem]) -> None:
    """Write the table of problems, with its header even where there are none."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["dataset", "case", "file", "problem", "verdict"])
    for problem in problems:
        writer.writerow([dataset, problem.case, problem.file, problem.problem, problem.verdict])
    write_text(path, text.getvalue())
