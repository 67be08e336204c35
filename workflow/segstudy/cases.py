"""The case table, a row a case with its files and measures, and the table of splits."""

import argparse
import csv
import hashlib
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segstudy.errors import InputError
from segstudy.files import parse_json, write_text
from segstudy.images.names import stem


@dataclass(frozen=True)
class Case:
    """Hold a labelled image, or a label map without image.

    Parameters
    ----------
    case, subject
        Names.
    images
        One file a channel, or one file whose fourth axis is the channel; none for a label map
        alone.
    label
        The label as delivered, or as corrected since; `repaired_labels` puts the repaired one in its place.
    delivered_label
        The label as delivered, where another one was accepted as its correction.
    corrected_from
        Of such a case, the digest of the voxels (`label_checksum`) of the label that was corrected.
    reference_label
        A second, right label, for label repair.
    fold
        The fold in which the case is tested, where the user fixed it.
    split
        `train` or `test`, where the user fixed it.
    same_image_as
        The case, delivered under another subject, that has the same image; `subject` is then that
        case's.
    shape, spacing_mm
        Voxels and voxel size along i, j, k, as stored.
    voxels
        Voxels of each structure in the delivered label.
    checksum
        Of the image's voxels in RAS (of a label map's, without image), the same whatever name and format the file has; empty
        where it is not known.
    """

    case: str
    subject: str
    images: tuple[Path, ...]
    label: Path
    reference_label: Path | None = None
    fold: int | None = None
    split: str | None = None
    same_image_as: str | None = None
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    voxels: dict[str, int] = field(default_factory=dict)
    checksum: str = ""
    delivered_label: Path | None = None
    corrected_from: str = ""

    @property
    def files(self) -> list[Path]:
        """Return all files of the case."""
        others = (self.reference_label, self.delivered_label)
        return [*self.images, self.label, *(label for label in others if label)]


@dataclass(frozen=True)
class Labelled:
    """Hold a case with the meaning of its label values.

    Parameters
    ----------
    dataset
        Name.
    case
        The case.
    structures
        Structure -> value in the dataset's labels.
    ignore
        Values of voxels that nobody has labelled.
    """

    dataset: str
    case: Case
    structures: Mapping[str, int]
    ignore: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Return `dataset/case`."""
        return f"{self.dataset}/{self.case.case}"


CORRECTION_COLUMNS = ["delivered_label", "corrected_from"]


def write_cases(path: Path | str, cases: Iterable[Case], channels: Sequence[str]) -> None:
    """Write the case table. Files below the table's folder are named relative to it."""
    path = Path(path)
    cases = sorted(cases, key=lambda case: case.case)
    count = max((len(case.images) for case in cases), default=1)
    images = ["image"] if count == 1 else [f"image_{channel}" for channel in channels[:count]]
    structures = list(cases[0].voxels) if cases else []
    columns = ["case", "subject", *images, "label", "reference_label", "fold", "split"]
    columns += [
        "same_image_as",
        "checksum",
        "shape",
        "spacing_mm",
        *[f"voxels_{name}" for name in structures],
    ]
    # Tables of studies without corrections stay as they are.
    has_corrections = any(case.delivered_label for case in cases)
    columns += CORRECTION_COLUMNS if has_corrections else []
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for case in cases:
        writer.writerow(
            [
                case.case,
                case.subject,
                *[_relative(image, path.parent) for image in case.images],
                _relative(case.label, path.parent),
                _relative(case.reference_label, path.parent) if case.reference_label else "",
                "" if case.fold is None else case.fold,
                case.split or "",
                case.same_image_as or "",
                case.checksum,
                "x".join(str(size) for size in case.shape),
                "x".join(f"{size:.6g}" for size in case.spacing_mm),
                *[case.voxels[name] for name in structures],
                *(_correction(case, path.parent) if has_corrections else []),
            ]
        )
    write_text(path, text.getvalue())


