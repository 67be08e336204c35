"""A thorax CT phantom cohort in the SegTHOR manner: made from a seed, with the truth known.

A patient's anatomy is painted on a grid two to three times finer than the scan's and averaged
down, which gives the partial volume of a scanner; then come blur and noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from segstudy.download.anatomy import STRUCTURES, Body, paint_thorax
from segstudy.download.canvas import Canvas
from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.images.rigid import move_structure, segthor_corruption
from segstudy.log import log, progress
from segstudy.study import PhantomSource

MOVED = "heart"
SMALLEST_GRID = (24, 24, 12)
_FINER = (2, 2, 3)  # sub-voxels along left-right, front-back, foot-head


def case_name(number: int, patients: int) -> str:
    """Name the patient with this number, counted from 1: `Patient_01`."""
    return f"Patient_{number:0{max(2, len(str(patients)))}d}"


def reference_case(patients: int) -> str:
    """Name the one patient of a corrupted cohort that has the right label too, as `GT2.nii.gz`."""
    return case_name((patients + 1) // 2, patients)


def write_cohort(folder: Path, source: PhantomSource, structures: Mapping[str, int]) -> None:
    """Write `train/Patient_NN/{Patient_NN,GT}.nii.gz` for each patient.

    With `source.simulated_corruption` the heart of every `GT` is moved by SegTHOR's corruption, scaled
    to `source.size_voxels`: one matrix on voxel indices for all patients, as in SegTHOR. The
    patient in the middle then has the right label too, `GT2.nii.gz`.

    Parameters
    ----------
    folder
        Where the files go.
    source
        Number of patients, seed and shape.
    structures
        Name -> value in the label files; all of the phantom's structures or some.

    Raises
    ------
    InputError
        For a structure that the phantom does not have, and for a grid too coarse.
    """
    values = _label_values(source, structures)
    corruption = segthor_corruption(source.size_voxels)
    log.info("phantom: %d thorax CT patients, seed %d", source.patients, source.seed)
    for number in progress(range(1, source.patients + 1), "phantom"):
        name = case_name(number, source.patients)
        patient_folder = folder / "train" / name
        image, truth, affine = patient(source.seed, number - 1, source.size_voxels)
        right = values[truth]
        label = (
            move_structure(right, structures[MOVED], corruption)
            if source.simulated_corruption
            else right
        )
        write_nifti(patient_folder / f"{name}.nii.gz", image, affine)
        write_label(patient_folder / "GT.nii.gz", label, affine)
        if source.simulated_corruption and name == reference_case(source.patients):
            write_label(patient_folder / "GT2.nii.gz", right, affine)


def _label_values(source: PhantomSource, structures: Mapping[str, int]) -> np.ndarray:
    """Return a table from the phantom's own label values to those that the study asks for."""
    unknown = [name for name in structures if name not in STRUCTURES]
    if unknown:
        raise InputError(
            f"structures: the phantom has no {unknown[0]!r}; it has {', '.join(STRUCTURES)}"
        )
    if source.simulated_corruption and MOVED not in structures:
        raise InputError(
            f"structures: {MOVED} is missing, whose label is to be moved; add it, or set "
            "source.simulated_corruption: false"
        )
    if any(size < least for size, least in zip(source.size_voxels, SMALLEST_GRID, strict=True)):
        raise InputError(
            f"source.size_voxels: found {'x'.join(map(str, source.size_voxels))}; expected at "
            f"least {'x'.join(map(str, SMALLEST_GRID))}, or thin structures vanish"
        )
    table = np.zeros(max(STRUCTURES.values()) + 1, np.uint16)
    for name, value in structures.items():
        table[STRUCTURES[name]] = value
    return table


