"""Corrections of labels: a file a case beside the study file, each with a record of who changed what, when and why.

`<study>.corrections/<dataset>/<case>.<any format>` is the label and `<case>.json` its record, a list of
entries of which the last one holds. Delivered data stay as they are.
"""

import getpass
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import file_checksum, read_mapping, write_json, write_text
from segstudy.images.names import is_image, safe_name, stem
from segstudy.tables import read_rows

CORRECTED, UNCHANGED, TAKEN_BACK = ACTIONS = ("corrected", "unchanged", "taken back")
"""What an entry of a record says: another label was accepted; the label was reviewed and is right; a correction was undone."""
QUEUE, CONTROL = PICKED_BY = ("queue", "control")
"""Why a case was reviewed: it was ranked suspicious, or drawn at random."""
ASIDE = "taken_back"
"""The folder, beside the corrections, of labels that no longer hold."""
PICKED = "picked.tsv"
PICKED_COLUMNS = ("case", "picked_by")
"""Which cases were up for review, and why: the queue as it was, so that its strata stay known when it is drawn anew."""


@dataclass(frozen=True)
class Correction:
    """Hold what is on record of a reviewed case.

    Parameters
    ----------
    dataset, case
        Names; that of the case as results have it.
    entries
        Of its record, oldest first.
    label
        The label file that is there, if any.
    """

    dataset: str
    case: str
    entries: tuple[Mapping[str, Any], ...]
    label: Path | None = None

    @property
    def last(self) -> Mapping[str, Any]:
        """The entry that holds."""
        return self.entries[-1]

    @property
    def is_corrected(self) -> bool:
        """Tell whether another label takes the place of the delivered one."""
        return self.last["action"] == CORRECTED

    @property
    def is_reviewed(self) -> bool:
        """Tell whether somebody has judged the label, and that holds."""
        return self.last["action"] != TAKEN_BACK


# --- where ---------------------------------------------------------------------------------------


def record_of(folder: Path | str, dataset: str, case: str) -> Path:
    """Return the record of a case. folder: of all corrections."""
    return Path(folder) / dataset / f"{case}.json"


def label_files(folder: Path | str, dataset: str) -> dict[str, list[Path]]:
    """Return the label files that lie among the corrections of a dataset, by case."""
    place = Path(folder) / dataset
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if not path.name.startswith(".") and is_image(path):
            found.setdefault(safe_name(stem(path)), []).append(path)
    return found


# --- what is on record ---------------------------------------------------------------------------


