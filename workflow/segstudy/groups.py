"""Groups of subjects by a column of what is known of them: by values, at bounds, at the median or the tertiles."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from segstudy.errors import InputError
from segstudy.log import log

MOST_GROUPS = 10
"""Groups of a column, above which it is taken for a mistake."""
FEWEST_TESTED = 5
"""Subjects of a group below which it is described and not tested, and not told where nobody is to be known."""
FEW = 10
"""Subjects of a group below which what is said of it is uncertain."""
FEW_VALUES = 5
"""Different numbers up to which a column that is cut by `auto` is taken by its values."""
NOT_KNOWN = frozenset({"unknown", "none", "null", "missing", "-", "?", "."})
"""Values, in small letters, that are likely to stand for none."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Grouping:
    """Hold how a column divides subjects.

    Attributes
    ----------
    column
        Its name.
    names
        Of the groups, in order.
    of
        (dataset, case) -> its group; cases without a value are not in it.
    rule
        How groups were made, as a part of a sentence.
    """

    column: str
    names: tuple[str, ...]
    of: Mapping[tuple[str, str], str]
    rule: str


def number(text: str) -> float | None:
    """Return the number that a cell holds; `89+`, as BIDS writes high ages, is 89; None for anything else."""
    text = text.strip()
    if re.fullmatch(r"\d+\+", text):
        text = text[:-1]
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        text = text.replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else None


def is_numeric(values: Iterable[str]) -> bool:
    """Tell whether all cells with a value hold numbers, and there is one."""
    numbers = [number(value) for value in values if value]
    return bool(numbers) and None not in numbers


def grouped(
    column: str,
    cut: str | Sequence[float],
    values: Mapping[tuple[str, str], str],
    subjects: Mapping[tuple[str, str], str],
) -> Grouping:
    """Divide cases by a column.

    Parameters
    ----------
    column
        Its name.
    cut
        `values`, `median`, `tertiles`, `auto`, or bounds that rise.
    values
        (dataset, case) -> its cell of the column; empty where it has none.
    subjects
        (dataset, case) -> its subject.

    Raises
    ------
    InputError
        Where a number is needed and something else found, and for more groups than `MOST_GROUPS`.
    """
    given = {key: value for key, value in values.items() if value}
    if cut == "auto":
        several = len({number(value) for value in given.values()}) > FEW_VALUES
        cut = "median" if several and is_numeric(given.values()) else "values"
    if cut == "values":
        names = in_order(set(given.values()))
        if len(names) > MOST_GROUPS:
            odd = [name for name in names if number(name) is None]
            hint = (
                f"; to cut a number, each must be one ({odd[0]!r} is none)"
                if len(odd) < len(names) and odd
                else "; to cut a number, write bounds, median or tertiles"
                if not odd
                else ""
            )
            raise InputError(
                f"statistics.subgroups: {column} has {len(names)} different values ({', '.join(names[:4])}, ...); expected at "
                f"most {MOST_GROUPS} groups: join values in the table{hint}"
            )
        _warn_of_likes(column, names)
        return Grouping(column, tuple(names), given, "by value")
    with_comma = [value.strip() for value in given.values() if "," in value]
    if with_comma and all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", value) for value in with_comma):
        log.warning(
            "%s: a comma is read as that of decimals, %s as %s; where it separates thousands, take it out of the table",
            column, with_comma[0], f"{number(with_comma[0]):g}",
        )  # fmt: skip
    of_subject = _subject_means(column, given, subjects)
    bounds, rule = _bounds(cut, list(of_subject.values()))
    names = _names(bounds)
    of = {
        key: names[int(np.searchsorted(bounds, of_subject[key[0], subjects[key]], side="right"))]
        for key in given
    }
    return Grouping(column, names, of, rule)


def _warn_of_likes(column: str, names: Sequence[str]) -> None:
    """Warn of values that are groups of their own, and may be meant as one, or as none."""
    alike: dict[str | float, list[str]] = {}
    for name in names:
        value = number(name)
        alike.setdefault(name.casefold() if value is None else value, []).append(name)
    for several in alike.values():
        if len(several) > 1:
            log.warning(
                "%s: %s are different groups, though they differ only in how they are written; write one of them in the table "
                "if one is meant",
                column, " and ".join(map(repr, several)),
            )  # fmt: skip
    for name in names:
        if name.casefold() in NOT_KNOWN:
            log.warning(
                "%s: %r is a group of its own; write n/a in the table if it stands for no value", column, name
            )  # fmt: skip


def _subject_means(
    column: str, given: Mapping[tuple[str, str], str], subjects: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], float]:
    """Average the numbers of each subject's scans: (dataset, subject) -> mean."""
    numbers: dict[tuple[str, str], list[float]] = {}
    for key, value in given.items():
        found = number(value)
        if found is None:
            raise InputError(
                f"statistics.subgroups: {column} of {subjects[key]} (case {key[1]}) is {value!r}; expected a number, as the "
                "column is cut: correct it, write n/a, or take groups by values"
            )
        numbers.setdefault((key[0], subjects[key]), []).append(found)
    return {key: float(np.mean(found)) for key, found in numbers.items()}


def _bounds(cut: str | Sequence[float], numbers: list[float]) -> tuple[list[float], str]:
    """Return the bounds between groups, and how they were found."""
    if not isinstance(cut, str):
        listed = ", ".join(f"{bound:g}" for bound in cut)
        return list(cut), f"cut at {listed}, as the study file says"
    if not numbers:
        return [], f"cut at the {cut} of no value"
    shares = {"median": [50], "tertiles": [100 / 3, 200 / 3]}[cut]
    # Rounded, so that names are short; no group depends on more digits than are shown.
    bounds = sorted({float(f"{bound:.4g}") for bound in np.percentile(numbers, shares)})
    listed = " and ".join(f"{bound:g}" for bound in bounds)
    return bounds, f"cut at the {cut} of all subjects ({listed})"


def _names(bounds: Sequence[float]) -> tuple[str, ...]:
    """Name the groups between bounds; a number at a bound is in the upper one."""
    if not bounds:
        return ("all",)
    between = [f"{low:g} to below {high:g}" for low, high in pairwise(bounds)]
    return (f"below {bounds[0]:g}", *between, f"{bounds[-1]:g} or above")


def in_order(names: set[str]) -> list[str]:
    """Sort values: by number where all are numbers, else by letter."""
    if is_numeric(names):
        return sorted(names, key=lambda name: (number(name), name))
    return sorted(names, key=lambda name: (name.casefold(), name))