def patient(
    seed: int, index: int, size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate scan and right label of one patient.

    Arrays are stored left-posterior-superior; some patients' right-posterior-superior.

    Parameters
    ----------
    seed, index
        Choose the patient; the same numbers give the same arrays.
    size
        Voxels (i, j, k); the number of slices varies about the last one.

    Returns
    -------
    image : numpy.ndarray
        int16 (i, j, k) in Hounsfield units.
    label : numpy.ndarray
        uint8 (i, j, k), values of `anatomy.STRUCTURES`.
    affine : numpy.ndarray
        4x4, from voxel indices to RAS mm.
    """
    rng = np.random.default_rng([seed, index])
    body = Body.draw(rng)
    scan = Scan.draw(rng, body, size)
    canvas = paint_thorax(scan.fine_axes_mm, body, rng)
    image, label = scan.acquire(canvas, rng)
    return *scan.stored(image, label), scan.affine


@dataclass(frozen=True)
class Scan:
    """Set grid and quality of one scan.

    Parameters
    ----------
    shape, spacing_mm
        Of the stored grid (i, j, k).
    centre_mm
        z of the grid's centre in the scanner, where the patient's trachea forks at 0.
    leftward
        Whether the first stored axis points to the left (else to the right).
    noise_hu
        SD of the noise.
    blur_voxels
        SD of the in-plane blur.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    centre_mm: float
    leftward: bool
    noise_hu: float
    blur_voxels: float

    @staticmethod
    def draw(rng: np.random.Generator, body: Body, size: Sequence[int]) -> "Scan":
        """Draw a scan; the field of view follows the patient's size, slices differ in number and thickness."""
        field = 2 * body.scale * body.outline[0] * rng.uniform(1.04, 1.14)
        slices = round(size[2] * rng.uniform(0.86, 1.14))
        coverage = 250 * body.scale * rng.normal(1, 0.02)
        return Scan(
            shape=(size[0], size[1], slices),
            spacing_mm=tuple(
                round(length / count, 3)
                for length, count in zip((field, field, coverage), (*size[:2], slices), strict=True)
            ),
            centre_mm=body.scale * -28 + rng.normal(0, 4),
            leftward=bool(rng.random() < 0.6),
            noise_hu=rng.uniform(12, 26),
            blur_voxels=rng.uniform(0.3, 0.55),
        )

    @property
    def fine_axes_mm(self) -> list[np.ndarray]:
        """Return the centres of the sub-voxels along left, back and head, in scanner millimetres."""
        axes = [
            ((np.arange(count * finer) + 0.5) / finer - count / 2) * size
            for count, size, finer in zip(self.shape, self.spacing_mm, _FINER, strict=True)
        ]
        axes[2] += self.centre_mm
        return axes

    @property
    def affine(self) -> np.ndarray:
        """Return the 4x4 matrix from stored voxel indices to RAS millimetres."""
        half = (np.array(self.shape) - 1) / 2 * self.spacing_mm
        left, back, head = self.spacing_mm
        affine = np.diag([-left, -back, head, 1.0])
        affine[:3, 3] = half[0], half[1], self.centre_mm - half[2]
        if not self.leftward:
            affine[0, 0], affine[0, 3] = left, -half[0]
        return affine

    def acquire(self, canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Average the painted anatomy over each voxel; its label is the structure that fills most of it."""
        image = self._averaged(canvas.hu)
        image = gaussian_filter(image, (self.blur_voxels, self.blur_voxels, 0))
        # A reconstruction's noise is correlated within the slice.
        noise = gaussian_filter(rng.standard_normal(image.shape, np.float32), (0.55, 0.55, 0))
        image += noise * np.float32(self.noise_hu / noise.std())
        shares = [self._averaged(canvas.label == value) for value in (0, *STRUCTURES.values())]
        values = np.array([0, *STRUCTURES.values()], np.uint8)
        return np.rint(image.clip(-1024, 3071)).astype(np.int16), values[np.argmax(shares, axis=0)]

    def stored(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Flip the first axis of arrays where this scan stores it the other way round."""
        if self.leftward:
            return arrays
        return tuple(np.ascontiguousarray(array[::-1]) for array in arrays)

    def _averaged(self, fine: np.ndarray) -> np.ndarray:
        (i, j, k), (a, b, c) = self.shape, _FINER
        return fine.reshape(i, a, j, b, k, c).mean(axis=(1, 3, 5), dtype=np.float32)
