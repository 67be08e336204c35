"""Ratings of predictions: the files that readers save, and the key that tells whose prediction was rated.

A reader sees codes in place of models. `key_of` makes the codes, the page for readers (`publish.rating`) shows them, and the key
is kept apart from it, so that nothing a reader is given names a model.
"""

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from segstudy.errors import InputError
from segstudy.files import write_text

GRADES = ("good", "usable", "bad")
"""From best to worst."""
MEANING = {
    "good": "as it is",
    "usable": "after small corrections",
    "bad": "not usable",
}
ALL = "all"
"""In place of a rater, in tables: all of them."""
COLUMNS = ("study", "rater", "dataset", "case", "code", "prediction", "grade", "remark")
"""Of the file that a reader saves; `prediction` is the checksum of the label map that was shown."""


@dataclass(frozen=True)
class Rating:
    """Hold a reader's grade of a prediction.

    Parameters
    ----------
    where
        File and line, for errors.
    study, rater, dataset, case, code, prediction, grade, remark
        As `COLUMNS` has them.
    """

    where: str
    study: str
    rater: str
    dataset: str
    case: str
    code: str
    prediction: str
    grade: str
    remark: str


@dataclass(frozen=True)
class Shown:
    """Hold a prediction that is shown to readers: a row of the key.

    Parameters
    ----------
    dataset, case, subject, code
        Where it is found.
    model, fold, seed
        Whose it is.
    prediction
        Checksum of its label map.
    """

    dataset: str
    case: str
    subject: str
    code: str
    model: str
    fold: int
    seed: int
    prediction: str


# --- what is shown -------------------------------------------------------------------------------


def code_of(seed: int, dataset: str, case: str, model: str) -> str:
    """Return the code of a model in a case: 8 hexadecimal digits, which without the study's models tell nothing.

    The codes of a case, in their order, are its letters A, B, C, so that each case has an order of its own.
    A further model changes no other's code.
    """
    return _digest(f"{seed}/{dataset}/{case}/{model}")[:8]


def drawn(seed: int, dataset: str, cases: Iterable[str], number: int | Literal["all"]) -> list[str]:
    """Draw cases, in a random order. A further case of the dataset takes the place of one drawn at most."""
    ordered = sorted(cases, key=lambda case: _digest(f"{seed}/{dataset}/{case}"))
    return ordered if number == "all" else ordered[:number]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def letters(shown: Sequence[Shown]) -> list[tuple[str, Shown]]:
    """Return the predictions of a case in the order of their codes, each with its letter."""
    ordered = sorted(shown, key=lambda one: one.code)
    return [(_letter(place), one) for place, one in enumerate(ordered)]


def _letter(place: int) -> str:
    """Return A to Z, then A1, B1 and so on."""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")


