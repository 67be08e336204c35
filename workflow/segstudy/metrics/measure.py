"""A pair of label maps -> every metric of every structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segstudy import metric_plugins
from segstudy.metric import MEASURED, nsd_name
from segstudy.metrics import slice_dice
from segstudy.metrics.overlap import Confusion, Overlap, confusion, overlaps
from segstudy.metrics.surface import Distances, flat_axes, framed, framed_distances, surroundings
from segstudy.study import Metrics

Status = Literal["ok", "pred_empty", "ref_empty", "both_empty", "missing_file"]
UNDEFINED = float("nan")
INFINITE = float("inf")

LATERALITY_ERROR = "side_swapped"
"""Share of a structure's predicted voxels that lie in the reference's structure of the other side."""


@dataclass(frozen=True)
class Measures:
    """The metrics of one structure in one case; NaN is undefined.

    The status tells which masks were there to measure: `pred_empty` means that the structure exists
    and was not found, `ref_empty` that it was found and does not exist. Without the structure in
    the reference every overlap and distance is undefined, with false positives as well as without.
    """

    structure: str
    status: Status
    values: dict[str, float]
    n_reference_voxels: int
    n_predicted_voxels: int


def metric_names(settings: Metrics) -> list[str]:
    """Return the names of the measured metrics in the order of the table."""
    return [
        *MEASURED,
        *(nsd_name(tolerance) for tolerance in settings.nsd_tolerance_mm),
        *(slice_dice.NAMES if settings.slice_axis != "none" else ()),
        *(metric_plugins.described(text).name for text in settings.plugins),
    ]


def with_regions(
    structures: Mapping[str, int], groups: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Join structures and composite regions: name -> label values."""
    of_structures = {name: (value,) for name, value in structures.items()}
    of_regions = {
        name: tuple(structures[member] for member in members) for name, members in groups.items()
    }
    return of_structures | of_regions


def measure(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    structures: Mapping[str, Sequence[int]],
    settings: Metrics,
    counted: Confusion | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Measures]:
    """Measure a prediction, structure by structure.

    Parameters
    ----------
    reference, prediction
        Label maps (i, j, k) on the same grid.
    spacing_mm
        Voxel size along i, j, k.
    structures
        Name -> label values, merged where several.
    settings
        Which metrics are measured.
    counted
        The confusion of the two, where the caller has it. Both maps are 0 in the voxels that it
        ignores, and surface beside these is left out.
    pairs
        The left and the right structure of each pair, which get the laterality error too.
    """
    if counted is None:
        values = [value for merged in structures.values() for value in merged]
        counted = confusion(reference, prediction, values)
    other_side = opposite_side(pairs)
    measures = []
    for name, merged in structures.items():
        overlap = counted.overlap(merged)
        distances = INFINITE
        if overlap.reference and overlap.prediction:
            distances = framed_distances(
                framed(reference, structures[name], overlap.box),
                framed(prediction, structures[name], overlap.box),
                spacing_mm,
                flat_axes(reference.shape),
                settings.surface,
                None if counted.ignored is None else surroundings(counted.ignored, overlap.box),
            )
        measures.append(
            Measures(
                name,
                _status(overlap),
                _values(overlap, distances, settings)
                | _laterality_error(counted, structures, name, other_side.get(name)),
                overlap.reference,
                overlap.prediction,
            )
        )
    return measures


def opposite_side(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return for each structure of a pair the structure of the other side."""
    return {name: other for pair in pairs for name, other in (pair, pair[::-1])}


def _laterality_error(
    counted: Confusion, structures: Mapping[str, Sequence[int]], name: str, other: str | None
) -> dict[str, float]:
    if other is None:
        return {}
    predicted = counted.overlap(structures[name]).prediction
    wrong = sum(
        counted.voxels(other_value, own_value)
        for other_value in structures[other]
        for own_value in structures[name]
    )
    return {LATERALITY_ERROR: wrong / predicted if predicted else UNDEFINED}


def missing(
    reference: np.ndarray,
    structures: Mapping[str, Sequence[int]],
    settings: Metrics,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Measures]:
    """Return the measures of a case without a prediction: all undefined, none left out.

    Parameters
    ----------
    reference
        Label map (i, j, k).
    structures
        Name -> label values.
    settings
        Which metrics are measured.
    pairs
        The left and the right structure of each pair.
    """
    sided = opposite_side(pairs)
    reference_overlaps = overlaps(reference, np.zeros_like(reference), structures)
    return [
        Measures(
            name,
            "missing_file",
            dict.fromkeys(
                [*metric_names(settings), *[LATERALITY_ERROR] * (name in sided)], UNDEFINED
            ),
            overlap.reference,
            0,
        )
        for name, overlap in reference_overlaps.items()
    ]


def absent(name: str, settings: Metrics) -> Measures:
    """Return the measures of a structure that neither label map holds: all undefined."""
    return Measures(name, "both_empty", dict.fromkeys(metric_names(settings), UNDEFINED), 0, 0)


def _status(overlap: Overlap) -> Status:
    if overlap.reference:
        return "ok" if overlap.prediction else "pred_empty"
    return "ref_empty" if overlap.prediction else "both_empty"


def _values(overlap: Overlap, distances: Distances | float, settings: Metrics) -> dict[str, float]:
    names = metric_names(settings)
    if not overlap.reference:
        return dict.fromkeys(names, UNDEFINED)
    values = {
        name: getattr(overlap, name)
        for name in ("dice", "iou", "precision", "recall", "relative_volume_error")
    }
    tolerances = settings.nsd_tolerance_mm
    if isinstance(distances, Distances):
        surface = [distances.hausdorff_mm(), distances.quantile_mm(0.95), distances.mean_mm()]
        surface += [distances.share_within(tolerance) for tolerance in tolerances]
    else:
        within = 0.0 if distances == INFINITE else UNDEFINED
        surface = [distances] * 3 + [within] * len(tolerances)
    return values | dict(zip(names[len(values) :], surface, strict=False))
