"""Pairs of reference and prediction, and their measurement, many at a time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segstudy import metric
from segstudy.cases import read_cases, read_splits, repaired_labels, tested, uncorrected_labels
from segstudy.errors import InputError
from segstudy.images.files import (
    Image,
    has_grid,
    other_numbers,
    read_grid,
    within_memory,
)
from segstudy.images.fitting import (
    extended,
    fitted,
    fitted_probabilities,
    has_same_voxels,
    resampled,
)
from segstudy.images.grids import Grid
from segstudy.images.headers import say_warnings
from segstudy.images.named_labels import read_named
from segstudy.images.names import composed, stem
from segstudy.images.segments import check_segment_names
from segstudy.images.size_outliers import Size, find_size_outliers, image_size
from segstudy.log import log, progress
from segstudy.metrics import label_values, own_metrics, slice_dice
from segstudy.metrics.calibration import read_probabilities, with_calibration
from segstudy.metrics.folders import (
    check_endings,
    check_layout,
    is_one_image,
    label_files,
    one_file_per_structure,
    unread,
)
from segstudy.metrics.measure import UNDEFINED, Measures, absent, measure, missing, with_regions
from segstudy.metrics.overlap import Confusion, confusion
from segstudy.metrics.surface import SLACK
from segstudy.metrics.table import confusion_rows, instance_rows, measure_rows
from segstudy.regions import measured_regions
from segstudy.study import MeasureSettings

BACKGROUND = "background"
SHOWN = 20  # cases that a message lists


@dataclass(frozen=True)
class PairResult:
    """Measures of a pair.

    Attributes
    ----------
    counted
        Its confusion; None where there is no prediction.
    """

    measures: list[Measures]
    counted: Confusion | None
    diagonal_mm: float
    voxel_mm3: float
    held: label_values.ValueCounts
    size: Size


class Tables(NamedTuple):
    """Rows of the tables of measures, of confusion, and of lesions."""

    measures: list[dict[str, object]]
    confusion: list[dict[str, object]]
    instances: list[dict[str, object]]


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction.

    Attributes
    ----------
    case
        Its name.
    subject
        Empty where no table names one.
    reference
        File of the reference.
    prediction
        None where there is no file.
    probabilities
        File of the class probabilities; None where they are not measured.
    """

    case: str
    subject: str
    reference: Path
    prediction: Path | None
    probabilities: Path | None = None


def measured_structures(settings: MeasureSettings) -> dict[str, tuple[int, ...]]:
    """Return the structures and composite regions that are measured: name -> values in the labels."""
    structures = list(settings.structures)
    regions = measured_regions(
        settings.metrics.composite_regions, settings.left_right_pairs, structures
    )
    return with_regions(settings.structures, regions)


def of_files(reference: Path, prediction: Path, structures: Collection[str] = ()) -> list[Pair]:
    """Pair two files, or the files of two folders with the same names but for the suffix.

    Beside a file, the folder of a DICOM object or of a stack of pictures is one image.

    A reference without a prediction stays in; predictions without a reference are named in the log.

    Parameters
    ----------
    reference, prediction
        Two label maps, or two folders of label maps.
    structures
        Names of the measured structures, which no file may bear.
    """
    for path in (reference, prediction):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    folders = [path for path in (reference, prediction) if path.is_dir()]
    file = prediction if reference.is_dir() else reference
    if len(folders) == 1 and not is_one_image(folders[0], stem(file)):
        message = f"{reference} and {prediction}: expected two files or two folders"
        files = label_files(prediction) if prediction.is_dir() else {}
        if len(files) > 1 and stem(reference) not in files:
            message += f"; if {prediction} holds {one_file_per_structure(files.values())}"
        raise InputError(message)
    if len(folders) < 2:
        case = composed(reference.name) if reference.is_dir() else stem(reference)
        for path in (prediction, reference):
            if len(structures) > 1 and stem(path) in structures:
                raise InputError(f"{path}: {one_file_per_structure([path])}")
        return [Pair(case, "", reference, prediction)]
    references, predictions = label_files(reference), label_files(prediction)
    check_layout(reference, references)
    check_layout(prediction, predictions, set(references) - set(predictions))
    check_endings(reference, set(predictions) - set(references))
    for path in (path for case, path in unread(reference).items() if case not in references):
        log.warning("%s: not read, by its ending; a case of this name is not measured", path)
    for folder, files in ((reference, references), (prediction, predictions)):
        if set(files) & set(structures):
            raise InputError(f"{folder}: {one_file_per_structure(files.values())}")
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
    return [Pair(case, "", path, predictions.get(case)) for case, path in references.items()]


