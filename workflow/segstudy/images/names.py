"""Names of image files and of voxel grids; light, since the workflow itself uses them."""

from collections.abc import Sequence
from pathlib import Path

NIFTI = (".nii", ".nii.gz")
OTHER = (".nrrd", ".mha", ".mhd")


def is_image(path: Path | str) -> bool:
    return str(path).endswith(NIFTI + OTHER)


def stem(path: Path | str) -> str:
    """The file's name without its image suffix: `a.nii.gz` gives `a`."""
    name = Path(path).name
    for suffix in sorted(NIFTI + OTHER, key=len, reverse=True):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return Path(path).stem


def grid_name(spacing_mm: Sequence[float]) -> str:
    """A target spacing as the name of a folder: `0.977x0.977x2.5`."""
    return "x".join(f"{round(size, 3):g}" for size in spacing_mm)


def parse_grid(name: str) -> tuple[float, float, float]:
    """The spacing in mm that `grid_name` named."""
    return tuple(float(size) for size in name.split("x"))
