"""A pair of label maps -> every metric of every structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from segstudy import metric_plugins
from segstudy.metric import MEASURED, NSD_BY_STRUCTURE, OF_LESIONS, nsd_name
from segstudy.metrics import extra, slice_dice
from segstudy.metrics.lesions import Lesion, LesionRules, find_lesions, scores
from segstudy.metrics.overlap import Confusion, Overlap, confusion
from segstudy.metrics.surface import Distances, flat_axes, framed, surroundings
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
    Metrics of lesions are left out where the reference holds no lesion that counts.

    Attributes
    ----------
    lesions
        Its lesions, and the predicted ones, where they are asked for.
    """

    structure: str
    status: Status
    values: dict[str, float]
    n_reference_voxels: int
    n_predicted_voxels: int
    lesions: tuple[Lesion, ...] = ()


def metric_names(settings: Metrics, structure: str = "") -> list[str]:
    """Return the names of the metrics that are measured of a structure, in the order of the table."""
    lesions = settings.lesions
    return [
        *MEASURED,
        *(nsd_name(tolerance) for tolerance in settings.nsd_tolerance_mm),
        *([NSD_BY_STRUCTURE] if settings.own_tolerance_mm(structure) else []),
        *settings.extra,
        *(OF_LESIONS if lesions and lesions.measures(structure) else ()),
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
        label_maps = (reference, prediction)
        lesions = _lesions(name, label_maps, spacing_mm, merged, settings, counted)
        if overlap.reference:
            found = _found(label_maps, spacing_mm, merged, settings, counted)
            values = _values(name, found, settings) | _scores(lesions, settings)
        else:
            values = dict.fromkeys(metric_names(settings, name), UNDEFINED)
        values |= _laterality_error(counted, structures, name, other_side.get(name))
        sizes = (overlap.reference, overlap.prediction)
        measures.append(Measures(name, _status(overlap), values, *sizes, lesions))
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
    spacing_mm: Sequence[float],
    structures: Mapping[str, Sequence[int]],
    settings: Metrics,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Measures]:
    """Return the measures of a case without a prediction: all undefined, none left out.

    Parameters
    ----------
    reference
        Label map (i, j, k).
    spacing_mm
        Voxel size along i, j, k.
    structures
        Name -> label values.
    settings
        Which metrics are measured.
    pairs
        The left and the right structure of each pair.
    """
    nothing = np.zeros_like(reference)
    lost = []
    for one in measure(reference, nothing, spacing_mm, structures, settings, pairs=pairs):
        names = [
            name
            for name in (*metric_names(settings, one.structure), LATERALITY_ERROR)
            if name in one.values or name not in (*OF_LESIONS, LATERALITY_ERROR)
        ]
        values = dict.fromkeys(names, UNDEFINED)
        lost.append(replace(one, status="missing_file", values=values))
    return lost


def absent(name: str, settings: Metrics) -> Measures:
    """Return the measures of a structure that neither label map holds: all undefined."""
    return Measures(
        name, "both_empty", dict.fromkeys(metric_names(settings, name), UNDEFINED), 0, 0
    )


def _status(overlap: Overlap) -> Status:
    if overlap.reference:
        return "ok" if overlap.prediction else "pred_empty"
    return "ref_empty" if overlap.prediction else "both_empty"


def _found(
    label_maps: tuple[np.ndarray, np.ndarray],
    spacing_mm: Sequence[float],
    merged: Sequence[int],
    settings: Metrics,
    counted: Confusion,
) -> extra.Found:
    """Frame and measure a structure that the reference holds."""
    overlap = counted.overlap(merged)
    framed_masks = [framed(label_map, merged, overlap.box) for label_map in label_maps]
    masks = extra.MaskPair(
        *framed_masks,
        tuple(spacing_mm),
        flat_axes(label_maps[0].shape),
        settings.surface,
        None if counted.ignored is None else surroundings(counted.ignored, overlap.box),
    )
    distances = masks.distances() if overlap.prediction else INFINITE
    return extra.Found(overlap, distances, masks, int(counted.counts.sum()), settings.boundary_mm)


def _values(structure: str, found: extra.Found, settings: Metrics) -> dict[str, float]:
    """Measure what needs no lesions."""
    overlap, distances = found.overlap, found.distances
    own_mm = settings.own_tolerance_mm(structure)
    tolerances = {nsd_name(tolerance): tolerance for tolerance in settings.nsd_tolerance_mm}
    tolerances |= {NSD_BY_STRUCTURE: own_mm} if own_mm else {}
    if isinstance(distances, Distances):
        surface = [distances.hausdorff_mm(), distances.quantile_mm(0.95), distances.mean_mm()]
        within = [distances.share_within(tolerance) for tolerance in tolerances.values()]
    else:
        surface = [distances] * 3
        within = [0.0 if distances == INFINITE else UNDEFINED] * len(tolerances)
    return {
        **{name: getattr(overlap, name) for name in MEASURED[:5]},
        **dict(zip(MEASURED[5:], surface, strict=True)),
        **dict(zip(tolerances, within, strict=True)),
        **{name: extra.MEASURES[name](found) for name in settings.extra},
    }


def _lesions(
    structure: str,
    label_maps: tuple[np.ndarray, np.ndarray],
    spacing_mm: Sequence[float],
    merged: Sequence[int],
    settings: Metrics,
    counted: Confusion,
) -> tuple[Lesion, ...]:
    """Find the lesions of a structure where they are asked for."""
    box = counted.overlap(merged).box
    if box is None or not settings.lesions or not settings.lesions.measures(structure):
        return ()
    rules = LesionRules(settings.lesions, settings.surface, spacing_mm, counted.ignored)
    return find_lesions(label_maps, merged, box, rules)


def _scores(lesions: Sequence[Lesion], settings: Metrics) -> dict[str, float]:
    """Return the metrics of lesions; none where the reference holds no lesion that counts."""
    counted = any(lesion.counts and lesion.number for lesion in lesions)
    return scores(lesions, settings.lesions) if counted else {}
