"""The checklists, and their items.

A checklist is a table in `resources/checklists/`: number, section, our words for the item, and what answers it:
names of `facts.FACTS`, and fields `reporting.NAME` of the study file (with `?`: an item is answered without it).
"""

import csv
from dataclasses import dataclass
from functools import cache

from segstudy import shipped


@dataclass(frozen=True)
class Checklist:
    """A checklist.

    Attributes
    ----------
    name
        Of its files.
    title
        As it is printed.
    source
        The publication that it follows.
    note
        What is to be known of the numbers.
    """

    name: str
    title: str
    source: str
    note: str


CHECKLISTS = (
    Checklist(
        "claim",
        "CLAIM 2024",
        "Tejani AS et al. (2024). Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update. Radiology: "
        "Artificial Intelligence 6(4):e240300. https://doi.org/10.1148/ryai.240300",
        "Numbers are those of the checklist, whose wording is its authors'; items are told here in words of our own.",
    ),
    Checklist(
        "ridge",
        "RIDGE",
        "Maleki F et al. (2024). RIDGE: reproducibility, integrity, dependability, generalizability, and efficiency assessment "
        "of medical image segmentation models. Journal of Imaging Informatics in Medicine. "
        "https://doi.org/10.1007/s10278-024-01282-9",
        "Items follow its topics, in words of our own; letters are its sections, numbers count the items here and may be others there.",
    ),
    Checklist(
        "metrics_reloaded",
        "Metrics Reloaded",
        "Maier-Hein L et al. (2024). Metrics reloaded: recommendations for image analysis validation. Nature Methods 21:195-212. "
        "https://doi.org/10.1038/s41592-023-02151-z",
        "Recommendations and no numbered checklist: numbers are ours, FP is an entry of its problem fingerprint.",
    ),
)


@dataclass(frozen=True)
class Item:
    """An item of a checklist.

    Attributes
    ----------
    number, section, text
        As the table has them.
    names
        What answers it.
    """

    number: str
    section: str
    text: str
    names: tuple[str, ...]


@cache
def items(name: str) -> tuple[Item, ...]:
    """Read the items of a checklist."""
    path = shipped.RESOURCES / "checklists" / f"{name}.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            Item(row["number"], row["section"], row["item"], tuple(row["answered_by"].split()))
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
