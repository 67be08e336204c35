"""Published tolerances of the normalised surface distance, structure by structure."""

import csv
from functools import lru_cache

from segstudy import shipped

TABLES = ("flare2022", "kits2021")
"""Names of the tables in `resources/nsd_tolerances.tsv`, where each value has its source."""


@lru_cache(1)
def _rows() -> list[dict[str, str]]:
    path = shipped.RESOURCES / "nsd_tolerances.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def published(table: str) -> dict[str, float]:
    """Return the tolerances of a table: structure -> mm."""
    return {
        row["structure"]: float(row["tolerance_mm"]) for row in _rows() if row["table"] == table
    }


def source(table: str) -> str:
    """Return where a table's tolerances were published."""
    return next(row["source"] for row in _rows() if row["table"] == table)