def with_probabilities(pairs: Sequence[Pair], folder: Path) -> list[Pair]:
    """Return the pairs with the files of their probabilities, `<case>.npz` in a folder.

    Raises
    ------
    InputError
        With the predicted cases that have none.
    """
    files = {pair.case: folder / f"{pair.case}.npz" for pair in pairs if pair.prediction}
    missing_files = [path.name for path in files.values() if not path.is_file()]
    if missing_files:
        shown = ", ".join(missing_files[:SHOWN])
        raise InputError(
            f"--probabilities {folder}: no {shown} ({len(missing_files)} of {len(files)} predicted cases); expected one "
            "of each"
        )
    return [replace(pair, probabilities=files.get(pair.case)) for pair in pairs]


def of_study(
    cases: Path,
    labels: Path | None,
    predictions: Path,
    splits: Path,
    fold: int,
    dataset: str,
    drawn_only: bool = False,
) -> list[Pair]:
    """Pair the dataset's cases that the model of a fold is tested on with their predictions.

    Parameters
    ----------
    cases
        Case table.
    labels
        Folder of repaired labels, if any.
    predictions
        Folder of label maps.
    splits
        Table of splits.
    fold
        Number of the fold.
    dataset
        Name of the dataset.
    drawn_only
        Whether cases without a prediction are left out, be it all: a second reader draws what they choose.
    """
    names = tested(read_splits(splits), fold, dataset)
    if not names:
        raise InputError(f"{splits}: no case of dataset {dataset} is tested in fold {fold}")
    files = label_files(predictions)
    if drawn_only:
        names = [name for name in names if name in files]
    else:
        check_layout(predictions, files, set(names) - set(files))
    return [
        Pair(case.case, case.subject, case.label, files.get(case.case))
        for case in repaired_labels(read_cases(cases, names), labels)
    ]


def uncorrected(pairs: Sequence[Pair], cases: Path, labels: Path | None) -> list[Pair]:
    """Take each pair's reference as it was before any correction.

    Parameters
    ----------
    pairs
        As `of_study` gives them.
    cases
        Case table.
    labels
        Folder of repaired labels, if any.
    """
    chosen = uncorrected_labels(read_cases(cases, [pair.case for pair in pairs]), labels)
    before = {case.case: case.label for case in chosen}
    return [replace(pair, reference=before[pair.case]) for pair in pairs]


