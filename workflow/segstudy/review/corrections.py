"""`segstudy review accept | undo | preview`: labels corrected by hand, on record, and what they make run."""

import csv
import shlex
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segstudy import correction_records as records
from segstudy.errors import InputError
from segstudy.review.queue_command import add_study

if TYPE_CHECKING:
    from segstudy.cases import Case
    from segstudy.jobs.results import ResultPaths
    from segstudy.study import Dataset, Study

ONE_FILE = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".mgz", ".mgh", ".dcm")
"""Formats that keep a label in one file, which is copied as it is; others are converted to `.nii.gz`."""


def add_corrections_parsers(subparsers: Any) -> None:
    """Add `accept`, `undo` and `preview` to the steps of `segstudy review`."""
    step = subparsers.add_parser(
        "accept",
        help="put a corrected label in the place of a case's delivered one, on record",
        description="Check a corrected label (the image's grid, known structures), copy it to the study's corrections and write "
        "beside it who changed what, when and why. Delivered data stay as they are.",
    )
    step.add_argument("case", metavar="CASE", help="its name in the results, or DATASET/CASE")
    step.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="the corrected label, in any format that is read; left out: the one that lies in the study's corrections",
    )
    add_study(step)
    step.add_argument("--why", required=True, metavar="TEXT", help="what was wrong, in a sentence")
    step.add_argument("--who", metavar="NAME", help="who corrected it; left out: the login name")
    step.add_argument(
        "--unchanged",
        action="store_true",
        help="the label was reviewed and is right: nothing is changed, and that is on record",
    )
    step.add_argument(
        "--empty",
        action="store_true",
        help="no voxel of any structure is left in FILE, and that is meant; refused else",
    )
    step.add_argument(
        "--picked-by",
        choices=records.PICKED_BY,
        help="why the case was reviewed: ranked suspicious, or drawn at random; left out: as review/queue.csv says, else queue",
    )

    step = subparsers.add_parser(
        "undo",
        help="take a correction back; its record says so, and the label is kept aside",
        description="Take back a correction, or the word that a label is right. The label is moved to `taken_back/`, and the "
        "record says who took it back, when and why.",
    )
    step.add_argument("case", metavar="CASE", help="its name in the results, or DATASET/CASE")
    add_study(step)
    step.add_argument("--why", default="taken back", metavar="TEXT", help="in a sentence")
    step.add_argument("--who", metavar="NAME", help="left out: the login name")

    step = subparsers.add_parser(
        "preview",
        help="tell what corrections make run, and for how long",
        description="The corrections that hold, which of them the results do not have yet, and what a run would do "
        "(segstudy preview).",
    )
    add_study(step)
    step.add_argument("--json", action="store_true", help="every job, with reasons and estimates")


STEPS = ("accept", "undo", "preview")


def run(options: Namespace) -> None:
    """Run the step that the options name."""
    {"accept": _accept, "undo": _undo, "preview": _preview}[options.step](options)


# --- the study ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reviewed:
    """Hold a study whose labels are reviewed: with the paths of its results and the folder of its corrections."""

    study: "Study"
    paths: "ResultPaths"
    folder: Path

    def find_case(self, name: str) -> tuple[str, "Case"]:
        """Return the dataset and the case that are called CASE or DATASET/CASE.

        Raises InputError where there is none, where two datasets have one, and before the audit has run.
        """
        from segstudy.cases import read_cases

        dataset, slash, case = name.rpartition("/")
        if slash and dataset not in self.study.datasets:
            known = ", ".join(self.study.datasets)
            raise InputError(f"{name}: no dataset {dataset!r}; the study has {known}")
        asked = [dataset] if slash else list(self.study.datasets)
        tables = {one: self.paths.cases(one) for one in asked}
        found, known = [], []
        for one, table in tables.items():
            if not Path(table).is_file():
                raise InputError(
                    f"{table}: not there yet; the audit lists the cases: segstudy run STUDY download"
                )
            cases = read_cases(table)
            known += [one.case for one in cases]
            found += [(one, its) for its in cases if its.case == case]
        if len(found) == 1:
            return found[0]
        if found:
            places = " or ".join(f"{one}/{case}" for one, _ in found)
            raise InputError(f"{name}: a case of {len(found)} datasets; write {places}")
        raise InputError(
            f"{name}: no such case in {', '.join(asked)}; there are {', '.join(known[:5])}"
            + (", ..." if len(known) > 5 else "")
        )

    def uncorrected(self, dataset: str, case: "Case") -> Path:
        """Return a case's label without any correction: as repaired, or as delivered."""
        from segstudy.cases import uncorrected_labels

        is_repaired = self.study.datasets[dataset].repair is not None
        folder = self.paths.repaired(dataset) if is_repaired else None
        return uncorrected_labels([case], folder)[0].label


