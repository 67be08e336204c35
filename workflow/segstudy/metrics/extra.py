"""Metrics that are measured where a study names them in `metrics.extra`: one function a metric."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import cc3d
import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from segstudy.metrics.overlap import Overlap
from segstudy.metrics.surface import Definition, Distances, framed_distances, outside_reference


@dataclass(frozen=True)
class MaskPair:
    """One structure in a reference that holds it and in a prediction.

    Attributes
    ----------
    reference, prediction
        Of `surface.framed`, of the same box.
    spacing_mm
        Voxel size along i, j, k.
    flat
        Of `surface.flat_axes`.
    definition
        Of the surface.
    ignored
        Of `surface.surroundings`.
    """

    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: tuple[float, ...]
    flat: tuple[bool, bool, bool]
    definition: Definition
    ignored: np.ndarray | None = None

    @cached_property
    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return reference and prediction as bool (i, j, k), or (i, j) of a single slice."""
        layers = tuple(0 if thin else slice(None) for thin in self.flat)
        return self.reference[layers].astype(bool), self.prediction[layers].astype(bool)

    @property
    def mask_spacing_mm(self) -> list[float]:
        """Return the voxel size along the axes of `masks`."""
        return [step for step, thin in zip(self.spacing_mm, self.flat, strict=True) if not thin]

    def distances(self) -> Distances | float:
        """Measure the distances between the surfaces, as `surface.framed_distances` does."""
        return framed_distances(*self._surfaces)

    def outside(self) -> np.ndarray:
        """Tell which samples of the predicted surface lie outside the reference."""
        return outside_reference(*self._surfaces)

    @property
    def _surfaces(self) -> tuple:
        masks = (self.reference, self.prediction)
        return *masks, self.spacing_mm, self.flat, self.definition, self.ignored


@dataclass(frozen=True)
class Found:
    """What is known of one structure of a case whose reference holds it.

    Attributes
    ----------
    overlap
        Its voxels.
    distances
        Of `surface.framed_distances`; infinite where nothing was predicted.
    pair
        Its masks.
    n_voxels
        Voxels of the image that are not ignored.
    boundary_mm
        `metrics.boundary_mm`.
    """

    overlap: Overlap
    distances: Distances | float
    pair: MaskPair
    n_voxels: int
    boundary_mm: float | None = None

    @property
    def voxel_ml(self) -> float:
        """Return the volume of a voxel in ml."""
        return float(np.prod(self.pair.spacing_mm)) / 1000


def masd_mm(found: Found) -> float:
    """Return the mean of the two directed average surface distances in mm; infinite without a prediction."""
    distances = found.distances
    return distances.directed_mean_mm() if isinstance(distances, Distances) else distances


def signed_surface_distance_mm(found: Found) -> float:
    """Return the bias of the predicted surface in mm, above 0 where it lies outside.

    Without a prediction it is minus infinity: nothing of the structure was predicted, which is too little of it.
    """
    distances = found.distances
    if not isinstance(distances, Distances):
        return -distances
    return distances.signed_mean_mm(found.pair.outside())


def volume_difference_ml(found: Found) -> float:
    """Return predicted minus reference volume in ml."""
    return (found.overlap.prediction - found.overlap.reference) * found.voxel_ml


def absolute_volume_difference_ml(found: Found) -> float:
    """Return the size of the difference of both volumes in ml."""
    return abs(volume_difference_ml(found))


def absolute_relative_volume_error(found: Found) -> float:
    """Return the size of the difference of both volumes over the reference volume."""
    return abs(found.overlap.relative_volume_error)


def volumetric_similarity(found: Found) -> float:
    """Return 1 minus the difference of both volumes over their sum (Taha and Hanbury 2015)."""
    reference, prediction = found.overlap.reference, found.overlap.prediction
    return 1 - abs(prediction - reference) / (prediction + reference)


def specificity(found: Found) -> float:
    """Return the share of the image's voxels outside the reference that were not predicted; 1 where none is outside."""
    overlap = found.overlap
    outside = found.n_voxels - overlap.reference
    return 1 - (overlap.prediction - overlap.common) / outside if outside else 1.0


