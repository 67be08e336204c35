"""The study file: its types, its errors, and the slice of it that each stage is given.

Every setting is here, with its unit and default. `config/README.md` and
`config/study.schema.json` are generated from these types (`segstudy study --reference`,
`--schema`). This module imports neither torch nor snakemake.
"""

import difflib
import hashlib
import json
import re
import shlex
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from segstudy import labels
from segstudy.errors import InputError
from segstudy.grid import expand
from segstudy.sides import likely_pairs, other_side

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$", description="letters, digits and underscores"),
]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = tuple[float, float]
SpacingMm = tuple[Positive, Positive, Positive]
Axes = tuple[Literal["right_left", "back_front", "foot_head"], ...]
Pairs = tuple[tuple[str, str], ...]
LabelValue = Annotated[int, Field(ge=1, le=65535)]

PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""What is filled into the command of an external model."""

# What networks of segstudy and nnU-Net are both asked.
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="where to train and predict")]
Threads = Annotated[int, Field(ge=1, description="CPU threads of a training or prediction job")]
Seeds = Annotated[tuple[int, ...], Field(min_length=1, description="one training a seed and fold")]
MemoryMb = Annotated[
    int, Field(ge=1, description="memory a training or prediction job asks for, in MB")
]
AutoMemoryMb = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1)],
    Field(
        description="memory a training or prediction job asks for, in MB; `auto`: by the voxels of the data, the "
        "patches and the network"
    ),
]
RuntimeMin = Annotated[int, Field(ge=1, description="time a training job asks for, in minutes")]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """One line of JSON without what is at its default: what a rule passes on its command line.

        Keys keep their order, since the order of the structures is the order of the classes.
        """
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True))

    def digest(self) -> str:
        """Digest of all settings, those at their defaults too: a changed default is a change."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


# --- datasets -----------------------------------------------------------------------------------


class PhantomSource(Settings):
    """A thorax phantom in the SegTHOR manner, made from a seed: no download, known truth."""

    layout: Literal["phantom"]
    patients: int = Field(14, ge=2, description="number of patients")
    seed: int = Field(2026, description="seed of anatomy and noise")
    size_voxels: tuple[int, int, int] = Field(
        (96, 96, 44), description="mean grid size (i, j, k) of a patient, in voxels"
    )
    tampered: bool = Field(
        True,
        description="move the heart's label in every patient, as in SegTHOR; one patient keeps the right label too",
    )


