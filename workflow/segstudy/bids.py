"""BIDS: what the names of a dataset's files say, and which files are meant; light, since study files are read with it."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segstudy.errors import InputError
from segstudy.images.names import composed, is_image, stem
from segstudy.paths import described_in

NONE = "none"
"""Stands, as the value of an entity, for names without it."""
GRIDS = ("space", "res", "den")
"""Entities that say on which grid a file lies; a file without them lies on that of the scan."""
REPEATS = ("acq", "rec", "run")
"""Entities that tell apart scans that were taken several times in one session."""

Key = tuple[str, ...]
"""A subject's folder, or a subject's and a session's: `("sub-01", "ses-a")`."""
Wanted = Mapping[str, Sequence[str]]
"""Entity, `suffix` or `datatype` -> values, the most wanted first."""


@dataclass(frozen=True)
class BidsFile:
    """Hold an image file and what its name says.

    Parameters
    ----------
    path
        The file.
    entities
        Such as `space` -> `MNI152NLin2009cAsym`, with `suffix`, and `datatype`, the folder (`anat`).
    """

    path: Path
    entities: Mapping[str, str]

    def get(self, entity: str) -> str:
        """Return an entity's value, numbers without leading zeros; `none` where the name has none."""
        return plain(self.entities.get(entity, NONE))

    @property
    def repeat(self) -> tuple[str, ...]:
        """Return what tells the scan from others of its session: `("acq-highres", "run-02")`."""
        return tuple(f"{one}-{self.entities[one]}" for one in REPEATS if one in self.entities)


def plain(value: str) -> str:
    """Return a value without leading zeros, as `run-01` is run 1."""
    return str(int(value)) if value.isdecimal() else value


def files_below(root: Path) -> Iterator[tuple[Key, BidsFile]]:
    """Find the image files of `sub-*/[ses-*/][datatype/]`, sorted; hidden ones do not count."""
    for subject in _entries(root, "sub-"):
        for entry in _entries(subject):
            if entry.name.startswith("ses-"):
                for inner in _entries(entry):
                    yield from _named(inner, (subject.name, entry.name))
            else:
                yield from _named(entry, (subject.name,))


def _named(entry: Path, key: Key) -> Iterator[tuple[Key, BidsFile]]:
    """Read the name of a file of a subject or session, or the names in a datatype's folder."""
    files = [entry] if is_image(entry.name) else _entries(entry)
    for path in filter(is_image, files):
        *parts, suffix = stem(path).split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        entities |= {"suffix": suffix, "datatype": "" if path is entry else entry.name}
        yield tuple(map(composed, key)), BidsFile(path, entities)