def boundary_iou(found: Found) -> float:
    """Return the IoU of the two bands inside the masks along their surfaces (Cheng et al. 2021).

    A band holds the voxels with a face neighbour outside the mask, and those whose centres lie at most
    `boundary_mm` from the nearest one outside.
    """
    reference, prediction = (_band(mask, found) for mask in found.pair.masks)
    return float((reference & prediction).sum() / (reference | prediction).sum())


def _band(mask: np.ndarray, found: Found) -> np.ndarray:
    """Return the voxels of a mask along its surface, bool."""
    band = mask & (distance_transform_edt(mask) <= 1)
    if found.boundary_mm is None:
        return band
    deep = distance_transform_edt(mask, found.pair.mask_spacing_mm)
    return band | mask & (deep <= found.boundary_mm)


def cldice(found: Found) -> float:
    """Return the clDice (Shit et al. 2021): Dice by the centre lines of both masks.

    It is the harmonic mean of the share of the predicted line that lies in the reference and the share of
    the reference's line that lies in the prediction.
    """
    reference, prediction = found.pair.masks
    if not found.overlap.prediction:
        return 0.0
    precise = reference[centre_line(prediction)].mean()
    sensitive = prediction[centre_line(reference)].mean()
    return float(2 * precise * sensitive / (precise + sensitive)) if precise + sensitive else 0.0


def centre_line(mask: np.ndarray) -> np.ndarray:
    """Return the centre line of a framed mask (i, j[, k]), bool, by scikit-image's thinning (Lee et al. 1994).

    It thins cubes and bars of an even side, and the like, to nothing: the line of such a component is that of
    `_thinner`, one voxel thick as any other.
    """
    from skimage.morphology import skeletonize

    line = skeletonize(mask) > 0
    components = cc3d.connected_components(mask, connectivity=26 if mask.ndim == 3 else 8)
    places = find_objects(components)
    for number in np.setdiff1d(components, [0, *np.unique(components[line])]):
        place = places[number - 1]
        component = np.pad(components[place] == number, 1)
        inner = tuple(slice(1, -1) for _ in place)
        line[place] |= _thinner(component)[inner]
    return line


def _thinner(component: np.ndarray) -> np.ndarray:
    """Return the line of a component that thinning loses, framed: of the component without its last layer along axes.

    So sides of an even number of voxels get an odd one, along as few axes as it takes; where all is lost even then,
    the first of the deepest voxels stands for it.
    """
    from skimage.morphology import skeletonize

    for number in range(1, component.ndim + 1):
        for axes in combinations(range(component.ndim), number):
            less = component
            for axis in axes:
                less = less & np.roll(less, 1, axis)
            line = skeletonize(less) > 0
            if line.any():
                return line
    depth = distance_transform_edt(component)
    line = np.zeros_like(component)
    line[np.unravel_index(depth.argmax(), depth.shape)] = True
    return line


def betti_error(found: Found) -> float:
    """Return how many components, tunnels and cavities prediction and reference differ by, added up."""
    return float(np.abs(np.subtract(*map(betti_numbers, found.pair.masks))).sum())


def betti_numbers(mask: np.ndarray) -> tuple[int, ...]:
    """Count the components, tunnels and cavities of a framed mask (i, j, k), or the components and holes of (i, j).

    Voxels that share a corner are connected; those of the background where they share a face.
    """
    from skimage.measure import euler_number

    whole, faces = (26, 6) if mask.ndim == 3 else (8, 4)
    components = int(cc3d.connected_components(mask, connectivity=whole).max())
    # The background around the frame is no cavity.
    enclosed = int(cc3d.connected_components(~mask, connectivity=faces).max()) - 1
    if mask.ndim == 2:
        return components, enclosed
    tunnels = components + enclosed - int(euler_number(mask, connectivity=3))
    return components, tunnels, enclosed


MEASURES: dict[str, Callable[[Found], float]] = {
    function.__name__: function
    for function in (
        *(masd_mm, signed_surface_distance_mm, boundary_iou, cldice, betti_error),
        *(volume_difference_ml, absolute_volume_difference_ml, absolute_relative_volume_error),
        *(volumetric_similarity, specificity),
    )
}
"""The function of each metric of `metric.EXTRA`; undefined (NaN) where no surface is known, never elsewhere."""