def _correction(case: Case, folder: Path) -> list[str]:
    delivered = _relative(case.delivered_label, folder) if case.delivered_label else ""
    return [delivered, case.corrected_from]


def read_cases(path: Path | str, select: Iterable[str] | None = None) -> list[Case]:
    """Read a table that `write_cases` wrote.

    Parameters
    ----------
    path
        The table.
    select
        Names of the cases to return, in the table's order; None: all.

    Raises
    ------
    InputError
        For a missing table, and for a selected case that the table lacks.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such case table") from None
    cases = [_case(row, path.parent) for row in rows]
    if select is None:
        return cases
    wanted = set(select)
    missing = wanted - {case.case for case in cases}
    if missing:
        raise InputError(f"{path}: no case {sorted(missing)[0]!r}")
    return [case for case in cases if case.case in wanted]


def _case(row: dict[str, str], folder: Path) -> Case:
    images = [
        value
        for key, value in row.items()
        if key is not None and (key == "image" or key.startswith("image_")) and value
    ]
    return Case(
        case=row["case"],
        subject=row["subject"],
        images=tuple(folder / image for image in images),
        label=folder / row["label"],
        reference_label=folder / row["reference_label"] if row["reference_label"] else None,
        fold=int(row["fold"]) if row["fold"] else None,
        split=row["split"] or None,
        same_image_as=row.get("same_image_as") or None,
        checksum=row.get("checksum") or "",
        delivered_label=folder / row["delivered_label"] if row.get("delivered_label") else None,
        corrected_from=row.get("corrected_from") or "",
        shape=tuple(int(size) for size in row["shape"].split("x") if size),
        spacing_mm=tuple(float(size) for size in row["spacing_mm"].split("x") if size),
        voxels={
            key.removeprefix("voxels_"): int(value)
            for key, value in row.items()
            if key.startswith("voxels_")
        },
    )


def _relative(file: Path, folder: Path) -> str:
    """Name a file relative to the folder where it lies below that; otherwise by its absolute path."""
    file, folder = Path(os.path.abspath(file)), Path(os.path.abspath(folder))
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def repaired_labels(cases: Sequence[Case], folder: Path | str | None) -> list[Case]:
    """Replace each case's delivered label by the repaired one, `folder/<shard>/<case>.nii.gz`.

    Parameters
    ----------
    cases
        The cases.
    folder
        Output of the repair stage; None where the dataset has no repair, which changes nothing.

    Raises
    ------
    InputError
        For a case without a repaired label.
    """
    if folder is None:
        return list(cases)
    repaired = {stem(path): path for path in Path(folder).glob("*/*.nii.gz")}
    missing = [case.case for case in cases if case.case not in repaired]
    if missing:
        raise InputError(f"{folder}: no repaired label of case {missing[0]}; run repair first")
    return [replace(case, label=repaired[case.case]) for case in cases]


UNCORRECTED = "uncorrected"
"""The folder, in that of a shard's repaired labels, of repaired labels that a correction took the place of."""


def uncorrected_labels(cases: Sequence[Case], folder: Path | str | None) -> list[Case]:
    """Replace each case's label by what it was before any correction: the repaired one, or as delivered.

    The parameters and errors are those of `repaired_labels`.
    """
    if folder is None:
        return [
            replace(case, label=case.delivered_label or case.label, delivered_label=None)
            for case in cases
        ]
    before = {stem(path): path for path in Path(folder).glob(f"*/{UNCORRECTED}/*.nii.gz")}
    return [
        replace(case, label=before.get(case.case, case.label))
        for case in repaired_labels(cases, folder)
    ]


