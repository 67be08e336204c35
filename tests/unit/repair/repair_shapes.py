"""Masks and small cohorts with known truth for the tests of label repair."""

from pathlib import Path

import numpy as np

from segstudy.cases import Case, write_cases
from segstudy.images.files import write_label, write_nifti
from segstudy.images.rigid import move_structure, rotation, translation
from segstudy.study import RepairedCohort

AFFINE = np.diag([-1.5, -1.5, 2.5, 1.0])
ORGAN, VESSEL = 2, 4
FAULT = (
    translation((30, 24, 0))
    @ rotation(2, -27)
    @ translation((-30, -24, 0))
    @ translation((9, 6, 2))
)


def ellipsoid(shape, centre, radii) -> np.ndarray:
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum(((x - c) / r) ** 2 for x, c, r in zip(grid, centre, radii, strict=True)) <= 1


def lobed(shape, centre, radii) -> np.ndarray:
    """An ellipsoid with a lobe, so that no rotation maps it on itself."""
    lobe = np.add(centre, np.multiply(radii, (0.7, 0.5, 0.2)))
    return ellipsoid(shape, centre, radii) | ellipsoid(shape, lobe, np.multiply(radii, 0.6))


def moved(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return move_structure(mask.astype(np.uint8), 1, matrix) == 1


def patient(seed: int, shape=(64, 60, 30)) -> tuple[np.ndarray, np.ndarray]:
    """Image in HU and right label of a chest with an organ and a vessel beside it."""
    draw = np.random.default_rng(seed)
    centre = np.array([30, 26, 14]) + draw.uniform(-2, 2, 3)
    organ = lobed(shape, centre, np.array([11, 8, 6]) * draw.uniform(0.9, 1.1))
    vessel = ellipsoid(shape, centre + (-2, 14, 0), (3.5, 3.5, 40)) & ~organ
    label = np.zeros(shape, np.uint8)
    label[organ], label[vessel] = ORGAN, VESSEL
    image = np.where(ellipsoid(shape, (32, 30, 15), (30, 27, 60)), -850.0, -1000.0)
    image[organ], image[vessel] = 60, 180
    return (image + draw.normal(0, 25, shape)).astype(np.float32), label


def cohort(folder: Path, faulty=(True, True, True), fault=FAULT, affines=None) -> list[Case]:
    """A cohort on disk; case `p0` has the right label too. Writes `cases.tsv` beside it."""
    cases = []
    for index, is_faulty in enumerate(faulty):
        image, right = patient(index)
        affine = AFFINE if affines is None else affines[index]
        matrix = fault(affine) if callable(fault) else fault
        label = move_structure(right, ORGAN, matrix) if is_faulty else right
        write_nifti(folder / f"p{index}.nii.gz", image, affine)
        write_label(folder / f"p{index}_label.nii.gz", label, affine)
        write_label(folder / f"p{index}_right.nii.gz", right, affine)
        cases.append(
            Case(
                case=f"p{index}",
                subject=f"p{index}",
                images=(folder / f"p{index}.nii.gz",),
                label=folder / f"p{index}_label.nii.gz",
                reference_label=folder / f"p{index}_right.nii.gz" if index == 0 else None,
                voxels={"organ": 0, "vessel": 0},
            )
        )
    write_cases(folder / "cases.tsv", cases, ("image",))
    return cases


def settings(**repair) -> RepairedCohort:
    return RepairedCohort.model_validate(
        {
            "modality": "CT",
            "structures": {"organ": ORGAN, "vessel": VESSEL},
            "repair": {
                "structure": "organ",
                "reference_case": "p0",
                "methods": ["sweep"],
                **repair,
            },
        }
    )