def reviewed(options: Namespace) -> Reviewed:
    """Return the study that `--study` and `--config` name."""
    from segstudy import start
    from segstudy.jobs.options import results_root
    from segstudy.jobs.results import ResultPaths
    from segstudy.preview_command import config_of

    config = config_of(Namespace(study=options.study, config=options.config))
    study, file = start.chosen_study(config)
    folder = Path(study.corrections or start.corrections_beside(study, file, config))
    return Reviewed(study, ResultPaths(f"{results_root(config)}/{study.name}"), folder)


# --- accept and undo ------------------------------------------------------------------------------


def _accept(options: Namespace) -> None:
    from segstudy.review import before

    own = reviewed(options)
    dataset, case = own.find_case(options.case)
    queue = _queue(own.paths, dataset)
    picked_by = queue.get(case.case) or records.picked(own.folder, dataset).get(case.case)
    more = {"picked_by": options.picked_by or picked_by or records.QUEUE}
    if options.unchanged:
        if options.file is not None or options.empty:
            raise InputError(
                "--unchanged: neither FILE nor --empty goes with it, since the label stays as it is"
            )
        entry = _unchanged(own, dataset, case, options, more)
        told = "reviewed, and right as it is"
    else:
        file = options.file or _lying_there(own, dataset, case)
        entry = _corrected(own, dataset, case, file, options, more)
        told = f"corrected: {_in_words(entry)}"
    before.keep(own.study, own.paths)
    record = records.append(own.folder, dataset, case.case, entry)
    records.note_picked(own.folder, dataset, queue)
    print(f"{dataset}/{case.case}: {told}; on record in {record}")
    for note in entry.get("notes", ()):
        print(f"  {note}")
    changed = entry.get("changed", {})
    gone = [name for name, one in changed.items() if one["old"] and not one["new"]]
    if gone:
        print(f"  no voxel is left of {', '.join(gone)}")
    if not options.unchanged:
        print(f"what that makes run: segstudy review preview --study {shlex.quote(options.study)}")


def _in_words(entry: Mapping[str, Any]) -> str:
    from segstudy.review.differences import in_words

    return in_words(entry["changed"])


