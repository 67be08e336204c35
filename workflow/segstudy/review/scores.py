"""How far a case's label lies from what models say that have not seen it, structure by structure.

Each model and seed has one vote. Distances are in millimetres between voxels of the surfaces; a piece is missing, or too much, where it
reaches further from the other outline than `PIECE_VOXELS`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from segstudy.images.files import Image
from segstudy.images.overlap import confusion
from segstudy.quality.agreement import pairwise_dice
from segstudy.quality.shape import describe

PIECE_VOXELS = 3.0
"""Distance from the other outline, in voxels of the mean size, beyond which a voxel belongs to a missing or an extra piece."""
OVERSHADOWED = 1e-3
"""Weight of the neighbourhood's votes, which break ties and nothing else."""

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class StructureScores:
    """Hold what a label's structure is compared by.

    Parameters
    ----------
    dice
        Dice to the consensus; NaN where both lack the structure.
    boundary_mm
        Mean signed distance of the outline from the consensus': above 0 where the label is wider. NaN where one of them is empty.
    p95_mm
        The 95 % quantile of both outlines' distances, the larger of the two; NaN likewise.
    missing_share
        The largest piece that the consensus has and the label lacks, by the consensus' volume.
    extra_share
        The largest piece that the label has and the consensus lacks, by the consensus' volume; by the label's where the consensus
        is empty.
    apart_share
        The largest connected part of the label that does not touch the consensus, by the label's volume.
    log_volume
        Natural logarithm of the label's volume by the consensus'; NaN where one is empty.
    models_dice
        Mean Dice of all pairs of votes; NaN where there is one vote, or no vote has the structure.
    label_ml, consensus_ml
        Volumes.
    label_shape, consensus_shape
        Features of `segstudy.quality.shape`.
    places
        Voxel (i, j, k) in the middle of what differs, by kind: `missing_part`, `extra_part`, `difference`; what there is.
    """

    dice: float
    boundary_mm: float
    p95_mm: float
    missing_share: float
    extra_share: float
    apart_share: float
    log_volume: float
    models_dice: float
    label_ml: float
    consensus_ml: float
    label_shape: Mapping[str, float] = field(default_factory=dict)
    consensus_shape: Mapping[str, float] = field(default_factory=dict)
    places: Mapping[str, Voxel] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseScores:
    """Hold the scores of a case.

    Parameters
    ----------
    structures
        Name -> its scores.
    renamed
        Structure -> the one whose consensus it fits better, in the best exchange of names; those that keep their name are left out.
    swap_gain
        Mean Dice of the renamed structures that this exchange gains; 0 where nothing is.
    shift_mm
        By how much all of the label lies off the consensus, along the stored axes i, j, k.
    shift_gain
        Mean Dice over the structures that moving the label back by this, in whole voxels, gains.
    spacing_mm
        Mean size of a voxel.
    votes
        Number of votes.
    """

    structures: Mapping[str, StructureScores]
    renamed: Mapping[str, str]
    swap_gain: float
    shift_mm: tuple[float, float, float]
    shift_gain: float
    spacing_mm: float
    votes: int


