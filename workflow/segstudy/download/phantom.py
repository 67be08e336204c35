"""A thorax CT phantom cohort in the SegTHOR manner: made from a seed, with the truth known.

Anatomy is described in millimetres in the patient's own coordinates (x to the left, y to the
back, z to the head; the tracheal bifurcation is the origin), varied from patient to patient by
jittered control points, size, tilt and a smooth random deformation. It is painted on a grid
twice to three times finer than the scan's, in Hounsfield units, and averaged down, which gives
the partial volume of a scanner; then come blur and noise.

The proportions are those of an adult's chest; nothing is taken from a real patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from segstudy.errors import InputError
from segstudy.images.files import write_label, write_nifti
from segstudy.images.moving import move_structure, segthor_fault
from segstudy.log import log, progress
from segstudy.study import PhantomSource

STRUCTURES = {"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4}
MOVED = "heart"
SMALLEST_GRID = (24, 24, 12)

# What a table of tissues would say, in Hounsfield units at 120 kV.
AIR, LUNG, FAT, SKIN, MUSCLE, LIVER = -1000.0, -850.0, -100.0, 10.0, 52.0, 58.0
SPONGY_BONE, CORTICAL_BONE, CARTILAGE, DISC, CORD = 170.0, 480.0, 110.0, 85.0, 28.0

_FINER = (2, 2, 3)  # sub-voxels along right-left, front-back, foot-head
_REACH_MM = np.array([[-280.0, 280.0], [-220.0, 220.0], [-190.0, 150.0]])


def case_name(number: int, patients: int) -> str:
    """Name of the patient with this number, counted from 1: `Patient_01`."""
    return f"Patient_{number:0{max(2, len(str(patients)))}d}"


def reference_case(patients: int) -> str:
    """The one patient of a tampered cohort that has the right label too, as `GT2.nii.gz`."""
    return case_name((patients + 1) // 2, patients)


def write_cohort(folder: Path, source: PhantomSource, structures: Mapping[str, int]) -> None:
    """Write `train/Patient_NN/{Patient_NN,GT}.nii.gz` for each patient.

    structures: name -> value in the label files; names of `STRUCTURES`, all or some of them.

    With `source.tampered` the heart of every `GT` is moved by SegTHOR's fault, scaled to
    `source.size_voxels`: one matrix on voxel indices for all patients, as it was there. The
    patient in the middle then has the right label too, `GT2.nii.gz`.
    """
    values = _values(source, structures)
    fault = segthor_fault(source.size_voxels)
    reference = reference_case(source.patients)
    numbers = range(1, source.patients + 1)
    log.info("phantom: %d thorax CT patients, seed %d", source.patients, source.seed)
    for number in progress(numbers, "phantom"):
        name = case_name(number, source.patients)
        place = folder / "train" / name
        image, truth, affine = patient(source.seed, number - 1, source.size_voxels)
        right = values[truth]
        label = right
        if source.tampered:
            label = move_structure(right, structures[MOVED], fault)
            if name == reference:
                write_label(place / "GT2.nii.gz", right, affine)
        write_nifti(place / f"{name}.nii.gz", image, affine)
        write_label(place / "GT.nii.gz", label, affine)


def _values(source: PhantomSource, structures: Mapping[str, int]) -> np.ndarray:
    """Table from the phantom's own label values to those that the study asks for."""
    unknown = [name for name in structures if name not in STRUCTURES]
    if unknown:
        raise InputError(
            f"structures: the phantom has no {unknown[0]!r}; it has {', '.join(STRUCTURES)}"
        )
    if source.tampered and MOVED not in structures:
        raise InputError(
            f"structures: {MOVED} is missing, whose label is moved; add it, or set "
            "source.tampered: false"
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


# --- one patient --------------------------------------------------------------------------------


def patient(
    seed: int, index: int, size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan and right label of one patient.

    seed, index: choose the patient; the same numbers give the same bytes.
    size: grid (i, j, k) in voxels; the number of slices varies about the last one.

    Returns the image (i, j, k) as int16 in Hounsfield units, the label (i, j, k) as uint8 with
    the values of `STRUCTURES`, and the affine from voxel indices to RAS millimetres. Axes are
    stored left-posterior-superior, in some patients right-posterior-superior.
    """
    rng = np.random.default_rng([seed, index])
    body = Body.draw(rng)
    scan = Scan.draw(rng, body, size)
    canvas = Canvas(scan, body, rng)
    _trunk(canvas, body, rng)
    _skeleton(canvas, body, rng)
    _heart_and_vessels(canvas, body, rng)
    _airways_and_esophagus(canvas, rng)
    return scan.acquire(canvas, rng)


@dataclass(frozen=True)
class Body:
    """What makes one patient: sizes in mm, HU of blood on the left and right side of the heart."""

    scale: float
    half_width: float
    half_depth: float
    fat: float
    cavity: tuple[float, float]
    heart_size: float
    heart_turn_deg: tuple[float, float, float]
    diaphragm: float
    blood: tuple[float, float]
    tilt_deg: tuple[float, float, float]
    shift: tuple[float, float]

    @staticmethod
    def draw(rng: np.random.Generator) -> "Body":
        scale = rng.normal(1.0, 0.05).clip(0.88, 1.12)
        fat = rng.uniform(7, 24)
        cavity = (128 * scale * rng.normal(1, 0.03), 86 * scale * rng.normal(1, 0.04))
        # A third of the patients has no contrast agent: blood is then as dark as muscle.
        if rng.random() < 0.35:
            left = right = rng.uniform(38, 50)
        else:
            left, right = rng.uniform(110, 220), rng.uniform(90, 240)
        return Body(
            scale=scale,
            half_width=cavity[0] + 20 + fat,
            half_depth=cavity[1] + 17 + 0.8 * fat,
            fat=fat,
            cavity=cavity,
            heart_size=scale * rng.normal(1, 0.07).clip(0.86, 1.16),
            heart_turn_deg=tuple(rng.normal(0, 7, 3)),
            diaphragm=rng.normal(0, 6),
            blood=(left, right),
            tilt_deg=tuple(rng.normal(0, (2.0, 2.0, 3.5))),
            shift=tuple(rng.normal(0, 4, 2)),
        )


@dataclass(frozen=True)
class Scan:
    """Grid and quality of one scan.

    shape, spacing_mm: of the stored grid (i, j, k).
    top_mm: z of the topmost slice's upper face, in the patient's coordinates.
    leftward: whether the first stored axis points to the left (else to the right).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    top_mm: float
    leftward: bool
    noise_hu: float
    blur_voxels: float

    @staticmethod
    def draw(rng: np.random.Generator, body: Body, size: Sequence[int]) -> "Scan":
        field = 2 * body.half_width * rng.uniform(1.04, 1.16)
        in_plane = round(field / size[0], 3)
        slices = max(int(round(size[2] * rng.uniform(0.86, 1.14))), 4)
        coverage = 248 * body.scale * rng.normal(1, 0.02)
        return Scan(
            shape=(size[0], size[1], slices),
            spacing_mm=(in_plane, round(field / size[1], 3), round(coverage / slices, 2)),
            top_mm=96 * body.scale + rng.normal(0, 4),
            leftward=bool(rng.random() < 0.7),
            noise_hu=rng.uniform(12, 30),
            blur_voxels=rng.uniform(0.3, 0.55),
        )

    @cached_property
    def axes_mm(self) -> list[np.ndarray]:
        """Centres of the sub-voxels along left, back and head."""
        axes = []
        for count, size, finer in zip(self.shape, self.spacing_mm, _FINER, strict=True):
            step = size / finer
            axes.append((np.arange(count * finer) + 0.5) * step - count * size / 2)
        axes[2] += self.top_mm - self.shape[2] * self.spacing_mm[2] / 2
        return axes

    def acquire(
        self, canvas: "Canvas", rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Average the painted anatomy down, add blur and noise, and store it."""
        image = self._averaged(canvas.hu)
        blur = (self.blur_voxels, self.blur_voxels, 0)
        image = gaussian_filter(image, blur)
        noise = gaussian_filter(rng.standard_normal(image.shape, np.float32), (0.55, 0.55, 0))
        image += noise * (self.noise_hu / noise.std())
        image = np.rint(image.clip(-1024, 3071)).astype(np.int16)

        shares = np.stack(
            [self._averaged(canvas.label == value) for value in (0, *STRUCTURES.values())]
        )
        label = shares.argmax(axis=0).astype(np.uint8)

        turn = slice(None) if self.leftward else slice(None, None, -1)
        image, label = np.ascontiguousarray(image[turn]), np.ascontiguousarray(label[turn])
        first = [axis[0] + (finer - 1) / 2 * (axis[1] - axis[0]) for axis, finer in self._fine]
        affine = np.diag([-self.spacing_mm[0], -self.spacing_mm[1], self.spacing_mm[2], 1.0])
        affine[:3, 3] = np.round([-first[0], -first[1], first[2]], 4)
        if not self.leftward:
            affine[0, 3] += affine[0, 0] * (self.shape[0] - 1)
            affine[0, 0] *= -1
        return image, label, affine

    @property
    def _fine(self) -> list[tuple[np.ndarray, int]]:
        return list(zip(self.axes_mm, _FINER, strict=True))

    def _averaged(self, fine: np.ndarray) -> np.ndarray:
        i, j, k = self.shape
        a, b, c = _FINER
        blocks = fine.reshape(i, a, j, b, k, c)
        return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


class Canvas:
    """The fine grid that anatomy is painted on, later strokes over earlier ones.

    x, y, z: where each sub-voxel lies in the undeformed anatomy, in mm.
    hu, label: what has been painted so far.
    """

    def __init__(self, scan: Scan, body: Body, rng: np.random.Generator):
        self.scan = scan
        self.x, self.y, self.z = _anatomical(scan.axes_mm, body, rng)
        self.hu = np.full(self.x.shape, AIR, np.float32)
        self.label = np.zeros(self.x.shape, np.uint8)
        self._reach = max(
            float(np.abs(moved - _along(fixed, axis)).max())
            for axis, (moved, fixed) in enumerate(
                zip((self.x, self.y, self.z), scan.axes_mm, strict=True)
            )
        )

    def texture(self, rng: np.random.Generator, wavelength_mm: float) -> np.ndarray:
        """Smooth noise of mean 0 and SD 1 over the whole grid."""
        return smooth_noise(rng, self.scan.axes_mm, wavelength_mm)

    def around(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice, slice]:
        """The part of the grid that can hold anatomy between two corners, in mm."""
        return tuple(
            slice(
                int(np.searchsorted(axis, least - self._reach)),
                int(np.searchsorted(axis, most + self._reach)),
            )
            for axis, least, most in zip(self.scan.axes_mm, low, high, strict=True)
        )

    def paint(self, part: tuple, mask: np.ndarray, hu, structure: str | None = None) -> None:
        """Paint a tissue on the sub-voxels of a part where the mask is set."""
        np.copyto(self.hu[part], hu, where=mask)
        self.label[part][mask] = STRUCTURES.get(structure, 0)

    def ellipsoid(
        self,
        centre: Sequence[float],
        radii: Sequence[float],
        hu: float,
        structure: str | None = None,
        turn: np.ndarray | None = None,
        inside: tuple[float, float] | None = None,
    ) -> None:
        """Paint an ellipsoid.

        turn: 3x3 matrix whose rows are its axes (default x, y, z).
        inside: paint only over tissue between these HU.
        """
        reach = np.full(3, max(radii)) if turn is not None else np.asarray(radii)
        part = self.around(np.subtract(centre, reach), np.add(centre, reach))
        x, y, z = self.x[part] - centre[0], self.y[part] - centre[1], self.z[part] - centre[2]
        if turn is not None:
            x, y, z = (row[0] * x + row[1] * y + row[2] * z for row in turn.astype(np.float32))
        mask = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
        if inside is not None:
            mask &= (self.hu[part] >= inside[0]) & (self.hu[part] <= inside[1])
        self.paint(part, mask, hu, structure)

    def tube(
        self,
        points: np.ndarray,
        radii: np.ndarray | float,
        hu: float,
        structure: str | None = None,
        inside: tuple[float, float] | None = None,
    ) -> None:
        """Paint a tube along points that lie close together.

        radii: one radius, one a point, or three a point (along x, y and z).
        """
        radii = np.broadcast_to(np.asarray(radii, float), (len(points),) * (np.ndim(radii) > 0) or (len(points),)) \
            if np.ndim(radii) < 2 else radii
        for point, radius in zip(points, radii, strict=True):
            self.ellipsoid(point, np.broadcast_to(radius, 3), hu, structure, inside=inside)