class Origin(Settings):
    """Where a dataset's files are: in a folder, in an archive to fetch, or as the registry says."""

    path: str | None = Field(None, description="folder already on disk; nothing is downloaded then")
    url: str | None = Field(None, description="address of the archive (http or https)")
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="MD5 of the archive")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the archive"
    )
    registered: str | None = Field(
        None,
        description="name in `resources/datasets.yaml`, in place of `url` and checksum; what is given out on "
        "application only runs from `path`, and the error without it says where to apply",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "Origin":
        if not (self.path or self.url or self.registered):
            raise ValueError("needs one of path, url, registered")
        if self.url and not (self.md5 or self.sha256):
            raise ValueError("a url needs its checksum: add md5 or sha256")
        return self


class FolderSource(Origin):
    """A dataset in a layout that other programs write.

    `msd`: Decathlon (`dataset.json`, `imagesTr`, `labelsTr`; channels in a fourth axis).
    `nnunet`: nnU-Net raw (`dataset.json`, `imagesTr/<case>_0000.nii.gz`, `labelsTr/<case>.nii.gz`).
    `segthor`: `train/Patient_NN/{Patient_NN.nii.gz, GT.nii.gz}`, and `GT2.nii.gz`, a second, right label,
    where there is one.
    """

    layout: Literal["msd", "nnunet", "segthor"]


class SlicesSource(Origin):
    """OASIS brain slices: PNG or NIfTI files of one slice each.

    `keras_png_slices_<part>/case_NNN_slice_S.nii.png` and
    `keras_png_slices_seg_<part>/seg_NNN_slice_S.nii.png`; gray values are the label's values. The
    slices of a subject NNN are stacked along the third axis into a volume. The files do not say how
    large a pixel is or which way it lies: distances and sides hold as far as `pixel_mm` and
    `slice_mm` do.
    """

    layout: Literal["oasis_slices"]
    parts: tuple[Literal["train", "validate", "test"], ...] = Field(
        ("train", "validate", "test"), min_length=1, description="which of the folders are read"
    )
    cases_are: Literal["subjects", "slices"] = Field(
        "subjects",
        description="`subjects`: a case is a subject's volume; `slices`: each slice is a case of its subject, "
        "for measuring what a split by slice leaks",
    )
    pixel_mm: Positive = Field(1.0, description="size of a pixel, in mm")
    slice_mm: Positive = Field(1.0, description="distance of neighbouring slices, in mm")


class NeuriteSource(Origin):
    """neurite-OASIS: `OASIS_OAS1_NNNN_MR1/{aligned_norm.nii.gz, aligned_seg35.nii.gz, aligned_seg4.nii.gz}`."""

    layout: Literal["neurite_oasis"]
    segmentation: Literal["seg35", "seg4"] = Field(
        "seg35", description="35 structures, left and right apart, or 4 tissues"
    )


class BidsSource(Origin):
    """A BIDS dataset with segmentations among its derivatives.

    Images `sub-*/[ses-*/]anat/*_<suffix>.nii.gz`; labels
    `derivatives/<pipeline>/sub-*/[ses-*/]anat/*_dseg.nii.gz`, with a `dseg.tsv` of values and names
    beside them or above. A session is a case of its subject.
    """

    layout: Literal["bids"]
    suffixes: tuple[str, ...] = Field(
        ("T1w",), min_length=1, description="suffix of each channel's file, in the channels' order"
    )
    pipeline: str | None = Field(
        None, description="folder in `derivatives`; left out: the only one that holds labels"
    )
    image_desc: str | None = Field(
        None,
        description="take images of this `desc-` from the pipeline's folder; left out: the raw ones",
    )
    label_desc: str | None = Field(
        None, description="`desc-` of the label files, where a session has several"
    )


class LabelMapsSource(Origin):
    """Label maps alone, as SynthSeg learns from: each image file of the folder is a case, named by its file.

    Files `sub-<id>_...` are of subject `sub-<id>`, as in BIDS; any other is a subject's only one. There
    are no images, so that these cases are trained on (`trainer: synth`) and never tested.
    """

    layout: Literal["label_maps"]


class TableSource(Settings):
    """Your own files, named in a table (TSV): `case`, `subject`, `image` or `image_<channel>`, `label`.

    Optional columns: `reference_label`, `fold`, `split` (`train` or `test`). Paths are taken
    from the table's own folder.
    """

    layout: Literal["table"]
    path: str = Field(description="the table, a .tsv file")


Source = Annotated[
    PhantomSource
    | FolderSource
    | SlicesSource
    | NeuriteSource
    | BidsSource
    | LabelMapsSource
    | TableSource,
    Field(discriminator="layout"),
]


def source_kinds() -> dict[str, type[Settings]]:
    """The settings class of each layout."""
    kinds = typing.get_args(typing.get_args(Source)[0])
    return {
        layout: kind
        for kind in kinds
        for layout in typing.get_args(kind.model_fields["layout"].annotation)
    }


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
        1.0, description="first step of the rotation sweep, in degrees"
    )
    angle_tolerance_deg: Positive = Field(0.01, description="last step of the sweep, in degrees")
    sweep_also: tuple[Literal["tilt", "scale"], ...] = Field(
        (),
        description="what else the sweep looks for, from its own optimum on: `tilt`: rotation about the other two "
        "axes (tilts of 5 to 30 degrees of the phantom's heart were found to 0.1 degree); `scale`: one factor for all axes; a further attempt, its IoU decides",
    )
    minimum_iou: Share = Field(
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


def _structures_schema(schema: dict) -> None:
    """What a study file may hold: a value or several a structure, or names of a label table."""
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

    modality: Literal["CT", "MR", "other"] = Field(
        description="decides cropping and normalisation: CT in Hounsfield units, MR and other by image"
    )
    structures: dict[str, LabelValue] = Field(
        description="structure: value in the label files (0 is background), or a list of values, which are merged; "
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
    )
    ignore_labels: tuple[int, ...] = Field(
        (), description="further values that label files may hold, treated as background"
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
            raise ValueError(f"structures: value {twice[0]} stands for two structures")
        if "background" in self.structures:
            raise ValueError("structures: background is always 0 and is not listed")
        both = sorted(set(values) & set(self.ignore_labels))
        if both:
            raise ValueError(f"ignore_labels: value {both[0]} is a structure's value")
        return self

    def cohort(self) -> "Cohort":
        """These settings alone: all that a stage needs which only reads the files, to which sides are nothing."""
        fields = Cohort.model_fields.keys() - {"left_right_pairs"}
        return Cohort(**{name: getattr(self, name) for name in fields})


def pairs_of(cohort: Cohort) -> Pairs:
    """The declared pairs; none where the study file says that there are none."""
    return () if cohort.left_right_pairs == "none" else cohort.left_right_pairs


class RepairedCohort(Cohort):
    """What `segstudy repair` needs of a dataset."""

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
        """These settings alone."""
        fields = RepairedCohort.model_fields.keys() - {"left_right_pairs"}
        return RepairedCohort(**{name: getattr(self, name) for name in fields})


class Dataset(RepairedCohort):
    """One cohort of labelled images."""

    source: Source
    role: Literal["train", "test"] = Field(
        "train",
        description="`train`: cross-validated, or, of label maps, trained on by every fold; `test`: another site, "
        "predicted by every fold's model, never trained on",
    )
    cases_per_job: int = Field(
        8, ge=1, description="cases a job handles: 1 for large CT, 32 for small crops"
    )
    audit_labels: bool = Field(
        False,
        description="look for labels that do not fit the rest of the cohort (shifted, flipped, rotated, "
        "swapped, stray pieces, holes, empty, cut), after the repair if there is one; the report lists them",
    )
    on_bad_case: Literal["fail", "drop"] = Field(
        "fail", description="what to do with a case that fails the audit: stop, or go on without it"
    )
    tissues: dict[Name, tuple[int, ...]] = Field(
        {},
        description="for `trainer: synth`, label values that look alike in an image, such as those of both sides: "
        "name: [values]; left and right do so by `left_right_pairs` and `label_table` already",
    )

    @model_validator(mode="after")
    def _tissues_are_labels(self) -> "Dataset":
        table = labels.read_table(self.label_table) if self.label_table else ()
        known = [*self.structures.values(), *self.ignore_labels, *table]
        grouped = [value for values in self.tissues.values() for value in values]
        for value in grouped:
            if value not in known:
                raise ValueError(
                    f"tissues: {value} is a value of no structure, and not in ignore_labels or the "
                    "label table"
                )
            if grouped.count(value) > 1:
                raise ValueError(f"tissues: {value} stands twice")
        return self

    @property
    def has_images(self) -> bool:
        """Whether its cases can be predicted: label maps alone can only be trained on."""
        return not isinstance(self.source, LabelMapsSource)

    @model_validator(mode="after")
    def _label_maps_are_for_training(self) -> "Dataset":
        if self.has_images:
            return self
        if self.role == "test":
            raise ValueError(
                "role: test, but label maps have no images to predict; leave role out: they are trained on"
            )
        for key, value in (("repair", self.repair), ("audit_labels", self.audit_labels)):
            if value:
                raise ValueError(f"{key}: looks at images, and label maps have none; leave it out")
        return self


# --- splits and preprocessing -------------------------------------------------------------------


class Splits(Settings):
    """Cross-validation. Cases of one subject stand on one side of a split, unless a study asks to see the leak."""

    folds: int = Field(5, ge=2, le=20, description="number of folds")
    run_folds: tuple[int, ...] | None = Field(
        None, description="folds to run, counted from 0; left out: all"
    )
    seed: int = Field(20, description="seed of the shuffle")
    stratify_by: Literal["foreground_volume", "volume_and_presence", "none"] = Field(
        "foreground_volume",
        description="what the folds are balanced by; `volume_and_presence`: which structures a subject has, then volume",
    )
    group_by: Literal["subject", "case_though_it_leaks"] = Field(
        "subject",
        description="cases of one subject stay together; `case_though_it_leaks` deals them out one by one, so that a "
        "model is tested on subjects that it was trained on: only to measure what that pretends",
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
        description="voxel size (right-left, back-front, foot-head) in mm; `auto`: the median of the training cases",
    )
    crop: Literal["auto", "body", "nonzero", "none"] = Field(
        "auto",
        description="region kept: `body` above -500 HU, `nonzero`; `auto`: body for CT, else nonzero",
    )
    margin_mm: NotNegative = Field(5.0, description="margin around the cropped region, in mm")
    normalise: Literal["auto", "ct", "zscore"] = Field(
        "auto",
        description="`ct`: clip to percentiles of the training cases' foreground, then z-score with its mean and SD; "
        "`zscore`: each image by itself; `auto`: by modality",
    )
    clip_percentiles: Range = Field(
        (0.5, 99.5), description="foreground percentiles that CT values are clipped to"
    )
    anisotropy_threshold: Positive = Field(
        3.0,
        description="ratio of coarsest to next voxel size above which the coarse axis is resampled apart, by nearest neighbour",
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


# --- models -------------------------------------------------------------------------------------


class Loss(Settings):
    """Weighted sum of soft Dice, cross-entropy and focal loss (Lin et al. 2017)."""

    dice: NotNegative = Field(0.5, description="share of the Dice loss")
    cross_entropy: NotNegative = Field(0.5, description="share of the cross-entropy")
    focal: NotNegative = Field(0.0, description="share of the focal loss")
    focal_gamma: NotNegative = Field(2.0, description="focusing exponent of the focal loss")
    batch_dice: bool = Field(True, description="Dice over the whole batch, not image by image")
    dice_background: bool = Field(
        False, description="count the background as a class of the Dice loss"
    )
    class_weights: dict[str, NotNegative] | None = Field(
        None, description="weights inside Dice: `background` and each structure; left out: equal"
    )

    @model_validator(mode="after")
    def _something(self) -> "Loss":
        if self.dice + self.cross_entropy + self.focal <= 0:
            raise ValueError("at least one of dice, cross_entropy, focal must be above 0")
        return self


class Optimizer(Settings):
    name: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="sgd is with Nesterov momentum"
    )
    lr: Positive = Field(1e-3, description="peak learning rate")
    weight_decay: NotNegative = Field(1e-4, description="weight decay")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Adam's betas")
    momentum: Share = Field(0.99, description="momentum of sgd")


class Schedule(Settings):
    name: Literal["cosine", "poly", "linear", "constant"] = Field(
        "cosine", description="decay of the learning rate; poly has exponent 0.9"
    )
    warmup_epochs: NotNegative = Field(0, description="epochs of linear warm-up")


class Augmentation(Settings):
    """Random changes of a training patch, made in batch on the training device. `share` is a probability a patch."""

    affine_share: Share = Field(
        0.5, description="share of patches rotated, scaled, sheared and shifted"
    )
    rotation_deg: NotNegative = Field(15.0, description="largest rotation about each axis, degrees")
    scale: Range = Field((0.85, 1.2), description="range of the scale factor")
    shear: NotNegative = Field(
        0.0, description="largest shear of an axis along another, as a tangent"
    )
    translation_voxels: NotNegative = Field(0.0, description="largest shift, voxels")
    elastic_share: Share = Field(0.0, description="share bent by a smooth random field")
    elastic_voxels: NotNegative = Field(
        2.0, description="largest SD of the field's displacement along each axis, voxels"
    )
    elastic_spacing_voxels: Annotated[float, Field(ge=4)] = Field(
        16.0, description="distance of the field's control points, voxels"
    )
    flip_axes: Axes = Field(
        (),
        description="axes that are flipped, each for half of the patches; `right_left` swaps `left_right_pairs`",
    )
    noise_share: Share = Field(0.15, description="share with Gaussian noise")
    noise_sd: NotNegative = Field(0.1, description="largest SD of the noise, in SD of the image")
    blur_share: Share = Field(0.1, description="share blurred")
    blur_sigma_voxels: Range = Field((0.5, 1.0), description="range of the blur's sigma, voxels")
    bias_share: Share = Field(0.0, description="share with a smooth bias field, as in MR")
    bias_sd: NotNegative = Field(0.2, description="largest SD of the field's logarithm")
    brightness_share: Share = Field(0.15, description="share with another brightness")
    brightness: Range = Field((0.75, 1.25), description="range of the brightness factor")
    contrast_share: Share = Field(0.15, description="share with another contrast")
    contrast: Range = Field((0.75, 1.25), description="range of the contrast factor")
    low_resolution_share: Share = Field(0.1, description="share made to look coarser")
    low_resolution_scale: Range = Field(
        (0.5, 1.0), description="range of the lower resolution, as a share of the patch's"
    )
    gamma_share: Share = Field(0.15, description="share with another gamma")
    inverted_gamma_share: Share = Field(
        0.0, description="share with another gamma of the inverted patch"
    )
    gamma: Range = Field((0.7, 1.5), description="range of gamma")

    @field_validator(
        *("scale", "blur_sigma_voxels", "brightness", "contrast", "gamma", "low_resolution_scale")
    )
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two numbers, 0 < low <= high")
        return value

    @model_validator(mode="after")
    def _possible(self) -> "Augmentation":
        if self.low_resolution_scale[1] > 1:
            raise ValueError("low_resolution_scale: expected at most 1, the patch's own")
        if self.elastic_voxels > self.elastic_spacing_voxels / 6:
            raise ValueError(
                f"elastic_voxels: {self.elastic_voxels:g} voxels would fold an image whose control points are "
                f"{self.elastic_spacing_voxels:g} voxels apart; expected at most a sixth of that"
            )
        return self


class Synthesis(Settings):
    """Training images drawn from label maps (Billot et al. 2023, SynthSeg). Grey values run from 0 to 1."""

    rotation_deg: NotNegative = Field(15.0, description="largest rotation about each axis, degrees")
    scale: Range = Field((0.8, 1.2), description="range of the scale factor")
    shear: NotNegative = Field(0.02, description="largest shear of each two axes, as a tangent")
    elastic_sd_mm: NotNegative = Field(
        2.0, description="SD of the elastic shift along each axis, mm; it never folds"
    )
    elastic_spacing_mm: Positive = Field(
        25.0, description="distance of the control points of the elastic deformation, mm"
    )
    left_right_share: Share = Field(
        0.5,
        description="share of patches whose sides are swapped, image and labels; none without `left_right_pairs`",
    )
    mean: Range = Field((0.0, 1.0), description="range of a tissue's mean grey value")
    sd: Range = Field((0.0, 0.12), description="range of the SD of a tissue's grey values")
    zero_background_share: Share = Field(
        0.3,
        description="share of images whose background is 0, as without skull; else it is a tissue",
    )
    bias_field_sd: NotNegative = Field(
        0.3, description="largest SD of the logarithm of the bias field"
    )
    bias_field_spacing_mm: Positive = Field(
        60.0, description="distance of the control points of the bias field, mm"
    )
    gamma_sd: NotNegative = Field(0.4, description="SD of the logarithm of gamma")
    low_resolution_share: Share = Field(
        0.8, description="share of images that lose resolution, half of them along all axes"
    )
    isotropic_mm: Positive = Field(
        4.0, description="coarsest voxels of an image that is coarse along all axes, mm"
    )
    slice_spacing_mm: Positive = Field(
        8.0,
        description="largest distance of slices, mm; their thickness lies between a voxel and that",
    )
    shift_sd: NotNegative = Field(
        0.2,
        description="SD of a shift of all grey values, in SD of the patch: mean and SD are taken of a patch "
        "in training, and of the whole image in prediction",
    )
    gain: Range = Field((0.8, 1.25), description="range of a factor of all grey values, likewise")

    @field_validator("scale", "mean", "sd", "gain")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("expected two numbers, 0 <= low <= high")
        return value

    @field_validator("scale", "gain")
    @classmethod
    def _above_zero(cls, value: Range) -> Range:
        if value[0] <= 0:
            raise ValueError("expected two numbers above 0")
        return value


class Infer(Settings):
    """How a trained network predicts. A change predicts anew and trains nothing."""

    weights: Literal["last", "best"] = Field(
        "last", description="weights used to predict; `best` by validation Dice"
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="overlap of prediction windows"
    )
    keep_largest_component: Literal["auto", "never", "always"] = Field(
        "auto",
        description="keep only a structure's largest component; `auto`: where that raises Dice on training cases",
    )


class OwnInfer(Infer):
    """How a network of segstudy predicts."""

    mirror_axes: Axes = Field(
        (),
        description="average over images mirrored along these axes and all their combinations (test-time augmentation); "
        "`right_left` swaps `left_right_pairs` back",
    )


class NnunetInfer(Infer):
    """How nnU-Net's predictor is run. Its own choice of post-processing is left out: ours is made for all models."""

    mirroring: bool = Field(
        True, description="average over mirrored images (test-time augmentation)"
    )


class TrainingSubset(Settings):
    """Some of a fold's training subjects, for the question how much data a model needs.

    Each of the model's `seeds` makes its own draw. Models with the same `seed` here draw alike:
    with 5 and with 30 subjects, the 5 are among the 30 of the same fold and training seed. Plans
    of `preprocess` are still fitted on all training cases of the fold; nnU-Net's on the subset.
    """

    subjects: int = Field(
        ge=1, description="how many, those of `validation_share` (at least one, above 0) included"
    )
    seed: int = Field(1, description="seed of the draw")

    @property
    def draw(self) -> tuple[int, int]:
        return self.subjects, self.seed


NOT_LEARNED = ("seeds", "device", "gpus", "threads", "workers", "memory_mb", "runtime_min", "infer")
"""Settings of a model that do not shape its weights."""


class Arm(Settings):
    """What a study trains and compares: one of its models."""

    training_subset: TrainingSubset | None = Field(
        None, description="train on some of the subjects only; left out: on all of the fold's"
    )

    train_on: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="datasets that the model learns from, of those with `role: train`; left out: all of them. It is "
        "tested on all that have images, a fold's cases each",
    )

    grid: dict[str, tuple[Any, ...]] = Field(
        {},
        description="grid search: settings, e.g. `channels` or `optimizer.lr`, with lists of values; the model is "
        "replaced by an arm of each combination, at most 64, e.g. `unet3d_c32_lr0p001`",
    )

    @field_validator("grid")
    @classmethod
    def _is_expanded(cls, value: dict) -> dict:
        if value:
            raise ValueError("a grid is expanded where a study file is read; give one model here")
        return value

    def learning(self) -> "Arm":
        """The settings that shape the weights, with all others at their defaults.

        Where and how long a job runs, and how its weights are used, is no reason to train again.
        """
        return self.model_copy(
            update={
                name: field.get_default()
                for name, field in type(self).model_fields.items()
                if name in NOT_LEARNED
            }
        )


class Slices(Settings):
    """Which slices a 2D network is trained on. All slices are predicted, always."""

    keep: Literal["all", "foreground"] = Field(
        "all", description="`foreground`: slices that hold a structure; others are dropped"
    )
    most_per_plane: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="at most so many slices of each plane of a case, drawn once by the seed; left out: all",
    )