def read_record(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a record, oldest first; InputError for a file that is none."""
    try:
        entries = read_mapping(path).get("entries")
    except InputError as error:
        raise InputError(
            f"{error}. It is the record of a correction: put a sound copy there, or move it away and accept the label anew"
        ) from None
    good = isinstance(entries, list) and entries
    if not good or not all(isinstance(e, dict) and e.get("action") in ACTIONS for e in entries):
        raise InputError(
            f"{path}: no record of a correction: expected entries, each with an action: {', '.join(ACTIONS)}"
        )
    for entry in entries:
        needed = ["who", "when", "why", *(_CHECKSUMS if entry["action"] == CORRECTED else ())]
        missing = [key for key in needed if not isinstance(entry.get(key), str)]
        if missing:
            raise InputError(f"{path}: an entry ({entry['action']}) lacks {missing[0]!r}, a text")
        if entry["action"] == CORRECTED and not _is_count(entry.get("changed")):
            raise InputError(
                f"{path}: an entry ({CORRECTED}) lacks 'changed': structure -> {', '.join(_COUNTS)}, whole numbers"
            )
    return entries


def _is_count(changed: Any) -> bool:
    """Tell whether `changed` of an entry is what `review.differences.changed_voxels` returns."""
    return isinstance(changed, dict) and all(
        isinstance(one, dict) and all(isinstance(one.get(key), int) for key in _COUNTS)
        for one in changed.values()
    )


_COUNTS = ("old", "new", "added", "removed")
_CHECKSUMS = ("old_voxels", "new_voxels", "new_file")


def find(folder: Path | str | None, dataset: str) -> dict[str, Correction]:
    """Return what is on record of a dataset's cases, by case.

    Parameters
    ----------
    folder
        Of all corrections; None, or one that is not there: nothing is.
    dataset
        Name.

    Raises
    ------
    InputError
        With all that does not fit: a label without a record, a record whose label is gone, two labels of
        one case, a label that was saved anew after it was accepted. Asked before a run begins, which takes
        the case table away that `segstudy review accept` reads.
    """
    if folder is None:
        return {}
    place = Path(folder) / dataset
    records = sorted(place.glob("*.json")) if place.is_dir() else []
    labels = label_files(folder, dataset)
    found, wrong = {}, []
    for record in records:
        case = record.name.removesuffix(".json")
        own = labels.pop(case, [])
        correction = Correction(dataset, case, tuple(read_record(record)), own[0] if own else None)
        found[case] = correction
        if len(own) > 1:
            names = ", ".join(path.name for path in own)
            wrong.append(f"{place}: {len(own)} labels of case {case} ({names}); keep one of them")
        elif correction.is_corrected and not own:
            wrong.append(
                f"{record}: the corrected label {correction.last.get('file', '')} is gone; put it back, or take "
                f"the correction back: segstudy review undo {shlex.quote(case)} --study STUDY"
            )
        elif correction.is_corrected and file_checksum(own[0]) != correction.last["new_file"]:
            wrong.append(
                f"{own[0]}: it was changed after it was accepted (its checksum is another than its record has); "
                f"accept it again: segstudy review accept {shlex.quote(case)} --study STUDY --why TEXT"
            )
        elif own and not correction.is_corrected:
            wrong.append(
                _not_accepted(own[0], case, f"its record says {correction.last['action']}")
            )
    for case, own in labels.items():
        wrong.append(_not_accepted(own[0], case, "it has no record of who changed what, and why"))
    if wrong:
        raise InputError("\n".join(wrong))
    return found


def _not_accepted(label: Path, case: str, why: str) -> str:
    return (
        f"{label}: {why}; accept the correction (segstudy review accept {shlex.quote(case)} --study STUDY --why TEXT), or move the "
        "file away"
    )


def corrected(folder: Path | str | None, dataset: str) -> dict[str, Correction]:
    """Return the corrections of a dataset that hold, by case; raises as `find` does."""
    return {name: one for name, one in find(folder, dataset).items() if one.is_corrected}


def has_corrected(folder: Path | str | None, dataset: str) -> bool:
    """Tell whether a corrected label of a dataset is on record, by the records alone; no label is opened."""
    records = Path(folder or os.devnull, dataset).glob("*.json")
    return any(read_record(record)[-1]["action"] == CORRECTED for record in records)


def input_files(folder: Path | str | None, dataset: str) -> list[str]:
    """Return the files that the audit of a dataset depends on: corrected labels and their records."""
    return [
        str(path)
        for name, one in corrected(folder, dataset).items()
        for path in (one.label, record_of(folder, dataset, name))
    ]


def owners(folder: Path | str | None, dataset: str) -> dict[str, str]:
    """Return the case of each of `input_files`, by its absolute path."""
    return {
        os.path.abspath(path): name
        for name, one in corrected(folder, dataset).items()
        for path in (one.label, record_of(folder, dataset, name))
    }


# --- in place of the delivered labels ------------------------------------------------------------


def applied(cases: Sequence[Case], corrections: Mapping[str, Correction]) -> list[Case]:
    """Put corrected labels in the place of those delivered.

    Parameters
    ----------
    cases
        As listed, before any image is opened; names may still be those given.
    corrections
        Of the dataset, by case.

    Raises
    ------
    InputError
        For a correction of a case that the dataset lacks.
    """
    names = {safe_name(case.case) for case in cases}
    for name, one in corrections.items():
        if name not in names:
            raise InputError(
                f"{one.label}: dataset {one.dataset} has no case {name}; it is called by the first part of the file's "
                f"name. Take the correction back: segstudy review undo {shlex.quote(f'{one.dataset}/{name}')} --study STUDY"
            )
    return [
        replace(
            case,
            label=one.label,
            delivered_label=case.label,
            corrected_from=str(one.last["old_voxels"]),
        )
        if (one := corrections.get(safe_name(case.case)))
        else case
        for case in cases
    ]


def refuse_other(case: Case, old_voxels: str, where: Path | str) -> None:
    """Raise InputError where the label that a correction was made of is no longer that of the data.

    Parameters
    ----------
    case
        A corrected case.
    old_voxels
        `image_checksum` of the label that the correction takes the place of, as the study has it now.
    where
        Its file.
    """
    if case.corrected_from and old_voxels != case.corrected_from:
        raise InputError(
            f"{case.label}: it corrects another label than case {case.case} has now ({where}: voxels {old_voxels[:12]}, "
            f"in the record {case.corrected_from[:12]}). Take it back (segstudy review undo {shlex.quote(case.case)} --study STUDY) and look at "
            "the new label; where the correction holds for it too, run the study to download, and accept it from "
            f"{ASIDE}/ (segstudy review accept {shlex.quote(case.case)} FILE --study STUDY --why TEXT)"
        )


def refuse_lost(corrections: Collection[str], cases: Iterable[Case], problems: Iterable) -> None:
    """Raise InputError with the reasons where the audit refused a corrected case, which no setting may drop in silence."""
    lost = set(corrections) - {case.case for case in cases}
    if lost:
        told = [str(one) for one in problems if one.case in lost]
        raise InputError("\n".join(["a corrected case is refused:", *told]))


# --- writing -------------------------------------------------------------------------------------


def entry(action: str, who: str | None, why: str, **more: Any) -> dict[str, Any]:
    """Return a new entry of a record: now, by `who` or by who is logged in."""
    if not why.strip():
        raise InputError("--why: empty; say in a sentence what was wrong, or that nothing was")
    return {"action": action, "who": who or user(), "when": now(), "why": why.strip(), **more}


def now() -> str:
    """Return the time as records have it, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user() -> str:
    """Return the login name; InputError where the system does not tell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InputError("--who is missing: the system does not tell who is logged in") from None


def append(folder: Path | str, dataset: str, case: str, new: Mapping[str, Any]) -> Path:
    """Add an entry to the record of a case, and return the record's file."""
    path = record_of(folder, dataset, case)
    before = read_record(path) if path.exists() else []
    write_json(path, {"dataset": dataset, "case": case, "entries": [*before, new]})
    return path


def put_aside(label: Path) -> Path:
    """Move a label that no longer holds to the folder `taken_back` beside it, and return where it is."""
    digest = file_checksum(label)[:12]
    place = label.parent / ASIDE / f"{stem(label)}.{digest}{label.name[len(stem(label)) :]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(label, place)
    return place


# --- which cases were up for review ---------------------------------------------------------------


def picked(folder: Path | str | None, dataset: str) -> dict[str, str]:
    """Return why each case of a dataset was up for review, by case: one of `PICKED_BY`; empty where nothing is known."""
    path = Path(folder or "") / dataset / PICKED
    if folder is None or not path.is_file():
        return {}
    _, *rows = read_rows(path)
    return {row[0]: row[1] for _, row in rows}


def note_picked(folder: Path | str, dataset: str, queue: Mapping[str, str]) -> None:
    """Keep which cases were up for review, beside the corrections; what was kept of an earlier queue stays."""
    kept = picked(folder, dataset)
    new = {case: why for case, why in queue.items() if case not in kept}
    if new:
        rows = [PICKED_COLUMNS, *(kept | new).items()]
        lines = "".join("\t".join(row) + "\n" for row in rows)
        write_text(Path(folder) / dataset / PICKED, lines)


# --- which labels the results are measured under --------------------------------------------------

DELIVERED = "delivered"
"""Results under the labels as delivered, repaired where the study repairs; `CORRECTED`: as corrected."""


LEAST_SAMPLE = 20
"""Cases of a random sample below which it says next to nothing: 0 faulty of 20 leaves up to 17 % of the others, of 5 up to 52 %
(exact 95 % interval)."""


def headline(
    dataset: str,
    cases: Iterable[str],
    reviewed: Mapping[str, Correction],
    up_for_review: Mapping[str, str],
) -> tuple[str, str]:
    """Decide under which labels a study's own results on a dataset are measured, and say why.

    Cases that were reviewed because models disagree on them are no random choice: results under their
    corrected labels favour the models that helped to choose. So the old labels count, unless all cases were
    reviewed, or all that were picked, among them a sample of at least `LEAST_SAMPLE` that was drawn at random.

    Parameters
    ----------
    dataset
        Name, for the reason.
    cases
        All cases of the dataset.
    reviewed
        What is on record of them.
    up_for_review
        As `picked` returns it.

    Returns
    -------
    labels : str
        `DELIVERED` or `CORRECTED`.
    reason : str
        A part of a sentence.
    """
    names = set(cases)
    done = {name for name, one in reviewed.items() if one.is_reviewed} & names
    sample = {name for name, why in up_for_review.items() if why == CONTROL} & names
    if done >= names:
        return CORRECTED, f"all {len(names)} cases of {dataset} were reviewed"
    picked_ones = up_for_review.keys() & names
    if len(sample) >= LEAST_SAMPLE and done >= picked_ones:
        reason = f"all {len(picked_ones)} picked of {len(names)} cases of {dataset} were reviewed, {len(sample)} of them drawn at random"
        return CORRECTED, reason
    left = f" and {len(done & sample)} of a random sample of {len(sample)}" if sample else ""
    if left and len(sample) < LEAST_SAMPLE:
        left += f" (at least {LEAST_SAMPLE} are asked for)"
    elif left and done >= sample:
        left += f" (of the picked, {len(picked_ones - done)} wait)"
    return DELIVERED, (
        f"{len(done)} of {len(names)} cases of {dataset}{left} were reviewed: chosen by disagreement, their corrected labels "
        "favour the models that helped to choose"
    )


def headline_of(folder: Path | str, dataset: str, cases: Iterable[Case]) -> tuple[str, str]:
    """Return `headline` of a dataset by what is on record in the folder of all corrections."""
    names = [case.case for case in cases]
    return headline(dataset, names, find(folder, dataset), picked(folder, dataset))
