"""Label tables: the structure of each value, and the pairs of left and right.

`resources/labels/<table>.tsv` has the columns value, name, side (left, right or empty) and partner
(the value on the other side). Light, since study files are read with it.
"""

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from typing import Any

from segstudy import shipped

FOLDER = shipped.RESOURCES / "labels"


@dataclass(frozen=True)
class Label:
    """Hold a row of a label table.

    Parameters
    ----------
    value
        In label files.
    name
        Of the structure.
    side
        `left`, `right` or empty.
    partner
        The value of the same structure on the other side.
    """

    value: int
    name: str
    side: str
    partner: int | None

    @property
    def plain(self) -> str:
        """Return the name without its side: `hippocampus` of `left_hippocampus`."""
        return self.name.removeprefix(f"{self.side}_") if self.side else self.name


@cache
def read_table(name: str) -> dict[int, Label]:
    """Read a table of `resources/labels`, by value. Raises ValueError for an unknown name."""
    path = FOLDER / f"{name}.tsv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.tsv")))
        raise ValueError(f"label_table: {name!r} is none of the tables ({known})")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            Label(
                int(row["value"]),
                row["name"],
                row["side"],
                int(row["partner"]) if row["partner"] else None,
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]
    return {row.value: row for row in rows}


def values_named(name: str, table: str) -> list[int]:
    """List the values of a structure in a table; a name without its side means both sides.

    Raises
    ------
    ValueError
        For a name that the table does not have.
    """
    rows = list(read_table(table).values())
    values = [row.value for row in rows if row.name == name]
    values = values or [row.value for row in rows if row.plain == name]
    if not values:
        known = [row.name for row in rows] + [row.plain for row in rows]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"structures: {name!r} is no name of the label table {table}{hint}")
    return values


def pairs_of(structures: dict[str, int], table: str) -> list[tuple[str, str]]:
    """List the structures that are left and right of a pair by the table, each pair once."""
    rows = read_table(table)
    names = {value: name for name, value in structures.items()}
    return [
        (name, names[rows[value].partner])
        for name, value in structures.items()
        if value in rows and rows[value].side == "left" and rows[value].partner in names
    ]


def settled(content: dict[str, Any]) -> dict[str, Any]:
    """Reduce every structure of a dataset's settings to one value, as all stages know them.

    Parameters
    ----------
    content
        As in the study file, where `structures` may be a list of names of `label_table`, or give a
        structure several values.

    Returns
    -------
    dict
        The first value of a structure stands for all: `merged_labels` maps the others onto it. Left
        and right pairs follow from the table where none are given.

    Raises
    ------
    ValueError
        For names without a table, and for a name or value that stands twice.
    """
    structures, table = content.get("structures"), content.get("label_table")
    if isinstance(structures, list | tuple) and all(isinstance(name, str) for name in structures):
        if not table:
            raise ValueError(
                "structures: a list of names needs label_table; without one, give each its value "
                "(name: value)"
            )
        twice = next((name for name in structures if list(structures).count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"structures: {twice!r} stands twice")
        structures = {name: values_named(name, table) for name in structures}
    if not isinstance(structures, dict):
        return content  # the types say what is wrong
    merged = dict(content.get("merged_labels") or {})
    single = {}
    for name, values in structures.items():
        if not isinstance(values, list | tuple) or not all(
            isinstance(v, int | str) for v in values
        ):
            single[name] = values  # the types say what is wrong, if anything
            continue
        if not values:
            raise ValueError(f"structures.{name}: no value; expected at least one")
        single[name] = values[0]
        for value in values[1:]:
            if value in merged or value == values[0]:
                raise ValueError(f"structures.{name}: value {value} stands twice")
            merged[value] = values[0]
    content = {**content, "structures": single}
    if merged:
        content["merged_labels"] = merged
    if isinstance(table, str) and "left_right_pairs" not in content:
        pairs = pairs_of(single, table)
        if pairs:
            content["left_right_pairs"] = pairs
    return content