class SirenHead(Settings):
    """A head of sine layers that sees, beside the network's features, where in the patch a voxel lies
    (Sitzmann et al. 2020): mm from the patch's middle, over half its longest side.
    """

    hidden: int = Field(
        32, ge=1, description="width of the sine layers, and features they are given"
    )
    layers: int = Field(2, ge=1, le=8, description="sine layers; a linear one follows")
    omega: Positive = Field(
        10.0,
        description="frequency factor of the sines; the paper's 30 is for coordinates alone, and learns slowly here",
    )


class Model(Arm):
    """What every trained network shares."""

    trainer: Literal["images", "synth"] = Field(
        "images",
        description="`images`: learn from the cases' images; `synth`: from images drawn from their label maps alone, "
        "with `loss: {dice: 1, cross_entropy: 0}` where no other is given",
    )
    dims: Literal[2, 3] = Field(3, description="2: slices; 3: volumes")
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(
        ("axial",), description="slice planes of a 2D network"
    )
    slices: Slices = Slices()
    plan: Name = Field("default", description="which entry of `preprocess`")
    patch_size: Literal["auto"] | tuple[int, ...] = Field(
        "auto", description="patch in voxels of the plan's grid (RAS order; in-plane for 2D)"
    )
    batch_size: int = Field(2, ge=1, description="patches a step")
    epochs: int = Field(100, ge=1, description="epochs")
    steps_per_epoch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="steps an epoch; `auto`: as many as show each training case once (2D: at least 8 slices of it), "
        "and with `trainer: synth` at least 250",
    )
    foreground_share: Share = Field(0.5, description="share of patches centred on a structure")
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    synthesis: Synthesis = Synthesis()
    deep_supervision: bool = Field(True, description="losses on lower resolutions too (3D U-Net)")
    gradient_clip_norm: Positive = Field(12.0, description="largest norm of the gradient")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="decay a step of a moving average of the weights, which is then validated and kept "
        "in their place, e.g. 0.999; 0: none",
    )
    compile: bool = Field(
        False, description="train through torch.compile; stops where that cannot be done"
    )
    amp: bool = Field(
        True,
        description="automatic mixed precision: on CUDA, and on CPUs with bfloat16 instructions (AVX512-BF16, AMX)",
    )
    device: Device = "auto"
    gpus: int = Field(
        1,
        ge=1,
        description="GPUs of one node that share each batch of a training: the same steps, to rounding (dropout draws "
        "anew), in less time; the job asks for so many times `threads` and `memory_mb`",
    )
    threads: Threads = 2
    workers: int = Field(
        0,
        ge=0,
        description="processes that cut patches, taken from `threads`, for each GPU; 0: a thread beside the training",
    )
    seeds: Seeds = (0,)
    validation_share: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.1,
        description="share of a fold's training cases kept apart to follow the training; the fold's test cases are never seen",
    )
    validate_every_epochs: int = Field(
        5, ge=1, description="epochs between validations on whole volumes"
    )
    head: SirenHead | None = Field(
        None, description="coordinate head in place of the last layer; left out: none"
    )
    infer: OwnInfer = OwnInfer()
    memory_mb: AutoMemoryMb = "auto"
    runtime_min: RuntimeMin = 1440

    @property
    def averages_mirrored(self) -> bool:
        return bool(self.infer.mirror_axes)

    @property
    def mirrors_sides(self) -> list[str]:
        """The settings by which this network sees, in training or prediction, left where right was.

        Sagittal slices never show the right-left axis.
        """
        if self.dims == 2 and set(self.planes) == {"sagittal"}:
            return []
        named = {
            "augmentation.flip_axes": self.augmentation.flip_axes,
            "infer.mirror_axes": self.infer.mirror_axes,
        }
        return [f"{key}: right_left" for key, axes in named.items() if "right_left" in axes]

    @model_validator(mode="after")
    def _patch_fits(self) -> "Model":
        if self.dims == 3 and self.slices != Slices():
            raise ValueError("slices: for 2D networks alone; set dims: 2, or leave slices out")
        if self.patch_size != "auto":
            if len(self.patch_size) != self.dims:
                raise ValueError(
                    f"patch_size: {len(self.patch_size)} numbers, but dims is {self.dims}"
                )
            if min(self.patch_size) < 8:
                raise ValueError("patch_size: expected at least 8 voxels along each axis")
        return self

    @model_validator(mode="after")
    def _gpus_share(self) -> "Model":
        if self.batch_size % self.gpus:
            raise ValueError(
                f"gpus: {self.gpus} do not share a batch of {self.batch_size} equally; expected a "
                "batch_size that is a multiple of gpus"
            )
        if self.gpus > 1 and self.device == "cpu":
            raise ValueError(f"gpus: {self.gpus}, but device is cpu; expected auto or cuda, or 1")
        if self.gpus > 1 and self.trainer == "synth":
            raise ValueError(
                f"gpus: {self.gpus}, but trainer: synth draws images on one; expected 1"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _loss_of_its_trainer(cls, given: Any) -> Any:
        """SynthSeg's loss is Dice alone. Cross-entropy keeps small structures away for thousands of steps."""
        if isinstance(given, dict) and given.get("trainer") == "synth" and "loss" not in given:
            return {**given, "loss": {"dice": 1.0, "cross_entropy": 0.0}}
        return given

    @model_validator(mode="after")
    def _changes_of_its_trainer(self) -> "Model":
        if self.trainer == "synth" and self.augmentation != Augmentation():
            raise ValueError(
                "augmentation: trainer: synth makes its images itself; set `synthesis` instead"
            )
        if self.trainer == "images" and self.synthesis != Synthesis():
            raise ValueError("synthesis: only a model with trainer: synth draws images; add that")
        return self


class EnetModel(Model):
    """ENet (Paszke et al. 2016): bottleneck encoder-decoder on slices."""

    network: Literal["enet"]
    dims: Literal[2] = Field(2, description="ENet works on slices")
    channels: int = Field(16, ge=4, description="channels of the initial block; 16 in the paper")
    dropout: Share = Field(0.1, description="spatial dropout of the bottlenecks")


class UnetModel(Model):
    """U-Net (Ronneberger et al. 2015; Çiçek et al. 2016) of free width and depth."""

    network: Literal["unet"]
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128, 256), min_length=2, description="channels of each level"
    )
    convolutions_per_level: int = Field(2, ge=1, le=4, description="convolutions of each block")
    downsampling: Literal["stride", "max_pool"] = Field(
        "stride", description="`stride`: of a level's first convolution; `max_pool` before it"
    )
    upsampling: Literal["transposed", "linear", "nearest"] = Field(
        "transposed", description="transposed convolution, or interpolation"
    )
    normalisation: Literal["instance", "batch", "none"] = Field(
        "instance", description="normalisation layer; `none`: convolutions have a bias in its place"
    )
    activation: Literal["leaky_relu", "relu"] = Field(
        "leaky_relu", description="leaky ReLU has slope 0.01"
    )
    attention: Literal["none", "se", "cbam"] = Field(
        "none",
        description="at the end of each block: `se`: squeeze-and-excitation (Hu et al. 2018); `cbam`: "
        "channels and places (Woo et al. 2018)",
    )
    initialisation: Literal["he", "he_uniform", "default"] = Field(
        "he", description="first weights: He et al. 2015, normal or uniform; `default`: torch's"
    )
    dropout: Share = Field(0.0, description="dropout of the blocks")


