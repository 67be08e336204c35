"""Fingerprints: the measures of a case that planning needs, so that it reads no image."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segstudy.cases import Case
from segstudy.errors import InputError
from segstudy.files import read_json, write_text
from segstudy.images.crop import crop_box
from segstudy.images.files import Image, read_image, read_label
from segstudy.images.geometry import to_ras
from segstudy.images.names import seed_of
from segstudy.images.prepare import CT_RANGE_HU
from segstudy.study import Cohort

INTENSITY_SAMPLE = 10_000
CROPS = ("body", "nonzero", "none")


@dataclass(frozen=True)
class Intensities:
    """Hold foreground intensities of one channel: exact moments of all voxels, and a sample of them.

    Parameters
    ----------
    voxels
        The number of foreground voxels.
    mean
        Of all of them; CT is clipped to -1024..3071 HU, as in `prepare`.
    sum_of_squares
        Of the differences from the mean.
    sample
        float32 (n,), n at most 10,000.
    """

    voxels: int
    mean: float
    sum_of_squares: float
    sample: np.ndarray


@dataclass(frozen=True)
class Fingerprint:
    """Hold the measures of a case in RAS.

    Parameters
    ----------
    dataset, case
        Names.
    spacing_mm
        Voxel size along x, y, z.
    shape
        Voxels along x, y, z.
    boxes
        Kind of crop -> box (start, stop) in voxels.
    channels
        Foreground intensities of each channel; empty for a label map without image.
    """

    dataset: str
    case: str
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    boxes: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]]
    channels: tuple[Intensities, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        for channel in values["channels"]:
            # Six digits are far finer than noise, and keep the files small.
            channel["sample"] = [float(f"{value:.6g}") for value in channel["sample"]]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any], file: object) -> "Fingerprint":
        """Read a fingerprint from JSON values; InputError, with the file, for a damaged one."""
        try:
            return cls(
                dataset=values["dataset"],
                case=values["case"],
                spacing_mm=tuple(values["spacing_mm"]),
                shape=tuple(values["shape"]),
                boxes={
                    crop: (tuple(box[0]), tuple(box[1])) for crop, box in values["boxes"].items()
                },
                channels=tuple(
                    Intensities(**{**channel, "sample": np.array(channel["sample"], np.float32)})
                    for channel in values["channels"]
                ),
            )
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise InputError(
                f"{file}: damaged fingerprint ({type(error).__name__}: {error}); remove it and run "
                "`segstudy preprocess fingerprint` again"
            ) from None


def fingerprint(name: str, case: Case, dataset: Cohort) -> Fingerprint:
    """Read a case's image and label, and measure them.

    The foreground is all structures together. Intensities are those of at most 10,000 of its
    voxels, drawn with a seed from the names of dataset and case. A label map without image has
    none; its labelled voxels are the box of every crop.

    Parameters
    ----------
    name
        The dataset's name.
    case
        The case.
    dataset
        The dataset's settings.

    Raises
    ------
    InputError
        Where image and label differ in shape, and for voxels that are not finite.
    """
    if not case.images:
        return _of_label_map(name, case)
    image, label = read_image(case.images, len(dataset.channels)), read_label(case.label)
    if image.grid.shape != label.grid.shape:
        raise InputError(
            f"{case.label}: shape {label.grid.shape}, its image has {image.grid.shape} "
            f"(case {case.case}); expected the same"
        )
    if not np.isfinite(image.array).all():
        raise InputError(
            f"{case.images[0]}: voxels that are not finite (case {case.case}); expected numbers"
        )
    reoriented = to_ras(image)
    spacing = reoriented.spacing_mm
    boxes = {crop: tuple(crop_box(reoriented.array, spacing, crop)) for crop in CROPS}
    foreground = image.array[:, np.isin(label.array, list(dataset.structures.values()))]
    if dataset.modality == "CT":
        foreground = np.clip(foreground, *CT_RANGE_HU)
    return Fingerprint(
        name,
        case.case,
        spacing,
        reoriented.grid.shape,
        boxes,
        tuple(_intensities(values, name, case.case) for values in foreground),
    )


def _of_label_map(name: str, case: Case) -> Fingerprint:
    label = read_label(case.label)
    reoriented = to_ras(Image(label.array[None], label.affine))
    boxes = {
        crop: tuple(
            crop_box(
                reoriented.array, reoriented.spacing_mm, "none" if crop == "none" else "nonzero"
            )
        )
        for crop in CROPS
    }
    return Fingerprint(name, case.case, reoriented.spacing_mm, reoriented.grid.shape, boxes, ())


def _intensities(values: np.ndarray, dataset: str, case: str) -> Intensities:
    count = len(values)
    if count == 0:
        return Intensities(0, 0.0, 0.0, values)
    mean = float(values.mean(dtype=np.float64))
    squares = float(np.square(values - np.float64(mean)).sum())
    if count > INTENSITY_SAMPLE:
        generator = np.random.default_rng(seed_of(dataset, case))
        values = values[np.sort(generator.choice(count, INTENSITY_SAMPLE, replace=False))]
    return Intensities(count, mean, squares, values)


def write_fingerprints(path: Path | str, fingerprints: Iterable[Fingerprint]) -> None:
    """Write fingerprints as JSON on one line, since thousands of numbers a case would fill as many."""
    values = [fingerprint.to_dict() for fingerprint in fingerprints]
    write_text(path, json.dumps(values, sort_keys=True, allow_nan=False) + "\n")


def read_fingerprints(path: Path | str) -> list[Fingerprint]:
    """Read a file that `write_fingerprints` wrote; InputError for any other."""
    values = read_json(path)
    if not isinstance(values, list):
        raise InputError(f"{path}: expected a list of fingerprints")
    return [Fingerprint.from_dict(value, path) for value in values]
