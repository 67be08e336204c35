"""The file of a study's folds, `<study>.splits.tsv`, which keeps every subject in its fold from run to run.

It lies beside the study file, is made at the first run, and is an input like any other: a subject stands
where the file says, however the data change around it.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from segstudy.cases import FROM_FILE, JOINED, NO_FOLD, SEED, Split, read_splits
from segstudy.errors import InputError
from segstudy.files import write_text
from segstudy.images.names import composed
from segstudy.log import log
from segstudy.paths import named_by
from segstudy.study import Splits
from segstudy.tables import read_rows
from segstudy.words import count

COLUMNS = ["subject", "fold"]
DEALT = "dealt"
"""A further column: the fold that the settings dealt a subject to, so that a fold that was edited since is told."""
COMMENT = "# dealt by "
DEALT_BY = ("folds", "seed", "stratify_by", "group_by")
"""Settings after which, where they change, folds are dealt afresh."""


def folds_file(study_file: Path, shipped: Path, results: Path | str) -> Path:
    """Return where the folds of a study are kept: beside its file, also of one that a link stands for.

    Parameters
    ----------
    study_file : Path
        The study file.
    shipped : Path
        The folder of the studies that come with segstudy, beside which nothing is written.
    results : Path or str
        The folder `results/<study>`, which holds the file of a shipped study, and of one whose folder
        is read-only.
    """
    folder, name = study_file.parent, f"{study_file.stem}.splits.tsv"
    beside = named_by(study_file, name)
    if folder.resolve() == shipped.resolve() or not (beside.exists() or os.access(folder, os.W_OK)):
        return Path(results) / name
    return beside


def refuse_twin(study_file: Path) -> None:
    """Raise InputError where `a.yaml` and `a.yml` stand in one folder: `a.splits.tsv` would be that of both."""
    twin = study_file.with_suffix({".yaml": ".yml", ".yml": ".yaml"}.get(study_file.suffix, ""))
    if twin.is_file() and twin.resolve() != study_file.resolve():
        raise InputError(
            f"{study_file}: {twin.name} stands beside it, and both would keep their folds in "
            f"{study_file.stem}.splits.tsv; rename one of the two"
        )


def begin(path: Path, splits: Path, settings: Splits) -> None:
    """Make the file of folds where there is none.

    Parameters
    ----------
    path : Path
        The file of folds.
    splits : Path
        `preprocess/splits.tsv` of the results. Results of a version that kept no such file hand their
        folds on, so that nothing is trained anew.
    settings : Splits
        The study's settings; folds of another number are not handed on.
    """
    if path.exists():
        return
    known = of_subjects(read_splits(splits) if splits.is_file() else [], settings)
    write_folds(path, known if set(known.values()) == set(range(settings.folds)) else {})


def of_subjects(splits: Iterable[Split], settings: Splits) -> dict[str, int]:
    """Return the fold of each subject that some fold tests; of each case, where these are dealt one by one."""
    return {unit(split, settings): split.fold for split in splits if split.fold not in NO_FOLD}


def refuse_too_few(subjects: int, settings: Splits) -> None:
    """Raise InputError where there are fewer subjects to train on than folds (cases, where these are dealt one by one)."""
    if subjects < settings.folds:
        one = "case" if settings.group_by == "case_though_it_leaks" else "subject"
        fewer = f"set splits.folds to {subjects} or less, or " if subjects > 1 else ""
        raise InputError(
            f"{settings.folds} folds for {count(subjects, one)} to train on; expected at least one {one} a fold, "
            f"whichever folds run: {fewer}add cases{' of others' if one == 'subject' else ''}"
        )


def unit(split: Split, settings: Splits) -> str:
    """Return what is dealt as one: the subject, or the case where these are dealt one by one."""
    leaky = settings.group_by == "case_though_it_leaks"
    return f"{split.dataset}/{split.case}" if leaky else split.subject


def read_folds(path: Path, settings: Splits) -> dict[str, int]:
    """Return the fold of each subject in the file; none where other settings dealt them.

    Parameters
    ----------
    path : Path
        The file of folds, with columns `subject` and `fold`, and where segstudy dealt them `dealt` and a comment
        with the settings it was dealt by. Without the comment, as of a file written by hand, the folds hold for any settings.
    settings : Splits
        The study's settings. Folds are 0 to `settings.folds` - 1.

    Raises
    ------
    InputError
        Where the file is no such table, a subject stands in two folds, or a fold does not exist.
    """
    if path.is_file() and not path.read_bytes().strip():
        raise InputError(
            f"{path}: empty; expected the columns {' and '.join(COLUMNS)}. `segstudy new --splits STUDY` begins it anew"
        )
    rows = read_rows(path)
    first = rows[0][1][0]
    if first.startswith(COMMENT):
        if first != _comment(settings):
            return {}
        rows = rows[1:]
    if not rows or rows[0][1] not in (COLUMNS, [*COLUMNS, DEALT]):
        raise InputError(
            f"{path}: expected the columns {' and '.join(COLUMNS)}, with a tab between them; "
            "`segstudy new --splits STUDY` deals folds afresh"
        )
    folds: dict[str, int] = {}
    for number, cells in rows[1:]:
        subject, fold = (*map(composed, cells), "", "")[:2]
        if not (fold.isdecimal() and int(fold) < settings.folds):
            raise InputError(
                f"{path}: row {number}: subject {subject!r} has fold {fold!r}; expected 0 to "
                f"{settings.folds - 1} (splits.folds is {settings.folds})"
            )
        if folds.setdefault(subject, int(fold)) != int(fold):
            raise InputError(
                f"{path}: row {number}: subject {subject!r} is in fold {fold} and in fold "
                f"{folds[subject]}; expected one fold a subject"
            )
    return folds


def read_origins(path: Path, settings: Splits) -> dict[str, str]:
    """Return how each subject of the file got its fold: `SEED`, `JOINED`, or `FROM_FILE` where nothing in it tells.

    path, settings: as of `read_folds`, which has read the file.
    """
    folds = read_folds(path, settings)
    if not folds or not is_dealt_by(path, settings):
        return dict.fromkeys(folds, FROM_FILE)
    told = {
        composed(cells[0]): origin
        for _, cells in read_rows(path)
        for origin in (SEED, JOINED)
        if len(cells) > 2 and cells[2] == _dealt(cells[1], origin)
    }
    return {subject: told.get(subject, FROM_FILE) for subject in folds}


def _dealt(fold: object, origin: str) -> str:
    return {SEED: f"{fold}", JOINED: f"{fold} joined"}.get(origin, "")


def is_dealt_by(path: Path, settings: Splits) -> bool:
    """Return whether the file says that these settings dealt its folds."""
    return path.read_text(encoding="utf-8-sig").splitlines()[0].strip() == _comment(settings)


def check_known(known: Mapping[str, int], folds: Mapping[str, int], path: Path | None) -> None:
    """Warn of subjects in the file of folds that no case has; refuse a file that fits none.

    Parameters
    ----------
    known : mapping of str to int
        The folds of the file.
    folds : mapping of str to int
        The folds of the study's subjects.
    path : Path or None
        The file, for the message.

    Raises
    ------
    InputError
        Where the file names subjects, and none is one of the study's: a spreadsheet takes zeros away.
    """
    strangers = sorted(set(known) - set(folds))
    if known and folds and len(strangers) == len(known):
        raise InputError(
            f"{path}: none of its {len(known)} subjects is one of the study's: found {', '.join(strangers[:3])}, "
            f"where the study has {', '.join(sorted(folds)[:3])}. A spreadsheet may have changed them; write "
            "them as the case table has them, or deal afresh: segstudy new --splits STUDY"
        )
    if strangers:
        log.warning(
            "%s: %s without a case (taken out, or misspelt), whose line is kept: %s",
            path,
            count(len(strangers), "subject"),
            ", ".join(strangers[:10]),
        )


def write_folds(
    path: Path,
    folds: Mapping[str, int],
    settings: Splits | None = None,
    origins: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the file of folds, unless it holds the same; its time is then left alone.

    Parameters
    ----------
    path : Path
        The file.
    folds : mapping of str to int
        The fold of each subject.
    settings : Splits, optional
        What the folds were dealt by.
    origins : mapping of str to str
        How subjects got their folds, as `read_origins` returns it; not written without settings.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows = [[subject, fold] for subject, fold in sorted(folds.items())]
    header = COLUMNS
    if settings is not None:
        text.write(_comment(settings) + "\n")
        if origins:
            header = [*COLUMNS, DEALT]
            rows = [[*row, _dealt(row[1], origins.get(row[0], FROM_FILE))] for row in rows]
    writer.writerow(header)
    writer.writerows(rows)
    if not path.is_file() or path.read_text(encoding="utf-8") != text.getvalue():
        write_text(path, text.getvalue())


def _comment(settings: Splits) -> str:
    return COMMENT + ", ".join(f"{key}: {getattr(settings, key)}" for key in DEALT_BY)