class AttentionUnetModel(Model):
    """U-Net with attention gates on its skip connections (Oktay et al. 2018), MONAI's."""

    network: Literal["attention_unet"]
    channels: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (32, 64, 128, 256), min_length=2, description="channels of each level"
    )
    dropout: Share = Field(0.0, description="dropout of the convolutions")


class UnetrModel(Model):
    """UNETR (Hatamizadeh et al. 2022): a vision transformer as encoder, MONAI's. Patches are multiples of 16 voxels."""

    network: Literal["unetr"]
    feature_size: int = Field(16, ge=1, description="channels of the decoder's last level")
    hidden_size: int = Field(768, ge=1, description="width of the transformer")
    heads: int = Field(12, ge=1, description="attention heads; they divide `hidden_size`")
    dropout: Share = Field(0.0, description="dropout of the transformer")

    @model_validator(mode="after")
    def _heads_divide(self) -> "UnetrModel":
        if self.hidden_size % self.heads:
            raise ValueError(
                f"heads: {self.heads} do not divide hidden_size ({self.hidden_size}); "
                "expected a divisor"
            )
        return self


class SwinUnetrModel(Model):
    """SwinUNETR (Hatamizadeh et al. 2022): attention in shifted windows, MONAI's. Patches are multiples of 32 voxels."""

    network: Literal["swin_unetr"]
    feature_size: int = Field(
        24, ge=12, multiple_of=12, description="channels of the first level; a multiple of 12"
    )
    depths: tuple[int, int, int, int] = Field(
        (2, 2, 2, 2), description="transformer layers of each stage"
    )
    heads: tuple[int, int, int, int] = Field(
        (3, 6, 12, 24), description="attention heads of each stage"
    )
    window_size: int = Field(7, ge=2, description="side of an attention window, in tokens")
    version: Literal[1, 2] = Field(
        1, description="2: a residual convolution before each stage (SwinUNETR-V2)"
    )
    dropout: Share = Field(0.0, description="dropout of the transformer")

    @model_validator(mode="after")
    def _heads_divide(self) -> "SwinUnetrModel":
        widths = [self.feature_size * 2**stage for stage in range(4)]
        for width, heads, depth in zip(widths, self.heads, self.depths, strict=True):
            if heads < 1 or width % heads:
                raise ValueError(f"heads: {heads} do not divide a stage's {width} channels")
            if depth < 1:
                raise ValueError(f"depths: {depth}; expected at least 1 layer in each stage")
        return self


