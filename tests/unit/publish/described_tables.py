"""What the page of tables says of a file, read from the page itself."""

import re
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "docs"))

import reference_pages


@cache
def sections() -> dict[str, tuple[str, ...]]:
    """Return the columns that the page lists below each path that it names, such as `download/<dataset>/cases.tsv`."""
    found = {}
    for section in reference_pages.tables_page().split("\n### ")[1:]:
        head, _, rows = section.partition("| column | unit | meaning |")
        columns = tuple(re.findall(r"^\| `(.+?)` \|", rows, re.MULTILINE))
        for path in re.findall(r"`(\S+/\S+\.(?:csv|tsv|json))`", head):
            assert path not in found, f"{path}: named twice"
            found[path] = columns
    return found


def named(path: str) -> str | None:
    """Return the path of the page that stands for a file, from the results' folder; None where there is none."""
    for one in sections():
        pattern = re.sub(r"<[a-z]+>", "[^/]+", re.escape(one))
        if re.fullmatch(pattern, path):
            return one
    return None


def undescribed(path: str, header: str) -> list[str]:
    """Return the columns of a table that the page does not describe; the table itself where the page does not name it.

    path: from the results' folder, or from the zip's. header: the first line.
    """
    if path.startswith("reporting/tables/") and named(path) is None:  # as elsewhere, says the page
        path = path.removeprefix("reporting/")
    place, file = path, path.removeprefix("tables/")
    if path.startswith("tables/"):
        if file not in reference_pages.package_tables.TABLES:
            return [path]
        place = reference_pages.described_at(file)
    place = place if place in sections() else named(place)
    if place is None:
        return [path]
    known = sections()[place]
    if place == "figures/<figure>.csv":
        known += tuple({column for columns in sections().values() for column in columns} - {"*"})
    columns = header.strip().split("\t" if path.endswith(".tsv") else ",")
    return [
        f"{path}: {name}" for name in columns if not any(fnmatchcase(name, one) for one in known)
    ]


def header_of(path: Path) -> str:
    """Return the first line of a table."""
    return path.read_text(encoding="utf-8").partition("\n")[0]