def shards(cases: Iterable[str], cases_per_job: int) -> dict[str, list[str]]:
    """Divide cases into shards, one for each job.

    The shard of a case follows from a hash of its name and from the number of shards, which is a
    power of two, so that one more case changes one shard, and all of them only when the cohort
    has outgrown the number. Shards of one case have its name.

    Parameters
    ----------
    cases
        Names.
    cases_per_job
        Cases of a shard, on average at most.

    Returns
    -------
    dict
        Name of the shard -> its cases.
    """
    cases = sorted(cases)
    if cases_per_job == 1:
        return {case: [case] for case in cases}
    number = 1
    while number * cases_per_job < len(cases):
        number *= 2
    by_shard: dict[str, list[str]] = {}
    for case in cases:
        bucket = int.from_bytes(hashlib.sha256(case.encode()).digest()[:8], "big") % number
        by_shard.setdefault(f"{bucket:03d}-of-{number:03d}", []).append(case)
    return dict(sorted(by_shard.items()))


def ignored_values(text: str) -> dict[str, tuple[int, ...]]:
    """Read the option `--ignore`, JSON {dataset: [value, ...]}; InputError for anything else."""
    values = parse_json(text, "--ignore")
    try:
        ignored = {name: tuple(numbers) for name, numbers in values.items()}
    except (AttributeError, TypeError):
        ignored = {"": (None,)}
    if not all(type(value) is int for numbers in ignored.values() for value in numbers):
        raise InputError(f'--ignore {text}: expected JSON, {{"DATASET": [VALUE, ...]}}')
    return ignored


# --- splits -------------------------------------------------------------------------------------


ALL = "all"
"""In place of a fold: what is trained on every case but those that are only for testing, for use outside the study."""


def fold_number(text: str) -> int | str:
    """Read a fold of a command line: a number from 0, or `all`; argparse.ArgumentTypeError for anything else."""
    if text == ALL:
        return ALL
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected a fold, counted from 0, or {ALL}")
    return int(text)


UNTESTED = -1
"""`Split.fold` of a label map alone, which no fold tests and every fold trains on; `train` in the table."""

LEFT_OUT = -2
"""`Split.fold` of a case that is neither trained on nor tested; `left out` in the table."""

NO_FOLD = (None, UNTESTED, LEFT_OUT)
"""`Split.fold` of cases that no single fold tests."""


@dataclass(frozen=True)
class Split:
    """Hold the fold that tests a case, and so does not train on it.

    Parameters
    ----------
    dataset, case, subject
        Names.
    fold
        None for cases that every fold's model is tested on; `UNTESTED` for those that none is, `LEFT_OUT` for those that none
        is trained on either.
    origin
        Where a fold that tests the case is from, one of `ORIGINS`; else empty, and so in tables of older versions.
    """

    dataset: str
    case: str
    subject: str
    fold: int | None
    origin: str = ""


SEED, JOINED, FROM_FILE, FROM_TABLE = ORIGINS = ("seed", "joined", "file", "table")
"""Dealt with all others by the seed; put later where it was missed most; as the file of folds, or the case table, had it."""


def write_splits(path: Path | str, splits: Iterable[Split]) -> None:
    """Write the table of splits."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["dataset", "case", "subject", "fold", "origin"])
    for split in splits:
        fold = {None: "", UNTESTED: "train", LEFT_OUT: "left out"}.get(split.fold, split.fold)
        writer.writerow([split.dataset, split.case, split.subject, fold, split.origin])
    write_text(path, text.getvalue())


def read_splits(path: Path | str) -> list[Split]:
    """Read a table that `write_splits` wrote; InputError for a missing one."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such table of splits") from None
    words = {"": None, "train": UNTESTED, "left out": LEFT_OUT}
    return [
        Split(
            row["dataset"],
            row["case"],
            row["subject"],
            words[row["fold"]] if row["fold"] in words else int(row["fold"]),
            row.get("origin") or "",
        )
        for row in rows
    ]


def tested(splits: Iterable[Split], fold: int, dataset: str) -> list[str]:
    """List the dataset's cases that the model of a fold is tested on."""
    return [
        split.case for split in splits if split.dataset == dataset and split.fold in (fold, None)
    ]