class NnunetModel(Arm):
    """nnU-Net itself (Isensee et al. 2021; extra `nnunet`): it plans, preprocesses, trains and predicts by its own
    rules, on the same folds as the other models. What it fits, it fits on a fold's training cases.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["trainer"]))

    network: Literal["nnunet"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["nnunet"] = Field("nnunet", description="written in place of `network`")
    configuration: Literal["2d", "3d_fullres", "3d_lowres"] = Field(
        "3d_fullres",
        description="nnU-Net's configuration; `3d_lowres` is there for large images only",
    )
    planner: Literal["default", "resenc_m", "resenc_l", "resenc_xl"] = Field(
        "default",
        description="`default`: the U-Net of the paper; `resenc_...`: residual encoder of that size (Isensee et al. 2024)",
    )
    gpu_memory_gb: Literal["auto"] | Positive = Field(
        "auto",
        description="GPU memory that patch and batch are planned for, in GB; `auto`: the planner's",
    )
    epochs: int = Field(1000, ge=1, description="epochs")
    steps_per_epoch: int = Field(250, ge=1, description="steps an epoch")
    validation_steps_per_epoch: int = Field(
        50, ge=1, description="batches an epoch on which pseudo Dice is measured"
    )
    mirror: Literal["auto", "all", "not_right_left", "none"] = Field(
        "auto",
        description="axes that training mirrors, and prediction with it; `not_right_left`: all but that axis of the "
        "images; `all`: as nnU-Net does, which knows no sides, so that `left_right_pairs` get mixed up: only to show "
        "that, and the report says so; `auto`: `not_right_left` where the study has pairs, else `all`",
    )
    device: Device = "auto"
    threads: Threads = 8
    seeds: Seeds = (0,)
    validation_share: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="share of a fold's training cases kept apart to follow the training; 0: all are trained on "
        "(nnU-Net's fold `all`), and pseudo Dice is that of training cases",
    )
    infer: NnunetInfer = NnunetInfer()
    memory_mb: MemoryMb = 32000
    runtime_min: RuntimeMin = 2880

    @property
    def averages_mirrored(self) -> bool:
        return self.infer.mirroring and self.mirror != "none"

    def mirrored(self, pairs: Pairs) -> Literal["all", "not_right_left", "none"]:
        """Which axes are mirrored in a study with these pairs of left and right."""
        if self.mirror != "auto":
            return self.mirror
        return "not_right_left" if pairs else "all"

    @property
    def mirrors_sides(self) -> list[str]:
        """The setting by which this network sees left where right was, in a study that declares no pairs."""
        return [f"mirror: {self.mirror}"] if self.mirrored(()) == "all" else []

    @property
    def plan(self) -> None:
        """None of the study's plans: nnU-Net makes its own."""
        return None

    @property
    def dims(self) -> int:
        return 2 if self.configuration == "2d" else 3