def _lying_there(own: Reviewed, dataset: str, case: "Case") -> Path:
    """Return the label of a case that was saved among the corrections, the newest of several."""
    files = records.label_files(own.folder, dataset).get(case.case, [])
    if not files:
        raise InputError(
            f"{own.folder}/{dataset}: no label of case {case.case} lies there; name the FILE, or save it there as "
            f"{case.case}.nii.gz"
        )
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def _unchanged(
    own: Reviewed, dataset: str, case: "Case", options: Namespace, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the entry of a case whose label was found right."""
    from segstudy.images.checksum import label_checksum
    from segstudy.images.files import read_label

    record = records.record_of(own.folder, dataset, case.case)
    lying = records.label_files(own.folder, dataset).get(case.case)
    last = records.read_record(record)[-1]["action"] if record.exists() else None
    if lying and last != records.CORRECTED:
        raise InputError(
            f"{lying[0]}: a label of case {case.case} that nobody accepted; move the file away, or accept it: segstudy review accept "
            f"{shlex.quote(case.case)} --study {shlex.quote(options.study)} --why TEXT"
        )
    if last == records.CORRECTED:
        raise InputError(
            f"{own.folder}/{dataset}: case {case.case} has a corrected label; take it back first: segstudy review undo "
            f"{shlex.quote(case.case)} --study {shlex.quote(options.study)}"
        )
    old = label_checksum(read_label(own.uncorrected(dataset, case)))
    return records.entry(records.UNCHANGED, options.who, options.why, old_voxels=old, **more)


def _corrected(
    own: Reviewed,
    dataset: str,
    case: "Case",
    file: Path,
    options: Namespace,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Check a corrected label, copy it to the corrections, and return its entry."""
    import numpy as np

    from segstudy.files import file_checksum
    from segstudy.images.checksum import label_checksum
    from segstudy.images.files import read_label

    if not file.is_file():
        raise InputError(f"{file}: no such file; expected the corrected label of case {case.case}")
    old_file = own.uncorrected(dataset, case)
    delivered = case.delivered_label or case.label
    if any(file.resolve() == other.resolve() for other in (old_file, delivered)):
        raise InputError(
            f"{file}: the label that is to be corrected; save the correction as another file, so that the old one stays"
        )
    old = read_label(old_file)
    settings = own.study.datasets[dataset]
    new, label, notes = _examined(case, file, settings)
    from segstudy.review.differences import changed_voxels, in_words

    changed = changed_voxels(old.array, new.array, settings.structures)
    if not (old.array != new.array).any():
        raise InputError(
            f"{file}: every voxel is as in {old_file}; where the label is right, put that on record: "
            f"segstudy review accept {shlex.quote(case.case)} --unchanged --study {shlex.quote(options.study)} --why TEXT"
        )
    values = list(settings.structures.values())
    if (
        np.isin(old.array, values).any()
        and not np.isin(new.array, values).any()
        and not options.empty
    ):
        raise InputError(
            f"{file}: no voxel of any structure is left ({in_words(changed)} against {old_file}), as where an empty "
            "segmentation was saved; save it again, or add --empty where the case has none of them"
        )
    # Before any file is moved, since who and why may be missing.
    entry = records.entry(
        records.CORRECTED,
        options.who,
        options.why,
        old_voxels=label_checksum(old),
        old_file=file_checksum(old_file),
        new_voxels=label_checksum(new),
        corrects="repaired" if settings.repair is not None else "delivered",
        changed=changed,
        changed_voxels=int((old.array != new.array).sum()),
        **({"notes": notes} if notes else {}),
        **more,
    )
    kept = _place(own.folder / dataset, case.case, file, label)
    return {**entry, "file": kept.name, "new_file": file_checksum(kept)}


def _examined(case: "Case", file: Path, settings: "Dataset") -> tuple[Any, Any, list[str]]:
    """Return a label as the study has it, and with the file whose header it takes, and what is to be noted of it."""
    from segstudy import start
    from segstudy.images.files import read_label

    # The audit of the run compares with the label of its own data; here the old one is read anew.
    asked = replace(
        case,
        label=file,
        delivered_label=case.delivered_label or case.label,
        reference_label=None,
        corrected_from="",
    )
    with tempfile.TemporaryDirectory() as folder:
        path, notes = start.audited_label(asked, settings, Path(folder))
        return read_label(path), path, notes


def _place(folder: Path, case: str, file: Path, label: Any) -> Path:
    """Copy a label among the corrections, and put others of the case aside; return where it is."""
    from segstudy.files import writing
    from segstudy.images.files import read_label, write_label
    from segstudy.images.names import ending

    folder.mkdir(parents=True, exist_ok=True)
    kind = ending(file)
    as_it_is = kind in ONE_FILE
    target = folder / f"{case}{kind if as_it_is else '.nii.gz'}"
    lies_there = target.exists() and target.samefile(file)
    if not lies_there:
        content = folder / f".new-{target.name}"
        if as_it_is:
            with writing(content) as temporary:
                shutil.copyfile(file, temporary)
        else:
            found = read_label(file)
            write_label(content, found.array, found.affine)
    for other in records.label_files(folder.parent, folder.name).get(case, []):
        if not (lies_there and other.samefile(target)):
            records.put_aside(other)
    if not lies_there:
        content.replace(target)
    return target


def _queue(paths: "ResultPaths", dataset: str) -> dict[str, str]:
    """Return why each case of a dataset is up for review, by case, as the queue says; nothing where there is none."""
    table = Path(f"{paths.review}/queue.csv")
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        own = [row for row in csv.DictReader(file) if row.get("dataset", dataset) == dataset]
    return {
        row["case"]: row["picked_by"] for row in own if row.get("picked_by") in records.PICKED_BY
    }


def _undo(options: Namespace) -> None:
    own = reviewed(options)
    dataset, case = _on_record(own, options.case)
    record = records.record_of(own.folder, dataset, case)
    last = records.read_record(record)[-1]
    if last["action"] == records.TAKEN_BACK:
        raise InputError(f"{record}: taken back already, by {last['who']} ({last['when']})")
    entry = records.entry(records.TAKEN_BACK, options.who, options.why)
    aside = [
        records.put_aside(label) for label in records.label_files(own.folder, dataset).get(case, [])
    ]
    if aside:
        entry["file"] = f"{records.ASIDE}/{aside[0].name}"
    records.append(own.folder, dataset, case, entry)
    what = "the delivered label holds again" if aside else "the case counts as not reviewed"
    print(f"{dataset}/{case}: {what}; on record in {record}")


def _on_record(own: Reviewed, name: str) -> tuple[str, str]:
    """Return dataset and case of a record; also of a case that the data no longer have."""
    dataset, slash, case = name.rpartition("/")
    asked = [dataset] if slash else list(own.study.datasets)
    found = [one for one in asked if records.record_of(own.folder, one, case).is_file()]
    if len(found) == 1:
        return found[0], case
    if found:
        raise InputError(f"{name}: a case of {len(found)} datasets; write DATASET/{case}")
    raise InputError(f"{own.folder}: nothing is on record of a case {name}")


# --- preview --------------------------------------------------------------------------------------


def _preview(options: Namespace) -> None:
    from segstudy import preview_command

    if not options.json:
        print("\n".join(in_lines(reviewed(options))))
        print()
    preview_command.run(
        Namespace(
            study=options.study, targets=[], config=options.config, partial=False, json=options.json
        )
    )


def in_lines(own: Reviewed) -> list[str]:
    """Return the corrections of a study in lines: what changed, who tests and who learns from it, and whether results have it."""
    from segstudy.cases import read_cases, read_splits
    from segstudy.review.differences import in_words

    folds = {}
    if Path(own.paths.splits).is_file():
        folds = {(one.dataset, one.case): one.fold for one in read_splits(own.paths.splits)}
    lines = []
    for dataset in own.study.datasets:
        table = Path(own.paths.cases(dataset))
        cases = {one.case: one for one in read_cases(table)} if table.is_file() else {}
        held = {name for name, one in cases.items() if one.delivered_label}
        corrected = records.corrected(own.folder, dataset)
        for name, one in corrected.items():
            has = name in held and table.stat().st_mtime_ns >= one.label.stat().st_mtime_ns
            lines.append(
                f"{dataset}/{name}: {in_words(one.last['changed'])}; {_place_in_folds(own.study, folds.get((dataset, name)))}"
                f"; {'in the results' if has else 'not in the results yet'}"
            )
        lines += [
            f"{dataset}/{name}: taken back; still in the results"
            for name in sorted(held - set(corrected))
        ]
    return lines or [f"{own.folder}: no corrections"]


def _place_in_folds(study: "Study", fold: int | None) -> str:
    if fold is None or fold < 0:
        return "tested and learned from as its dataset's role says"
    others = [str(one) for one in study.folds if one != fold]
    return f"tested in fold {fold}" + (f", learned from in {', '.join(others)}" if others else "")