def measure_pairs(
    pairs: list[Pair],
    settings: MeasureSettings,
    labels: Mapping[str, object],
    threads: int = 1,
    audited: bool = False,
) -> Tables:
    """Measure all pairs and return the rows of the tables, in the order of the pairs.

    Without named structures every label value that a pair holds is one, named by its value; a value
    that only other pairs hold is there as empty.

    Parameters
    ----------
    pairs
        References and predictions.
    settings
        Structures and metrics.
    labels
        Columns that all rows share, such as model and fold.
    threads
        Pairs measured at the same time.
    audited
        Whether sizes and values of the references have been judged already, in the whole
        cohort.

    Raises
    ------
    InputError
        For all pairs that cannot be measured, for references out of proportion to the others,
        and for values that have no meaning.
    """
    for pair in pairs:
        if pair.prediction is None:
            log.warning("case %s: no prediction; its rows say missing_file", pair.case)
    if not settings.structures:
        check_segment_names(
            path for pair in pairs for path in (pair.reference, pair.prediction) if path
        )
    own = own_metrics.load(settings.metrics.plugins)
    pool = ThreadPoolExecutor(threads)
    try:
        # The kernels release the interpreter's lock, as does unpacking the files.
        running = [pool.submit(_within_memory, pair, settings, audited, own) for pair in pairs]
        results = _all_or_none(pairs, progress(running, "cases measured"))
    finally:
        pool.shutdown(cancel_futures=True)
    held = [result.held for result in results]
    if not audited:
        _check_sizes(pairs, results)
        label_values.check_references(held, settings)
    label_values.check_predictions(held, settings)
    _warn_of_tolerances(pairs, results, settings)
    names = list(measured_structures(settings))
    if not names:
        values = {measures.structure for result in results for measures in result.measures}
        names = sorted(values, key=int)
    names_of = {value: name for name, value in settings.structures.items()} | {0: BACKGROUND}
    tables = Tables([], [], [])
    for pair, result in zip(pairs, results, strict=True):
        by_name = {measures.structure: measures for measures in result.measures}
        complete = [by_name.get(name) or absent(name, settings.metrics) for name in names]
        surface, sizes = settings.metrics.surface, (result.diagonal_mm, result.voxel_mm3)
        named = (labels, pair.case, pair.subject)
        tables.measures.extend(measure_rows(*named, complete, surface, *sizes))
        tables.instances.extend(instance_rows(*named, complete))
        if result.counted is not None:
            tables.confusion.extend(confusion_rows(labels, pair.case, result.counted, names_of))
    return tables


def _all_or_none(pairs: Sequence[Pair], running: Iterable[Future]) -> list[PairResult]:
    results, errors = [], []
    for pair, job in zip(pairs, running, strict=True):
        try:
            results.append(job.result())
        except InputError as error:
            errors.append(_with_case(pair, str(error)))
    _raise(errors, f"{len(errors)} of {len(pairs)} cases cannot be measured")
    return results


def _check_sizes(pairs: Sequence[Pair], results: Sequence[PairResult]) -> None:
    """Refuse references whose voxels and size are out of all proportion to the others'."""
    sizes = {pair.case: result.size for pair, result in zip(pairs, results, strict=True)}
    judgements = find_size_outliers(sizes)
    lines = [
        f"{pair.reference}: case {pair.case}: {judgements[pair.case]}"
        for pair in pairs
        if pair.case in judgements
    ]
    _raise(lines, f"{len(lines)} of {len(pairs)} cases are out of proportion")


def _warn_of_tolerances(
    pairs: Sequence[Pair], results: Sequence[PairResult], settings: MeasureSettings
) -> None:
    """Warn of tolerances below the shortest side of a voxel, within which hardly anything but the same voxel lies."""
    own = map(settings.metrics.own_tolerance_mm, measured_structures(settings))
    shortest = {
        pair.case: min(result.size.spacing_mm) for pair, result in zip(pairs, results, strict=True)
    }
    for tolerance in sorted({*settings.metrics.nsd_tolerance_mm, *filter(None, own)}):
        below = [case for case, side in shortest.items() if side > tolerance * (1 + SLACK)]
        if below:
            log.warning(
                "NSD at %g mm: less than the shortest side of a voxel in %s: it counts little but voxels in the same "
                "place; metrics.nsd_tolerance_mm, nsd_tolerance_of: expected a voxel's side or more",
                tolerance,
                f"{len(below)} cases ({', '.join(below[:SHOWN])})",
            )


def _raise(lines: Sequence[str], total: str) -> None:
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more"]
    if lines:
        raise InputError("\n".join([*lines, total] if len(lines) > 1 else lines))


def _with_case(pair: Pair, text: str) -> str:
    """Put the case behind the file's name in an error about one of a pair's files."""
    if f"case {pair.case}:" in text:
        return text
    path = next(
        (file for file in (pair.reference, pair.prediction) if text.startswith(f"{file}: ")), ""
    )
    return f"{path}: case {pair.case}: {text.removeprefix(f'{path}: ')}".removeprefix(": ")