def write_key(path: Path | str, shown: Iterable[Shown]) -> None:
    """Write the key: which model each code stands for."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Shown))
    writer.writerows(astuple(one) for one in shown)
    write_text(path, text.getvalue())


def read_key(path: Path) -> list[Shown]:
    """Read the key as `write_key` writes it."""
    rows = _rows(path, tuple(field.name for field in fields(Shown)))
    return [Shown(**row | {"fold": int(row["fold"]), "seed": int(row["seed"])}) for _, row in rows]


# --- what readers saved --------------------------------------------------------------------------


def read_ratings(paths: Iterable[Path | str]) -> list[Rating]:
    """Read files of ratings, in their order.

    Raises
    ------
    InputError
        With file and line of each mistake: a file that is no such table, an unknown grade, an empty field, a
        prediction that a rater has rated twice, raters whose names differ in capitals or punctuation alone.
    """
    found, wrong, before, raters = [], [], {}, {}
    for path in map(Path, paths):
        rows = _rows(path, COLUMNS)
        if not rows:
            wrong.append(
                f"{path}: no rating in it; leave it out of ratings.files until there is one"
            )
        for line, row in rows:
            one = Rating(f"{path}, line {line}", **row)
            found.append(one)
            empty = [name for name in COLUMNS if name != "remark" and not row[name]]
            if empty:
                wrong.append(f"{one.where}: {empty[0]} is empty")
            elif one.grade not in GRADES:
                wrong.append(f"{one.where}: grade {one.grade!r}; expected {', '.join(GRADES)}")
            alike = raters.setdefault(plain_name(one.rater), one)
            if one.rater and one.rater != alike.rater:
                wrong.append(
                    f"{one.where}: rater {one.rater!r} is written as {alike.rater!r} in {alike.where}, but for capitals or punctuation; "
                    "write one reader's name in one way, and two readers' so that they differ"
                )
            same = (one.rater, one.dataset, one.case, one.code)
            if same in before:
                wrong.append(
                    f"{one.where}: {one.rater} has rated this prediction of case {one.case} before, in {before[same]}; keep one of the two"
                )
            before.setdefault(same, one.where)
    if wrong:
        raise InputError("\n".join(wrong))
    return found


def plain_name(rater: str) -> str:
    """Return the letters and digits of a rater's name in lower case, as the page names the file that it saves, e.g. `a-reader`."""
    return "-".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", rater).lower()))


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table, all cells as text without space around them; each row with its line in the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: no column {missing[0]!r}; expected a CSV file with {', '.join(columns)}, as the page for raters saves it"
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(
                        f"{path}, line {reader.line_num}: not as many cells as the header has; save the ratings again"
                    )
                rows.append((reader.line_num, {name: row[name].strip() for name in columns}))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not readable as a table ({error})"
        ) from None
    return rows


def resolved(
    ratings: Iterable[Rating], shown: Iterable[Shown], study: str
) -> list[tuple[Rating, Shown]]:
    """Put the model to each rating.

    Parameters
    ----------
    ratings
        As `read_ratings` returns them.
    shown
        The key.
    study
        Name of the study.

    Raises
    ------
    InputError
        With a line for each rating of another study, of a dataset, case or code that readers are not shown, and
        of a prediction that has changed since.
    """
    known: dict[str, dict[str, dict[str, Shown]]] = {}
    for one in shown:
        known.setdefault(one.dataset, {}).setdefault(one.case, {})[one.code] = one
    found, wrong = [], []
    for rating in ratings:
        told = _wrong(rating, known, study)
        if told:
            wrong.append(f"{rating.where}: {told}")
        else:
            found.append((rating, known[rating.dataset][rating.case][rating.code]))
    if wrong:
        raise InputError("\n".join(wrong))
    return found


def _wrong(
    rating: Rating, known: Mapping[str, Mapping[str, Mapping[str, Shown]]], study: str
) -> str:
    """Return what does not fit the key; empty where all does."""
    if rating.study != study:
        return f"a rating of study {rating.study}; this one is {study}"
    if rating.dataset not in known:
        return f"dataset {rating.dataset} is not shown to raters; there are {', '.join(known)}"
    cases = known[rating.dataset]
    if rating.case not in cases:
        some = ", ".join(sorted(cases)[:5]) + (", ..." if len(cases) > 5 else "")
        return (
            f"case {rating.case} of {rating.dataset} is not shown to raters (ratings.cases, ratings.seed); there are {some}. Show it "
            "again (ratings.cases: all), or take the line out"
        )
    if rating.code not in cases[rating.case]:
        return (
            f"no model has code {rating.code} in case {rating.case} of {rating.dataset}: it was given with another ratings.seed, or to a "
            "model that the study has no more; take the line out"
        )
    if rating.prediction != cases[rating.case][rating.code].prediction:
        return (
            f"another prediction of case {rating.case} of {rating.dataset} was rated than the study has now (checksum "
            f"{rating.prediction[:12]}, now {cases[rating.case][rating.code].prediction[:12]}); rate the new one, or take the line out"
        )
    return ""
