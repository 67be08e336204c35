"""A dataset: what its files hold, its structures, and which of them are left and right."""

from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field, model_validator

from segstudy import labels
from segstudy.study.repair import Repair
from segstudy.study.settings import (
    INTERNAL,
    IgnoreValues,
    LabelValue,
    Name,
    Pairs,
    Settings,
    SpacingMm,
)
from segstudy.study.sources import (
    BidsSource,
    FilesSource,
    LabelMapsSource,
    Source,
    TableSource,
)


def _structures_schema(schema: dict) -> None:
    """Let the schema take one value or several for a structure, or a list of names of a label table."""
    value = schema.pop("additionalProperties")
    schema.pop("type")
    several = {"type": "array", "items": value, "minItems": 1}
    schema["anyOf"] = [
        {"type": "object", "additionalProperties": {"anyOf": [value, several]}, "minProperties": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
    schema.pop("minProperties", None)


class Cohort(Settings):
    """What the files of a dataset hold, wherever they come from."""

    old_names = {"ignore_labels": "background_labels"}

    modality: Literal["CT", "MR", "other"] = Field(
        description="decides cropping and normalisation: CT in Hounsfield units, MR and other by image"
    )
    structures: dict[str, LabelValue] = Field(
        description="structure: value in the label files (0 is background), or a list of values, which are merged; names of "
        "segments in files of 3D Slicer decide before their values; "
        "with `label_table`, a list of names, where `hippocampus` is left and right together",
        min_length=1,
        json_schema_extra=_structures_schema,
    )
    label_table: str | None = Field(
        None,
        description="table in `resources/labels` (`freesurfer`, `neurite_seg35`) that names the values of the label "
        "files: structures can be given by name, pairs of left and right follow, other values of the table are background",
    )
    merged_labels: dict[LabelValue, LabelValue] = Field(
        {},
        description="value in the label files: value of the structure that it is a part of; follows from `structures`, "
        "and need not be written",
        json_schema_extra=INTERNAL,
    )
    background_labels: tuple[LabelValue, ...] = Field(
        (), description="further values that label files may hold, treated as background"
    )
    ignore: IgnoreValues = Field(
        (),
        description="a value, or several, of voxels that nobody has labelled, `ignore` of nnU-Net's `dataset.json`: neither "
        "structure nor background, they are left out of the loss, of what patches are drawn for and of all counts, with what is "
        "predicted there. A surface next to them is not measured: every piece of either surface that touches one is left out",
    )
    channels: tuple[Name, ...] = Field(
        ("image",), description="channels of an image, in order", min_length=1
    )
    left_right_pairs: Literal["none"] | Pairs = Field(
        (),
        description="structures that are the left and the right one of a pair: [[left, right], ...]; a flip across "
        "the sagittal plane swaps them; `none`: no structure is one of a pair, whatever the names say",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_value_a_structure(cls, content: Any) -> Any:
        return labels.settled(content) if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _pairs_exist(self) -> "Cohort":
        check_pairs(pairs_of(self), list(self.structures))
        return self

    @model_validator(mode="after")
    def _one_meaning_a_value(self) -> "Cohort":
        if self.label_table:
            labels.read_table(self.label_table)
        values = [*self.structures.values(), *self.merged_labels]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(
                f"structures: value {twice[0]} stands for two structures; regions that overlap, as "
                "nnU-Net's, are measured by metrics.composite_regions: give each value a structure, and each "
                "region a group of structures"
            )
        if "background" in self.structures:
            raise ValueError("structures: background is always 0 and is not listed")
        if "ignore" in self.structures:
            raise ValueError(
                "structures: ignore is no structure; voxels that nobody has labelled are named beside "
                f"structures, by ignore: {self.structures['ignore']}"
            )
        both = sorted(set(values) & set(self.background_labels))
        if both:
            raise ValueError(f"background_labels: value {both[0]} is a structure's value")
        check_ignore(self.ignore, values, self.background_labels)
        return self

    def cohort(self) -> "Cohort":
        """Return the settings of the files alone, without the pairs of left and right structures."""
        return self._of(Cohort)

    def _of(self, kind: "type[Cohort]") -> "Cohort":
        """Return the settings of a base class, with `left_right_pairs` at its default."""
        fields = kind.model_fields.keys() - {"left_right_pairs"}
        return kind(**{name: getattr(self, name) for name in fields})


class RepairedCohort(Cohort):
    """Settings of a dataset that `segstudy repair` reads."""

    repair: Repair | None = Field(
        None, description="label repair; left out: labels are taken as they are"
    )

    @model_validator(mode="after")
    def _repairs_a_structure(self) -> "RepairedCohort":
        if self.repair and self.repair.structure not in self.structures:
            raise ValueError(
                f"repair.structure: {self.repair.structure!r} is none of the structures "
                f"({', '.join(self.structures)})"
            )
        return self

    def repaired_cohort(self) -> "RepairedCohort":
        """Return the settings that the repair reads, without the pairs of left and right structures."""
        return self._of(RepairedCohort)


class Dataset(RepairedCohort):
    """One cohort of labelled images."""

    source: Source
    role: Literal["train", "test", "train_only"] = Field(
        "train",
        description="`train`: cross-validated, or, of label maps, trained on by every fold; `test`: another site, "
        "predicted by every fold's model, never trained on; `train_only`: trained on by every fold, never tested",
    )
    participants: str | None = Field(
        None,
        description="table with what is known of the subjects (age, sex, scanner, ...), a .tsv or .csv file: a row a subject "
        "(column `participant_id` or `subject`), a session (`session_id` too) or a case (column `case`); `participants.tsv` and "
        "`*_sessions.tsv` of BIDS, and further columns of a case table, are read without it "
        "([subgroups](../docs/subgroups.md)). Relative from the study file's folder; `~` and variables (`${DATA}`) are put in",
    )
    cases_per_job: int = Field(
        8, ge=1, description="cases a job handles: 1 for large CT, 32 for small crops"
    )
    audit_labels: bool = Field(
        False,
        description="look for labels that do not fit the rest of the cohort (shifted, flipped, rotated, "
        "swapped, stray pieces, holes, empty, cut; from 12 cases on also with a part missing, an outline too "
        "wide or narrow, or a size out of range), after the repair if there is one; the report lists them",
    )
    on_bad_case: Literal["fail", "drop"] = Field(
        "fail", description="what to do with a case that fails the audit: stop, or go on without it"
    )
    spacing_mm: SpacingMm | None = Field(
        None,
        description="size of a voxel along columns, rows and slices of pictures (PNG, TIFF), which do not tell it; left out: pictures are refused",
    )
    on_other_grid: Literal["refuse", "resample_label"] = Field(
        "refuse",
        description="what to do with a label whose voxels are not its image's (other axis orders and cropped extents of the "
        "same voxels are brought to the image's grid without loss): `resample_label`: resample it, which the report says",
    )
    empty_labels: Literal["warn", "refuse"] = Field(
        "warn",
        description="what to do with a case whose label holds no structure, such as a healthy control: `warn`: train and "
        "test on it, where a false positive is counted, and Dice, NSD and distances are undefined for every model; "
        "`refuse`: a bad case, of a study where every case must hold one",
    )
    tissues: dict[Name, tuple[int, ...]] = Field(
        {},
        description="for `trainer: synth`, label values that look alike in an image, such as those of both sides: "
        "name: [values]; left and right do so by `left_right_pairs` and `label_table` already",
    )

    @model_validator(mode="after")
    def _tissues_are_labels(self) -> "Dataset":
        table = labels.read_table(self.label_table) if self.label_table else ()
        known = [*self.structures.values(), *self.background_labels, *table]
        grouped = [value for values in self.tissues.values() for value in values]
        for value in grouped:
            if value not in known:
                raise ValueError(
                    f"tissues: {value} is a value of no structure, and not in background_labels or the "
                    "label table"
                )
            if grouped.count(value) > 1:
                raise ValueError(f"tissues: {value} stands twice")
        return self

    @model_validator(mode="before")
    @classmethod
    def _channels_of_the_images(cls, content: Any) -> Any:
        """Take the channels from the images by channel, where the file does not say them."""
        source = content.get("source") if isinstance(content, dict) else None
        images = source.get("images") if isinstance(source, dict) else None
        if isinstance(images, dict) and images and source.get("layout") in ("files", "bids"):
            return {"channels": list(images), **content}
        return content

    @model_validator(mode="after")
    def _patterns_of_all(self) -> "Dataset":
        """Refuse patterns and entities of other channels and structures than the dataset's."""
        if not isinstance(self.source, FilesSource | BidsSource):
            return self
        for key, given, known in (
            ("images", self.source.images, self.channels),
            ("masks", self.source.masks, tuple(self.structures)),
        ):
            if given and set(given) != set(known):
                what = "channels" if key == "images" else "structures"
                raise ValueError(
                    f"source.{key}: {', '.join(given)}; expected one for each of the {what} ({', '.join(known)})"
                )
        return self

    def delivered(self) -> "Dataset":
        """Return the settings that the audit of the files depends on, with all others at their defaults."""
        return self.at_default(("cases_per_job", "audit_labels", "participants"))

    @property
    def has_participants(self) -> bool:
        """Return whether a table may say something of the subjects: one that is named, BIDS's, or the case table itself."""
        return bool(self.participants) or isinstance(self.source, BidsSource | TableSource)

    @property
    def has_images(self) -> bool:
        """Return whether the cases have images; label maps alone can be trained on and not predicted."""
        without = isinstance(self.source, TableSource) and not self.source.images
        return not (without or isinstance(self.source, LabelMapsSource))

    @model_validator(mode="after")
    def _label_maps_have_no_images(self) -> "Dataset":
        if self.has_images:
            return self
        for key, value in (("repair", self.repair), ("audit_labels", self.audit_labels)):
            if value:
                raise ValueError(f"{key}: looks at images, and label maps have none; leave it out")
        return self


def pairs_of(cohort: Cohort) -> Pairs:
    """Return the pairs of left and right structures of a dataset; none for `left_right_pairs: none`."""
    return () if cohort.left_right_pairs == "none" else cohort.left_right_pairs


def check_ignore(
    ignore: Collection[int], structures: Collection[int], background: Collection[int]
) -> None:
    """Refuse a value of `ignore` that a structure or the background has too.

    Parameters
    ----------
    ignore
        Label values of voxels that nobody has labelled.
    structures
        Label values of the structures.
    background
        Further label values that are background.

    Raises
    ------
    ValueError
        With the first such value.
    """
    for value in ignore:
        if value in structures:
            raise ValueError(f"ignore: value {value} is a structure's value")
        if value in background:
            raise ValueError(
                f"ignore: value {value} is in background_labels too; expected it in one of them: voxels "
                "that are known to be background, or of which nothing is known"
            )


def check_pairs(pairs: Pairs, structures: list[str]) -> None:
    """Refuse pairs of left and right structures that are no structures, or that share one.

    Parameters
    ----------
    pairs
        (left, right) each.
    structures
        Names of the structures.

    Raises
    ------
    ValueError
        With the first such name.
    """
    members = [name for pair in pairs for name in pair]
    for name in members:
        if name not in structures:
            raise ValueError(
                f"left_right_pairs: {name!r} is none of the structures ({', '.join(structures)})"
            )
        if members.count(name) > 1:
            raise ValueError(f"left_right_pairs: {name!r} stands twice")
