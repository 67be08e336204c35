"""The cases of a user's own table, or of a layout's plug-in: a row a case, with the names of its files."""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segstudy import plugins
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.paths import cell_path
from segstudy.study import Dataset
from segstudy.tables import read_rows

_OPTIONAL = ("subject", "reference_label", "fold", "split")
TOLD_ALONE = 3
"""Rows with the same mistake that are told one by one; more are one line."""


@dataclass(frozen=True)
class Rows:
    """Hold rows of cases.

    Attributes
    ----------
    where
        Where they come from, for messages.
    head
        The same of the columns' names.
    tabs
        Advice on how columns are told apart, if any.
    beside
        A file, there or not, from whose folder paths are taken: the table itself, which may be a link.
    header
        Names of the columns.
    cells
        Number of each row, and its cells.
    closed
        Whether columns of no use here are refused: a table's own may hold anything else.
    """

    where: str
    head: str
    tabs: str
    beside: Path
    header: list[str]
    cells: list[tuple[int, list[str]]]
    closed: bool = False


class Mistakes:
    """Collect what is wrong with a table, row by row, to be said at once."""

    def __init__(self, table: str):
        """Take the table's name, which begins every line."""
        self._table = table
        self._rows: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)

    def add(self, row: int, column: str, kind: str, text: str = "") -> None:
        """Note a mistake.

        Parameters
        ----------
        row
            Number of the row.
        column
            Its name; empty where the mistake is the whole row's.
        kind
            What is wrong, in words that several rows share.
        text
            As `kind`, with the row's own values; empty: `kind` itself.
        """
        self._rows[column, kind].append((row, text or kind))

    def stop(self) -> None:
        """Raise InputError with all of them; rows with the same one are in one line."""
        lines = []
        for (column, kind), found in self._rows.items():
            where = f", column {column}" if column else ""
            if len(found) <= TOLD_ALONE:
                lines += [f"{self._table}: row {row}{where}: {text}" for row, text in found]
            else:
                rows = ", ".join(str(row) for row, _ in found[:TOLD_ALONE])
                more = len(found) - TOLD_ALONE
                lines.append(
                    f"{self._table}: {len(found)} rows{where}: {kind}: rows {rows} and {more} more"
                )
        if lines:
            raise InputError("\n".join(lines))


def read_table(table: Path, dataset: Dataset) -> list[Case]:
    """Read the cases of a TSV with a row a case; file names are relative to the table's folder.

    Whether the files are there is not looked at.

    Raises
    ------
    InputError
        With everything that is wrong with the header, or else with the rows.
    """
    (_, header), *cells = read_rows(table)
    if len(header) == 1:
        other = next((mark for mark in (",", ";") if mark in header[0]), None)
        if other:
            raise InputError(f"{table}: cells are separated by {other!r}; expected tabs (TSV)")
    tabs = ", in small letters, with tabs between the columns"
    return _cases(Rows(str(table), f"{table}: row 1", tabs, table, header, cells), dataset)


def listed_by_plugin(folder: Path, dataset: Dataset) -> list[Case]:
    """Return the cases that a layout's plug-in lists of a folder.

    Whether the files are there is not looked at.

    Raises
    ------
    InputError
        Where the plug-in fails, or lists no rows as its contract says; with everything that is wrong
        with the rows.
    """
    text = dataset.source.layout_plugin
    function = plugins.load(text, "list_cases")
    where = f"plug-in {text}"
    with plugins.telling(text):
        found = function(folder.resolve(), **dataset.source.options)
        rows = list(found) if isinstance(found, Iterable) and not isinstance(found, str) else None
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        what = "no case" if rows == [] else repr(found)[:60]
        raise InputError(
            f"{where}: list_cases returned {what} of {folder}; expected a dict a case: case, image, label, ..."
        )
    header = [str(name) for name in dict.fromkeys(name for row in rows for name in row)]
    cells = [
        (number, [_cell(row.get(name), f"{where}: row {number}, {name}") for name in header])
        for number, row in enumerate(rows, start=1)
    ]
    return _cases(
        Rows(where, f"{where}: list_cases", "", folder / "rows", header, cells, True), dataset
    )


def _cell(value: Any, where: str) -> str:
    """Return a value of a plug-in's row as the cell of a table has it."""
    if value is None:
        return ""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value).strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: {value!r}; expected text, a path, or a whole number")