def training_side(
    splits: Iterable[Split], fold: int | str, datasets: Collection[str] | None = None
) -> list[Split]:
    """List the cases that a fold's models may learn from.

    Parameters
    ----------
    splits
        The table of splits.
    fold
        The fold, counted from 0; or `ALL`, which leaves no fold out.
    datasets
        Datasets whose cases count; None: all.
    """
    return [
        split
        for split in splits
        if split.fold not in (fold, None, LEFT_OUT)
        and (datasets is None or split.dataset in datasets)
    ]


def leaks_on_request(splits: Iterable[Split]) -> bool:
    """Tell whether a subject stands in several folds, as it does in studies that ask for leaks alone."""
    folds: dict[str, int] = {}
    return any(
        folds.setdefault(split.subject, split.fold) != split.fold
        for split in splits
        if split.fold not in NO_FOLD
    )


def trained(
    splits: Iterable[Split],
    fold: int | str,
    validation_fraction: float,
    seed: int,
    subset: tuple[int, int] | None = None,
    datasets: Collection[str] | None = None,
) -> tuple[list[Split], list[Split]]:
    """Divide a fold's training side into training cases and cases of held-out validation.

    Subjects are kept whole. The held-out subjects follow from a hash of their name and the seed, so
    that one more case changes no other's role. At least one subject is held out where
    `validation_fraction` is above 0, and at least one is trained on.

    Parameters
    ----------
    splits
        The table of splits.
    fold
        The fold, counted from 0, or `ALL`.
    validation_fraction
        Fraction of the subjects that is held out.
    seed
        Decides which subjects are held out.
    subset
        How many subjects the model may see at all, held-out ones among them, and the seed of the
        draw. They are drawn anew for each `seed`; of the same two seeds, the smaller draw lies
        within the larger one.
    datasets
        Datasets whose cases count; None: all.

    Returns
    -------
    training, validation : list of Split

    Raises
    ------
    InputError
        Where the fold has fewer subjects than the subset asks for.
    """
    training = training_side(splits, fold, datasets)
    subjects = _shuffled({(split.dataset, split.subject) for split in training}, seed)
    if subset is not None:
        wanted, draw = subset
        if wanted > len(subjects):
            raise InputError(
                f"training_subset.subjects: {wanted}, but fold {fold} has {len(subjects)} subjects to "
                "train on; lower it, or give more cases"
            )
        drawn = set(_shuffled(subjects, f"subset/{draw}/{seed}")[:wanted])
        subjects = [subject for subject in subjects if subject in drawn]
        training = [split for split in training if (split.dataset, split.subject) in drawn]
    count = round(len(subjects) * validation_fraction)
    if validation_fraction > 0 and len(subjects) > 1:
        count = max(count, 1)
    apart = set(subjects[:count])
    return (
        [split for split in training if (split.dataset, split.subject) not in apart],
        [split for split in training if (split.dataset, split.subject) in apart],
    )


def _shuffled(subjects: Iterable[tuple[str, str]], seed: int | str) -> list[tuple[str, str]]:
    """Sort subjects (dataset, name) by a hash of each and the seed."""
    return sorted(
        subjects, key=lambda subject: hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    )


def anonymous_name(name: str) -> str:
    """Return the digest that stands for a case, `dataset/case`, in weights that name nobody."""
    return hashlib.sha256(f"segstudy case {name}".encode()).hexdigest()[:32]


def seen_images(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the images that weights have seen: checksum -> name of the case, those of the weights that they started from, too.

    Parameters
    ----------
    provenance
        Of a weights file; empty where it knows no checksums.
    """
    before, own = provenance.get("initial_weights") or {}, provenance.get("images") or {}
    inherited = {
        checksum: name if "(of " in name else f"{name} (of {before.get('file')})"
        for checksum, name in (before.get("images") or {}).items()
    }
    return {**inherited, **{checksum: name for name, checksum in own.items()}}
