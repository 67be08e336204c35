"""The slice of a study that each stage is given, as JSON on its command line."""

from typing import Any, Literal

from pydantic import Field, model_validator

from segstudy.regions import measured_regions
from segstudy.study.analysis import Metrics, check_composite_regions, check_measured
from segstudy.study.datasets import Cohort, check_ignore, check_pairs
from segstudy.study.external import ExternalModel
from segstudy.study.models import AnyModel
from segstudy.study.predictions import PredictionsModel
from segstudy.study.preprocessing import Preprocess, Splits
from segstudy.study.settings import (
    Background,
    IgnoreValues,
    LabelScheme,
    LabelValue,
    Name,
    Pairs,
    Settings,
    SpacingMm,
    check_scheme,
)


class SplitSettings(Settings):
    """Settings of `segstudy preprocess split`."""

    splits: Splits
    roles: dict[Name, Literal["train", "test"]] = Field(description="role of each dataset")
    label_maps_are_tested: bool = Field(
        False,
        description="whether cases without images are tested as others are, and not trained on by all",
    )


class FitSettings(Settings):
    """Settings of `segstudy preprocess plan`."""

    plan: Preprocess
    modality: Literal["CT", "MR", "other"]
    channels: tuple[str, ...]
    datasets: tuple[str, ...] = Field((), description="whose cases to fit on; left out: all")


class ResampleSettings(Settings):
    """Settings of `segstudy preprocess resample`."""

    plan: Preprocess
    dataset: Cohort
    structures: tuple[str, ...] = Field(description="structures in the order of the classes")


class TissueSettings(ResampleSettings):
    """Settings of `segstudy preprocess tissues`."""

    left_right_pairs: Pairs = Field((), description="left and right, which look alike")
    tissues: dict[Name, tuple[int, ...]] = Field({}, description="values that look alike")


class TrainSettings(Settings):
    """Settings of `segstudy train`."""

    model: AnyModel
    structures: tuple[str, ...]
    channels: tuple[str, ...]
    modality: Literal["CT", "MR", "other"]
    left_right_pairs: Pairs = Field((), description="structures that a mirrored image swaps")
    ignores: bool = Field(
        False, description="whether labels may hold voxels that nobody has labelled"
    )


class ExternalSettings(Settings):
    """Settings of `segstudy infer --external`."""

    model: ExternalModel
    channels: tuple[str, ...] = ("image",)

    @model_validator(mode="after")
    def _command_suits(self) -> "ExternalSettings":
        self.model.check(self.channels)
        return self


class PredictionSettings(Settings):
    """Settings of `segstudy infer --predictions`."""

    name: Name = Field(description="the model's name in the study file")
    model: PredictionsModel
    structures: dict[str, LabelValue] = Field(
        description="structure: value in the dataset's labels"
    )
    background: Background = Field((), description="further values of the dataset's own labels")


class GridSettings(Settings):
    """Settings of `segstudy statistics` for grid searches."""

    grids: dict[Name, dict[Name, dict[str, Any]]]
    weights: dict[Name, Literal["last", "best"]] = Field(
        description="which weights of each model are used"
    )


class QualityDataset(Settings):
    """A tested dataset, or one that models learn from, of which estimates of quality are made."""

    cases: str = Field(description="case table")
    labels: str | None = Field(None, description="folder of repaired labels, where there is one")
    structures: dict[str, LabelValue] = Field(description="structure: value in the labels")
    channels: int = Field(1, ge=1, description="number of channels of an image")


class QualitySettings(Settings):
    """Settings of `segstudy statistics --quality`."""

    predictions: str = Field(
        description="folder of predictions, with {model}, {fold}, {seed} and {dataset} in their places"
    )
    splits: str = Field(description="table of splits")
    models: dict[Name, tuple[int, ...]] = Field(description="model: its seeds")
    datasets: dict[Name, QualityDataset]


class MeasureSettings(Settings):
    """Settings of `segstudy metrics`."""

    old_names = {"ignore_labels": "background_labels"}

    metrics: Metrics = Metrics()
    structures: dict[str, LabelValue] = Field(
        {}, description="structure: value in the label files; left out: every value found"
    )
    left_right_pairs: Pairs = Field(
        (),
        description="the left and the right one of structures: [[left, right], ...]; they are measured merged too, "
        "and it is counted what was predicted for the other side",
    )
    prediction_labels: LabelScheme = Field(
        {},
        description="structure: its value in the predictions, or a list of values, which are merged; left out: the "
        "predictions have the values of `structures`",
    )
    background_labels: Background = Field(
        (),
        description="further values of the predictions, treated as background; `all`: any other. References may "
        "hold them too",
    )
    ignore: IgnoreValues = Field(
        (),
        description="a value, or several, of voxels of the references that nobody has labelled; nothing is measured there, "
        "nor any surface that touches them",
    )
    spacing_mm: SpacingMm | None = Field(
        None,
        description="size of a voxel along columns, rows and slices of pictures (PNG, TIFF), which do not tell it; left out: of "
        "pictures no distance is measured",
    )
    on_other_grid: Literal["refuse", "resample_prediction"] = Field(
        "refuse",
        description="what to do with a prediction whose voxels are not its reference's: `resample_prediction`: resample it to "
        "the reference's grid; the reference stays as it is",
    )

    @model_validator(mode="after")
    def _regions_exist(self) -> "MeasureSettings":
        check_composite_regions(self.metrics.composite_regions, list(self.structures))
        check_pairs(self.left_right_pairs, list(self.structures))
        if self.structures:
            regions = self.metrics.composite_regions
            merged = measured_regions(regions, self.left_right_pairs, list(self.structures))
            check_measured(self.metrics, [*self.structures, *merged])
        return self

    @model_validator(mode="after")
    def _one_meaning_a_value(self) -> "MeasureSettings":
        scheme, named = self.prediction_labels, ", ".join(self.structures) or "none"
        if scheme and set(scheme) != set(self.structures):
            raise ValueError(
                f"prediction_labels: {', '.join(scheme)}; expected the structures: {named}"
            )
        if self.background_labels == "all" and not self.structures:
            raise ValueError(
                "background_labels: all: expected structures, whose values are not background"
            )
        if scheme:
            check_scheme("prediction_labels", scheme, self.background_labels)
        elif self.background_labels != "all":
            for name, value in self.structures.items():
                if value in self.background_labels:
                    raise ValueError(f"background_labels: {value} is the value of {name}")
        # What is background in the predictions may be anything in the references.
        check_ignore(self.ignore, list(self.structures.values()), ())
        return self
