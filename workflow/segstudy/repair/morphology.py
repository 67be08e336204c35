"""Morphology of a structure and of its edge in the image; the same with simulated label errors.

A structure is measured on the grid of its case's scene, cropped to its box and averaged over
blocks until it is small. Errors of form are simulated here, so that the audit learns from the
cohort itself how a label looks with a part missing, with too much, or with an outline too wide or
too narrow.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segstudy.boxes import bounding_box
from segstudy.repair.points import Scene, block_means, gaussian_gradient, strided

#: Voxels of a structure's box, at most: finer ones are averaged over blocks.
BOX_VOXELS = 100_000
#: Voxels around the structure: room for an outline to be widened, and for looks beyond it.
ROOM = 5
#: Voxels below which a structure has no form to speak of.
LEAST_VOXELS = 12
#: Gap, in voxels, over which components still count as one: a thin structure breaks without error.
GAP_VOXELS = 4
#: Shares of a structure below which a component has no part in its form: any, and one over a gap.
SMALL_PIECE = 0.05
SMALL_APART = 0.2
#: Points of the surface at which the image is looked at.
POINTS = 500
#: Steps of the finest voxel size along the normal at which the image is looked at, outwards.
STEPS = np.arange(-3, 4)
#: Added before logarithms of intensities, which are scaled to 0..1.
LEAST = 0.003
#: Simulated errors: the part that is lost, as a share; the shift of the outline, in voxels.
SHARES = (0.4, 0.6)
OUTLINE_VOXELS = (1.5, 2, 3)

#: The 26 directions to the neighbours of a voxel.
DIRECTIONS = np.array([way for way in itertools.product((-1, 0, 1), repeat=3) if any(way)], float)
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
#: Measures of the whole structure, and measures along each direction.
GLOBAL = ("volume", "surface", "thickness", "depth", "spread", "edge", "outer", "inner", "rim")
DIRECTIONAL = ("width", "cap", "contrast", "facing", "reach", "room")
#: Kinds of simulated errors.
KINDS = ("part", "wide", "narrow", "extra")


@dataclass(frozen=True)
class Morphology:
    """Hold measures of a structure, as logarithms or shares but for two; NaN where the grid cuts it.

    Parameters
    ----------
    overall
        (len(GLOBAL),): volume in mL; surface by volume; mean and greatest depth within; spread of
        the intensity inside; edge of the image across the surface, and the share of it two steps
        outwards and inwards; contrast of the outermost voxels to the intensity inside.
    directional
        (len(DIRECTIONAL), 26), by direction: extent; area of the last voxels by volume^(2/3);
        contrast of the image across the surface that faces so; share of the surface that does;
        reach from the middle of the grid, and distance from the end of the grid, in mm, the latter
        along the axes only.
    open
        (3, 2), whether the structure ends at the low and at the high end of an axis because the
        grid does.
    """

    overall: np.ndarray
    directional: np.ndarray
    open: np.ndarray


@dataclass(frozen=True)
class MorphologySet:
    """Hold the morphology of a structure as delivered, and with simulated errors, by kind."""

    delivered: Morphology
    simulated: Mapping[str, list[Morphology]]


@dataclass(frozen=True)
class StructureCrop:
    """Hold a structure that is cropped from a label map, in RAS.

    Parameters
    ----------
    mask, free
        bool (x, y, z), the structure, and the background that it could grow into.
    intensity
        (channel, x, y, z).
    spacing_mm
        (3,).
    corner_mm
        (3,), of the crop from the grid's own corner.
    grid_mm
        (3,), size of the grid.
    """

    mask: np.ndarray
    free: np.ndarray
    intensity: np.ndarray
    spacing_mm: np.ndarray
    corner_mm: np.ndarray
    grid_mm: np.ndarray

    @property
    def in_grid(self) -> np.ndarray:
        """Mark the voxels that lie on the grid, bool (x, y, z)."""
        low = [
            corner + np.arange(size) * step
            for corner, size, step in zip(
                self.corner_mm, self.mask.shape, self.spacing_mm, strict=True
            )
        ]
        there = [
            (start > -step / 2) & (start + step < end + step / 2)
            for start, step, end in zip(low, self.spacing_mm, self.grid_mm, strict=True)
        ]
        x, y, z = there
        return x[:, None, None] & y[:, None] & z

    def room_mm(self, mask: np.ndarray) -> np.ndarray:
        """Measure from a mask to the low and to the high end of the grid along each axis, (3, 2) mm."""
        lows, highs = np.array(bounding_box(mask)) * self.spacing_mm + self.corner_mm
        room = np.stack([lows, self.grid_mm - highs], axis=1)
        return np.where(room < self.spacing_mm[:, None] / 2, 0, room)


def crop_structure(label: np.ndarray, value: int, image: Scene) -> StructureCrop | None:
    """Crop a structure from a label map, on the grid of its scene; None if it is tiny.

    Parameters
    ----------
    label
        (x, y, z) in RAS.
    value
        The structure's value.
    image
        The scene of the same case.
    """
    block = np.maximum(np.array(label.shape) // image.intensity.shape[1:], 1)
    mask, free = block_means(label == value, block) >= 0.5, block_means(label == 0, block) >= 0.5
    box = bounding_box(mask)
    if box is None:
        return None
    mask[box.slices] = _without_fragments(box.of(mask))
    part = bounding_box(mask).widened(ROOM, mask.shape).slices
    grid_mm = np.array(mask.shape) * image.spacing_mm
    intensity, spacing = image.intensity[(slice(None), *part)], image.spacing_mm
    mask, free = mask[part], free[part]
    block = np.ones(3, int)
    while np.prod(np.array(mask.shape) // block) > BOX_VOXELS:
        block[np.argmin(spacing * block)] += 1
    if block.max() > 1:
        mask, free = block_means(mask, block) >= 0.5, block_means(free, block) >= 0.5
        intensity = np.stack([block_means(one, block) for one in intensity])
    # Room all around, also where the grid ends.
    pad = [(ROOM, ROOM)] * 3
    return StructureCrop(
        np.pad(mask, pad),
        np.pad(free, pad),
        np.pad(intensity, [(0, 0), *pad], mode="edge"),
        spacing * block,
        np.array([one.start for one in part]) * spacing - ROOM * spacing * block,
        grid_mm,
    )


def _without_fragments(mask: np.ndarray) -> np.ndarray:
    """Remove small components of a mask (x, y, z), which are an error of their own."""
    touching = np.ones((3, 3, 3))
    for share, gap in ((SMALL_PIECE, 0), (SMALL_APART, GAP_VOXELS // 2)):
        near = ndimage.binary_dilation(mask, touching, gap) if gap else mask
        pieces, _ = ndimage.label(near, touching)
        sizes = np.bincount(pieces[mask])
        mask = mask & (sizes >= share * sizes.sum())[pieces]
    return mask


def measure_morphology(box: StructureCrop, mask: np.ndarray) -> Morphology | None:
    """Measure a structure, or a version of it, in its crop; None if it is tiny.

    Parameters
    ----------
    box
        The crop.
    mask
        bool (x, y, z), on the grid of the crop.
    """
    if np.count_nonzero(mask) < LEAST_VOXELS:
        return None
    # As much around it as the smoothing and the walk along the normals reach.
    margin = np.ceil(np.abs(STEPS).max() * box.spacing_mm.min() / box.spacing_mm).astype(int) + 1
    part = bounding_box(mask).widened(margin, mask.shape).slices
    room = box.room_mm(mask)
    mask, image = mask[part], box.intensity[(slice(None), *part)]
    indices = np.argwhere(mask)
    spacing, step = box.spacing_mm, box.spacing_mm.min()
    sigma = step / spacing
    normal = gaussian_gradient(mask.astype(np.float32), sigma, spacing)
    length = np.sqrt((normal**2).sum(axis=0))
    surface = strided(np.argwhere(length > 0.5 * length.max()), POINTS)
    at = tuple(surface.T)
    outwards = -(normal[(slice(None), *at)] / length[at]).T
    volume = len(indices) * spacing.prod()
    depth = ndimage.distance_transform_edt(mask, spacing)
    inside = np.median(image[:, mask], axis=1)
    spread = np.abs(image[:, mask] - inside[:, None]).mean(axis=1).sum()

    walk = surface.T[:, None] + (outwards / spacing).T[:, None] * (STEPS * step)[:, None]
    seen = np.stack(
        [ndimage.map_coordinates(one, walk, order=1, mode="nearest") for one in image]
    )  # (c, step, point)
    edge = np.abs(seen[:, 2:] - seen[:, :-2]).sum(axis=0).mean(axis=1) + LEAST  # steps -2..2
    rim = np.abs(seen[:, 2] - inside[:, None]).sum(axis=0).mean() + LEAST
    contrast = np.abs(seen[:, 4:6].mean(axis=1) - seen[:, 1:3].mean(axis=1)).sum(axis=0)
    faces = (outwards @ DIRECTIONS.T) > 0.8
    overall = np.array(
        [
            np.log(volume / 1000),
            np.log(length.sum() * spacing.prod() / volume),
            np.log(depth[mask].mean()),
            np.log(depth.max()),
            np.log(spread + LEAST),
            np.log(edge[2]),
            np.log(edge[4] / edge[2]),
            np.log(edge[0] / edge[2]),
            np.log(rim),
        ]
    )
    faced = DIRECTIONS[:, :, None] * np.array([-1, 1]) > 0.5  # ends of axes, by direction
    reach = (indices * spacing) @ DIRECTIONS.T
    thick = np.abs(DIRECTIONS) @ spacing
    ends = reach.max(axis=0)
    cap = (reach >= ends - 0.55 * thick).sum(axis=0) * spacing.prod() / thick / volume ** (2 / 3)
    shown = faces.sum(axis=0)
    facing = (contrast[:, None] * faces).sum(axis=0) / np.maximum(shown, 1)
    corner = box.corner_mm + [one.start for one in part] * spacing + spacing / 2 - box.grid_mm / 2
    directional = np.stack(
        [
            np.log(ends - reach.min(axis=0) + thick),
            np.sqrt(cap),
            np.where(shown > 2, np.log(facing + LEAST), np.nan),
            shown / len(surface),
            ends + DIRECTIONS @ corner,
            np.where(np.abs(DIRECTIONS).max(axis=1) == 1, (faced * room).sum(axis=(1, 2)), np.nan),
        ]
    )
    beyond = (faced & (room == 0)).any(axis=(1, 2))
    directional[1:4, beyond] = np.nan
    directional[0, beyond | beyond[::-1]] = np.nan
    return Morphology(overall, directional, room == 0)


def morphology_set(
    label: np.ndarray, value: int, image: Scene, simulate: bool = True
) -> MorphologySet | None:
    """Measure a structure of a label map on its scene; None if it is tiny or empty.

    Parameters
    ----------
    label
        (x, y, z) in RAS.
    value
        The structure's value.
    image
        The scene of the same case.
    simulate
        Whether label errors are simulated in it too.
    """
    box = crop_structure(label, value, image)
    delivered = None if box is None else measure_morphology(box, box.mask)
    if delivered is None:
        return None
    wrong = simulate_corruptions(box) if simulate else {kind: [] for kind in KINDS}
    return MorphologySet(delivered, wrong)


def simulate_corruptions(box: StructureCrop) -> dict[str, list[Morphology]]:
    """Measure a structure with simulated errors, by kind.

    The same mask gives the same errors: the number of its voxels is the seed.
    """
    draw = np.random.default_rng(int(np.count_nonzero(box.mask)))
    corrupted = {kind: [] for kind in KINDS}
    for way in ("x", "y", "z", "oblique", "ball"):
        corrupted["part"].append(remove_part(box.mask, way, draw.uniform(*SHARES), draw))
    # Where the grid ends, an outline has nowhere to be drawn.
    inside = ndimage.distance_transform_edt(box.mask | ~box.in_grid)
    outside = ndimage.distance_transform_edt(~box.mask)
    for voxels in OUTLINE_VOXELS:
        corrupted["wide"].append(box.mask | ((outside <= voxels) & box.free))
        corrupted["narrow"].append(box.mask & (inside > voxels))
    for _ in range(2):
        corrupted["extra"].append(add_part(box, draw.uniform(0.5, 1.0), draw))
    measured = {
        kind: [measure_morphology(box, mask) for mask in masks] for kind, masks in corrupted.items()
    }
    return {
        kind: [measures for measures in there if measures is not None]
        for kind, there in measured.items()
    }


def remove_part(mask: np.ndarray, way: str, share: float, draw: np.random.Generator) -> np.ndarray:
    """Remove a share of a mask's voxels.

    Parameters
    ----------
    mask
        bool (x, y, z).
    way
        `x`, `y`, `z`: all beyond a plane across that axis; `oblique`: beyond any plane; `ball`: all
        about a point of the surface.
    share
        The share of the voxels that is removed.
    draw
        Chooses the side, the plane or the point.
    """
    voxels = np.argwhere(mask)
    if way == "ball":
        edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
        order = ((voxels - edge[draw.integers(len(edge))]) ** 2).sum(axis=1)
    elif way == "oblique":
        order = voxels @ draw.normal(size=3)
    else:
        order = voxels[:, "xyz".index(way)] * draw.choice((-1, 1))
    kept = mask.copy()
    kept[tuple(voxels[order <= np.quantile(order, share)].T)] = False
    return kept


def add_part(box: StructureCrop, share: float, draw: np.random.Generator) -> np.ndarray:
    """Grow a mask by a share of its voxels, into the background about a point of its surface."""
    edge = np.argwhere(box.mask & ~ndimage.binary_erosion(box.mask))
    middle = edge[draw.integers(len(edge))]
    room = np.argwhere(box.free & ~box.mask)
    order = ((room - middle) ** 2).sum(axis=1)
    nearest = np.argsort(order, kind="stable")[: int(share * np.count_nonzero(box.mask))]
    grown = box.mask.copy()
    grown[tuple(room[nearest].T)] = True
    return grown
