"""Tables as text: comma, semicolon or tab between the columns, points or commas in the numbers."""

import csv
import io
import math
import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from segstudy.errors import InputError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
UNDEFINED = frozenset(
    ("", "nan", "-nan", "na", "n/a", "n.a.", "<na>", "#n/a", "none", "null", "-", "–", "—")
)
_INFINITE = re.compile(r"([+-]?)(inf|infinity|∞)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")


def read_delimited(path: Path | str, known: Collection[str] = ()) -> tuple[pd.DataFrame, str]:
    """Read a table as text, and find the sign between its columns.

    Names and cells are without spaces around them; a name that is known but for its capitals is in
    small letters. The index, `row`, counts as a spreadsheet does: the header is row 1. A column
    without a name, as pandas writes its index, is left out.

    Parameters
    ----------
    path
        File of the table.
    known
        Names of columns that are read whatever their capitals.

    Raises
    ------
    InputError
        Where the file cannot be read as a table.
    """
    text = _decoded(path)
    first, _, rest = text.partition("\n")
    if first.strip().lower() in ("sep=,", "sep=;"):  # a line that spreadsheets write for themselves
        text = "\n" + rest
    separator = _separator(text, path)
    rows = _rows(text, separator, path)
    if not rows:
        raise InputError(f"{path}: not readable as a table (it is empty)")
    (_, names), *body = rows
    header = [name.lower() if name.lower() in known else name for name in names]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path}: two columns are named {twice[0]!r}; expected one of each name")
    for row, cells in body:
        if len(cells) != len(header):
            hint = _decimal_commas(cells, header) if separator == "," else ""
            raise InputError(
                f"{path}: row {row}: {len(cells)} cells, but the header has {len(header)} columns{hint}"
            )
    table = pd.DataFrame(
        [cells for _, cells in body],
        columns=range(len(header)),
        index=pd.Index([row for row, _ in body], name="row"),
        dtype=object,
    )
    for place, name in enumerate(header):
        if not name and place and (table[place] != "").any():
            row = table.index[table[place] != ""][0]
            raise InputError(
                f"{path}: row {row}: a cell below no name of a column (column {place + 1})"
            )
    named = [place for place, name in enumerate(header) if name]
    return table[named].set_axis([header[place] for place in named], axis=1), separator


def _decoded(path: Path | str) -> str:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of metrics") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected a table (.csv) in it") from None
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror or error})") from None
    if content.startswith(b"PK"):
        raise InputError(
            f"{path}: not readable as a table (a spreadsheet?); save it as CSV (UTF-8)"
        )
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # "Unicode text" of spreadsheets
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as a table ({error}); save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{path}: not readable as a table (it holds zero bytes)")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separator(text: str, path: Path | str) -> str:
    """Find the sign that splits the header into the most columns."""
    header = next((line for line in text.split("\n") if line.strip()), "")
    try:
        counts = {sign: len(next(csv.reader([header], delimiter=sign), ())) for sign in SEPARATORS}
    except csv.Error as error:
        raise InputError(f"{path}: not readable as a table ({error})") from None
    most = max(counts.values())
    best = [sign for sign, count in counts.items() if count == most]
    if most > 1 and len(best) > 1:
        raise InputError(
            f"{path}: the header holds as many {' as '.join(SEPARATORS[sign] for sign in best)}; expected "
            "one of them between the columns"
        )
    return best[0]


def _rows(text: str, separator: str, path: Path | str) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, with their numbers."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [
            (row, [cell.strip() for cell in cells]) for row, cells in enumerate(reader, start=1)
        ]
    except csv.Error as error:
        raise InputError(
            f"{path}: row {reader.line_num}: not readable as a table ({error})"
        ) from None
    return [(row, cells) for row, cells in rows if any(cells)]


def _decimal_commas(cells: Sequence[str], header: Sequence[str]) -> str:
    if len(cells) > len(header) and any(
        before.lstrip("+-").isdigit() and after.isdigit() for before, after in pairwise(cells)
    ):
        return "; decimal commas? Write decimal points, or semicolons between the columns"
    return ""


def numbers(text: pd.Series, what: str, separator: str, path: Path | str) -> pd.Series:
    """Read the numbers of a column as float; NaN where the cell says that there is none.

    A decimal comma is read where commas do not separate the columns and no number of the column has
    a point.

    Parameters
    ----------
    text
        The cells.
    what
        The column's name, for the error.
    separator
        The sign between the columns.
    path
        Of the table, for the error.

    Raises
    ------
    InputError
        Where a cell holds no number, with its row.
    """
    small = text.str.strip().str.lower()
    with_comma = small.str.contains(",", regex=False)
    if separator != "," and with_comma.any() and not small.str.contains(".", regex=False).any():
        small = small.where(small.str.count(",") > 1, small.str.replace(",", ".", regex=False))
    values = small.map(_number)
    wrong = values.isna()
    if wrong.any():
        row = text.index[wrong][0]
        wrong_text = text[wrong].iloc[0]
        raise InputError(
            f"{path}: {_row(text, row)}{what} is {wrong_text!r}; expected a number, inf, or nothing where "
            f"it is undefined{_advice(wrong_text, separator)}"
        )
    return values.map(lambda one: math.nan if one == "" else one).astype(float)


def _number(text: str) -> float | str | None:
    """Read a number; empty text where the cell says that there is none; None for anything else."""
    if text in UNDEFINED:
        return ""
    infinite = _INFINITE.fullmatch(text)
    if infinite:
        return -math.inf if infinite[1] == "-" else math.inf
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _row(text: pd.Series, row: object) -> str:
    return f"row {row}: " if text.index.name == "row" else ""


def _advice(wrong_text: str, separator: str) -> str:
    if wrong_text.strip().endswith("%"):
        return ". Divide percentages by 100"
    if "," in wrong_text and separator == ",":
        return ". Write decimal points, or semicolons between the columns"
    if "," in wrong_text:
        return ". Write all numbers with points, or all with commas"
    return ""
