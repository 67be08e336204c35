"""Values of label maps and their structures; values without a meaning are refused, never a silent zero."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from segstudy.errors import InputError
from segstudy.log import log
from segstudy.study import MeasureSettings

MOST_LISTED = 10
"""Values, and further cases, that a message lists."""

RUN = 256
"""Voxels that are looked at together: most are background."""


@dataclass(frozen=True)
class ValueCounts:
    """Voxels of each value in the files of a case, without the background and the ignored ones.

    Attributes
    ----------
    case
        Its name.
    reference_path
        File of the reference.
    path
        File of the prediction, if any.
    reference
        Value -> voxels.
    prediction
        Value -> voxels, in the prediction's own values; None where there is no file.
    """

    case: str
    reference_path: Path
    path: Path | None
    reference: Mapping[int, int]
    prediction: Mapping[int, int] | None


def count_values(label: np.ndarray) -> dict[int, int]:
    """Count the voxels of each value in a label map, without the background."""
    counts = _counts(label.ravel(order="K"), int(label.max(initial=0)) + 1)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


@njit(cache=True, nogil=True)
def _counts(flat, number):
    """Count the voxels of each value from 1 (number,); those of value 0 are not counted."""
    counts = np.zeros(number, np.int64)
    for start in range(0, len(flat), RUN):
        part = flat[start : start + RUN]
        any_value = part[0]
        for value in part:
            any_value |= value
        if any_value:
            for value in part:
                counts[value] += 1
    counts[0] = 0
    return counts


def ignored_voxels(reference: np.ndarray, ignore: Collection[int]) -> np.ndarray | None:
    """Return the voxels of a reference that nobody has labelled: bool, of its shape; None where there is none.

    Parameters
    ----------
    reference
        Label map (i, j, k).
    ignore
        The values that mark such voxels.
    """
    marked = np.isin(reference, list(ignore)) if ignore else None
    return marked if marked is not None and marked.any() else None


def without_ignored(label: np.ndarray, ignored: np.ndarray | None) -> np.ndarray:
    """Return a label map that is background where `ignored` is, and unchanged where `ignored` is None."""
    if ignored is None:
        return label
    emptied = label.copy(order="K")
    emptied[ignored] = 0
    return emptied


def in_reference_values(prediction: np.ndarray, settings: MeasureSettings) -> np.ndarray:
    """Return a predicted label map in the values of the references; other values become background.

    Values without a meaning become background too; `check_predictions` refuses them.
    """
    top = int(prediction.max(initial=0))
    if settings.prediction_labels:
        meaning = np.zeros(top + 1, np.uint16)
        for name, values in settings.prediction_labels.items():
            meaning[[value for value in values if value <= top]] = settings.structures[name]
    elif settings.structures or not settings.background_labels:
        return prediction  # what no structure has is not measured
    else:
        meaning = np.arange(top + 1, dtype=np.uint16)
        meaning[[value for value in settings.background_labels if 0 <= value <= top]] = 0
    return meaning.astype(np.min_scalar_type(meaning.max()))[prediction]


def check_references(cases: Sequence[ValueCounts], settings: MeasureSettings) -> None:
    """Refuse structures that no reference holds, where references hold values that no structure has.

    So 255 for `liver: 1` is no row of empty references. Values that `background_labels` names are
    known; with `all`, which says it of any, there is a warning.

    Raises
    ------
    InputError
        With the values, and how to name them.
    """
    total = _total(case.reference for case in cases)
    absent = [name for name, value in settings.structures.items() if value not in total]
    ignored = () if settings.background_labels == "all" else settings.background_labels
    expected_values = {*settings.structures.values(), *ignored}
    other = {value: voxels for value, voxels in total.items() if value not in expected_values}
    if not absent or not other:
        return
    named = ", ".join(f"{name} {value}" for name, value in settings.structures.items())
    first, *more = [case for case in cases if set(case.reference) & set(other)]
    others = f", and {_cases([case.case for case in more])}" if more else ""
    text = (
        f"{first.reference_path}: case {first.case}{others}: references hold values {_listed(other)}, which no "
        f"structure has ({named}), and none of them holds {', '.join(absent)}"
    )
    if settings.background_labels == "all":
        log.warning("%s", text)
        return
    labels = ", ".join(f'"{name}": VALUE IN THE REFERENCES' for name in absent)
    raise InputError(
        f'{text}. Give the right values in the settings, "structures": {{{labels}}}; if they are right, '
        f'leave out what no reference holds, or name the other values: "background_labels": {_first(other)}'
    )


def check_predictions(cases: Sequence[ValueCounts], settings: MeasureSettings) -> None:
    """Refuse predictions whose values say that they have another label scheme than the references.

    With named structures: a value that no structure has and no reference of all the cases holds.
    Without: a prediction that holds nothing but such values, beside a reference that is not empty;
    other such values are warned of. Where `background_labels` takes all others, structures that references
    hold and no prediction does are warned of.

    Raises
    ------
    InputError
        With the values, their voxels, and how to map them.
    """
    if settings.background_labels == "all":
        _warn_of_unmet(cases, settings)
        return
    known_values = set(settings.background_labels)
    if settings.prediction_labels:
        known_values.update(
            value for merged in settings.prediction_labels.values() for value in merged
        )
    else:
        known_values.update(settings.structures.values())
        known_values.update(value for case in cases for value in case.reference)
    wrong, odd = [], []
    for case in cases:
        predicted = case.prediction or {}
        if not settings.structures:
            predicted = {v: n for v, n in predicted.items() if v not in settings.background_labels}
        unknown = {
            value: voxels for value, voxels in predicted.items() if value not in known_values
        }
        nothing_known = len(unknown) == len(predicted) and case.reference
        if unknown and (settings.structures or nothing_known):
            wrong.append((case, unknown))
        elif unknown:
            odd.append((case, unknown))
    if wrong:
        raise InputError(_refusal(wrong, settings))
    if odd:
        log.warning(
            "%s: values %s, which no reference holds: each is measured as a structure of its own",
            _where(odd),
            _listed(_total(unknown for _, unknown in odd)),
        )


def _warn_of_unmet(cases: Sequence[ValueCounts], settings: MeasureSettings) -> None:
    """Warn of structures that references hold and no prediction does, where other values became background."""
    scheme = settings.prediction_labels or {
        name: (value,) for name, value in settings.structures.items()
    }
    predicted = _total(case.prediction or {} for case in cases)
    reference = _total(case.reference for case in cases)
    unmet = [
        name
        for name, values in scheme.items()
        if settings.structures[name] in reference and not set(values) & predicted.keys()
    ]
    known = {value for values in scheme.values() for value in values}
    other = {value: voxels for value, voxels in predicted.items() if value not in known}
    if unmet and other:
        log.warning(
            "no prediction holds %s, and the values %s became background (background_labels): see whether prediction_labels "
            "has the program's values",
            ", ".join(f"{name} ({', '.join(map(str, scheme[name]))})" for name in unmet),
            _listed(other),
        )


def _refusal(
    wrong: Sequence[tuple[ValueCounts, Mapping[int, int]]], settings: MeasureSettings
) -> str:
    """Name the values without a meaning and those that are known, and say how to map them."""
    first, where = wrong[0][0], _where(wrong)
    total = _total(unknown for _, unknown in wrong)
    if settings.prediction_labels:
        scheme = "; ".join(
            f"{name} {', '.join(map(str, values))}"
            for name, values in settings.prediction_labels.items()
        )
        return (
            f"{where}: values {_listed(total)}, which prediction_labels does not name ({scheme}); "
            "add them there, or to background_labels (`all`: any other), which makes them background"
        )
    if settings.structures:
        structure_names = ", ".join(
            f"{name} {value}" for name, value in settings.structures.items()
        )
        labels = ", ".join(f'"{name}": VALUE' for name in settings.structures)
        return (
            f"{where}: values {_listed(total)}, which no structure has ({structure_names}) and no reference "
            "holds. If the predictions have a label scheme of their own, give their values in the "
            f'settings, "prediction_labels": {{{labels}}}; what is to be background goes in '
            f'"background_labels": {_first(total)} (or "all": any other)'
        )
    return (
        f"{where}: no value in common with the reference: predicted {_listed(total)}; the reference "
        f"holds {_listed(first.reference)}. If the predictions have a label scheme of their own, "
        'name the structures in the settings, "structures": {"NAME": VALUE IN THE REFERENCE}, '
        '"prediction_labels": {"NAME": VALUE IN THE PREDICTION}'
    )


def _where(wrong: Sequence[tuple[ValueCounts, Mapping[int, int]]]) -> str:
    first, others = wrong[0][0], [case.case for case, _ in wrong[1:]]
    more = f", and {_cases(others)} of the predictions" if others else ""
    return f"{first.path}: case {first.case}{more}"


def _cases(names: Sequence[str]) -> str:
    """`3 more (b, c, d)`."""
    return f"{len(names)} more ({', '.join(names[:MOST_LISTED])}{', ...' * (len(names) > MOST_LISTED)})"


def _total(counts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Voxels of each value in all."""
    total: Counter[int] = Counter()
    for counted in counts:
        total.update(counted)
    return dict(total)


def _first(values: Iterable[int]) -> list[int]:
    return sorted(values)[:MOST_LISTED]


def _listed(voxels: Mapping[int, int]) -> str:
    """`5 (1200 voxels), 99 (3 voxels)`."""
    shown = [f"{value} ({voxels[value]} voxels)" for value in sorted(voxels)[:MOST_LISTED]]
    rest = len(voxels) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