class ExternalModel(Arm):
    """Any program that maps an image to a label file, such as FreeSurfer's `mri_synthseg`. Nothing is trained: it
    predicts each tested case, and is measured like the other models.
    """

    # For editors: what a person writes is `trainer`.
    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(required=["trainer", "command", "labels"])
    )

    network: Literal["external"] = Field(
        description="follows from `trainer`, and need not be written"
    )
    trainer: Literal["external"] = Field("external", description="written in place of `network`")
    command: Annotated[
        tuple[str, ...],
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ] = Field(
        min_length=1,
        description="the command, e.g. `mri_synthseg --i {image} --o {output} --keepgeom`, run without a shell; "
        "`{image}` (of several channels: `{image_CHANNEL}` each) and `{output}` are files, `{threads}` a number",
    )
    labels: Annotated[
        dict[str, tuple[LabelValue, ...]],
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        {"type": "integer"},
                        {"type": "array", "items": {"type": "integer"}},
                    ]
                },
            }
        ),
    ] = Field(
        min_length=1,
        description="structure: its value in the files that the command writes, or a list of values, which are merged",
    )
    ignore_labels: Literal["all"] | tuple[int, ...] = Field(
        (), description="further values of these files, treated as background; `all`: any other"
    )
    timeout_min: Positive = Field(120.0, description="longest time for a case, in minutes")
    device: Device = Field("cpu", description="`cpu`: the job asks for no GPU")
    threads: Threads = 2
    memory_mb: MemoryMb = 16000
    runtime_min: RuntimeMin = 1440

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """A command in one line is split as a shell would."""
        try:
            return tuple(shlex.split(value)) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"command: {error}: {value}") from None

    @field_validator("labels", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: (own,) if isinstance(own, int) else own for name, own in value.items()}

    @model_validator(mode="after")
    def _one_meaning_a_value(self) -> "ExternalModel":
        values = [value for own in self.labels.values() for value in own]
        others = () if self.ignore_labels == "all" else self.ignore_labels
        for value in [*values, *others]:
            if (values + list(others)).count(value) > 1:
                raise ValueError(f"labels: value {value} stands for two things")
        for name, own in self.labels.items():
            if not own:
                raise ValueError(f"labels: no value for {name}")
        return self

    @model_validator(mode="after")
    def _trains_nothing(self) -> "ExternalModel":
        for key in ("training_subset", "train_on"):
            if getattr(self, key):
                raise ValueError(f"{key}: trainer: external trains nothing; leave it out")
        return self

    @property
    def mirrors_sides(self) -> list[str]:
        """No setting of the study mirrors what the program sees."""
        return []

    @property
    def plan(self) -> None:
        """None of the study's plans: the program is given images as they are."""
        return None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Nothing is drawn."""
        return (0,)

    def check(self, channels: Sequence[str]) -> None:
        """Raises ValueError where the command does not suit images of these channels."""
        images = ["image"] if len(channels) == 1 else [f"image_{channel}" for channel in channels]
        allowed = [*images, "output", "threads"]
        found = [key for word in self.command for key in PLACEHOLDER.findall(word)]
        for key in found:
            if key not in allowed:
                raise ValueError(
                    f"command: unknown placeholder {{{key}}}. Allowed: "
                    + ", ".join(f"{{{key}}}" for key in allowed)
                )
        for key in (*images, "output"):
            if key not in found:
                raise ValueError(f"command: {{{key}}} is missing")


TRAINERS = ("images", "synth", "nnunet", "external")


def _with_network(value: Any) -> Any:
    """`trainer: nnunet` and `external` stand for a `network` of that name; `synth` needs none named."""
    if not isinstance(value, dict) or "trainer" not in value:
        return value
    trainer, network = value["trainer"], value.get("network")
    if trainer not in TRAINERS:
        raise ValueError(
            f"trainer: found {trainer!r}. Allowed: {', '.join(TRAINERS)}; or leave it out and name a network"
        )
    if trainer == "synth":
        return {"network": "unet", **value}
    if trainer == "images":
        return value
    if network not in (None, trainer):
        raise ValueError(f"trainer: {trainer} brings its own network; leave out network: {network}")
    return {**value, "network": trainer}


AnyModel = Annotated[
    EnetModel
    | UnetModel
    | AttentionUnetModel
    | UnetrModel
    | SwinUnetrModel
    | NnunetModel
    | ExternalModel,
    Field(discriminator="network"),
    BeforeValidator(_with_network),
]


# --- metrics, statistics, publish ---------------------------------------------------------------


class Metrics(Settings):
    """Measured on the native grid, in millimetres."""

    surface: Literal["mesh", "surfel", "voxel"] = Field(
        "mesh",
        description="what distances are taken between: `mesh`, marching-cubes surfaces, weighted by area (the most "
        "accurate); `surfel`, weighted corners, as surface-distance; `voxel`, boundary voxels, as MONAI",
    )
    nsd_tolerance_mm: tuple[Positive, ...] | Positive = Field(
        (2.0,), description="tolerances of the normalised surface distance, in mm"
    )
    groups: dict[Name, tuple[str, ...]] = Field(
        {}, description="merged structures that are measured too: name: [structures]"
    )
    slice_axis: Literal["none", "axial", "coronal", "sagittal"] = Field(
        "none",
        description="measure Dice slice by slice too: `slice_dice`, a case's mean over the slices in which it is defined, "
        "and `slices_undefined`, the number of those left out because reference and prediction are both empty there",
    )

    @field_validator("nsd_tolerance_mm")
    @classmethod
    def _list(cls, value: Any) -> tuple[float, ...]:
        return value if isinstance(value, tuple) else (value,)


class Statistics(Settings):
    """Comparison of the models on the same cases."""

    compare: Literal["all"] | tuple[tuple[str, str], ...] = Field(
        "all", description="pairs of models; `all`: every pair"
    )
    compare_datasets: tuple[tuple[str, str], ...] = Field(
        (),
        description="pairs of datasets, such as two sites: [[a, b], ...]; each model on the one is compared with itself "
        "on the other, unpaired (Welch's t test, or Mann-Whitney U where a sample is not normal)",
    )
    metrics: tuple[str, ...] = Field(
        ("dice", "hd95_mm", "assd_mm", "precision", "recall"),
        description="metrics that are tested (`nsd` stands for all tolerances)",
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="significance level")
    when_not_normal: Literal["wilcoxon", "mannwhitneyu", "permutation"] = Field(
        "wilcoxon",
        description="test where the paired differences are not normal (Shapiro-Wilk): `wilcoxon` signed ranks; "
        "`permutation` of the differences' signs; `mannwhitneyu`, which discards the pairing",
    )
    correction: Literal["holm", "benjamini_hochberg", "none"] = Field(
        "holm", description="correction for multiple tests"
    )
    bootstrap: Literal["percentile", "bca"] = Field(
        "bca",
        description="confidence intervals (95 %) of means: `percentile`, or bias-corrected and accelerated",
    )
    bootstrap_samples: int = Field(
        2000, ge=100, description="resamples of the confidence intervals"
    )
    seed: int = Field(1, description="seed of the bootstrap")

    @field_validator("compare_datasets")
    @classmethod
    def _different(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for one, other in value:
            if one == other:
                raise ValueError(f"{one!r} stands against itself; expected two datasets")
        return value


class Publish(Settings):
    """Figures and report."""

    metrics: tuple[str, ...] = Field(
        ("dice", "hd95_mm", "nsd"), description="metrics that get a figure"
    )
    window: tuple[float, float] | None = Field(
        None, description="intensities shown as black and white; left out: by modality"
    )


class Study(Settings):
    """A study: which data, which models, how they are measured and compared."""

    name: Name = Field(description="name of the results folder; left out: the file's name")
    title: str = Field("", description="title of the report")
    description: str = Field("", description="a paragraph for the report")
    datasets: dict[Name, Dataset] = Field(min_length=1)
    splits: Splits = Splits()
    preprocess: dict[Name, Preprocess] = Field(
        {"default": Preprocess()}, description="named plans", min_length=1
    )
    models: dict[Name, AnyModel] = Field(min_length=1)
    metrics: Metrics = Metrics()
    statistics: Statistics = Statistics()
    publish: Publish = Publish()
    grids: dict[Name, dict[Name, dict[str, Any]]] = Field(
        {},
        description="not written: what each `grid` of a model became, arm by arm",
    )

    @model_validator(mode="after")
    def _references(self) -> "Study":
        if not self.tested_datasets:
            raise ValueError(
                "datasets: all are label maps, so nothing can be predicted; add one with images, with role: test "
                "if it is not to be trained on"
            )
        first_name = self.tested_datasets[0]
        first = self.datasets[first_name]
        for name, dataset in self.datasets.items():
            if set(dataset.structures) != set(first.structures):
                raise ValueError(
                    f"datasets.{name}.structures: {', '.join(dataset.structures)}; "
                    f"expected those of {first_name}: {', '.join(first.structures)}"
                )
            same_channels = dataset.channels == first.channels or not dataset.has_images
            if not same_channels or dataset.modality != first.modality:
                raise ValueError(
                    f"datasets.{name}: channels and modality must be those of {first_name}"
                )
            if dataset.left_right_pairs != first.left_right_pairs:
                raise ValueError(f"datasets.{name}.left_right_pairs: must be those of {first_name}")
        if not self.training_datasets:
            raise ValueError("datasets: at least one needs `role: train`")
        if self.splits.run_folds and not self.cross_validated_datasets:
            raise ValueError(
                "splits.run_folds: label maps are all that is trained on, by one training a model and seed; nothing is "
                "cross-validated: leave it out"
            )
        for name, model in self.models.items():
            if isinstance(model, ExternalModel):
                self._check_external(name, model)
            else:
                self._check_data(name, model)
            if not isinstance(model, Model):
                continue
            if model.plan not in self.preprocess:
                raise ValueError(
                    f"models.{name}.plan: {model.plan!r} is none of the plans "
                    f"({', '.join(self.preprocess)})"
                )
            if model.trainer == "synth":
                self._check_synth(name, model)
            weights = model.loss.class_weights
            known = ["background", *first.structures]
            if weights is not None and set(weights) - set(known):
                raise ValueError(
                    f"models.{name}.loss.class_weights: "
                    f"{sorted(set(weights) - set(known))[0]!r} is none of {', '.join(known)}"
                )
            missing = sorted(set(first.structures) - set(known if weights is None else weights))
            if missing:
                raise ValueError(
                    f"models.{name}.loss.class_weights: no weight for {missing[0]}; "
                    "give one to each structure"
                )
        for name, plan in self.preprocess.items():
            odd = [channel for channel in plan.channels or () if channel not in first.channels]
            if odd:
                raise ValueError(
                    f"preprocess.{name}.channels: {odd[0]!r} is none of the datasets' channels "
                    f"({', '.join(first.channels)})"
                )
        self._check_plans()
        self._check_sides(first)
        check_groups(self.metrics.groups, list(first.structures))
        if self.statistics.compare != "all":
            for pair in self.statistics.compare:
                for model in pair:
                    if model not in self.models:
                        raise ValueError(
                            f"statistics.compare: {model!r} is none of the models "
                            f"({', '.join(self.models)})"
                        )
        for pair in self.statistics.compare_datasets:
            for name in pair:
                if name not in self.tested_datasets:
                    raise ValueError(
                        f"statistics.compare_datasets: {name!r} is none of the datasets with images "
                        f"({', '.join(self.tested_datasets)})"
                    )
        return self

    def _check_data(self, name: str, model: Arm) -> None:
        """A model learns from training datasets, and from label maps alone only by drawing images."""
        for dataset in model.train_on or ():
            if dataset not in self.training_datasets:
                raise ValueError(
                    f"models.{name}.train_on: {dataset!r} is none of the datasets to train on "
                    f"({', '.join(self.training_datasets)})"
                )
        maps = [own for own in self.trained_on(name) if not self.datasets[own].has_images]
        if maps and model.trainer != "synth":
            others = [own for own in self.cross_validated_datasets if own not in maps]
            instead = f"train_on: [{', '.join(others)}], or " if others else ""
            raise ValueError(
                f"models.{name}: learns from images, and {maps[0]} has label maps alone; say {instead}"
                "trainer: synth, which draws images from them"
            )

    def _check_plans(self) -> None:
        """A plan is fitted on what is trained on with it."""
        users: dict[str, str] = {}
        for name, model in self.models.items():
            other = users.setdefault(model.plan, name) if model.plan else name
            if set(self.trained_on(name)) != set(self.trained_on(other)):
                raise ValueError(
                    f"models.{name}.train_on: {', '.join(self.trained_on(name))}, while {other} of the same plan "
                    f"({model.plan}) learns from {', '.join(self.trained_on(other))}; what is trained on decides "
                    "spacing and intensities: give one of them a plan of its own under preprocess"
                )

    def _check_external(self, name: str, model: ExternalModel) -> None:
        if set(model.labels) != set(self.structures):
            raise ValueError(
                f"models.{name}.labels: {', '.join(model.labels)}; expected the structures of the "
                f"datasets: {', '.join(self.structures)}"
            )
        try:
            model.check(self.channels)
        except ValueError as error:
            raise ValueError(f"models.{name}.{error}") from None

    def _check_synth(self, name: str, model: Model) -> None:
        """Images of any contrast have nothing in common but what each is normalised to by itself."""
        chosen = self.preprocess[model.plan].normalise
        if chosen == "ct" or (chosen == "auto" and self.modality == "CT"):
            raise ValueError(
                f"models.{name}: trainer: synth needs a plan with normalise: zscore, found "
                f"{chosen!r} for {self.modality}; name one by `plan`"
            )

    def _check_sides(self, cohort: Cohort) -> None:
        """A network that is mirrored across the sagittal plane must be told which structures swap."""
        lateral = [name for name in cohort.structures if other_side(name)]
        if cohort.left_right_pairs or not lateral:
            return
        pairs = ", ".join(f"[{left}, {right}]" for left, right in likely_pairs(cohort.structures))
        for name, model in self.models.items():
            for setting in model.mirrors_sides:
                without = (
                    "mirror: not_right_left"
                    if isinstance(model, NnunetModel)
                    else "leave right_left out"
                )
                raise ValueError(
                    f"models.{name}.{setting}: a mirrored image shows {lateral[0]} on the other side, under the "
                    f"wrong name; declare left_right_pairs: [{pairs or '[left, right], ...'}] in each dataset, or "
                    f"{without}, or say left_right_pairs: none if these names are not sides"
                )

    @property
    def training_datasets(self) -> list[str]:
        return [name for name, dataset in self.datasets.items() if dataset.role == "train"]

    @property
    def tested_datasets(self) -> list[str]:
        """Those with images; the cases of all of them are predicted."""
        return [name for name, dataset in self.datasets.items() if dataset.has_images]

    @property
    def cross_validated_datasets(self) -> list[str]:
        """Those whose cases are trained on by all folds but the one that tests them."""
        return [name for name in self.training_datasets if self.datasets[name].has_images]

    def trained_on(self, model: str) -> list[str]:
        """The datasets that a model learns from, in the order of the study file."""
        own = self.models[model]
        if isinstance(own, ExternalModel):
            return []
        return [name for name in self.training_datasets if name in (own.train_on or [name])]

    def fitted_on(self, plan: str) -> list[str]:
        """The datasets whose training cases decide a plan: those that its models learn from."""
        users = [name for name, model in self.models.items() if model.plan == plan]
        return self.trained_on(users[0]) if users else self.training_datasets

    @property
    def structures(self) -> list[str]:
        """Names in the order of the network's classes 1, 2, ..., the same for all datasets."""
        return list(self.datasets[self.training_datasets[0]].structures)

    @property
    def left_right_pairs(self) -> Pairs:
        return pairs_of(self.datasets[self.training_datasets[0]])

    @property
    def side_blind_models(self) -> list[str]:
        """Models that are taught, as the study asks for, that left and right structures may be on either side."""
        pairs = self.left_right_pairs
        return [
            name
            for name, model in self.models.items()
            if pairs and isinstance(model, NnunetModel) and model.mirrored(pairs) == "all"
        ]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Merged structures that are measured: the study's own, then those of left and right."""
        own = self.metrics.groups
        return own | merged_sides(self.left_right_pairs, self.structures, own)

    @property
    def channels(self) -> tuple[str, ...]:
        return self.datasets[self.tested_datasets[0]].channels

    @property
    def modality(self) -> str:
        return self.datasets[self.training_datasets[0]].modality

    @property
    def folds(self) -> list[int]:
        """Folds to run; one where label maps are all that is trained on, since all would be alike."""
        if not self.cross_validated_datasets:
            return [0]
        return list(self.splits.run_folds or range(self.splits.folds))