def _entries(folder: Path, start: str = "") -> list[Path]:
    """List what is in a folder under names that begin so; nothing where it is a file, or nobody may read it."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [entry for entry in entries if entry.name.startswith(start) and entry.name[0] != "."]


# --- which files are meant ----------------------------------------------------------------------


def matching(files: Iterable[BidsFile], wanted: Wanted) -> list[BidsFile]:
    """Select files by their entities; of several values of one, the first that a file has."""
    found = list(files)
    for entity, values in wanted.items():
        by_value = ([one for one in found if one.get(entity) == plain(value)] for value in values)
        found = next(filter(None, by_value), [])
    return found


def preferred(files: Sequence[BidsFile], wanted: Wanted, like: BidsFile | None) -> list[BidsFile]:
    """Select, by entities that nobody asked for, the files that go with another one.

    A file with the other's value is taken before one without any, and one of another value not at all. Where
    the other says none, one without is preferred. Files of `anat` come before those of other folders.

    Parameters
    ----------
    files
        All as they were asked for.
    wanted
        What was asked for.
    like
        The label of an image; None: files on the scan's own grid are preferred, of any repetition.
    """
    found = list(files)
    if "datatype" not in wanted:
        found = [one for one in found if one.get("datatype") in ("", "anat")] or found
    for entity in GRIDS if like is None else (*GRIDS, *REPEATS):
        if entity not in wanted:
            value = like.get(entity) if like else NONE
            rest = [] if value != NONE else found
            with_value, without = (
                [one for one in found if one.get(entity) == which] for which in (value, NONE)
            )
            found = with_value or without or rest
    return found


def one_by_rule(files: Sequence[BidsFile], rule: str) -> list[BidsFile]:
    """Select the first or last of several scans; the files as they are where they differ in anything else."""
    if rule not in ("first", "last") or set(differences(files)) - set(REPEATS):
        return list(files)

    def place(file: BidsFile) -> list[tuple[bool, int, str]]:
        values = [file.get(entity) for entity in REPEATS]
        return [(v.isdecimal(), int(v) if v.isdecimal() else 0, v) for v in values]

    ordered = sorted(files, key=place)
    return ordered[:1] if rule == "first" else ordered[-1:]


def differences(files: Sequence[BidsFile]) -> dict[str, list[str]]:
    """Return the entities in which files differ, and their values."""
    entities = dict.fromkeys(entity for file in files for entity in file.entities)
    values = {entity: sorted({file.get(entity) for file in files}) for entity in entities}
    return {entity: own for entity, own in values.items() if len(own) > 1}


def described(wanted: Wanted) -> str:
    """Write what is asked for as a file is named: `*_desc-aseg_dseg`."""
    said = [
        f"{entity}-{'|'.join(values)}"
        for entity, values in wanted.items()
        if entity not in ("suffix", "datatype") and tuple(values) != (NONE,)
    ]
    folder = f"{'|'.join(wanted['datatype'])}/" if "datatype" in wanted else ""
    return f"{folder}{'_'.join(('*', *said, '|'.join(wanted['suffix'])))}"


# --- folders of a dataset -----------------------------------------------------------------------


def label_root(root: Path, pipeline: str | None, labels: Iterable[Wanted]) -> Path:
    """Return the folder that holds the labels: a pipeline's, `derivatives`, or the dataset's own.

    Parameters
    ----------
    root
        The dataset's folder, which may be a derivative dataset alone.
    pipeline
        Folder in `derivatives`; None: the only one that holds labels.
    labels
        What files of labels are.

    Raises
    ------
    InputError
        With those that hold labels, where there is not one.
    """
    labels, derivatives = list(labels), root / "derivatives"
    places = _entries(derivatives) if derivatives.is_dir() else []
    able = [place for place in (*places, derivatives, root) if _holds(place, labels)]
    if pipeline is not None:
        able = [place for place in able if place.parent == derivatives]
    known = ", ".join(place.name for place in able if place != root) or "none"
    what = " or ".join(dict.fromkeys(map(described, labels)))
    if pipeline is not None:
        if derivatives / pipeline not in able:
            raise InputError(
                f"{derivatives / pipeline}: source.pipeline: no sub-*/{what} in it; those with labels: {known}"
            )
        return derivatives / pipeline
    if len(able) > 1 and able[-1] == root:
        able = able[:-1]  # what is made of a dataset comes before what lies among its scans
    if len(able) != 1:
        raise InputError(
            f"{derivatives}: expected one folder with sub-*/{what}, found {len(able)} ({known})"
            + ("; set source.pipeline" if able else f", and none in {root} itself{elsewhere(root)}")
        )
    return able[0]


def _holds(folder: Path, labels: Sequence[Wanted]) -> bool:
    return folder.is_dir() and any(
        matching([file], wanted) for _, file in files_below(folder) for wanted in labels
    )


def elsewhere(root: Path) -> str:
    """Hint at the folder that was meant, or at what the names of the dataset's files say."""
    near = (*root.absolute().parents[:2], *_entries(root))
    likely = next((one for one in near if any(one.glob("derivatives/*/sub-*"))), None)
    if likely:
        return f"; did you mean {likely}?"
    derivatives = root / "derivatives"
    places = [root, *(_entries(derivatives) if derivatives.is_dir() else [])]
    suffixes = {file.get("suffix") for place in places for _, file in files_below(place)}
    there = f"; files there end in {', '.join(sorted(suffixes)[:10])}" if suffixes else ""
    return "; no sub-* folder in it: is it a BIDS dataset?" if not suffixes else there


def raw_root(root: Path) -> Path:
    """Return the folder of the raw scans: the dataset's own, or `rawdata` in it."""
    inner = root / "rawdata"
    return inner if inner.is_dir() and not _entries(root, "sub-") else root


# --- names of values ----------------------------------------------------------------------------


def nearest_table(label: Path, root: Path) -> Path | None:
    """Return the `dseg.tsv` that holds for a label: the nearest, beside it or above, whose entities are the label's."""
    own = _said(label)
    for folder in described_in(label, root):
        tables = [one for one in sorted(folder.glob("*dseg.tsv")) if one.name[0] != "."]
        fitting = [one for one in tables if _said(one) <= own]
        if fitting:
            return max(fitting, key=lambda one: (len(_said(one)), one.name))
    return None


def _said(path: Path) -> set[str]:
    """Return the entities of a file's name: `sub-01`, `desc-aseg`."""
    return {part for part in path.name.split(".")[0].split("_") if "-" in part}


def read_table(table: Path) -> dict[int, str]:
    """Read a table of labels (columns index and name), value -> name; InputError for another table."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (KeyError, ValueError, AttributeError, TypeError, csv.Error):
        raise InputError(
            f"{table}: expected a table of labels with the columns index (whole numbers) and name"
        ) from None
