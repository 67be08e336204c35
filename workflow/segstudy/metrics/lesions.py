"""A structure lesion by lesion: connected components of reference and prediction, matched and measured.

Rules are those of `metrics.lesions`. With `panoptica` they give the values of panoptica (Kofler et al. 2023) for a
semantic pair, connected components and naive threshold matching; with `brats2023` those of the BraTS 2023 challenge
(Saluja et al. 2023) for a case that has lesions. Two things differ, by the rules of this house: HD95 is that of the
study's `metrics.surface`, with `surfel` BraTS' own; and a reference without a lesion that counts has no value, where
BraTS has a Dice of 1 or 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from scipy import ndimage

from segstudy.boxes import Box
from segstudy.metric import OF_LESIONS
from segstudy.metrics.surface import (
    Definition,
    Distances,
    flat_axes,
    framed,
    framed_distances,
    surroundings,
)
from segstudy.study import Lesions

Outcome = Literal["found", "missed", "false"]
INFINITE, UNDEFINED = float("inf"), float("nan")


@dataclass(frozen=True)
class Lesion:
    """A lesion of the reference with its prediction, or a predicted lesion that is none of the reference.

    Attributes
    ----------
    number
        Of the reference's lesion, from 1; 0 for a false one.
    predicted
        Numbers of the predicted lesions, from 1.
    outcome
        Whether it was found, missed, or is false.
    counts
        Whether its volume is large enough to count.
    centre
        Voxel (i, j, k) of its centre of mass.
    reference_mm3, predicted_mm3
        Volumes.
    dice, iou
        Overlap; 0 where it was missed or is false.
    hd95_mm
        Infinite where it was missed or is false.
    """

    number: int
    predicted: tuple[int, ...]
    outcome: Outcome
    counts: bool
    centre: tuple[float, ...]
    reference_mm3: float
    predicted_mm3: float
    dice: float = 0.0
    iou: float = 0.0
    hd95_mm: float = INFINITE


@dataclass(frozen=True)
class LesionRules:
    """How lesions of an image are told apart, matched and measured.

    Attributes
    ----------
    settings
        `metrics.lesions`.
    surface
        The definition of surfaces.
    spacing_mm
        Voxel size along i, j, k.
    ignored
        Bool (i, j, k), voxels that nobody has labelled; None where there is none.
    """

    settings: Lesions
    surface: Definition
    spacing_mm: Sequence[float]
    ignored: np.ndarray | None = None

    @property
    def voxel_mm3(self) -> float:
        """Return the volume of a voxel."""
        return float(np.prod(self.spacing_mm))

    def counts(self, voxels: int) -> bool:
        """Tell whether a lesion of the reference is large enough to count."""
        return bool(voxels * self.voxel_mm3 > self.settings.min_volume_mm3)


def reference_lesions(mask: np.ndarray, settings: Lesions) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbered lesions of a reference (i, j, k), and the voxels that each reaches once dilated."""
    if not settings.merge_voxels:
        lesions = cc3d.connected_components(mask, connectivity=settings.connectivity)
        return lesions, lesions
    by_edge = ndimage.generate_binary_structure(3, 2)
    dilated = ndimage.binary_dilation(mask, by_edge, settings.merge_voxels)
    reached = cc3d.connected_components(dilated, connectivity=settings.connectivity)
    return reached * mask, reached


def find_lesions(
    label_maps: tuple[np.ndarray, np.ndarray], values: Sequence[int], box: Box, rules: LesionRules
) -> tuple[Lesion, ...]:
    """Find the lesions of a structure and their predictions: first those of the reference, then the false ones.

    Parameters
    ----------
    label_maps
        Reference and prediction (i, j, k).
    values
        The structure's label values.
    box
        The voxels that either holds of it.
    rules
        Which lesions there are, and what matches.
    """
    settings = rules.settings
    part = box.widened(settings.merge_voxels, label_maps[0].shape)
    mask, predicted_mask = (np.isin(part.of(label_map), values) for label_map in label_maps)
    lesions, reached = reference_lesions(mask, settings)
    predicted = cc3d.connected_components(predicted_mask, connectivity=settings.connectivity)
    sizes, predicted_sizes = (np.bincount(labels.ravel()) for labels in (lesions, predicted))
    common = _common(lesions, predicted)
    if settings.match == "touch":
        matched = _touching(_common(reached, predicted))
    else:
        ious = {
            (lesion, other): voxels / (sizes[lesion] + predicted_sizes[other] - voxels)
            for (lesion, other), voxels in common.items()
        }
        matched = _best_pairs(ious, settings.min_iou)
    places, predicted_places = (ndimage.find_objects(labels) for labels in (lesions, predicted))
    shift = np.array(part.start)
    found = []
    for number in range(1, len(sizes)):
        others = tuple(matched.get(number, ()))
        both = sum(common.get((number, other), 0) for other in others)
        either = sizes[number] + predicted_sizes[list(others)].sum()
        hd95_mm = INFINITE
        if others:
            around = _around([places[number - 1], *(predicted_places[n - 1] for n in others)])
            masks = (framed(lesions, (number,), around), framed(predicted, others, around))
            hd95_mm = _hd95(masks, part, around, rules)
        found.append(
            Lesion(
                number=number,
                predicted=others,
                outcome="found" if others else "missed",
                counts=rules.counts(sizes[number]),
                centre=_centre(lesions, number, places[number - 1], shift),
                reference_mm3=float(sizes[number] * rules.voxel_mm3),
                predicted_mm3=float(predicted_sizes[list(others)].sum() * rules.voxel_mm3),
                dice=float(2 * both / either),
                iou=float(both / (either - both)),
                hd95_mm=hd95_mm,
            )
        )
    taken = {other for others in matched.values() for other in others}
    false = [
        Lesion(
            number=0,
            predicted=(other,),
            outcome="false",
            counts=True,
            centre=_centre(predicted, other, predicted_places[other - 1], shift),
            reference_mm3=0.0,
            predicted_mm3=float(predicted_sizes[other] * rules.voxel_mm3),
        )
        for other in range(1, len(predicted_sizes))
        if other not in taken
    ]
    return (*found, *false)


