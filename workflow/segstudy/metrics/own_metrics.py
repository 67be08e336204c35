"""Metrics of plug-ins: loaded and tried before the first case is read, then measured structure by structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segstudy import metric_plugins, plugins
from segstudy.errors import InputError
from segstudy.metric import Metric
from segstudy.metrics.measure import UNDEFINED, Measures


@dataclass(frozen=True)
class OwnMetric:
    """A metric of a plug-in, ready to measure.

    Attributes
    ----------
    text
        The plug-in's reference.
    metric
        What it measures.
    function
        Called with two masks, bool (i, j, k), and the spacing along i, j, k in mm.
    """

    text: str
    metric: Metric
    function: Any

    def measure(
        self, reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]
    ) -> float:
        """Measure one structure of one case; NaN where the plug-in says that it is undefined.

        Parameters
        ----------
        reference, prediction
            Masks, bool (i, j, k), none of them empty.
        spacing_mm
            Voxel size along i, j, k.

        Raises
        ------
        InputError
            Where the plug-in fails, and for what is no number of the metric's range.
        """
        for mask in (reference, prediction):
            mask.setflags(write=False)
        with plugins.telling(self.text):
            found = self.function(reference, prediction, tuple(map(float, spacing_mm)))
        if not isinstance(found, int | float | np.number) or isinstance(found, bool):
            raise self._wrong(f"{type(found).__name__} {found!r}")
        value = float(found)
        if np.isinf(value) or self.metric.outside(np.array(value)):
            raise self._wrong(f"{value:g}")
        return value

    def _wrong(self, found: str) -> InputError:
        any_number = np.isinf(self.metric.low) and np.isinf(self.metric.high)
        said = "" if any_number else f", {self.metric.expected} as its range says"
        return InputError(
            f"plug-in {self.text}: {metric_plugins.MEASURE} returned {found}; expected a finite number{said}, or nan "
            "where the metric is undefined"
        )


def load(texts: Sequence[str]) -> list[OwnMetric]:
    """Load the metrics of plug-ins, and try each on two small boxes.

    Raises
    ------
    InputError
        Where one can't be loaded, has no function that measures, or measures what it can't.
    """
    loaded = []
    for text, known in metric_plugins.register(texts).items():
        stated = plugins.load(text, metric_plugins.METRIC)
        function = stated.get(metric_plugins.MEASURE) if isinstance(stated, dict) else None
        if function is None:
            place = plugins.reference(text).place
            function = plugins.load(f"{place}:{metric_plugins.MEASURE}", metric_plugins.MEASURE)
        own = OwnMetric(text, known, function)
        reference, prediction = np.zeros((2, 8, 9, 10), bool)
        reference[2:5, 2:6, 3:7] = prediction[3:6, 2:7, 2:7] = True
        try:
            own.measure(reference, prediction, (1.0, 1.0, 2.5))
        except InputError as error:
            raise InputError(f"{error} (of two boxes, on which it is tried first)") from None
        loaded.append(own)
    return loaded


def with_own(
    measures: Sequence[Measures],
    label_maps: tuple[np.ndarray, np.ndarray],
    spacing_mm: Sequence[float],
    structures: Mapping[str, Sequence[int]],
    own_metrics: Sequence[OwnMetric],
) -> list[Measures]:
    """Return the measures of a case with those of plug-ins.

    A structure that was not predicted gets the metric's worst value, one that the reference lacks none.

    Parameters
    ----------
    measures
        Of each structure.
    label_maps
        Reference and prediction (i, j, k), 0 in voxels that nobody has labelled.
    spacing_mm
        Voxel size along i, j, k.
    structures
        Name -> label values.
    own_metrics
        What to measure.

    Raises
    ------
    InputError
        With the structure, as `OwnMetric.measure` does.
    """
    return [
        replace(one, values=one.values | _values(one, label_maps, spacing_mm, structures, own_metrics))
        for one in measures
    ]  # fmt: skip


def _values(one, label_maps, spacing_mm, structures, own_metrics) -> dict[str, float]:
    if one.status != "ok":
        empty = one.status == "pred_empty"
        return {own.metric.name: own.metric.worst if empty else UNDEFINED for own in own_metrics}
    masks = [np.isin(label_map, structures[one.structure]) for label_map in label_maps]
    try:
        return {own.metric.name: own.measure(*masks, spacing_mm) for own in own_metrics}
    except InputError as error:
        raise InputError(f"structure {one.structure}: {error}") from None
