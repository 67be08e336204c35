"""Folders of predictions whose layout nobody has told: which pattern their files have, for `segstudy new --from predictions`."""

import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segstudy.errors import InputError
from segstudy.images.files import read_label
from segstudy.images.names import ending, is_image, stem
from segstudy.words import count

CASE = "{case}"
LOOKED_AT = 3
"""Predictions of a folder whose values are looked at."""
MOST_MASKS = 8
"""Names of files in a case's folder that are looked at, whether they are masks."""
MOST_PLACES = 4
"""Places of a path where a case's name may stand that are tried in all combinations."""
LIKELY = ("{case}", "{case}_trans")
"""Names of label maps: the case's own, and MONAI's."""
UNLIKELY = re.compile(r"image|img|orig|prob|softmax|logit|uncertain|entrop|varianc|_0000", re.I)
"""What stands in names of files that are no label maps."""

Matched = dict[str, dict[str, Path]]
"""Pattern -> case -> its file."""


@dataclass(frozen=True)
class Found:
    """Hold what a folder of predictions is.

    Parameters
    ----------
    pattern
        Of its files, below the folder, e.g. `{case}/{case}_trans.nii.gz`.
    held
        Label values in the first files; names of structures where each has a file of its own.
    notes
        What a person should know.
    """

    pattern: str
    held: list
    notes: tuple[str, ...] = ()


def files_in(folder: Path) -> dict[str, Path]:
    """Return the image files right in a folder: name without suffix -> file.

    Raises InputError where there is no folder, and for two files of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = [path for path in sorted(folder.iterdir()) if _is_file(path)]
    _refuse_twins(paths)
    return {stem(path): path for path in paths}


def values_of(path: Path) -> list[int]:
    """Return the values of a label map, but for the background."""
    return [value for value in np.unique(read_label(path).array).tolist() if value]


def find_pattern(folder: Path, cases: Collection[str], structures: Collection[str]) -> Found:
    """Find the pattern of a folder's predictions.

    A case's name stands alone in a path: `1` is neither in `pred_11` nor, beside `pred_2d_1`, what `2` is. The pattern that
    most cases have is taken; masks, where a case's folder has them.

    Parameters
    ----------
    folder
        Of predictions: `CASE.nii.gz`, `CASE/CASE_trans.nii.gz` as MONAI's bundles write, or `CASE/STRUCTURE.nii.gz`, as
        TotalSegmentator writes.
    cases
        Names that the references have.
    structures
        Names of their structures.

    Raises
    ------
    InputError
        Where there is no folder, hardly a file has the name of a reference in its path, files have several patterns
        none of which is more likely, or two files are one case's.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if re.search("[{}]", str(folder)):
        raise InputError(
            f"{folder}: found braces, which stand for what differs in a pattern of files; rename the folder"
        )
    paths = [path for path in sorted(folder.rglob("*")) if _is_file(path)]
    matched = _matched(folder, paths, cases, strict=True)
    if 2 * _most(matched) < len(cases):  # in names such as `pred1.nii.gz`
        loosely = _matched(folder, paths, cases, strict=False)
        matched = max(matched, loosely, key=_most)
    if not matched:
        raise InputError(
            f"{folder}: none of its files has the name of a reference, e.g. {next(iter(cases))}, in its path; expected "
            "CASE.nii.gz, CASE/CASE_trans.nii.gz or CASE/STRUCTURE.nii.gz"
        )
    own = _own_patterns(matched)
    _refuse_twins(path for of_case in own.values() for path in of_case.values())
    masks = _masks(own, structures)
    pattern = masks[0] if masks else _likeliest(folder, own)
    taken = masks[1] if masks else {"": own[pattern]}
    there = set().union(*taken.values())
    read = {path for of_case in taken.values() for path in of_case.values()}
    left = [path for path in paths if path not in read]
    if 2 * len(there) < len(cases) and len(left) > len(there):
        raise InputError(
            f"{folder}: {len(there)} of {count(len(cases), 'reference')} have a file of the likeliest pattern, {pattern}, and "
            f"{count(len(left), 'file')} no such name, e.g. {left[0].relative_to(folder)}; expected the references' names in "
            "the files' paths: rename them, or write models.NAME.files by hand"
        )
    notes = _notes(folder, pattern, cases, taken, left)
    notes += _lacking_masks(folder, taken, structures) if masks else []
    if masks:
        return Found(pattern, sorted(taken), tuple(notes))
    first = list(own[pattern].values())[:LOOKED_AT]
    return Found(pattern, sorted({one for path in first for one in values_of(path)}), tuple(notes))


def _notes(
    folder: Path, pattern: str, cases: Collection[str], taken: Matched, left: Sequence[Path]
) -> list[str]:
    """Tell of references without a prediction, and of files that are not read."""
    there = set().union(*taken.values())
    lacking = [case for case in cases if case not in there]
    notes = []
    if lacking:
        notes.append(
            f"{folder}: {count(len(lacking), 'reference')} without a prediction, e.g. {lacking[0]}; they will count as missing"
        )
    if left:
        notes.append(
            f"{folder}: {count(len(left), 'file')} not of the pattern {pattern}, not read, e.g. {left[0].relative_to(folder)}"
        )
    return notes


def _lacking_masks(folder: Path, taken: Matched, structures: Collection[str]) -> list[str]:
    """Tell which masks only some cases have; of the dataset's structures where files are named so."""
    there = set().union(*taken.values())
    named = taken.keys() & set(structures) or taken.keys()
    without = {name: sorted(there - taken[name].keys()) for name in sorted(named)}
    return [
        f"{folder}: no mask of {name} for {count(len(cases), 'case')}, e.g. {cases[0]}; the study refuses these by name: put "
        "an empty mask there where the structure was not found"
        for name, cases in without.items()
        if cases
    ]