def scores(lesions: Sequence[Lesion], settings: Lesions) -> dict[str, float]:
    """Return the metrics of a scan's lesions, of which at least one of the reference counts."""
    counted = [lesion for lesion in lesions if lesion.counts]
    found = [lesion for lesion in counted if lesion.outcome == "found"]
    missed, false = (
        sum(lesion.outcome == outcome for lesion in counted) for outcome in ("missed", "false")
    )
    number = len(found)
    dice = [lesion.dice for lesion in found]
    hd95_mm = [lesion.hd95_mm for lesion in found]
    if settings.average == "all":
        dice += [0.0] * (missed + false)
        hd95_mm += [settings.missed_mm] * (missed + false)
    values = (
        2 * number / (2 * number + missed + false),
        # As the precision of voxels: undefined where nothing was predicted.
        number / (number + false) if number + false else UNDEFINED,
        number / (number + missed),
        float(false),
        sum(lesion.iou for lesion in found) / (number + (missed + false) / 2),
        float(np.mean(dice)) if dice else 0.0,
        float(np.mean(hd95_mm)) if hd95_mm else INFINITE,
    )
    return dict(zip(OF_LESIONS, values, strict=True))


def _common(lesions: np.ndarray, predicted: np.ndarray) -> dict[tuple[int, int], int]:
    """Count the voxels that each lesion and each predicted one have in common, where there are any."""
    both = (lesions > 0) & (predicted > 0)
    base = int(predicted.max(initial=0)) + 1
    pairs = lesions[both].astype(np.int64) * base + predicted[both]
    numbers, voxels = np.unique(pairs, return_counts=True)
    return {divmod(int(pair), base): int(n) for pair, n in zip(numbers, voxels, strict=True)}


def _touching(common: dict[tuple[int, int], int]) -> dict[int, list[int]]:
    """Give each lesion all predicted ones that touch it."""
    matched: dict[int, list[int]] = {}
    for lesion, other in common:
        matched.setdefault(lesion, []).append(other)
    return matched


def _best_pairs(ious: dict[tuple[int, int], float], least: float) -> dict[int, list[int]]:
    """Pair lesions by falling IoU, down to the least, so that none is in two pairs."""
    matched: dict[int, list[int]] = {}
    taken = set()
    for (lesion, other), iou in sorted(ious.items(), key=lambda pair: -pair[1]):
        if iou >= least and lesion not in matched and other not in taken:
            matched[lesion] = [other]
            taken.add(other)
    return matched


def _around(places: Sequence[tuple[slice, ...]]) -> Box:
    """Return the smallest box that holds several."""
    axes = list(zip(*places, strict=True))
    return Box(
        tuple(min(place.start for place in axis) for axis in axes),
        tuple(max(place.stop for place in axis) for axis in axes),
    )


def _hd95(
    masks: tuple[np.ndarray, np.ndarray], part: Box, around: Box, rules: LesionRules
) -> float:
    """Return the HD95 in mm of two masks framed in a box of a part of the image."""
    ignored = None if rules.ignored is None else surroundings(part.of(rules.ignored), around)
    flat = flat_axes(part.shape)
    distances = framed_distances(*masks, rules.spacing_mm, flat, rules.surface, ignored)
    return distances.quantile_mm(0.95) if isinstance(distances, Distances) else INFINITE


def _centre(
    labels: np.ndarray, number: int, place: tuple[slice, ...], shift: np.ndarray
) -> tuple[float, ...]:
    """Return the centre of mass of a component in voxels of the whole image."""
    start = np.array([axis.start for axis in place])
    centre = np.argwhere(labels[place] == number).mean(axis=0) + start + shift
    return tuple(round(float(index), 2) for index in centre)
