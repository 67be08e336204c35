"""Columns of tables, and reading the case table that a user writes: the workflow and the audit read it alike."""

import csv
from pathlib import Path

from segstudy.errors import InputError

MEASURED = ("seconds", "waited_seconds", "patches_per_second", "gpu_memory_mb")
"""Columns of a training's history that tell of the machine, and differ from run to run."""
FILE_COLUMNS = ("image", "label", "reference_label")
"""Prefixes of the columns that hold files."""


SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files of spreadsheets begin: xlsx and ods, which are zips, and xls."""


def read_rows(table: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, with their number in the file, counted from 1.

    Cells have no space around them. The first row is the header.

    Raises
    ------
    InputError
        Where the table cannot be read, or has no row.
    """
    if table.is_dir():
        raise InputError(f"{table}: a folder; expected the table, a .tsv file")
    try:
        with table.open("rb") as content:
            begin = content.read(8)
        if begin.startswith(SPREADSHEETS):
            raise InputError(
                f"{table}: a spreadsheet (Excel, OpenDocument) or a zip, whatever its name ends in; save it from there as "
                "text in UTF-8, with tabs between the cells (TSV)"
            )
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as error:
        raise InputError(f"{table}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{table}: not UTF-8 text ({error.reason}); save it as text in UTF-8, with tabs between the cells"
        ) from None
    except csv.Error as error:
        raise InputError(
            f"{table}: row {reader.line_num}: not readable as a table ({error})"
        ) from None
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if not rows:
        raise InputError(f"{table}: empty; expected a header (case, image, label, ...) and rows")
    return rows