def _within_memory(
    pair: Pair, settings: MeasureSettings, audited: bool, own: Sequence[own_metrics.OwnMetric]
) -> PairResult:
    with within_memory(pair.case, pair.reference):
        return _measure_pair(pair, settings, audited, own)


def _read(
    path: Path,
    case: str,
    named: Mapping[str, Sequence[int]],
    others: bool,
    ignore: Collection[int],
    grid: Grid | None = None,
) -> Image:
    """Read a label map, with the values of the structures that a file itself names.

    Parameters
    ----------
    named
        Structure -> its values.
    others
        Whether segments of other names are background.
    ignore
        Further values that keep their voxels where segments overlap.
    grid
        Of the other file of the pair, for contours, which have none.
    """
    return _told(read_named(path, named, others, ignore, grid), path, case)


def _told(label: Image, path: Path, case: str) -> Image:
    """Say the notes of a label map in the log."""
    for text in label.notes:
        log.warning("%s: case %s: %s", path, case, text)
    return label


def _measure_pair(
    pair: Pair, settings: MeasureSettings, audited: bool, own: Sequence[own_metrics.OwnMetric]
) -> PairResult:
    say_warnings([path for path in (pair.reference, pair.prediction) if path], pair.case)
    structure_values = {name: (value,) for name, value in settings.structures.items()}
    others = settings.background_labels == "all"
    # What the audit has passed has the study's values.
    grid = read_grid(pair.prediction) if pair.prediction and not has_grid(pair.reference) else None
    named = {} if audited else structure_values
    reference = _read(pair.reference, pair.case, named, others, settings.ignore, grid)
    predicted_as = settings.prediction_labels or structure_values
    prediction = pair.prediction and _read(
        pair.prediction, pair.case, predicted_as, others, settings.ignore, reference.grid
    )
    ignored = label_values.ignored_voxels(reference.array, settings.ignore)
    known = label_values.without_ignored(reference.array, ignored)
    held = label_values.ValueCounts(
        pair.case, pair.reference, pair.prediction, label_values.count_values(known), None
    )
    size = image_size(reference.grid)
    diagonal_mm = float(np.linalg.norm(np.multiply(reference.grid.shape, reference.spacing_mm)))
    voxel_mm3 = float(np.prod(reference.spacing_mm))
    sides = settings.left_right_pairs
    structures = measured_structures(settings)
    if prediction is None:
        structures = structures or _by_value(held.reference)
        measures = missing(known, reference.spacing_mm, structures, settings.metrics, sides)
        return PairResult(measures, None, diagonal_mm, voxel_mm3, held, size)
    if text := other_numbers(reference.slice_numbers, prediction.slice_numbers):
        raise InputError(
            f"{pair.prediction}: case {pair.case}: {text} of its reference {pair.reference}"
        )
    if settings.spacing_mm:
        reference = reference.with_spacing(settings.spacing_mm)
        prediction = prediction.with_spacing(settings.spacing_mm)
    if not prediction.has_spacing:
        # A picture of a volume's voxels; where shapes differ, `fitted` refuses it.
        prediction = replace(prediction, affine=reference.affine)
    as_written = prediction
    wider, prediction = _on_grid(reference, prediction, pair, settings)
    if wider is not reference:
        reference = wider
        ignored = label_values.ignored_voxels(reference.array, settings.ignore)
        known = label_values.without_ignored(reference.array, ignored)
    probabilities = None
    if pair.probabilities:
        _check_same_voxels(as_written, prediction, pair)
        of_structures = [value for values in predicted_as.values() for value in values]
        measured_values = of_structures or list(held.reference)
        probabilities = fitted_probabilities(
            read_probabilities(pair.probabilities, as_written.array, measured_values),
            as_written.grid,
            prediction.grid,
        )
    predicted = label_values.without_ignored(prediction.array, ignored)
    held = replace(held, prediction=label_values.count_values(predicted))
    arrays = (known, label_values.in_reference_values(predicted, settings))
    structures = structures or _by_value({**held.reference, **label_values.count_values(arrays[1])})
    merged = [value for structure_values in structures.values() for value in structure_values]
    counted = confusion(*arrays, merged, ignored)
    measures = measure(*arrays, reference.spacing_mm, structures, settings.metrics, counted, sides)
    if settings.metrics.slice_axis != "none":
        axis = slice_dice.stored_axis(reference.affine, settings.metrics.slice_axis)
        sliced = slice_dice.dice_by_slice(*arrays, structures, axis)
        for structure_measures in measures:
            if not structure_measures.n_reference_voxels:
                sliced[structure_measures.structure]["slice_dice"] = UNDEFINED
        measures = [
            replace(
                structure_measures,
                values=structure_measures.values | sliced[structure_measures.structure],
            )
            for structure_measures in measures
        ]
    measures = own_metrics.with_own(measures, arrays, reference.spacing_mm, structures, own)
    if probabilities is not None:
        own_values = {settings.structures[name]: predicted_as[name] for name in settings.structures}
        measures = with_calibration(measures, probabilities, known, structures, own_values, ignored)
    if not reference.has_spacing:
        measures = _without_lengths(measures, pair)
    return PairResult(measures, counted, diagonal_mm, voxel_mm3, held, size)