FOREGROUND = "foreground"
"""Group of all structures, measured where a study has left and right ones."""


def merged_sides(
    pairs: tuple[tuple[str, str], ...], structures: list[str], groups: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The groups that left and right structures bring along: each pair merged, and all foreground.

    A pair has the name that its structures have in common: left_hippocampus and right_hippocampus
    give hippocampus. Groups of the same members, or names that are taken, are left as they are.
    """
    if not pairs:
        return {}
    found = {_common_name(*pair): pair for pair in pairs} | {FOREGROUND: tuple(structures)}
    there = [frozenset(members) for members in groups.values()]
    return {
        name if name not in (*structures, *groups) else f"{name}_merged": members
        for name, members in found.items()
        if frozenset(members) not in there
    }


def _common_name(left: str, right: str) -> str:
    def without_side(name: str) -> str:
        words = re.split(r"[_\W]+", name)
        sides = ("left", "right", "l", "r", "lh", "rh")
        return "_".join(word for word in words if word and word.lower() not in sides)

    common = without_side(left)
    return common if common and common == without_side(right) else f"{left}_and_{right}"


def check_groups(groups: dict[str, tuple[str, ...]], structures: list[str]) -> None:
    """Raises ValueError for a group of unknown structures, or one named like a structure."""
    for name, members in groups.items():
        if name in structures:
            raise ValueError(f"metrics.groups.{name}: this is the name of a structure too")
        for member in members:
            if member not in structures:
                raise ValueError(
                    f"metrics.groups.{name}: {member!r} is none of the structures "
                    f"({', '.join(structures)})"
                )


def check_pairs(pairs: tuple[tuple[str, str], ...], structures: list[str]) -> None:
    """Raises ValueError for a pair of unknown structures, or one that stands twice."""
    members = [name for pair in pairs for name in pair]
    for name in members:
        if name not in structures:
            raise ValueError(
                f"left_right_pairs: {name!r} is none of the structures ({', '.join(structures)})"
            )
        if members.count(name) > 1:
            raise ValueError(f"left_right_pairs: {name!r} stands twice")


# --- what the stages are given ------------------------------------------------------------------


class SplitSettings(Settings):
    """What `segstudy preprocess split` needs of a study."""

    splits: Splits
    roles: dict[Name, Literal["train", "test"]] = Field(description="role of each dataset")


class FitSettings(Settings):
    """What `segstudy preprocess plan` needs of a study."""

    plan: Preprocess
    modality: Literal["CT", "MR", "other"]
    channels: tuple[str, ...]
    datasets: tuple[str, ...] = Field((), description="whose cases to fit on; left out: all")


class ResampleSettings(Settings):
    """What `segstudy preprocess resample` needs of a study."""

    plan: Preprocess
    dataset: Cohort
    structures: tuple[str, ...] = Field(description="structures in the order of the classes")


class TissueSettings(ResampleSettings):
    """What `segstudy preprocess tissues` needs of a study."""

    left_right_pairs: Pairs = Field((), description="left and right, which look alike")
    tissues: dict[Name, tuple[int, ...]] = Field({}, description="values that look alike")


class TrainSettings(Settings):
    """What `segstudy train` needs of a study."""

    model: AnyModel
    structures: tuple[str, ...]
    channels: tuple[str, ...]
    modality: Literal["CT", "MR", "other"]
    left_right_pairs: Pairs = Field((), description="structures that a mirrored image swaps")


class ExternalSettings(Settings):
    """What `segstudy infer --external` needs of a study."""

    model: ExternalModel
    channels: tuple[str, ...] = ("image",)

    @model_validator(mode="after")
    def _command_suits(self) -> "ExternalSettings":
        self.model.check(self.channels)
        return self


class GridSettings(Settings):
    """What `segstudy statistics` needs of a study with grids."""

    grids: dict[Name, dict[Name, dict[str, Any]]]
    weights: dict[Name, Literal["last", "best"]] = Field(
        description="which weights of each arm are used"
    )


class MeasureSettings(Settings):
    """What `segstudy metrics` needs of a study."""

    metrics: Metrics = Metrics()
    structures: dict[str, Annotated[int, Field(ge=1, le=65535)]] = Field(
        {}, description="structure: value in the label files; left out: every value found"
    )
    left_right_pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="the left and the right one of structures: [[left, right], ...]; they are measured merged too, "
        "and it is counted what was predicted for the other side",
    )

    @model_validator(mode="after")
    def _groups_exist(self) -> "MeasureSettings":
        check_groups(self.metrics.groups, list(self.structures))
        check_pairs(self.left_right_pairs, list(self.structures))
        return self

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Merged structures that are measured: the study's own, then those of left and right."""
        own = self.metrics.groups
        return own | merged_sides(self.left_right_pairs, list(self.structures), own)


# --- reading ------------------------------------------------------------------------------------


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *other`: keys written here override those
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, typing.Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_study(
    path: Path | str, source_path: str | typing.Mapping[str, str] | None = None
) -> Study:
    """Read and check a study file.

    `source_path` is where the data are (`--config path=DIR`), in place of `source.path`: a folder for
    the datasets that are on disk or downloaded, where these are one or parts of one, or a folder
    for each by name (`--config path='{site_a: DIR, site_b: DIR}'`).

    Raises InputError that names the file, the key, what was found and what was expected.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"{path}: no such study file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not readable as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values (datasets, models, ...) at the top")
    content.setdefault("name", path.stem)
    if source_path is not None:
        _replace_path(content, source_path, path)
    _expand_grids(content, path)
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise InputError(describe(error, path, Study, content)) from None


def _expand_grids(content: dict, file: Path) -> None:
    """Replace each model that has a `grid` by its arms, and tell in `grids` what they are."""
    if "grids" in content:
        raise InputError(f"{file}: grids: is filled in by segstudy; write `grid` into a model")
    models = content.get("models")
    if not isinstance(models, dict):
        return
    try:
        for entry, model in models.items():
            if isinstance(model, dict) and "grid" in model and model.get("trainer") == "external":
                raise ValueError(
                    f"models.{entry}.grid: trainer: external trains nothing, so there is nothing to search; leave grid out"
                )
        expanded, grids = expand(models)
        for entry in grids:
            for setting in models[entry]["grid"]:
                _check_setting(models[entry], entry, setting)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    if grids:
        content["models"], content["grids"] = expanded, grids


def _check_setting(model: dict, entry: str, setting: str) -> None:
    """Raise ValueError for a setting of a grid that the model's network does not have, or that teaches it nothing."""
    first = setting.split(".")[0]
    if first in NOT_LEARNED:
        raise ValueError(
            f"models.{entry}.grid.{setting}: {first} does not change what is learned, so that there is nothing to "
            "choose by; leave it out of the grid"
        )
    if first in ("train_on", "training_subset", "validation_share"):
        raise ValueError(
            f"models.{entry}.grid.{setting}: {first} changes the cases that a grid's best arm is chosen by; give each "
            "value a model of its own"
        )
    place: tuple = ("models", entry, model.get("network", model.get("trainer")))
    for part in setting.split("."):
        allowed = _keys_at(Study, place)
        if part not in allowed:
            near = difflib.get_close_matches(part, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"models.{entry}.grid.{setting}: unknown key {part}; {hint}"
                f"Allowed here: {', '.join(allowed)}"
            )
        place = (*place, part)
        if not _step([Study], place)[0]:
            return  # names of its own, e.g. the structures in class_weights


def _replace_path(content: dict, source_path: str | typing.Mapping[str, str], file: Path) -> None:
    datasets = content.get("datasets")
    sources = {
        name: dataset["source"]
        for name, dataset in (datasets.items() if isinstance(datasets, dict) else ())
        if isinstance(dataset, dict)
        and isinstance(dataset.get("source"), dict)
        and dataset["source"].get("layout") != "phantom"
    }
    known = ", ".join(sources) or "none"
    if isinstance(source_path, typing.Mapping):
        odd = [name for name in source_path if name not in sources]
        if odd:
            raise InputError(
                f"{file}: --config path={{{odd[0]}: ...}}: no dataset on disk of that name; this "
                f"study has {known}"
            )
        for name, folder in source_path.items():
            sources[name]["path"] = str(folder)
        return
    origins = {
        tuple(str(source.get(key)) for key in ("layout", "path", "url", "registered"))
        for source in sources.values()
    }
    if len(origins) != 1:
        raise InputError(
            f"{file}: --config path=DIR needs a study with one dataset on disk, this one has "
            f"{len(sources)} ({known}); name a folder for each: path='{{NAME: DIR, NAME: DIR}}'"
        )
    for source in sources.values():
        source["path"] = str(source_path)


def describe(
    error: ValidationError, file: Path | str, kind: type[BaseModel], content: Any = None
) -> str:
    """A validation error in lines a person can act on: file, key, what was found, what is allowed."""
    lines = []
    for problem in error.errors():
        loc = problem["loc"]
        place = [part for position, part in enumerate(loc) if not _is_tag(loc, position)]
        key = ".".join(str(part) for part in place) or "(top level)"
        found = problem["input"]
        if problem["type"] == "extra_forbidden":
            allowed = _keys_at(kind, problem["loc"][:-1])
            near = difflib.get_close_matches(str(place[-1]), allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"unknown key{hint} Allowed here: {', '.join(allowed)}".replace(
                "key Allowed", "key. Allowed"
            )
        elif problem["type"] == "missing":
            message = "this key is missing"
        elif problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            key = f"{key}.{context['discriminator'].strip(chr(39))}"
            allowed = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            near = difflib.get_close_matches(str(context["tag"]), allowed, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            message = f"found {context['tag']!r}{hint} Allowed: {', '.join(allowed)}".replace(
                "' Allowed", "'. Allowed"
            )
        elif problem["type"] == "union_tag_not_found":
            key = f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}"
            message = "this key is missing"
        elif problem["type"] == "value_error":
            message = str(problem["ctx"]["error"])
        else:
            shown = repr(found) if len(repr(found)) <= 60 else repr(found)[:57] + "..."
            meaning = _description_at(kind, problem["loc"])
            message = f"found {shown}. {problem['msg']}" + (f" ({meaning})" if meaning else "")
        lines.append(f"{file}: {key}: {message}")
    return "\n".join(dict.fromkeys(lines))


_TAGS = {
    *("phantom", "msd", "nnunet", "segthor", "oasis_slices", "neurite_oasis", "bids", "label_maps"),
    "table",
    *("enet", "unet", "attention_unet", "unetr", "swin_unetr", "external"),
}
_UNION_BRANCHES = ("literal[", "tuple[", "constrained-", "function-", "lax-or-strict", "nullable")


def _is_tag(loc: tuple, position: int) -> bool:
    """Whether a step of pydantic's location names a union's branch and not a key of the file."""
    part = loc[position]
    if not isinstance(part, str):
        return False
    if part.startswith(_UNION_BRANCHES) or part in ("float", "int", "str", "bool"):
        return True
    above = loc[:position]
    return part in _TAGS and (
        (len(above) == 3 and above[0] == "datasets" and above[2] == "source")
        or (len(above) == 2 and above[0] == "models")
        or (len(above) == 1 and above[0] == "model")
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _step(kinds: list[type[BaseModel]], loc: tuple) -> tuple[list[type[BaseModel]], Any]:
    """Follow a location through the types; the settings classes there, and the last field."""
    field = None
    for part in loc:
        tagged = [
            kind
            for kind in kinds
            for name in ("layout", "network")
            if name in kind.model_fields
            and part in typing.get_args(kind.model_fields[name].annotation)
        ]
        if tagged:
            kinds = tagged
            continue
        for kind in kinds:
            if part in kind.model_fields:
                field = kind.model_fields[part]
                kinds = _models_in(field.annotation)
                break
    return kinds, field


def _keys_at(kind: type[BaseModel], loc: tuple) -> list[str]:
    kinds, _ = _step([kind], loc)
    return list(dict.fromkeys(name for found in kinds for name in found.model_fields))


def _description_at(kind: type[BaseModel], loc: tuple) -> str:
    _, field = _step([kind], loc)
    return (field.description or "") if field is not None else ""


def from_json(kind: type[Settings], text: str) -> Any:
    """Settings from the JSON value of a command line; `@FILE` reads it from a file."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{text[1:]}: cannot be read: {error.strerror}") from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(describe(error, "--settings", kind)) from None
