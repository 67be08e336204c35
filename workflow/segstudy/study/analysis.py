"""What is measured, how models are compared, and what is shown of it."""

from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from segstudy import metric_plugins, plugins, tolerances
from segstudy.errors import InputError
from segstudy.metric import EXTRA, MEASURED, Direction, added, check_directions, find_all
from segstudy.study.lesions import Lesions
from segstudy.study.settings import EXPERT, Name, PluginReference, Positive, Settings
from segstudy.study.style import Style


def _names(names: tuple[str, ...], directions: dict[str, Direction]) -> tuple[str, ...]:
    """Return the names that metrics have here, for names that other programs give them."""
    return tuple(
        dict.fromkeys(metric.name for metric in _refusing(find_all, names, directions).values())
    )


def _refusing(function: Callable, *values: Any) -> Any:
    """Call a function; raise its InputError as the ValueError that pydantic expects of a validator."""
    try:
        return function(*values)
    except InputError as error:
        # The key stands before the message already.
        raise ValueError(str(error).removeprefix("statistics.directions: ")) from None


class Metrics(Settings):
    """Measured on the native grid, in millimetres."""

    old_names = {"groups": "composite_regions"}

    surface: Literal["mesh", "surfel", "voxel"] = Field(
        "mesh",
        description="what distances are taken between: `mesh`, marching-cubes surfaces, weighted by area (the most "
        "accurate); `surfel`, weighted corners, as surface-distance; `voxel`, boundary voxels, as MONAI",
    )
    nsd_tolerance_mm: tuple[Positive, ...] | Positive = Field(
        (2.0,), description="tolerances of the normalised surface distance, in mm"
    )
    nsd_tolerance_of: dict[str, Positive] | Literal[tolerances.TABLES] = Field(
        {},
        description="tolerances of single structures, in mm, at which `nsd_by_structure` is measured: structure: "
        "tolerance; or the name of a published table, `flare2022` (13 abdominal organs) or `kits2021` (kidneys and "
        "their masses, from the disagreement of annotators), for the structures that have its names",
    )
    extra: tuple[Literal[EXTRA], ...] = Field(
        (), description="further metrics, which are measured where they are named here"
    )
    boundary_mm: Positive | None = Field(
        None,
        description="width of the bands of `boundary_iou`, in mm; left out: a voxel",
        json_schema_extra=EXPERT,
    )
    lesions: Lesions | None = Field(
        None,
        description="measure lesion by lesion too, connected components being lesions: `panoptica`, `brats2023`, or keys "
        "of your own; left out: not",
    )
    composite_regions: dict[Name, tuple[str, ...]] = Field(
        {},
        description="regions of several structures, which are measured merged too: name: [structures]",
    )
    slice_axis: Literal["none", "axial", "coronal", "sagittal"] = Field(
        "none",
        description="measure Dice slice by slice too: `slice_dice`, a case's mean over the slices in which it is defined, "
        "and `slices_undefined`, the number of those left out because reference and prediction are both empty there",
    )

    reasons: dict[str, str] = Field(
        {},
        description="why metrics were chosen, which the report repeats: metric: reason; `segstudy new --metrics STUDY` asks and "
        "writes them",
    )
    plugins: tuple[PluginReference, ...] = Field(
        (),
        description="metrics of your own, each in a file that describes and measures it: [./my_metric.py] ([plug-ins](../docs/plugins.md)); "
        "then known by their names in `statistics.metrics` and `publish.metrics`",
    )

    def own_tolerance_mm(self, structure: str) -> float | None:
        """Return the tolerance that a structure or region has of its own; None where it has none."""
        given = self.nsd_tolerance_of
        return (tolerances.published(given) if isinstance(given, str) else given).get(structure)

    @field_validator("plugins")
    @classmethod
    def _described(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _refusing(metric_plugins.register, value)
        return value

    @field_validator("reasons")
    @classmethod
    def _of_metrics(cls, value: dict[str, str]) -> dict[str, str]:
        _refusing(find_all, value)
        return value

    @field_validator("nsd_tolerance_mm")
    @classmethod
    def _list(cls, value: Any) -> tuple[float, ...]:
        return value if isinstance(value, tuple) else (value,)


class Primary(Settings):
    """The endpoint that a study is made for; it is tested alone, all others are a family of their own."""

    structure: str = Field(description="a structure, or a composite region")
    metric: str = Field(description="its metric, such as `dice` or `nsd_2mm`")

    @field_validator("metric")
    @classmethod
    def _is_one(cls, value: str) -> str:
        if value == "nsd":
            raise ValueError("nsd stands for all tolerances; expected one of them, such as nsd_2mm")
        return value


CUTS = ("auto", "values", "median", "tertiles")
Cut = Literal["auto", "values", "median", "tertiles"] | tuple[float, ...]
"""How a column makes groups: by its values, or cut at a quantile or at bounds."""


def _by_column(value: Any) -> Any:
    """Turn `[sex, {age: [40, 65]}]` into column: cut, with `auto` where none is given."""
    if not isinstance(value, list | tuple):
        return value
    cuts: dict[str, Any] = {}
    for item in value:
        named = item if isinstance(item, dict) else {item: "auto"}
        for column, cut in named.items():
            if column in cuts:
                raise ValueError(f"{column!r} stands twice; name each column once")
            cuts[column] = cut
    return cuts


_CUT_SCHEMA = {
    "anyOf": [
        {"enum": list(CUTS)},
        {"type": "array", "items": {"type": "number"}, "minItems": 1},
    ]
}
Subgroups = Annotated[
    dict[str, Cut],
    BeforeValidator(_by_column),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "object", "additionalProperties": _CUT_SCHEMA},
                        ]
                    },
                },
                {"type": "object", "additionalProperties": _CUT_SCHEMA},
            ]
        }
    ),
]
"""Column of the table of participants: how it makes groups; or a list of columns."""