def consensus(votes: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Return the class that most votes have, voxel by voxel; between as many votes, the one with more votes in the 27 voxels around.

    Parameters
    ----------
    votes
        Class indices (i, j, k), of one model and seed each.
    classes
        Number of classes, the background counted.

    Returns
    -------
    numpy.ndarray
        uint16 (i, j, k).
    """
    from scipy import ndimage

    if len(votes) == 1:
        return votes[0].astype(np.uint16)
    best = np.full(votes[0].shape, -1.0, np.float32)
    chosen = np.zeros(votes[0].shape, np.uint16)
    for value in range(classes):
        count = np.zeros(votes[0].shape, np.float32)
        for vote in votes:
            count += vote == value
        count += OVERSHADOWED * ndimage.uniform_filter(count, 3, mode="nearest")
        better = count > best
        chosen[better], best[better] = value, count[better]
    return chosen


def opposed(votes: Sequence[np.ndarray], label: np.ndarray, classes: int) -> np.ndarray:
    """Return the consensus but where as many votes agree with the label: what models are of two minds about speaks not against it.

    Parameters
    ----------
    votes
        Class indices (i, j, k), of one model and seed each.
    label
        Class indices of the same shape.
    classes
        Number of classes, the background counted.

    Returns
    -------
    numpy.ndarray
        uint16 (i, j, k).
    """
    agreed = consensus(votes, classes)
    for_label = sum((vote == label).astype(np.uint16) for vote in votes)
    for_agreed = sum((vote == agreed).astype(np.uint16) for vote in votes)
    return np.where(for_label == for_agreed, label, agreed).astype(np.uint16)


def score_case(label: Image, votes: Sequence[np.ndarray], names: Sequence[str]) -> CaseScores:
    """Compare a label with the consensus of votes, those that are `opposed` to it.

    Parameters
    ----------
    label
        Class indices (i, j, k): 1 is the first of the names.
    votes
        Class indices of the same shape; one or more.
    names
        The structures.
    """
    classes = len(names) + 1
    agreed = opposed(votes, label.array, classes)
    spacing = np.array(label.spacing_mm)
    counts = confusion(label.array, agreed, classes)
    models = pairwise_dice(votes, classes) if len(votes) > 1 else np.full(classes - 1, math.nan)
    shapes = [describe(one, None, classes) for one in (label, Image(agreed, label.affine))]
    structures = {
        name: _score_structure(
            label.array == number,
            agreed == number,
            spacing,
            (float(models[number - 1]), shapes[0][number - 1], shapes[1][number - 1]),
        )
        for number, name in enumerate(names, 1)
    }
    renamed, swap_gain = best_names(counts)
    shift, shift_gain = best_shift(label.array, agreed, classes)
    return CaseScores(
        structures,
        {names[one]: names[other] for one, other in renamed.items()},
        swap_gain,
        tuple(float(step) for step in shift * spacing),
        shift_gain,
        float(spacing.mean()),
        len(votes),
    )


def dice_matrix(counts: np.ndarray) -> np.ndarray:
    """Return Dice of each structure of the label with each of the consensus, from their confusion; 0 where one is empty."""
    sizes = counts.sum(axis=1)[1:, None] + counts.sum(axis=0)[None, 1:]
    return np.divide(2.0 * counts[1:, 1:], sizes, out=np.zeros(sizes.shape), where=sizes > 0)


def best_names(counts: np.ndarray) -> tuple[dict[int, int], float]:
    """Find the exchange of names by which the label fits the consensus best (Kuhn 1955).

    Parameters
    ----------
    counts
        Confusion of label (row) and consensus (column), the background first.

    Returns
    -------
    renamed : dict of int to int
        Structure -> the one it should be called, both counted from 0; those that keep their name are left out.
    gain : float
        Mean Dice of these that the exchange gains; 0 where there are none.
    """
    from scipy.optimize import linear_sum_assignment

    overlap = dice_matrix(counts)
    # Between equal exchanges the names as they are win.
    rows, columns = linear_sum_assignment(-(overlap + 1e-9 * np.eye(len(overlap))))
    renamed = {
        int(one): int(other) for one, other in zip(rows, columns, strict=True) if one != other
    }
    if not renamed:
        return {}, 0.0
    gains = [overlap[one, other] - overlap[one, one] for one, other in renamed.items()]
    return renamed, float(np.mean(gains))


def best_shift(label: np.ndarray, agreed: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
    """Find by how many voxels all of a label lies off the consensus, by the middles of the structures that both have.

    Returns
    -------
    shift : numpy.ndarray
        int (3,): label minus consensus; the median over structures, rounded.
    gain : float
        Mean Dice over structures that moving it back gains; 0 where nothing moves.
    """
    from scipy import ndimage

    numbers = range(1, classes)
    there = [one for one in numbers if (label == one).any() and (agreed == one).any()]
    if not there:
        return np.zeros(3, int), 0.0
    middles = [
        np.array([ndimage.center_of_mass(array == one) for one in there])
        for array in (label, agreed)
    ]
    shift = np.rint(np.median(middles[0] - middles[1], axis=0)).astype(int)
    if not shift.any():
        return shift, 0.0
    moved = ndimage.shift(label, -shift, order=0)
    before, after = (
        np.diagonal(dice_matrix(confusion(array, agreed, classes)))[[one - 1 for one in there]]
        for array in (label, moved)
    )
    return shift, float((after - before).mean())


def _score_structure(
    label: np.ndarray,
    agreed: np.ndarray,
    spacing: np.ndarray,
    known: tuple[float, Mapping[str, float], Mapping[str, float]],
) -> StructureScores:
    """Compare two masks. known: Dice among the votes, shape of the label and of the consensus."""
    volume_ml = float(spacing.prod()) / 1000
    sizes = int(label.sum()), int(agreed.sum())
    told = dict(
        zip(("models_dice", "label_shape", "consensus_shape"), known, strict=True),
        label_ml=sizes[0] * volume_ml,
        consensus_ml=sizes[1] * volume_ml,
    )
    if not any(sizes):
        return StructureScores(*[math.nan] * 3, 0.0, 0.0, 0.0, math.nan, **told)
    box, corner = _box(label | agreed)
    label, agreed = label[box], agreed[box]
    if not all(sizes):
        mask, kind = (label, "extra_part") if sizes[0] else (agreed, "missing_part")
        place = {one: _middle(mask, corner) for one in (kind, "difference")}
        shares = (0.0, 1.0, 1.0) if sizes[0] else (1.0, 0.0, 0.0)
        return StructureScores(0.0, math.nan, math.nan, *shares, math.nan, **told, places=place)
    surfaces = _surface(label), _surface(agreed)
    # Of each voxel, the distance to the label's and to the consensus' outline.
    to_label, to_agreed = (_distance(surface, spacing) for surface in surfaces)
    outward = np.where(agreed, -to_agreed, to_agreed)[surfaces[0]]
    inward = np.where(label, -to_label, to_label)[surfaces[1]]
    far = PIECE_VOXELS * spacing.mean()
    missing = _piece(agreed & ~label, to_label > far)
    extra = _piece(label & ~agreed, to_agreed > far)
    apart = _largest_apart(label, agreed)
    places = {"difference": _middle(_largest(label ^ agreed), corner)}
    if missing.any():
        places["missing_part"] = _middle(missing, corner)
    if extra.any() or apart.any():
        places["extra_part"] = _middle(apart if apart.any() else extra, corner)
    return StructureScores(
        dice=2 * int((label & agreed).sum()) / sum(sizes),
        boundary_mm=float((outward.mean() - inward.mean()) / 2),
        p95_mm=float(max(np.quantile(np.abs(one), 0.95) for one in (outward, inward))),
        missing_share=float(missing.sum() / sizes[1]),
        extra_share=float(extra.sum() / sizes[1]),
        apart_share=float(apart.sum() / sizes[0]),
        log_volume=math.log(sizes[0] / sizes[1]),
        **told,
        places={kind: voxel for kind, voxel in places.items() if voxel is not None},
    )


def _box(mask: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return the box of a mask, a voxel wider where there is room, and its first voxel."""
    found = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(one for one in range(3) if one != axis)))
        found.append(slice(max(0, int(there[0]) - 1), int(there[-1]) + 2))
    return tuple(found), np.array([part.start for part in found])


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a mask that have a face outside it; the image's edge counts as outside."""
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)


