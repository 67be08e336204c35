"""Problems that an audit finds: a line a problem, in `problems.tsv`."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

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


COLUMNS = ("dataset", "case", "file", "problem", "verdict")
TOLD_ALONE = 3
"""Problems of a kind that are told one by one; of more, the first ones are named in one line."""


def in_words(problems: Iterable[Problem], root: Path) -> list[str]:
    """Return the problems in lines; many of the same kind with files of the same folder are one.

    root: the folder that the problems' files are relative to.
    """
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        # What follows a semicolon is advice on the one file.
        kind = problem.problem.split(";")[0]
        groups.setdefault((kind, str(PurePath(problem.file).parent)), []).append(problem)
    lines = []
    for (kind, folder), group in groups.items():
        if len(group) <= TOLD_ALONE:
            lines += [str(problem) for problem in group]
        else:
            lines.append(_together(kind, root / folder, group))
    return lines


def _together(kind: str, folder: Path, group: Sequence[Problem]) -> str:
    """One line on problems of a kind."""
    with_file = all(problem.file for problem in group)
    names = [PurePath(one.file).name if with_file else one.case for one in group]
    advice = {problem.problem.partition(";")[2] for problem in group}
    own = f";{advice.pop()}" if len(advice) == 1 and any(advice) else ""
    place = f" in {folder}" if with_file else ""
    more = len(names) - TOLD_ALONE
    what = "files" if with_file else "cases"
    return (
        f"{len(names)} {what}{place}: {kind}: {', '.join(names[:TOLD_ALONE])} and {more} more{own}"
    )


def write_problems(path: Path | str, dataset: str, problems: Iterable[Problem]) -> None:
    """Write the table of problems, with its header even where there are none."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for problem in problems:
        writer.writerow([dataset, problem.case, problem.file, problem.problem, problem.verdict])
    write_text(path, text.getvalue())
