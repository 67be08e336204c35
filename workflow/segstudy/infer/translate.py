"""Label values of other programs, in the values of a dataset."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from segstudy.errors import InputError
from segstudy.log import log
from segstudy.study.settings import Background


def translated(
    array: np.ndarray,
    labels: Mapping[str, Sequence[int]],
    background: Background,
    structures: Mapping[str, int],
    where: str,
) -> tuple[np.ndarray, list[int]]:
    """Replace a program's values in a label map by the dataset's.

    Parameters
    ----------
    array
        (i, j, k), with the program's values.
    labels
        Structure -> the program's values of it.
    background
        The program's further values that are background; `all`: any other.
    structures
        Structure -> value in the dataset.
    where
        Case and writer, which begin the error.

    Returns
    -------
    array
        (i, j, k), with the dataset's values.
    present
        The program's values in it.

    Raises
    ------
    InputError
        For values that neither `labels` nor `background` names.
    """
    present = np.unique(array).tolist()
    meaning = {value: structures[name] for name, values in labels.items() for value in values}
    ground = present if background == "all" else [0, *background]
    unknown = [value for value in present if value not in meaning and value not in ground]
    if unknown:
        raise InputError(
            f"{where} the values {', '.join(map(str, unknown[:10]))}{', ...' if len(unknown) > 10 else ''}, which the "
            "model's labels do not name; add them there, or to its background_labels (`all`: any other)"
        )
    values = np.array([meaning.get(value, 0) for value in present], np.uint16)
    return values[np.searchsorted(present, array)], present


def warn_of_unmet(present: Collection[int], labels: Mapping[str, Sequence[int]], name: str) -> None:
    """Warn of structures that no label map holds, where label maps hold values that became background.

    Parameters
    ----------
    present
        The program's values in all label maps.
    labels
        Structure -> the program's values of it.
    name
        Of the model.
    """
    known = {0, *(value for values in labels.values() for value in values)}
    other = sorted(set(present) - known)
    unmet = {one: values for one, values in labels.items() if not set(values) & set(present)}
    if unmet and other:
        log.warning(
            "no prediction of %s holds %s, and the values %s became background (background_labels): see whether labels has "
            "the program's values",
            name,
            ", ".join(f"{one} ({', '.join(map(str, values))})" for one, values in unmet.items()),
            ", ".join(map(str, other[:10])) + (", ..." if len(other) > 10 else ""),
        )
