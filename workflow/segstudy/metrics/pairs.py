"""Which prediction belongs to which reference, and measuring many pairs at a time."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segstudy.cases import read_cases, read_splits, repaired_labels, tested
from segstudy.errors import InputError
from segstudy.images.files import compare_grids, read_label, within_memory
from segstudy.images.headers import say_warnings
from segstudy.images.names import is_image, stem
from segstudy.log import log, progress
from segstudy.metrics import slices
from segstudy.metrics.measure import Measures, absent, measure, missing, with_groups
from segstudy.metrics.overlap import Confusion, confusion
from segstudy.metrics.table import confusion_rows, rows
from segstudy.study import MeasureSettings

BACKGROUND = "background"


@dataclass(frozen=True)
class Measured:
    """What was found in a pair. counted: None where there is no prediction."""

    measures: list[Measures]
    counted: Confusion | None
    diagonal_mm: float


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction, which is None where there is no file."""

    case: str
    subject: str
    reference: Path
    prediction: Path | None


def of_files(reference: Path, prediction: Path) -> list[Pair]:
    """One pair of files, or the files of two folders with the same names but for the suffix.

    A reference without a prediction stays in; predictions without a reference are named in the log.
    """
    if reference.is_dir() != prediction.is_dir() and reference.exists() and prediction.exists():
        raise InputError(f"{reference} and {prediction}: expected two files or two folders")
    if not reference.is_dir():
        for path in (reference, prediction):
            if not path.exists():
                raise InputError(f"{path}: no such file or folder")
        case = stem(reference)
        return [Pair(case, case, reference, prediction)]
    references, predictions = label_files(reference), label_files(prediction)
    if not references:
        raise InputError(f"{reference}: no label maps; expected files such as case.nii.gz")
    unknown = sorted(set(predictions) - set(references))
    if unknown:
        log.warning(
            "%s: %d files without a reference are not measured, e.g. %s",
            prediction,
            len(unknown),
            predictions[unknown[0]].name,
        )
    if not set(predictions) & set(references):
        raise InputError(
            f"{prediction}: none of its files has the name of a reference, e.g. "
            f"{next(iter(references.values())).name}; names must agree but for the suffix"
        )
    return [Pair(case, case, path, predictions.get(case)) for case, path in references.items()]


def of_study(
    cases: Path, labels: Path | None, predictions: Path, splits: Path, fold: int, dataset: str
) -> list[Pair]:
    """The dataset's cases that the model of a fold is tested on."""
    names = tested(read_splits(splits), fold, dataset)
    if not names:
        raise InputError(f"{splits}: no case of dataset {dataset} is tested in fold {fold}")
    found = label_files(predictions)
    return [
        Pair(case.case, case.subject, case.label, found.get(case.case))
        for case in repaired_labels(read_cases(cases, names), labels)
    ]


def label_files(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, sorted."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_image(path) and not path.name.startswith("."):
            if stem(path) in found:
                raise InputError(
                    f"{folder}: {found[stem(path)].name} and {path.name} have one name"
                )
            found[stem(path)] = path
    return found


def measured(
    pairs: list[Pair], settings: MeasureSettings, labels: Mapping[str, object], threads: int = 1
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of the tables of measures and of confusion for all pairs, in their order.

    `threads` pairs are measured at a time.

    Without named structures every label value that a pair holds is one, named by its value; a
    value that only other pairs hold is there as empty.
    """
    for pair in pairs:
        if pair.prediction is None:
            log.warning("case %s: no prediction; its rows say missing_file", pair.case)
    pool = ThreadPoolExecutor(threads)
    try:
        # The kernels release the interpreter's lock, as does unpacking the files.
        running = [pool.submit(_within_memory, pair, settings) for pair in pairs]
        results = [job.result() for job in progress(running, "cases measured")]
    finally:
        pool.shutdown(cancel_futures=True)
    names = list(with_groups(settings.structures, settings.groups))
    if not names:
        seen = {one.structure for found in results for one in found.measures}
        names = sorted(seen, key=int)
    names_of = {value: name for name, value in settings.structures.items()} | {0: BACKGROUND}
    table, confused = [], []
    for pair, found in zip(pairs, results, strict=True):
        by_name = {one.structure: one for one in found.measures}
        complete = [by_name.get(name) or absent(name, settings.metrics) for name in names]
        surface, diagonal_mm = settings.metrics.surface, found.diagonal_mm
        table += rows(labels, pair.case, pair.subject, complete, surface, diagonal_mm)
        if found.counted is not None:
            confused += confusion_rows(labels, pair.case, found.counted, names_of)
    return table, confused


def _within_memory(pair: Pair, settings: MeasureSettings) -> Measured:
    with within_memory(pair.case, pair.reference):
        return _measured(pair, settings)


def _measured(pair: Pair, settings: MeasureSettings) -> Measured:
    say_warnings([path for path in (pair.reference, pair.prediction) if path], pair.case)
    reference = read_label(pair.reference)
    prediction = read_label(pair.prediction) if pair.prediction else None
    if prediction is not None:
        difference = compare_grids(reference.grid, prediction.grid)
        if difference:
            raise InputError(
                f"{pair.prediction}: case {pair.case}: other grid than its reference "
                f"{pair.reference}: {difference}; predictions are measured on the native grid"
            )
    structures = with_groups(settings.structures, settings.groups)
    if not structures:
        arrays = [image.array for image in (reference, prediction) if image is not None]
        structures = {str(value): (value,) for value in _values(arrays)}
    diagonal_mm = float(np.linalg.norm(np.multiply(reference.grid.shape, reference.spacing_mm)))
    sides = settings.left_right_pairs
    if prediction is None:
        return Measured(
            missing(reference.array, structures, settings.metrics, sides), None, diagonal_mm
        )
    arrays = (reference.array, prediction.array)
    counted = confusion(*arrays, [value for merged in structures.values() for value in merged])
    measures = measure(*arrays, reference.spacing_mm, structures, settings.metrics, counted, sides)
    if settings.metrics.slice_axis != "none":
        axis = slices.stored_axis(reference.affine, settings.metrics.slice_axis)
        sliced = slices.by_slice(*arrays, structures, axis)
        measures = [replace(one, values=one.values | sliced[one.structure]) for one in measures]
    return Measured(measures, counted, diagonal_mm)


def _values(arrays: list[np.ndarray]) -> list[int]:
    """Label values in the arrays, without the background."""
    counts = [np.flatnonzero(np.bincount(array.ravel())) for array in arrays]
    return [int(value) for value in np.unique(np.concatenate(counts)) if value > 0]