def _cases(rows: Rows, dataset: Dataset) -> list[Case]:
    header = rows.header
    images = _check_columns(rows, dataset)
    mistakes, cases = Mistakes(rows.where), []
    for number, values in rows.cells:
        if len(values) != len(header):
            expected = f"expected {len(header)}, as in the header, with a tab between them"
            mistakes.add(
                number, "", f"other number of cells; {expected}", f"{len(values)} cells; {expected}"
            )
            continue
        row = dict(zip(header, values, strict=True))
        if _check_row(row, images, number, mistakes):
            case = _case(row, images, rows, number, mistakes)
            if case is not None:
                cases.append((number, case))
    _check_folds(cases, mistakes)
    mistakes.stop()
    return [case for _, case in cases]


def _check_row(row: dict[str, str], images: list[str], number: int, mistakes: Mistakes) -> bool:
    """Note what is wrong with the cells of a row; return whether a case can be made of it."""
    empty = [column for column in ("case", *images, "label") if not row[column]]
    for column in empty:
        mistakes.add(number, column, "empty")
    fold, split = row.get("fold", ""), row.get("split", "")
    wrong_fold = bool(fold) and not re.fullmatch(r"\d{1,3}", fold)
    if wrong_fold:
        expected = "expected a whole number from 0"
        mistakes.add(number, "fold", expected, f"found {fold!r}; {expected}")
    if split not in ("", "train", "test"):
        mistakes.add(
            number, "split", "expected train or test", f"found {split!r}; expected train or test"
        )
    return not empty and not wrong_fold


def _check_columns(rows: Rows, dataset: Dataset) -> list[str]:
    """Return the image columns, in the order of the channels; InputError for unusable columns."""
    header = rows.header
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{rows.head}: the column {twice!r} stands twice")
    single = ["image"]
    each = [f"image_{channel}" for channel in dataset.channels]
    image_columns = [name for name in header if name == "image" or name.startswith("image_")]
    if not dataset.has_images:
        image_columns = single = []
    elif sorted(image_columns) not in (single, sorted(each)):
        wanted = (
            "image" if len(each) == 1 else f"image (all channels in one file) or {', '.join(each)}"
        )
        raise InputError(
            f"{rows.head}: image columns {', '.join(image_columns) or 'none'}; expected {wanted}{rows.tabs}; found {', '.join(repr(name) for name in header[:6])}"
            f"{_in_small_letters(header, (*single, *each))}"
        )
    for name in ("case", "label"):
        if name not in header:
            raise InputError(
                f"{rows.head}: the column {name!r} is missing{_in_small_letters(header, (name,))}"
            )
    for name in header:
        if name in ("case", "label", *image_columns, *_OPTIONAL):
            continue
        near = difflib.get_close_matches(
            name.lower(), ("case", "label", *_OPTIONAL), n=1, cutoff=0.8
        )
        if near:
            raise InputError(f"{rows.head}: unknown column {name!r}; did you mean {near[0]}?")
        if rows.closed:
            known = ", ".join(("case", *image_columns, "label", *_OPTIONAL))
            raise InputError(f"{rows.head}: unknown key {name!r}; expected {known}")
    return image_columns if image_columns == single else each


def _in_small_letters(header: Sequence[str], wanted: Iterable[str]) -> str:
    """Return advice on names of columns that are right but for capitals."""
    known = {name.lower(): name for name in wanted}
    near = [name for name in header if name.lower() in known and name not in known.values()]
    return "".join(f"; write {known[name.lower()]} in place of {name}" for name in near)


def _case(
    row: dict[str, str], images: Iterable[str], rows: Rows, number: int, mistakes: Mistakes
) -> Case | None:
    """Make the case of a row; None where a path of it can't be understood, which is noted."""
    files = {}
    for column in (*images, "label", "reference_label"):
        if row.get(column):
            where = f"{rows.where}: row {number}, column {column}"
            try:
                files[column] = cell_path(rows.beside, row[column], where)
            except InputError as error:
                text = str(error).removeprefix(f"{where}: ")
                mistakes.add(number, column, text.removeprefix(f"{row[column]}: "), text)
    if not {*images, "label"} <= files.keys():
        return None
    return Case(
        case=row["case"],
        subject=row.get("subject") or row["case"],
        images=tuple(files[column] for column in images),
        label=files["label"],
        reference_label=files.get("reference_label"),
        fold=int(row["fold"]) if row.get("fold") else None,
        split=row.get("split") or None,
    )


def _check_folds(cases: list[tuple[int, Case]], mistakes: Mistakes) -> None:
    """Note the rows without fold where others that are trained on have one."""
    rows = [(number, case) for number, case in cases if case.split != "test"]
    given = [number for number, case in rows if case.fold is not None]
    left_out = [number for number, case in rows if case.fold is None]
    for number in left_out if given else ():
        mistakes.add(
            number,
            "fold",
            f"empty, though row {given[0]} has one; give a fold for every case (but for those of split "
            "test), or for none",
        )