# --- names of cases in paths --------------------------------------------------------------------


def _is_file(path: Path) -> bool:
    """Tell whether it is an image file that a pattern can name; what other systems hide is none."""
    return is_image(path) and path.name[0] != "." and path.is_file()


def _refuse_twins(paths: Iterable[Path]) -> None:
    """Raise InputError where two files have one name but for the ending."""
    of_name: dict[Path, Path] = {}
    for path in paths:
        other = of_name.setdefault(path.with_name(stem(path)), path)
        if other != path:
            raise InputError(
                f"{path.parent}: {' and '.join(sorted([other.name, path.name]))} have one name; expected a file a case: remove or rename one"
            )


def _matched(
    folder: Path, paths: Collection[Path], cases: Collection[str], strict: bool
) -> Matched:
    """Return every pattern that a path can have, with a case's name at any of its places.

    strict: whether a letter beside a digit makes one word, too.
    """
    lengths = {len(case) for case in cases}
    known = set(cases)
    found: Matched = defaultdict(dict)
    for path in paths:
        text = path.relative_to(folder).as_posix()
        if re.search("[{}]", text):  # would be a placeholder
            continue
        ends = {place for place in range(len(text) + 1) if _parts(text, place, strict)}
        places: dict[str, list[int]] = defaultdict(list)
        for start in sorted(ends):
            for length in lengths:
                if text[start : start + length] in known and start + length in ends:
                    places[text[start : start + length]].append(start)
        for case, starts in places.items():
            for pattern in _with_case(text, case, starts):
                found[pattern][case] = path
    return found


def _parts(text: str, place: int, strict: bool) -> bool:
    """Tell whether a word ends or begins at a place of a text."""
    before, after = text[:place][-1:], text[place : place + 1]
    if strict:
        return not (before.isalnum() and after.isalnum())
    return not ((before.isdigit() and after.isdigit()) or (before.isalpha() and after.isalpha()))


def _with_case(text: str, case: str, starts: list[int]) -> Iterator[str]:
    """Return the text with `{case}` at each choice of the places where the case's name stands."""
    starts = starts[:MOST_PLACES]
    for number in range(1, len(starts) + 1):
        for chosen in itertools.combinations(starts, number):
            if all(later >= one + len(case) for one, later in itertools.pairwise(chosen)):
                parts, done = "", 0
                for start in chosen:
                    parts, done = parts + text[done:start] + CASE, start + len(case)
                yield parts + text[done:]


def _most(matched: Matched) -> int:
    return max(map(len, matched.values()), default=0)


def _own_patterns(matched: Matched) -> Matched:
    """Leave each file to the pattern that most cases have; of two, to the one that says more of its case."""
    order = sorted(matched, key=lambda one: (-len(matched[one]), -one.count(CASE), one))
    taken: set[Path] = set()
    own: Matched = {}
    for pattern in order:
        left = {case: path for case, path in matched[pattern].items() if path not in taken}
        if left:
            own[pattern] = left
            taken |= set(left.values())
    return own


# --- which files are the predictions ------------------------------------------------------------


def _masks(own: Matched, structures: Collection[str]) -> tuple[str, Matched] | None:
    """Return the pattern with `{structure}`, and structure -> case -> file, where cases have masks in folders of their own."""
    slots: dict[str, Matched] = defaultdict(dict)
    for pattern, of_case in own.items():
        folder, _, name = pattern.rpartition("/")
        if CASE in folder and CASE not in name:
            named = name[: -len(ending(name))]
            slots[f"{folder}/{{structure}}{name[len(named) :]}"][named] = of_case
    best = max(slots, key=lambda slot: len(set().union(*slots[slot].values())), default=None)
    if best is None:
        return None
    masks = slots[best]
    whole = max((len(own[one]) for one in own if CASE in one.rpartition("/")[2]), default=0)
    if whole > len(set().union(*masks.values())):
        return None
    named = masks.keys() & set(structures)
    looked = [path for of_case in masks.values() for path in list(of_case.values())[:LOOKED_AT]]
    several = (
        len(masks) > 1 or len(structures) > 1
    )  # a mask of one of several is no whole prediction
    if named or (several and all(map(_is_mask, looked[: LOOKED_AT * MOST_MASKS]))):
        return best, masks
    return None


def _is_mask(path: Path) -> bool:
    try:
        return len(values_of(path)) <= 1
    except InputError:  # numbers that are no labels
        return False


def _likeliest(folder: Path, own: Matched) -> str:
    """Return the pattern of the label maps. Raises InputError where two are as likely."""
    often = [pattern for pattern in own if 2 * len(own[pattern]) >= _most(own)]
    ranks = {pattern: _rank(pattern) for pattern in often}
    likely = [pattern for pattern in often if ranks[pattern] == min(ranks.values())]
    if len(likely) > 1:
        told = ", ".join(f"{one} ({count(len(own[one]), 'case')})" for one in likely[:5])
        more = f" and {len(likely) - 5} more" if len(likely) > 5 else ""
        raise InputError(
            f"{folder}: its files have several patterns: {told}{more}; expected one that is the predictions': name the folder "
            "of these, keep the others elsewhere, or write models.NAME.files by hand ({fold}, {seed} and {structure} stand "
            "for folders or files of their own)"
        )
    return likely[0]


def _rank(pattern: str) -> int:
    """Return how unlikely the files are label maps: 0 where their names say that they are, 2 that they are not."""
    if UNLIKELY.search(pattern.replace(CASE, "")):
        return 2
    name = pattern.rpartition("/")[2]
    return int(name[: len(name) - len(ending(name))] not in LIKELY)
