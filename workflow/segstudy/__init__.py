"""Reproducible segmentation studies in medical images: eight stages that meet only through files."""

__version__ = "0.2.0"
