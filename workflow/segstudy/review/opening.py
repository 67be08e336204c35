"""A case opened in an editor: what is put there, what is left out, and the record of it."""

import csv
import io
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segstudy import correction_records
from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import make_folder, write_text
from segstudy.images.files import Image, read_image, read_label, write_label, write_nifti
from segstudy.review import editor
from segstudy.review.held_out import HeldOut, Judged
from segstudy.review.scores import consensus

RECORD = "openings.tsv"
COLUMNS = ("when", "who", "dataset", "case", "what", "editor", "started", "consensus")


@dataclass(frozen=True)
class Opened:
    """Hold how a case was opened.

    Parameters
    ----------
    task
        What the editor shows.
    words
        The command.
    editor
        Which.
    started
        Whether it was started.
    goes_on
        Whether an earlier session's copy of the label was kept.
    """

    task: editor.Task
    words: Sequence[str]
    editor: str
    started: bool
    goes_on: bool


def find(held_out: HeldOut, name: str) -> Judged:
    """Return the judged case that is called CASE or DATASET/CASE.

    Raises InputError where there is none, or where two datasets have one.
    """
    judged = held_out.judged()
    found = [one for one in judged if name in (one.name, one.case.case)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{name}: a case of {len(found)} datasets; write {' or '.join(one.name for one in found)}"
        )
    known = ", ".join(one.name for one in judged[:5]) + (", ..." if len(judged) > 5 else "")
    raise InputError(
        f"{name}: no case that models have predicted without seeing it; there are {known}"
    )


def open_case(
    held_out: HeldOut,
    one: Judged,
    wanted: str | None = None,
    shows_consensus: bool = False,
    fresh: bool = False,
    start: Callable[[Sequence[str]], object] | None = None,
) -> Opened:
    """Put a case's files in place, start an editor where one is installed, and put that on record.

    Parameters
    ----------
    held_out
        The study.
    one
        The case.
    wanted
        One of `editor.EDITORS`; None: the first that is installed.
    shows_consensus
        Whether what models see is another layer; no prediction is written otherwise.
    fresh
        Whether the label is copied anew, over what was edited before.
    start
        Starts a command; None: as a process of its own, which this one does not wait for.
    """
    correction_records.user()  # on record below: who is not known is told before an editor starts
    chosen, program = editor.choose(wanted)
    folder = Path(f"{held_out.paths.review}/editing/{one.dataset}/{one.case.case}").resolve()
    make_folder(folder)
    task, goes_on = prepare(held_out, one, folder, shows_consensus, fresh)
    words = editor.command(chosen, program, task, folder)
    if program:
        (start or _start)(words)
    row = (
        *(one.dataset, one.case.case, "opened", chosen),
        *("yes" if program else "no", "shown" if shows_consensus else "hidden"),
    )
    put_on_record(folder.parents[2], [row])
    return Opened(task, words, chosen, program is not None, goes_on)


def prepare(
    held_out: HeldOut, one: Judged, folder: Path, shows_consensus: bool, fresh: bool
) -> tuple[editor.Task, bool]:
    """Write the files that an editor reads; return its task, and whether an earlier copy of the label was kept."""
    stored = read_label(one.case.label)
    copy = folder / f"{one.case.case}.nii.gz"
    goes_on = copy.is_file() and not fresh
    if not goes_on:
        write_label(copy, stored.array.astype(np.uint16), stored.affine)
        editor.slicer_file(copy).unlink(missing_ok=True)
    structures = held_out.study.datasets[one.dataset].structures
    agreed = folder / "consensus.nii.gz"
    agreed.unlink(missing_ok=True)
    if shows_consensus:
        label, votes = held_out.read(one)
        indices = consensus(votes, len(structures) + 1)
        values = np.array([0, *structures.values()], np.uint16)
        write_label(agreed, values[indices], label.affine)
    voxel = place(held_out, one, stored)
    point = stored.affine[:3, :3] @ voxel + stored.affine[:3, 3]
    return (
        editor.Task(
            one.name,
            _channels(held_out, one, folder),
            copy.resolve(),
            agreed.resolve() if shows_consensus else None,
            structures,
            voxel,
            tuple(round(float(part), 3) for part in point),
        ),
        goes_on,
    )


def _channels(held_out: HeldOut, one: Judged, folder: Path) -> list[Path]:
    """Return a file a channel: editors take a fourth axis for time, so that such an image is written anew."""
    case: Case = one.case
    number = len(held_out.study.datasets[one.dataset].channels) or 1
    if len(case.images) != 1 or number == 1:
        return [path.resolve() for path in case.images]
    image = read_image(case.images, channels=number)
    files = []
    for channel, array in enumerate(image.array):
        files.append((folder / f"image_{channel}.nii.gz").resolve())
        write_nifti(files[-1], array, image.affine)
    return files


def place(held_out: HeldOut, one: Judged, label: Image) -> tuple[int, int, int]:
    """Return where to look: the place in the queue, else the middle of the label, else that of the image."""
    table = Path(f"{held_out.paths.review}/queue.csv")
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if (row["dataset"], row["case"]) == (one.dataset, one.case.case):
                    return tuple(int(row[f"voxel_{axis}"]) for axis in "ijk")
    there = np.argwhere(label.array > 0)
    middle = there.mean(axis=0) if len(there) else (np.array(label.array.shape) - 1) / 2
    return tuple(int(part) for part in np.rint(middle))


def put_on_record(folder: Path, rows: Sequence[Sequence[str]]) -> None:
    """Append lines to `openings.tsv`, with time (UTC) and login name.

    Parameters
    ----------
    folder
        `review/` of a study's results.
    rows
        Dataset, case, `opened` or `page`, editor, whether it was started, and whether the consensus was `shown` or `hidden`.
    """
    path = folder / RECORD
    by = (correction_records.now(), correction_records.user())
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    if not path.is_file():
        writer.writerow(COLUMNS)
    writer.writerows((*by, *row) for row in rows)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_text(path, before + text.getvalue())


def _start(words: Sequence[str]) -> None:
    """Start a program that goes on by itself."""
    try:
        subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise InputError(
            f"{words[0]}: cannot be started ({error.strerror}); the command is: {shlex.join(words)}"
        ) from None
