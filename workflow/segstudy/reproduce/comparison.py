"""The tables of two packages, compared: to the byte, and where they differ by how much."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas

SAME, DIFFERS, MISSING, NEW = "same", "differs", "missing", "new"
COLUMNS = ("table", "verdict", "column", "largest_difference", "n_rows", "remark")


@dataclass(frozen=True)
class Difference:
    """A table, or a column of one that differs.

    Attributes
    ----------
    table
        Its file.
    verdict
        `same` to the byte, `differs`, `missing` (not made again) or `new` (not in the package).
    column
        The column that differs; empty where the table as a whole is told of.
    largest
        The largest difference of two numbers; None where none can be taken.
    rows
        Rows in which the column differs.
    remark
        What is to be said beside that.
    """

    table: str
    verdict: str
    column: str = ""
    largest: float | None = None
    rows: int = 0
    remark: str = ""

    @property
    def sentence(self) -> str:
        """Say it in a line."""
        if not self.column:
            return f"{self.table}: {self.verdict}{self.remark and f': {self.remark}'}"
        by = "as text" if self.largest is None else f"by at most {self.largest:.3g}"
        if self.largest == 0:
            by = "as it is written, with the same numbers"
        return (
            f"{self.table}: {self.column}: differs {by}, in {self.rows} row{'s' * (self.rows != 1)}"
        )


def compared(published: Path, again: Path) -> list[Difference]:
    """Compare the tables of two folders, in the order of their names; one that is the same has one entry.

    Parameters
    ----------
    published
        The folder `tables` of a package.
    again
        That of its rerun.
    """
    folders = (published, again)
    files = [
        {path.relative_to(one).as_posix() for path in one.rglob("*") if path.is_file()}
        for one in folders
    ]
    found = []
    for name in sorted(files[0] | files[1]):
        if name not in files[1]:
            found.append(Difference(name, MISSING))
        elif name not in files[0]:
            found.append(Difference(name, NEW))
        elif (published / name).read_bytes() == (again / name).read_bytes():
            found.append(Difference(name, SAME))
        else:
            found += differences(name, published / name, again / name)
    return found


def differences(name: str, first: Path, second: Path) -> list[Difference]:
    """Say how two tables differ, a column each; of tables of other shapes, and of other files, only that they do."""
    if first.suffix != ".csv":
        return [Difference(name, DIFFERS)]
    one, other = (
        pandas.read_csv(path, dtype=str, keep_default_na=False) for path in (first, second)
    )
    if list(one) != list(other):
        return [Difference(name, DIFFERS, remark="other columns")]
    if len(one) != len(other):
        return [Difference(name, DIFFERS, remark=f"{len(one)} rows there, {len(other)} here")]
    columns = [column for column in one if (one[column] != other[column]).any()]
    found = [_difference(name, column, one[column], other[column]) for column in columns]
    return found or [Difference(name, DIFFERS, remark="written otherwise, with the same values")]


def _difference(name: str, column: str, one: pandas.Series, other: pandas.Series) -> Difference:
    apart = one != other
    first, second = (pandas.to_numeric(values[apart], errors="coerce") for values in (one, other))
    gap = (first - second).abs()
    # inf beside a number is infinitely far; what is no number on one side cannot be measured.
    largest = None if gap.isna().any() else float(gap.max())
    return Difference(name, DIFFERS, column, largest, int(apart.sum()))


def table(found: Sequence[Difference]) -> pandas.DataFrame:
    """Return differences as a table, a row each."""
    rows = [
        (one.table, one.verdict, one.column, one.largest, one.rows or None, one.remark)
        for one in found
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"largest_difference": float, "n_rows": "Int64"}
    )
