"""Settings of cross-validation, and of the plans that bring cases to a common grid and intensity."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from segstudy.study.settings import EXPERT, Name, NotNegative, Positive, Range, Settings, SpacingMm


class Splits(Settings):
    """Cross-validation. Cases of one subject stand on one side of a split, unless a study asks to see the leak."""

    folds: int = Field(
        5,
        ge=1,
        le=20,
        description="number of folds; 1: a fixed split, in which every case of `role: train` is trained on but those whose `split` is "
        "`test` in the case table, and these and datasets of `role: test` are tested",
    )
    run_folds: tuple[int, ...] | None = Field(
        None, description="folds to run, counted from 0; left out: all"
    )
    seed: int = Field(20, ge=0, description="seed of the shuffle")
    stratify_by: Literal["foreground_volume", "volume_and_presence", "none"] = Field(
        "foreground_volume",
        description="what the folds are balanced by; `volume_and_presence`: which structures a subject has, then volume",
    )
    group_by: Literal["subject", "case_though_it_leaks"] = Field(
        "subject",
        description="`subject`: cases of one subject stay together; `case_though_it_leaks`: each case is dealt out by "
        "itself, so that a model is tested on subjects that it was trained on, for measuring the bias of such a split",
    )

    @model_validator(mode="after")
    def _folds_exist(self) -> "Splits":
        for fold in self.run_folds or ():
            if not 0 <= fold < self.folds:
                raise ValueError(f"run_folds: {fold} is not in 0..{self.folds - 1}")
        return self


class Preprocess(Settings):
    """One way to bring images to a common grid and intensity. What is fitted is fitted on a fold's training cases."""

    spacing_mm: Literal["auto"] | SpacingMm = Field(
        "auto",
        description="voxel size (right-left, back-front, foot-head) in mm; `auto`: the median of the training cases. "
        "The number of voxels is the extent divided by it, rounded as nnU-Net rounds it. Of ellipsoids of 4 to 8 voxels radius 95 % of the volume comes back from voxels three "
        "times as long, of smaller ones 86 %",
    )
    crop: Literal["auto", "body", "nonzero", "none"] = Field(
        "auto",
        description="region kept: `body`: every part above -500 HU of at least 20 ml, or a twentieth of the largest, "
        "as far as it is 16 mm thick somewhere, as a table's shell is not; `nonzero`; `auto`: body for CT, else nonzero. A case of which "
        "it would take more than 0.1 % of a structure is refused",
    )
    margin_mm: NotNegative = Field(5.0, description="margin around the cropped region, in mm")
    normalise: Literal["auto", "ct", "zscore"] = Field(
        "auto",
        description="`ct`: clip to percentiles of the training cases' foreground, then z-score with its mean and SD; "
        "`zscore`: each image by itself; `auto`: by modality",
    )
    clip_percentiles: Range = Field(
        (0.5, 99.5),
        description="foreground percentiles that CT values are clipped to",
        json_schema_extra=EXPERT,
    )
    anisotropy_threshold: Positive = Field(
        3.0,
        description="ratio of coarsest to next voxel size above which the coarse axis is resampled apart, by "
        "nearest neighbour; half way between two slices an image has their mean, a label the lower and the upper in turn, so that a structure of two slices can be lost",
        json_schema_extra=EXPERT,
    )
    channels: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="channels that the plan's networks see, of the datasets' and in their order; left out: all",
    )

    @field_validator("clip_percentiles")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 <= value[0] < value[1] <= 100:
            raise ValueError("expected two percentiles, 0 <= low < high <= 100")
        return value
