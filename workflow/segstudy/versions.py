"""Versions of Python, of segstudy and of libraries: those of this process, and those installed."""

import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata

import segstudy

LIBRARIES = {
    "blosc2": "blosc2",
    "itk": "itk",
    "matplotlib": "matplotlib",
    "monai": "monai",
    "nibabel": "nibabel",
    "nnunetv2": "nnunetv2",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "seaborn": "seaborn",
    "SimpleITK": "SimpleITK",
    "skimage": "scikit-image",
    "statsmodels": "statsmodels",
    "torch": "torch",
}
"""Module that a job may import -> the distribution that it comes from."""


def imported() -> dict[str, str]:
    """Return the versions of Python, of segstudy and of the libraries that this process has imported."""
    modules = [module for module in LIBRARIES if module in sys.modules]
    return _own() | {LIBRARIES[module]: metadata.version(LIBRARIES[module]) for module in modules}


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of segstudy and of those distributions that are installed."""
    found = _own()
    for name in distributions:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _own() -> dict[str, str]:
    return {"python": platform.python_version(), "segstudy": segstudy.__version__}
