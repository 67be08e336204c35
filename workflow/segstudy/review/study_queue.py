"""The queue of a finished study: its scores, its order, its tables, pictures and page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segstudy.correction_records import CONTROL, QUEUE, find
from segstudy.errors import InputError
from segstudy.files import write_table
from segstudy.images.checksum import label_checksum
from segstudy.images.files import read_label
from segstudy.log import progress
from segstudy.review import queue
from segstudy.review.held_out import HeldOut, Judged
from segstudy.review.scores import CaseScores, StructureScores, score_case

FEWEST = 10
"""Cases of a dataset below which hardly anything can be said of what is usual."""
DECIMALS = 4
QUEUE_COLUMNS = (
    *(
        "rank",
        "picked_by",
        "reviewed",
        "order",
        "dataset",
        "case",
        "subject",
        "fold",
        "suspicion_sd",
        "finding",
    ),
    *("structure", "reason", "voxel_i", "voxel_j", "voxel_k", "slice", "x_mm", "y_mm", "z_mm"),
    *("consensus_dice", "models_dice", "votes", "audit", "label_checksum"),
)
SCORE_COLUMNS = (
    *("dataset", "case", "structure", "suspicion_sd", "consensus_dice", "models_dice"),
    *("boundary_mm", "p95_mm", "missing_share", "extra_share", "apart_share", "label_ml"),
    *("consensus_ml", "fits_structure", "swap_gain", "shift_i_mm", "shift_j_mm", "shift_k_mm"),
    "shift_gain",
)


@dataclass(frozen=True)
class Asked:
    """Hold what a reviewer asks for.

    Parameters
    ----------
    length
        Cases that the queue picks; None: a fifth of those judged and not reviewed yet, rounded up.
    control
        Cases drawn at random among the others; all of these where there are fewer.
    seed
        Of the draw.
    """

    length: int | None = None
    control: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Entry:
    """Hold a judged case with its place in the queue.

    Parameters
    ----------
    judged, scores, suspicion
        The case, its scores and what speaks against its label.
    rank
        From 1, over all datasets.
    picked_by
        `queue`, `control`, or empty for a case that is not up for review.
    reviewed
        What is on record of the label that was judged: `corrected`, `unchanged`, or nothing yet.
    order
        From 1, the place in the order of review; 0 for one that is not up for review.
    audit
        What the audit says of it.
    checksum
        Of the label that was judged, by its voxels.
    grid
        The label's affine.
    """

    judged: Judged
    scores: CaseScores
    suspicion: queue.Suspicion
    rank: int
    picked_by: str
    reviewed: str
    order: int
    audit: str
    checksum: str
    affine: np.ndarray


def build(held_out: HeldOut, asked: Asked) -> list[Entry]:
    """Judge all cases of a study, and pick those to review: the most suspicious first, and last those that were reviewed.

    Raises
    ------
    InputError
        Where nothing can be judged yet, or more cases are asked for than wait for a review.
    """
    cases = held_out.judged()
    reviewed = _reviewed(held_out, cases)
    waiting = len(cases) - len(reviewed)
    if not waiting:
        raise InputError(
            f"all {len(cases)} judged cases were reviewed ({held_out.study.corrections} has the records): none is left to pick"
        )
    if asked.length is not None and not 1 <= asked.length <= waiting:
        raise InputError(
            f"--length {asked.length}: expected 1 to {waiting}, the cases that wait for a review"
        )
    length = -(-waiting // 5) if asked.length is None else asked.length
    scores, told = {}, {}
    for one in progress(cases, "cases judged"):
        label, votes = held_out.read(one)
        scores[one.name] = score_case(label, votes, list(_structures(held_out, one)))
        stored = read_label(one.case.label)
        told[one.name] = (label_checksum(stored), stored.affine)
    found: dict[str, queue.Suspicion] = {}
    notes: dict[str, list[str]] = {}
    for dataset in dict.fromkeys(one.dataset for one in cases):
        own = {one.name: scores[one.name] for one in cases if one.dataset == dataset}
        named, problems = audit_findings(held_out, dataset)
        for name in own:
            case = name.partition("/")[2]
            notes[name] = [*(text for _, text in named.get(case, ())), *problems.get(case, ())]
        found |= queue.rank(own, {f"{dataset}/{case}": what for case, what in named.items()})
    ranked = sorted(found, key=lambda name: (name in reviewed, -found[name].score, name))
    picked, rest = ranked[:length], ranked[length:waiting]
    controls = queue.draw_controls(rest, asked.control, asked.seed)
    order = queue.review_order(picked, controls, asked.seed)
    by_name = {one.name: one for one in cases}
    return [
        Entry(
            by_name[name],
            scores[name],
            found[name],
            rank,
            QUEUE if name in picked else CONTROL if name in controls else "",
            reviewed.get(name, ""),
            order.index(name) + 1 if name in order else 0,
            "; ".join(notes[name]),
            *told[name],
        )
        for rank, name in enumerate(ranked, 1)
    ]


def _reviewed(held_out: HeldOut, cases: Sequence[Judged]) -> dict[str, str]:
    """Return what is on record of the labels that are judged now, `corrected` or `unchanged`, by the name of the case.

    A record of a label that was delivered anew since tells nothing of the new one.
    """
    corrections, found = held_out.study.corrections, {}
    records = {
        dataset: find(corrections, dataset)
        for dataset in dict.fromkeys(one.dataset for one in cases)
    }
    for one in cases:
        record = records[one.dataset].get(one.case.case)
        if record is None or not record.is_reviewed:
            continue
        # A label that was just corrected is judged as it was before, until the study runs again.
        known = {record.last.get(key) for key in ("old_voxels", "new_voxels")}
        if label_checksum(read_label(one.case.label)) in known:
            found[one.name] = record.last["action"]
    return found


def _structures(held_out: HeldOut, one: Judged) -> Mapping[str, int]:
    return held_out.study.datasets[one.dataset].structures


Findings = dict[str, list[tuple[str, str]]]


def audit_findings(held_out: HeldOut, dataset: str) -> tuple[Findings, dict[str, list[str]]]:
    """Read what the audits of a dataset say.

    Returns
    -------
    named : dict
        Case -> (structure, evidence) of each finding of the label audit; none where the study does not ask for it
        (`audit_labels`).
    problems : dict
        Case -> warnings of the audit of files.
    """
    named: Findings = {}
    problems: dict[str, list[str]] = {}
    faults = Path(held_out.paths.label_audit(dataset)) / "faults.csv"
    for row in _rows(faults, ","):
        named.setdefault(row["case"], []).append(
            (row["structure"], f"{row['fault'].replace('_', ' ')}: {row['evidence']}")
        )
    for row in _rows(Path(held_out.paths.problems(dataset)), "\t"):
        if row["case"]:
            problems.setdefault(row["case"], []).append(row["problem"])
    return named, problems


def _rows(table: Path, delimiter: str) -> list[dict[str, str]]:
    import csv

    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


# --- tables ---------------------------------------------------------------------------------------------


def write_tables(folder: Path, entries: Sequence[Entry]) -> None:
    """Write `queue.csv`, a row a case, and `scores.csv`, a row a case and structure."""
    import pandas as pd

    cases = [queue_row(one) for one in entries]
    write_table(folder / "queue.csv", pd.DataFrame(cases, columns=QUEUE_COLUMNS))
    rows = [row for one in entries for row in _score_rows(one)]
    write_table(folder / "scores.csv", pd.DataFrame(rows, columns=SCORE_COLUMNS))


def queue_row(entry: Entry) -> dict[str, object]:
    """Return the row of a case in `queue.csv`."""
    judged, suspicion = entry.judged, entry.suspicion
    point = entry.affine[:3, :3] @ suspicion.voxel + entry.affine[:3, 3]
    worst = entry.scores.structures[suspicion.structures[0]]
    return {
        "rank": entry.rank,
        "picked_by": entry.picked_by,
        "reviewed": entry.reviewed,
        "order": entry.order or "",
        "dataset": judged.dataset,
        "case": judged.case.case,
        "subject": judged.case.subject,
        "fold": "" if judged.fold is None else judged.fold,
        "suspicion_sd": round(suspicion.score, 2),
        "finding": suspicion.finding,
        "structure": suspicion.structure,
        "reason": suspicion.reason,
        **dict(zip(("voxel_i", "voxel_j", "voxel_k"), suspicion.voxel, strict=True)),
        "slice": suspicion.voxel[2],
        **{f"{axis}_mm": round(float(one), 2) for axis, one in zip("xyz", point, strict=True)},
        "consensus_dice": _rounded(worst.dice),
        "models_dice": _rounded(worst.models_dice),
        "votes": entry.scores.votes,
        "audit": entry.audit,
        "label_checksum": entry.checksum,
    }


MEASURED: dict[str, Callable[[StructureScores], float]] = {
    "consensus_dice": lambda one: one.dice,
    "models_dice": lambda one: one.models_dice,
    "boundary_mm": lambda one: one.boundary_mm,
    "p95_mm": lambda one: one.p95_mm,
    "missing_share": lambda one: one.missing_share,
    "extra_share": lambda one: one.extra_share,
    "apart_share": lambda one: one.apart_share,
    "label_ml": lambda one: one.label_ml,
    "consensus_ml": lambda one: one.consensus_ml,
}
"""Columns of `scores.csv` that are taken of a structure's scores."""


def _score_rows(entry: Entry) -> list[dict[str, object]]:
    scores = entry.scores
    return [
        {
            "dataset": entry.judged.dataset,
            "case": entry.judged.case.case,
            "structure": name,
            "suspicion_sd": round(entry.suspicion.by_structure[name], 2),
            **{column: _rounded(take(one)) for column, take in MEASURED.items()},
            "fits_structure": scores.renamed.get(name, ""),
            "swap_gain": _rounded(scores.swap_gain),
            **{
                f"shift_{axis}_mm": round(step, 2)
                for axis, step in zip("ijk", scores.shift_mm, strict=True)
            },
            "shift_gain": _rounded(scores.shift_gain),
        }
        for name, one in scores.structures.items()
    ]


def _rounded(value: float) -> float:
    return round(value, DECIMALS)
