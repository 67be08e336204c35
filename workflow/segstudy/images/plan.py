"""The plan of a fold: how images are brought to a target grid, and the way back."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segstudy.boxes import Box
from segstudy.errors import InputError
from segstudy.images.files import Grid
from segstudy.images.geometry import ras_grid

CROPS = ("body", "nonzero", "none")
NORMALISATIONS = ("ct", "zscore")


@dataclass(frozen=True)
class Geometry:
    """Set how images are brought to a target grid.

    Parameters
    ----------
    spacing_mm
        Voxel size along right, front, head.
    crop
        `body` (CT), `nonzero` or `none`.
    margin_mm
        Kept on each side of the crop.
    normalise
        `ct` or `zscore`; CT values are clipped before interpolation, a zero background is kept.
    anisotropy_threshold
        See `resample.coarse_axis`.
    channels
        Indices of the image's channels that are kept, in this order; None: all.
    """

    spacing_mm: tuple[float, float, float]
    crop: str
    margin_mm: float
    normalise: str
    anisotropy_threshold: float
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Plan(Geometry):
    """Extend a geometry by values that were fitted on the training cases of a fold.

    Parameters
    ----------
    intensities
        For `ct`, a dict of `low`, `high`, `mean`, `sd` a channel; empty for `zscore`.
    median_shape
        Median shape (right, front, head) of the training cases on the target grid.
    """

    intensities: tuple[dict[str, float], ...] = ()
    median_shape: tuple[int, int, int] = (1, 1, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Plan":
        """Read a plan from JSON values; InputError for a missing or unusable entry."""
        try:
            return cls(
                spacing_mm=tuple(float(size) for size in values["spacing_mm"]),
                crop=str(values["crop"]),
                margin_mm=float(values["margin_mm"]),
                normalise=str(values["normalise"]),
                anisotropy_threshold=float(values["anisotropy_threshold"]),
                channels=None
                if values.get("channels") is None
                else tuple(int(index) for index in values["channels"]),
                intensities=tuple(dict(channel) for channel in values["intensities"]),
                median_shape=tuple(int(size) for size in values["median_shape"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(
                f"a plan with a missing or unusable entry ({error}); run `segstudy preprocess plan` again"
            ) from None


@dataclass(frozen=True)
class Restore:
    """Hold the way back from a prepared grid to the stored one.

    Parameters
    ----------
    native
        The stored grid.
    box
        The part of the stored grid that was kept, in voxels after reorientation to RAS.
    shape
        Shape of the prepared grid (x, y, z).
    coarse
        The axis (0, 1, 2 in RAS) resampled by nearest neighbour, or None.
    """

    native: Grid
    box: Box
    shape: tuple[int, int, int]
    coarse: int | None

    @property
    def unchanged(self) -> bool:
        """Tell whether the spacing was kept, so that nothing is interpolated in either direction."""
        return self.shape == self.box.shape

    @property
    def ras(self) -> Grid:
        """Return the stored grid reoriented to RAS, before cropping."""
        return ras_grid(self.native)

    @property
    def grid(self) -> Grid:
        """Return the prepared grid: its shape, and the affine that places its voxels in the patient.

        Its spacing differs from the plan's by the rounding of the shape to whole voxels.
        """
        step = np.array(self.box.shape) / self.shape
        affine = self.ras.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ (np.array(self.box.start) + 0.5 * step - 0.5)
        affine[:3, :3] *= step
        return Grid(self.shape, affine)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "native_shape": list(self.native.shape),
            "native_affine": self.native.affine.tolist(),
            "start": list(self.box.start),
            "stop": list(self.box.stop),
            "shape": list(self.shape),
            "coarse": self.coarse,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Restore":
        """Read the way back from JSON values."""
        return cls(
            native=Grid(tuple(values["native_shape"]), np.array(values["native_affine"], float)),
            box=Box(tuple(values["start"]), tuple(values["stop"])),
            shape=tuple(values["shape"]),
            coarse=values["coarse"],
        )