class Statistics(Settings):
    """Comparison of the models on the same subjects."""

    compare: Literal["all"] | tuple[tuple[str, str], ...] = Field(
        "all", description="pairs of models; `all`: every pair"
    )
    compare_datasets: tuple[tuple[str, str], ...] = Field(
        (),
        description="pairs of datasets, such as two sites: [[a, b], ...]; each model on the one is compared with itself "
        "on the other, unpaired",
    )
    directions: dict[str, Direction] = Field(
        {},
        description="of each metric that is not known to segstudy, whether `higher` or `lower` values are better, or "
        "`zero` for those nearest to 0: name: direction",
    )
    metrics: Literal["auto"] | tuple[str, ...] = Field(
        "auto",
        description="metrics that are tested (`nsd` stands for all tolerances); `auto`: dice, hd95_mm, assd_mm, "
        "nsd, precision and recall, as far as the table has them, or all that it has where it has none of these",
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="significance level")
    margin: dict[str, Positive | dict[str, Positive]] = Field(
        {},
        description="of each metric, the largest difference that does not matter, in its unit: {dice: 0.01, hd95_mm: 1.0}; or "
        "by structure: {dice: {heart: 0.01}}. Two models are equivalent where the interval of the level 1 - 2 alpha (90 %) "
        "lies inside it",
    )
    primary: Primary | None = Field(
        None, description="the endpoint that is tested alone: {structure: heart, metric: dice}"
    )
    subgroups: Subgroups = Field(
        {},
        description="columns of the tables of participants ([subgroups](../docs/subgroups.md)) by which each model is summarised "
        "and tested: [sex, scanner, age]; or by column, {sex: values, age: [40, 65]}: cut a number at bounds (below 40, 40 to "
        "below 65, 65 or above), at the `median` or the `tertiles` of all subjects, or take its `values`; `auto`: the median of a "
        "column of numbers with more than 5 different ones, else its values. Name them before there are results: later ones are "
        "reported as exploratory",
    )
    rule: Literal["swap", "shapiro_then_mannwhitneyu", "shapiro_then_wilcoxon"] = Field(
        "swap",
        description="the test; the unit of all is the subject, whose scans are averaged. `swap`: exchanges the models' "
        "labels subject by subject, or the sites' labels of subjects; by ranks where a distance is infinite. "
        "`shapiro_then_wilcoxon`, `shapiro_then_mannwhitneyu`: a paired t test where the differences are normal "
        "(Shapiro-Wilk), else Wilcoxon's signed ranks, or Mann-Whitney's U, which discards the pairing",
    )
    missing: Literal["worst", "exclude"] = Field(
        "worst",
        description="a prediction that is missing: `worst` value (Dice 0, distance infinite), or `exclude` the scan from "
        "comparisons with that model; the other outcome stands beside it",
    )
    correction: Literal["max_t", "holm", "benjamini_hochberg", "none"] = Field(
        "max_t",
        description="correction for multiple tests: `max_t`, step-down with the swaps that all tests share (Westfall "
        "and Young), for `rule: swap` alone",
    )
    quality: bool = Field(
        False,
        description="estimate the quality of each held-out prediction without its reference, and calibrate the estimate for "
        "new scans: `statistics/quality/`",
    )
    bootstrap_samples: int = Field(
        2000, ge=100, description="resamples of the ranking", json_schema_extra=EXPERT
    )
    seed: int = Field(
        1, ge=0, description="seed of random swaps and resamples", json_schema_extra=EXPERT
    )

    @model_validator(mode="after")
    def _has_swaps(self) -> Self:
        if self.correction == "max_t" and self.rule != "swap":
            raise ValueError(
                f"correction max_t needs rule: swap, found rule: {self.rule}; expected correction: holm, "
                "benjamini_hochberg or none"
            )
        return self

    @field_validator("subgroups")
    @classmethod
    def _rising(cls, value: dict[str, Cut]) -> dict[str, Cut]:
        for column, cut in value.items():
            if not column.strip():
                raise ValueError("a column without a name")
            if isinstance(cut, tuple) and (
                not cut or any(low >= high for low, high in pairwise(cut))
            ):
                raise ValueError(f"{column}: bounds {list(cut)}; expected numbers that rise")
        return value

    @property
    def is_planned(self) -> bool:
        """Tell whether there is a plan to record: a margin or a primary endpoint."""
        return bool(self.margin or self.primary)

    def margin_of(self, metric: str, structure: str) -> float | None:
        """Return the largest difference that does not matter, None where none was given."""
        margin = self.margin.get(metric)
        if margin is None and metric.startswith("nsd_"):
            margin = self.margin.get("nsd")
        return margin.get(structure) if isinstance(margin, dict) else margin

    @field_validator("directions")
    @classmethod
    def _no_contradiction(cls, value: dict[str, Direction]) -> dict[str, Direction]:
        return _refusing(check_directions, value) or value

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: Any, info: ValidationInfo) -> Any:
        return value if value == "auto" else _names(value, info.data.get("directions", {}))

    @field_validator("margin")
    @classmethod
    def _named(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        names = _refusing(find_all, value, info.data.get("directions", {}))
        return {names[name].name: margin for name, margin in value.items()}

    @field_validator("compare_datasets")
    @classmethod
    def _different(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for dataset, other in value:
            if dataset == other:
                raise ValueError(f"{dataset!r} stands against itself; expected two datasets")
        return value


class Publish(Settings):
    """Figures and report."""

    metrics: tuple[str, ...] = Field(
        ("dice", "hd95_mm", "nsd"), description="metrics that get a figure"
    )
    window: tuple[float, float] | None = Field(
        None, description="intensities shown as black and white; left out: by modality"
    )
    cohort_columns: Literal["auto"] | tuple[str, ...] = Field(
        "auto",
        description="columns of the tables of participants in the report's table of the cohort, beside those of "
        "`statistics.subgroups`; `auto`: age, sex and handedness, where they are there",
    )
    figures: tuple[PluginReference, ...] = Field(
        (),
        description="figures of your own, each drawn by a file: [./my_figure.py] ([plug-ins](../docs/plugins.md)); they have a section in the report",
    )
    style: Style = Style()

    @field_validator("figures")
    @classmethod
    def _told_apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place, text in enumerate(value):
            for other in value[:place]:
                if plugins.is_same(other, text, "draw"):
                    raise ValueError(f"{text}: stands twice; name it once")
                if plugins.short_name(other) == plugins.short_name(text):
                    raise ValueError(
                        f"{other} and {text}: two figures called {plugins.short_name(text)}; rename one of the files"
                    )
        return value

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return _names(value, {})
        except ValueError:
            raise ValueError(
                f"found {', '.join(value)}; expected metrics that are measured: "
                f"{', '.join((*MEASURED, 'nsd', *added()))}; one of your own by metrics.plugins"
            ) from None


def check_measured(metrics: Metrics, regions: Collection[str]) -> None:
    """Refuse structures of `metrics.lesions` and `metrics.nsd_tolerance_of` that are not measured.

    Parameters
    ----------
    metrics
        The settings.
    regions
        Names of the measured structures and composite regions.

    Raises
    ------
    ValueError
        With the key of the first such structure.
    """
    named = ", ".join(regions)
    given = metrics.nsd_tolerance_of
    if isinstance(given, str) and not any(map(metrics.own_tolerance_mm, regions)):
        raise ValueError(
            f"metrics.nsd_tolerance_of: {given} has none of the structures ({named}); it has "
            f"{', '.join(tolerances.published(given))}. Give tolerances in mm: {{structure: tolerance}}"
        )
    lesions = metrics.lesions.structures if metrics.lesions else ()
    for key, names in (
        ("nsd_tolerance_of", () if isinstance(given, str) else given),
        ("lesions.structures", lesions),
    ):
        for name in names:
            if name not in regions:
                raise ValueError(f"metrics.{key}: {name!r} is none of the structures ({named})")


def check_composite_regions(regions: dict[str, tuple[str, ...]], structures: list[str]) -> None:
    """Refuse a region that is named like a structure, or has members that are no structures.

    Parameters
    ----------
    regions
        `metrics.composite_regions`: region -> its structures.
    structures
        Names of the study's structures.

    Raises
    ------
    ValueError
        With the key of the first such region.
    """
    for name, members in regions.items():
        if name in structures:
            raise ValueError(
                f"metrics.composite_regions.{name}: this is the name of a structure too"
            )
        for member in members:
            if member not in structures:
                raise ValueError(
                    f"metrics.composite_regions.{name}: {member!r} is none of the structures "
                    f"({', '.join(structures)})"
                )
