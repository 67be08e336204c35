"""The geometry that a plan's settings mean for a modality."""

from collections.abc import Sequence

from segstudy.images.plan import Geometry
from segstudy.study import Preprocess


def plan_geometry(
    settings: Preprocess,
    modality: str,
    spacing_mm: tuple[float, float, float],
    channels: Sequence[str] = (),
) -> Geometry:
    """Resolve the settings of a plan for images of a modality.

    Parameters
    ----------
    settings
        The plan, as in the study file.
    modality
        `CT`, `MR` or `other`; decides crop and normalisation where the settings say `auto`.
    spacing_mm
        Target spacing along right, front, head.
    channels
        Names of the images' channels, needed where the plan selects some of them.
    """
    return Geometry(
        spacing_mm=spacing_mm,
        crop=("body" if modality == "CT" else "nonzero")
        if settings.crop == "auto"
        else settings.crop,
        margin_mm=settings.margin_mm,
        normalise=("ct" if modality == "CT" else "zscore")
        if settings.normalise == "auto"
        else settings.normalise,
        anisotropy_threshold=settings.anisotropy_threshold,
        channels=None
        if settings.channels is None
        else tuple(list(channels).index(name) for name in settings.channels),
    )