def _distance(surface: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.distance_transform_edt(~surface, sampling=spacing)


def _largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected piece of a mask."""
    from scipy import ndimage

    pieces, number = ndimage.label(mask)
    if number < 2:
        return mask
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def _piece(mask: np.ndarray, is_far: np.ndarray) -> np.ndarray:
    """Return the largest piece of a mask that is far, with what of the mask lies around it, up to the outline."""
    from scipy import ndimage

    core = _largest(mask & is_far)
    if not core.any():
        return core
    return mask & ndimage.binary_dilation(core, iterations=math.ceil(PIECE_VOXELS))


def _largest_apart(label: np.ndarray, agreed: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a label that shares no voxel with the consensus."""
    from scipy import ndimage

    pieces, number = ndimage.label(label, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=number + 1)
    sizes[np.unique(pieces[agreed])] = 0
    sizes[0] = 0
    return pieces == int(np.argmax(sizes)) if sizes.any() else np.zeros_like(label)


def _middle(mask: np.ndarray, corner: np.ndarray) -> Voxel | None:
    """Return the voxel of a mask that lies deepest in it, in the whole image; None for an empty mask."""
    from scipy import ndimage

    if not mask.any():
        return None
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    place = np.unravel_index(int(np.argmax(depth)), mask.shape) + corner
    return tuple(int(one) for one in place)
