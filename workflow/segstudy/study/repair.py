"""How labels that were moved are put back."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from segstudy.images.names import safe_name
from segstudy.study.settings import EXPERT, Fraction, Positive, Settings


class Elastix(Settings):
    """Registration of the wrong onto the right label with Elastix (Klein et al. 2010)."""

    transforms: tuple[Literal["rigid", "affine"], ...] = Field(
        ("rigid", "affine"), description="transforms, in order; each starts from the one before"
    )
    images: tuple[Literal["masks", "distances"], ...] = Field(
        ("masks", "distances"),
        description="what is registered: the masks, or the signed distances (mm) to their surfaces",
    )
    resolutions: int = Field(4, ge=1, description="multi-resolution levels")
    iterations: int = Field(500, ge=1, description="iterations a level")


class Repair(Settings):
    """How a label that was moved in every case is put back."""

    old_names = {"sweep_also": "additional_degrees_of_freedom"}

    structure: str = Field(description="the structure whose label was moved")
    estimate_from: Literal["pair", "images"] = Field(
        "pair",
        description="`pair`: the fault is found from the right and the wrong label of the reference case; "
        "`images`: no right label is needed: the fault that all cases share is the one without which the "
        "structure lies best in their images. That takes 3 cases, a compact structure that stands out, and "
        "a rotation about the foot-head axis with a shift; what the images do not tell is refused",
    )
    reference_case: str | None = Field(
        None,
        description="the case that has a right label too (`reference_label` in its case table); needed to "
        "estimate from a pair, else a check of what was found or given",
    )
    methods: tuple[Literal["sweep", "elastix"], ...] = Field(
        ("sweep", "elastix"), description="methods tried; the best IoU on the reference case wins"
    )
    frame: Literal["voxel", "physical", "auto"] = Field(
        "voxel",
        description="`voxel`: the fault acted on stored indices, as in SegTHOR; `physical`: on millimetres; "
        "`auto`: both are estimated, and the images of the cohort decide",
    )
    transform: tuple[tuple[float, float, float, float], ...] | None = Field(
        None,
        description="the fault, where it is known: 4 rows of 4, output to input, on voxel indices (i, j, k), "
        "or on RAS mm with `frame: physical`; nothing is estimated then, only checked on the reference case, if any",
    )
    angle_step_deg: Positive = Field(
        1.0, description="first step of the rotation sweep, in degrees", json_schema_extra=EXPERT
    )
    angle_tolerance_deg: Positive = Field(0.01, description="last step of the sweep, in degrees")
    additional_degrees_of_freedom: tuple[Literal["tilt", "scale"], ...] = Field(
        (),
        description="degrees of freedom that a further sweep adds, from the optimum on: `tilt`: rotation about the other two "
        "axes (tilts of 5 to 30 degrees of the phantom's heart were found to 0.1 degree); `scale`: one factor for all axes; a further attempt, its IoU decides",
    )
    minimum_iou: Fraction = Field(
        0.9,
        description="IoU, on the reference case, of the right label moved by the fault found with the "
        "delivered one; below it the repair is refused",
    )
    elastix: Elastix = Elastix()
    fill_holes: Literal["no", "nearest"] = Field(
        "no",
        description="what to do with the place the structure leaves: `no`: background; `nearest`: "
        "the nearest structure's, where that is nearer than background",
    )

    @field_validator("reference_case")
    @classmethod
    def _as_the_audit_calls_it(cls, value: str | None) -> str | None:
        return safe_name(value) if value else value

    @model_validator(mode="after")
    def _says_what_to_estimate_from(self) -> "Repair":
        if self.estimate_from == "images" and self.transform is not None:
            raise ValueError(
                "transform: nothing is estimated where it is given; leave it or estimate_from: images out"
            )
        if self.estimate_from == "pair" and self.transform is None and not self.reference_case:
            raise ValueError(
                "reference_case: needed to estimate from a pair of labels; without a right label, set "
                "estimate_from: images, or give the transform"
            )
        return self

    @model_validator(mode="after")
    def _transform_is_a_matrix(self) -> "Repair":
        if self.transform is None:
            return self
        if len(self.transform) != 4 or self.transform[3] != (0, 0, 0, 1):
            raise ValueError("transform: expected 4 rows of 4 numbers, the last of them 0 0 0 1")
        if self.frame == "auto":
            raise ValueError("transform: a given transform needs frame voxel or physical, not auto")
        return self
