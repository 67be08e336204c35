"""What an audit finds: a line a problem, in `problems.tsv`."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segstudy.files import write_text
from segstudy.images.value_checks import REFUSED


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong with a case or a file.

    case: empty where it concerns the whole dataset.
    file: relative to the dataset's folder; empty where it concerns no single file.
    verdict: `refused`: the case cannot be used; `warning`: it can, but look.
    """

    case: str
    file: str
    problem: str
    verdict: str = REFUSED

    def __str__(self) -> str:
        return ": ".join(part for part in (self.case, self.file, self.problem) if part)


def write_problems(path: Path | str, dataset: str, problems: Iterable[Problem]) -> None:
    """Write the table; it has its header even where nothing was found."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["dataset", "case", "file", "problem", "verdict"])
    for problem in problems:
        writer.writerow([dataset, problem.case, problem.file, problem.problem, problem.verdict])
    write_text(path, text.getvalue())
