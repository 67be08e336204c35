"""What a dataset's files are taken for, before anything runs: cases, problems, and files left over."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segstudy.cases import Case
from segstudy.download.file_layout import Masks, PatternedFiles
from segstudy.download.layouts import Listing, list_cases
from segstudy.download.names import named_safely, on_two_sides
from segstudy.download.problems import in_words
from segstudy.errors import InputError
from segstudy.images.value_checks import REFUSED
from segstudy.study import Dataset, FilesSource

TOLD_ALONE = 3
"""Files left over whose names differ in numbers alone and that are told one by one."""


@dataclass(frozen=True)
class Overview:
    """Hold what there is to say of a dataset.

    Parameters
    ----------
    lines
        A line of counts; a row a case, as in a case table; problems; files left over.
    refused
        Cases and files that are refused, or 1 where nothing could be listed.
    """

    lines: list[str]
    refused: int


def overview(name: str, dataset: Dataset) -> Overview:
    """Tell the cases of a dataset that is on disk; no image is opened.

    Parameters
    ----------
    name
        The dataset's, in the study file.
    dataset
        Its settings.
    """
    where = f"datasets.{name}"
    if not getattr(dataset.source, "path", None):
        return Overview([f"{where}: is not on disk yet; `snakemake download_all` fetches it"], 0)
    try:
        listing = list_cases(dataset)
    except InputError as error:
        lines = [f"{where}: {line}" for line in str(error).splitlines()]
        return Overview([*lines, *_left_over(where, dataset)], 1)
    subjects = len({case.subject for case in listing.cases})
    lines = [
        f"{where}: {_count(len(listing.cases), 'case')} of {_count(subjects, 'subject')}",
        *_table(listing, dataset),
    ]
    problems = sorted(
        {*listing.problems, *named_safely(listing.cases)[1], *on_two_sides(listing.cases)}
    )
    for verdict, title in (("refused", "refused"), ("warning", "warnings")):
        own = [problem for problem in problems if problem.verdict == verdict]
        if own:
            lines += [f"{where}: {title}:", *(f"  {line}" for line in in_words(own, listing.root))]
    refused = {one.case or one.file for one in problems if one.verdict == REFUSED}
    if not listing.cases and not refused:
        lines.append(f"{where}: expected at least one case")
        return Overview([*lines, *_left_over(where, dataset)], 1)
    return Overview([*lines, *_left_over(where, dataset)], len(refused))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _table(listing: Listing, dataset: Dataset) -> list[str]:
    """Return rows of a case table, with a header, and tabs between the cells; of masks, a column a structure."""
    cases = sorted(listing.cases, key=lambda case: case.case)
    if not cases:
        return []
    images = [f"image_{channel}" for channel in dataset.channels]
    count = max(len(case.images) for case in cases)
    images = images if count > 1 else ["image"][:count]
    last = [f"mask_{name}" for name in dataset.source.masks] if listing.masks else ["label"]
    header = ["case", "subject", *images, *last]
    rows = [
        [case.case, case.subject, *_names(case.images, listing.root), *_labels(case, listing)]
        for case in cases
    ]
    for column in ("fold", "split"):
        values = [getattr(case, column) for case in cases]
        if any(value is not None for value in values):
            header.append(column)
            rows = [
                [*row, "" if value is None else str(value)]
                for row, value in zip(rows, values, strict=True)
            ]
    return ["\t".join(row) for row in (header, *rows)]


def _labels(case: Case, listing: Listing) -> list[str]:
    masks: Masks | None = listing.masks.get(case.label)
    if masks is None:
        return _names([case.label], listing.root)
    return [", ".join(_names(files, listing.root)) for files in masks.structures.values()]


def _names(files: Sequence[Path], root: Path) -> list[str]:
    return [
        file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
        for file in files
    ]


def _left_over(where: str, dataset: Dataset) -> list[str]:
    """Tell the image files that no pattern matches and the nearest pattern, and count files of other endings."""
    root = Path(dataset.source.path)
    if not isinstance(dataset.source, FilesSource) or not root.is_dir():
        return []
    files = PatternedFiles(root, dataset)
    images, others = files.left_over()
    alike: dict[str, list[str]] = {}
    for path in images:
        alike.setdefault(re.sub(r"\d+", "0", path), []).append(path)
    lines = [f"{where}: {_count(len(images), 'image file')} left over{':' if images else ''}"]
    for paths in alike.values():
        shown = paths if len(paths) <= TOLD_ALONE else paths[:1]
        lines += [f"  {path}: {files.nearest(path)}" for path in shown]
        if len(paths) > len(shown):
            lines.append(
                f"  and {len(paths) - len(shown)} more whose names differ in numbers alone"
            )
    endings = Counter(Path(path).suffix or "no ending" for path in others)
    if endings:
        told = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(8))
        lines.append(f"{where}: files that are read as no image: {told}")
    return lines