def _check_same_voxels(as_written: Image, prediction: Image, pair: Pair) -> None:
    """Refuse probabilities whose label map was resampled, which they cannot be."""
    if not has_same_voxels(as_written.grid, prediction.grid):
        raise InputError(
            f"{pair.probabilities}: case {pair.case}: probabilities on the grid of {pair.prediction}, which was resampled to "
            f"that of {pair.reference}; expected voxels that are the reference's own: export the prediction there, or leave "
            "out --probabilities"
        )


def _without_lengths(measures: Sequence[Measures], pair: Pair) -> list[Measures]:
    """Leave out what is measured in mm, of pictures whose voxels have no size."""
    left_out = [
        name
        for name in dict.fromkeys(name for one in measures for name in one.values)
        if name.startswith("nsd") or metric.find(name).quantity != "number"
    ]
    log.warning(
        "%s: case %s: a picture does not tell how large its voxels are: %s are left out; give the settings "
        '"spacing_mm": [column, row, slice]',
        pair.reference,
        pair.case,
        ", ".join(left_out),
    )
    return [
        replace(
            one, values={name: value for name, value in one.values.items() if name not in left_out}
        )
        for one in measures
    ]


def _on_grid(
    reference: Image, prediction: Image, pair: Pair, settings: MeasureSettings
) -> tuple[Image, Image]:
    """Bring a prediction to the grid of its reference, by resampling where the settings ask for it.

    What is predicted outside of the reference's extents is wrong: where the reference says itself that it is a part,
    and before resampling, it is extended by background.
    """
    wider = reference
    if reference.is_part and has_same_voxels(prediction.grid, reference.grid):
        wider = extended(reference, prediction)
        prediction = replace(prediction, is_part=True)
    try:
        found = fitted(prediction, wider.grid)
    except InputError as error:
        if settings.on_other_grid != "resample_prediction":
            raise InputError(
                f"{pair.prediction}: case {pair.case}: other grid than its reference {pair.reference} (named "
                f"first): {error}; predictions are measured on the native grid. Export the prediction there, or "
                'have it resampled by the settings, "on_other_grid": "resample_prediction"'
            ) from None
        try:
            wider = extended(reference, prediction)
        except InputError as apart:
            raise InputError(
                f"{pair.prediction}: case {pair.case}: other grid than its reference {pair.reference}: {apart}"
            ) from None
        found = resampled(prediction, wider.grid)
    for note in (*wider.notes[len(reference.notes) :], *found.notes[len(prediction.notes) :]):
        log.warning("%s: case %s: %s", pair.prediction, pair.case, note)
    return wider, found


def _by_value(values: Iterable[int]) -> dict[str, tuple[int, ...]]:
    """Return a structure for each value that a pair holds, named by the value."""
    return {str(value): (value,) for value in sorted(values)}
