"""What is known of the subjects beside their images: age, sex, scanner; tables with a row a subject, session or case.

Read are `participants.tsv` and `*_sessions.tsv` of BIDS, the further columns of a user's case table, and any table that
`participants` names; all are brought to a row a case.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segstudy import bids
from segstudy.errors import InputError
from segstudy.files import write_text
from segstudy.images.names import safe_name
from segstudy.tables import FILE_COLUMNS

MISSING = frozenset({"", "n/a", "na", "nan"})
"""Cells without a value, in small letters; `n/a` is that of BIDS."""
CASE, SESSION = "case", "session_id"
SUBJECTS = ("participant_id", "subject", "subject_id")
"""Names of the column that names the subject."""
NO_COLUMNS = frozenset({CASE, SESSION, *SUBJECTS, "fold", "split"})
"""Columns that say which row is meant, or how cases are divided, and nothing of the subject."""


@dataclass(frozen=True)
class Table:
    """Hold a table as it was read.

    Attributes
    ----------
    path
        The file.
    keys
        Names of the columns that say which cases a row is of: `case`; else the subject's, and the session's where there is one.
    columns
        Names of the columns that say something of them.
    rows
        Number of each row in the file, and its cells by column.
    """

    path: Path
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]


def read_participants(path: Path | str, subject: str = "") -> Table:
    """Read a table of subjects: cells between tabs, semicolons or commas, in UTF-8.

    Parameters
    ----------
    path
        The file.
    subject
        Whose sessions it lists, where no column says it.

    Raises
    ------
    InputError
        With the file and row, where it cannot be read as such a table.
    """
    path = Path(path)
    cells = _cells(path)
    (_, header), *rows = cells
    # Spreadsheets write empty columns without a name.
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: row 1: the column {twice!r} stands twice")
    of_subject = next((name for name in SUBJECTS if name in header), "")
    if subject and not of_subject:
        of_subject, header = SUBJECTS[0], [SUBJECTS[0], *header]
        rows = [(number, [subject, *row]) for number, row in rows]
    keys = (CASE,) if CASE in header else (of_subject,)
    if keys == ("",):
        raise InputError(
            f"{path}: row 1: no column {CASE}, {', '.join(SUBJECTS[:-1])} or {SUBJECTS[-1]}; found "
            f"{', '.join(header[:8])}: name the subject, or the case, of every row"
        )
    if SESSION in header and keys != (CASE,):
        keys = (*keys, SESSION)
    named = []
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path}: row {number}: {len(row)} cells; expected {len(header)}, as in the header"
            )
        one = dict(zip(header, row, strict=True))
        for key in keys:
            if not one[key]:
                raise InputError(f"{path}: row {number}: no {key}")
        named.append((number, one))
    is_of_files = any(name in FILE_COLUMNS for name in header)
    columns = tuple(name for name in header if name and not _is_other(name, is_of_files))
    return Table(path, keys, columns, named)


def says_something(path: Path | str) -> bool:
    """Tell whether a table can be read and has a column that says something of the subjects."""
    with suppress(InputError):
        return bool(read_participants(path).columns)
    return False


def _is_other(column: str, is_of_files: bool) -> bool:
    """Tell whether a column holds names, or files as in a case table, and nothing of the subject."""
    of_files = is_of_files and any(
        column == one or column.startswith(f"{one}_") for one in FILE_COLUMNS
    )
    return column in NO_COLUMNS or (of_files and not column.startswith("label_"))


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, with their number in the file."""
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected a table of subjects, a .tsv or .csv file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as such") from None
    lines = text.splitlines()
    told = re.fullmatch(r"sep=([\t;,])", lines[0]) if lines else None  # as spreadsheets write it
    if told:
        lines[0] = ""
    header = re.sub(r'"[^"]*"', "", lines[bool(told)] if len(lines) > bool(told) else "")
    mark = told[1] if told else next((one for one in "\t;," if one in header), "\t")
    try:
        rows = _split(lines, mark, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        if mark != "\t":
            raise InputError(f"{path}: not readable ({error})") from None
        rows = _split(lines, mark, csv.QUOTE_NONE)  # a table of BIDS knows no quoted cells
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if len(rows) < 2:
        raise InputError(f"{path}: no row below the header; expected a row a subject or case")
    return rows


def _split(lines: Sequence[str], mark: str, quoting: int) -> list[tuple[int, list[str]]]:
    """Return number and cells of each row. Raises csv.Error, with the row, where quotes do not fit."""
    reader = csv.reader(lines, delimiter=mark, quoting=quoting, strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise csv.Error(f"row {reader.line_num}: {error}") from None


def bids_tables(root: Path | str) -> list[Path]:
    """List `participants.tsv` and `sub-*/*_sessions.tsv` of a BIDS dataset, as far as they are there."""
    root = Path(root)
    for folder in dict.fromkeys((root, bids.raw_root(root))):
        if (folder / "participants.tsv").is_file():
            return [folder / "participants.tsv", *sorted(folder.glob("sub-*/sub-*_sessions.tsv"))]
    return sorted(bids.raw_root(root).glob("sub-*/sub-*_sessions.tsv"))


def is_of_bids(path: Path | str) -> bool:
    """Tell whether a file is one of BIDS's tables of subjects, which no image, label or fold depends on."""
    return Path(path).name == "participants.tsv" or is_of_sessions(path)


def read_all(paths: Iterable[Path | str]) -> list[Table]:
    """Read tables; one of BIDS's sessions is of the subject that its folder is named after."""
    return [
        read_participants(path, Path(path).parent.name if is_of_sessions(path) else "")
        for path in paths
    ]


def is_of_sessions(path: Path | str) -> bool:
    """Tell whether a file is a subject's table of sessions in BIDS."""
    return bool(re.fullmatch(r"sub-[A-Za-z0-9]+_sessions\.tsv", Path(path).name))


def of_cases(cases: Mapping[str, str], tables: Sequence[Table]) -> dict[str, dict[str, str]]:
    """Bring tables to a row a case.

    Parameters
    ----------
    cases
        Case -> its subject.
    tables
        As they were read.

    Returns
    -------
    dict
        Case -> column -> value; columns without a value are empty.

    Raises
    ------
    InputError
        Where rows contradict each other, and where a table names none of the cases or subjects.
    """
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    found = {case: dict.fromkeys(columns, "") for case in cases}
    said: dict[tuple[str, str], str] = {}
    matched = False
    for table in tables:
        of_key: dict[tuple[str, ...], list[str]] = {}
        for case, subject in cases.items():
            of_key.setdefault(_key_of(table, case, subject), []).append(case)
        own = False
        for number, row in table.rows:
            for case in of_key.get(_key_in(table, row), ()):
                own = True
                for column in table.columns:
                    _put(
                        found[case], case, column, row[column], said, f"{table.path}: row {number}"
                    )
        matched |= own
        if not own and not is_of_sessions(table.path):
            key = table.keys[0]
            known = list(cases if key == CASE else dict.fromkeys(cases.values()))
            raise InputError(
                f"{table.path}: no row is of a {'case' if key == CASE else 'subject'} of the dataset "
                f"({', '.join(known[:3])}{', ...' if len(known) > 3 else ''}); the column {key} has "
                f"{', '.join(row[key] for _, row in table.rows[:3])}"
            )
    return found


def _key_of(table: Table, case: str, subject: str) -> tuple[str, ...]:
    """Return the key by which a table knows a case."""
    if table.keys == (CASE,):
        return (case,)
    if len(table.keys) == 1:
        return (_bare(safe_name(subject), "sub-"),)
    session = re.search(r"(?:^|_)ses-([A-Za-z0-9]+)", case)
    return (_bare(safe_name(subject), "sub-"), session[1] if session else "")


def _key_in(table: Table, row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the key that stands in a row."""
    if table.keys == (CASE,):
        return (safe_name(row[CASE]),)
    names = [_bare(safe_name(row[table.keys[0]]), "sub-")]
    return (*names, *(_bare(row[key], "ses-") for key in table.keys[1:]))


def _bare(name: str, entity: str) -> str:
    """Return a label of BIDS without its entity, which some tables leave out."""
    return name.removeprefix(entity)


def _put(
    values: dict[str, str],
    case: str,
    column: str,
    value: str,
    said: dict[tuple[str, str], str],
    where: str,
) -> None:
    """Put a value of a case in its place; InputError where another row says otherwise."""
    if value.casefold() in MISSING:
        return
    if values[column] and values[column] != value:
        raise InputError(
            f"{where}: {column} of case {case} is {value!r}, and {values[column]!r} in {said[case, column]}; expected "
            "one value: correct one of the rows, or give a row a session or case (columns session_id, case)"
        )
    values[column] = value
    said[case, column] = where


def write_participants(
    path: Path | str, cases: Mapping[str, str], values: Mapping[str, Mapping[str, str]]
) -> None:
    """Write a row a case: `case`, `subject`, then what is known of it; an empty cell is no value.

    Parameters
    ----------
    path
        The file.
    cases
        Case -> its subject.
    values
        Of `of_cases`.
    """
    columns = list(next(iter(values.values()), {}))
    lines = [[CASE, "subject", *columns]]
    lines += [
        [case, subject, *(values[case][column] for column in columns)]
        for case, subject in sorted(cases.items())
    ]
    cleaned = ("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in line) for line in lines)
    write_text(path, "".join(f"{line}\n" for line in cleaned))
